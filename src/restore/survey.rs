//! A first pass over the whole file list, before anything changes: is it sound, and what does it hold?

use std::cmp::Ordering;
use std::sync::Arc;

use super::listing::Listing;
use crate::error::{Error, Result};
use crate::postgres::CONTROL_FILE;
use crate::repository::{DirectoryEntry, Entry, ListedPath, Manifest, Repository, TablespaceEntry};

/// What a file list holds besides its files.
#[derive(Debug)]
pub(super) struct Survey {
    /// The directories, parents before what is in them; the data directory itself first.
    pub(super) directories: Vec<DirectoryEntry>,
    /// The tablespaces that links lead to.
    pub(super) tablespaces: Vec<TablespaceEntry>,
}

/// Reads the whole list and checks that it describes a tree in which every path has one place.
pub(super) async fn survey(repository: &Repository, manifest: &Arc<Manifest>) -> Result<Survey> {
    let mut listing = Listing::new(repository, manifest);
    let mut surveyor = Surveyor::default();
    loop {
        let entries = listing.next_entries().await?;
        if entries.is_empty() {
            return surveyor.finish(manifest);
        }
        entries.into_iter().try_for_each(|entry| surveyor.visit(entry))?;
    }
}

#[derive(Default)]
struct Surveyor {
    directories: Vec<DirectoryEntry>,
    tablespaces: Vec<TablespaceEntry>,
    previous: Option<ListedPath>,
    /// The directories that lead to the place of the walk.
    above: Vec<ListedPath>,
    files: u64,
    bytes: u64,
    has_control_file: bool,
}

impl Surveyor {
    fn visit(&mut self, entry: Entry) -> Result<()> {
        let path = entry.path().clone();
        self.check_order(&path)?;
        self.check_place(&path)?;
        match entry {
            Entry::Directory(entry) => {
                self.above.push(path.clone());
                self.directories.push(entry);
            }
            Entry::Tablespace(entry) => {
                check_tablespace(&entry)?;
                self.above.push(path.clone());
                self.tablespaces.push(entry);
            }
            Entry::File(file) => {
                self.files += 1;
                self.bytes = self.bytes.saturating_add(file.size);
                self.has_control_file |= path.as_bytes() == CONTROL_FILE.as_bytes();
            }
        }
        self.previous = Some(path);
        Ok(())
    }

    fn check_order(&self, path: &ListedPath) -> Result<()> {
        let previous = self.previous.as_ref();
        if previous.is_none_or(|previous| previous.cmp(path) == Ordering::Less) {
            return Ok(());
        }
        Err(damaged(format!("`{path}` is out of order")))
    }

    /// A path lies directly in the innermost directory that is still open.
    fn check_place(&mut self, path: &ListedPath) -> Result<()> {
        if self.above.is_empty() {
            let is_root = *path == ListedPath::root();
            return if is_root { Ok(()) } else { Err(damaged("it does not begin with `.`")) };
        }
        let parent = parent_of(path.as_bytes());
        while let Some(directory) = self.above.last() {
            if directory.as_bytes() == parent {
                return Ok(());
            }
            self.above.pop();
        }
        Err(damaged(format!("`{path}` lies in no listed directory")))
    }

    fn finish(self, manifest: &Manifest) -> Result<Survey> {
        if !self.has_control_file {
            return Err(damaged(format!("`{CONTROL_FILE}` is missing")));
        }
        let (listed, stated) = ((self.files, self.bytes), (manifest.files, manifest.bytes));
        if listed != stated {
            return Err(damaged(format!(
                "it lists {} files of {} bytes, and the manifest states {} of {}",
                listed.0, listed.1, stated.0, stated.1
            )));
        }
        Ok(Survey { directories: self.directories, tablespaces: self.tablespaces })
    }
}

/// R4: the only links are `pg_tblspc/<number>`.
fn check_tablespace(entry: &TablespaceEntry) -> Result<()> {
    let number = entry.oid()?;
    if entry.path.as_bytes() != format!("pg_tblspc/{number}").as_bytes() {
        return Err(damaged(format!("`{}` is no tablespace link", entry.path)));
    }
    entry.target_path().map(|_| ())
}

fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b".", |slash| &path[..slash])
}

fn damaged(why: impl Into<String>) -> Error {
    Error::damaged("the file list makes no sense").because(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(path: &str) -> Entry {
        Entry::Directory(DirectoryEntry { path: ListedPath::new(path).unwrap(), mode: 0o700 })
    }

    fn tablespace(path: &str) -> Entry {
        let path = ListedPath::new(path).unwrap();
        Entry::Tablespace(TablespaceEntry { path, target: "/srv/space".to_owned(), mode: 0o700 })
    }

    fn file(path: &str) -> Entry {
        let line = format!(
            r#"{{"type":"file","path":"{path}","mode":384,"size":0,"mtime":[0,0],"identity":[0,0,0,0],"digest":"{}","extents":[]}}"#,
            "0".repeat(64)
        );
        Entry::from_line(line.as_bytes()).unwrap()
    }

    fn visit(entries: impl IntoIterator<Item = Entry>) -> Result<Surveyor> {
        let mut surveyor = Surveyor::default();
        entries.into_iter().try_for_each(|entry| surveyor.visit(entry))?;
        Ok(surveyor)
    }

    #[test]
    fn a_walk_of_a_data_directory_makes_sense() {
        let surveyor = visit([
            directory("."),
            file("PG_VERSION"),
            directory("base"),
            directory("base/1"),
            file("base/1/2"),
            directory("base/5"),
            file("base/5/1"),
            directory("global"),
            file("global/pg_control"),
            directory("pg_tblspc"),
            tablespace("pg_tblspc/16384"),
            directory("pg_tblspc/16384/PG_15_202209061"),
            file("pg_tblspc/16384/PG_15_202209061/1"),
        ])
        .unwrap();
        assert_eq!((surveyor.files, surveyor.has_control_file), (5, true));
        assert_eq!((surveyor.directories.len(), surveyor.tablespaces.len()), (7, 1));
    }

    /// R4
    #[test]
    fn a_list_that_describes_no_tree_is_damage() {
        let root = || directory(".");
        for (entries, why) in [
            (vec![file("PG_VERSION")], "does not begin with"),
            (vec![root(), file("a"), file("a")], "out of order"),
            (vec![root(), file("b"), file("a")], "out of order"),
            (vec![root(), file("base/1")], "in no listed directory"),
            (vec![root(), file("base"), file("base/1")], "in no listed directory"),
            (vec![root(), directory("a"), file("b"), file("b/1")], "in no listed directory"),
            (vec![root(), tablespace("base")], "tablespace link"),
            (vec![root(), directory("pg_tblspc"), tablespace("pg_tblspc/07")], "tablespace link"),
        ] {
            let error = visit(entries).err().expect("damage");
            assert!(error.report().contains(why), "{}", error.report());
        }
    }
}
