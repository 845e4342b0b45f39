//! A PostgreSQL cluster of one test: start and stop, SQL, WAL switches, and walrs run as its user.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::cluster_builder::{ClusterBuilder, Environment, append, setting_line};
use super::installation::{Major, client_program};
use super::postmaster::{Postmaster, Stop, wait_until};
use super::program::{Finished, walrs_binary};
use super::scratch::Scratch;
use super::user::ServerUser;

const START_ATTEMPTS: usize = 5;

/// A data directory with a server that may run; both are gone when this is dropped.
///
/// Clusters derived from one another (restored copies, standbys) share one temporary directory, which goes with the
/// last of them.
#[derive(Debug)]
pub(crate) struct Cluster {
    scratch: Arc<Scratch>,
    major: Major,
    data: PathBuf,
    sockets: PathBuf,
    log: PathBuf,
    port: u16,
    environment: Environment,
    postmaster: Option<Postmaster>,
}

impl Cluster {
    /// Describes a cluster of `major`.
    pub(crate) fn builder(major: Major) -> ClusterBuilder {
        ClusterBuilder::new(major)
    }

    /// A stopped cluster over `data`, which lies in `scratch` and need not exist yet.
    pub(crate) fn new(
        scratch: Arc<Scratch>,
        major: Major,
        data: PathBuf,
        environment: Environment,
    ) -> Self {
        let sockets = data.with_extension("sockets");
        let log = data.with_extension("log");
        fs::DirBuilder::new().mode(0o700).create(&sockets).expect("the cluster's name is free");
        ServerUser::get().own(&sockets);
        Self { scratch, major, data, sockets, log, port: 0, environment, postmaster: None }
    }

    /// A stopped cluster named `name` beside this one, with its version and environment and without a data directory:
    /// restore into [`Cluster::data`], then start it.
    pub(crate) fn sibling(&self, name: &str) -> Self {
        let data = self.scratch.join(name);
        Self::new(Arc::clone(&self.scratch), self.major, data, self.environment.clone())
    }

    /// The data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The data directory as an argument.
    pub(crate) fn data_argument(&self) -> &str {
        self.data.to_str().expect("temporary directories have plain names")
    }

    /// The temporary directory around the data directory, writable by the server's user.
    pub(crate) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The PostgreSQL version.
    pub(crate) fn major(&self) -> Major {
        self.major
    }

    /// The TCP port on 127.0.0.1 (and of the socket's name) since the first start.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Takes another port at the next start.
    pub(crate) fn forget_port(&mut self) {
        self.port = 0;
    }

    /// The directory of the unix socket.
    pub(crate) fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// The process id of the postmaster.
    pub(crate) fn postmaster_pid(&self) -> u32 {
        self.postmaster.as_ref().expect("the server runs").pid()
    }

    /// The environment of the next server start and of walrs.
    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The same, to change it; a running server keeps what it has.
    pub(crate) fn environment_mut(&mut self) -> &mut Environment {
        &mut self.environment
    }

    /// Adds a line to `postgresql.conf`; effective after [`Cluster::reload`] or a restart.
    pub(crate) fn set(&self, name: &str, value: &str) {
        let line = format!("{}\n", setting_line(name, value));
        append(&self.data.join("postgresql.conf"), &line);
    }

    /// Starts the server and waits until it accepts connections.
    pub(crate) fn start(&mut self) {
        for _ in 0..START_ATTEMPTS {
            self.launch();
            if self.comes_up() {
                return;
            }
            let status = self.postmaster.take().map(|mut process| process.ended());
            let log = self.log();
            assert!(port_was_taken(&log), "the server ended with {status:?}; its log:\n{log}");
            self.forget_port();
        }
        panic!("no free port in {START_ATTEMPTS} attempts");
    }

    /// Starts the server without waiting: for a recovery that may end before it accepts connections.
    pub(crate) fn launch(&mut self) {
        assert!(self.postmaster.is_none(), "the server runs already");
        if self.port == 0 {
            self.port = free_port();
        }
        let mut command = ServerUser::get().command(self.major.server_program("postgres"));
        command.envs(&self.environment);
        command.arg("-D").arg(&self.data).arg("-k").arg(&self.sockets);
        command.arg("-p").arg(self.port.to_string()).args(["-h", "127.0.0.1"]);
        // The server's working directory is its data directory; this one is only where the start looks around.
        command.current_dir(self.scratch.path());
        self.postmaster = Some(Postmaster::start(command, &self.data, &self.log));
    }

    fn comes_up(&mut self) -> bool {
        let postmaster = self.postmaster.as_mut().expect("just launched");
        let mut ready = false;
        wait_until("the server is ready or ends", || {
            ready = postmaster.is_ready();
            ready || postmaster.ended().is_some()
        });
        ready
    }

