//! What earlier backups hold of a file: the blocks to compare with, and where each of them lies.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tracing::warn;

use super::job::RANGE_BYTES;
use crate::container::{BLOCK_SIZE, BlockHash};
use crate::error::{ErrorKind, Result};
use crate::repository::{Extent, ExtentSource, OpenPack, PackReference, Packs, blocks_in};

/// A megabyte of a file that lies in more pieces than this is stored again: file lists stay short.
pub(super) const RANGE_EXTENTS: usize = 64;

/// The extents that one earlier backup has of a file, in the order of the file; there may be gaps between them.
pub(super) type Layer = Arc<[Extent]>;

/// What earlier backups hold of one file, the preferred one first.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownFile {
    pub(super) layers: Vec<Layer>,
}

/// A place in the content of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KnownPlace {
    /// Index into the table of known packs.
    pub(super) pack: u32,
    /// The chunk.
    pub(super) chunk: u32,
    /// Position in that chunk's content.
    pub(super) offset: u32,
    /// Position in the content of the pack.
    pub(super) position: u32,
}

/// A block that is stored already.
#[derive(Debug, Clone, Copy)]
struct KnownBlock {
    hash: BlockHash,
    place: KnownPlace,
}

/// The stored blocks of a range of a file, by layer.
#[derive(Debug, Default)]
pub(super) struct KnownBlocks(Vec<Vec<Option<KnownBlock>>>);

/// The packs of earlier backups that this one may reference.
pub(super) struct KnownPacks {
    packs: Packs,
    /// Packs of which nothing is taken over: sparsely used ones, which die out this way, and damaged ones.
    left_alone: Mutex<BTreeSet<u32>>,
    found_damage: AtomicBool,
}

/// Blocks of a file, counted from its start.
#[derive(Debug, Clone, Copy)]
struct BlockRange {
    first: u64,
    count: usize,
}

impl KnownBlocks {
    /// Where a block with this hash is stored; `block` counts from the start of the range.
    pub(super) fn find(&self, block: usize, hash: &BlockHash) -> Option<KnownPlace> {
        let at = |layer: &Vec<Option<KnownBlock>>| layer.get(block).copied().flatten();
        self.0.iter().filter_map(at).find(|known| known.hash == *hash).map(|known| known.place)
    }
}

impl KnownPacks {
    /// The packs of a table.
    pub(super) fn new(packs: Packs) -> Self {
        let rows = packs.table().iter().zip(0..);
        let sparse = rows.filter(|(pack, _)| is_sparse(pack)).map(|(_, index)| index).collect();
        Self { packs, left_alone: Mutex::new(sparse), found_damage: AtomicBool::new(false) }
    }

    /// Whether a pack has proven to be damaged since.
    pub(super) fn found_damage(&self) -> bool {
        self.found_damage.load(Ordering::Acquire)
    }

    /// The table.
    pub(super) fn table(&self) -> &Arc<[PackReference]> {
        self.packs.table()
    }

    /// Whether a file can be taken over as it lies: in few pieces, none of them in a pack that is to die out.
    pub(super) fn may_stay(&self, extents: &[Extent]) -> bool {
        let left_alone = self.left_alone();
        let in_good_pack = |extent: &Extent| match extent.source {
            ExtentSource::Zeros => true,
            ExtentSource::Pack { pack, .. } => !left_alone.contains(&pack),
        };
        let same_range =
            |left: &Extent, right: &Extent| left.offset / RANGE_BYTES == right.offset / RANGE_BYTES;
        extents.iter().all(in_good_pack)
            && extents.chunk_by(same_range).all(|pieces| pieces.len() <= RANGE_EXTENTS)
    }

    /// The stored blocks of the `length` bytes of a file from `offset`, a multiple of the block size.
    ///
    /// A pack whose index is damaged is warned of and known no more: its blocks are stored again.
    pub(super) async fn blocks(
        &self,
        file: &KnownFile,
        offset: u64,
        length: u64,
    ) -> Result<KnownBlocks> {
        let range = BlockRange { first: offset / BLOCK_SIZE as u64, count: blocks_in(length) };
        let mut layers = Vec::with_capacity(file.layers.len());
        for layer in &file.layers {
            let extents = range.overlapping(layer);
            if !extents.is_empty() && extents.len() <= RANGE_EXTENTS {
                layers.push(self.layer(range, extents).await?);
            }
        }
        Ok(KnownBlocks(layers))
    }

