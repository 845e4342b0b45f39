//! The records after the prelude: chunks, index records and the end, each in a skippable frame.
//!
//! `docs/format.md` sections 3.2 to 3.4. Parsing is strict enough that a header has one spelling only.

use super::CHUNK_SIZE;
use super::compression::EXPANSION_LIMIT_BYTES;
use super::damage::{Checked, Damage, ensure};
use super::encryption::{Place, Role, TAG_BYTES, Tag};
use super::identity::ContentDigest;

/// The magic of the skippable frames, known to zstd and LZ4 alike.
pub(super) const SKIPPABLE_MAGIC: u32 = 0x184D_2A57;

/// Magic and payload length.
pub(super) const FRAME_HEADER_BYTES: usize = 8;

/// Bytes of a chunk's frame, before its stored bytes.
pub const CHUNK_HEADER_BYTES: usize = FRAME_HEADER_BYTES + HEADER_BYTES;

/// Bytes of the end record, the last of every object.
pub const END_RECORD_BYTES: usize = FRAME_HEADER_BYTES + 4 + TAG_BYTES + END_FACTS_BYTES;

/// Bytes of the header of a chunk or index record.
const HEADER_BYTES: usize = 40;
/// Bytes of a frame that its tag covers: everything before the tag.
const COVERED_BYTES: usize = 32;
const END_COVERED_BYTES: usize = 12;
const END_FACTS_BYTES: usize = 64;

/// The header of a chunk or an index record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) content: Content,
    pub(super) last: bool,
    pub(super) raw_length: u32,
    pub(super) index: u64,
    pub(super) stored_length: u32,
}

/// What the stored bytes of a record belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Chunk,
    Index,
}

/// One whole record, read but not yet opened.
pub(super) enum Record<'a> {
    Stored(StoredRecord<'a>),
    End(&'a [u8; END_RECORD_BYTES]),
}

/// A chunk or an index record as it is stored.
#[derive(Clone, Copy)]
pub(super) struct StoredRecord<'a> {
    pub(super) header: RecordHeader,
    pub(super) tag: Tag,
    pub(super) stored: &'a [u8],
}

/// What the end record states about the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndRecord {
    /// Number of chunks.
    pub chunk_count: u64,
    /// Bytes of the content.
    pub raw_length: u64,
    /// BLAKE3 of the content.
    pub digest: ContentDigest,
    /// Where the first index record begins in the object; only packs have any.
    pub index_position: Option<u64>,
    /// Number of index records.
    pub index_count: u64,
}

impl RecordHeader {
    pub(super) fn place(&self) -> Place {
        let role = match self.content {
            Content::Chunk => Role::Chunk,
            Content::Index => Role::Index,
        };
        Place::of(role, self.last, self.index)
    }

    /// The frame up to the tag, which covers it.
    pub(super) fn covered(&self) -> [u8; COVERED_BYTES] {
        let payload_length = match self.content {
            Content::Chunk => HEADER_BYTES,
            Content::Index => HEADER_BYTES + self.stored_length as usize,
        };
        let mut covered = [0; COVERED_BYTES];
        covered[..8].copy_from_slice(&frame_header(payload_length));
        covered[8] = self.content.record_type();
        covered[9] = u8::from(self.last);
        covered[12..16].copy_from_slice(&self.raw_length.to_le_bytes());
        covered[16..24].copy_from_slice(&self.index.to_le_bytes());
        covered[24..28].copy_from_slice(&self.stored_length.to_le_bytes());
        covered
    }

    /// Parses the frame of a record up to its tag.
    fn parse(covered: &[u8; COVERED_BYTES]) -> Checked<Self> {
        let content = match covered[8] {
            2 => Content::Chunk,
            3 => Content::Index,
            _ => return Err(Damage::new("it has a record of an unknown type")),
        };
        let number = |offset| u32::from_le_bytes(array_at(covered, offset).expect("within 32"));
        let header = Self {
            content,
            last: covered[9] == 1,
            raw_length: number(12),
            index: u64::from_le_bytes(array_at(covered, 16).expect("within 32")),
            stored_length: number(24),
        };
        let (raw_length, stored_length) =
            (header.raw_length as usize, header.stored_length as usize);
        ensure((1..=CHUNK_SIZE).contains(&raw_length), "a record has an impossible raw length")?;
        let stored_limit = raw_length + EXPANSION_LIMIT_BYTES;
        ensure(stored_length <= stored_limit, "a record has an impossible stored length")?;
        // Reserved fields, the frame's own length, other flags: there is only one way to write a header.
        ensure(header.covered() == *covered, "a record has a malformed header")?;
        Ok(header)
    }
}

