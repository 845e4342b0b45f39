//! The operating-system user that owns clusters and runs walrs: never root, because PostgreSQL refuses it.

use std::os::unix::fs::{chown, lchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// Numeric ids of the user that runs servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    changes_identity: bool,
}

impl ServerUser {
    /// User `postgres` when the tests run as root, else the current user.
    pub(crate) fn get() -> Self {
        static USER: OnceLock<ServerUser> = OnceLock::new();
        *USER.get_or_init(Self::find)
    }

    fn find() -> Self {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        if !uid.is_root() {
            return Self { uid: uid.as_raw(), gid: gid.as_raw(), changes_identity: false };
        }
        let (uid, gid) = account("postgres")
            .expect("tests that run as root need the user `postgres`; `ci/test` installs it");
        Self { uid, gid, changes_identity: true }
    }

    /// Whether files and processes must be handed over to the user (the tests run as root).
    pub(crate) fn differs_from_caller(self) -> bool {
        self.changes_identity
    }

    /// A command that runs as this user with an empty environment but for `PATH` and the C locale.
    pub(crate) fn command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C");
        if self.changes_identity {
            // std drops the supplementary groups too.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Gives `path` to the user.
    pub(crate) fn own(self, path: &Path) {
        if self.changes_identity {
            chown(path, Some(self.uid), Some(self.gid)).expect("root can give files away");
        }
    }

    /// Gives `path` and everything below it to the user; links themselves, not what they point to.
    pub(crate) fn own_tree(self, path: &Path) {
        if !self.changes_identity {
            return;
        }
        lchown(path, Some(self.uid), Some(self.gid)).expect("root can give files away");
        if path.is_symlink() || !path.is_dir() {
            return;
        }
        for entry in std::fs::read_dir(path).expect("a directory of the test can be read") {
            self.own_tree(&entry.expect("a directory of the test can be read").path());
        }
    }
}

fn account(name: &str) -> Option<(u32, u32)> {
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
    let fields: Vec<&str> = line.split(':').collect();
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}
