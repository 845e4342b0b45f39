//! Running `encryption.key_command` so that nothing of it outlives walrs (P1).
//!
//! With postgres as PID 1, an orphan that is killed or fails makes the server restart all backends. So walrs adopts what
//! the command leaves behind, and kills and reaps all of it before it goes on, also when its own deadline passes.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process_group, set_child_subreaper, waitpgid,
};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use crate::container::parse_key;
use crate::error::{Error, Result};
use crate::secret::Secret;

/// How long a key command may take.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);
/// A key takes 45 bytes; more than this is no key.
const OUTPUT_BYTES: u64 = 4096;

/// Runs `command` with `/bin/sh` and reads the key that it prints.
///
/// Dropping the future kills the command and everything it started, and waits until they are gone.
pub(super) async fn run(command: &str) -> Result<Secret<[u8; 32]>> {
    let mut running = Running::start(command)?;
    let status = running.ended().await?;
    if !status.success() {
        return Err(failed().because(format!("it ended with {status}")));
    }
    let printed = running.output()?;
    parse_key(&printed).map_err(|error| error.context("`encryption.key_command` printed no key"))
}

fn failed() -> Error {
    Error::unavailable("`encryption.key_command` failed")
}

/// A shell in a process group of its own.
struct Running {
    child: Child,
    group: Pid,
}

impl Running {
    fn start(command: &str) -> Result<Self> {
        set_child_subreaper(Some(getpid())).map_err(|errno| failed().because(errno))?;
        let child = Command::new("/bin/sh")
            .args(["-c", command])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| failed().because(error))?;
        let group = Pid::from_child(&child);
        Ok(Self { child, group })
    }

    async fn ended(&mut self) -> Result<ExitStatus> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().map_err(|error| failed().because(error))? {
                return Ok(status);
            }
            if began.elapsed() > PATIENCE {
                return Err(
                    failed().because(format!("it took longer than {} s", PATIENCE.as_secs()))
                );
            }
            sleep(LOOK).await;
        }
    }

    /// What was printed. The writers are gone, so the pipe has an end.
    fn output(&mut self) -> Result<Zeroizing<Vec<u8>>> {
        self.end_all();
        let mut printed = Zeroizing::new(Vec::with_capacity(OUTPUT_BYTES as usize));
        let pipe = self.child.stdout.take().expect("standard output is piped");
        pipe.take(OUTPUT_BYTES)
            .read_to_end(&mut printed)
            .map_err(|error| failed().because(error))?;
        Ok(printed)
    }

    /// Kills what is left of the group and reaps it; what is not there any more is no failure.
    fn end_all(&mut self) {
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
        while let Ok(Some(_)) = waitpgid(self.group, WaitOptions::empty()) {}
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end_all();
    }
}
