//! WAL segments: their sizes and numbers, and the one parser of every file name in `pg_wal`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::lsn::Lsn;
use super::text::{Malformed, is_upper_hex, serde_as_text, upper_hex_u32};
use super::timeline::{HistoryName, TimelineId};

/// The size of a cluster's WAL segments in bytes: a power of two from 1 MiB to 1 GiB.
///
/// Source: `wal_segment_size`, `IsValidWalSegSize` in `access/xlog_internal.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct SegmentSize(u32);

impl SegmentSize {
    /// What `initdb` chooses unless told otherwise: 16 MiB.
    pub const DEFAULT: Self = Self(16 << 20);

    /// The smallest size, 1 MiB.
    pub const MIN: Self = Self(1 << 20);

    /// The largest size, 1 GiB.
    pub const MAX: Self = Self(1 << 30);

    /// A size of `bytes`, or `None` when PostgreSQL does not allow it.
    pub fn new(bytes: u32) -> Option<Self> {
        let allowed = bytes.is_power_of_two() && (Self::MIN.0..=Self::MAX.0).contains(&bytes);
        allowed.then_some(Self(bytes))
    }

    /// The bytes of a segment.
    pub const fn bytes(self) -> u64 {
        self.0 as u64
    }

    /// How many segments share the middle part of their names, 4 to 4096.
    ///
    /// Source: `XLogSegmentsPerXLogId`.
    pub const fn segments_per_log(self) -> u32 {
        (0x1_0000_0000 / self.bytes()) as u32
    }
}

impl From<SegmentSize> for u32 {
    fn from(size: SegmentSize) -> Self {
        size.0
    }
}

impl TryFrom<u32> for SegmentSize {
    type Error = Malformed;

    fn try_from(bytes: u32) -> Result<Self, Malformed> {
        let expected = "a WAL segment size: a power of two from 1 MiB to 1 GiB, in bytes";
        Self::new(bytes).ok_or_else(|| Malformed::new(bytes.to_string(), expected))
    }
}

impl fmt::Display for SegmentSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0 >> 20)
    }
}

/// The position of a segment in the log, counted in segments from zero; it means a place only with a size.
///
/// Source: `XLogSegNo` in `access/xlogdefs.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNumber(u64);

impl SegmentNumber {
    /// The segment after `number` others.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of segments before this one.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The segment that contains `lsn`; a position on a boundary belongs to the later segment.
    ///
    /// Source: `XLByteToSeg` in `access/xlog_internal.h`.
    pub const fn containing(lsn: Lsn, size: SegmentSize) -> Self {
        Self(lsn.get() / size.bytes())
    }

    /// The first position of the segment, or `None` when the log ends before it.
    pub fn start(self, size: SegmentSize) -> Option<Lsn> {
        self.0.checked_mul(size.bytes()).map(Lsn::new)
    }
}

/// The name of a WAL segment: 24 upper-case hexadecimal digits for timeline, log and segment.
///
/// The name alone does not tell the segment size: with `log` its last part counts up to
/// [`SegmentSize::segments_per_log`]. Names of one timeline sort like the positions they stand for.
/// Source: `XLogFileName`, `IsXLogFileName` in `access/xlog_internal.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    timeline: TimelineId,
    log: u32,
    segment: u32,
}

impl SegmentName {
    /// The segment `number` of `timeline`, or `None` when the log ends before it.
    pub fn new(timeline: TimelineId, number: SegmentNumber, size: SegmentSize) -> Option<Self> {
        let per_log = u64::from(size.segments_per_log());
        let log = u32::try_from(number.0 / per_log).ok()?;
        Some(Self { timeline, log, segment: (number.0 % per_log) as u32 })
    }

    /// The segment that contains `lsn` on `timeline`.
    ///
    /// `size` is the cluster's `wal_segment_size`. A position on a boundary belongs to the later segment.
    /// Source: PostgreSQL, `XLByteToSeg` in `access/xlog_internal.h`.
    pub fn containing(lsn: Lsn, timeline: TimelineId, size: SegmentSize) -> Self {
        let number = SegmentNumber::containing(lsn, size);
        Self::new(timeline, number, size).expect("every position has a segment")
    }

    /// The timeline in the name.
    pub const fn timeline(self) -> TimelineId {
        self.timeline
    }

    /// The middle part of the name: the upper half of every position in the segment.
    pub const fn log(self) -> u32 {
        self.log
    }

    /// The last part of the name.
    pub const fn segment(self) -> u32 {
        self.segment
    }

    /// The same stretch of the log on another timeline.
    #[must_use]
    pub const fn on_timeline(self, timeline: TimelineId) -> Self {
        Self { timeline, ..self }
    }

