//! Timelines: their numbers, and the history file that tells where each one left its parent.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::lsn::Lsn;
use super::text::{Malformed, is_decimal, serde_as_text, upper_hex_u32};

/// The number of a timeline, 1 or greater; a promotion takes the next free one.
///
/// Read and displayed in decimal, as users write it; [`TimelineId::hex`] is the form in file names. Serialised
/// as a number. Source: `TimeLineID` in `access/xlogdefs.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimelineId(NonZeroU32);

impl TimelineId {
    /// The timeline that `initdb` starts, the only one without a history file.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The timeline `number`, or `None` for zero, which PostgreSQL uses for "no timeline".
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// Eight upper-case hexadecimal digits, as in file names.
    pub fn hex(self) -> String {
        format!("{:08X}", self.0)
    }

    /// The timeline written as exactly eight upper-case hexadecimal digits.
    pub fn from_hex(digits: &str) -> Result<Self, Malformed> {
        let timeline = upper_hex_u32(digits).and_then(Self::new);
        timeline.ok_or_else(|| Malformed::new(digits, "a timeline like `00000001`"))
    }
}

impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TimelineId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let number = if is_decimal(text) { text.parse().ok() } else { None };
        number.and_then(Self::new).ok_or_else(|| Malformed::new(text, "a timeline number like `2`"))
    }
}

/// The name of the history file of a timeline: `00000002.history`.
///
/// Source: `TLHistoryFileName` in `access/xlog_internal.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HistoryName(pub TimelineId);

impl fmt::Display for HistoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}.history", self.0.get())
    }
}

impl FromStr for HistoryName {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let timeline = text.strip_suffix(".history").and_then(|hex| TimelineId::from_hex(hex).ok());
        timeline.map(Self).ok_or_else(|| Malformed::new(text, "a name like `00000002.history`"))
    }
}

serde_as_text!(HistoryName);

/// An ancestor in a history: the timeline, and where its line was left for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The ancestor.
    pub timeline: TimelineId,
    /// The first position that belongs to the next timeline.
    pub switch_lsn: Lsn,
}

/// Where a timeline comes from: its ancestors, oldest first, each with the position at which it was left.
///
/// Source: `readTimeLineHistory`, `tliOfPointInHistory`, `tliSwitchPoint` in `access/transam/timeline.c`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineHistory {
    timeline: TimelineId,
    ancestors: Vec<HistoryEntry>,
}

/// Why the text of a history file is refused; PostgreSQL stops with the same findings.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HistoryDefect {
    /// The line does not begin with a timeline number.
    #[error("line {line} does not begin with a timeline number")]
    NoTimeline {
        /// Counted from 1.
        line: usize,
    },
    /// The line has no switch point after its timeline.
    #[error("line {line} has no switch point like `16/B374D848`")]
    NoSwitchPoint {
        /// Counted from 1.
        line: usize,
    },
    /// The timelines are not in increasing order.
    #[error("line {line} names timeline {timeline}, which is not above the one before it")]
    NotIncreasing {
        /// Counted from 1.
        line: usize,
        /// The offending timeline.
        timeline: TimelineId,
    },
    /// An ancestor is not below the timeline whose history this is.
    #[error("timeline {ancestor} cannot be an ancestor of timeline {timeline}")]
    NotBelowChild {
        /// The last ancestor named.
        ancestor: TimelineId,
        /// The timeline of the file.
        timeline: TimelineId,
    },
}

impl TimelineHistory {
    /// The history of a timeline that has no history file: timeline 1, or one whose file is absent.
    pub fn without_ancestors(timeline: TimelineId) -> Self {
        Self { timeline, ancestors: Vec::new() }
    }

    /// Reads the content of the history file of `timeline`.
    ///
    /// Bytes, because the reason at the end of a line may carry a restore point's name in any encoding.
    pub fn parse(timeline: TimelineId, content: &[u8]) -> Result<Self, HistoryDefect> {
        let mut ancestors: Vec<HistoryEntry> = Vec::new();
        for (index, bytes) in content.split(|byte| *byte == b'\n').enumerate() {
            let Some(entry) = parse_line(bytes, index + 1)? else { continue };
            if ancestors.last().is_some_and(|last| entry.timeline <= last.timeline) {
                let timeline = entry.timeline;
                return Err(HistoryDefect::NotIncreasing { line: index + 1, timeline });
            }
            ancestors.push(entry);
        }
        match ancestors.last() {
            Some(last) if last.timeline >= timeline => {
                Err(HistoryDefect::NotBelowChild { ancestor: last.timeline, timeline })
            }
            _ => Ok(Self { timeline, ancestors }),
        }
    }

    /// The timeline whose history this is.
    pub fn timeline(&self) -> TimelineId {
        self.timeline
    }

    /// Its ancestors, oldest first.
    pub fn ancestors(&self) -> &[HistoryEntry] {
        &self.ancestors
    }

    /// The timeline that this one left, and where.
    pub fn parent(&self) -> Option<HistoryEntry> {
        self.ancestors.last().copied()
    }

    /// Where this line left `ancestor`, or `None` when it is no ancestor.
    pub fn switch_point(&self, ancestor: TimelineId) -> Option<Lsn> {
        self.ancestors.iter().find(|entry| entry.timeline == ancestor).map(|entry| entry.switch_lsn)
    }

