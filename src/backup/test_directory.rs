//! A directory that looks like a data directory of PostgreSQL 15, for the unit tests of walk and readers.

use std::fs;
use std::path::Path;

use super::walk::DataDirectory;
use crate::config::LinkPolicy;
use crate::postgres::ControlFile;

const CONTROL: &[u8] = include_bytes!("../postgres/testdata/pg_control.15");

/// Removed when dropped.
pub(super) struct TestDirectory(tempfile::TempDir);

impl TestDirectory {
    /// The least that a walk needs: a version, `global/pg_control`, `base/5`, `pg_tblspc`.
    pub(super) fn new() -> Self {
        let directory = Self(tempfile::tempdir().unwrap());
        directory.write("PG_VERSION", b"15\n");
        directory.write("global/pg_control", CONTROL);
        directory.create("base/5");
        directory.create("pg_tblspc");
        directory
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn create(&self, name: &str) {
        fs::create_dir_all(self.path().join(name)).unwrap();
    }

    pub(super) fn write(&self, name: &str, content: &[u8]) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(super) fn link(&self, name: &str, target: impl AsRef<Path>) {
        std::os::unix::fs::symlink(target, self.path().join(name)).unwrap();
    }

    /// The version directory of its tablespaces.
    pub(super) fn version_directory() -> String {
        format!("PG_15_{}", Self::control().catalog_version)
    }

    pub(super) fn control() -> ControlFile {
        ControlFile::parse(CONTROL).unwrap()
    }

    pub(super) fn data(&self, links: LinkPolicy) -> DataDirectory {
        DataDirectory::new(self.path().to_owned(), &Self::control(), links).unwrap()
    }
}
