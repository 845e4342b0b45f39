//! F8: what lies past the point in which recovery leaves a timeline is never replayed.
//!
//! Where the new timeline has a history but no segment yet, PostgreSQL would go on with the segment of the old one,
//! and so replay what a first recovery had undone (seen on 15).

use std::fmt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::postgres::{
    HistoryName, Lsn, SegmentName, SegmentNumber, SegmentSize, TimelineHistory, TimelineId,
};

const WAL_DIRECTORY: &str = "pg_wal";

/// The branch that a segment lies on, as seen from the timeline that recovery follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Branch {
    followed: TimelineId,
    left_at: Lsn,
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this recovery follows timeline {}, which left at {}",
            self.followed, self.left_at
        )
    }
}

/// The abandoned branch that `segment` lies on, if the history that PostgreSQL put into `pg_wal` says so.
pub(super) fn branch_of(segment: SegmentName, size: SegmentSize) -> Result<Option<Branch>> {
    let Some(history) = followed_history(Path::new(WAL_DIRECTORY))? else { return Ok(None) };
    let Some(left_at) = history.switch_point(segment.timeline()) else { return Ok(None) };
    let abandoned = segment.number(size) >= SegmentNumber::containing(left_at, size);
    Ok(abandoned.then_some(Branch { followed: history.timeline(), left_at }))
}

/// The history of the timeline that recovery follows: the highest one in `pg_wal`.
///
/// PostgreSQL also puts the histories between the backup's timeline and its target there, for its own standbys
/// (`restoreTimeLineHistoryFiles`), ancestors or not; none of them is above the target.
fn followed_history(directory: &Path) -> Result<Option<TimelineHistory>> {
    let unreadable = |error| Error::io(format!("cannot read `{}`", directory.display()), error);
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(unreadable)?,
    };
    let mut highest = None;
    for entry in entries {
        let name = entry.map_err(unreadable)?.file_name();
        let Some(Ok(HistoryName(timeline))) = name.to_str().map(str::parse) else { continue };
        highest = highest.max(Some(timeline));
    }
    highest.map(|timeline| read_history(directory, timeline)).transpose()
}

fn read_history(directory: &Path, timeline: TimelineId) -> Result<TimelineHistory> {
    let path = directory.join(HistoryName(timeline).to_string());
    let what = || format!("cannot read `{}`", path.display());
    let content = std::fs::read(&path).map_err(|error| Error::io(what(), error))?;
    TimelineHistory::parse(timeline, &content)
        .map_err(|defect| Error::damaged(what()).because(defect))
}
