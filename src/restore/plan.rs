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

/// What has to be read and written for one window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct WindowPlan {
    /// The reads, by pack and position.
    pub(super) reads: Vec<PackRead>,
    /// Stretches of zeros: left as holes, but hashed like any other.
    pub(super) zeros: Vec<ZeroRun>,
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
        let pieces = self.chunks.iter().flat_map(|chunk| &chunk.pieces);
        pieces.map(|piece| u64::from(piece.length)).sum()
    }
}

impl PlannedChunk {
    fn end(&self) -> u64 {
        frame_end(&self.position)
    }
}

/// The packs that the files of a window reference.
pub(super) fn packs_of(files: &[FileEntry]) -> BTreeSet<u32> {
    let extents = files.iter().flat_map(|file| &file.extents);
    let pack = |extent: &Extent| match extent.source {
        ExtentSource::Pack { pack, .. } => Some(pack),
        ExtentSource::Zeros => None,
    };
    extents.filter_map(pack).collect()
}

/// Plans a window: `tables` holds at least [`packs_of`] its files.
///
/// Fails as damage when the extents of a file do not cover it exactly, leave their pack, or split a block.
pub(super) fn plan_window(files: &[FileEntry], tables: &ChunkTables<'_>) -> Result<WindowPlan> {
    let mut wanted = Vec::new();
    let mut zeros = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let number = u32::try_from(index).expect("a window holds few files");
        place_file(file, number, tables, &mut wanted, &mut zeros)?;
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

fn place_file(
    file: &FileEntry,
    number: u32,
    tables: &ChunkTables<'_>,
    wanted: &mut Vec<Want>,
    zeros: &mut Vec<ZeroRun>,
) -> Result<()> {
    let mut position = 0;
    for extent in &file.extents {
        let (file_offset, length) = (extent.offset, extent.length);
        let on_grid = file_offset.is_multiple_of(BLOCK_SIZE as u64);
        if file_offset != position || length == 0 || !on_grid || length > file.size - position {
            return Err(uncovered(file));
        }
        match extent.source {
            ExtentSource::Zeros => zeros.push(ZeroRun { file: number, file_offset, length }),
            ExtentSource::Pack { .. } => place_extent(file, number, extent, tables, wanted)?,
        }
        position += length;
    }
    if position == file.size { Ok(()) } else { Err(uncovered(file)) }
}

/// Follows an extent through the chunks it runs over.
fn place_extent(
    file: &FileEntry,
    number: u32,
    extent: &Extent,
    tables: &ChunkTables<'_>,
    wanted: &mut Vec<Want>,
) -> Result<()> {
    let ExtentSource::Pack { pack, mut chunk, offset: mut chunk_offset } = extent.source else {
        return Ok(());
    };
    let table = tables.get(&pack).ok_or_else(|| outside(file, pack))?;
    let (mut file_offset, end) = (extent.offset, extent.offset + extent.length);
    while file_offset < end {
        let raw_length = table.get(chunk as usize).ok_or_else(|| outside(file, pack))?.raw_length;
        let rest = raw_length.checked_sub(chunk_offset).filter(|rest| *rest > 0);
        let rest = rest.ok_or_else(|| outside(file, pack))?;
        let length = u64::from(rest).min(end - file_offset);
        let ends_file = file_offset + length == file.size;
        if !length.is_multiple_of(BLOCK_SIZE as u64) && !ends_file {
            return Err(uncovered(file).because("a block lies in two chunks"));
        }
        let piece = Piece { file: number, file_offset, chunk_offset, length: length as u32 };
        wanted.push(Want { pack, chunk, piece });
        file_offset += length;
        chunk_offset = 0;
        chunk = chunk.checked_add(1).ok_or_else(|| outside(file, pack))?;
    }
    Ok(())
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
