//! The page headers of WAL segments, and whether a file holds the WAL that its name promises.

use thiserror::Error;

use super::bytes::{u16_at, u32_at, u64_at};
use super::lsn::Lsn;
use super::segment::{SegmentName, SegmentSize};
use super::system_identifier::SystemIdentifier;
use super::timeline::TimelineId;
use super::wal_tail::Tail;

/// The bytes of the long header, which begins every segment.
///
/// Source: `SizeOfXLogLongPHD` in `access/xlog_internal.h`.
pub const LONG_HEADER_BYTES: usize = 40;

/// The bytes of the short header, which begins every other page.
///
/// Source: `SizeOfXLogShortPHD` in `access/xlog_internal.h`.
pub(super) const SHORT_HEADER_BYTES: usize = 24;

// Offsets in XLogPageHeaderData and XLogLongPageHeaderData, access/xlog_internal.h.
const XLP_MAGIC: usize = 0;
const XLP_INFO: usize = 2;
const XLP_TLI: usize = 4;
const XLP_PAGEADDR: usize = 8;
const XLP_REM_LEN: usize = 16;
const XLP_SYSID: usize = 24;
const XLP_SEG_SIZE: usize = 32;
const XLP_XLOG_BLCKSZ: usize = 36;

const XLP_LONG_HEADER: u16 = 0x0002;

/// The magic number of a WAL page; it changes with the format of WAL, so with every major version.
///
/// Source: `XLOG_PAGE_MAGIC` in `access/xlog_internal.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WalMagic(u16);

impl WalMagic {
    /// The magic number `number`, or `None` when no PostgreSQL since 9.3 writes it.
    pub fn new(number: u16) -> Option<Self> {
        (number & 0xFF00 == 0xD100).then_some(Self(number))
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The major version that writes it, or `None` for one that walrs does not know.
    pub const fn major_version(self) -> Option<u32> {
        match self.0 {
            0xD106 => Some(13),
            0xD10D => Some(14),
            0xD110 => Some(15),
            0xD113 => Some(16),
            0xD116 => Some(17),
            0xD118 => Some(18),
            _ => None,
        }
    }
}

/// What every WAL page says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageHeader {
    /// The format of the page.
    pub magic: WalMagic,
    /// The timeline on which the page was begun.
    pub timeline: TimelineId,
    /// The position of the page in the log.
    pub address: Lsn,
    /// The bytes still to come of a record that began on an earlier page.
    pub remaining: u32,
    /// The flags, `XLP_*`.
    pub flags: u16,
}

/// What the first page of a segment says about itself and its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongHeader {
    /// What every page says.
    pub page: PageHeader,
    /// The cluster that wrote it.
    pub system_identifier: SystemIdentifier,
    /// The size of the cluster's segments.
    pub segment_size: SegmentSize,
    /// The bytes of a WAL page, 1 KiB to 64 KiB.
    pub block_size: u32,
}

/// The cluster whose WAL is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedCluster {
    /// Its system identifier.
    pub system_identifier: SystemIdentifier,
    /// The size of its segments.
    pub segment_size: SegmentSize,
}

