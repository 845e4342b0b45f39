//! Repositories for walrs to archive into: a directory or a bucket, plain or encrypted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cluster_builder::Environment;
use super::program::{Finished, walrs_binary};
use super::scratch::Scratch;
use super::user::ServerUser;

/// Whether what is stored is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sealing {
    /// Readable with `zstd -d`.
    Plain,
    /// With a key file that `walrs init` creates.
    Encrypted,
}

/// A location, the variables that lead walrs to it, and (for a directory) the files themselves.
#[derive(Debug)]
pub(crate) struct TestRepository {
    scratch: Scratch,
    sealing: Sealing,
    directory: Option<PathBuf>,
    environment: Environment,
}

impl TestRepository {
    /// An empty existing directory, in which the first `wal-push` or `backup-push` makes a plain repository.
    pub(crate) fn plain_directory() -> Self {
        Self::directory(Sealing::Plain)
    }

    /// A directory; an encrypted one needs [`TestRepository::init`] before anything else.
    pub(crate) fn directory(sealing: Sealing) -> Self {
        let scratch = Scratch::new();
        let directory = scratch.create_directory("repository");
        let url = format!("file://{}", directory.display());
        Self { directory: Some(directory), ..Self::at(&url, sealing, Environment::new(), scratch) }
    }

    /// A location on a server that the caller keeps running; `variables` carry its endpoint and credentials.
    pub(crate) fn on_server(url: &str, sealing: Sealing, variables: Environment) -> Self {
        Self::at(url, sealing, variables, Scratch::new())
    }

    fn at(url: &str, sealing: Sealing, variables: Environment, scratch: Scratch) -> Self {
        let mut environment = variables;
        environment.insert("WALRS_REPOSITORY".to_owned(), url.to_owned());
        if sealing == Sealing::Encrypted {
            let key = scratch.join("key").display().to_string();
            environment.insert("WALRS_ENCRYPTION_KEY_FILE".to_owned(), key);
        }
        Self { scratch, sealing, directory: None, environment }
    }

    /// The variables that lead walrs here.
    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The repository's URL.
    pub(crate) fn url(&self) -> &str {
        &self.environment["WALRS_REPOSITORY"]
    }

    /// Where the key file of an encrypted repository lies once `init` has made it.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.scratch.join("key")
    }

    /// Runs `walrs init` for the cluster over `data`; an encrypted repository gets its key file.
    pub(crate) fn init(&self, data: &Path) -> Finished {
        let mut command = self.walrs_command(data);
        command.arg("init");
        if self.sealing == Sealing::Encrypted {
            command.args(["--encrypt", "--new-key-file"]).arg(self.key_file());
        }
        // The new key file is named once: by the option that creates it.
        Finished::run(command.env_remove("WALRS_ENCRYPTION_KEY_FILE"))
    }

    /// `walrs` with nothing in its environment but this repository and `PGDATA`, run as the server's user.
    pub(crate) fn walrs_command(&self, data: &Path) -> Command {
        let mut command = ServerUser::get().command(walrs_binary());
        command.envs(&self.environment).env("PGDATA", data).current_dir(self.scratch.path());
        command
    }

    /// The directory of a local repository.
    #[track_caller]
    pub(crate) fn path(&self) -> &Path {
        self.directory.as_deref().expect("this repository lies on a server")
    }

    /// Keys of all objects of a local repository, sorted.
    #[track_caller]
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        collect(self.path(), self.path(), &mut keys);
        keys.sort();
        keys
    }

    /// Keys of a local repository that contain `part`, sorted.
    #[track_caller]
    pub(crate) fn keys_with(&self, part: &str) -> Vec<String> {
        self.keys().into_iter().filter(|key| key.contains(part)).collect()
    }

    /// The file of one object of a local repository.
    #[track_caller]
    pub(crate) fn object(&self, key: &str) -> PathBuf {
        self.path().join(key)
    }
}

fn collect(root: &Path, directory: &Path, keys: &mut Vec<String>) {
    for entry in fs::read_dir(directory).expect("a directory of the test can be read") {
        let path = entry.expect("a directory of the test can be read").path();
        if path.is_dir() {
            collect(root, &path, keys);
        } else {
            let key = path.strip_prefix(root).expect("found below the root");
            keys.push(key.to_string_lossy().into_owned());
        }
    }
}
