//! Files and directories below one directory, resolved one component at a time without following any link (R4).
//!
//! Component by component with `O_NOFOLLOW`, and not by `openat2`: that is missing in older kernels and refused by
//! some container runtimes, and one way that works everywhere is better than two.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{self, AtFlags, Mode, OFlags, Timespec, Timestamps};

/// Directories kept open: enough for the databases that a few reads touch at once.
const OPEN_DIRECTORIES: usize = 64;

/// The owner that everything is given to; none where the process has that owner already.
pub(super) type Owner = Option<(fs::Uid, fs::Gid)>;

/// How what has not been synced yet is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syncing {
    /// One by one.
    Each,
    /// By [`Beneath::sync_file_system`] at the end: one wait instead of one for every file and directory.
    Together,
}

impl Syncing {
    /// What a restore in place may do, which changes little of what is there.
    ///
    /// Since Linux 5.8 `syncfs` returns the errors of what it wrote; before, it may hide them.
    pub(super) fn in_place() -> Self {
        let system = rustix::system::uname();
        let release = system.release().to_string_lossy();
        let mut numbers = release.split(|character: char| !character.is_ascii_digit());
        let mut next = || numbers.next().and_then(|number| number.parse().ok()).unwrap_or(0);
        let version: (u32, u32) = (next(), next());
        if version >= (5, 8) { Self::Together } else { Self::Each }
    }
}

/// A directory, and the only way to what lies below it.
#[derive(Debug)]
pub(super) struct Beneath {
    path: PathBuf,
    root: Arc<OwnedFd>,
    owner: Owner,
    /// Recently used directories, the newest last.
    open: Mutex<Vec<(Vec<u8>, Arc<OwnedFd>)>>,
}

