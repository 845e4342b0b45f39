//! Tablespaces as a data directory shows them: links in `pg_tblspc`, or directories in their place.

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::relation_name::object_identifier;
use crate::error::{Error, Result};

/// The directory of the data directory that holds a link to every tablespace.
pub const TABLESPACE_LINKS: &str = "pg_tblspc";

/// The object identifier of a tablespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TablespaceId(pub u32);

impl fmt::Display for TablespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a tablespace lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TablespaceLocation {
    /// `pg_tblspc/<oid>` is a link to this directory, as written in the link.
    Link(PathBuf),
    /// `pg_tblspc/<oid>` is a directory itself (`allow_in_place_tablespaces`, 15 and later).
    InPlace,
}

/// A tablespace of a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tablespace {
    /// Its identifier.
    pub id: TablespaceId,
    /// Where it lies.
    pub location: TablespaceLocation,
}

impl Tablespace {
    /// The tablespaces of the data directory `pgdata`, in the order of their identifiers.
    ///
    /// Entries of `pg_tblspc` that are no tablespaces are passed over: the walker judges them.
    pub fn list(pgdata: &Path) -> Result<Vec<Self>> {
        let directory = pgdata.join(TABLESPACE_LINKS);
        let mut tablespaces = read_links(&directory).map_err(|error| {
            Error::io(format!("cannot list the tablespaces in `{}`", directory.display()), error)
        })?;
        tablespaces.sort_by_key(|tablespace| tablespace.id);
        Ok(tablespaces)
    }

    /// Its path below the data directory.
    pub fn path(&self) -> PathBuf {
        Path::new(TABLESPACE_LINKS).join(self.id.to_string())
    }

    /// The path below `pgdata` where the tablespace's files really lie, when its link leads back into the data
    /// directory: a walk would meet them twice.
    pub fn physical_path_inside(&self, pgdata: &Path) -> io::Result<Option<PathBuf>> {
        if self.location == TablespaceLocation::InPlace {
            return Ok(None);
        }
        let physical = pgdata.join(self.path()).canonicalize()?;
        Ok(physical.strip_prefix(pgdata.canonicalize()?).ok().map(Path::to_owned))
    }
}

fn read_links(directory: &Path) -> io::Result<Vec<Tablespace>> {
    let mut tablespaces = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let Some(number) = object_identifier(entry.file_name().as_bytes()) else { continue };
        let kind = entry.file_type()?;
        let location = if kind.is_symlink() {
            TablespaceLocation::Link(std::fs::read_link(entry.path())?)
        } else if kind.is_dir() {
            TablespaceLocation::InPlace
        } else {
            continue;
        };
        tablespaces.push(Tablespace { id: TablespaceId(number), location });
    }
    Ok(tablespaces)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_and_directories_named_by_number_are_tablespaces() {
        let pgdata = tempfile::tempdir().unwrap();
        let links = pgdata.path().join(TABLESPACE_LINKS);
        std::fs::create_dir(&links).unwrap();
        symlink("/srv/fast", links.join("16400")).unwrap();
        std::fs::create_dir(links.join("16399")).unwrap();
        symlink("/srv/other", links.join("old")).unwrap();
        std::fs::write(links.join("16401"), "a file").unwrap();
        let found = Tablespace::list(pgdata.path()).unwrap();
        let link = TablespaceLocation::Link("/srv/fast".into());
        assert_eq!(
            found[0],
            Tablespace { id: TablespaceId(16399), location: TablespaceLocation::InPlace }
        );
        assert_eq!(found[1..], [Tablespace { id: TablespaceId(16400), location: link }]);
    }

    #[test]
    fn a_tablespace_inside_the_data_directory_is_found() {
        let pgdata = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::create_dir(pgdata.path().join(TABLESPACE_LINKS)).unwrap();
        std::fs::create_dir(pgdata.path().join("inner")).unwrap();
        symlink("../inner", pgdata.path().join("pg_tblspc/1")).unwrap();
        symlink(elsewhere.path(), pgdata.path().join("pg_tblspc/2")).unwrap();
        let found = Tablespace::list(pgdata.path()).unwrap();
        let inside = |index: usize| found[index].physical_path_inside(pgdata.path()).unwrap();
        assert_eq!(inside(0), Some(PathBuf::from("inner")));
        assert_eq!(inside(1), None);
    }
}
