//! A walrs process that stops at a fail point until it is let go.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::cluster::Cluster;
use super::postmaster::wait_until;
use super::program::Finished;

/// A process waiting at a fail point.
pub(crate) struct Paused {
    child: Child,
    command: Command,
    file: PathBuf,
}

impl Paused {
    /// Starts `command` and waits until it has reached `point`.
    pub(crate) fn at(point: &str, mut command: Command, cluster: &Cluster) -> Self {
        let file = cluster.scratch().join("paused");
        command.env("WALRS_FAILPOINT", format!("{point}=pause:{}", file.display()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("walrs can be started");
        wait_until(&format!("walrs reaches {point}"), || {
            let ended = child.try_wait().expect("walrs is our child");
            assert!(ended.is_none(), "walrs ended before {point}: {ended:?}");
            file.exists()
        });
        Self { child, command, file }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has used so far, in bytes. Source: proc(5), `VmHWM`.
    pub(crate) fn peak_memory_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes * 1024
    }

    /// Lets it go on, and waits for its end.
    pub(crate) fn resume(self) -> Finished {
        fs::remove_file(&self.file).expect("it made the file");
        self.end()
    }

    /// Waits for its end without letting it go on: something else has ended it.
    pub(crate) fn end(self) -> Finished {
        Finished::of(&self.command, &self.child.wait_with_output().expect("walrs is our child"))
    }
}
