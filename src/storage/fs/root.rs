//! The directory that holds the repository, and the proof that it is still the same one.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{DIRECTORY_MODE, StorageError, StorageErrorKind, failure};
use crate::durable;
use crate::storage::ObjectKey;

/// The root directory, held open from its first use on, so that it cannot be unmounted under a running command.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    first_seen: OnceLock<Pinned>,
}

#[derive(Debug)]
struct Pinned {
    _open: File,
    device: u64,
    inode: u64,
}

impl Root {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, first_seen: OnceLock::new() }
    }

    /// Makes the directory and its missing parents.
    pub(super) fn create(&self) -> Result<(), StorageError> {
        let existing = self.path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
        durable::create_directories(existing, &self.path, DIRECTORY_MODE)
            .map_err(|error| failure::of("cannot make the directory of", self, error))?;
        self.check().map(drop)
    }

    /// The path of the directory, when it exists and is the one seen first.
    pub(super) fn check(&self) -> Result<&Path, StorageError> {
        let found = fs::metadata(&self.path).map_err(|error| self.unusable(error))?;
        if !found.is_dir() {
            return Err(self.unusable(io::ErrorKind::NotADirectory.into()));
        }
        let pinned = self.pin()?;
        if (found.dev(), found.ino()) == (pinned.device, pinned.inode) {
            return Ok(&self.path);
        }
        let what =
            format!("the directory of `{self}` is no longer the one this command began with");
        Err(StorageError::new(StorageErrorKind::Invalid, what)
            .hint("was the disk unmounted or the directory replaced meanwhile?"))
    }

    /// Where an object lies.
    pub(super) fn path_of(&self, key: &ObjectKey) -> PathBuf {
        self.path.join(key.as_str())
    }

    fn pin(&self) -> Result<&Pinned, StorageError> {
        if let Some(pinned) = self.first_seen.get() {
            return Ok(pinned);
        }
        let open = || {
            let file = File::open(&self.path)?;
            let metadata = file.metadata()?;
            Ok(Pinned { _open: file, device: metadata.dev(), inode: metadata.ino() })
        };
        let pinned = open().map_err(|error| self.unusable(error))?;
        Ok(self.first_seen.get_or_init(|| pinned))
    }

    fn unusable(&self, error: io::Error) -> StorageError {
        let what = "cannot use the directory of";
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                StorageError::new(StorageErrorKind::Invalid, format!("{what} `{self}`"))
                    .because(error)
                    .hint("is the disk mounted? only `walrs init` makes the directory")
            }
            _ => failure::of(what, self, error),
        }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file://{}", self.path.display())
    }
}
