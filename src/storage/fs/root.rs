//! The directory that holds the repository, and the proof that it is still the same one.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::owner::Owner;
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
    open: File,
    device: u64,
    inode: u64,
}

impl Root {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, first_seen: OnceLock::new() }
    }

    /// Makes the directory and its missing parents, for the owner of `data_directory`.
    pub(super) fn create(&self, data_directory: &Path) -> Result<(), StorageError> {
        let existing = self.path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
        let make = || {
            durable::create_directories(existing, &self.path, DIRECTORY_MODE)?;
            let made = self.path.strip_prefix(existing).expect("an ancestor is a prefix");
            Owner::of(&File::open(data_directory)?)?.take_directories(&File::open(existing)?, made)
        };
        make().map_err(|error| failure::of("cannot make the directory of", self, error))?;
        self.check().map(drop)
    }

    /// Gives an object that is being written, and the directories on the way to it, to the owner of the root.
    pub(super) fn hand_over(&self, key: &ObjectKey, object: &File) -> io::Result<()> {
        let Some(Pinned { open, .. }) = self.first_seen.get() else { return Ok(()) };
        let owner = Owner::of(open)?;
        let directory = Path::new(key.as_str()).parent().expect("a key is no root");
        owner.take_directories(open, directory)?;
        owner.take(object)
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

    /// The path of the directory, whatever is there.
    pub(super) fn path(&self) -> &Path {
        &self.path
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
            Ok(Pinned { open: file, device: metadata.dev(), inode: metadata.ino() })
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