impl Content {
    const fn record_type(self) -> u8 {
        match self {
            Self::Chunk => 2,
            Self::Index => 3,
        }
    }
}

/// The record at the beginning of `bytes` and its length; none when `bytes` ends within it.
pub(super) fn split_record(bytes: &[u8]) -> Checked<Option<(Record<'_>, usize)>> {
    let Some(frame) = bytes.first_chunk::<12>() else { return Ok(None) };
    ensure(frame.starts_with(&SKIPPABLE_MAGIC.to_le_bytes()), "a record does not begin a frame")?;
    if frame[8] == Role::End as u8 {
        let end = bytes.first_chunk::<END_RECORD_BYTES>();
        return Ok(end.map(|end| (Record::End(end), END_RECORD_BYTES)));
    }
    let Some(frame) = bytes.first_chunk::<CHUNK_HEADER_BYTES>() else { return Ok(None) };
    let header = RecordHeader::parse(frame.first_chunk().expect("shorter than the frame"))?;
    let length = CHUNK_HEADER_BYTES + header.stored_length as usize;
    let tag = *frame.last_chunk().expect("the tag ends the header");
    Ok(bytes
        .get(CHUNK_HEADER_BYTES..length)
        .map(|stored| (Record::Stored(StoredRecord { header, tag, stored }), length)))
}

impl EndRecord {
    /// The bytes that are sealed.
    pub(super) fn facts(&self) -> [u8; END_FACTS_BYTES] {
        let mut facts = [0; END_FACTS_BYTES];
        facts[..8].copy_from_slice(&self.chunk_count.to_le_bytes());
        facts[8..16].copy_from_slice(&self.raw_length.to_le_bytes());
        facts[16..48].copy_from_slice(self.digest.as_bytes());
        facts[48..56].copy_from_slice(&self.index_position.unwrap_or(0).to_le_bytes());
        facts[56..].copy_from_slice(&self.index_count.to_le_bytes());
        facts
    }

    /// The frame up to the tag, which covers it.
    pub(super) fn covered() -> [u8; END_COVERED_BYTES] {
        let mut covered = [0; END_COVERED_BYTES];
        covered[..8].copy_from_slice(&frame_header(END_RECORD_BYTES - FRAME_HEADER_BYTES));
        covered[8] = Role::End as u8;
        covered
    }

    /// The tag and the sealed bytes of an end record.
    pub(super) fn split(record: &[u8; END_RECORD_BYTES]) -> Checked<(Tag, &[u8])> {
        ensure(record.starts_with(&Self::covered()), "its end record is malformed")?;
        let tag = array_at(record, END_COVERED_BYTES).expect("within the record");
        Ok((tag, &record[END_COVERED_BYTES + TAG_BYTES..]))
    }

    /// Parses the opened bytes.
    pub(super) fn from_facts(facts: &[u8]) -> Self {
        let number = |offset| u64::from_le_bytes(array_at(facts, offset).expect("64 bytes"));
        Self {
            chunk_count: number(0),
            raw_length: number(8),
            digest: ContentDigest::from_bytes(array_at(facts, 16).expect("64 bytes")),
            index_position: Some(number(48)).filter(|position| *position != 0),
            index_count: number(56),
        }
    }
}

/// The beginning of a skippable frame with a payload of `payload_length` bytes.
pub(super) fn frame_header(payload_length: usize) -> [u8; FRAME_HEADER_BYTES] {
    let mut header = [0; FRAME_HEADER_BYTES];
    header[..4].copy_from_slice(&SKIPPABLE_MAGIC.to_le_bytes());
    header[4..].copy_from_slice(&(payload_length as u32).to_le_bytes());
    header
}

/// The `N` bytes at `offset`; none when `bytes` ends before.
pub(super) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}
