//! Whole objects as they arrive: large segments, and parts of a file list, with bounded memory.

use bytes::{Buf, BytesMut};

use super::chunk::{Content, EndRecord, Record, split_record};
use super::damage::{Checked, Damage, ensure};
use super::identity::{ContentDigest, ObjectIdentity};
use super::prelude::{ContentFacts, Head, prelude_length};
use super::reader::ObjectReader;
use super::sealing::Sealing;
use super::sequence::{Sequence, ensure_digest};
use crate::error::{Error, Result};

/// Decodes an object piece by piece, as strictly as [`super::decode`].
///
/// Feed it what arrives, take chunks until there is none, and believe them only after [`StreamDecoder::finish`].
/// It holds at most one record and one chunk besides what was fed.
pub struct StreamDecoder {
    sealing: Sealing,
    identity: ObjectIdentity,
    unread: BytesMut,
    /// What the last record held; memory that is used again costs less than new.
    raw: Vec<u8>,
    walk: Option<Walk>,
}

/// The state after the prelude.
struct Walk {
    reader: ObjectReader,
    sequence: Sequence,
    hasher: blake3::Hasher,
    end: Option<EndRecord>,
}

/// Facts about a content that has been decoded whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodedObject {
    /// Length and digest of the content.
    pub content: ContentFacts,
    /// Number of chunks.
    pub chunk_count: u64,
}

/// What the next record was.
enum Step {
    Chunk,
    Other,
    Incomplete,
}

impl StreamDecoder {
    /// A decoder for the object `identity`.
    pub fn new(sealing: &Sealing, identity: ObjectIdentity) -> Self {
        Self {
            sealing: sealing.clone(),
            identity,
            unread: BytesMut::new(),
            raw: Vec::new(),
            walk: None,
        }
    }

    /// Takes the next piece of the object.
    pub fn feed(&mut self, piece: &[u8]) {
        self.unread.extend_from_slice(piece);
    }

    /// The next decoded chunk; none until more is fed, or for good when the object has ended.
    pub fn next_chunk(&mut self) -> Result<Option<&[u8]>> {
        let Some(walk) = begin(&mut self.walk, &self.sealing, &self.identity, &mut self.unread)?
        else {
            return Ok(None);
        };
        loop {
            let step = walk.step(&mut self.unread, &mut self.raw);
            match step.map_err(|damage| damage.of(&self.identity.name))? {
                Step::Chunk => return Ok(Some(&self.raw)),
                Step::Other => {}
                Step::Incomplete => return Ok(None),
            }
        }
    }

    /// What the prelude says; none until it has been fed and [`StreamDecoder::next_chunk`] called.
    pub fn head(&self) -> Option<&Head> {
        self.walk.as_ref().map(|walk| walk.reader.head())
    }

    /// An error unless the object has ended as it must: all chunks taken, nothing missing, nothing left over.
    pub fn finish(mut self) -> Result<DecodedObject> {
        if self.next_chunk()?.is_some() {
            return Err(Error::bug(format!("chunks of `{}` were not taken", self.identity.name)));
        }
        let end = self.walk.as_ref().and_then(|walk| walk.end);
        let end = end.ok_or_else(|| Damage::new("it ends too early").of(&self.identity.name))?;
        let content = ContentFacts { raw_length: end.raw_length, digest: end.digest };
        Ok(DecodedObject { content, chunk_count: end.chunk_count })
    }
}

/// The walk after the prelude, which is opened first; none while the prelude is not whole.
fn begin<'a>(
    walk: &'a mut Option<Walk>,
    sealing: &Sealing,
    identity: &ObjectIdentity,
    unread: &mut BytesMut,
) -> Result<Option<&'a mut Walk>> {
    if walk.is_none() {
        if unread.len() < 8 || unread.len() < prelude_length(unread)? {
            return Ok(None);
        }
        let reader = ObjectReader::open(sealing, identity, unread)?;
        unread.advance(reader.prelude_length());
        *walk = Some(Walk {
            sequence: Sequence::new(identity.kind, reader.prelude_length()),
            reader,
            hasher: blake3::Hasher::new(),
            end: None,
        });
    }
    Ok(walk.as_mut())
}

impl Walk {
    /// Goes past one record; `raw` holds the chunk then, if it was one.
    fn step(&mut self, unread: &mut BytesMut, raw: &mut Vec<u8>) -> Checked<Step> {
        if self.end.is_some() {
            ensure(unread.is_empty(), "bytes follow its end")?;
            return Ok(Step::Incomplete);
        }
        let Some((record, length)) = split_record(unread)? else { return Ok(Step::Incomplete) };
        let step = self.accept(&record, raw)?;
        unread.advance(length);
        Ok(step)
    }

    fn accept(&mut self, record: &Record<'_>, raw: &mut Vec<u8>) -> Checked<Step> {
        match record {
            Record::Stored(record) => {
                self.sequence.follow(&record.header)?;
                raw.resize(record.header.raw_length as usize, 0);
                self.reader.opener().open_into(record, raw)?;
                if record.header.content == Content::Index {
                    return Ok(Step::Other);
                }
                self.hasher.update(raw);
                Ok(Step::Chunk)
            }
            Record::End(end) => {
                let end = self.reader.opener().end(end)?;
                self.sequence.finish(&end, self.reader.head())?;
                let digest: ContentDigest = self.hasher.finalize().into();
                ensure_digest(digest, &end, self.reader.head())?;
                self.end = Some(end);
                Ok(Step::Other)
            }
        }
    }
}
