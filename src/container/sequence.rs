//! The order of records: what may follow what, and whether the end record tells the truth about all of them.

use super::chunk::{CHUNK_HEADER_BYTES, Content, END_RECORD_BYTES, EndRecord, RecordHeader};
use super::damage::{Checked, ensure};
use super::identity::{ContentDigest, ObjectKind};
use super::prelude::Head;

/// Most bytes of a pack's index, all records together.
pub const INDEX_LIMIT_BYTES: u64 = 64 << 20;

/// Records of one kind, in order.
#[derive(Default)]
struct Series {
    count: u64,
    raw_length: u64,
    ended: bool,
}

/// A walk over all records of an object, from its prelude to its end.
pub(super) struct Sequence {
    kind: ObjectKind,
    prelude_length: u64,
    position: u64,
    chunks: Series,
    index: Series,
    index_position: Option<u64>,
}

impl Series {
    fn follow(&mut self, header: &RecordHeader) -> Checked<()> {
        ensure(!self.ended, "a record follows the last one")?;
        ensure(header.index == self.count, "its records are out of order")?;
        self.count += 1;
        self.raw_length += u64::from(header.raw_length);
        self.ended = header.last;
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.ended || self.count == 0
    }
}

impl Sequence {
    /// The walk after the prelude.
    pub(super) fn new(kind: ObjectKind, prelude_length: usize) -> Self {
        let position = prelude_length as u64;
        Self {
            kind,
            prelude_length: position,
            position,
            chunks: Series::default(),
            index: Series::default(),
            index_position: None,
        }
    }

    /// Goes past a chunk or an index record.
    pub(super) fn follow(&mut self, header: &RecordHeader) -> Checked<()> {
        match header.content {
            Content::Chunk => {
                ensure(self.index.count == 0, "a chunk follows an index record")?;
                self.chunks.follow(header)?;
                let limit = self.kind.content_limit_bytes();
                ensure(self.chunks.raw_length <= limit, "its content is above the limit")?;
            }
            Content::Index => {
                ensure(self.kind == ObjectKind::Pack, "it has an index and is no pack")?;
                ensure(self.chunks.is_whole(), "an index record follows an unfinished content")?;
                self.index.follow(header)?;
                ensure(self.index.raw_length <= INDEX_LIMIT_BYTES, "its index is above the limit")?;
                self.index_position.get_or_insert(self.position);
            }
        }
        self.position += (CHUNK_HEADER_BYTES + header.stored_length as usize) as u64;
        Ok(())
    }

    /// Compares what was passed with what the end record and the head state; digests are compared elsewhere.
    pub(super) fn finish(&mut self, end: &EndRecord, head: &Head) -> Checked<()> {
        ensure(self.chunks.is_whole(), "its last chunk is missing")?;
        ensure(end.chunk_count == self.chunks.count, "its number of chunks is wrong")?;
        ensure(end.raw_length == self.chunks.raw_length, "its length is wrong")?;
        self.finish_index(end)?;
        self.position += END_RECORD_BYTES as u64;
        let body_length = self.position - self.prelude_length;
        ensure(head.body_length.is_none_or(|stated| stated == body_length), "its size is wrong")?;
        let stated = head.content.map_or(end.raw_length, |content| content.raw_length);
        ensure(stated == end.raw_length, "its head states another length")
    }

    /// Compares what was passed of the index with what the end record states.
    pub(super) fn finish_index(&self, end: &EndRecord) -> Checked<()> {
        ensure(self.index.is_whole(), "its last index record is missing")?;
        ensure(end.index_count == self.index.count, "its number of index records is wrong")?;
        ensure(end.index_position == self.index_position, "the position of its index is wrong")
    }
}

/// Compares the digest of the whole content with what the end record and the head state.
pub(super) fn ensure_digest(digest: ContentDigest, end: &EndRecord, head: &Head) -> Checked<()> {
    ensure(digest == end.digest, "the digest of its content is wrong")?;
    let stated = head.content.map_or(digest, |content| content.digest);
    ensure(stated == digest, "its head states another digest")
}
