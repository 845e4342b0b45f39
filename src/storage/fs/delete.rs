//! Deleting objects, the directories they leave empty, and temporary files of writers that died.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::root::Root;
use super::{ObjectKey, StorageError, failure, write};
use crate::durable::{self, TEMPORARY_PREFIX};

/// Deletes objects, durably: what a sweeper deletes next must not outlive what it deleted before.
pub(super) fn objects(root: &Root, keys: &[ObjectKey]) -> Result<(), StorageError> {
    let top = root.check()?;
    let mut touched = BTreeSet::new();
    for key in keys {
        let path = root.path_of(key);
        match fs::remove_file(&path) {
            Ok(()) => touched.extend(path.parent().map(Path::to_path_buf)),
            Err(error) if failure::is_absence(&error) => {}
            Err(error) => {
                return Err(failure::of("cannot delete", format!("{root}/{key}"), error));
            }
        }
    }
    for directory in &touched {
        durable::sync_directory(directory)
            .or_else(absent_is_fine)
            .map_err(|error| failure::of("cannot sync", directory.display(), error))?;
        prune(top, directory);
    }
    Ok(())
}

/// Removes directories that have become empty; a writer that was about to use one makes it again.
fn prune(top: &Path, directory: &Path) {
    for directory in directory.ancestors().take_while(|path| *path != top) {
        if fs::remove_dir(directory).is_err() {
            return; // the normal end: it is not empty
        }
    }
}

/// Removes temporary files older than `age` by the file system's clock; returns how many.
pub(super) fn leftovers(root: &Root, age: Duration) -> Result<u64, StorageError> {
    let Some(limit) = write::moment(root)?.checked_sub(age) else { return Ok(0) };
    let mut removed = 0;
    let mut waiting = vec![root.check()?.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        removed += leftovers_in(&directory, limit, &mut waiting)
            .or_else(absent_is_fine)
            .map_err(|error| failure::of("cannot clean", directory.display(), error))?;
    }
    Ok(removed)
}

fn leftovers_in(
    directory: &Path,
    limit: SystemTime,
    waiting: &mut Vec<PathBuf>,
) -> io::Result<u64> {
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let kind = entry.file_type()?;
        if kind.is_dir() && ObjectKey::parse(name).is_ok() {
            waiting.push(entry.path());
        } else if kind.is_file()
            && name.starts_with(TEMPORARY_PREFIX)
            && entry.metadata()?.modified()? < limit
        {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn absent_is_fine<T: Default>(error: io::Error) -> io::Result<T> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(T::default()),
        _ => Err(error),
    }
}