impl Beneath {
    /// Opens `path`, which is taken as the operator gave it: links in it are followed.
    pub(super) fn open(path: &Path, owner: Owner) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = Arc::new(fs::open(path, flags, Mode::empty())?);
        Ok(Self { path: path.to_owned(), root, owner, open: Mutex::default() })
    }

    /// A directory below, writable for its owner, as the way to what lies in it.
    pub(super) fn open_below(&self, path: &Path) -> io::Result<Self> {
        let (parent, name) = self.parent(path)?;
        let root = Arc::new(open_writable_directory(&parent, name)?);
        Ok(Self { path: self.path.join(path), root, owner: self.owner, open: Mutex::default() })
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself.
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Makes a directory; fine when it is one already (a tablespace that lies below brought it).
    ///
    /// It is writable for its owner whatever `mode` says, until [`Beneath::settle_directory`].
    pub(super) fn create_directory(&self, path: &Path, mode: u32) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        match fs::mkdirat(&*parent, name, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let directory = open_directory(&parent, name)?;
        self.give(&directory)?;
        Ok(fs::fchmod(&directory, permissions(mode) | Mode::RWXU)?)
    }

    /// Gives a directory its mode, and syncs the names in it.
    pub(super) fn settle_directory(
        &self,
        path: &Path,
        mode: u32,
        syncing: Syncing,
    ) -> io::Result<()> {
        let directory = self.directory(path)?;
        fs::fchmod(&*directory, permissions(mode))?;
        match syncing {
            Syncing::Each => sync_names(&directory),
            Syncing::Together if self.is_in_same_file_system(&directory)? => Ok(()),
            // Mounted below: what lies in it is not synced with the rest.
            Syncing::Together => Ok(fs::syncfs(&*directory)?),
        }
    }

    fn is_in_same_file_system(&self, directory: &OwnedFd) -> io::Result<bool> {
        Ok(fs::fstat(directory)?.st_dev == fs::fstat(&*self.root)?.st_dev)
    }

    /// Makes a file of `size` bytes, all of them a hole; it must not exist.
    pub(super) fn create_file(&self, path: &Path, size: u64) -> io::Result<()> {
        let file = self.open_file(path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
        self.give(&file)?;
        if size > 0 {
            fs::ftruncate(&file, size)?;
        }
        Ok(())
    }

    /// Opens a file that [`Beneath::create_file`] made.
    pub(super) fn file_to_write(&self, path: &Path) -> io::Result<File> {
        Ok(self.open_file(path, OFlags::WRONLY)?.into())
    }

    /// Gives a file its mode and its modification time, and syncs it.
    pub(super) fn settle_file(
        &self,
        path: &Path,
        mode: u32,
        modified: (i64, i64),
    ) -> io::Result<()> {
        let file = self.open_file(path, OFlags::WRONLY)?;
        fs::fchmod(&file, permissions(mode))?;
        let time = Timespec { tv_sec: modified.0, tv_nsec: modified.1 };
        fs::futimens(&file, &Timestamps { last_access: time, last_modification: time })?;
        Ok(fs::fsync(&file)?)
    }

    /// Makes a symbolic link.
    pub(super) fn create_link(&self, path: &Path, target: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        fs::symlinkat(target, &*parent, name)?;
        if let Some((user, group)) = self.owner {
            fs::chownat(&*parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    /// Gives an open file or directory to the owner.
    pub(super) fn give(&self, file: impl AsFd) -> io::Result<()> {
        match self.owner {
            Some((user, group)) => Ok(fs::fchown(file, Some(user), Some(group))?),
            None => Ok(()),
        }
    }

    /// Gives a file to the owner unless it is the owner's: that would count as a change.
    pub(super) fn give_found(&self, file: impl AsFd, found: &fs::Stat) -> io::Result<()> {
        let is_given = |(user, group): (fs::Uid, fs::Gid)| {
            (user.as_raw(), group.as_raw()) == (found.st_uid, found.st_gid)
        };
        if self.owner.is_some_and(is_given) { Ok(()) } else { self.give(file) }
    }

    /// Opens a file without following a link.
    pub(super) fn open_file(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let (parent, name) = self.parent(path)?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(fs::openat(&*parent, name, flags, Mode::RUSR | Mode::WUSR)?)
    }

    /// The directory that holds `path`, and the last component.
    pub(super) fn parent<'a>(&self, path: &'a Path) -> io::Result<(Arc<OwnedFd>, &'a OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("")))?, name))
    }

    fn directory(&self, path: &Path) -> io::Result<Arc<OwnedFd>> {
        let key = path.as_os_str().as_bytes();
        if key.is_empty() || key == b"." {
            return Ok(Arc::clone(&self.root));
        }
        if let Some(found) = self.remembered(key) {
            return Ok(found);
        }
        let mut directory = Arc::clone(&self.root);
        for component in path.components() {
            let std::path::Component::Normal(name) = component else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            directory = Arc::new(open_directory(&directory, name)?);
        }
        self.remember(key, &directory);
        Ok(directory)
    }

    fn remembered(&self, key: &[u8]) -> Option<Arc<OwnedFd>> {
        let mut open = self.open.lock().expect("no panic while holding the lock");
        let position = open.iter().position(|(path, _)| path == key)?;
        let entry = open.remove(position);
        let directory = Arc::clone(&entry.1);
        open.push(entry);
        Some(directory)
    }

    fn remember(&self, key: &[u8], directory: &Arc<OwnedFd>) {
        let mut open = self.open.lock().expect("no panic while holding the lock");
        if open.len() == OPEN_DIRECTORIES {
            open.remove(0);
        }
        open.push((key.to_owned(), Arc::clone(directory)));
    }
}

/// Opens a directory by its name in another; a link is an error.
pub(super) fn open_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat(parent, name, flags, Mode::empty())?)
}

/// Like [`open_directory`], whatever its mode: its owner may look into it and change it afterwards.
pub(super) fn open_writable_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let directory = match open_directory(parent, name) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            unlock_directory(parent, name)?;
            open_directory(parent, name)?
        }
        other => other?,
    };
    let mode = Mode::from_raw_mode(fs::fstat(&directory)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        fs::fchmod(&directory, permissions(mode.as_raw_mode()) | Mode::RWXU)?;
    }
    Ok(directory)
}

