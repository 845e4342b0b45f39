//! Temporary directories that the server's user can reach and write to, removed when dropped.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::user::ServerUser;

/// A directory of one test, owned by the server's user.
#[derive(Debug)]
pub(crate) struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    /// Makes a new directory with a short path: PostgreSQL limits a socket's path to 107 bytes.
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("walrs-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("the temporary directory is writable");
        ServerUser::get().own(directory.path());
        Self { directory }
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A path below the directory; nothing is created.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// Creates a directory with mode 0700, owned by the server's user.
    pub(crate) fn create_directory(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.join(name);
        fs::DirBuilder::new().mode(0o700).create(&path).expect("the name is free");
        ServerUser::get().own(&path);
        path
    }

    /// Writes a file with mode 0600, owned by the server's user.
    pub(crate) fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, content).expect("the test's directory is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
        ServerUser::get().own(&path);
        path
    }
}
