//! `postmaster.pid`: whether a server runs in a data directory.

use std::io::ErrorKind as IoErrorKind;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::error::{Error, Result};

/// The lock file of a running server.
pub const POSTMASTER_PID: &str = "postmaster.pid";

/// What `postmaster.pid` says.
///
/// Source: `LOCK_FILE_LINE_*` in `utils/pidfile.h`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostmasterPid {
    process: Option<Pid>,
}

impl PostmasterPid {
    /// Reads the lock file of `pgdata`; `None` when there is none.
    pub fn read(pgdata: &Path) -> Result<Option<Self>> {
        let path = pgdata.join(POSTMASTER_PID);
        match std::fs::read(&path) {
            Ok(content) => Ok(Some(Self::parse(&content))),
            Err(error) if error.kind() == IoErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("cannot read `{}`", path.display()), error)),
        }
    }

    /// Reads the content of the file; only its first line matters, and a server that starts may not have written it.
    pub fn parse(content: &[u8]) -> Self {
        let line = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let number =
            std::str::from_utf8(line).ok().and_then(|line| line.trim().parse::<i32>().ok());
        // A stand-alone backend writes its number negated.
        let number = number.and_then(i32::checked_abs);
        Self { process: number.and_then(Pid::from_raw) }
    }

    /// The process that runs the server (or the stand-alone backend), as seen in its own process namespace.
    pub fn process(&self) -> Option<u32> {
        self.process.map(|process| process.as_raw_nonzero().get().unsigned_abs())
    }

    /// Whether a process of that number lives, be it of another user.
    ///
    /// `false` may be wrong for a server in another process namespace, `true` when the number was given anew. A
    /// file without a number counts as a server that is starting.
    pub fn is_alive(&self) -> bool {
        match self.process {
            None => true,
            Some(process) => test_kill_process(process) != Err(Errno::SRCH),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_process() {
        let process = |text: &str| PostmasterPid::parse(text.as_bytes()).process();
        assert_eq!(process("4711\n/srv/pg\n1763632761\n5432\n"), Some(4711));
        assert_eq!(process("-4711\n/srv/pg\n"), Some(4711));
        assert_eq!(process(""), None);
        assert_eq!(process("x\n4711\n"), None);
    }

    #[test]
    fn a_live_process_is_told_from_a_dead_one() {
        let own = PostmasterPid::parse(std::process::id().to_string().as_bytes());
        assert!(own.is_alive());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = PostmasterPid::parse(child.id().to_string().as_bytes());
        child.wait().unwrap();
        assert!(!dead.is_alive());
    }

    #[test]
    fn a_directory_without_lock_file_has_no_server() {
        let pgdata = tempfile::tempdir().unwrap();
        assert_eq!(PostmasterPid::read(pgdata.path()).unwrap(), None);
    }
}
