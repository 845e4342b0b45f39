//! Who fills the window behind a segment that this process delivers: a helper that runs or can be started, or this
//! process.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::OFlags;

use super::pace::Waited;
use super::process::Process;
use super::stock::Stock;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::postgres::{PostmasterPid, SegmentName, SystemIdentifier};
use crate::task;

/// The name of the pipe on the stock through which a helper hears of what recovery asks.
pub(super) const PIPE: &str = "asked";

/// What a helper says when it stays.
pub(super) const STAYS: &str = "filling";

/// How long a helper that was started may take to say whether it stays.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who fills the window.
#[derive(Debug)]
pub(in crate::wal) enum Host {
    /// A helper that runs and listens at the other end of the pipe.
    Helper(File),
    /// A helper that may be started.
    ToStart(Launch),
    /// This process.
    This,
}

/// What is needed to start a helper.
#[derive(Debug, Clone)]
pub(in crate::wal) struct Launch {
    postmaster: Process,
    pgdata: PathBuf,
    cluster: SystemIdentifier,
    pipe: PathBuf,
}

impl Host {
    /// Looks for a running helper, and else whether there may be one for the server of `pgdata`.
    pub(in crate::wal) fn find(stock: &Stock, pgdata: &Path, cluster: SystemIdentifier) -> Self {
        let pipe = stock.file(PIPE);
        if let Some(pipe) = listened_to(&pipe) {
            return Self::Helper(pipe);
        }
        match postmaster_of(pgdata) {
            Some(postmaster) => {
                Self::ToStart(Launch { postmaster, pgdata: pgdata.to_owned(), cluster, pipe })
            }
            None => Self::This,
        }
    }
}

impl Launch {
    /// Starts a helper and tells it of `segment`; false when none can stay. `options` are the command's own.
    ///
    /// A process in between starts the helper and ends, so that the helper has no parent of PostgreSQL's.
    pub(in crate::wal) fn start(
        &self,
        options: &[OsString],
        segment: SegmentName,
        waited: Waited,
    ) -> Result<bool> {
        let failed = |error| Error::io("cannot start the process that fetches ahead", error);
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(options).args(["wal-prefetch", "start"]).arg(&self.pgdata);
        command.args(["--postmaster".into(), self.postmaster.id.to_string()]);
        command.args(["--postmaster-started".into(), self.postmaster.started.to_string()]);
        command.args(["--system-identifier".into(), self.cluster.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut starter = command.spawn().map_err(failed)?;
        let answer = starter.stdout.take().expect("it is a pipe");
        let stays = task::in_time(Deadline::after(PATIENCE), move || {
            starter.wait().map_err(failed)?;
            let mut line = String::new();
            BufReader::new(answer).read_line(&mut line).map_err(failed)?;
            Ok(line.trim_end() == STAYS)
        })?;
        if let Some(pipe) = listened_to(&self.pipe).filter(|_| stays) {
            tell(&pipe, segment, waited)?;
        }
        Ok(stays)
    }
}

/// Tells a helper that recovery asks for `segment`, or has got it.
pub(in crate::wal) fn tell(mut pipe: &File, segment: SegmentName, waited: Waited) -> Result<()> {
    let waited = match waited {
        Waited::Yes => "waited",
        Waited::No => "ready",
    };
    // Shorter than PIPE_BUF, so it arrives whole or not at all.
    let line = format!("{segment} {waited}\n");
    pipe.write_all(line.as_bytes())
        .map_err(|error| Error::io("cannot tell the process that fetches ahead", error))
}

/// The pipe, when somebody reads from it.
fn listened_to(path: &Path) -> Option<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let pipe = File::options().write(true).custom_flags(flags).open(path).ok()?;
    pipe.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()).then_some(pipe)
}

/// The postmaster that this process descends from and under which a helper can live.
///
/// An orphan of a postmaster with number 1 would be its child (P1); where it has another number, the helper looks for
/// itself who its parent has become.
fn postmaster_of(pgdata: &Path) -> Option<Process> {
    let id = PostmasterPid::read(pgdata).ok()??.process()?;
    if id == 1 { None } else { Process::ancestor(id) }
}
