//! The major version of a cluster, and what differs between versions on disk.

use std::fmt;
use std::io::ErrorKind as IoErrorKind;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::text::{Malformed, is_decimal};
use crate::error::{Error, Result};

/// The file that names the major version of a data directory.
pub const VERSION_FILE: &str = "PG_VERSION";

/// A major version of PostgreSQL, such as 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MajorVersion(u32);

impl MajorVersion {
    /// The oldest version that walrs knows.
    pub const OLDEST: Self = Self(13);

    /// The newest version that walrs knows.
    pub const NEWEST: Self = Self(18);

    /// Version `number`, known to walrs or not.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The version of a server from its `server_version_num`, e.g. 150018.
    pub const fn of_server(server_version_num: u32) -> Self {
        Self(server_version_num / 10_000)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether walrs knows what this version writes to disk.
    pub fn is_known(self) -> bool {
        (Self::OLDEST..=Self::NEWEST).contains(&self)
    }

    /// Reads `PG_VERSION` of the data directory `pgdata`; `None` when there is none, so that it is no data directory.
    pub fn read(pgdata: &Path) -> Result<Option<Self>> {
        let path = pgdata.join(VERSION_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Error::io(format!("cannot read `{}`", path.display()), error));
            }
        };
        let version = text.trim_end().parse().map_err(|malformed: Malformed| {
            Error::refused(format!("cannot use `{}`", path.display())).because(malformed)
        })?;
        Ok(Some(version))
    }

    /// The directories that the server expects in `pg_wal`.
    ///
    /// `summaries` came with 17 and its incremental backups.
    pub fn wal_subdirectories(self) -> &'static [&'static str] {
        if self.0 >= 17 { &["archive_status", "summaries"] } else { &["archive_status"] }
    }
}

impl fmt::Display for MajorVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for MajorVersion {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let number = if is_decimal(text) { text.parse().ok() } else { None };
        number.map(Self).ok_or_else(|| Malformed::new(text, "a major version like `15`"))
    }
}

/// The one directory in each tablespace that belongs to a cluster: `PG_15_202209061`.
///
/// Source: `TABLESPACE_VERSION_DIRECTORY` in `common/relpath.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionDirectory {
    /// The cluster's major version.
    pub major: MajorVersion,
    /// The catalog version, from `pg_control`.
    pub catalog_version: u32,
}

impl fmt::Display for VersionDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PG_{}_{}", self.major, self.catalog_version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_data_directory_is_read() {
        let pgdata = tempfile::tempdir().unwrap();
        assert_eq!(MajorVersion::read(pgdata.path()).unwrap(), None);
        std::fs::write(pgdata.path().join(VERSION_FILE), "15\n").unwrap();
        assert_eq!(MajorVersion::read(pgdata.path()).unwrap(), Some(MajorVersion::new(15)));
        std::fs::write(pgdata.path().join(VERSION_FILE), "9.6\n").unwrap();
        assert!(MajorVersion::read(pgdata.path()).is_err());
    }

    #[test]
    fn versions_13_to_18_are_known() {
        let known = |number| MajorVersion::new(number).is_known();
        assert!(!known(12) && known(13) && known(18) && !known(19));
        assert_eq!(MajorVersion::of_server(150_018), MajorVersion::new(15));
    }

    #[test]
    fn the_directory_in_a_tablespace_carries_both_versions() {
        let version =
            VersionDirectory { major: MajorVersion::new(15), catalog_version: 202_209_061 };
        assert_eq!(version.to_string(), "PG_15_202209061");
    }
}
