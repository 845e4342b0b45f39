//! The entries of one directory, sorted, in little memory: a directory may hold hundreds of thousands.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::postgres::EntryKind;
use crate::repository::{FileEntry, FileIdentity};

/// What `stat` told about a file, as far as a backup records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStatus {
    /// Permission bits.
    pub(super) mode: u32,
    /// Bytes.
    pub(super) size: u64,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, i64),
    /// Device, inode and change time.
    pub(super) identity: FileIdentity,
}

impl FileStatus {
    /// Whether a line of a file list is of this very state of this very file.
    pub(super) fn is_of(&self, entry: &FileEntry) -> bool {
        let recorded = (entry.size, entry.mtime, entry.identity);
        (self.size, self.mtime, self.identity) == recorded
    }
}

impl From<&Stat> for FileStatus {
    fn from(stat: &Stat) -> Self {
        const PERMISSIONS: u32 = 0o7777;
        Self {
            mode: stat.st_mode & PERMISSIONS,
            size: stat.st_size.cast_unsigned(),
            mtime: (stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
            identity: FileIdentity(
                stat.st_dev,
                stat.st_ino,
                stat.st_ctime,
                stat.st_ctime_nsec.cast_signed(),
            ),
        }
    }
}

/// An open directory and the names in it.
pub(super) struct Listing {
    /// The directory.
    pub(super) directory: OwnedFd,
    /// Of the directory itself.
    pub(super) status: Stat,
    names: Vec<u8>,
    entries: Vec<ListedName>,
}

#[derive(Clone, Copy)]
struct ListedName {
    start: u32,
    length: u16,
    kind: EntryKind,
}

impl Listing {
    /// Opens and reads `directory`, following a link in its last component; `None` when there is none any more.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>> {
        let failed = |errno| cannot("list", directory, errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(directory, flags, Mode::empty());
        let Some(descriptor) = unless_vanished(opened).map_err(failed)? else { return Ok(None) };
        let status = rustix::fs::fstat(&descriptor).map_err(failed)?;
        let mut listing =
            Self { directory: descriptor, status, names: Vec::new(), entries: Vec::new() };
        listing.fill().map_err(failed)?;
        Ok(Some(listing))
    }

    fn fill(&mut self) -> Result<(), Errno> {
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match self.status_of(name)? {
                    Some(stat) => kind_of(FileType::from_raw_mode(stat.st_mode)),
                    None => continue,
                },
                known => kind_of(known),
            };
            self.add(name, kind);
        }
        let names = &self.names;
        self.entries.sort_unstable_by(|a, b| a.name(names).cmp(b.name(names)));
        Ok(())
    }

    fn add(&mut self, name: &[u8], kind: EntryKind) {
        let start = u32::try_from(self.names.len()).expect("no directory has 4 GiB of names");
        self.names.extend_from_slice(name);
        self.entries.push(ListedName { start, length: name.len() as u16, kind });
    }

    /// The names with their kinds, sorted by bytes.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&[u8], EntryKind)> {
        self.entries.iter().map(|entry| (entry.name(&self.names), entry.kind))
    }

    /// Of an entry itself, links not followed; `None` when it vanished.
    pub(super) fn status_of(&self, name: &[u8]) -> Result<Option<Stat>, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        unless_vanished(rustix::fs::statat(&self.directory, name, flags))
    }

    /// Of what a link points to; `None` when that vanished.
    pub(super) fn status_behind(&self, name: &[u8]) -> Result<Option<Stat>, Errno> {
        unless_vanished(rustix::fs::statat(&self.directory, name, AtFlags::empty()))
    }
}

impl ListedName {
    fn name(self, names: &[u8]) -> &[u8] {
        &names[self.start as usize..][..usize::from(self.length)]
    }
}

/// The kind of an entry, from what the file system calls it.
pub(super) fn kind_of(kind: FileType) -> EntryKind {
    match kind {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Link,
        _ => EntryKind::Special,
    }
}

/// B3: a file that went away is fine, because what it held is in the WAL; nothing else is.
pub(super) fn unless_vanished<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A failed operation on a local path.
pub(super) fn cannot(action: &str, path: &Path, errno: Errno) -> Error {
    let error = Error::io(format!("cannot {action} `{}`", path.display()), errno.into());
    match errno {
        Errno::ACCESS | Errno::PERM => {
            error.hint("run `walrs backup-push` as the user that owns the data directory")
        }
        _ => error,
    }
}
