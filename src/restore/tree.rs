//! The data directory that is being made, with its tablespaces, by the paths of the file list.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::beneath::{Beneath, Syncing};
use crate::durable::TEMPORARY_PREFIX;
use crate::error::{Error, Result};
use crate::postgres::{CONTROL_FILE, OWN_PREFIX, TABLESPACE_LINKS};
use crate::repository::{DirectoryEntry, FileEntry, ListedPath, TablespaceEntry};

/// The data directory, and the directories its tablespaces point to.
#[derive(Debug)]
pub(super) struct Tree {
    data: Beneath,
    /// Where the write-ahead log lies, when `pg_wal` is a link that stays.
    wal: Option<Beneath>,
    tablespaces: BTreeMap<u32, Beneath>,
}

impl Tree {
    /// The tree over an open data directory; `tablespaces` are those that links lead to.
    pub(super) fn new(data: Beneath, tablespaces: BTreeMap<u32, Beneath>) -> Self {
        Self { data, wal: None, tablespaces }
    }

    /// The same with `pg_wal` behind a link.
    pub(super) fn with_wal(self, wal: Option<Beneath>) -> Self {
        Self { wal, ..self }
    }

    /// The directory of the write-ahead log, when a link leads to it.
    pub(super) fn wal(&self) -> Option<&Beneath> {
        self.wal.as_ref()
    }

    /// Everything that the tree lies in: the data directory and what links lead to.
    pub(super) fn roots(&self) -> impl Iterator<Item = &Beneath> {
        [&self.data].into_iter().chain(&self.wal).chain(self.tablespaces.values())
    }

    /// The data directory.
    pub(super) fn data(&self) -> &Beneath {
        &self.data
    }

    /// The tablespaces outside, by number.
    pub(super) fn tablespaces(&self) -> impl Iterator<Item = (u32, &Beneath)> {
        self.tablespaces.iter().map(|(number, beneath)| (*number, beneath))
    }

    /// Makes a listed directory; the data directory itself is there already.
    pub(super) fn create_directory(&self, entry: &DirectoryEntry) -> Result<()> {
        let (beneath, path) = self.place(&entry.path);
        if entry.path == ListedPath::root() || path.as_os_str().is_empty() {
            return Ok(());
        }
        let created = beneath.create_directory(&path, entry.mode);
        created.map_err(|error| failed("create the directory", beneath, &path, error))
    }

    /// Gives a listed directory its mode and makes the names in it durable.
    pub(super) fn settle_directory(&self, entry: &DirectoryEntry, syncing: Syncing) -> Result<()> {
        let (beneath, path) = self.place(&entry.path);
        let settled = beneath.settle_directory(&path, entry.mode, syncing);
        settled.map_err(|error| failed("sync the directory", beneath, &path, error))
    }

    /// Gives the directory of a linked tablespace its mode and makes the names in it durable.
    pub(super) fn settle_tablespace(
        &self,
        entry: &TablespaceEntry,
        syncing: Syncing,
    ) -> Result<()> {
        let number = entry.oid()?;
        let Some(beneath) = self.tablespaces.get(&number) else {
            return Err(Error::bug(format!("tablespace {number} was not opened")));
        };
        let settled = beneath.settle_directory(Path::new(""), entry.mode, syncing);
        settled.map_err(|error| failed("sync the directory", beneath, Path::new(""), error))
    }

    /// Makes a listed file in its full size, all of it a hole.
    pub(super) fn create_file(&self, entry: &FileEntry) -> Result<()> {
        let (beneath, path) = self.place(&entry.path);
        let created = beneath.create_file(&path, entry.size);
        created.map_err(|error| failed("create", beneath, &path, error))
    }

    /// Opens a listed file, which has been made.
    pub(super) fn file_to_write(&self, path: &ListedPath) -> Result<File> {
        let (beneath, path) = self.place(path);
        let opened = beneath.file_to_write(&path);
        opened.map_err(|error| failed("open", beneath, &path, error))
    }

    /// Takes over the file that lies in the place of a listed one, in its full size: the bytes it had before.
    ///
    /// None when there was none, or none that may be changed; then the file is made anew, all of it a hole.
    pub(super) fn adopt_file(&self, entry: &FileEntry) -> Result<Option<u64>> {
        let (beneath, path) = self.place(&entry.path);
        let adopted = beneath.adopt_file(&path, entry.size);
        adopted.map_err(|error| failed("take over", beneath, &path, error))
    }

    /// The bytes of the file that [`Tree::adopt_file`] would take over; changes nothing.
    pub(super) fn adoptable_bytes(&self, entry: &FileEntry) -> Result<Option<u64>> {
        let (beneath, path) = self.place(&entry.path);
        let found = beneath.adoptable_bytes(&path);
        found.map_err(|error| failed("look at", beneath, &path, error))
    }

