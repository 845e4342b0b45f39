//! The directories that a restore fills: looked at before anything changes (R2), then made ready.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Gid, Uid};

use super::beneath::{Beneath, Owner};
use super::local;
use super::marker::{Into, MARKER_NAME, Marker, Subject};
use super::tree::Tree;
use crate::durable::{self, Existing};
use crate::error::{Error, Result};
use crate::postgres::{PostmasterPid, VERSION_FILE};

const DIRECTORY_MODE: u32 = 0o700;

/// Directories that may be filled.
#[derive(Debug)]
pub(super) struct Destination {
    data: PathBuf,
    tablespaces: BTreeMap<u32, PathBuf>,
    owner: Owner,
    /// What an interrupted restore left in the data directory.
    interrupted: Option<Marker>,
}

/// Directories that are being filled: marked, locked, and holding nothing else.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The data directory and its tablespaces.
    pub(super) tree: Arc<Tree>,
    /// Held as long as this run lives, so that no other takes it for interrupted.
    _locks: Vec<File>,
}

impl Prepared {
    /// Directories that this run has marked and locked.
    pub(super) fn new(tree: Tree, locks: Vec<File>) -> Self {
        Self { tree: Arc::new(tree), _locks: locks }
    }
}

impl Destination {
    /// Looks at the data directory `data` and the tablespace directories by number; changes nothing.
    ///
    /// Refuses a directory that holds anything but what an interrupted restore left.
    pub(super) fn inspect(data: &Path, tablespaces: &BTreeMap<u32, PathBuf>) -> Result<Self> {
        let data = resolve(data)?;
        let interrupted = inspect_data(&data)?;
        let mut resolved = BTreeMap::new();
        for (number, directory) in tablespaces {
            let directory = resolve(directory)?;
            refuse_overlap(*number, &directory, &data, &resolved)?;
            inspect_tablespace(*number, &directory, &data, interrupted.as_ref())?;
            resolved.insert(*number, directory);
        }
        let owner = owner_of_everything(&data)?;
        Ok(Self { data, tablespaces: resolved, owner, interrupted })
    }

    /// The data directory.
    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// Makes missing directories, removes what an interrupted restore left, and leaves the markers of this one.
    pub(super) fn prepare(self, subject: Subject) -> Result<Prepared> {
        let locks = lock_all(&self.data, &self.tablespaces)?;
        // The directories may have changed until they were locked.
        let found = Self::inspect(&self.data, &self.tablespaces)?;
        let data = found.open(&found.data)?;
        let marker = Marker::new(subject, Into::Empty)?;
        match &found.interrupted {
            Some(_) => {
                found.remove_leftovers(&data)?;
                marker.leave(&data, Existing::Replace)?;
            }
            None => marker.leave(&data, Existing::Keep)?,
        }
        let tablespaces = open_tablespaces(&found.data, &found.tablespaces, found.owner, &marker)?;
        Ok(Prepared::new(Tree::new(data, tablespaces), locks))
    }

    fn remove_leftovers(&self, data: &Beneath) -> Result<()> {
        let directory = self.data.display();
        tracing::warn!(%directory, "removing what an interrupted restore left");
        for directory in self.tablespaces.values().filter(|directory| directory.exists()) {
            local::clear(&self.open(directory)?, &[MARKER_NAME])?;
        }
        local::clear(data, &[MARKER_NAME])
    }

    fn open(&self, directory: &Path) -> Result<Beneath> {
        open_owned(directory, self.owner)
    }
}

/// Locks the data directory and every tablespace directory outside it, making those that are missing: restores into
/// different data directories may be told to use the same.
pub(super) fn lock_all(data: &Path, tablespaces: &BTreeMap<u32, PathBuf>) -> Result<Vec<File>> {
    let outside = tablespaces.values().map(PathBuf::as_path).filter(|it| !it.starts_with(data));
    let lock_made = |directory: &Path| {
        make_directory(directory)?;
        lock(directory)
    };
    [data].into_iter().chain(outside).map(lock_made).collect()
}

