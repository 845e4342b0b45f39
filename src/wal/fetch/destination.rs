//! Where a fetched file goes: verified beside its place, and renamed into it only then (F1).

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::durable::{self, Existing, Pending, TEMPORARY_PREFIX};
use crate::error::{Error, Result};
use crate::postgres::{
    ExpectedCluster, LONG_HEADER_BYTES, TimelineHistory, WalFileName, check_segment,
};
use crate::repository::{WalArchive, WalObject};
use crate::step;
use crate::task;
use crate::wal::place::directory_of;

/// Less the umask, which PostgreSQL sets as its data directory has it: 0600, or 0640 where a group may read.
const MODE: u32 = 0o640;

/// The age at which a temporary file cannot belong to a fetch that still runs.
const ABANDONED_AFTER: Duration = Duration::from_hours(1);

/// A path that a file may be renamed to.
#[derive(Debug, Clone)]
pub(super) struct Destination(PathBuf);

impl Destination {
    /// Refuses a path that holds anything but a regular file, which would be replaced.
    pub(super) fn new(path: &Path) -> Result<Self> {
        let wrong = || Error::usage(format!("cannot write to `{}`", path.display()));
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Err(wrong().because("it exists and is no regular file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(wrong().because(error)),
        }
        if path.file_name().is_none() {
            return Err(wrong().because("it names no file"));
        }
        Ok(Self(path.to_owned()))
    }

    /// Puts `object` in place, durable, once it has proven to be `file` of `cluster`; false when there is no such
    /// object, and then nothing is touched.
    pub(super) async fn deliver(
        &self,
        archive: &WalArchive,
        object: &WalObject,
        file: WalFileName,
        cluster: ExpectedCluster,
    ) -> Result<bool> {
        let (pending, target) = self.begin().await?;
        let Some(length) = archive.read_into(object, target).await? else { return Ok(false) };
        step::reached("wal-fetch:written");
        let (place, object) = (self.clone(), object.clone());
        task::blocking(move || place.publish(pending, length, file, &object, &cluster)).await?;
        Ok(true)
    }

    /// Puts a file that has proven to be right in place; it is moved, or copied where it lies on another file system.
    ///
    /// The directory is not synced: PostgreSQL gives what it was delivered another name, and makes that durable
    /// (`KeepFileRestoredFromArchive` in `access/transam/xlogarchive.c`).
    pub(super) fn take_over(&self, path: &Path) -> Result<()> {
        match durable::rename(path, &self.0, Existing::Replace) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => self.copy(path),
            other => other,
        }
        .map_err(|error| self.cannot_write(error))
    }

    fn copy(&self, path: &Path) -> io::Result<()> {
        let directory = directory_of(&self.0);
        remove_abandoned(directory);
        let mut pending = Pending::create_in(directory, MODE)?;
        io::copy(&mut fs::File::open(path)?, pending.file())?;
        pending.publish(&self.0, Existing::Replace)?;
        fs::remove_file(path)
    }

    async fn begin(&self) -> Result<(Pending, fs::File)> {
        let place = self.clone();
        task::blocking(move || {
            let directory = directory_of(&place.0);
            remove_abandoned(directory);
            let mut pending =
                Pending::create_in(directory, MODE).map_err(|error| place.cannot_write(error))?;
            let target = pending.file().try_clone().map_err(|error| place.cannot_write(error))?;
            Ok((pending, target))
        })
        .await
    }

    fn publish(
        &self,
        mut pending: Pending,
        length: u64,
        file: WalFileName,
        object: &WalObject,
        cluster: &ExpectedCluster,
    ) -> Result<()> {
        verify(pending.file(), length, file, cluster).map_err(|error| {
            error.context(format!("`{object}` does not hold what its name says"))
        })?;
        let published = pending.publish(&self.0, Existing::Replace);
        published.map_err(|error| self.cannot_write(error))
    }

    fn cannot_write(&self, error: io::Error) -> Error {
        Error::io(format!("cannot write `{}`", self.0.display()), error)
    }
}

/// Checks the header of what was written; its bytes are authentic already.
fn verify(
    written: &fs::File,
    length: u64,
    file: WalFileName,
    cluster: &ExpectedCluster,
) -> Result<()> {
    let wrong = |why: String| Error::damaged(why);
    match file {
        WalFileName::Segment(segment) | WalFileName::Partial(segment) => {
            let first = first_bytes(written, length, LONG_HEADER_BYTES as u64)?;
            let checked = check_segment(segment, length, &first, cluster);
            checked.map(drop).map_err(|defect| wrong(defect.to_string()))
        }
        WalFileName::History(timeline) => {
            let content = first_bytes(written, length, length)?;
            let parsed = TimelineHistory::parse(timeline, &content);
            parsed.map(drop).map_err(|defect| wrong(defect.to_string()))
        }
        WalFileName::BackupLabel { .. } => Ok(()),
    }
}

fn first_bytes(written: &fs::File, length: u64, wanted: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length.min(wanted) as usize];
    let read = written.read_exact_at(&mut bytes, 0);
    read.map_err(|error| Error::io("cannot read back what was fetched", error))?;
    Ok(bytes)
}

/// Removes what killed fetches left in the directory; best effort, because nothing depends on it.
fn remove_abandoned(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX);
        if ours && is_abandoned(&entry) {
            let removed = fs::remove_file(entry.path());
            tracing::debug!(file = %entry.path().display(), ?removed, "left by a killed fetch");
        }
    }
}

fn is_abandoned(entry: &fs::DirEntry) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > ABANDONED_AFTER))
}
