//! What a 404 means: the end of WAL, or a hole (F7, F5). Holes are told from the end by what lies behind them.

use std::fmt;

use super::abandoned::Branch;
use crate::error::{Error, Result};
use crate::postgres::{HistoryEntry, SegmentName, SegmentNumber, TimelineId, WalFileName};
use crate::repository::WalArchive;

/// Why a file that the repository does not hold is missing, not absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The timeline goes on behind it.
    Before(SegmentName),
    /// A later timeline came out of this one behind it.
    Left {
        /// The later timeline.
        by: TimelineId,
        /// Where its line left.
        entry: HistoryEntry,
    },
    /// The sweeper removed it.
    Swept(SegmentName),
    /// It lies on a branch that this recovery left.
    Abandoned(Branch),
    /// The history of a timeline that has WAL.
    HistoryOfUsed(TimelineId),
    /// The history of a timeline from which a later one came.
    HistoryOfAncestor(TimelineId),
}

impl Missing {
    /// Whether it may be there in a moment, because pushes land out of order.
    pub(super) fn may_be_filled(&self) -> bool {
        !matches!(self, Self::Swept(_) | Self::Abandoned(_))
    }

    /// The failure of a fetch that must not end recovery.
    pub(super) fn into_error(self, file: WalFileName) -> Error {
        let error = match self {
            Self::Swept(_) => Error::refused("it was removed by the retention policy"),
            Self::Abandoned(_) => Error::refused("it lies on an abandoned branch"),
            _ => Error::damaged("it is missing in the repository"),
        };
        error.because(self.to_string()).hint(self.hint(file))
    }

    fn hint(self, file: WalFileName) -> String {
        let end_here =
            format!("to end recovery here all the same, set `wal.allow_gap_at` to `{file}`");
        match self {
            Self::Swept(_) => format!("restore from a newer backup; {end_here}"),
            Self::Abandoned(_) => format!(
                "wait until the followed timeline archives its first segment, or set \
                 `recovery_target_timeline` to the one that is meant; {end_here}"
            ),
            _ => format!(
                "bring it back if it exists anywhere (the source's `pg_wal`, a standby); {end_here}"
            ),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before(found) => write!(f, "the repository holds WAL of `{found}`, behind it"),
            Self::Left { by, entry } => {
                write!(f, "timeline {by} left timeline {} at {}", entry.timeline, entry.switch_lsn)
            }
            Self::Swept(horizon) => write!(f, "the WAL below `{horizon}` was swept"),
            Self::Abandoned(branch) => branch.fmt(f),
            Self::HistoryOfUsed(timeline) => {
                write!(f, "the repository holds WAL of timeline {timeline}")
            }
            Self::HistoryOfAncestor(child) => {
                write!(f, "the history of timeline {child} names it as an ancestor")
            }
        }
    }
}

/// Why `file`, which the repository does not hold, should be there; `None` when nothing says that it should.
pub(super) async fn explain(archive: &WalArchive, file: WalFileName) -> Result<Option<Missing>> {
    match file {
        WalFileName::Segment(segment) => segment_missing(archive, segment).await,
        // PostgreSQL asks for the history of timeline 1, too, which never has one.
        WalFileName::History(timeline) if timeline != TimelineId::FIRST => {
            history_missing(archive, timeline).await
        }
        _ => Ok(None),
    }
}

async fn segment_missing(archive: &WalArchive, segment: SegmentName) -> Result<Option<Missing>> {
    let (horizon, behind, left) = tokio::try_join!(
        archive.horizon(segment.timeline()),
        archive.first_after(segment),
        left_later(archive, segment),
    )?;
    let swept = horizon.filter(|horizon| segment < *horizon).map(Missing::Swept);
    let missing = swept.or(behind.map(Missing::Before)).or(left);
    match missing {
        Some(_) if is_before_its_timeline(archive, segment).await? => Ok(None),
        other => Ok(other),
    }
}

/// A timeline that came out of the segment's one in a later segment.
async fn left_later(archive: &WalArchive, segment: SegmentName) -> Result<Option<Missing>> {
    let size = archive.segment_size();
    let later = |entry: &HistoryEntry| {
        SegmentNumber::containing(entry.switch_lsn, size) > segment.number(size)
    };
    let entry = child_of(archive, segment.timeline(), later).await?;
    Ok(entry.map(|(by, entry)| Missing::Left { by, entry }))
}

/// Whether the segment lies before the one in which its timeline began, as the timeline's history tells.
async fn is_before_its_timeline(archive: &WalArchive, segment: SegmentName) -> Result<bool> {
    if segment.timeline() == TimelineId::FIRST {
        return Ok(false);
    }
    let history = archive.history(segment.timeline()).await?;
    let begin = history.and_then(|history| history.begin_of(segment.timeline()));
    let size = archive.segment_size();
    Ok(begin.is_some_and(|begin| segment.number(size) < SegmentNumber::containing(begin, size)))
}

async fn history_missing(archive: &WalArchive, timeline: TimelineId) -> Result<Option<Missing>> {
    let (used, child) =
        tokio::try_join!(archive.has_wal_of(timeline), child_of(archive, timeline, |_| true))?;
    let used = used.then_some(Missing::HistoryOfUsed(timeline));
    Ok(used.or(child.map(|(child, _)| Missing::HistoryOfAncestor(child))))
}

/// Some later timeline whose line was on `timeline` and left it as `wanted` says.
async fn child_of(
    archive: &WalArchive,
    timeline: TimelineId,
    wanted: impl Fn(&HistoryEntry) -> bool,
) -> Result<Option<(TimelineId, HistoryEntry)>> {
    for child in archive.histories().await?.into_iter().filter(|child| *child > timeline) {
        let Some(history) = archive.history(child).await? else { continue };
        let entry = history.ancestors().iter().find(|entry| entry.timeline == timeline);
        if let Some(entry) = entry.filter(|entry| wanted(entry)) {
            return Ok(Some((child, *entry)));
        }
    }
    Ok(None)
}
