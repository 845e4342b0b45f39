//! The place in the spool where prefetched segments lie until recovery asks for them.
//!
//! One directory for every data directory and every repository that it means (F4). A complete segment is named
//! `SEGMENT.DIGEST`, by one rename; the one that is being written is `SEGMENT.part`, locked by its writer, so that whoever
//! needs it waits on the lock, which the kernel releases when the writer dies.

use std::fs::{self, DirEntry, File};
use std::io::{self, ErrorKind as IoErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::container::ContentDigest;
use crate::durable::{self, Existing};
use crate::error::{Error, Result};
use crate::postgres::{SegmentName, SegmentSize};
use crate::repository::Site;
use crate::wal::spool::Binding;

/// As a fetched file is written: PostgreSQL takes over what lies here.
const MODE: u32 = 0o640;

const PART: &str = "part";

/// The stock of one data directory and one repository; its directory need not exist.
#[derive(Debug, Clone)]
pub(in crate::wal) struct Stock {
    /// Of the data directory.
    stocks: PathBuf,
    directory: PathBuf,
}

/// A complete segment.
#[derive(Debug, Clone)]
pub(in crate::wal) struct Entry {
    /// Where it lies.
    pub(in crate::wal) path: PathBuf,
    /// What it holds, if nothing happened to it.
    pub(in crate::wal) digest: ContentDigest,
}

/// A segment that this process writes; nobody else does while this exists.
pub(super) struct Part {
    file: File,
    path: PathBuf,
    published: bool,
}

impl Stock {
    /// The stock of `site` for what `binding` means; none where there is no spool.
    pub(in crate::wal) fn of(site: &Site, binding: &Binding) -> Option<Self> {
        let stocks = site.spool()?.join(directory_name(site));
        let directory = stocks.join(binding.tag());
        Some(Self { stocks, directory })
    }

    /// Makes the directory, and removes what lies on the data directory's stocks for other repositories.
    pub(in crate::wal) fn prepare(&self, site: &Site) -> Result<()> {
        site.make_spool_directory(&directory_name(site))
            .and_then(|_| self.prepare_now())
            .map_err(|error| self.failed("prepare", error))
    }

    fn prepare_now(&self) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        for entry in fs::read_dir(&self.stocks)? {
            let path = entry?.path();
            if path != self.directory {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    /// A file of the stock that is no segment.
    pub(in crate::wal) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A complete segment; `None` when it is not there.
    pub(in crate::wal) fn find(&self, segment: SegmentName) -> Result<Option<Entry>> {
        let mut segments = self.segments()?.into_iter();
        Ok(segments.find(|(name, _)| *name == segment).map(|(_, entry)| entry))
    }

    /// Removes a segment that is not what it was.
    pub(in crate::wal) fn remove(&self, entry: &Entry) -> Result<()> {
        remove(&entry.path).map_err(|error| self.failed("clean", error))
    }

    /// The complete segments.
    pub(super) fn segments(&self) -> Result<Vec<(SegmentName, Entry)>> {
        let entries = self.entries()?;
        let complete = entries.iter().filter_map(|entry| {
            let name = entry.file_name();
            let (segment, digest) = name.to_str()?.split_once('.')?;
            let entry = Entry { path: entry.path(), digest: digest.parse().ok()? };
            Some((segment.parse().ok()?, entry))
        });
        Ok(complete.collect())
    }

    /// The segment as it is being written by another process, to wait for; `None` when nobody writes it.
    pub(in crate::wal) fn under_way(&self, segment: SegmentName) -> Option<File> {
        let part = File::open(self.part(segment)).ok()?;
        match part.try_lock_shared() {
            // Left by a writer that was killed.
            Ok(()) => None,
            Err(_) => Some(part),
        }
    }

    /// Begins to write a segment; `None` when another process does.
    pub(super) fn begin(&self, segment: SegmentName) -> Result<Option<Part>> {
        let path = self.part(segment);
        Part::begin(&path).map_err(|error| self.failed("write to", error))
    }

    /// Removes all but `reach` segments behind `asked`, on its timeline: what recovery has passed, and what it is far from.
    pub(in crate::wal) fn keep_behind(
        &self,
        asked: SegmentName,
        reach: u32,
        size: SegmentSize,
    ) -> Result<()> {
        let is_ahead = |name: SegmentName| {
            let distance = name.number(size).get().checked_sub(asked.number(size).get());
            name.timeline() == asked.timeline()
                && distance.is_some_and(|distance| (1..=u64::from(reach)).contains(&distance))
        };
        self.remove_unless(is_ahead)
    }

    /// Removes every segment.
    pub(in crate::wal) fn clear(&self) -> Result<()> {
        self.remove_unless(|_| false)
    }

    fn remove_unless(&self, stays: impl Fn(SegmentName) -> bool) -> Result<()> {
        for entry in self.entries()? {
            let name = entry.file_name();
            let Some((segment, rest)) = name.to_str().and_then(|name| name.split_once('.')) else {
                continue;
            };
            let Ok(segment) = segment.parse::<SegmentName>() else { continue };
            // A part that somebody writes is his to remove.
            let is_written = rest == PART && self.under_way(segment).is_some();
            if !stays(segment) && !is_written {
                remove(&entry.path()).map_err(|error| self.failed("clean", error))?;
            }
        }
        Ok(())
    }

    fn entries(&self) -> Result<Vec<DirEntry>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.and_then(Iterator::collect),
        };
        entries.map_err(|error| self.failed("read", error))
    }

    fn part(&self, segment: SegmentName) -> PathBuf {
        self.directory.join(format!("{segment}.{PART}"))
    }

    /// Free bytes of the file system under the stock, for this user.
    pub(super) fn free_bytes(&self) -> Result<u64> {
        let status = rustix::fs::statvfs(&self.directory);
        let status = status.map_err(|error| self.failed("look at", error.into()))?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }

    pub(super) fn failed(&self, what: &str, error: io::Error) -> Error {
        Error::io(format!("cannot {what} `{}`", self.directory.display()), error)
    }
}

impl Part {
    fn begin(path: &Path) -> io::Result<Option<Self>> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(MODE);
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        // Whoever held the lock before may have published or removed the file meanwhile.
        let (opened, named) = (file.metadata()?, fs::metadata(path));
        if !named.is_ok_and(|named| (named.dev(), named.ino()) == (opened.dev(), opened.ino())) {
            return Ok(None);
        }
        file.set_len(0)?;
        Ok(Some(Self { file, path: path.to_owned(), published: false }))
    }

    /// The file to write to.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Makes the segment complete; its content is synced, so that PostgreSQL need not wait for that.
    pub(super) fn publish(mut self, segment: SegmentName, digest: ContentDigest) -> io::Result<()> {
        self.file.sync_data()?;
        durable::rename(
            &self.path,
            &self.path.with_file_name(format!("{segment}.{digest}")),
            Existing::Replace,
        )?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.published {
            // A leftover is harmless: nobody holds its lock, and the next writer takes it over.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// One directory for every data directory: several may share a spool.
fn directory_name(site: &Site) -> String {
    format!("fetched-ahead-{}", site.tag())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == IoErrorKind::NotFound => Ok(()),
        other => other,
    }
}
