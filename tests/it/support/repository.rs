//! Repositories for walrs to archive into: a directory or a bucket, plain or encrypted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cluster_builder::Environment;
use super::program::{Finished, walrs_binary};
use super::s3_server::S3Server;
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

/// What kind of store holds the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A local directory.
    Directory,
    /// A bucket of an S3 server that lives as long as the repository.
    Bucket,
}

impl Place {
    /// Every kind of store, for tests that must hold on each.
    pub(crate) const ALL: [Self; 2] = [Self::Directory, Self::Bucket];
}

const PREFIX: &str = "main";

/// A location, the variables that lead walrs to it, and the files that hold its objects.
pub(crate) struct TestRepository {
    scratch: Scratch,
    sealing: Sealing,
    /// The directory of all objects, for a bucket too.
    root: PathBuf,
    server: Option<S3Server>,
    environment: Environment,
}

impl TestRepository {
    /// An empty existing directory, in which the first `wal-push` or `backup-push` makes a plain repository.
    pub(crate) fn plain_directory() -> Self {
        Self::new(Place::Directory, Sealing::Plain)
    }

    /// An empty location; an encrypted repository needs [`TestRepository::init`] before anything else.
    pub(crate) fn new(place: Place, sealing: Sealing) -> Self {
        match place {
            Place::Directory => Self::directory(sealing),
            Place::Bucket => Self::bucket(sealing),
        }
    }

    fn directory(sealing: Sealing) -> Self {
        let scratch = Scratch::new();
        let root = scratch.create_directory("repository");
        let url = format!("file://{}", root.display());
        Self { scratch, sealing, root, server: None, environment: Environment::new() }.at(url)
    }

    fn bucket(sealing: Sealing) -> Self {
        let (scratch, server) = (Scratch::new(), S3Server::start());
        let (root, environment) = (server.object(PREFIX), server.environment());
        let url = server.url(PREFIX);
        Self { scratch, sealing, root, server: Some(server), environment }.at(url)
    }

    fn at(mut self, url: String) -> Self {
        self.environment.insert("WALRS_REPOSITORY".to_owned(), url);
        if self.sealing == Sealing::Encrypted {
            let key = self.key_file().display().to_string();
            self.environment.insert("WALRS_ENCRYPTION_KEY_FILE".to_owned(), key);
        }
        self
    }

    /// The server of a bucket, to make it misbehave.
    #[track_caller]
    pub(crate) fn server(&self) -> &S3Server {
        self.server.as_ref().expect("this repository is a directory")
    }

    /// Whether what is stored is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.sealing == Sealing::Encrypted
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

    /// The directory that holds the objects under their keys, of a bucket too; to look at and to damage.
    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    /// Keys of all objects, sorted.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        if self.root.exists() {
            collect(&self.root, &self.root, &mut keys);
        }
        keys.sort();
        keys
    }

    /// Keys that contain `part`, sorted.
    pub(crate) fn keys_with(&self, part: &str) -> Vec<String> {
        self.keys().into_iter().filter(|key| key.contains(part)).collect()
    }

    /// The file that holds one object.
    pub(crate) fn object(&self, key: &str) -> PathBuf {
        self.root.join(key)
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
