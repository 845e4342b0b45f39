//! Filling one pack: chunks behind each other, and the index of what they hold.

use super::Target;
use super::known::KnownPlace;
use crate::container::{BlockHash, CHUNK_SIZE, CompressedChunk, ObjectKind, ObjectWriter};
use crate::error::Result;
use crate::repository::{
    ExtentSource, ListedPath, ObjectName, PACK_EXTENTS, PACK_RAW_BYTES, PACK_STORED_BYTES,
    PackIndexWriter, PackReference, PackRun,
};

/// Memory for a pack: it may exceed its limit by a chunk and its index.
pub(super) const PACK_BYTES: u64 = PACK_STORED_BYTES + 4 * CHUNK_SIZE as u64;

/// An object that is ready to be stored.
#[derive(Debug)]
pub(super) struct Sealed {
    /// Its name.
    pub(super) name: ObjectName,
    /// All of it.
    pub(super) bytes: bytes::Bytes,
}

/// The pack that is being filled.
pub(super) struct PackBuilder {
    name: ObjectName,
    reference: PackReference,
    /// Its index in the manifest's pack table.
    table_index: u32,
    writer: ObjectWriter,
    index: PackIndexWriter,
}

/// Where a chunk begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkPlace {
    pack: u32,
    chunk: u32,
    /// Position of the chunk in the content of its pack.
    start: u64,
}

/// Where a run of blocks begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunPlace {
    chunk: ChunkPlace,
    offset: u32,
}

/// A run of blocks of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileRun<'a> {
    /// The file.
    pub(super) path: &'a ListedPath,
    /// Position in it.
    pub(super) offset: u64,
    /// Bytes.
    pub(super) length: u64,
    /// Of its blocks.
    pub(super) hashes: &'a [BlockHash],
}

impl ChunkPlace {
    /// The chunk that holds a known place, whose pack has the given row in this backup's table.
    pub(super) fn of_known(row: u32, place: KnownPlace) -> Self {
        let start = u64::from(place.position - place.offset);
        Self { pack: row, chunk: place.chunk, start }
    }

    /// The place `offset` bytes into the chunk.
    pub(super) fn at(self, offset: u32) -> RunPlace {
        RunPlace { chunk: self, offset }
    }
}

impl RunPlace {
    /// As a file list says it.
    pub(super) fn source(self) -> ExtentSource {
        let ChunkPlace { pack, chunk, .. } = self.chunk;
        ExtentSource::Pack { pack, chunk, offset: self.offset }
    }

    /// The pack's index in the manifest's table, and the position in the pack's content.
    pub(super) fn position(self) -> (u32, u64) {
        (self.chunk.pack, self.chunk.start + u64::from(self.offset))
    }
}

impl PackBuilder {
    /// What is known of pack `number` before it is filled.
    pub(super) fn reference(target: &Target, number: u32) -> PackReference {
        let backup = target.backup.clone();
        PackReference { backup, number, size: 0, index: 0, raw: 0, used: 0 }
    }

    /// Begins the pack that has row `table_index` in the manifest's pack table.
    pub(super) fn begin(
        target: &Target,
        reference: PackReference,
        table_index: u32,
    ) -> Result<Self> {
        let name = ObjectName::Pack(reference.backup.clone(), reference.number);
        let identity = target.repository.object_identity(&name, ObjectKind::Pack, target.cluster);
        let (sealing, codec) = (target.repository.sealing(), target.repository.codec());
        let mut writer = ObjectWriter::new(sealing, identity, codec)?;
        writer.reserve(PACK_BYTES as usize);
        Ok(Self { name, reference, table_index, writer, index: PackIndexWriter::default() })
    }

    /// Its row in the manifest's pack table.
    pub(super) fn table_index(&self) -> u32 {
        self.table_index
    }

    /// Appends a chunk, compressed from `raw`.
    pub(super) fn push(&mut self, chunk: CompressedChunk, raw: &[u8]) -> Result<ChunkPlace> {
        let place = ChunkPlace {
            pack: self.table_index,
            chunk: self.writer.chunk_positions().len() as u32,
            start: self.writer.raw_length(),
        };
        self.writer.push(chunk, raw)?;
        Ok(place)
    }

    /// Records what lies at `place`; runs come in the order of the content.
    pub(super) fn record(&mut self, place: RunPlace, run: FileRun<'_>) {
        let (_, position) = place.position();
        self.index.add(&PackRun {
            path: run.path.as_bytes(),
            file_offset: run.offset,
            length: run.length,
            chunk: place.chunk.chunk,
            offset: place.offset,
            position,
            hashes: run.hashes,
        });
    }

    /// Whether the pack is closed now.
    pub(super) fn is_full(&self) -> bool {
        self.writer.stored_length() >= PACK_STORED_BYTES
            || self.writer.raw_length() >= PACK_RAW_BYTES
            || self.index.extents() >= PACK_EXTENTS
    }

    /// Ends the pack with its index.
    pub(super) fn seal(mut self) -> Result<(PackReference, Sealed)> {
        let index = self.index.finish(self.writer.chunk_positions());
        self.writer.push_index(&index)?;
        drop(index);
        let finished = self.writer.finish()?;
        let index = finished.index_position.expect("an index was pushed");
        let (size, raw) = (finished.bytes.len() as u64, finished.raw_length);
        let reference = PackReference { size, index, raw, used: raw, ..self.reference };
        Ok((reference, Sealed { name: self.name, bytes: finished.bytes }))
    }
}
