//! The ancestors' last segments, which nobody archives after a promotion.
//!
//! What a standby received is marked as archived already, and the old primary may be gone before it archived it: until
//! the new timeline's history is stored, this server's `pg_wal` may be the only place that holds the end of the old one.

use std::collections::BTreeSet;
use std::path::Path;

use futures::TryStreamExt;

use super::Archiver;
use crate::error::{Error, Result};
use crate::postgres::{
    SegmentName, SegmentNumber, SegmentSize, TimelineHistory, TimelineId, WalFileName,
};
use crate::task;
use crate::wal::local_file::{CheckedFile, LocalFile};

impl Archiver {
    /// Stores what of its ancestors lies in `pg_wal` and not in the repository: their histories, and behind each of
    /// these (W12) the segments below its timeline's switch point in `history`.
    ///
    /// Every page header of such a segment is checked: nobody has vouched for its end.
    pub(super) async fn archive_ancestors(&self, history: &TimelineHistory) -> Result<()> {
        let (directory, size) = (self.directory.clone(), self.archive.segment_size());
        let line = history.clone();
        let mut lacking = task::blocking(move || segments_below(&directory, &line, size)).await?;
        self.remove_archived(&mut lacking).await?;
        for ancestor in history.ancestors().iter().map(|entry| entry.timeline) {
            if ancestor != TimelineId::FIRST && !self.archive_history_of_ancestor(ancestor).await? {
                continue;
            }
            for segment in lacking.iter().filter(|segment| segment.timeline() == ancestor) {
                self.archive_ancestor(*segment).await?;
            }
        }
        Ok(())
    }

    async fn archive_ancestor(&self, segment: SegmentName) -> Result<()> {
        let Some(file) = self.checked_throughout(segment).await? else { return Ok(()) };
        tracing::info!(%segment, "stored before the history of a later timeline");
        self.archive_one(&file).await
    }

    /// One listing for every timeline instead of a question for every segment.
    async fn remove_archived(&self, segments: &mut BTreeSet<SegmentName>) -> Result<()> {
        let mut next = segments.first().copied();
        while let Some(first) = next {
            let timeline = first.timeline();
            let mut archived =
                self.archive.segments(timeline, first.previous(self.archive.segment_size()));
            while let Some(segment) = archived.try_next().await? {
                segments.remove(&segment);
            }
            next = segments.iter().find(|segment| segment.timeline() > timeline).copied();
        }
        Ok(())
    }

    /// `None` when PostgreSQL has removed the file meanwhile.
    async fn checked_throughout(&self, segment: SegmentName) -> Result<Option<CheckedFile>> {
        let (directory, cluster) = (self.directory.clone(), self.archive.expected());
        let checked = task::blocking(move || {
            let found = LocalFile::find(&directory, WalFileName::Segment(segment))?;
            found.map(|file| file.check_every_page(segment, &cluster)).transpose()
        });
        checked.await.map_err(|error| {
            error.context(format!("the ancestor's segment `{segment}` must be archived first")).hint(
                "the new timeline needs it and the repository lacks it; if it is worthless, move it out of `pg_wal`",
            )
        })
    }
}

/// The complete segments of ancestors in `directory`.
fn segments_below(
    directory: &Path,
    history: &TimelineHistory,
    size: SegmentSize,
) -> Result<BTreeSet<SegmentName>> {
    let unreadable = |error| Error::io(format!("cannot read `{}`", directory.display()), error);
    let mut segments = BTreeSet::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let Some(Ok(segment)) = name.to_str().map(str::parse::<SegmentName>) else { continue };
        if is_below_switch(segment, history, size) {
            segments.insert(segment);
        }
    }
    Ok(segments)
}

/// Whether `segment` ends before its timeline was left: the one that holds the switch point lives on as a `.partial`
/// and in the first segment of the next timeline.
fn is_below_switch(segment: SegmentName, history: &TimelineHistory, size: SegmentSize) -> bool {
    let Some(switch) = history.switch_point(segment.timeline()) else { return false };
    segment.is_valid_for(size) && segment.number(size) < SegmentNumber::containing(switch, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_segments_of_ancestors_below_the_switch_count() {
        let history = TimelineHistory::parse(
            TimelineId::new(3).unwrap(),
            b"1\t0/5000028\tx\n2\t0/7000000\tx\n",
        )
        .unwrap();
        let below =
            |name: &str| is_below_switch(name.parse().unwrap(), &history, SegmentSize::DEFAULT);
        assert!(below("000000010000000000000004"));
        assert!(!below("000000010000000000000005"));
        assert!(below("000000020000000000000006"));
        assert!(!below("000000020000000000000007"));
        assert!(!below("000000030000000000000004"));
        assert!(!below("000000040000000000000004"));
    }
}
