//! How many segments ahead: more while PostgreSQL waits, fewer while it does not. Pure.

use serde::{Deserialize, Serialize};

use crate::config::WalSettings;
use crate::postgres::{SegmentName, SegmentSize};

/// The window of a recovery that has just begun, in segments.
const FIRST_WINDOW: u32 = 2;

/// After so many segments in a row without waiting, the window shrinks by one.
const CALM_SEGMENTS: u32 = 8;

/// Whether PostgreSQL had to wait for a segment that was not complete in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wal) enum Waited {
    /// It waited.
    Yes,
    /// The segment was there.
    No,
}

/// The largest window, in segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wal) struct Limit {
    /// Segments ahead of the asked one.
    pub(in crate::wal) segments: u32,
    /// The size of each.
    pub(in crate::wal) size: SegmentSize,
}

impl Limit {
    /// What the settings allow for segments of `size`; none when that is not even one.
    pub(in crate::wal) fn of(settings: &WalSettings, size: SegmentSize) -> Option<Self> {
        let fitting = u32::try_from(settings.fetch_ahead_bytes / size.bytes()).unwrap_or(u32::MAX);
        let segments = settings.fetch_ahead.min(fitting);
        (segments > 0).then_some(Self { segments, size })
    }

    /// Bytes of the largest window.
    pub(super) fn bytes(self) -> u64 {
        u64::from(self.segments).saturating_mul(self.size.bytes())
    }
}

/// The course of one recovery, as its questions show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::wal) struct Pace {
    last: Option<SegmentName>,
    window: u32,
    calm: u32,
}

impl Pace {
    /// Takes note of a segment that was asked for; the number of segments to have behind it.
    ///
    /// Whoever goes backwards, as `pg_rewind` does, gets none.
    pub(in crate::wal) fn asked(
        &mut self,
        segment: SegmentName,
        waited: Waited,
        limit: Limit,
    ) -> u32 {
        let window = match self.last.map(|last| step(last, segment, limit.size)) {
            Some(Step::On(segments)) if segments <= u64::from(self.window) + 1 => {
                self.adjusted(waited)
            }
            Some(Step::Back) => 0,
            _ => FIRST_WINDOW,
        };
        self.last = Some(segment);
        self.window = window.min(limit.segments);
        self.window
    }

    fn adjusted(&mut self, waited: Waited) -> u32 {
        if waited == Waited::Yes {
            self.calm = 0;
            return (self.window * 2).max(FIRST_WINDOW);
        }
        self.calm += 1;
        if self.calm < CALM_SEGMENTS {
            return self.window;
        }
        self.calm = 0;
        (self.window - self.window.min(1)).max(FIRST_WINDOW)
    }
}

/// The way from one asked segment to the next.
enum Step {
    /// So many segments on, on the same timeline; 0 for the same segment.
    On(u64),
    Back,
    ToOtherTimeline,
}

fn step(from: SegmentName, to: SegmentName, size: SegmentSize) -> Step {
    if from.timeline() != to.timeline() {
        return Step::ToOtherTimeline;
    }
    match to.number(size).get().checked_sub(from.number(size).get()) {
        Some(segments) => Step::On(segments),
        None => Step::Back,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};
    use crate::postgres::{SegmentNumber, TimelineId};

    const LIMIT: Limit = Limit { segments: 8, size: SegmentSize::DEFAULT };

    fn segment(timeline: u32, number: u64) -> SegmentName {
        let timeline = TimelineId::new(timeline).unwrap();
        SegmentName::new(timeline, SegmentNumber::new(number), LIMIT.size).unwrap()
    }

    fn windows(asked: impl IntoIterator<Item = (SegmentName, Waited)>) -> Vec<u32> {
        let mut pace = Pace::default();
        asked.into_iter().map(|(segment, waited)| pace.asked(segment, waited, LIMIT)).collect()
    }

    #[test]
    fn the_window_doubles_while_postgresql_waits_up_to_its_limit() {
        let asked = (1..=5).map(|number| (segment(1, number), Waited::Yes));
        assert_eq!(windows(asked), [2, 4, 8, 8, 8]);
    }

    #[test]
    fn the_window_shrinks_while_postgresql_does_not_wait() {
        let waiting = (1..=3).map(|number| (segment(1, number), Waited::Yes));
        let calm = (4..=70).map(|number| (segment(1, number), Waited::No));
        let windows = windows(waiting.chain(calm));
        assert_eq!((windows[2], windows[10], windows[69]), (8, 7, 2));
    }

    #[test]
    fn who_goes_backwards_gets_nothing_and_who_jumps_begins_anew() {
        let asked = [segment(1, 9), segment(1, 8), segment(1, 7), segment(1, 20), segment(2, 21)];
        let asked = asked.map(|segment| (segment, Waited::Yes));
        assert_eq!(windows(asked), [2, 0, 0, 2, 2]);
    }

    #[test]
    fn a_process_that_fills_by_the_batch_hears_of_every_batch_only() {
        let asked = [1, 4, 9, 18].map(|number| (segment(1, number), Waited::Yes));
        assert_eq!(windows(asked), [2, 4, 8, 8]);
    }

    #[test]
    fn a_window_that_holds_no_segment_is_none() {
        let defaults = Config::load(None, vec![], Environment::default()).unwrap();
        let defaults = defaults.settings().unwrap().wal;
        let settings = |fetch_ahead, fetch_ahead_bytes| WalSettings {
            fetch_ahead,
            fetch_ahead_bytes,
            ..defaults.clone()
        };
        let limit =
            |settings: WalSettings| Limit::of(&settings, LIMIT.size).map(|limit| limit.segments);
        assert_eq!(limit(settings(8, 256 << 20)), Some(8));
        assert_eq!(limit(settings(100, 256 << 20)), Some(16));
        assert_eq!(limit(settings(0, 256 << 20)), None);
        assert_eq!(limit(settings(8, 15 << 20)), None);
    }
}
