//! Local files that survive power loss: written under a temporary name, synced, renamed, directory synced.
//!
//! Every local file that walrs must find again goes through here; `clippy.toml` forbids `std::fs::rename` elsewhere.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Whether a name may already be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Fails with `AlreadyExists` when the name is taken, atomically.
    Keep,
    /// Replaces what has the name.
    Replace,
}

/// Prefix of every temporary file that walrs writes beside its final name.
pub const TEMPORARY_PREFIX: &str = ".walrs-tmp-";

/// A file being written beside its final name; removed when dropped before [`Pending::publish`].
#[derive(Debug)]
pub struct Pending {
    file: File,
    path: PathBuf,
    published: bool,
}

impl Pending {
    /// Creates a temporary file with `mode` in `directory`, which must exist.
    pub fn create_in(directory: &Path, mode: u32) -> io::Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let random = getrandom::u64().map_err(io::Error::other)?;
        let path = directory
            .join(format!("{TEMPORARY_PREFIX}{}-{count}-{random:016x}", std::process::id()));
        let file =
            OpenOptions::new().write(true).read(true).create_new(true).mode(mode).open(&path)?;
        Ok(Self { file, path, published: false })
    }

    /// The open file.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Where the file lies until it is published.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the file, gives it its final name in the same directory, and syncs the directory.
    pub fn publish(mut self, name: &Path, existing: Existing) -> io::Result<()> {
        self.file.sync_all()?;
        rename(&self.path, name, existing)?;
        self.published = true;
        sync_parent(name)
    }

    /// Gives the file its final name, replacing what has it, without waiting for the disk; see [`write_unsynced`].
    pub fn publish_unsynced(mut self, name: &Path) -> io::Result<()> {
        rename(&self.path, name, Existing::Replace)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.published {
            // A leftover is harmless: readers know the prefix, and the error that led here is already on its way.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes a whole file durably, with exactly `mode`, whatever the umask.
pub fn write(path: &Path, bytes: &[u8], mode: u32, existing: Existing) -> io::Result<()> {
    let mut pending = Pending::create_in(parent_of(path), mode)?;
    pending.file().set_permissions(fs::Permissions::from_mode(mode))?;
    pending.file().write_all(bytes)?;
    pending.publish(path, existing)
}

/// Writes a whole file so that readers see all of it or none, with `mode` less the umask, and does not wait for the disk.
///
/// After a power failure it may be gone, or its content may be: for what is checked on use and can be done without.
pub fn write_unsynced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut pending = Pending::create_in(parent_of(path), mode)?;
    pending.file().write_all(bytes)?;
    pending.publish_unsynced(path)
}

/// Renames within one file system; the caller syncs the directories.
pub fn rename(from: &Path, to: &Path, existing: Existing) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let flags = match existing {
        Existing::Keep => RenameFlags::NOREPLACE,
        Existing::Replace => RenameFlags::empty(),
    };
    match renameat_with(CWD, from, CWD, to, flags) {
        // Some network file systems do not know the flag; a hard link refuses a taken name as atomically.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if existing == Existing::Keep => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        other => Ok(other?),
    }
}

/// Syncs a directory, so that the names in it survive power loss.
///
/// A file system that cannot sync directories (it answers `EINVAL`, as some network and FUSE ones do) is taken at its
/// word, as PostgreSQL does.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

/// Syncs the directory that holds `path`.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    sync_directory(parent_of(path))
}

/// Makes `directory` and its missing parents below `root` (which must exist) with `mode`, all their names durable.
///
/// A directory that another process made a moment ago may not have its name on disk yet, so young ones are synced
/// again: what is put into them must not depend on whether that process lived to do it.
pub fn create_directories(root: &Path, directory: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    debug_assert!(directory.starts_with(root), "a directory is made below its root");
    if directory == root || is_settled_directory(directory) {
        return Ok(());
    }
    let parent = parent_of(directory);
    create_directories(root, parent, mode)?;
    match fs::DirBuilder::new().mode(mode).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_directory(parent),
    }
}

/// Whether a directory is so old that the kernel has long written its name, and those of its parents, to disk.
fn is_settled_directory(directory: &Path) -> bool {
    const NAME_WRITTEN_BACK_AFTER: Duration = Duration::from_mins(10);
    let age = |metadata: fs::Metadata| metadata.created().ok()?.elapsed().ok();
    fs::metadata(directory)
        .ok()
        .filter(fs::Metadata::is_dir)
        .and_then(age)
        .is_some_and(|age| age > NAME_WRITTEN_BACK_AFTER)
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