    /// Whether a cluster with segments of `size` can have a segment of this name.
    pub const fn is_valid_for(self, size: SegmentSize) -> bool {
        self.segment < size.segments_per_log()
    }

    /// The number of the segment.
    pub fn number(self, size: SegmentSize) -> SegmentNumber {
        let before = u64::from(self.log) * u64::from(size.segments_per_log());
        SegmentNumber(before + u64::from(self.segment))
    }

    /// The first position of the segment; meaningless unless the name [is valid](Self::is_valid_for) for `size`.
    pub fn start(self, size: SegmentSize) -> Lsn {
        Lsn::new(self.number(size).0.saturating_mul(size.bytes()))
    }

    /// The first position after the segment, or `None` for the last of the log.
    pub fn end(self, size: SegmentSize) -> Option<Lsn> {
        self.start(size).checked_add(size.bytes())
    }

    /// The segment after this one on the same timeline, or `None` at the end of the log.
    pub fn next(self, size: SegmentSize) -> Option<Self> {
        Self::new(self.timeline, SegmentNumber(self.number(size).0 + 1), size)
    }

    /// The segment before this one on the same timeline, or `None` at the beginning of the log.
    pub fn previous(self, size: SegmentSize) -> Option<Self> {
        let number = self.number(size).0.checked_sub(1)?;
        Self::new(self.timeline, SegmentNumber(number), size)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline.get(), self.log, self.segment)
    }
}

impl FromStr for SegmentName {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let refused = || Malformed::new(text, "a segment name like `000000010000000000000042`");
        if !is_upper_hex(text, 24) {
            return Err(refused());
        }
        let number = |part: &str| upper_hex_u32(part).ok_or_else(refused);
        let timeline = TimelineId::new(number(&text[..8])?).ok_or_else(refused)?;
        Ok(Self { timeline, log: number(&text[8..16])?, segment: number(&text[16..])? })
    }
}

serde_as_text!(SegmentName);

/// A file of `pg_wal` that PostgreSQL archives or asks for, by its name.
///
/// This is the only parser of such names. Upper-case hexadecimal only, nothing before or after: a name that
/// PostgreSQL does not write is not guessed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WalFileName {
    /// `000000010000000000000042`: a whole segment.
    Segment(SegmentName),
    /// `000000010000000000000042.partial`: the last, incomplete segment of a timeline that was left.
    ///
    /// Source: `IsPartialXLogFileName`.
    Partial(SegmentName),
    /// `00000002.history`: where a timeline comes from.
    ///
    /// Source: `IsTLHistoryFileName`.
    History(TimelineId),
    /// `000000010000000000000042.00000028.backup`: the record of a base backup.
    ///
    /// Source: `BackupHistoryFileName`.
    BackupLabel {
        /// The segment in which the backup starts.
        segment: SegmentName,
        /// The position of the start in it, in bytes.
        offset: u32,
    },
}

impl WalFileName {
    /// The timeline in the name.
    pub const fn timeline(self) -> TimelineId {
        match self {
            Self::Segment(segment) | Self::Partial(segment) | Self::BackupLabel { segment, .. } => {
                segment.timeline
            }
            Self::History(timeline) => timeline,
        }
    }

    /// The segment in the name; a history has none.
    pub const fn segment(self) -> Option<SegmentName> {
        match self {
            Self::Segment(segment) | Self::Partial(segment) | Self::BackupLabel { segment, .. } => {
                Some(segment)
            }
            Self::History(_) => None,
        }
    }
}

impl fmt::Display for WalFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => segment.fmt(f),
            Self::Partial(segment) => write!(f, "{segment}.partial"),
            Self::History(timeline) => HistoryName(*timeline).fmt(f),
            Self::BackupLabel { segment, offset } => write!(f, "{segment}.{offset:08X}.backup"),
        }
    }
}

impl FromStr for WalFileName {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        parse_file_name(text).ok_or_else(|| {
            Malformed::new(text, "a segment, `.partial`, `.history` or `.backup` file of `pg_wal`")
        })
    }
}

serde_as_text!(WalFileName);