    /// Opens a listed file to read it.
    pub(super) fn file_to_read(&self, path: &ListedPath) -> Result<File> {
        let (beneath, path) = self.place(path);
        let opened = beneath.open_file(&path, OFlags::RDONLY);
        opened.map(File::from).map_err(|error| failed("open", beneath, &path, error))
    }

    /// Gives a listed file whose bytes were right already its mode and times; whoever changed it may not have synced it.
    pub(super) fn settle_unchanged(&self, entry: &FileEntry, syncing: Syncing) -> Result<()> {
        let (beneath, path) = self.place(&entry.path);
        let settled = beneath.settle_unchanged(&path, entry.mode, entry.mtime, syncing);
        settled.map_err(|error| failed("sync", beneath, &path, error))
    }

    /// Gives a listed file its mode and times, and syncs it.
    pub(super) fn settle_file(&self, entry: &FileEntry) -> Result<()> {
        let (beneath, path) = self.place(&entry.path);
        let settled = beneath.settle_file(&path, entry.mode, entry.mtime);
        settled.map_err(|error| failed("sync", beneath, &path, error))
    }

    /// Syncs the file systems that the tree lies in, for what was not synced file by file.
    pub(super) fn sync_file_systems(&self) -> Result<()> {
        self.roots().try_for_each(|beneath| {
            let synced = beneath.sync_file_system();
            synced.map_err(|error| failed("sync the file system of", beneath, Path::new(""), error))
        })
    }

    /// Where the local file of a listed path lies, for messages.
    pub(super) fn local_path(&self, path: &ListedPath) -> PathBuf {
        let (beneath, path) = self.place(path);
        beneath.path().join(path)
    }

    /// The directory that holds a listed path, and the path in it.
    ///
    /// The control file lies under a temporary name until the very end: without it no server starts (R3).
    fn place(&self, path: &ListedPath) -> (&Beneath, PathBuf) {
        if path.as_bytes() == CONTROL_FILE.as_bytes() {
            return (&self.data, pending_control_file());
        }
        if let (Some(wal), Some(rest)) = (&self.wal, path.as_bytes().strip_prefix(b"pg_wal"))
            && (rest.is_empty() || rest.starts_with(b"/"))
        {
            let rest = rest.strip_prefix(b"/").unwrap_or_default();
            return (wal, Path::new(OsStr::from_bytes(rest)).to_owned());
        }
        match split_tablespace(path.as_bytes()) {
            Some((number, rest)) if self.tablespaces.contains_key(&number) => {
                let rest = Path::new(OsStr::from_bytes(rest));
                (&self.tablespaces[&number], rest.to_owned())
            }
            _ => (&self.data, path.to_relative().to_owned()),
        }
    }
}

/// Where the control file waits, relative to the data directory.
pub(super) fn pending_control_file() -> PathBuf {
    Path::new(CONTROL_FILE).with_file_name(format!("{TEMPORARY_PREFIX}pg_control"))
}

/// Where the control file of a data directory goes when a restore in place begins, relative to it.
///
/// Not into `global`, where `pg_checksums` would take it for a relation should it stay behind.
pub(super) fn former_control_file() -> PathBuf {
    PathBuf::from(format!("{OWN_PREFIX}former-pg_control"))
}

/// `pg_tblspc/<number>/<rest>`.
fn split_tablespace(path: &[u8]) -> Option<(u32, &[u8])> {
    let below = path.strip_prefix(TABLESPACE_LINKS.as_bytes())?.strip_prefix(b"/")?;
    let slash = below.iter().position(|byte| *byte == b'/')?;
    let number = std::str::from_utf8(&below[..slash]).ok()?.parse().ok()?;
    Some((number, &below[slash + 1..]))
}

fn failed(action: &str, beneath: &Beneath, path: &Path, error: io::Error) -> Error {
    Error::io(format!("cannot {action} `{}`", beneath.path().join(path).display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(path: &str) -> ListedPath {
        ListedPath::new(path).unwrap()
    }

    #[test]
    fn files_of_a_linked_tablespace_lie_where_its_link_leads() {
        let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tablespace = Beneath::open(elsewhere.path(), None).unwrap();
        let tree = Tree::new(
            Beneath::open(data.path(), None).unwrap(),
            BTreeMap::from([(16384, tablespace)]),
        );
        let local = |path| tree.local_path(&listed(path));
        assert_eq!(local("pg_tblspc/16384/PG_15/5/1"), elsewhere.path().join("PG_15/5/1"));
        assert_eq!(local("pg_tblspc/7/PG_15"), data.path().join("pg_tblspc/7/PG_15"));
        assert_eq!(local("pg_tblspc"), data.path().join("pg_tblspc"));
    }

    /// R3
    #[test]
    fn the_control_file_is_written_under_another_name() {
        let data = tempfile::tempdir().unwrap();
        let tree = Tree::new(Beneath::open(data.path(), None).unwrap(), BTreeMap::new());
        let local = tree.local_path(&listed(CONTROL_FILE));
        assert_eq!(local, data.path().join("global/.walrs-tmp-pg_control"));
    }
}
