//! What restores and deltas ask of a pack: where its chunks lie, and the hash of every block, in little memory.

use super::pack::{StoredExtent, blocks_in, malformed, read_index};
use crate::container::{BLOCK_SIZE, BlockHash, ChunkPosition};
use crate::error::Result;

/// The chunks and the blocks of one pack, in the order of its content; about 20 bytes per block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackBlocks {
    chunks: Vec<ChunkPosition>,
    /// Where every chunk begins in the content.
    chunk_starts: Vec<u32>,
    /// Where every block begins in the content.
    block_starts: Vec<u32>,
    hashes: Vec<BlockHash>,
    length: u32,
}

impl PackBlocks {
    /// Parses and checks an index; its extents must cover the content of the pack without a gap.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reached = 0_u64;
        let (mut block_starts, mut hashes) = (Vec::new(), Vec::new());
        let mut begins = Vec::new();
        let chunks = read_index(bytes, &mut |extent: StoredExtent<'_>| {
            begins.push((extent.chunk, extent.offset, reached));
            let block_count = extent.hashes.len() as u64;
            if reached + extent.length > u64::from(u32::MAX) {
                return Err(malformed("more content than a pack holds"));
            }
            block_starts
                .extend((0..block_count).map(|block| (reached + block * BLOCK_SIZE as u64) as u32));
            hashes.extend(extent.hashes.iter().map(|hash| BlockHash::from_bytes(*hash)));
            reached += extent.length;
            Ok(())
        })?;
        let mut chunk_starts = Vec::with_capacity(chunks.len());
        let mut length = 0_u64;
        for chunk in &chunks {
            chunk_starts.push(length as u32);
            length += u64::from(chunk.raw_length);
        }
        let blocks = Self { chunks, chunk_starts, block_starts, hashes, length: reached as u32 };
        let in_place = |(chunk, offset, reached): &(u32, u32, u64)| {
            blocks.position(*chunk, *offset) == Some(*reached as u32)
        };
        if length == reached && begins.iter().all(in_place) {
            Ok(blocks)
        } else {
            Err(malformed("its extents are not the content of its chunks"))
        }
    }

    /// Where the chunks lie in the object.
    pub fn chunks(&self) -> &[ChunkPosition] {
        &self.chunks
    }

    /// Bytes of the content.
    pub fn length(&self) -> u64 {
        u64::from(self.length)
    }

    /// The position in the content that lies `offset` bytes into `chunk`; none outside that chunk.
    pub fn position(&self, chunk: u32, offset: u32) -> Option<u32> {
        let start = self.chunk_starts.get(chunk as usize)?;
        (offset < self.chunks[chunk as usize].raw_length).then(|| start + offset)
    }

    /// The chunk that holds a position of the content, and the place in it.
    pub fn place(&self, position: u32) -> (u32, u32) {
        let chunk = self.chunk_starts.partition_point(|start| *start <= position) - 1;
        (chunk as u32, position - self.chunk_starts[chunk])
    }

    /// The hashes of the blocks from `position` on, `length` bytes together; none when these are no whole blocks.
    pub fn hashes(&self, position: u32, length: u64) -> Option<&[BlockHash]> {
        let first = self.block_starts.binary_search(&position).ok()?;
        let behind = first.checked_add(blocks_in(length))?;
        let hashes = self.hashes.get(first..behind)?;
        let end = self.block_starts.get(behind).copied().unwrap_or(self.length);
        (u64::from(position) + length == u64::from(end)).then_some(hashes)
    }

    /// Bytes of memory that this takes.
    pub fn memory_bytes(&self) -> usize {
        self.chunks.len() * (size_of::<ChunkPosition>() + 4) + self.hashes.len() * 20
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::{PackIndexWriter, PackRun};

    fn hash(number: u8) -> BlockHash {
        BlockHash::from_bytes([number; 16])
    }

    fn chunk(offset: u64, raw_length: u32) -> ChunkPosition {
        ChunkPosition { offset, stored_length: 10, raw_length }
    }

    /// Two chunks: one of a whole and a short block, one of two whole blocks, of two files.
    fn index() -> Vec<u8> {
        let mut writer = PackIndexWriter::default();
        let run = |path: &'static [u8], chunk, length, position, hashes| {
            let (file_offset, offset) = (0, 0);
            PackRun { path, file_offset, length, chunk, offset, position, hashes }
        };
        let (first, second) = ([hash(1), hash(2)], [hash(3), hash(4)]);
        writer.add(&run(b"a", 0, 8292, 0, &first));
        writer.add(&run(b"b", 1, 16_384, 8292, &second));
        writer.finish(&[chunk(300, 8292), chunk(400, 16_384)])
    }

    #[test]
    fn blocks_are_found_by_their_place() {
        let blocks = PackBlocks::decode(&index()).unwrap();
        assert_eq!(blocks.length(), 24_676);
        assert_eq!(blocks.position(0, 8192), Some(8192));
        assert_eq!(blocks.position(1, 8192), Some(16_484));
        assert_eq!(blocks.place(16_484), (1, 8192));
        assert_eq!(blocks.place(8291), (0, 8291));
        assert_eq!(blocks.hashes(0, 8292), Some(&[hash(1), hash(2)][..]));
        assert_eq!(blocks.hashes(8292, 8192), Some(&[hash(3)][..]));
        assert_eq!(blocks.hashes(16_484, 8192), Some(&[hash(4)][..]));
    }

    #[test]
    fn what_is_no_run_of_whole_blocks_has_no_hashes() {
        let blocks = PackBlocks::decode(&index()).unwrap();
        for (position, length) in [(1, 8192), (0, 8191), (0, 8200), (8192, 8192), (16_484, 8193)] {
            assert_eq!(blocks.hashes(position, length), None, "{position} {length}");
        }
        assert_eq!(blocks.position(2, 0), None);
        assert_eq!(blocks.position(0, 8292), None);
    }

    #[test]
    fn extents_that_do_not_cover_the_content_are_damage() {
        let mut writer = PackIndexWriter::default();
        let (path, hashes) = (&b"a"[..], &[hash(1)][..]);
        let (file_offset, length, chunk_index, offset, position) = (0, 100, 0, 0, 0);
        let run =
            PackRun { path, file_offset, length, chunk: chunk_index, offset, position, hashes };
        writer.add(&run);
        let longer = writer.finish(&[chunk(300, 200)]);
        assert!(PackBlocks::decode(&longer).is_err());
    }
}
