//! The index of a pack: what its chunks hold, block by block (`docs/format.md`, section 5).

use bytes::Buf;

use crate::container::{BLOCK_SIZE, BlockHash, CHUNK_SIZE, ChunkPosition};
use crate::error::{Error, Result};

/// A pack is closed at this stored size in bytes.
pub const PACK_STORED_BYTES: u64 = 32 << 20;
/// A pack is closed at this content size in bytes.
pub const PACK_RAW_BYTES: u64 = 256 << 20;
/// A pack is closed at this number of extents.
pub const PACK_EXTENTS: usize = 65_536;

pub(super) const INDEX_VERSION: u32 = 1;

/// A run of blocks of one file that follow each other in a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackExtent {
    /// The file, decoded bytes.
    pub path: Vec<u8>,
    /// Position in the file; a multiple of [`BLOCK_SIZE`].
    pub file_offset: u64,
    /// Bytes.
    pub length: u64,
    /// The chunk in which it begins.
    pub chunk: u32,
    /// Position in that chunk's content.
    pub offset: u32,
    /// One hash for every block.
    pub hashes: Vec<BlockHash>,
}

/// The whole index of one pack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackIndex {
    /// Where every chunk lies.
    pub chunks: Vec<ChunkPosition>,
    /// What the chunks hold, in the order of the content.
    pub extents: Vec<PackExtent>,
}

/// Number of blocks in `length` bytes.
pub fn blocks_in(length: u64) -> usize {
    length.div_ceil(BLOCK_SIZE as u64) as usize
}

impl PackIndex {
    /// Parses and checks an index.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut extents: Vec<PackExtent> = Vec::new();
        let chunks = read_index(bytes, &mut |extent| {
            let path = match (extent.path, extents.last()) {
                (Some(path), _) => path.to_vec(),
                (None, Some(previous)) => previous.path.clone(),
                (None, None) => return Err(malformed("an extent without a path")),
            };
            let StoredExtent { file_offset, length, chunk, offset, hashes, .. } = extent;
            let hashes = hashes.iter().map(|hash| BlockHash::from_bytes(*hash)).collect();
            extents.push(PackExtent { path, file_offset, length, chunk, offset, hashes });
            Ok(())
        })?;
        Ok(Self { chunks, extents })
    }
}

/// An extent as it stands in an index.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredExtent<'a> {
    /// The file; none: that of the extent before.
    pub(super) path: Option<&'a [u8]>,
    pub(super) file_offset: u64,
    pub(super) length: u64,
    pub(super) chunk: u32,
    pub(super) offset: u32,
    pub(super) hashes: &'a [[u8; 16]],
}

/// Parses and checks an index; `each` is told every extent, in order. Returns where the chunks lie.
pub(super) fn read_index(
    bytes: &[u8],
    each: &mut dyn FnMut(StoredExtent<'_>) -> Result<()>,
) -> Result<Vec<ChunkPosition>> {
    let mut input = Input(bytes);
    let (version, chunk_count, extent_count) = (input.u32()?, input.u32()?, input.u32()?);
    let reserved = input.u32()?;
    if version != INDEX_VERSION || reserved != 0 {
        return Err(malformed("unknown version"));
    }
    let (_first, _last) = (input.path()?, input.path()?);
    let chunks = (0..chunk_count).map(|_| input.chunk()).collect::<Result<Vec<_>>>()?;
    for _ in 0..extent_count {
        each(input.extent()?)?;
    }
    if input.0.is_empty() { Ok(chunks) } else { Err(malformed("trailing bytes")) }
}

pub(super) fn malformed(why: &str) -> Error {
    Error::damaged(format!("malformed pack index: {why}"))
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length).ok_or_else(|| malformed("truncated"))?;
        self.0 = rest;
        Ok(head)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(self.take(4)?.get_u32_le())
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(self.take(8)?.get_u64_le())
    }

    fn path(&mut self) -> Result<&'a [u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    fn chunk(&mut self) -> Result<ChunkPosition> {
        let (offset, stored_length, raw_length) = (self.u64()?, self.u32()?, self.u32()?);
        let possible = |length: u32| (1..=2 * CHUNK_SIZE).contains(&(length as usize));
        if offset > i64::MAX.cast_unsigned() || !possible(stored_length) || !possible(raw_length) {
            return Err(malformed("a chunk in an impossible place"));
        }
        Ok(ChunkPosition { offset, stored_length, raw_length })
    }

    fn extent(&mut self) -> Result<StoredExtent<'a>> {
        let path = Some(self.path()?).filter(|path| !path.is_empty());
        let (file_offset, length) = (self.u64()?, self.u64()?);
        let (chunk, offset) = (self.u32()?, self.u32()?);
        if !file_offset.is_multiple_of(BLOCK_SIZE as u64) || length == 0 {
            return Err(malformed("an extent off the block grid"));
        }
        let size =
            blocks_in(length).checked_mul(16).ok_or_else(|| malformed("an absurd length"))?;
        let (hashes, _) = self.take(size)?.as_chunks::<16>();
        Ok(StoredExtent { path, file_offset, length, chunk, offset, hashes })
    }
}