/// Why a file is not the segment that its name promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SegmentDefect {
    /// The file has another length than the cluster's segments.
    #[error("it has {length} bytes, but the cluster's segments have {expected}")]
    WrongLength {
        /// The bytes of the file.
        length: u64,
        /// The bytes of a segment.
        expected: u64,
    },
    /// The file ends within its first header.
    #[error("its {length} bytes hold no page header")]
    NoHeader {
        /// The bytes at hand.
        length: usize,
    },
    /// A page that must hold WAL begins with zeros only.
    #[error("the page at byte {offset} is empty")]
    ZeroPage {
        /// Where in the file.
        offset: u64,
    },
    /// A page does not begin with a magic number of WAL, or with another one than the first page.
    #[error(
        "the page at byte {offset} begins with {magic:#06x}, which is not the magic number of its WAL"
    )]
    WrongMagic {
        /// Where in the file.
        offset: u64,
        /// What is there.
        magic: u16,
    },
    /// The first page has no long header.
    #[error("its first page has no long header, so it does not begin a segment")]
    NoLongHeader,
    /// The header names a segment or page size that PostgreSQL does not allow.
    #[error(
        "its header names a segment size of {segment_size} and a page size of {block_size} bytes"
    )]
    ImpossibleSizes {
        /// In bytes.
        segment_size: u32,
        /// In bytes.
        block_size: u32,
    },
    /// Another cluster wrote it.
    #[error("it belongs to the cluster with system identifier {found}, not to {expected}")]
    ForeignSystem {
        /// The identifier in the header.
        found: SystemIdentifier,
        /// The cluster's.
        expected: SystemIdentifier,
    },
    /// It was written with another segment size than the cluster has.
    #[error("it was written with segments of {found}, but the cluster has segments of {expected}")]
    ForeignSegmentSize {
        /// The size in the header.
        found: SegmentSize,
        /// The cluster's.
        expected: SegmentSize,
    },
    /// No cluster with this segment size has a segment of this name.
    #[error("`{name}` is no name of a segment of {size}")]
    ImpossibleName {
        /// The name.
        name: SegmentName,
        /// The cluster's segment size.
        size: SegmentSize,
    },
    /// A page belongs to another place in the log.
    #[error("the page at byte {offset} belongs to position {found}, not to {expected}")]
    WrongAddress {
        /// Where in the file.
        offset: u64,
        /// The address in the header.
        found: Lsn,
        /// The address that the name promises.
        expected: Lsn,
    },
    /// A page names no timeline.
    #[error("the page at byte {offset} names no timeline")]
    NoTimeline {
        /// Where in the file.
        offset: u64,
    },
    /// A page was written on a later timeline than the name says.
    #[error("the page at byte {offset} was written on timeline {found}, above the name's {name}")]
    TimelineAboveName {
        /// Where in the file.
        offset: u64,
        /// The timeline in the header.
        found: TimelineId,
        /// The timeline in the name.
        name: TimelineId,
    },
    /// A page was written on an earlier timeline than the page before it.
    #[error("the page at byte {offset} was written on timeline {found}, below the page before it")]
    TimelineWentBack {
        /// Where in the file.
        offset: u64,
        /// The timeline in the header.
        found: TimelineId,
    },
}

impl PageHeader {
    /// Reads the header of the page that begins at byte `offset` of a segment; `page` is from there on.
    pub fn parse(page: &[u8], offset: u64) -> Result<Self, SegmentDefect> {
        let Some(header) = page.get(..SHORT_HEADER_BYTES) else {
            return Err(SegmentDefect::NoHeader { length: page.len() });
        };
        if header.iter().all(|byte| *byte == 0) {
            return Err(SegmentDefect::ZeroPage { offset });
        }
        let magic = u16_at(header, XLP_MAGIC);
        let timeline = TimelineId::new(u32_at(header, XLP_TLI));
        Ok(Self {
            magic: WalMagic::new(magic).ok_or(SegmentDefect::WrongMagic { offset, magic })?,
            timeline: timeline.ok_or(SegmentDefect::NoTimeline { offset })?,
            address: Lsn::new(u64_at(header, XLP_PAGEADDR)),
            remaining: u32_at(header, XLP_REM_LEN),
            flags: u16_at(header, XLP_INFO),
        })
    }

    fn check(&self, name: SegmentName, start: Lsn, offset: u64) -> Result<(), SegmentDefect> {
        let expected = Lsn::new(start.get().saturating_add(offset));
        if self.address != expected {
            return Err(SegmentDefect::WrongAddress { offset, found: self.address, expected });
        }
        if self.timeline > name.timeline() {
            let (found, name) = (self.timeline, name.timeline());
            return Err(SegmentDefect::TimelineAboveName { offset, found, name });
        }
        Ok(())
    }
}

impl LongHeader {
    /// Reads the first [`LONG_HEADER_BYTES`] of a segment, or more: the only place in WAL that names its cluster.
    pub fn parse(first_page: &[u8]) -> Result<Self, SegmentDefect> {
        let page = PageHeader::parse(first_page, 0)?;
        if page.flags & XLP_LONG_HEADER == 0 {
            return Err(SegmentDefect::NoLongHeader);
        }
        let Some(header) = first_page.get(..LONG_HEADER_BYTES) else {
            return Err(SegmentDefect::NoHeader { length: first_page.len() });
        };
        let (segment_size, block_size) =
            (u32_at(header, XLP_SEG_SIZE), u32_at(header, XLP_XLOG_BLCKSZ));
        let impossible = SegmentDefect::ImpossibleSizes { segment_size, block_size };
        if !block_size.is_power_of_two() || !(1 << 10..=1 << 16).contains(&block_size) {
            return Err(impossible);
        }
        Ok(Self {
            page,
            system_identifier: SystemIdentifier::new(u64_at(header, XLP_SYSID)),
            segment_size: SegmentSize::new(segment_size).ok_or(impossible)?,
            block_size,
        })
    }

    /// The cluster that the segment says it belongs to.
    pub fn cluster(&self) -> ExpectedCluster {
        let Self { system_identifier, segment_size, .. } = *self;
        ExpectedCluster { system_identifier, segment_size }
    }

