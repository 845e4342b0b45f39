//! The ordered end of the pipeline: compressed chunks become packs, what they hold becomes lines of the file list.

use tracing::warn;

use super::Target;
use super::buffer::Buffer;
use super::file_builder::FileBuilder;
use super::list_writer::ListWriter;
use super::pack_builder::{ChunkPlace, FileRun, PackBuilder, Sealed};
use super::pages::Suspect;
use super::read::{Content, ReadItem, RunSource};
use crate::container::CompressedChunk;
use crate::error::{Error, Result};
use crate::repository::{Entry, PackReference, PartReference, blocks_in};

/// A compressed chunk and what its content belongs to.
pub(super) struct Chunk {
    /// None when no item has data.
    pub(super) data: Option<ChunkData>,
    /// In the order of the file list; their data runs cover the content of the chunk.
    pub(super) items: Vec<ReadItem>,
}

impl Chunk {
    /// Bytes of files, zeros included.
    pub(super) fn bytes(&self) -> u64 {
        let length = |item: &ReadItem| match item {
            ReadItem::Content(content) => content.length,
            _ => 0,
        };
        self.items.iter().map(length).sum()
    }
}

/// The content of a chunk, before and after compression.
pub(super) struct ChunkData {
    /// Before.
    pub(super) raw: Buffer,
    /// After.
    pub(super) compressed: CompressedChunk,
}

/// What a backup has stored so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Regular files.
    pub(super) files: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Bytes newly stored, before compression.
    pub(super) new_bytes: u64,
    /// Pages whose checksum failed.
    pub(super) bad_pages: u64,
}

/// Everything that the manifest says of what was stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) totals: Totals,
    pub(super) packs: Vec<PackReference>,
    pub(super) parts: Vec<PartReference>,
}

/// Builds the packs and the file list of one backup. Not thread safe: the order of calls is the order of the list.
pub(super) struct Assembler {
    target: Target,
    pack: Option<PackBuilder>,
    packs: Vec<PackReference>,
    file: Option<FileBuilder>,
    list: ListWriter,
    totals: Totals,
}

impl Assembler {
    /// For a backup of which nothing is stored.
    pub(super) fn new(target: Target) -> Self {
        Self {
            list: ListWriter::new(target.clone()),
            target,
            pack: None,
            packs: Vec::new(),
            file: None,
            totals: Totals::default(),
        }
    }

    /// Adds the next chunk; the objects that are complete with it. `judge` tells bad pages from those that replay
    /// rewrites.
    pub(super) fn add(
        &mut self,
        chunk: Chunk,
        judge: &dyn Fn(&[Suspect]) -> Vec<u32>,
    ) -> Result<Vec<Sealed>> {
        let mut sealed = Vec::new();
        let mut cursor = match chunk.data {
            Some(data) => Some(Cursor { place: self.push(data)?, offset: 0 }),
            None => None,
        };
        for item in chunk.items {
            match item {
                ReadItem::Line(entry) => sealed.extend(self.list.push(&entry)?),
                ReadItem::ControlFile => sealed.extend(self.list.reserve()?),
                ReadItem::Begin(start) => self.file = Some(FileBuilder::begin(start)),
                ReadItem::Content(content) => {
                    let bad = judge(&content.suspects);
                    self.content(&content, &bad, cursor.as_mut())?;
                }
                ReadItem::End => {
                    let entry = self.end_file()?;
                    sealed.extend(self.list.push(&entry)?);
                }
            }
        }
        if self.pack.as_ref().is_some_and(PackBuilder::is_full) {
            sealed.extend(self.seal_pack()?);
        }
        Ok(sealed)
    }

    /// Adds `global/pg_control` after everything else.
    pub(super) fn add_control_file(&mut self, chunk: Chunk) -> Result<Vec<Sealed>> {
        let data = chunk.data.ok_or_else(|| Error::bug("pg_control holds only zeros"))?;
        let mut cursor = Cursor { place: self.push(data)?, offset: 0 };
        for item in chunk.items {
            match item {
                ReadItem::Begin(start) => self.file = Some(FileBuilder::begin(start)),
                ReadItem::Content(content) => self.content(&content, &[], Some(&mut cursor))?,
                _ => {}
            }
        }
        let mut sealed: Vec<_> = self.list.cut()?.into_iter().collect();
        let entry = self.end_file()?;
        sealed.push(self.list.fill_reserved(&entry)?);
        Ok(sealed)
    }

    /// Ends the last pack.
    pub(super) fn seal_pack(&mut self) -> Result<Option<Sealed>> {
        let Some(pack) = self.pack.take() else { return Ok(None) };
        let (reference, sealed) = pack.seal()?;
        self.totals.new_bytes += reference.used;
        self.packs.push(reference);
        Ok(Some(sealed))
    }

    /// What was stored, once everything is sealed.
    pub(super) fn take_stored(&mut self) -> Stored {
        let packs = std::mem::take(&mut self.packs);
        Stored { totals: self.totals, packs, parts: self.list.take_references() }
    }

    fn push(&mut self, data: ChunkData) -> Result<ChunkPlace> {
        let number = self.packs.len() as u32 + 1;
        let pack = match &mut self.pack {
            Some(pack) => pack,
            empty => empty.insert(PackBuilder::begin(&self.target, number)?),
        };
        pack.push(data.compressed, &data.raw)
    }

    fn content(
        &mut self,
        content: &Content,
        bad: &[u32],
        cursor: Option<&mut Cursor>,
    ) -> Result<()> {
        let astray = || Error::bug("content arrived without its file or its chunk");
        let file = self.file.as_mut().ok_or_else(astray)?;
        file.bad_pages(bad);
        if let [first, ..] = bad {
            warn!(path = %file.path(), pages = bad.len(), first, "pages fail their checksum");
        }
        let (mut hashes, mut cursor) = (content.hashes.as_slice(), cursor);
        for run in &content.runs {
            let (own, rest) = hashes.split_at(blocks_in(run.length));
            hashes = rest;
            match run.source {
                RunSource::Zeros => file.zeros(run.length, own),
                RunSource::Data => {
                    let cursor = cursor.as_deref_mut().ok_or_else(astray)?;
                    let place = cursor.place.at(cursor.offset);
                    cursor.offset += run.length;
                    let (path, offset) = (file.path(), file.size());
                    let run = FileRun { path, offset, length: run.length, hashes: own };
                    self.pack.as_mut().ok_or_else(astray)?.record(place, run);
                    file.stored(run.length, own, place);
                }
            }
        }
        Ok(())
    }

    fn end_file(&mut self) -> Result<Entry> {
        let file = self.file.take().ok_or_else(|| Error::bug("a file ended that never began"))?;
        let entry = file.finish();
        self.totals.files += 1;
        self.totals.bytes += entry.size;
        self.totals.bad_pages += entry.bad_pages.len() as u64;
        Ok(Entry::File(entry))
    }
}

/// Where the next data of a chunk lies.
struct Cursor {
    place: ChunkPlace,
    offset: u64,
}
