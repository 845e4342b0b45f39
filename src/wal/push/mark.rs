//! W11: marks of files that were stored ahead, so that their own call need not ask the repository again.
//!
//! A mark is written after its object is durable and read before anything else is asked, so it is never more than the
//! truth. A lost one costs a second put, which finds the same bytes.

use std::fs;
use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::container::ContentDigest;
use crate::durable;
use crate::error::{Error, Result};
use crate::postgres::WalFileName;
use crate::repository::Site;
use crate::wal::local_file::{CheckedFile, Seen};
use crate::wal::spool::Binding;

const MODE: u32 = 0o600;

/// Most bytes of a mark; real ones have a few hundred.
const LIMIT_BYTES: u64 = 16 << 10;

/// The marks of one data directory for one repository.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    directory: PathBuf,
    binding: Binding,
}

/// That these bytes of this file are durable in that repository.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    binding: Binding,
    file: WalFileName,
    seen: Seen,
    digest: ContentDigest,
}

impl Marks {
    /// The marks in the spool of `site`; none where there is no spool.
    pub(super) fn of(site: &Site, binding: Binding) -> Option<Self> {
        let directory = site.spool()?.join(directory_name(site));
        Some(Self { directory, binding })
    }

    /// Makes the place for marks; false where there can be none.
    pub(super) fn prepare(site: &Site) -> Result<bool> {
        let made = site.make_spool_directory(&directory_name(site));
        made.map(|directory| directory.is_some())
            .map_err(|error| Error::io("cannot make a directory in the spool", error))
    }

    /// Whether a mark proves that exactly this file is stored: every part of it is compared, the content too.
    pub(super) fn prove(&self, file: &CheckedFile) -> Result<bool> {
        match self.find(file)? {
            Some(mark) => Ok(mark.digest == file.digest()?),
            None => Ok(false),
        }
    }

    /// Whether there is a mark for this file, as far as can be told without reading it.
    pub(super) fn is_marked(&self, file: &CheckedFile) -> Result<bool> {
        self.find(file).map(|found| found.is_some())
    }

    /// Leaves the mark of a file that is durable in the repository with the content `digest`.
    pub(super) fn leave(&self, file: &CheckedFile, digest: ContentDigest) -> Result<()> {
        let mark =
            Mark { binding: self.binding.clone(), file: file.name(), seen: file.seen(), digest };
        let json = serde_json::to_vec(&mark)
            .map_err(|source| Error::bug("cannot write a mark as JSON").because(source))?;
        let path = self.path(file.name());
        durable::write_unsynced(&path, &json, MODE)
            .map_err(|error| Error::io(format!("cannot write `{}`", path.display()), error))
    }

    /// Removes the mark of a file, if there is one.
    pub(super) fn remove(&self, file: WalFileName) -> Result<()> {
        remove(&self.path(file))
    }

    /// Removes every mark whose file PostgreSQL will not ask for: `archive_status` has no `.ready` for it.
    pub(super) fn clean(&self, archive_status: &Path) -> Result<()> {
        for entry in read_directory(&self.directory)? {
            let name = entry.file_name();
            let ready = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            let ready = ready.map(|name| archive_status.join(format!("{name}.ready")));
            if !ready.is_some_and(|ready| ready.exists()) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    fn find(&self, file: &CheckedFile) -> Result<Option<Mark>> {
        let path = self.path(file.name());
        let unreadable = |error| Error::io(format!("cannot read `{}`", path.display()), error);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() <= LIMIT_BYTES => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        }
        let bytes = fs::read(&path).map_err(unreadable)?;
        // One that does not parse was torn by a power failure, or is another version's.
        let Ok(mark) = serde_json::from_slice::<Mark>(&bytes) else { return Ok(None) };
        let matches =
            mark.binding == self.binding && mark.file == file.name() && mark.seen == file.seen();
        Ok(matches.then_some(mark))
    }

    fn path(&self, file: WalFileName) -> PathBuf {
        self.directory.join(format!("{file}{SUFFIX}"))
    }
}

const SUFFIX: &str = ".json";

/// One directory of marks for every data directory: several may share a spool.
fn directory_name(site: &Site) -> String {
    format!("pushed-ahead-{}", site.tag())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != IoErrorKind::NotFound => {
            Err(Error::io(format!("cannot remove `{}`", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// The entries of a directory; none when it does not exist.
fn read_directory(directory: &Path) -> Result<Vec<fs::DirEntry>> {
    let unreadable = |error| Error::io(format!("cannot read `{}`", directory.display()), error);
    match fs::read_dir(directory) {
        Err(error) if error.kind() == IoErrorKind::NotFound => Ok(Vec::new()),
        entries => entries.map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable),
    }
}
