//! walrs run beside the test, held at a named point, or killed there.

use std::process::{Child, Command, Stdio};

use super::cluster::Cluster;
use super::paused::Paused;
use super::program::Finished;

/// The status of a process that was killed, as a shell says it.
const KILLED: i32 = 128 + 9;

/// A walrs process beside the test; killed when dropped.
#[derive(Debug)]
pub(crate) struct Beside {
    child: Option<Child>,
    command: Command,
}

impl Cluster {
    /// Runs `walrs ARGUMENTS` until it reaches `point` (see `src/step.rs`).
    #[track_caller]
    pub(crate) fn walrs_paused_at(&self, point: &str, arguments: &[&str]) -> Paused {
        Paused::at(point, self.walrs_command(arguments), self)
    }

    /// Runs `walrs ARGUMENTS`, killed at `point`.
    #[track_caller]
    pub(crate) fn walrs_killed_at(&self, point: &str, arguments: &[&str]) -> Finished {
        let mut command = self.walrs_command(arguments);
        command.env("WALRS_FAILPOINT", format!("{point}=kill"));
        Finished::run(&mut command).expect_status(KILLED)
    }

    /// Starts `walrs ARGUMENTS`.
    pub(crate) fn walrs_beside(&self, arguments: &[&str]) -> Beside {
        let mut command = self.walrs_command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("walrs can be started");
        Beside { child: Some(child), command }
    }
}

impl Beside {
    /// Whether the process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut().expect("not finished yet");
        child.try_wait().expect("walrs is our child").is_some()
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Finished {
        let child = self.child.take().expect("finished once");
        let output = child.wait_with_output().expect("walrs is our child");
        Finished::of(&self.command, &output)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
