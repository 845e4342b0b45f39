//! Objects that grow chunk by chunk: packs, and parts of a file list.

use bytes::Bytes;

use super::CHUNK_SIZE;
use super::body::{Body, Follows, stored_chunk_bytes};
use super::chunk::END_RECORD_BYTES;
use super::compression::{Codec, CompressedChunk, compress};
use super::identity::{ContentDigest, ObjectIdentity};
use super::parallel;
use super::prelude::Head;
use super::sealing::{Salt, Sealing};
use super::sequence::INDEX_LIMIT_BYTES;
use crate::error::{Error, Result};

/// Builds one object in memory out of chunks that other threads compressed.
///
/// Its head cannot know the content, so readers learn length and digest from the end record.
pub struct ObjectWriter {
    identity: ObjectIdentity,
    codec: Codec,
    body: Body,
    /// The newest chunk waits here until it is known whether it is the last.
    held: Option<CompressedChunk>,
    chunks: Vec<ChunkPosition>,
    raw_length: u64,
    hasher: blake3::Hasher,
    has_index: bool,
}

/// Where a chunk lies in its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPosition {
    /// Where its frame begins.
    pub offset: u64,
    /// Bytes of the compressed chunk, which follow the 48 bytes of the frame.
    pub stored_length: u32,
    /// Bytes before compression.
    pub raw_length: u32,
}

/// An object ready to be stored.
#[derive(Debug, Clone)]
pub struct FinishedObject {
    /// The whole object.
    pub bytes: Bytes,
    /// Bytes of the content, the index not included.
    pub raw_length: u64,
    /// BLAKE3 of the content.
    pub digest: ContentDigest,
    /// Where the first index record begins; none without an index.
    pub index_position: Option<u64>,
    /// All chunks, in order.
    pub chunks: Vec<ChunkPosition>,
}

impl ObjectWriter {
    /// Begins an object.
    pub fn new(sealing: &Sealing, identity: ObjectIdentity, codec: Codec) -> Result<Self> {
        let salt = sealing.new_salt()?;
        Self::with_salt(sealing, identity, codec, &salt)
    }

    /// Makes room for `bytes` more: an object that grows in steps leaves holes of every size behind in the heap.
    pub fn reserve(&mut self, bytes: usize) {
        self.body.reserve(bytes);
    }

    pub(super) fn with_salt(
        sealing: &Sealing,
        identity: ObjectIdentity,
        codec: Codec,
        salt: &Salt,
    ) -> Result<Self> {
        let head = Head { name: identity.name.clone(), content: None, body_length: None };
        let body = Body::begin(sealing, &identity, codec.id(), head, salt)?;
        Ok(Self {
            identity,
            codec,
            body,
            held: None,
            chunks: Vec::new(),
            raw_length: 0,
            hasher: blake3::Hasher::new(),
            has_index: false,
        })
    }

    /// Appends a chunk; `raw` is what it was compressed from.
    pub fn push(&mut self, chunk: CompressedChunk, raw: &[u8]) -> Result<()> {
        if self.has_index || chunk.codec != self.body.codec() || chunk.raw_length() != raw.len() {
            return Err(self.misused("a chunk that does not belong here"));
        }
        self.flush(Follows::More);
        self.hasher.update(raw);
        self.raw_length += raw.len() as u64;
        if self.raw_length > self.identity.kind.content_limit_bytes() {
            return Err(self.misused("more content than its kind may have"));
        }
        self.chunks.push(ChunkPosition {
            offset: self.body.position(),
            stored_length: chunk.frame.len() as u32,
            raw_length: chunk.raw_length,
        });
        self.held = Some(chunk);
        Ok(())
    }

    /// Size of the object if it ended now, without an index.
    pub fn stored_length(&self) -> u64 {
        let held = self.held.as_ref().map_or(0, stored_chunk_bytes);
        self.body.position() + (held + END_RECORD_BYTES) as u64
    }

    /// Bytes of the content so far.
    pub fn raw_length(&self) -> u64 {
        self.raw_length
    }

    /// Where the chunks lie that were pushed so far, the newest included.
    pub fn chunk_positions(&self) -> &[ChunkPosition] {
        &self.chunks
    }

    /// Appends the whole index, after the last chunk; at most once.
    pub fn push_index(&mut self, raw: &[u8]) -> Result<()> {
        if self.has_index || raw.is_empty() || raw.len() as u64 > INDEX_LIMIT_BYTES {
            return Err(self.misused("an index that does not fit"));
        }
        self.has_index = true;
        self.flush(Follows::Nothing);
        let codec = self.codec;
        let records = parallel::map(raw.chunks(CHUNK_SIZE), |raw| compress(codec, raw))?;
        let (last, others) = records.split_last().expect("an index is not empty");
        for record in others {
            self.body.push_index_record(record, Follows::More);
        }
        self.body.push_index_record(last, Follows::Nothing);
        Ok(())
    }

    /// Ends the object.
    pub fn finish(mut self) -> Result<FinishedObject> {
        self.flush(Follows::Nothing);
        let digest = self.hasher.finalize().into();
        let end = self.body.end(digest);
        Ok(FinishedObject {
            bytes: self.body.take(),
            raw_length: end.raw_length,
            digest,
            index_position: end.index_position,
            chunks: self.chunks,
        })
    }

    fn flush(&mut self, follows: Follows) {
        if let Some(chunk) = self.held.take() {
            self.body.push_chunk(&chunk, follows);
        }
    }

    fn misused(&self, given: &str) -> Error {
        Error::bug(format!("`{}` was given {given}", self.identity.name))
    }
}
