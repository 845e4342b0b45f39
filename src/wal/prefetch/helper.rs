//! The helper: a process of its own that fills the window while recovery replays.
//!
//! It must never be a child of the postmaster (P1), hold nothing of the server's, and end by itself.

use std::fs::File;
use std::future::Future;
use std::io::ErrorKind as IoErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open, setsid};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep};

use super::descriptors;
use super::filler::{Aim, Filler};
use super::host::{PIPE, STAYS};
use super::pace::{Limit, Pace, Waited};
use super::process::Process;
use super::stock::Stock;
use crate::error::{Error, Result};
use crate::postgres::{PostmasterPid, SegmentName, SystemIdentifier};
use crate::repository::{Repository, Site, WalArchive};
use crate::task;
use crate::wal::spool::{Binding, Meant};

/// How long the identity of the repository is relied upon.
const REOPEN_AFTER: Duration = Duration::from_mins(5);

/// How long the process that started the helper may take to end.
const ORPHANED_WITHIN: Duration = Duration::from_secs(2);

/// For whom a helper fills a window.
#[derive(Debug)]
pub struct Prefetch {
    /// The data directory.
    pub pgdata: PathBuf,
    /// The cluster whose WAL it is.
    pub cluster: SystemIdentifier,
    /// The server's first process, and when it started.
    pub postmaster: (u32, u64),
    /// How long without a question until the helper ends.
    pub idle: Duration,
}

impl Prefetch {
    /// Starts `helper`, the same command in its other role, and leaves it alone.
    pub fn start_helper(mut helper: Command) -> Result<()> {
        let failed = |error| Error::io("cannot start the process that fetches ahead", error);
        descriptors::keep_from_children().map_err(failed)?;
        helper.stdin(Stdio::null()).stderr(Stdio::null());
        helper.spawn().map(drop).map_err(failed)
    }
}

/// A helper that may stay.
pub struct Helper {
    site: Site,
    stock: Stock,
    cluster: SystemIdentifier,
    postmaster: OwnedFd,
    idle: Duration,
    /// Held as long as the helper lives: there is one for every stock.
    _lock: File,
}

/// Detaches this process and decides whether it may stay; `None` when not. Blocking, and quick.
pub fn be_helper(prefetch: &Prefetch, started_by: u32, meant: Meant<'_>) -> Result<Option<Helper>> {
    let failed = |error: rustix::io::Errno| Error::io("cannot detach", error.into());
    setsid().map_err(failed)?;
    let Some(postmaster) = living(prefetch.postmaster) else { return Ok(None) };
    if !is_orphan_of_nobody(&prefetch.pgdata, started_by)? {
        return Ok(None);
    }
    let site = Site::locate(&prefetch.pgdata, meant.settings.spool.as_deref())?;
    let binding = Binding::by_witness(&site, meant, prefetch.cluster)?;
    let Some(stock) = binding.and_then(|binding| Stock::of(&site, &binding)) else {
        return Ok(None);
    };
    stock.prepare(&site)?;
    let lock = File::options().create(true).truncate(false).write(true).open(stock.file("lock"));
    let lock = lock.map_err(|error| stock.failed("lock", error))?;
    match lock.try_lock() {
        Ok(()) => {}
        // Another helper is there already, which is as good.
        Err(_) => return say_that_one_stays().map(|()| None),
    }
    let (cluster, idle) = (prefetch.cluster, prefetch.idle);
    Ok(Some(Helper { site, stock, cluster, postmaster, idle, _lock: lock }))
}

/// A handle on the process, if it is still the same one.
fn living((id, started): (u32, u64)) -> Option<OwnedFd> {
    let handle = pidfd_open(Pid::from_raw(id.cast_signed())?, PidfdFlags::NONBLOCK).ok()?;
    // Looked at after the handle was taken, so the handle is on the process that is looked at.
    (Process::of(id) == Some(Process { id, started })).then_some(handle)
}

