//! Reading objects: whole from memory, or single chunks by ranged reads.

use super::chunk::{Content, END_RECORD_BYTES, EndRecord, Record, StoredRecord, split_record};
use super::compression::CodecId;
use super::damage::{Checked, Damage, ensure};
use super::encryption::Place;
use super::identity::{ContentDigest, ObjectIdentity, ObjectKind};
use super::parallel;
use super::prelude::{self, Head, OpenedPrelude, RecordCipher};
use super::sealing::Sealing;
use super::sequence::{Sequence, ensure_digest};
use super::tree_hash::Cut;
use crate::error::{Error, Result};

/// Opens the parts of one object, in any order and from any thread.
///
/// Every part is authenticated for this object and its place in it. Whether all parts are there is known only to
/// who reads them all: [`decode`] and [`super::StreamDecoder`].
pub struct ObjectReader {
    name: String,
    kind: ObjectKind,
    prelude: OpenedPrelude,
}

/// All records of an object, in order and complete; the chunks are not opened yet.
struct Layout<'a> {
    chunks: Vec<StoredRecord<'a>>,
    index: Vec<StoredRecord<'a>>,
    end: EndRecord,
}

/// The content of a whole object, after everything about it was checked.
pub fn decode(sealing: &Sealing, identity: &ObjectIdentity, bytes: &[u8]) -> Result<Vec<u8>> {
    ObjectReader::open(sealing, identity, bytes)?.decode(bytes)
}

impl ObjectReader {
    /// Opens the prelude at the beginning of `bytes`, which holds at least [`super::prelude_length`] bytes of the
    /// object `identity`.
    pub fn open(sealing: &Sealing, identity: &ObjectIdentity, bytes: &[u8]) -> Result<Self> {
        let prelude = prelude::open(sealing, identity, bytes);
        let prelude = prelude.map_err(|damage| damage.of(&identity.name))?;
        Ok(Self { name: identity.name.clone(), kind: identity.kind, prelude })
    }

    /// What the prelude says about the object.
    pub fn head(&self) -> &Head {
        &self.prelude.head
    }

    /// Where the first record after the prelude begins.
    pub fn prelude_length(&self) -> usize {
        self.prelude.length
    }

    /// Opens chunk `index` from its 48 bytes of frame and its stored bytes, neither more nor less.
    pub fn open_chunk(&self, index: u64, bytes: &[u8]) -> Result<Vec<u8>> {
        self.chunk(index, bytes).map_err(|damage| damage.of(&self.name))
    }

    fn chunk(&self, index: u64, bytes: &[u8]) -> Checked<Vec<u8>> {
        let Some((Record::Stored(record), length)) = split_record(bytes)? else {
            return Err(Damage::new(format!("chunk {index} is not whole")));
        };
        ensure(length == bytes.len(), "a chunk has not the expected size")?;
        ensure(record.header.content == Content::Chunk, "an index record is not a chunk")?;
        ensure(record.header.index == index, "a chunk is not in its place")?;
        self.opener().open(&record)
    }

    /// Opens the end record, the last 92 bytes of the object.
    pub fn open_end(&self, bytes: &[u8; END_RECORD_BYTES]) -> Result<EndRecord> {
        self.opener().end(bytes).map_err(|damage| damage.of(&self.name))
    }

    /// The index of a pack, out of everything from `index_position` to the end of the object.
    pub fn read_index(&self, index_position: u64, bytes: &[u8]) -> Result<Vec<u8>> {
        self.index(index_position, bytes).map_err(|damage| damage.of(&self.name))
    }

    fn index(&self, index_position: u64, bytes: &[u8]) -> Checked<Vec<u8>> {
        let position = usize::try_from(index_position).expect("64-bit platform");
        let mut sequence = Sequence::new(self.kind, position);
        let layout = self.layout(&mut sequence, bytes)?;
        ensure(layout.end.index_position == Some(index_position), "its index lies elsewhere")?;
        ensure(layout.chunks.is_empty(), "its index lies elsewhere")?;
        sequence.finish_index(&layout.end)?;
        self.open_all(&layout.index)
    }

    fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let named = |damage: Damage| damage.of(&self.name);
        let layout = self.whole_layout(bytes).map_err(named)?;
        let mut content = vec![0; layout.end.raw_length as usize];
        let opener = self.opener();
        parallel::map(split_content(&mut content, &layout.chunks).into_iter(), |(record, raw)| {
            opener.open_into(record, raw).map_err(named)
        })?;
        self.open_all(&layout.index).map_err(named)?;
        let digest = ContentDigest::of(&content);
        ensure_digest(digest, &layout.end, self.head()).map_err(named)?;
        Ok(content)
    }

    /// An error unless the object in `bytes` opens to exactly `content`: guards against errors of compressors and
    /// of memory while the original still exists (E2).
    pub(super) fn ensure_holds(&self, bytes: &[u8], content: &[u8]) -> Result<()> {
        let layout = self.whole_layout(bytes).map_err(|damage| self.miswritten(damage))?;
        let opener = self.opener();
        let chunks = layout.chunks.iter().zip(content.chunks(super::CHUNK_SIZE));
        parallel::map(chunks, |(record, raw)| {
            opener.ensure_holds(record, raw).map_err(|damage| self.miswritten(damage))
        })?;
        let whole = layout.end.raw_length == content.len() as u64;
        ensure(whole, "the length is another").map_err(|damage| self.miswritten(damage))
    }

    /// An error unless the object in `bytes`, which is cut into full chunks, opens to the content that its end states; as
    /// [`Self::ensure_holds`], where the original is not at hand. Holds a few chunks.
    pub(super) fn ensure_opens(&self, bytes: &[u8]) -> Result<()> {
        let named = |damage| self.miswritten(damage);
        let layout = self.whole_layout(bytes).map_err(named)?;
        let (opener, cut) = (self.opener(), Cut::of(layout.chunks.len()));
        let mut hashes = Vec::with_capacity(layout.chunks.len());
        let chunks: Vec<_> = layout.chunks.iter().enumerate().collect();
        for batch in chunks.chunks(super::CHUNKS_AT_ONCE_MAX) {
            hashes.append(&mut parallel::map(batch.iter(), |(index, record)| {
                opener.open(record).map(|raw| cut.hash(*index, &raw)).map_err(named)
            })?);
        }
        ensure_digest(cut.digest(&hashes), &layout.end, self.head()).map_err(named)
    }

    fn miswritten(&self, damage: Damage) -> Error {
        miswritten(&self.name, damage)
    }

    /// All records after the prelude, nothing missing and nothing left over.
    fn whole_layout<'a>(&self, bytes: &'a [u8]) -> Checked<Layout<'a>> {
        let mut sequence = Sequence::new(self.kind, self.prelude_length());
        let layout = self.layout(&mut sequence, &bytes[self.prelude_length()..])?;
        sequence.finish(&layout.end, self.head())?;
        Ok(layout)
    }

    fn layout<'a>(&self, sequence: &mut Sequence, mut bytes: &'a [u8]) -> Checked<Layout<'a>> {
        let (mut chunks, mut index) = (Vec::new(), Vec::new());
        loop {
            let Some((record, length)) = split_record(bytes)? else {
                return Err(Damage::new("it ends too early"));
            };
            bytes = &bytes[length..];
            match record {
                Record::Stored(record) => {
                    sequence.follow(&record.header)?;
                    match record.header.content {
                        Content::Chunk => chunks.push(record),
                        Content::Index => index.push(record),
                    }
                }
                Record::End(end) => {
                    ensure(bytes.is_empty(), "bytes follow its end")?;
                    return Ok(Layout { chunks, index, end: self.opener().end(end)? });
                }
            }
        }
    }

    fn open_all(&self, records: &[StoredRecord<'_>]) -> Checked<Vec<u8>> {
        let mut content = Vec::new();
        for record in records {
            content.append(&mut self.opener().open(record)?);
        }
        Ok(content)
    }

    pub(super) fn opener(&self) -> Opener<'_> {
        Opener { records: &self.prelude.records, codec: self.prelude.codec }
    }
}

pub(super) fn miswritten(name: &str, damage: Damage) -> Error {
    Error::bug(format!("`{name}` does not open to what was to be stored")).because(damage.of(name))
}

/// Opens single records.
#[derive(Clone, Copy)]
pub(super) struct Opener<'a> {
    pub(super) records: &'a RecordCipher,
    pub(super) codec: CodecId,
}

impl Opener<'_> {
    pub(super) fn open(self, record: &StoredRecord<'_>) -> Checked<Vec<u8>> {
        let mut raw = vec![0; record.header.raw_length as usize];
        self.open_into(record, &mut raw)?;
        Ok(raw)
    }

    /// Opens a record into exactly as many bytes as it holds.
    pub(super) fn open_into(self, record: &StoredRecord<'_>, raw: &mut [u8]) -> Checked<()> {
        let header = &record.header;
        let frame =
            self.records.open(header.place(), &header.covered(), record.stored, &record.tag)?;
        self.codec.decompress(&frame, raw)
    }

    pub(super) fn ensure_holds(self, record: &StoredRecord<'_>, raw: &[u8]) -> Checked<()> {
        ensure(self.open(record)? == raw, "a chunk differs")
    }

    pub(super) fn end(self, record: &[u8; END_RECORD_BYTES]) -> Checked<EndRecord> {
        let (tag, sealed) = EndRecord::split(record)?;
        let facts = self.records.open(Place::END, &EndRecord::covered(), sealed, &tag)?;
        Ok(EndRecord::from_facts(&facts))
    }
}

/// The chunks with their places in the content.
fn split_content<'a, 'b>(
    mut content: &'a mut [u8],
    chunks: &'b [StoredRecord<'b>],
) -> Vec<(&'b StoredRecord<'b>, &'a mut [u8])> {
    let mut places = Vec::with_capacity(chunks.len());
    for record in chunks {
        let (raw, rest) = content.split_at_mut(record.header.raw_length as usize);
        places.push((record, raw));
        content = rest;
    }
    places
}