    fn check_cluster(&self, expected: &ExpectedCluster) -> Result<(), SegmentDefect> {
        if self.system_identifier != expected.system_identifier {
            let (found, expected) = (self.system_identifier, expected.system_identifier);
            return Err(SegmentDefect::ForeignSystem { found, expected });
        }
        if self.segment_size != expected.segment_size {
            let (found, expected) = (self.segment_size, expected.segment_size);
            return Err(SegmentDefect::ForeignSegmentSize { found, expected });
        }
        Ok(())
    }
}

/// Checks that a file of `length` bytes beginning with `first_page` can be the segment `name` of the cluster.
///
/// The same holds for a `.partial`, which has the full length too. A page may carry an earlier timeline than the
/// name: a promotion copies the beginning of its first segment from the parent's. `first_page` needs
/// [`LONG_HEADER_BYTES`] only.
pub fn check_segment(
    name: SegmentName,
    length: u64,
    first_page: &[u8],
    expected: &ExpectedCluster,
) -> Result<LongHeader, SegmentDefect> {
    let header = LongHeader::parse(first_page)?;
    header.check_cluster(expected)?;
    let size = expected.segment_size;
    if length != size.bytes() {
        return Err(SegmentDefect::WrongLength { length, expected: size.bytes() });
    }
    if !name.is_valid_for(size) {
        return Err(SegmentDefect::ImpossibleName { name, size });
    }
    header.page.check(name, name.start(size), 0)?;
    Ok(header)
}

/// Checks every page header of a whole segment; see [`PageChecks`].
pub fn check_every_page(
    name: SegmentName,
    segment: &[u8],
    expected: &ExpectedCluster,
) -> Result<LongHeader, SegmentDefect> {
    let mut checks = PageChecks::begin(name, segment.len() as u64, segment, expected)?;
    for page in segment.chunks_exact(checks.block_size()) {
        checks.check(page)?;
    }
    Ok(checks.first)
}

/// Checks the page headers of a segment one after the other, as is due for one whose end nobody vouches for: a segment
/// that a standby received before it was promoted may end in zeros or in the WAL of a recycled file.
///
/// Empty pages are accepted only at the end and only after a segment switch, which leaves them.
#[derive(Debug)]
pub struct PageChecks {
    name: SegmentName,
    start: Lsn,
    first: LongHeader,
    timeline: TimelineId,
    /// Where the next page begins.
    offset: u64,
    /// The last two pages before it.
    tail: Vec<u8>,
    empty_from: Option<u64>,
}

impl PageChecks {
    /// Begins with the file itself, as [`check_segment`] does.
    pub fn begin(
        name: SegmentName,
        length: u64,
        first_page: &[u8],
        expected: &ExpectedCluster,
    ) -> Result<Self, SegmentDefect> {
        let first = check_segment(name, length, first_page, expected)?;
        let (start, timeline) = (name.start(expected.segment_size), first.page.timeline);
        Ok(Self { name, start, first, timeline, offset: 0, tail: Vec::new(), empty_from: None })
    }

    /// The bytes of a page.
    pub fn block_size(&self) -> usize {
        self.first.block_size as usize
    }

    /// Checks the next page, from the first one on.
    pub fn check(&mut self, page: &[u8]) -> Result<(), SegmentDefect> {
        let offset = self.offset;
        self.offset += page.len() as u64;
        let is_empty = page.iter().all(|byte| *byte == 0);
        if let Some(offset) = self.empty_from {
            return if is_empty { Ok(()) } else { Err(SegmentDefect::ZeroPage { offset }) };
        }
        if is_empty && self.tail(offset).ends_with_a_switch() {
            self.empty_from = Some(offset);
            return Ok(());
        }
        self.check_header(&PageHeader::parse(page, offset)?, offset)?;
        self.remember(page);
        Ok(())
    }

    fn check_header(&mut self, header: &PageHeader, offset: u64) -> Result<(), SegmentDefect> {
        if header.magic != self.first.page.magic {
            return Err(SegmentDefect::WrongMagic { offset, magic: header.magic.get() });
        }
        header.check(self.name, self.start, offset)?;
        if header.timeline < self.timeline {
            return Err(SegmentDefect::TimelineWentBack { offset, found: header.timeline });
        }
        self.timeline = header.timeline;
        Ok(())
    }

    fn tail(&self, offset: u64) -> Tail<'_> {
        let position = offset as usize - self.tail.len();
        Tail { bytes: &self.tail, position, block_size: self.block_size() }
    }

    fn remember(&mut self, page: &[u8]) {
        let outdated = self.tail.len().saturating_sub(self.block_size());
        self.tail.drain(..outdated);
        self.tail.extend_from_slice(page);
    }
}

#[cfg(test)]
#[path = "wal_header_tests.rs"]
mod tests;
