//! Which bytes of which packs go where in one window of the file list. Pure: nothing is read or written here.
//!
//! Every byte of every file gets exactly one source, or the window is damaged (D1); nothing is planned beyond a
//! file's size (D3). Each chunk is read once, and neighbours are read together.

use std::collections::{BTreeMap, BTreeSet};

use crate::container::{BLOCK_SIZE, CHUNK_HEADER_BYTES, ChunkPosition};
use crate::error::{Error, Result};
use crate::repository::{Extent, ExtentSource, FileEntry};

/// Neighbouring chunks are read together up to this many stored bytes.
pub(super) const READ_BYTES: u64 = 4 << 20;
/// Chunks nobody wants are read along when the gap they leave is at most this wide: cheaper than a second request.
pub(super) const GAP_BYTES: u64 = 128 << 10;

/// The packs of a window, by their index in the manifest, with where their chunks lie.
pub(super) type ChunkTables<'a> = BTreeMap<u32, &'a [ChunkPosition]>;

/// The blocks of a window's files that need no source, because they are right already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct RightBlocks(Vec<Vec<bool>>);

impl RightBlocks {
    /// For every file of the window, whether each of its blocks is right.
    pub(super) fn new(files: Vec<Vec<bool>>) -> Self {
        Self(files)
    }

    fn is_right(&self, file: u32, offset: u64) -> bool {
        let blocks = self.0.get(file as usize);
        let block = blocks.and_then(|blocks| blocks.get((offset / BLOCK_SIZE as u64) as usize));
        block.copied().unwrap_or(false)
    }

    /// The stretches of `offset..offset + length` of a file that are not right, as offset and length.
    fn gaps(&self, file: u32, offset: u64, length: u64) -> impl Iterator<Item = (u64, u64)> {
        let end = offset + length;
        let mut at = offset;
        let skip = move |mut at, right| {
            while at < end && self.is_right(file, at) == right {
                at = end.min(at + BLOCK_SIZE as u64);
            }
            at
        };
        std::iter::from_fn(move || {
            let first = skip(at, true);
            at = skip(first, false);
            (first < end).then_some((first, at - first))
        })
    }
}

/// What has to be read and written for one window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct WindowPlan {
    /// The reads, by pack and position.
    pub(super) reads: Vec<PackRead>,
    /// Stretches of zeros: left as holes, but hashed like any other.
    pub(super) zeros: Vec<ZeroRun>,
}

impl WindowPlan {
    /// Bytes of file content that come to be by it.
    pub(super) fn bytes(&self) -> u64 {
        let zeros = self.zeros.iter().map(|run| run.length);
        zeros.chain(self.reads.iter().map(PackRead::content_bytes)).sum()
    }
}

/// One ranged read of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackRead {
    /// Index into the manifest's pack table.
    pub(super) pack: u32,
    /// First byte.
    pub(super) offset: u64,
    /// Bytes.
    pub(super) length: u64,
    /// The wanted chunks within, in the order of the pack.
    pub(super) chunks: Vec<PlannedChunk>,
}

/// A wanted chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedChunk {
    /// Its number in the pack.
    pub(super) index: u32,
    /// Where it lies in the pack.
    pub(super) position: ChunkPosition,
    /// Where its bytes go.
    pub(super) pieces: Vec<Piece>,
}

/// Whole blocks of a chunk that follow each other in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Index of the file in the window.
    pub(super) file: u32,
    /// Position in the file, a multiple of [`BLOCK_SIZE`].
    pub(super) file_offset: u64,
    /// Position in the chunk's content.
    pub(super) chunk_offset: u32,
    /// Bytes; a multiple of [`BLOCK_SIZE`] but at the end of the file.
    pub(super) length: u32,
}

/// A stretch of zeros in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ZeroRun {
    /// Index of the file in the window.
    pub(super) file: u32,
    /// Position in the file, a multiple of [`BLOCK_SIZE`].
    pub(super) file_offset: u64,
    /// Bytes.
    pub(super) length: u64,
}

impl PackRead {
    /// Bytes of file content that the read brings.
    pub(super) fn content_bytes(&self) -> u64 {
        self.pieces().map(|piece| u64::from(piece.length)).sum()
    }

    /// Everything that the read brings.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.chunks.iter().flat_map(|chunk| &chunk.pieces)
    }
}

impl PlannedChunk {
    fn end(&self) -> u64 {
        frame_end(&self.position)
    }
}

/// The packs that files reference.
pub(super) fn packs_of<'a>(files: impl Iterator<Item = &'a FileEntry>) -> BTreeSet<u32> {
    let extents = files.flat_map(|file| &file.extents);
    let pack = |extent: &Extent| match extent.source {
        ExtentSource::Pack { pack, .. } => Some(pack),
        ExtentSource::Zeros => None,
    };
    extents.filter_map(pack).collect()
}

