//! Small local files and the removal of leftovers, for the directories that a restore fills.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, Dir, FileType};

use super::beneath::{Beneath, open_writable_directory};
use crate::durable::{Existing, Pending};
use crate::error::{Error, Result};

/// Writes a whole file durably into `directory`, with its owner.
pub(super) fn write(
    directory: &Beneath,
    name: &str,
    bytes: &[u8],
    mode: u32,
    existing: Existing,
) -> Result<()> {
    let path = directory.path().join(name);
    write_owned(directory, &path, bytes, mode, existing)
        .map_err(|error| Error::io(format!("cannot write `{}`", path.display()), error))
}

fn write_owned(
    directory: &Beneath,
    path: &Path,
    bytes: &[u8],
    mode: u32,
    existing: Existing,
) -> io::Result<()> {
    let mut pending = Pending::create_in(directory.path(), mode)?;
    // The process's mask must not decide.
    pending.file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    directory.give(pending.file())?;
    pending.file().write_all(bytes)?;
    pending.publish(path, existing)
}

/// Reads a file of at most `limit` bytes; a link is not followed.
pub(super) fn read_small(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let flags = fs::OFlags::RDONLY | fs::OFlags::NOFOLLOW | fs::OFlags::CLOEXEC;
    let file: File = fs::open(path, flags, fs::Mode::empty())?.into();
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {limit} bytes")));
    }
    Ok(bytes)
}

/// Removes everything in `directory` but the entries `kept`, following no link and entering no other file system.
pub(super) fn clear(directory: &Beneath, kept: &[&str]) -> Result<()> {
    clear_directory(directory.root(), kept)
        .map_err(|error| Error::io(format!("cannot empty `{}`", directory.path().display()), error))
}

fn clear_directory(directory: &OwnedFd, kept: &[&str]) -> io::Result<()> {
    for (name, kind) in entries(directory)? {
        if !kept.iter().any(|kept| kept.as_bytes() == name.as_bytes()) {
            remove_entry(directory, &name, kind)?;
        }
    }
    Ok(())
}

/// Removes an entry of a directory with all that is in it, following no link and entering no other file system.
pub(super) fn remove_entry(directory: &OwnedFd, name: &CStr, kind: FileType) -> io::Result<()> {
    if kind != FileType::Directory {
        return Ok(fs::unlinkat(directory, name, AtFlags::empty())?);
    }
    let below = open_writable_directory(directory, OsStr::from_bytes(name.to_bytes()))?;
    if fs::fstat(&below)?.st_dev != fs::fstat(directory)?.st_dev {
        let name = name.to_string_lossy();
        return Err(io::Error::other(format!("another file system is mounted at `{name}`")));
    }
    clear_directory(&below, &[])?;
    Ok(fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?)
}

/// Names and kinds of all entries of a directory.
pub(super) fn entries(directory: &OwnedFd) -> io::Result<Vec<(std::ffi::CString, FileType)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_owned();
        if matches!(name.as_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let stat = fs::statat(directory.as_fd(), &name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            known => known,
        };
        found.push((name, kind));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn clearing_removes_links_and_not_what_they_lead_to() {
        let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(elsewhere.path().join("file"), "kept").unwrap();
        std::fs::create_dir_all(directory.path().join("base/1")).unwrap();
        std::fs::write(directory.path().join("base/1/2"), "gone").unwrap();
        std::fs::write(directory.path().join("marker"), "kept").unwrap();
        symlink(elsewhere.path(), directory.path().join("base/link")).unwrap();
        clear(&Beneath::open(directory.path(), None).unwrap(), &["marker"]).unwrap();
        let left: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["marker"]);
        assert!(elsewhere.path().join("file").exists());
    }

    #[test]
    fn a_written_file_has_the_mode_whatever_the_mask_says() {
        let directory = tempfile::tempdir().unwrap();
        let beneath = Beneath::open(directory.path(), None).unwrap();
        write(&beneath, "file", b"one", 0o666, Existing::Keep).unwrap();
        assert!(write(&beneath, "file", b"two", 0o600, Existing::Keep).is_err());
        let path = directory.path().join("file");
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o666);
    }
}
