//! Describing a cluster before it exists: major version, checksums, segment size, settings, archiving.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use super::cluster::Cluster;
use super::installation::Major;
use super::program::{Finished, walrs_binary};
use super::repository::TestRepository;
use super::scratch::Scratch;
use super::user::ServerUser;

/// Environment variables that walrs and the server inherit.
pub(crate) type Environment = BTreeMap<String, String>;

/// Whether the cluster writes page checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageChecksums {
    /// `initdb --data-checksums`.
    On,
    /// Without.
    Off,
}

/// What `initdb` and the first start need to know.
#[derive(Debug)]
pub(crate) struct ClusterBuilder {
    major: Major,
    checksums: PageChecksums,
    segment_megabytes: u32,
    settings: Vec<(String, String)>,
    environment: Environment,
}

impl ClusterBuilder {
    /// A cluster of `major` with checksums, 16 MiB segments and no archiving.
    pub(crate) fn new(major: Major) -> Self {
        Self {
            major,
            checksums: PageChecksums::On,
            segment_megabytes: 16,
            settings: Vec::new(),
            environment: Environment::new(),
        }
    }

    /// Page checksums on or off.
    pub(crate) fn checksums(mut self, checksums: PageChecksums) -> Self {
        self.checksums = checksums;
        self
    }

    /// The size of a WAL segment in MiB, a power of two from 1 to 1024.
    pub(crate) fn segment_megabytes(mut self, megabytes: u32) -> Self {
        self.segment_megabytes = megabytes;
        self
    }

    /// One more line of `postgresql.conf`; the value is quoted here. A later one wins.
    pub(crate) fn setting(mut self, name: &str, value: impl Into<String>) -> Self {
        self.settings.push((name.to_owned(), value.into()));
        self
    }

    /// A variable that the server, its `archive_command` and `walrs` run by the test see.
    pub(crate) fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// Lets walrs commands of this cluster use `repository`, without archiving.
    pub(crate) fn using(mut self, repository: &TestRepository) -> Self {
        self.environment.extend(repository.environment().clone());
        self
    }

    /// Archives into `repository` with the walrs binary under test.
    pub(crate) fn archiving_to(self, repository: &TestRepository) -> Self {
        let command = format!("\"{}\" wal-push %p", walrs_binary().display());
        self.using(repository).archive_command(&command)
    }

    /// Archives with any command.
    pub(crate) fn archive_command(self, command: &str) -> Self {
        self.setting("archive_mode", "on").setting("archive_command", command)
    }

    /// Runs `initdb` and writes the settings; the server is not started.
    pub(crate) fn create(self) -> Cluster {
        let scratch = Arc::new(Scratch::new());
        let data = scratch.join("data");
        self.initdb(&data);
        append(&data.join("postgresql.conf"), &self.configuration());
        Cluster::new(scratch, self.major, data, self.environment)
    }

    /// Creates the cluster and starts it.
    pub(crate) fn start(self) -> Cluster {
        let mut cluster = self.create();
        cluster.start();
        cluster
    }

    fn initdb(&self, data: &Path) {
        let mut command = ServerUser::get().command(self.major.server_program("initdb"));
        command.args(["--username=postgres", "--auth=trust", "--no-sync"]);
        command.args(["--encoding=UTF8", "--locale=C"]);
        command.arg(format!("--wal-segsize={}", self.segment_megabytes));
        if self.checksums == PageChecksums::On {
            command.arg("--data-checksums");
        }
        Finished::run(command.arg("--pgdata").arg(data)).expect_success();
    }

    fn configuration(&self) -> String {
        let small = self.segment_megabytes.max(16) * 5;
        let mut text = format!(
            "\n# of the tests\nfsync = off\nshared_buffers = 16MB\nmax_connections = 40\n\
             min_wal_size = {small}MB\nmax_wal_size = {}MB\nlogging_collector = off\n\
             log_line_prefix = '%m [%p] '\nwal_log_hints = off\nautovacuum_naptime = 5s\n",
            small * 4
        );
        for (name, value) in &self.settings {
            writeln!(text, "{}", setting_line(name, value)).expect("a string takes everything");
        }
        text
    }
}

/// A line of `postgresql.conf` with the value quoted.
pub(crate) fn setting_line(name: &str, value: &str) -> String {
    format!("{name} = '{}'", value.replace('\'', "''"))
}

/// Appends to a file that exists, as its owner.
pub(crate) fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).open(path).expect("the configuration exists");
    file.write_all(text.as_bytes()).expect("the configuration is writable");
}

/// Creates an empty file that belongs to the server's user.
pub(crate) fn touch(path: &Path) {
    fs::write(path, b"").expect("the data directory is writable");
    ServerUser::get().own(path);
}
