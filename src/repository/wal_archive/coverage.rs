//! What of the WAL is there: contiguity along a line of timelines.

use futures::TryStreamExt;

use super::WalArchive;
use crate::error::Result;
use crate::postgres::{Lsn, SegmentName, SegmentNumber, SegmentSize, TimelineHistory, TimelineId};

/// A stretch of segments, both ends included, on whatever timelines a line holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalRange {
    /// The first segment.
    pub first: SegmentNumber,
    /// The last segment, not before the first.
    pub last: SegmentNumber,
}

/// The part of a line that one timeline holds.
struct Stretch {
    timeline: TimelineId,
    first: SegmentNumber,
    /// None on the newest timeline, which has no end.
    last: Option<SegmentNumber>,
}

impl WalRange {
    /// The segments that hold the bytes from `start` up to, not including, `end`.
    pub fn holding(start: Lsn, end: Lsn, size: SegmentSize) -> Self {
        let first = SegmentNumber::containing(start, size);
        let last = SegmentNumber::containing(Lsn::new(end.get().saturating_sub(1)), size);
        Self { first, last: last.max(first) }
    }
}

/// The segment `number` as the line `history` holds it.
///
/// The segment in which a line leaves a timeline belongs to the next one, whose copy of it begins with the same bytes;
/// this is also where PostgreSQL looks first (`XLogFileReadAnyTLI` in `access/transam/xlogrecovery.c`).
pub(super) fn on_line(
    history: &TimelineHistory,
    number: SegmentNumber,
    size: SegmentSize,
) -> Option<SegmentName> {
    let holder = stretches(history, size).into_iter().find(|stretch| stretch.holds(number))?;
    SegmentName::new(holder.timeline, number, size)
}

fn stretches(history: &TimelineHistory, size: SegmentSize) -> Vec<Stretch> {
    let mut stretches = Vec::new();
    let mut first = SegmentNumber::new(0);
    for ancestor in history.ancestors() {
        let next = SegmentNumber::containing(ancestor.switch_lsn, size);
        // A timeline that was left in the segment in which it began holds none.
        if let Some(last) = next.get().checked_sub(1).filter(|last| *last >= first.get()) {
            let last = Some(SegmentNumber::new(last));
            stretches.push(Stretch { timeline: ancestor.timeline, first, last });
        }
        first = next;
    }
    stretches.push(Stretch { timeline: history.timeline(), first, last: None });
    stretches
}

impl Stretch {
    fn holds(&self, number: SegmentNumber) -> bool {
        self.first <= number && self.last.is_none_or(|last| number <= last)
    }
}

impl WalArchive {
    /// The segment `number` as the line `history` holds it; `None` past the end of the log.
    pub fn on_line(&self, history: &TimelineHistory, number: SegmentNumber) -> Option<SegmentName> {
        on_line(history, number, self.segment_size)
    }

    /// The first segment of `range` that the repository lacks along the line `history`; `None` when it has them all.
    pub async fn first_missing(
        &self,
        history: &TimelineHistory,
        range: WalRange,
    ) -> Result<Option<SegmentName>> {
        let reached = self.contiguous_to(history, range.first, Some(range.last)).await?;
        let missing = match reached {
            Some(last) if last >= range.last => return Ok(None),
            Some(last) => SegmentNumber::new(last.get() + 1),
            None => range.first,
        };
        Ok(self.on_line(history, missing))
    }

    /// The last segment up to which the repository holds everything from `first` on along the line `history`;
    /// `None` when it lacks `first` itself.
    ///
    /// Segments beyond `limit` are not looked for.
    pub async fn contiguous_to(
        &self,
        history: &TimelineHistory,
        first: SegmentNumber,
        limit: Option<SegmentNumber>,
    ) -> Result<Option<SegmentNumber>> {
        let mut wanted = first;
        for stretch in stretches(history, self.segment_size) {
            if !stretch.holds(wanted) {
                continue;
            }
            let end = stretch.last.into_iter().chain(limit).min();
            wanted = self.walk(stretch.timeline, wanted, end).await?;
            if end.is_none_or(|end| wanted <= end) || end == limit {
                break;
            }
        }
        Ok(wanted.get().checked_sub(1).filter(|last| *last >= first.get()).map(SegmentNumber::new))
    }

    /// The first number from `wanted` on that `timeline` lacks, or the one after `end`.
    async fn walk(
        &self,
        timeline: TimelineId,
        mut wanted: SegmentNumber,
        end: Option<SegmentNumber>,
    ) -> Result<SegmentNumber> {
        let before = wanted.get().checked_sub(1).map(SegmentNumber::new);
        let after = before.and_then(|number| SegmentName::new(timeline, number, self.segment_size));
        let mut present = self.segments(timeline, after);
        while end.is_none_or(|end| wanted <= end) {
            match present.try_next().await? {
                Some(segment) if segment.number(self.segment_size) == wanted => {
                    wanted = SegmentNumber::new(wanted.get() + 1);
                }
                _ => break,
            }
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    fn history(timeline: u32, text: &str) -> TimelineHistory {
        TimelineHistory::parse(TimelineId::new(timeline).unwrap(), text.as_bytes()).unwrap()
    }

    fn held(history: &TimelineHistory, number: u64) -> String {
        on_line(history, SegmentNumber::new(number), SIZE).unwrap().to_string()
    }

    #[test]
    fn the_segment_of_a_fork_belongs_to_the_later_timeline() {
        let line = history(3, "1\t0/5000028\tx\n2\t0/7000000\tx\n");
        assert_eq!(held(&line, 4), "000000010000000000000004");
        assert_eq!(held(&line, 5), "000000020000000000000005");
        assert_eq!(held(&line, 6), "000000020000000000000006");
        assert_eq!(held(&line, 7), "000000030000000000000007");
        assert_eq!(held(&line, 300), "00000003000000010000002C");
    }

    #[test]
    fn a_timeline_left_in_the_segment_in_which_it_began_holds_nothing() {
        let line = history(3, "1\t0/5000028\tx\n2\t0/5000098\tx\n");
        assert_eq!(held(&line, 4), "000000010000000000000004");
        assert_eq!(held(&line, 5), "000000030000000000000005");
    }

    #[test]
    fn the_end_of_a_range_on_a_boundary_needs_nothing_of_the_next_segment() {
        let range = |start, end| {
            let range = WalRange::holding(Lsn::new(start), Lsn::new(end), SIZE);
            (range.first.get(), range.last.get())
        };
        assert_eq!(range(0x200_0028, 0x300_0000), (2, 2));
        assert_eq!(range(0x200_0028, 0x300_0001), (2, 3));
    }
}