fn parse_file_name(text: &str) -> Option<WalFileName> {
    let Some((first, rest)) = text.split_once('.') else {
        return text.parse().ok().map(WalFileName::Segment);
    };
    match rest {
        "history" => TimelineId::from_hex(first).ok().map(WalFileName::History),
        "partial" => first.parse().ok().map(WalFileName::Partial),
        _ => {
            let offset = upper_hex_u32(rest.strip_suffix(".backup")?)?;
            Some(WalFileName::BackupLabel { segment: first.parse().ok()?, offset })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sizes() -> impl Strategy<Value = SegmentSize> {
        (20u32..=30).prop_map(|power| SegmentSize::new(1 << power).unwrap())
    }

    fn timelines() -> impl Strategy<Value = TimelineId> {
        (1u32..).prop_map(|number| TimelineId::new(number).unwrap())
    }

    fn names() -> impl Strategy<Value = SegmentName> {
        (timelines(), any::<u64>(), sizes()).prop_map(|(timeline, lsn, size)| {
            SegmentName::containing(Lsn::new(lsn), timeline, size)
        })
    }

    fn file_names() -> impl Strategy<Value = WalFileName> {
        prop_oneof![
            names().prop_map(WalFileName::Segment),
            names().prop_map(WalFileName::Partial),
            timelines().prop_map(WalFileName::History),
            (names(), any::<u32>())
                .prop_map(|(segment, offset)| WalFileName::BackupLabel { segment, offset }),
        ]
    }

    proptest! {
        /// T1
        #[test]
        fn every_file_name_survives_its_text(name in file_names()) {
            prop_assert_eq!(name.to_string().parse::<WalFileName>().unwrap(), name);
        }

        /// T1
        #[test]
        fn whatever_parses_is_written_back_unchanged(
            text in "[0-9A-Fa-f]{7,9}([0-9A-F]{16})?(\\.(partial|history|[0-9A-Fa-f]{8}\\.backup))?"
        ) {
            if let Ok(name) = text.parse::<WalFileName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        /// T1
        #[test]
        fn a_segment_contains_the_position_it_was_named_for(
            position: u64, timeline in timelines(), size in sizes()
        ) {
            let lsn = Lsn::new(position);
            let name = SegmentName::containing(lsn, timeline, size);
            prop_assert!(name.is_valid_for(size));
            prop_assert!(name.start(size) <= lsn);
            prop_assert!(name.end(size).is_none_or(|end| lsn < end));
        }

        /// T1
        #[test]
        fn next_and_previous_are_neighbours(position: u64, size in sizes()) {
            let name = SegmentName::containing(Lsn::new(position), TimelineId::FIRST, size);
            if let Some(next) = name.next(size) {
                prop_assert_eq!(Some(next.start(size)), name.end(size));
                prop_assert_eq!(next.previous(size), Some(name));
                prop_assert!(next > name);
            } else {
                prop_assert_eq!(name.end(size), None);
            }
        }
    }

    /// T1
    #[test]
    fn names_are_those_postgresql_computes() {
        let name = |lsn: &str, size| {
            SegmentName::containing(lsn.parse().unwrap(), TimelineId::FIRST, size).to_string()
        };
        assert_eq!(name("16/B374D848", SegmentSize::DEFAULT), "0000000100000016000000B3");
        assert_eq!(name("0/1000000", SegmentSize::DEFAULT), "000000010000000000000001");
        assert_eq!(name("1/0", SegmentSize::MIN), "000000010000000100000000");
        assert_eq!(name("0/FFFFFFFF", SegmentSize::MIN), "000000010000000000000FFF");
        assert_eq!(name("2/C0000000", SegmentSize::MAX), "000000010000000200000003");
    }

    /// T1
    #[test]
    fn a_name_may_be_impossible_for_a_segment_size() {
        let name: SegmentName = "000000010000000000000100".parse().unwrap();
        assert!(!name.is_valid_for(SegmentSize::DEFAULT));
        assert!(name.is_valid_for(SegmentSize::MIN));
    }

    /// T1
    #[test]
    fn names_that_postgresql_does_not_write_are_refused() {
        for text in [
            "",
            "00000001000000000000004",
            "0000000100000000000000421",
            "00000001000000000000004g",
            "00000001000000000000004a",
            "000000000000000000000001",
            " 00000001000000000000042",
            "+00000010000000000000042",
            "000000010000000000000042.PARTIAL",
            "000000010000000000000042.partial.",
            "000000010000000000000042.28.backup",
            "000000010000000000000042.00000028.backup.",
            "000000010000000000000042.0000002a.backup",
            "000000010000000000000042/1",
            "2.history",
            "00000000.history",
            "../00000002.history",
            "0000000é0000000000000042",
        ] {
            assert!(
                text.parse::<WalFileName>().is_err(),
                "`{text}` was taken for a file of pg_wal"
            );
        }
    }

    #[test]
    fn only_sizes_that_initdb_accepts_are_sizes() {
        assert_eq!(SegmentSize::new(1 << 20), Some(SegmentSize::MIN));
        for bytes in [0, 1 << 19, 3 << 20, (16 << 20) + 1, 1 << 31] {
            assert_eq!(SegmentSize::new(bytes), None);
        }
    }
}
