//! The steps of a backup, in the order that makes a killed one harmless. Nothing else is in this file.

use std::future::Future;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use tracing::{error, info, warn};

use super::Target;
use super::alive::Alive;
use super::announce::announce;
use super::assemble::Numbers;
use super::base::{Base, Scope, WhyFull};
use super::complete::{Taken, mark_permanent, put_manifest, require_stored};
use super::copy::{Copied, Copy, CopyEnd, Distrust, Identities, copy};
use super::host::Clocks;
use super::mark::Permanence;
use super::pages::PageChecks;
use super::source::{Role, Source};
use super::survey::{Survey, survey_of};
use super::wal_range::{Ends, NeededWal, wait_for_wal};
use super::walk::DataDirectory;
use crate::config::{BackupSettings, Rescan};
use crate::error::{Error, Result};
use crate::postgres::{BackupLabel, ControlFile, StartedBackup, StoppedBackup};
use crate::progress::Progress;
use crate::repository::{Manifest, Repository, WalArchive};
use crate::{step, task};

/// What the operator asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Free text in the catalogue.
    pub label: Option<String>,
    /// Whether retention may expire the backup.
    pub permanence: Permanence,
    /// Whether it may build on an earlier one.
    pub scope: Scope,
}

/// A backup that is complete.
#[derive(Debug)]
pub struct Pushed {
    /// Its manifest.
    pub manifest: Manifest,
    /// Why it stored everything; none for a delta.
    pub why_full: Option<WhyFull>,
}

/// How a backup is taken.
pub struct Options<'a> {
    /// `backup.*`.
    pub settings: &'a BackupSettings,
    /// Silence after which the sweeper counts this process as dead.
    pub lease: Duration,
    /// walrs's own directory, left out when it lies in the data directory.
    pub spool: Option<&'a Path>,
    /// Who watches.
    pub progress: &'a dyn Progress,
}

/// Takes a backup. When this returns, it is visible, and all the WAL that it needs is in the repository.
///
/// Dropping the future ends the backup on the server; what was stored stays invisible and is the sweeper's.
pub async fn push(
    mut source: Source,
    repository: &Repository,
    request: &Request,
    options: &Options<'_>,
) -> Result<Pushed> {
    let full_every = options.settings.full_every;
    let announced = announce(&mut source, repository, request.scope, full_every);
    let (target, base) = step("intent", announced).await?;
    info!(backup = %target.backup, "backup begun");
    let alive = Alive::begin(&target, options.lease);
    let taken = take(&source, &target, &base, request, options).await?;
    require_stored(&target, &taken.stored).await?;
    mark_permanent(&target, request.permanence).await?;
    let manifest = step("manifest", put_manifest(&target, taken.manifest())).await?;
    alive.end().await?;
    source.session.close().await;
    info!(backup = %target.backup, files = manifest.files, bytes = manifest.bytes, "backup complete");
    Ok(Pushed { manifest, why_full: base.parent.err() })
}

async fn take<'a>(
    source: &'a Source,
    target: &'a Target,
    base: &'a Base,
    request: &'a Request,
    options: &'a Options<'_>,
) -> Result<Taken<'a>> {
    let links = options.settings.links;
    let data = DataDirectory::new(source.pgdata.clone(), &source.control, links)?;
    let data = data.leave_out(options.spool);
    let (start_requested, clocks) = (Timestamp::now(), Clocks::now());
    let (start, survey) = step("start", start(source, &data)).await?;
    options.progress.begin("backup", survey.bytes);
    let instructions = instructions(source, target, base, data, start, options);
    let copied = while_connected(source, copy_truly(instructions, survey.bytes)).await;
    options.progress.end();
    let Copied { stored, uploads, control, identities } = copied?;
    let clock_was_set = Clocks::now().were_set_since(clocks);
    let identities = if clock_was_set { Identities::Refuted } else { identities };
    let stop = step("stop", while_connected(source, stop(source))).await?;
    let stop_time = Timestamp::now();
    let stored_bytes = uploads.finish().await?;
    step::reached("backup-push:last-pack");
    step::reached("backup-push:file-list");
    let ends = ends(source, start, &stop, &control)?;
    let wal = step("wait-for-wal", wait(source, target, ends, options)).await?;
    Ok(Taken {
        source,
        target,
        base,
        request,
        start_requested,
        stop_time,
        stop,
        ends,
        wal,
        stored,
        stored_bytes,
        control,
        identities,
    })
}

