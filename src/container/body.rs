//! The writing of records: seals chunks, index records and the end behind each other.

use bytes::Bytes;

use super::chunk::{CHUNK_HEADER_BYTES, Content, END_RECORD_BYTES, EndRecord, RecordHeader};
use super::compression::{CodecId, CompressedChunk};
use super::encryption::{Place, TAG_BYTES};
use super::identity::{ContentDigest, ObjectIdentity};
use super::prelude::{self, Head, RecordCipher};
use super::sealing::{Salt, Sealing};
use crate::error::Result;

/// The bytes of an object as far as they are written.
pub(super) struct Body {
    records: RecordCipher,
    codec: CodecId,
    bytes: Vec<u8>,
    /// Bytes that were taken away by [`Body::take`].
    taken: u64,
    chunk_count: u64,
    raw_length: u64,
    index_count: u64,
    index_position: Option<u64>,
}

/// Whether more of the same follows; part of every record and its nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    More,
    Nothing,
}

/// What a chunk takes in an object.
pub(super) fn stored_chunk_bytes(chunk: &CompressedChunk) -> usize {
    CHUNK_HEADER_BYTES + chunk.stored_length()
}

impl Body {
    /// Begins an object with its prelude.
    pub(super) fn begin(
        sealing: &Sealing,
        identity: &ObjectIdentity,
        codec: CodecId,
        head: Head,
        salt: &Salt,
    ) -> Result<Self> {
        let body_length = head.body_length.unwrap_or(0) as usize;
        let (mut bytes, records) = prelude::seal(sealing, identity, codec, head, salt)?;
        bytes.reserve_exact(body_length);
        Ok(Self {
            records,
            codec,
            bytes,
            taken: 0,
            chunk_count: 0,
            raw_length: 0,
            index_count: 0,
            index_position: None,
        })
    }

    /// Makes room for `bytes` more.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve_exact(bytes);
    }

    /// Where the next record begins in the object.
    pub(super) fn position(&self) -> u64 {
        self.taken + self.bytes.len() as u64
    }

    /// What seals the records, to open them again.
    pub(super) fn records(&self) -> (&RecordCipher, CodecId) {
        (&self.records, self.codec)
    }

    /// The format of the chunks.
    pub(super) fn codec(&self) -> CodecId {
        self.codec
    }

    pub(super) fn push_chunk(&mut self, chunk: &CompressedChunk, follows: Follows) {
        self.push(Content::Chunk, chunk, follows, self.chunk_count);
        self.chunk_count += 1;
        self.raw_length += u64::from(chunk.raw_length);
    }

    pub(super) fn push_index_record(&mut self, record: &CompressedChunk, follows: Follows) {
        self.index_position.get_or_insert(self.position());
        self.push(Content::Index, record, follows, self.index_count);
        self.index_count += 1;
    }

    fn push(&mut self, content: Content, chunk: &CompressedChunk, follows: Follows, index: u64) {
        let header = RecordHeader {
            content,
            last: follows == Follows::Nothing,
            raw_length: chunk.raw_length,
            index,
            stored_length: chunk.frame.len() as u32,
        };
        self.seal(header.place(), &header.covered(), &chunk.frame);
    }

    /// Writes the end record.
    pub(super) fn end(&mut self, digest: ContentDigest) -> EndRecord {
        let end = EndRecord {
            chunk_count: self.chunk_count,
            raw_length: self.raw_length,
            digest,
            index_position: self.index_position,
            index_count: self.index_count,
        };
        self.bytes.reserve_exact(END_RECORD_BYTES);
        self.seal(Place::END, &EndRecord::covered(), &end.facts());
        end
    }

    fn seal(&mut self, place: Place, covered: &[u8], content: &[u8]) {
        self.bytes.reserve(covered.len() + TAG_BYTES + content.len());
        self.bytes.extend_from_slice(covered);
        let tag_position = self.bytes.len();
        self.bytes.extend_from_slice(&[0; TAG_BYTES]);
        self.bytes.extend_from_slice(content);
        let (tag, stored) = self.bytes[tag_position..].split_at_mut(TAG_BYTES);
        tag.copy_from_slice(&self.records.seal(place, covered, stored));
    }

    /// What has been written since the last [`Body::take`].
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes away what has been written since the last call.
    pub(super) fn take(&mut self) -> Bytes {
        self.taken += self.bytes.len() as u64;
        std::mem::take(&mut self.bytes).into()
    }
}