    /// Whether this line came out of `timeline`; a timeline is no ancestor of itself.
    pub fn is_ancestor(&self, timeline: TimelineId) -> bool {
        self.switch_point(timeline).is_some()
    }

    /// Where this line begins on `timeline`: [`Lsn::INVALID`] for the oldest, `None` when it never was on it.
    pub fn begin_of(&self, timeline: TimelineId) -> Option<Lsn> {
        let mut begin = Lsn::INVALID;
        for entry in &self.ancestors {
            if entry.timeline == timeline {
                return Some(begin);
            }
            begin = entry.switch_lsn;
        }
        (timeline == self.timeline).then_some(begin)
    }

    /// The timeline on which this line holds the byte at `lsn`; a switch point belongs to the later timeline.
    pub fn timeline_of(&self, lsn: Lsn) -> TimelineId {
        let holder = self.ancestors.iter().find(|entry| lsn < entry.switch_lsn);
        holder.map_or(self.timeline, |entry| entry.timeline)
    }
}

/// One line as `readTimeLineHistory` scans it, `%u\t%X/%X` and a reason that is ignored; `None` for a comment.
fn parse_line(bytes: &[u8], line: usize) -> Result<Option<HistoryEntry>, HistoryDefect> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let mut words = text.split_ascii_whitespace();
    let timeline = words.next().and_then(|word| word.parse().ok());
    let timeline = timeline.ok_or(HistoryDefect::NoTimeline { line })?;
    let switch_lsn = words.next().and_then(|word| word.parse().ok());
    let switch_lsn = switch_lsn.ok_or(HistoryDefect::NoSwitchPoint { line })?;
    Ok(Some(HistoryEntry { timeline, switch_lsn }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const THIRD: &[u8] = b"1\t0/5000000\tno recovery target specified\n\n\
        2\t0/9000098\tbefore 2026-11-20 10:00:00+00\n";

    fn timeline(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    fn third() -> TimelineHistory {
        TimelineHistory::parse(timeline(3), THIRD).unwrap()
    }

    #[test]
    fn a_history_names_the_ancestors_and_their_switch_points() {
        let history = third();
        assert_eq!(history.parent().unwrap().timeline, timeline(2));
        assert_eq!(history.switch_point(timeline(1)), Some(Lsn::new(0x500_0000)));
        assert_eq!(history.switch_point(timeline(3)), None);
        assert!(history.is_ancestor(timeline(2)) && !history.is_ancestor(timeline(3)));
    }

    #[test]
    fn a_position_belongs_to_the_timeline_that_wrote_it() {
        let history = third();
        assert_eq!(history.timeline_of(Lsn::new(0x4FF_FFFF)), timeline(1));
        assert_eq!(history.timeline_of(Lsn::new(0x500_0000)), timeline(2));
        assert_eq!(history.timeline_of(Lsn::new(0x900_0098)), timeline(3));
    }

    #[test]
    fn a_line_begins_on_each_timeline_where_it_left_the_one_before() {
        let history = third();
        assert_eq!(history.begin_of(timeline(1)), Some(Lsn::INVALID));
        assert_eq!(history.begin_of(timeline(3)), Some(Lsn::new(0x900_0098)));
        assert_eq!(history.begin_of(timeline(4)), None);
    }

    #[test]
    fn a_history_that_postgresql_would_refuse_is_refused() {
        use HistoryDefect::{NoSwitchPoint, NoTimeline, NotBelowChild, NotIncreasing};
        let parse = |text: &str| TimelineHistory::parse(timeline(3), text.as_bytes()).unwrap_err();
        assert_eq!(parse("x\t0/1\n"), NoTimeline { line: 1 });
        assert_eq!(parse("# comment\n1\n"), NoSwitchPoint { line: 2 });
        assert_eq!(parse("2\t0/1\n2\t0/2\n"), NotIncreasing { line: 2, timeline: timeline(2) });
        assert_eq!(
            parse("3\t0/1\n"),
            NotBelowChild { ancestor: timeline(3), timeline: timeline(3) }
        );
    }

    #[test]
    fn comments_and_reasons_in_any_encoding_are_ignored() {
        let text = b"# by hand\n 1\t0/3000000\tat restore point \"caf\xE9\"\n";
        let history = TimelineHistory::parse(timeline(2), text).unwrap();
        assert_eq!(history.ancestors().len(), 1);
    }

    #[test]
    fn a_timeline_without_history_has_no_ancestors() {
        let first = TimelineHistory::without_ancestors(TimelineId::FIRST);
        assert_eq!(first.timeline_of(Lsn::new(7)), TimelineId::FIRST);
        assert_eq!(first.parent(), None);
    }

    #[test]
    fn timelines_are_decimal_for_people_and_hexadecimal_in_names() {
        assert_eq!("26".parse::<TimelineId>().unwrap(), timeline(26));
        assert_eq!(timeline(26).hex(), "0000001A");
        assert_eq!(HistoryName(timeline(26)).to_string(), "0000001A.history");
        assert_eq!("0000001A.history".parse(), Ok(HistoryName(timeline(26))));
        for text in ["0", "", "+1", "1A", "4294967296"] {
            assert!(text.parse::<TimelineId>().is_err(), "`{text}` was taken for a timeline");
        }
        for text in ["00000000.history", "0000001a.history", "1.history", "00000001.historyx"] {
            assert!(text.parse::<HistoryName>().is_err(), "`{text}` was taken for a history");
        }
    }
}