/// Plans a window: every block that is not `right` gets its source. `tables` holds at least [`packs_of`] the files with
/// such blocks.
///
/// Fails as damage when the extents of a file do not cover it exactly, leave their pack, or split a block.
pub(super) fn plan_window(
    files: &[FileEntry],
    tables: &ChunkTables<'_>,
    right: &RightBlocks,
) -> Result<WindowPlan> {
    let mut wanted = Vec::new();
    let mut zeros = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let number = u32::try_from(index).expect("a window holds few files");
        let placing = Placing { file, number, tables, right };
        placing.place(&mut wanted, &mut zeros)?;
    }
    wanted.sort_unstable_by_key(|want: &Want| (want.pack, want.chunk, want.piece.chunk_offset));
    Ok(WindowPlan { reads: coalesce(group_by_chunk(&wanted, tables)), zeros })
}

/// A piece, and the chunk it is in.
struct Want {
    pack: u32,
    chunk: u32,
    piece: Piece,
}

/// One file, and where its sources may lie.
struct Placing<'a> {
    file: &'a FileEntry,
    number: u32,
    tables: &'a ChunkTables<'a>,
    right: &'a RightBlocks,
}

impl Placing<'_> {
    fn place(&self, wanted: &mut Vec<Want>, zeros: &mut Vec<ZeroRun>) -> Result<()> {
        let file = self.file;
        let mut position = 0;
        for extent in &file.extents {
            let (offset, length) = (extent.offset, extent.length);
            let on_grid = offset.is_multiple_of(BLOCK_SIZE as u64);
            if offset != position || length == 0 || !on_grid || length > file.size - position {
                return Err(uncovered(file));
            }
            for (offset, length) in self.right.gaps(self.number, offset, length) {
                match extent.source {
                    ExtentSource::Zeros => {
                        zeros.push(ZeroRun { file: self.number, file_offset: offset, length });
                    }
                    ExtentSource::Pack { .. } => self.place_gap(extent, offset, length, wanted)?,
                }
            }
            position += length;
        }
        if position == file.size { Ok(()) } else { Err(uncovered(file)) }
    }

    /// Follows a part of an extent through the chunks it runs over.
    fn place_gap(
        &self,
        extent: &Extent,
        mut file_offset: u64,
        length: u64,
        wanted: &mut Vec<Want>,
    ) -> Result<()> {
        let ExtentSource::Pack { pack, chunk, offset } = extent.source else { return Ok(()) };
        let (file, end) = (self.file, file_offset + length);
        let chunks = self.tables.get(&pack).and_then(|table| table.get(chunk as usize..));
        let chunks =
            chunks.filter(|chunks| chunks.first().is_some_and(|it| it.raw_length > offset));
        let chunks = chunks.ok_or_else(|| outside(file, pack))?;
        let mut skip = u64::from(offset) + (file_offset - extent.offset);
        for (position, chunk) in chunks.iter().zip(chunk..) {
            let raw_length = u64::from(position.raw_length);
            if raw_length <= skip {
                skip -= raw_length;
                continue;
            }
            let length = (raw_length - skip).min(end - file_offset);
            if !length.is_multiple_of(BLOCK_SIZE as u64) && file_offset + length != file.size {
                return Err(uncovered(file).because("a block lies in two chunks"));
            }
            let (chunk_offset, length) = (skip as u32, length as u32);
            let piece = Piece { file: self.number, file_offset, chunk_offset, length };
            wanted.push(Want { pack, chunk, piece });
            file_offset += u64::from(length);
            if file_offset == end {
                return Ok(());
            }
            skip = 0;
        }
        Err(outside(file, pack))
    }
}

fn group_by_chunk(wanted: &[Want], tables: &ChunkTables<'_>) -> Vec<(u32, PlannedChunk)> {
    let same = |left: &Want, right: &Want| (left.pack, left.chunk) == (right.pack, right.chunk);
    let chunk_of = |group: &[Want]| {
        let (pack, index) = (group[0].pack, group[0].chunk);
        let position = tables[&pack][index as usize];
        let pieces = group.iter().map(|want| want.piece).collect();
        (pack, PlannedChunk { index, position, pieces })
    };
    wanted.chunk_by(same).map(chunk_of).collect()
}

/// Joins neighbouring chunks to reads.
fn coalesce(chunks: Vec<(u32, PlannedChunk)>) -> Vec<PackRead> {
    let mut reads: Vec<PackRead> = Vec::new();
    for (pack, chunk) in chunks {
        match reads.last_mut() {
            Some(read) if read.pack == pack && takes(read, &chunk) => {
                read.length = chunk.end() - read.offset;
                read.chunks.push(chunk);
            }
            _ => {
                let offset = chunk.position.offset;
                let length = chunk.end() - offset;
                reads.push(PackRead { pack, offset, length, chunks: vec![chunk] });
            }
        }
    }
    reads
}

fn takes(read: &PackRead, chunk: &PlannedChunk) -> bool {
    let end = read.offset + read.length;
    let gap = chunk.position.offset.checked_sub(end);
    gap.is_some_and(|gap| gap <= GAP_BYTES) && chunk.end() - read.offset <= READ_BYTES
}

fn frame_end(position: &ChunkPosition) -> u64 {
    position.offset + CHUNK_HEADER_BYTES as u64 + u64::from(position.stored_length)
}

fn uncovered(file: &FileEntry) -> Error {
    Error::damaged(format!("the extents of `{}` do not cover the file exactly", file.path))
}

fn outside(file: &FileEntry, pack: u32) -> Error {
    Error::damaged(format!("an extent of `{}` lies outside pack {pack}", file.path))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