/// Gives a directory that may not even be opened to its owner; by its descriptor, so that no link is followed.
fn unlock_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = fs::openat(parent, name, flags, Mode::empty())?;
    Ok(fs::chmod(format!("/proc/self/fd/{}", place.as_raw_fd()), Mode::RWXU)?)
}

/// Syncs a directory; a file system that cannot is taken at its word, as in `durable.rs`.
pub(super) fn sync_names(directory: &OwnedFd) -> io::Result<()> {
    match fs::fsync(directory) {
        Err(rustix::io::Errno::INVAL) => Ok(()),
        other => Ok(other?),
    }
}

/// The permission bits of a recorded mode; a set-user-id bit is never restored.
pub(super) fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o777)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn beneath() -> (tempfile::TempDir, Beneath) {
        let directory = tempfile::tempdir().unwrap();
        let beneath = Beneath::open(directory.path(), None).unwrap();
        (directory, beneath)
    }

    /// R5
    #[test]
    fn files_and_directories_get_the_recorded_mode_and_no_more() {
        let (directory, beneath) = beneath();
        beneath.create_directory(Path::new("base"), 0o2750).unwrap();
        beneath.create_file(Path::new("base/1"), 10_000).unwrap();
        beneath.settle_file(Path::new("base/1"), 0o4640, (1_000_000_000, 7)).unwrap();
        beneath.settle_directory(Path::new("base"), 0o750, Syncing::Each).unwrap();
        let mode =
            |path: &str| directory.path().join(path).metadata().unwrap().permissions().mode();
        assert_eq!(mode("base") & 0o7777, 0o750);
        assert_eq!(mode("base/1") & 0o7777, 0o640);
        let file = directory.path().join("base/1").metadata().unwrap();
        assert_eq!((file.mtime(), file.mtime_nsec()), (1_000_000_000, 7));
        assert_eq!((file.len(), file.blocks()), (10_000, 0));
    }

    /// R4
    #[test]
    fn no_link_is_followed_on_the_way_to_a_file() {
        let (directory, beneath) = beneath();
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::write(elsewhere.path().join("file"), "untouched").unwrap();
        symlink(elsewhere.path(), directory.path().join("base")).unwrap();
        symlink(elsewhere.path().join("file"), directory.path().join("file")).unwrap();
        assert!(beneath.create_file(Path::new("base/new"), 1).is_err());
        assert!(beneath.file_to_write(Path::new("base/file")).is_err());
        assert!(beneath.file_to_write(Path::new("file")).is_err());
        assert!(beneath.create_file(Path::new("file"), 1).is_err());
        assert!(beneath.create_directory(Path::new("base/new"), 0o700).is_err());
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 1);
        assert_eq!(std::fs::read(elsewhere.path().join("file")).unwrap(), b"untouched");
    }

    /// R4
    #[test]
    fn no_path_leads_out_of_the_directory() {
        let (_directory, beneath) = beneath();
        for path in ["../x", "/tmp/x", "a/../../x"] {
            assert!(beneath.create_file(Path::new(path), 0).is_err(), "{path}");
        }
    }

    #[test]
    fn what_exists_is_never_overwritten() {
        let (directory, beneath) = beneath();
        std::fs::write(directory.path().join("file"), "first").unwrap();
        beneath.create_directory(Path::new("base"), 0o700).unwrap();
        assert!(beneath.create_file(Path::new("base"), 0).is_err());
        assert!(beneath.create_file(Path::new("file"), 0).is_err());
        assert!(beneath.create_directory(Path::new("file"), 0o700).is_err());
    }
}