    /// Whether the postmaster lives.
    pub(crate) fn is_running(&mut self) -> bool {
        self.postmaster.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// Whether the server accepts connections now.
    pub(crate) fn is_ready(&self) -> bool {
        self.postmaster.as_ref().is_some_and(Postmaster::is_ready)
    }

    /// The exit status of a server that ended by itself, after which the cluster counts as stopped.
    pub(crate) fn take_exit_status(&mut self) -> Option<std::process::ExitStatus> {
        let status = self.postmaster.as_mut()?.ended()?;
        self.postmaster = None;
        Some(status)
    }

    /// Stops the server and waits until all its processes are gone; fine when it does not run.
    pub(crate) fn stop(&mut self, how: Stop) {
        if let Some(postmaster) = self.postmaster.take() {
            postmaster.stop(how);
        }
    }

    /// Stops (fast) and starts.
    pub(crate) fn restart(&mut self) {
        self.stop(Stop::Fast);
        self.start();
    }

    /// Makes the server read `postgresql.conf` again.
    pub(crate) fn reload(&self) {
        self.psql("select pg_reload_conf()");
    }

    /// Promotes a standby and waits until it has left recovery.
    pub(crate) fn promote(&self) {
        assert_eq!(self.psql("select pg_promote(true, 120)"), "t", "the promotion timed out");
        wait_until("recovery ends", || self.psql("select pg_is_in_recovery()") == "f");
    }

    /// Runs `sql` (any number of statements, each on its own) as superuser; the output unaligned, fields separated
    /// by `|`, without the final line break. Panics when a statement fails.
    #[track_caller]
    pub(crate) fn psql(&self, sql: &str) -> String {
        self.psql_in("postgres", sql)
    }

    /// As [`Cluster::psql`], in another database.
    #[track_caller]
    pub(crate) fn psql_in(&self, database: &str, sql: &str) -> String {
        let finished = self.try_psql(database, sql);
        assert_eq!(finished.status, 0, "{sql}\n{finished}\n{}", self.log_tail());
        finished.stdout.trim_end_matches('\n').to_owned()
    }

    /// As [`Cluster::psql_in`], for statements that may fail.
    pub(crate) fn try_psql(&self, database: &str, sql: &str) -> Finished {
        let mut command = self.client("psql");
        command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("psql can be started");
        let mut input = child.stdin.take().expect("stdin is a pipe");
        // A psql that has failed already no longer reads; its status tells.
        let _ = std::io::Write::write_all(&mut input, sql.as_bytes());
        drop(input);
        Finished::of(&command, &child.wait_with_output().expect("psql can be waited for"))
    }

    /// The rows of `sql`, each a list of fields; values must not contain `|` or line breaks.
    #[track_caller]
    pub(crate) fn sql_rows(&self, sql: &str) -> Vec<Vec<String>> {
        let output = self.psql(sql);
        output.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
    }

    /// A client program of Debian's PostgreSQL 15, set up for this server.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command = ServerUser::get().command(client_program(program));
        command.envs(self.connection()).current_dir(self.scratch.path());
        command
    }

    /// libpq's variables for this server, through its unix socket.
    pub(crate) fn connection(&self) -> Environment {
        let sockets = self.sockets.to_str().expect("temporary directories have plain names");
        let port = self.port.to_string();
        let pairs = [("PGHOST", sockets), ("PGPORT", &port), ("PGUSER", "postgres")];
        let pairs = pairs.into_iter().chain([("PGDATABASE", "postgres")]);
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Runs `walrs ARGUMENTS` to its end as the server's user; see [`Cluster::walrs_command`].
    pub(crate) fn walrs(&self, arguments: &[&str]) -> Finished {
        Finished::run(&mut self.walrs_command(arguments))
    }

    /// `walrs ARGUMENTS` with nothing in its environment but the cluster's own variables, `PGDATA` and the connection.
    pub(crate) fn walrs_command(&self, arguments: &[&str]) -> Command {
        let mut command = ServerUser::get().command(walrs_binary());
        command.envs(&self.environment).envs(self.connection()).env("PGDATA", &self.data);
        command.current_dir(self.scratch.path()).args(arguments);
        command
    }

    /// Creates a tablespace in a directory of its own, which is returned.
    pub(crate) fn create_tablespace(&self, name: &str) -> PathBuf {
        let data = self.data.file_name().expect("the data directory has a name");
        let directory = format!("{}-tablespace-{name}", data.to_string_lossy());
        let location = self.scratch.create_directory(directory);
        self.psql(&format!("create tablespace {name} location '{}'", location.display()));
        location
    }

    /// The cluster's system identifier, from the server.
    pub(crate) fn system_identifier(&self) -> String {
        self.psql("select system_identifier from pg_control_system()")
    }

    /// The present end of WAL.
    pub(crate) fn current_lsn(&self) -> String {
        self.psql("select pg_current_wal_insert_lsn()")
    }

    /// Ends the current segment, which is never empty, and returns its name.
    pub(crate) fn switch_wal(&self) -> String {
        let sql = "select pg_logical_emit_message(false, 'walrs', 'switch') \\g /dev/null\n\
                   select pg_walfile_name(pg_switch_wal())";
        self.psql(sql)
    }

    /// Waits until the server has been told that `file` (of `pg_wal`) is archived.
    pub(crate) fn wait_archived(&self, file: &str) {
        let wal = self.data.join("pg_wal");
        let status = |suffix| wal.join(format!("archive_status/{file}.{suffix}")).exists();
        // A segment that was recycled after its archiving has neither.
        wait_until(&format!("`{file}` is archived"), || {
            !status("ready") && (status("done") || !wal.join(file).exists())
        });
    }

    /// Ends the current segment and waits until it is archived.
    pub(crate) fn archive_all(&self) -> String {
        let segment = self.switch_wal();
        self.wait_archived(&segment);
        segment
    }

    /// Everything the server has written to its log.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(60)..].join("\n");
        format!("--- end of the log of {}\n{tail}", self.data.display())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop(Stop::Immediate);
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
    listener.local_addr().expect("a bound socket has an address").port()
}

fn port_was_taken(log: &str) -> bool {
    let tail = log.lines().rev().take(20).collect::<Vec<_>>().join("\n");
    tail.contains("Address already in use") || tail.contains("could not create any TCP/IP sockets")
}