/// Opens the tablespace directories, making those that are missing, and leaves the marker in each.
pub(super) fn open_tablespaces(
    data: &Path,
    tablespaces: &BTreeMap<u32, PathBuf>,
    owner: Owner,
    marker: &Marker,
) -> Result<BTreeMap<u32, Beneath>> {
    let mut opened = BTreeMap::new();
    for (number, directory) in tablespaces {
        if directory.starts_with(data) {
            let made = durable::create_directories(data, directory, DIRECTORY_MODE);
            made.map_err(|error| failed("create", directory, error))?;
        } else {
            make_directory(directory)?;
        }
        let beneath = open_owned(directory, owner)?;
        // A marker that stayed behind after a complete restore may be replaced; it proves nothing.
        marker.leave(&beneath, Existing::Replace)?;
        opened.insert(*number, beneath);
    }
    Ok(opened)
}

/// Opens a directory and gives it to the owner.
pub(super) fn open_owned(directory: &Path, owner: Owner) -> Result<Beneath> {
    let opened = Beneath::open(directory, owner);
    let beneath = opened.map_err(|error| failed("open", directory, error))?;
    let given = beneath.give(beneath.root());
    given.map_err(|error| failed("give its owner", directory, error))?;
    Ok(beneath)
}

/// The absolute path, links resolved as far as it exists.
pub(super) fn resolve(directory: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(directory);
    let absolute = absolute.map_err(|error| failed("find", directory, error))?;
    match absolute.canonicalize() {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(absolute),
        Err(error) => Err(failed("find", directory, error)),
    }
}

fn inspect_data(data: &Path) -> Result<Option<Marker>> {
    let Some(names) = names_in(data)? else {
        require_parent(data)?;
        return Ok(None);
    };
    if names.is_empty() {
        return Ok(None);
    }
    let marker = Marker::of_interrupted(data)?;
    if marker.as_ref().is_some_and(|marker| marker.into == Into::Empty) {
        return Ok(marker);
    }
    let refused = Error::refused(format!("`{}` is not empty", data.display()));
    if Marker::of_interrupted_in_place(data)?.is_some() {
        return Err(refused
            .because("a restore in place was interrupted in it")
            .hint("run it again with `--in-place`"));
    }
    if PostmasterPid::read(data)?.is_some_and(|server| server.is_alive()) {
        return Err(refused.because("a PostgreSQL server runs in it"));
    }
    Err(if names.iter().any(|name| name == VERSION_FILE) {
        refused
            .because("it holds a data directory")
            .hint("restore into another directory, or bring this one back with `--in-place`")
    } else if names.iter().any(|name| name == "lost+found") {
        refused.because("it is a mount point").hint("restore into a directory below it")
    } else {
        refused.hint("restore into a new or empty directory")
    })
}

pub(super) fn inspect_tablespace(
    number: u32,
    directory: &Path,
    data: &Path,
    interrupted: Option<&Marker>,
) -> Result<()> {
    let Some(names) = names_in(directory)? else {
        return if directory.starts_with(data) { Ok(()) } else { require_parent(directory) };
    };
    let inside_leftovers = interrupted.is_some() && directory.starts_with(data);
    if names.iter().all(|name| name == MARKER_NAME) || inside_leftovers {
        return Ok(());
    }
    let marker = Marker::read(directory)?;
    match (marker, interrupted) {
        (Some(its), Some(ours)) if its.run == ours.run => Ok(()),
        (marker, _) => Err(not_empty(number, directory, marker.is_some())),
    }
}

fn not_empty(number: u32, directory: &Path, left_by_restore: bool) -> Error {
    let what = format!("`{}`, for tablespace {number}, is not empty", directory.display());
    let refused = Error::refused(what)
        .hint(format!("choose another directory with `--tablespace {number}=DIR`"));
    if left_by_restore {
        refused.because("it holds what another interrupted restore left")
    } else {
        refused
    }
}

