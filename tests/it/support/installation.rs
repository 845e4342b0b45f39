//! Where the server programs of a PostgreSQL major version lie.

use std::path::{Path, PathBuf};

use super::program::reachable_copy;

/// A PostgreSQL major version with which tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Major {
    /// Exclusive-backup era: `pg_start_backup`.
    V13,
    /// Debian 12's own, with all client programs.
    V15,
    /// The newest one tested.
    V17,
}

impl Major {
    /// All majors that the tests run on.
    pub(crate) const ALL: [Self; 3] = [Self::V13, Self::V15, Self::V17];

    /// The number, e.g. 15.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::V13 => 13,
            Self::V15 => 15,
            Self::V17 => 17,
        }
    }

    /// The full path of a server program (`initdb`, `postgres`, `pg_ctl`).
    pub(crate) fn server_program(self, name: &str) -> PathBuf {
        let path = self.directory().join(name);
        assert!(
            path.exists(),
            "PostgreSQL {} is not installed: `{}` is missing; run `ci/test`, which installs it",
            self.number(),
            path.display()
        );
        path
    }

    fn directory(self) -> PathBuf {
        if self == Self::V15 {
            return debian_directory().to_owned();
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/postgres");
        let version = root.join(self.number().to_string());
        // Absent: the message of `server_program` names the place where it should be.
        if version.exists() { reachable_copy(&version).join("bin") } else { version.join("bin") }
    }
}

/// A client program of Debian's PostgreSQL 15 (`psql`, `pgbench`, `pg_amcheck`), which talks to every major.
pub(crate) fn client_program(name: &str) -> PathBuf {
    let path = debian_directory().join(name);
    assert!(path.exists(), "`{}` is missing; run `ci/test`, which installs it", path.display());
    path
}

fn debian_directory() -> &'static Path {
    Path::new("/usr/lib/postgresql/15/bin")
}
