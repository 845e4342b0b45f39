//! The server and the data directory that are backed up: they must belong together, and to an archive.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tracing::{debug, warn};

use crate::error::{Error, Result};
use crate::postgres::{ConnectionSettings, ControlFile, POSTMASTER_PID, Session, TimelineId};
use crate::task;

/// A connected server whose data directory is at hand.
#[derive(Debug)]
pub struct Source {
    pub(super) session: Session,
    pub(super) pgdata: PathBuf,
    /// `pg_control` as it was before the backup was announced.
    pub(super) control: ControlFile,
    pub(super) role: Role,
}

/// What a server is at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) in_recovery: bool,
    pub(super) timeline: TimelineId,
}

impl Source {
    /// Connects to the server of `pgdata`.
    ///
    /// Refused when it serves another data directory or archives nothing (B1).
    pub async fn connect(pgdata: &Path, settings: &ConnectionSettings) -> Result<Self> {
        let control = read_control(pgdata).await?;
        let session = Session::connect(settings).await?;
        compare_cluster(&session, pgdata, &control).await?;
        compare_directory(&session, pgdata).await?;
        let role = Role::of(&session).await?;
        require_archiving(&session, role).await?;
        Ok(Self { session, pgdata: pgdata.to_owned(), control, role })
    }

    /// `pg_control` when the source was found.
    pub fn control(&self) -> &ControlFile {
        &self.control
    }

    /// Reads `pg_control` again: its checkpoint may have moved on.
    pub(super) async fn refresh(&mut self) -> Result<()> {
        self.control = read_control(&self.pgdata).await?;
        Ok(())
    }
}

impl Role {
    /// The server's role now.
    pub(super) async fn of(session: &Session) -> Result<Self> {
        let (in_recovery, timeline) = (session.in_recovery().await?, session.timeline().await?);
        Ok(Self { in_recovery, timeline })
    }
}

async fn read_control(pgdata: &Path) -> Result<ControlFile> {
    let pgdata = pgdata.to_owned();
    task::blocking(move || ControlFile::read(&pgdata)).await
}

/// C1
async fn compare_cluster(session: &Session, pgdata: &Path, control: &ControlFile) -> Result<()> {
    let (own, served) = (control.system_identifier, session.system_identifier().await?);
    if own == served {
        return Ok(());
    }
    let what = format!("the server is not the one of the data directory `{}`", pgdata.display());
    Err(Error::refused(what)
        .because(format!("its system identifier is `{served}`, that of the directory is `{own}`"))
        .hint("check `pgdata`, and `PGHOST` and `PGPORT` (or `postgres.*`)"))
}

/// A cluster and its standby on one host have the same identifier: the directory must be the very one.
async fn compare_directory(session: &Session, pgdata: &Path) -> Result<()> {
    let served = session.data_directory().await;
    let served = served.map_err(|error| {
        error.hint("connect as a superuser, or grant the role `pg_read_all_settings`")
    })?;
    let is_same = match (tokio::fs::metadata(&served).await, tokio::fs::metadata(pgdata).await) {
        (Ok(served), Ok(own)) => (served.dev(), served.ino()) == (own.dev(), own.ino()),
        // In a container the server's path may mean nothing here.
        _ => is_of_this_start(session, pgdata).await?,
    };
    if is_same {
        return Ok(());
    }
    let what = format!("the server does not serve the data directory `{}`", pgdata.display());
    Err(Error::refused(what)
        .because(format!("its data directory is `{}`", served.display()))
        .hint("check `pgdata`, and `PGHOST` and `PGPORT` (or `postgres.*`)"))
}

/// Whether `postmaster.pid` was written when this server started.
///
/// Source: `LOCK_FILE_LINE_START_TIME` in `utils/pidfile.h`.
async fn is_of_this_start(session: &Session, pgdata: &Path) -> Result<bool> {
    const START_TIME_LINE: usize = 2;
    const TOLERANCE_SECONDS: i64 = 5;
    let path = pgdata.join(POSTMASTER_PID);
    let Ok(content) = tokio::fs::read_to_string(&path).await else { return Ok(false) };
    let written = content.lines().nth(START_TIME_LINE).and_then(|line| line.trim().parse().ok());
    let Some(written): Option<i64> = written else { return Ok(false) };
    let started = session.postmaster_start_time().await?.as_second();
    debug!(written, started, "the server's data directory has another path here");
    Ok((written - started).abs() <= TOLERANCE_SECONDS)
}

/// B1
async fn require_archiving(session: &Session, role: Role) -> Result<()> {
    if session.setting("archive_mode").await?.as_deref() != Some("off") {
        return Ok(());
    }
    if role.in_recovery {
        // The primary archives; whether it does is seen when the backup's WAL arrives.
        warn!("archive_mode is off on this standby: promoted, it would archive nothing");
        return Ok(());
    }
    Err(Error::refused("the server archives no WAL, and no backup can be restored without it")
        .because("`archive_mode` is `off`")
        .hint("set `archive_mode = on` and `archive_command = 'walrs wal-push %p'`, restart the server"))
}
