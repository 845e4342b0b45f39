//! The ordered end of the pipeline: compressed chunks become packs, what they hold becomes lines of the file list.

use std::sync::Arc;

use tracing::warn;

use super::Target;
use super::buffer::Buffer;
use super::file_builder::FileBuilder;
use super::list_writer::ListWriter;
use super::listing::{FileStatus, cannot, unless_vanished};
use super::pack_builder::{ChunkPlace, FileRun, PackBuilder, Sealed};
use super::pack_table::PackTable;
use super::pages::Suspect;
use super::read::{Content, ReadItem, RunSource};
use super::walk::DataDirectory;
use crate::container::CompressedChunk;
use crate::error::{Error, Result};
use crate::repository::{
    Entry, Extent, FileEntry, ListedPath, PackReference, PartReference, blocks_in,
};

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
            ReadItem::Taken(entry, _) => entry.size,
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
    data: DataDirectory,
    pack: Option<PackBuilder>,
    next_pack: u32,
    table: PackTable,
    file: Option<FileBuilder>,
    list: ListWriter,
    totals: Totals,
    /// A file that has changed though its identity has not.
    lying: Option<ListedPath>,
}

/// The numbers that the next pack and the next part of the file list get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) pack: u32,
    pub(super) part: u32,
}

impl Numbers {
    /// Of a backup that has stored nothing.
    pub(super) const FIRST: Self = Self { pack: 1, part: 1 };
}

impl Assembler {
    /// For a backup whose objects are numbered from `numbers` on and which may reference the `known` packs.
    pub(super) fn new(
        target: Target,
        data: DataDirectory,
        numbers: Numbers,
        known: Arc<[PackReference]>,
    ) -> Self {
        Self {
            list: ListWriter::new(target.clone(), numbers.part),
            target,
            data,
            pack: None,
            next_pack: numbers.pack,
            table: PackTable::new(known),
            file: None,
            totals: Totals::default(),
            lying: None,
        }
    }

    /// A file that differs from what the parent read, though its identity is the same: nothing of what was taken over
    /// unread can be trusted.
    pub(super) fn lying(&self) -> Option<&ListedPath> {
        self.lying.as_ref()
    }

    /// The numbers that no object has had so far.
    pub(super) fn free_numbers(&self) -> Numbers {
        Numbers { pack: self.next_pack, part: self.list.next_number() }
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
                ReadItem::Taken(entry, extents) => {
                    let entry = self.take_over(*entry, &extents)?;
                    sealed.extend(self.list.push(&entry)?);
                }
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
        let row = pack.table_index();
        let (reference, sealed) = pack.seal()?;
        self.totals.new_bytes += reference.raw;
        self.table.complete(row, reference);
        Ok(Some(sealed))
    }

    /// What was stored, once everything is sealed.
    pub(super) fn take_stored(&mut self) -> Stored {
        let packs = self.table.take_rows();
        Stored { totals: self.totals, packs, parts: self.list.take_references() }
    }

    fn push(&mut self, data: ChunkData) -> Result<ChunkPlace> {
        let pack = match &mut self.pack {
            Some(pack) => pack,
            empty => {
                let reference = PackBuilder::reference(&self.target, self.next_pack);
                self.next_pack += 1;
                let row = self.table.add_own(reference.clone());
                empty.insert(PackBuilder::begin(&self.target, reference, row)?)
            }
        };
        pack.push(data.compressed, &data.raw)
    }

    /// The line of a file that is taken over as it lies; its recorded bad pages are still there.
    fn take_over(&mut self, mut entry: FileEntry, extents: &[Extent]) -> Result<Entry> {
        entry.extents = self.table.take_extents(extents)?;
        self.count(&entry);
        Ok(Entry::File(entry))
    }

    fn count(&mut self, entry: &FileEntry) {
        self.totals.files += 1;
        self.totals.bytes += entry.size;
        self.totals.bad_pages += entry.bad_pages.len() as u64;
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
                RunSource::Known(known) => {
                    let row = self.table.take(known.pack, run.length)?;
                    file.stored(run.length, own, ChunkPlace::of_known(row, known).at(known.offset));
                }
                RunSource::Data => {
                    let cursor = cursor.as_deref_mut().ok_or_else(astray)?;
                    let place = cursor.place.at(cursor.offset);
                    cursor.offset += run.length as u32;
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
        let expected = file.expected();
        let entry = file.finish();
        self.count(&entry);
        if expected.is_some_and(|expected| expected != entry.digest) && self.still_is(&entry)? {
            self.lying.get_or_insert_with(|| entry.path.clone());
        }
        Ok(Entry::File(entry))
    }

    /// Whether the file is the one that was read, by everything that a skipped file is known by.
    fn still_is(&self, entry: &FileEntry) -> Result<bool> {
        let local = self.data.local(&entry.path);
        let found = unless_vanished(rustix::fs::stat(&local));
        let found = found.map_err(|errno| cannot("look at", &local, errno))?;
        Ok(found.is_some_and(|stat| FileStatus::from(&stat).is_of(entry)))
    }
}

/// Where the next data of a chunk lies.
struct Cursor {
    place: ChunkPlace,
    offset: u32,
}