/// Waits until the starter has ended; true when the new parent is not the postmaster (P1).
fn is_orphan_of_nobody(pgdata: &Path, started_by: u32) -> Result<bool> {
    let parent = || getppid().map(|parent| parent.as_raw_nonzero().get().cast_unsigned());
    let began = std::time::Instant::now();
    while parent() == Some(started_by) {
        if began.elapsed() > ORPHANED_WITHIN {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let Some(postmaster) = PostmasterPid::read(pgdata)? else { return Ok(false) };
    Ok(postmaster.process().is_some_and(|postmaster| parent() != Some(postmaster)))
}

/// Answers whoever started the helper, and lets go of the pipe to it.
fn say_that_one_stays() -> Result<()> {
    let failed = |error: std::io::Error| Error::io("cannot answer", error);
    let out = rustix::stdio::stdout();
    rustix::io::retry_on_intr(|| rustix::io::write(out, format!("{STAYS}\n").as_bytes()))
        .map_err(|error| failed(error.into()))?;
    let nowhere = File::options().write(true).open("/dev/null").map_err(failed)?;
    rustix::stdio::dup2_stdout(&nowhere).map_err(|error| failed(error.into()))
}

/// Why a helper ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Idle,
    ServerGone,
}

impl Helper {
    /// The local places of the data directory.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Fills the window until nothing is asked any more or the server is gone.
    pub async fn serve(
        self,
        open: impl AsyncFn() -> Result<Repository>,
        meant: Meant<'_>,
    ) -> Result<()> {
        let failed = |error| Error::io("cannot watch the server", error);
        let mut questions = self.listen()?;
        let postmaster = self.postmaster.try_clone().map_err(failed)?;
        let mut server = pin!(task::unblock(move || wait_for_end(&postmaster)));
        say_that_one_stays()?;
        let Some(mut archive) = self.archive(&open, &mut server).await? else {
            return self.leave(End::ServerGone);
        };
        let mut opened = Instant::now();
        // Nothing of the data directory's file system is kept in use; every path from here on is absolute.
        rustix::process::chdir("/").map_err(|error| failed(error.into()))?;
        let Some(limit) = Limit::of(&meant.settings.wal, archive.segment_size()) else {
            return Ok(());
        };
        let mut filler = Filler::new(archive.clone(), self.stock.clone(), limit);
        let mut pace = Pace::default();
        let end = loop {
            tokio::select! {
                biased;
                () = &mut server => break End::ServerGone,
                line = questions.next_line() => {
                    let line = line.map_err(|error| self.stock.failed("listen in", error))?;
                    let Some((segment, waited)) = line.as_deref().and_then(parse) else { continue };
                    if opened.elapsed() > REOPEN_AFTER {
                        let again = self.archive(&open, &mut server).await?;
                        let Some(again) = again else { break End::ServerGone };
                        (archive, opened) = (again, Instant::now());
                        filler.reopened(archive.clone());
                    }
                    let segments = pace.asked(segment, waited, limit);
                    filler.aim(Aim { behind: segment, segments }).await?;
                }
                stepped = filler.step(), if filler.is_busy() => stepped?,
                () = sleep(self.idle), if !filler.is_busy() => break End::Idle,
            }
        };
        drop(filler);
        self.leave(end)
    }

    /// The archive; `None` when the server ended before the store answered.
    async fn archive(
        &self,
        open: &impl AsyncFn() -> Result<Repository>,
        server: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<Option<WalArchive>> {
        tokio::select! {
            biased;
            () = server => Ok(None),
            opened = open() => WalArchive::of(&opened?, self.cluster).map(Some),
        }
    }

    /// A pipe that stays open when a process that told something ends.
    fn listen(&self) -> Result<Lines<BufReader<pipe::Receiver>>> {
        let path = self.stock.file(PIPE);
        let failed = |error: std::io::Error| self.stock.failed("listen in", error);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != IoErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .map_err(|error| failed(error.into()))?;
        let receiver = pipe::OpenOptions::new().read_write(true).open_receiver(&path);
        Ok(BufReader::new(receiver.map_err(failed)?).lines())
    }

    /// What nobody will ask for is removed: a window must not outlive its recovery.
    fn leave(&self, end: End) -> Result<()> {
        let pgdata = self.site.pgdata();
        let signals = ["standby.signal", "recovery.signal"];
        let recovers = signals.iter().any(|signal| pgdata.join(signal).exists());
        if end == End::Idle && recovers { Ok(()) } else { self.stock.clear() }
    }
}

/// Blocks until the process is gone. A failure to watch counts as its end: no helper may outlive its server.
fn wait_for_end(process: &OwnedFd) {
    let mut watched = [PollFd::new(process, PollFlags::IN)];
    while poll(&mut watched, None) == Err(rustix::io::Errno::INTR) {}
}

fn parse(line: &str) -> Option<(SegmentName, Waited)> {
    let (segment, waited) = line.split_once(' ')?;
    let waited = match waited {
        "waited" => Waited::Yes,
        "ready" => Waited::No,
        _ => return None,
    };
    Some((segment.parse().ok()?, waited))
}