pub(super) fn refuse_overlap(
    number: u32,
    directory: &Path,
    data: &Path,
    others: &BTreeMap<u32, PathBuf>,
) -> Result<()> {
    let overlaps = |what: String| {
        let what = format!("`{}`, for tablespace {number}, {what}", directory.display());
        Err(Error::refused(what)
            .hint(format!("choose another directory with `--tablespace {number}=DIR`")))
    };
    if data.starts_with(directory) {
        return overlaps(format!("holds the data directory `{}`", data.display()));
    }
    let nested = |other: &Path| other.starts_with(directory) || directory.starts_with(other);
    match others.iter().find(|(_, other)| nested(other)) {
        Some((other, _)) => overlaps(format!("overlaps with the directory of tablespace {other}")),
        None => Ok(()),
    }
}

/// The names in a directory; `None` when it does not exist.
pub(super) fn names_in(directory: &Path) -> Result<Option<Vec<std::ffi::OsString>>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(Error::refused(format!("`{}` is no directory", directory.display())));
        }
        Err(error) => return Err(failed("look into", directory, error)),
    };
    let names =
        entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<_>>();
    names.map(Some).map_err(|error| failed("look into", directory, error))
}

/// A missing parent may be a disk that is not mounted.
pub(super) fn require_parent(directory: &Path) -> Result<()> {
    if directory.parent().is_some_and(Path::is_dir) {
        return Ok(());
    }
    Err(Error::refused(format!("the directory above `{}` does not exist", directory.display()))
        .hint("is the disk mounted? otherwise make the directory first"))
}

/// R5: who everything belongs to. As root, the owner of the data directory when it is there already and not root's,
/// else the owner of the directory above it; where that is root too, nobody can be guessed.
pub(super) fn owner_of_everything(data: &Path) -> Result<Owner> {
    let existing = metadata(data)?;
    let process = rustix::process::geteuid();
    if !process.is_root() {
        return match existing {
            Some(metadata) if metadata.uid() != process.as_raw() => Err(belongs_to_another(data)),
            _ => Ok(None),
        };
    }
    let above = data.parent().map(metadata).transpose()?.flatten();
    let owners = [existing, above].into_iter().flatten();
    let owner =
        owners.map(|metadata| (metadata.uid(), metadata.gid())).find(|(user, _)| *user != 0);
    match owner {
        Some((user, group)) => Ok(Some((Uid::from_raw(user), Gid::from_raw(group)))),
        None => Err(Error::refused(format!("`{}` would belong to root", data.display()))
            .because("PostgreSQL does not run as root")
            .hint("run walrs as the user that runs PostgreSQL, or make the directory first and give it to that user")),
    }
}

fn belongs_to_another(data: &Path) -> Error {
    Error::refused(format!("`{}` belongs to another user", data.display()))
        .because("PostgreSQL starts only in a data directory of its own user")
        .hint("run walrs as the user that runs PostgreSQL")
}

fn metadata(path: &Path) -> Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at", path, error)),
    }
}

fn make_directory(directory: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
        Ok(()) => {
            durable::sync_parent(directory).map_err(|error| failed("create", directory, error))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("create", directory, error)),
    }
}

fn lock(directory: &Path) -> Result<File> {
    let opened = File::open(directory).map_err(|error| failed("open", directory, error))?;
    match opened.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(Error::refused(format!("another restore is filling `{}`", directory.display())))
        }
        // A file system without locks: the marker alone must do.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(opened),
    }
}

pub(super) fn failed(action: &str, directory: &Path, error: io::Error) -> Error {
    Error::io(format!("cannot {action} `{}`", directory.display()), error)
}

#[cfg(test)]
#[path = "destination_tests.rs"]
mod tests;
