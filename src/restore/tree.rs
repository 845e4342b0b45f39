//! The data directory that is being made, with its tablespaces, by the paths of the file list.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::beneath::Beneath;
use crate::durable::TEMPORARY_PREFIX;
use crate::error::{Error, Result};
use crate::postgres::{CONTROL_FILE, TABLESPACE_LINKS};
use crate::repository::{DirectoryEntry, FileEntry, ListedPath, TablespaceEntry};

/// The data directory, and the directories its tablespaces point to.
#[derive(Debug)]
pub(super) struct Tree {
    data: Beneath,
    tablespaces: BTreeMap<u32, Beneath>,
}

impl Tree {
    /// The tree over an open data directory; `tablespaces` are those that links lead to.
    pub(super) fn new(data: Beneath, tablespaces: BTreeMap<u32, Beneath>) -> Self {
        Self { data, tablespaces }
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
        if entry.path == ListedPath::root() {
            return Ok(());
        }
        let (beneath, path) = self.place(&entry.path);
        let created = beneath.create_directory(&path, entry.mode);
        created.map_err(|error| failed("create the directory", beneath, &path, error))
    }

    /// Gives a listed directory its mode and makes the names in it durable.
    pub(super) fn settle_directory(&self, entry: &DirectoryEntry) -> Result<()> {
        let (beneath, path) = self.place(&entry.path);
        let settled = beneath.settle_directory(&path, entry.mode);
        settled.map_err(|error| failed("sync the directory", beneath, &path, error))
    }

    /// Gives the directory of a linked tablespace its mode and makes the names in it durable.
    pub(super) fn settle_tablespace(&self, entry: &TablespaceEntry) -> Result<()> {
        let number = entry.oid()?;
        let Some(beneath) = self.tablespaces.get(&number) else {
            return Err(Error::bug(format!("tablespace {number} was not opened")));
        };
        let settled = beneath.settle_directory(Path::new(""), entry.mode);
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

    /// Gives a listed file its mode and times, and syncs it.
    pub(super) fn settle_file(&self, entry: &FileEntry) -> Result<()> {
        let (beneath, path) = self.place(&entry.path);
        let settled = beneath.settle_file(&path, entry.mode, entry.mtime);
        settled.map_err(|error| failed("sync", beneath, &path, error))
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
        match split_tablespace(path.as_bytes()) {
            Some((number, rest)) if self.tablespaces.contains_key(&number) => {
                let rest = Path::new(std::ffi::OsStr::from_bytes(rest));
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
