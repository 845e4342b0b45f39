//! One running `postgres` process: started directly, watched through `postmaster.pid`, ended by its own id.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a start, a stop or a promotion may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// How a server is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Disconnects clients, writes a shutdown checkpoint.
    Fast,
    /// Ends at once; the next start recovers.
    Immediate,
    /// SIGKILL to the postmaster alone; its children notice and end.
    Kill,
}

/// A started postmaster.
#[derive(Debug)]
pub(crate) struct Postmaster {
    child: Child,
    data: PathBuf,
}

impl Postmaster {
    /// Starts `command` (a `postgres -D data …`), its output appended to `log`.
    pub(crate) fn start(mut command: Command, data: &Path, log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).expect("the log is ours");
        let errors = log.try_clone().expect("a descriptor can be duplicated");
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, data: data.to_owned() }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, once the process has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the postmaster is our child")
    }

    /// Whether this very process accepts connections (line 8 of `postmaster.pid`).
    pub(crate) fn is_ready(&self) -> bool {
        let Ok(content) = fs::read_to_string(self.data.join("postmaster.pid")) else {
            return false;
        };
        let lines: Vec<&str> = content.lines().map(str::trim).collect();
        lines.first() == Some(&self.pid().to_string().as_str()) && lines.get(7) == Some(&"ready")
    }

    /// Stops the server and waits until all its processes are gone.
    pub(crate) fn stop(mut self, how: Stop) -> ExitStatus {
        let children = children_of(self.pid());
        self.signal(match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
            Stop::Kill => Signal::KILL,
        });
        let status = self.wait(PATIENCE).unwrap_or_else(|| self.kill_hung());
        wait_until("the server's processes end", || children.iter().all(|child| !child.lives()));
        status
    }

    /// Waits for the end of the process without asking for it.
    pub(crate) fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn kill_hung(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.child.wait().expect("the postmaster is our child")
    }

    fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            // Not reaped yet, so the id cannot belong to another process.
            send(self.pid(), signal);
        }
    }
}

/// Sends `signal` to a process that the test started; one that is gone already is fine.
pub(crate) fn send(process: u32, signal: Signal) {
    let pid = Pid::from_raw(process.cast_signed()).expect("a process id is positive");
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("cannot signal process {process}: {error}"),
    }
}

/// Polls `condition` until it holds; panics after [`PATIENCE`].
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {}s in vain until {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process told from a later one with the same id by its start time.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    id: u32,
    started: String,
}

impl Process {
    fn lives(&self) -> bool {
        status_of(self.id)
            .is_some_and(|(_, state, started)| state != "Z" && started == self.started)
    }
}

fn children_of(parent: u32) -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("Linux has /proc");
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter_map(|id: u32| {
        let (its_parent, _, started) = status_of(id)?;
        (its_parent == parent).then_some(Process { id, started })
    })
    .collect()
}

/// Parent, state and start time of a process. Source: proc(5), `/proc/pid/stat`.
fn status_of(id: u32) -> Option<(u32, String, String)> {
    let line = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The second field, the program's name, may hold blanks and parentheses.
    let fields: Vec<&str> = line.rsplit_once(") ")?.1.split(' ').collect();
    Some((fields.get(1)?.parse().ok()?, fields.first()?.to_string(), fields.get(19)?.to_string()))
}