    async fn layer(
        &self,
        range: BlockRange,
        extents: &[Extent],
    ) -> Result<Vec<Option<KnownBlock>>> {
        let mut blocks = vec![None; range.count];
        for extent in extents {
            let ExtentSource::Pack { pack, .. } = extent.source else { continue };
            if let Some(open) = self.open(pack).await? {
                range.fill(&mut blocks, extent, pack, &open);
            }
        }
        Ok(blocks)
    }

    async fn open(&self, pack: u32) -> Result<Option<Arc<OpenPack>>> {
        if self.left_alone().contains(&pack) {
            return Ok(None);
        }
        match self.packs.open(pack).await {
            Ok(open) => Ok(Some(open)),
            Err(error) if error.kind() == ErrorKind::Damaged => {
                self.found_damage.store(true, Ordering::Release);
                if self.left_alone().insert(pack) {
                    let why = error.chain();
                    warn!(
                        why,
                        "a pack of an earlier backup is damaged; its blocks are stored again"
                    );
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn left_alone(&self) -> std::sync::MutexGuard<'_, BTreeSet<u32>> {
        self.left_alone.lock().expect("no panic while holding the lock")
    }
}

/// Whether so little of a pack is in use that the rest of it should not be kept for that.
fn is_sparse(pack: &PackReference) -> bool {
    pack.used > 0 && pack.used.saturating_mul(4) < pack.raw
}

impl BlockRange {
    fn start(self) -> u64 {
        self.first * BLOCK_SIZE as u64
    }

    fn end(self) -> u64 {
        self.start() + (self.count * BLOCK_SIZE) as u64
    }

    fn overlapping(self, layer: &[Extent]) -> &[Extent] {
        let first = layer.partition_point(|extent| extent.offset + extent.length <= self.start());
        let behind = layer.partition_point(|extent| extent.offset < self.end());
        layer.get(first..behind).unwrap_or_default()
    }

    /// Fills in what `extent` holds of the range. What its pack does not confirm stays unknown.
    fn fill(self, blocks: &mut [Option<KnownBlock>], extent: &Extent, pack: u32, open: &OpenPack) {
        let ExtentSource::Pack { chunk, offset, .. } = extent.source else { return };
        let from = extent.offset.max(self.start());
        let length = (extent.offset + extent.length).min(self.end()) - from;
        let start = open.blocks().position(chunk, offset);
        let position =
            start.and_then(|start| start.checked_add(u32::try_from(from - extent.offset).ok()?));
        let Some(position) = position else { return };
        let Some(hashes) = open.blocks().hashes(position, length) else { return };
        let first = ((from - self.start()) / BLOCK_SIZE as u64) as usize;
        for (number, (block, hash)) in blocks[first..].iter_mut().zip(hashes).enumerate() {
            let position = position + (number * BLOCK_SIZE) as u32;
            let (chunk, offset) = open.blocks().place(position);
            let place = KnownPlace { pack, chunk, offset, position };
            *block = Some(KnownBlock { hash: *hash, place });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(offset: u64, length: u64) -> Extent {
        Extent { offset, length, source: ExtentSource::Zeros }
    }

    #[test]
    fn a_range_finds_the_extents_that_reach_into_it() {
        let layer = [extent(0, 8192), extent(8192, 16_384), extent(40_960, 100)];
        let within = |first, count| {
            let found = BlockRange { first, count }.overlapping(&layer);
            found.iter().map(|extent| extent.offset).collect::<Vec<_>>()
        };
        assert_eq!(within(0, 1), [0]);
        assert_eq!(within(2, 1), [8192]);
        assert_eq!(within(3, 2), [0; 0]);
        assert_eq!(within(1, 5), [8192, 40_960]);
        assert_eq!(within(6, 9), [0; 0]);
    }

    #[test]
    fn a_pack_is_sparse_when_less_than_a_quarter_is_used() {
        let backup: crate::repository::BackupId = "20261120T101500Z-k3v7qa".parse().unwrap();
        let pack = |used| PackReference {
            backup: backup.clone(),
            number: 1,
            size: 1000,
            index: 900,
            raw: 4000,
            used,
        };
        assert!(is_sparse(&pack(999)));
        assert!(!is_sparse(&pack(1000)));
        // A pack of an interrupted backup: nobody uses it yet.
        assert!(!is_sparse(&pack(0)));
    }
}
