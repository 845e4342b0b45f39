//! The WAL without which a backup cannot be restored, and waiting until the repository holds all of it (B5).

use std::time::{Duration, Instant};

use tracing::info;

use super::source::Role;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::postgres::{HistoryName, Lsn, SegmentName, Session, TimelineId};
use crate::repository::{WalArchive, WalRange};

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A wait this short needs no words: the archiver takes a moment for every segment.
const TELL_AFTER: Duration = Duration::from_secs(5);
/// What is said of archiving while a backup waits for it.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Where a backup begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) start_timeline: TimelineId,
    pub(super) start: Lsn,
    /// The server's timeline when the backup was stopped.
    pub(super) timeline: TimelineId,
    pub(super) stop: Lsn,
}

/// The WAL of a backup, once it is all there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NeededWal {
    pub(super) first_segment: SegmentName,
    pub(super) last_segment: SegmentName,
}

impl NeededWal {
    /// The timeline that holds the stop location; that of the segment, when the line was left within it.
    pub(super) fn timeline(&self) -> TimelineId {
        self.last_segment.timeline()
    }
}

/// What the repository lacks.
#[derive(Debug, PartialEq, Eq)]
enum Missing {
    History(HistoryName),
    Segment(SegmentName),
}

/// Waits until the repository holds every segment from start to stop, but not longer than `patience`.
pub(super) async fn wait_for_wal(
    archive: &WalArchive,
    session: &Session,
    role: Role,
    ends: Ends,
    patience: Duration,
) -> Result<NeededWal> {
    let size = archive.segment_size();
    let range = WalRange::holding(ends.start, ends.stop, size);
    let deadline = Deadline::after(patience);
    let (mut pause, mut tell_at) = (SHORTEST_PAUSE, Instant::now() + TELL_AFTER);
    loop {
        let missing = match look(archive, ends, range).await? {
            Ok(needed) => return Ok(needed),
            Err(missing) => missing,
        };
        if !deadline.allows(pause) {
            return Err(never_came(&missing, session, role).await);
        }
        if Instant::now() >= tell_at {
            let why = why_not(&missing, session, role).await.map(|why| format!(": {why}"));
            let why = why.unwrap_or_default();
            info!("waiting until {missing} is archived{why}{}", how_to_hurry(role));
            tell_at = Instant::now() + TELL_EVERY;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

async fn look(
    archive: &WalArchive,
    ends: Ends,
    range: WalRange,
) -> Result<Result<NeededWal, Missing>> {
    let line = archive.line(ends.timeline).await?;
    if line.timeline_of(ends.start) != ends.start_timeline {
        return Ok(Err(Missing::History(HistoryName(ends.timeline))));
    }
    if let Some(segment) = archive.first_missing(&line, range).await? {
        return Ok(Err(Missing::Segment(segment)));
    }
    let size = archive.segment_size();
    let last = archive.on_line(&line, range.last);
    Ok(Ok(NeededWal {
        first_segment: SegmentName::containing(ends.start, ends.start_timeline, size),
        last_segment: last.expect("the segment of a position exists"),
    }))
}

async fn never_came(missing: &Missing, session: &Session, role: Role) -> Error {
    let error = Error::unavailable(format!("{missing} did not arrive in the repository in time"));
    let error = match why_not(missing, session, role).await {
        Some(why) => error.because(why),
        None => error,
    };
    error.hint(format!(
        "look for the archiver's messages in the server's log{}; `backup.wal_timeout` bounds the wait",
        how_to_hurry(role)
    ))
}

/// What the server's archiver says of a missing file; on a standby another server archives it.
async fn why_not(missing: &Missing, session: &Session, role: Role) -> Option<String> {
    if role.in_recovery {
        return None;
    }
    let statistics = session.archiver_statistics().await.ok()?;
    let archived = statistics.last_archived.as_ref();
    match (statistics.last_failed, archived) {
        (Some(failed), archived) if archived.is_none_or(|file| file.time < failed.time) => {
            let (name, time) = (failed.name, failed.time);
            Some(format!("archiving of `{name}` failed at {time}, the server's log says why"))
        }
        (_, Some(file)) if missing.is_covered_by(&file.name) => Some(format!(
            "the server has archived `{}`, but not into this repository; compare its `archive_command`",
            file.name
        )),
        _ => None,
    }
}

fn how_to_hurry(role: Role) -> &'static str {
    if role.in_recovery { "; `select pg_switch_wal()` on the primary hurries it" } else { "" }
}

impl Missing {
    /// Whether a server that has archived `file` must have archived this before: names of one timeline go up.
    fn is_covered_by(&self, file: &str) -> bool {
        const TIMELINE_DIGITS: usize = 8;
        let Self::Segment(segment) = self else { return false };
        let segment = segment.to_string();
        file.get(..TIMELINE_DIGITS) == segment.get(..TIMELINE_DIGITS) && *file >= *segment
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::History(name) => write!(f, "`{name}`"),
            Self::Segment(name) => write!(f, "`{name}`"),
        }
    }
}
