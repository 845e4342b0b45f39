//! Objects too large for memory: WAL segments above 32 MiB, read and sealed in batches of chunks.

use std::io::Read;

use bytes::Bytes;

use super::CHUNK_SIZE;
use super::body::{Body, Follows};
use super::chunk::{Record, split_record};
use super::compression::{Codec, compress};
use super::damage::{Damage, ensure};
use super::identity::{ContentDigest, ObjectIdentity};
use super::parallel;
use super::prelude::{ContentFacts, Head};
use super::reader::{Opener, miswritten};
use super::sealing::{Salt, Sealing};
use crate::error::{Error, Result};

/// Encodes a source in pieces that, joined, are one object; blocking.
///
/// The caller has read the source once before and states what it holds. When it turns out to hold anything else, the
/// last piece is an error, so that what was sent can never be taken for an object. It holds one chunk for every core,
/// raw and stored. WAL is opened again and compared, as by [`super::encode`].
pub struct EncodeStream<R> {
    identity: ObjectIdentity,
    codec: Codec,
    stated: ContentFacts,
    source: R,
    body: Body,
    left: u64,
    hasher: blake3::Hasher,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Prelude,
    Chunks,
    Done,
}

impl<R: Read> EncodeStream<R> {
    /// Begins an object with the content of `source`, which is `stated`.
    pub fn new(
        sealing: &Sealing,
        identity: ObjectIdentity,
        codec: Codec,
        stated: ContentFacts,
        source: R,
    ) -> Result<Self> {
        let salt = sealing.new_salt()?;
        Self::with_salt(sealing, identity, codec, stated, source, &salt)
    }

    pub(super) fn with_salt(
        sealing: &Sealing,
        identity: ObjectIdentity,
        codec: Codec,
        stated: ContentFacts,
        source: R,
        salt: &Salt,
    ) -> Result<Self> {
        let head = Head { name: identity.name.clone(), content: Some(stated), body_length: None };
        let body = Body::begin(sealing, &identity, codec.id(), head, salt)?;
        let left = stated.raw_length;
        let hasher = blake3::Hasher::new();
        Ok(Self { identity, codec, stated, source, body, left, hasher, state: State::Prelude })
    }

    fn batch(&mut self) -> Result<Bytes> {
        let raw = self.read_batch()?;
        self.left -= raw.len() as u64;
        self.hasher.update(&raw);
        let codec = self.codec;
        let chunks = parallel::map(raw.chunks(CHUNK_SIZE), |raw| compress(codec, raw))?;
        for (index, chunk) in chunks.iter().enumerate() {
            let last = self.left == 0 && index + 1 == chunks.len();
            self.body.push_chunk(chunk, if last { Follows::Nothing } else { Follows::More });
        }
        drop(chunks);
        let records_length = self.body.pending().len();
        if self.left == 0 {
            self.end()?;
        }
        let piece = self.body.take();
        if self.identity.kind.holds_wal() {
            self.ensure_holds(&piece[..records_length], &raw)?;
        }
        Ok(piece)
    }

    fn read_batch(&mut self) -> Result<Vec<u8>> {
        let length = self.left.min((parallel::threads() * CHUNK_SIZE) as u64);
        let mut raw = Vec::with_capacity(length as usize);
        let read = self.source.by_ref().take(length).read_to_end(&mut raw);
        read.map_err(|error| self.unreadable(error))?;
        if raw.len() as u64 == length { Ok(raw) } else { Err(self.changed()) }
    }

    fn end(&mut self) -> Result<()> {
        let mut more = Vec::new();
        let read = self.source.by_ref().take(1).read_to_end(&mut more);
        read.map_err(|error| self.unreadable(error))?;
        let digest: ContentDigest = self.hasher.finalize().into();
        if !more.is_empty() || digest != self.stated.digest {
            return Err(self.changed());
        }
        self.body.end(digest);
        self.state = State::Done;
        Ok(())
    }

    fn unreadable(&self, error: std::io::Error) -> Error {
        Error::io(format!("cannot read what is to be stored as `{}`", self.identity.name), error)
    }

    fn changed(&self) -> Error {
        let name = &self.identity.name;
        Error::unavailable(format!("what is to be stored as `{name}` changed while it was read"))
    }

    fn ensure_holds(&self, mut records: &[u8], raw: &[u8]) -> Result<()> {
        let (cipher, codec) = self.body.records();
        let opener = Opener { records: cipher, codec };
        let name = &self.identity.name;
        let miswritten = |damage: Damage| miswritten(name, damage);
        let mut stored = Vec::new();
        while let Some((Record::Stored(record), length)) =
            split_record(records).map_err(miswritten)?
        {
            stored.push(record);
            records = &records[length..];
        }
        let expected = raw.chunks(CHUNK_SIZE);
        ensure(stored.len() == expected.len(), "a chunk is missing").map_err(miswritten)?;
        parallel::map(stored.iter().zip(expected), |(record, raw)| {
            opener.ensure_holds(record, raw).map_err(miswritten)
        })?;
        Ok(())
    }
}

impl<R: Read> Iterator for EncodeStream<R> {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Result<Bytes>> {
        match self.state {
            State::Prelude => {
                self.state = State::Chunks;
                Some(Ok(self.body.take()))
            }
            State::Chunks => {
                let piece = self.batch();
                if piece.is_err() {
                    self.state = State::Done;
                }
                Some(piece)
            }
            State::Done => None,
        }
    }
}