/// Starts the backup on the server, and looks meanwhile how much there is to copy.
async fn start(source: &Source, data: &DataDirectory) -> Result<(StartedBackup, Survey)> {
    let name = format!("walrs {}", Timestamp::now());
    let data = data.clone();
    let survey = task::blocking(move || survey_of(&data));
    let started = while_connected(source, source.session.start_backup(&name));
    tokio::try_join!(started, survey)
}

/// Copies; once more, and then reading every file, when what was taken over unread cannot be kept.
async fn copy_truly(mut instructions: Copy<'_>, bytes: u64) -> Result<Copied> {
    let mut identities = Identities::Trusted;
    loop {
        let (distrust, numbers) = match copy(instructions.clone()).await? {
            CopyEnd::Whole(copied) => return Ok(Copied { identities, ..*copied }),
            CopyEnd::Distrusted(distrust, numbers) => (distrust, numbers),
        };
        match distrust {
            Distrust::LyingFile(path) => {
                identities = Identities::Refuted;
                error!(
                    %path,
                    "a file changed while device, inode, size and times stayed: what was taken over \
                     unread cannot be trusted, every file is read; set `backup.rescan` to `always` \
                     until it is clear why"
                );
            }
            Distrust::DamagedPack => {
                warn!(
                    "an earlier backup is damaged: nothing is taken over unread, every file is read"
                );
            }
        }
        instructions.progress.end();
        instructions.progress.begin("backup", bytes);
        instructions.rescan = Rescan::Always;
        instructions.numbers = numbers;
    }
}

fn instructions<'a>(
    source: &'a Source,
    target: &Target,
    base: &'a Base,
    data: DataDirectory,
    start: StartedBackup,
    options: &Options<'a>,
) -> Copy<'a> {
    let settings = options.settings;
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Copy {
        target: target.clone(),
        data,
        checks: PageChecks::of(&source.control),
        start_lsn: start.lsn,
        session: &source.session,
        workers: settings.workers.map_or_else(cores, NonZeroUsize::get),
        uploads: settings.uploads.get(),
        rate_limit: settings.rate_limit,
        progress: options.progress,
        base,
        rescan: settings.rescan,
        numbers: Numbers::FIRST,
    }
}

/// B2: what the server promised between start and stop ends with the connection, so the work must end too.
async fn while_connected<T>(source: &Source, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        result = work => result,
        lost = source.session.lost() => Err(lost.context("the backup was interrupted")),
    }
}

/// B2: stops the backup of a server that is still what it was.
async fn stop(source: &Source) -> Result<StoppedBackup> {
    require_same_role(source).await?;
    let stopped = source.session.stop_backup().await?;
    require_same_role(source).await?;
    Ok(stopped)
}

async fn require_same_role(source: &Source) -> Result<()> {
    let (before, now) = (source.role, Role::of(&source.session).await?);
    if before == now {
        return Ok(());
    }
    let what = if before.in_recovery == now.in_recovery {
        format!("the server went from timeline {} to {}", before.timeline, now.timeline)
    } else {
        "the standby was promoted".to_owned()
    };
    Err(Error::unavailable(format!("{what} during the backup")).hint("take the backup again"))
}

/// On a standby the copied files may be ahead of what the stop call says.
fn ends(
    source: &Source,
    start: StartedBackup,
    stop: &StoppedBackup,
    copied: &ControlFile,
) -> Result<Ends> {
    let label = BackupLabel::parse(&stop.backup_label)?;
    if label.start != start.lsn {
        let (said, labelled) = (start.lsn, label.start);
        let what = format!("the backup began at `{said}`, its label says `{labelled}`");
        return Err(Error::unavailable(what).hint("take the backup again"));
    }
    let minimum = copied.min_recovery_point.filter(|_| source.role.in_recovery);
    Ok(Ends {
        start_timeline: label.timeline,
        start: label.start,
        timeline: source.role.timeline,
        stop: minimum.map_or(stop.lsn, |minimum| minimum.max(stop.lsn)),
    })
}

async fn wait(
    source: &Source,
    target: &Target,
    ends: Ends,
    options: &Options<'_>,
) -> Result<NeededWal> {
    let archive = WalArchive::of(&target.repository, target.cluster)?;
    let patience = options.settings.wal_timeout;
    wait_for_wal(&archive, &source.session, source.role, ends, patience).await
}

/// Does one of the steps at which tests kill the process, before and after.
async fn step<T>(name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    step::reached(&format!("backup-push:before-{name}"));
    let result = work.await?;
    step::reached(&format!("backup-push:{name}"));
    Ok(result)
}
