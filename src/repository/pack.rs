//! The index of a pack: what its chunks hold, block by block (`docs/format.md`, section 5).

use bytes::{Buf, BufMut};

use crate::container::{BLOCK_SIZE, BlockHash, CHUNK_SIZE, ChunkPosition};
use crate::error::{Error, Result};

/// A pack is closed at this stored size in bytes.
pub const PACK_STORED_BYTES: u64 = 32 << 20;
/// A pack is closed at this content size in bytes.
pub const PACK_RAW_BYTES: u64 = 256 << 20;
/// A pack is closed at this number of extents.
pub const PACK_EXTENTS: usize = 65_536;

const INDEX_VERSION: u32 = 1;

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
    /// The bytes of the index.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32_le(INDEX_VERSION);
        out.put_u32_le(self.chunks.len() as u32);
        out.put_u32_le(self.extents.len() as u32);
        out.put_u32_le(0);
        put_path(&mut out, self.extents.first().map_or(&[], |extent| &extent.path));
        put_path(&mut out, self.extents.last().map_or(&[], |extent| &extent.path));
        for chunk in &self.chunks {
            out.put_u64_le(chunk.offset);
            out.put_u32_le(chunk.stored_length);
            out.put_u32_le(chunk.raw_length);
        }
        let mut previous: &[u8] = &[];
        for extent in &self.extents {
            put_path(&mut out, if extent.path == previous { &[] } else { &extent.path });
            extent.encode_position(&mut out);
            previous = &extent.path;
        }
        out
    }

    /// Parses and checks an index.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut input = Input(bytes);
        let (version, chunk_count, extent_count) = (input.u32()?, input.u32()?, input.u32()?);
        let reserved = input.u32()?;
        if version != INDEX_VERSION || reserved != 0 {
            return Err(malformed("unknown version"));
        }
        let (_first, _last) = (input.path()?, input.path()?);
        let chunks = (0..chunk_count).map(|_| input.chunk()).collect::<Result<Vec<_>>>()?;
        let mut extents: Vec<PackExtent> = Vec::new();
        for _ in 0..extent_count {
            let previous = extents.last().map_or(&[][..], |extent| &extent.path);
            let extent = input.extent(previous)?;
            extents.push(extent);
        }
        if !input.0.is_empty() {
            return Err(malformed("trailing bytes"));
        }
        Ok(Self { chunks, extents })
    }
}

impl PackExtent {
    fn encode_position(&self, out: &mut Vec<u8>) {
        debug_assert_eq!(self.hashes.len(), blocks_in(self.length));
        out.put_u64_le(self.file_offset);
        out.put_u64_le(self.length);
        out.put_u32_le(self.chunk);
        out.put_u32_le(self.offset);
        for hash in &self.hashes {
            out.put_slice(hash.as_bytes());
        }
    }
}

fn put_path(out: &mut Vec<u8>, path: &[u8]) {
    out.put_u32_le(path.len() as u32);
    out.put_slice(path);
}

fn malformed(why: &str) -> Error {
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

    fn extent(&mut self, previous: &[u8]) -> Result<PackExtent> {
        let path = match self.path()? {
            [] if previous.is_empty() => return Err(malformed("an extent without a path")),
            [] => previous.to_vec(),
            path => path.to_vec(),
        };
        let (file_offset, length) = (self.u64()?, self.u64()?);
        let (chunk, offset) = (self.u32()?, self.u32()?);
        if !file_offset.is_multiple_of(BLOCK_SIZE as u64) || length == 0 {
            return Err(malformed("an extent off the block grid"));
        }
        let size =
            blocks_in(length).checked_mul(16).ok_or_else(|| malformed("an absurd length"))?;
        let (hashes, _) = self.take(size)?.as_chunks::<16>();
        let hashes = hashes.iter().map(|hash| BlockHash::from_bytes(*hash)).collect();
        Ok(PackExtent { path, file_offset, length, chunk, offset, hashes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> PackIndex {
        let extent = |path: &str, offset, length: u64| PackExtent {
            path: path.into(),
            file_offset: offset,
            length,
            chunk: 0,
            offset: 0,
            hashes: vec![BlockHash::from_bytes([9; 16]); blocks_in(length)],
        };
        let extents = vec![
            extent("base/1/1", 0, 8193),
            extent("base/1/1", 81_920, 8192),
            extent("base/1/2", 0, 1),
        ];
        let chunks = vec![ChunkPosition { offset: 300, stored_length: 10, raw_length: 20 }];
        PackIndex { chunks, extents }
    }

    #[test]
    fn an_index_reads_back_as_it_was_written() {
        assert_eq!(PackIndex::decode(&index().encode()).unwrap(), index());
    }

    #[test]
    fn a_chunk_that_cannot_be_where_the_index_says_is_damage() {
        let position = |offset, stored_length, raw_length| {
            let chunks = vec![ChunkPosition { offset, stored_length, raw_length }];
            PackIndex::decode(&PackIndex { chunks, extents: Vec::new() }.encode())
        };
        assert!(position(300, 10, 20).is_ok());
        assert!(position(u64::MAX, 10, 20).is_err());
        assert!(position(300, u32::MAX, 20).is_err());
        assert!(position(300, 10, 0).is_err());
    }

    #[test]
    fn every_truncation_of_an_index_is_damage() {
        let bytes = index().encode();
        for length in 0..bytes.len() {
            assert!(PackIndex::decode(&bytes[..length]).is_err(), "{length}");
        }
    }
}
