//! Writing the index of a pack while the pack is filled (`docs/format.md`, section 5).

use bytes::BufMut;

use super::pack::{INDEX_VERSION, blocks_in};
use crate::container::{BLOCK_SIZE, BlockHash, ChunkPosition};

/// The extents of a pack as they will stand in its index: tens of thousands take no more memory than they are long.
#[derive(Debug, Default)]
pub struct PackIndexWriter {
    count: u32,
    encoded: Vec<u8>,
    first_path: Vec<u8>,
    last: Last,
}

/// The extent that may still grow.
#[derive(Debug, Default)]
struct Last {
    path: Vec<u8>,
    length: u64,
    /// Where its length stands in the encoded extents.
    length_at: usize,
    /// Where it ends in its file, and in the content of the pack.
    ends: (u64, u64),
}

/// A run of blocks of one file that follow each other in a pack.
#[derive(Debug, Clone, Copy)]
pub struct PackRun<'a> {
    /// The file, decoded bytes, not empty.
    pub path: &'a [u8],
    /// Position in the file; a multiple of [`BLOCK_SIZE`].
    pub file_offset: u64,
    /// Bytes, at least 1.
    pub length: u64,
    /// The chunk in which it begins.
    pub chunk: u32,
    /// Position in that chunk's content.
    pub offset: u32,
    /// Position in the content of the pack.
    pub position: u64,
    /// One hash for every block.
    pub hashes: &'a [BlockHash],
}

impl PackIndexWriter {
    /// Number of extents so far.
    pub fn extents(&self) -> usize {
        self.count as usize
    }

    /// Adds the next run; it becomes part of the last extent when it goes on there, in the file and in the pack.
    pub fn add(&mut self, run: &PackRun<'_>) {
        debug_assert_eq!(run.hashes.len(), blocks_in(run.length));
        if self.continues(run) {
            self.last.length += run.length;
        } else {
            self.begin(run);
        }
        let place = self.last.length_at..self.last.length_at + 8;
        self.encoded[place].copy_from_slice(&self.last.length.to_le_bytes());
        self.last.ends = (run.file_offset + run.length, run.position + run.length);
        for hash in run.hashes {
            self.encoded.put_slice(hash.as_bytes());
        }
    }

    fn continues(&self, run: &PackRun<'_>) -> bool {
        self.last.ends == (run.file_offset, run.position)
            && self.last.length.is_multiple_of(BLOCK_SIZE as u64)
            && self.last.path == run.path
    }

    fn begin(&mut self, run: &PackRun<'_>) {
        if self.count == 0 {
            self.first_path = run.path.to_vec();
        }
        self.count += 1;
        let is_new = self.last.path != run.path;
        put_path(&mut self.encoded, if is_new { run.path } else { &[] });
        self.last.path.clear();
        self.last.path.extend_from_slice(run.path);
        self.encoded.put_u64_le(run.file_offset);
        self.last.length_at = self.encoded.len();
        self.last.length = run.length;
        self.encoded.put_u64_le(0);
        self.encoded.put_u32_le(run.chunk);
        self.encoded.put_u32_le(run.offset);
    }

    /// The bytes of the index, once all chunks are known.
    pub fn finish(self, chunks: &[ChunkPosition]) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024 + chunks.len() * 16 + self.encoded.len());
        out.put_u32_le(INDEX_VERSION);
        out.put_u32_le(chunks.len() as u32);
        out.put_u32_le(self.count);
        out.put_u32_le(0);
        put_path(&mut out, &self.first_path);
        put_path(&mut out, &self.last.path);
        for chunk in chunks {
            out.put_u64_le(chunk.offset);
            out.put_u32_le(chunk.stored_length);
            out.put_u32_le(chunk.raw_length);
        }
        out.put_slice(&self.encoded);
        out
    }
}

fn put_path(out: &mut Vec<u8>, path: &[u8]) {
    out.put_u32_le(path.len() as u32);
    out.put_slice(path);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::{PackExtent, PackIndex};

    const HASH: BlockHash = BlockHash::from_bytes([9; 16]);
    const CHUNK: ChunkPosition = ChunkPosition { offset: 300, stored_length: 10, raw_length: 20 };

    fn run(path: &'static str, file_offset: u64, length: u64, position: u64) -> PackRun<'static> {
        let hashes = &[HASH; 8][..blocks_in(length)];
        let (path, offset) = (path.as_bytes(), position as u32);
        PackRun { path, file_offset, length, chunk: 0, offset, position, hashes }
    }

    fn index(runs: &[PackRun<'_>]) -> Vec<u8> {
        let mut writer = PackIndexWriter::default();
        for run in runs {
            writer.add(run);
        }
        writer.finish(&[CHUNK])
    }

    fn extent(run: &PackRun<'_>) -> PackExtent {
        let (path, hashes) = (run.path.to_vec(), run.hashes.to_vec());
        let PackRun { file_offset, length, chunk, offset, .. } = *run;
        PackExtent { path, file_offset, length, chunk, offset, hashes }
    }

    #[test]
    fn an_index_reads_back_as_it_was_written() {
        let runs = [
            run("base/1/1", 0, 8193, 0),
            run("base/1/1", 81_920, 8192, 8193),
            run("base/1/2", 0, 1, 16_385),
        ];
        let read = PackIndex::decode(&index(&runs)).unwrap();
        assert_eq!(read.chunks, [CHUNK]);
        assert_eq!(read.extents, runs.iter().map(extent).collect::<Vec<_>>());
    }

    #[test]
    fn runs_that_go_on_in_file_and_pack_become_one_extent() {
        let one = run("a", 0, 24_576, 0);
        let split =
            [run("a", 0, 8192, 0), run("a", 8192, 8192, 8192), run("a", 16_384, 8192, 16_384)];
        assert_eq!(PackIndex::decode(&index(&split)).unwrap().extents, [extent(&one)]);
        for apart in [run("b", 8192, 1, 8192), run("a", 16_384, 1, 8192), run("a", 8192, 1, 9000)] {
            let read = PackIndex::decode(&index(&[run("a", 0, 8192, 0), apart])).unwrap();
            assert_eq!(read.extents.len(), 2);
        }
    }

    #[test]
    fn a_chunk_that_cannot_be_where_the_index_says_is_damage() {
        let position = |offset, stored_length, raw_length| {
            let chunk = ChunkPosition { offset, stored_length, raw_length };
            PackIndex::decode(&PackIndexWriter::default().finish(&[chunk]))
        };
        assert!(position(300, 10, 20).is_ok());
        assert!(position(u64::MAX, 10, 20).is_err());
        assert!(position(300, u32::MAX, 20).is_err());
        assert!(position(300, 10, 0).is_err());
    }

    #[test]
    fn every_truncation_of_an_index_is_damage() {
        let bytes = index(&[run("a", 0, 8193, 0), run("b", 0, 1, 8193)]);
        for length in 0..bytes.len() {
            assert!(PackIndex::decode(&bytes[..length]).is_err(), "{length}");
        }
    }
}
