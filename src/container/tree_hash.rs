//! BLAKE3 of a content out of the hashes of its chunks, which may be taken in any order and on any core.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use super::CHUNK_SIZE;
use super::identity::ContentDigest;

/// What one chunk contributes to the digest of its content.
pub(super) type ChunkHash = [u8; 32];

/// A content that is cut into chunks of [`CHUNK_SIZE`]; only the last may be shorter, and none is empty.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    chunks: usize,
}

impl Cut {
    /// A content of so many chunks.
    pub(super) fn of(chunks: usize) -> Self {
        Self { chunks }
    }

    /// The hash of chunk `index`.
    pub(super) fn hash(self, index: usize, raw: &[u8]) -> ChunkHash {
        if self.chunks == 1 {
            // Then it is the root of the tree, which is finished in another way.
            return *blake3::hash(raw).as_bytes();
        }
        let offset = index as u64 * CHUNK_SIZE as u64;
        blake3::Hasher::new().set_input_offset(offset).update(raw).finalize_non_root()
    }

    /// The digest of the content whose chunks have these hashes, in their order.
    pub(super) fn digest(self, hashes: &[ChunkHash]) -> ContentDigest {
        debug_assert_eq!(hashes.len(), self.chunks);
        match hashes {
            [] => ContentDigest::of(&[]),
            [whole] => blake3::Hash::from_bytes(*whole).into(),
            _ => {
                let (left, right) = hashes.split_at(left_half(hashes.len()));
                merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).into()
            }
        }
    }
}

fn subtree(hashes: &[ChunkHash]) -> ChunkHash {
    if let [one] = hashes {
        return *one;
    }
    let (left, right) = hashes.split_at(left_half(hashes.len()));
    merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
}

/// The largest power of two below `count`, which is at least 2. Source: the BLAKE3 paper, section 2.1.
fn left_half(count: usize) -> usize {
    1 << (count - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hashes_of_chunks_make_the_digest_of_the_content() {
        let mut content = vec![0; 17 * CHUNK_SIZE];
        blake3::Hasher::new().finalize_xof().fill(&mut content);
        let near = |chunks: usize| {
            let full = chunks * CHUNK_SIZE;
            [full.saturating_sub(1025), full.saturating_sub(1), full, full + 1, full + 1024]
        };
        for length in (0..=17).flat_map(near) {
            let content = &content[..length.min(content.len())];
            let chunks = content.chunks(CHUNK_SIZE);
            let cut = Cut::of(chunks.len());
            let hashes: Vec<_> =
                chunks.enumerate().map(|(index, raw)| cut.hash(index, raw)).collect();
            assert_eq!(cut.digest(&hashes), ContentDigest::of(content), "{length} bytes");
        }
    }
}
