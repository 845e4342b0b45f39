//! What one window of the file list needs: which of its blocks are there already, and where the others come from.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;

use super::content::{WindowHashes, hash_zeros};
use super::listing::Listing;
use super::plan::{PackRead, Piece, WindowPlan, packs_of, plan_window};
use super::reuse::{FormerBytes, Reuse, is_there};
use super::tree::Tree;
use crate::budget::Budget;
use crate::container::{BlockHash, Sealing};
use crate::error::{Error, Result};
use crate::repository::{
    ExtentSource, FileEntry, Manifest, OpenPack, Packs, Repository, blocks_in,
};

/// Stored bytes, and what they open to, that may be in memory at a time, of all reads in flight.
const MEMORY_BYTES: u32 = 48 << 20;
/// Packs are remembered while what is known of them takes at most this much memory.
const REMEMBERED_BYTES: usize = 8 << 20;

/// A window's files, shared with the threads that work on them.
pub(super) type Files = Arc<[FileEntry]>;

/// How much a restore reads and writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Files of the backup.
    pub files: u64,
    /// Blocks of them.
    pub blocks: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Files of which anything is written.
    pub changed_files: u64,
    /// Bytes read from files that are there already.
    pub read_bytes: u64,
    /// Blocks that come from the repository.
    pub fetch_blocks: u64,
    /// Stored bytes read from packs; their indexes are not counted.
    pub fetch_bytes: u64,
    /// Bytes written to files. Zeros are counted where a file is there already; in a new one they are holes.
    pub write_bytes: u64,
}

impl AddAssign for Amounts {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.blocks += other.blocks;
        self.bytes += other.bytes;
        self.changed_files += other.changed_files;
        self.read_bytes += other.read_bytes;
        self.fetch_blocks += other.fetch_blocks;
        self.fetch_bytes += other.fetch_bytes;
        self.write_bytes += other.write_bytes;
    }
}

/// Finds out what windows need, and opens the packs for it.
pub(super) struct Sources<'a> {
    pub(super) repository: &'a Repository,
    manifest: &'a Arc<Manifest>,
    pub(super) packs: Packs,
    pub(super) budget: Budget,
}

/// What files there are already.
pub(super) struct Local<'a> {
    pub(super) tree: &'a Arc<Tree>,
    pub(super) former: FormerBytes,
}

/// What a window needs.
pub(super) struct Needs {
    pub(super) packs: BTreeMap<u32, Arc<OpenPack>>,
    pub(super) plan: WindowPlan,
    /// Of the blocks that are right already.
    pub(super) hashes: WindowHashes,
    /// For each file, whether anything of it will be written.
    pub(super) changes: Vec<bool>,
    pub(super) amounts: Amounts,
}

impl<'a> Sources<'a> {
    /// Of the backup `manifest`.
    pub(super) fn new(repository: &'a Repository, manifest: &'a Arc<Manifest>) -> Self {
        let budget = Budget::of(MEMORY_BYTES);
        let (cluster, table) = (manifest.system_identifier, manifest.packs.clone().into());
        let packs = Packs::new(repository, cluster, table, budget.clone(), REMEMBERED_BYTES);
        Self { repository, manifest, packs, budget }
    }

    /// The windows of the file list, in order.
    pub(super) fn windows(&self) -> BoxStream<'static, Result<Files>> {
        let listing = Listing::new(self.repository, self.manifest);
        let windows = futures::stream::try_unfold(listing, |mut listing| async move {
            Ok(listing.next_window().await?.map(|files| (files.into(), listing)))
        });
        windows.boxed()
    }

    /// What `files` need. Local ones are hashed; of files that are as they should be, no pack is looked at.
    pub(super) async fn needs(&self, files: &Files, local: Option<&Local<'_>>) -> Result<Needs> {
        let mut hashes = WindowHashes::new(files);
        let sealing = self.repository.sealing();
        let mut read_bytes = 0;
        if let Some(Local { tree, former }) = local {
            let reuse = Reuse { tree, sealing, budget: &self.budget };
            read_bytes = reuse.hash(files, former, &mut hashes).await?;
        }
        let wrong = hashes.wrong_files(files);
        let wrong_files = wrong.iter().map(|number| &files[*number as usize]);
        let packs = self.packs.open_all(&packs_of(wrong_files)).await?;
        if local.is_some() {
            for number in wrong {
                let expected = expected_hashes(&files[number as usize], &packs, sealing)?;
                hashes.keep_matching(number, &expected);
            }
        }
        let tables = packs.iter().map(|(index, pack)| (*index, pack.blocks().chunks())).collect();
        let plan = plan_window(files, &tables, &hashes.known())?;
        let former = local.map(|local| &local.former);
        let changes = changes(files, &plan, former);
        let amounts = Amounts { read_bytes, ..amounts(files, &plan, former, &changes) };
        Ok(Needs { packs, plan, hashes, changes, amounts })
    }
}

/// The hash of every block of a file, as the indexes of its packs state them.
fn expected_hashes(
    file: &FileEntry,
    packs: &BTreeMap<u32, Arc<OpenPack>>,
    sealing: &Sealing,
) -> Result<Vec<BlockHash>> {
    let mut hashes = Vec::with_capacity(blocks_in(file.size));
    for extent in &file.extents {
        let ExtentSource::Pack { pack, chunk, offset } = extent.source else {
            hashes.extend(hash_zeros(sealing, extent.length));
            continue;
        };
        let blocks = packs.get(&pack).map(|pack| pack.blocks());
        let position = blocks.and_then(|blocks| blocks.position(chunk, offset));
        let stored = position.zip(blocks);
        let stored = stored.and_then(|(position, blocks)| blocks.hashes(position, extent.length));
        hashes.extend_from_slice(stored.ok_or_else(|| {
            let what = format!("an extent of `{}` is no run of blocks of pack {pack}", file.path);
            Error::damaged(what)
        })?);
    }
    Ok(hashes)
}

/// A file changes when a block of it is not right, or its size.
fn changes(files: &[FileEntry], plan: &WindowPlan, former: Option<&FormerBytes>) -> Vec<bool> {
    let Some(former) = former else { return vec![true; files.len()] };
    let sizes = files.iter().zip(former);
    let mut changes: Vec<_> = sizes.map(|(file, former)| *former != Some(file.size)).collect();
    let pieces = plan.reads.iter().flat_map(PackRead::pieces);
    let written = pieces.map(|piece| piece.file).chain(plan.zeros.iter().map(|run| run.file));
    written.for_each(|file| changes[file as usize] = true);
    changes
}

fn amounts(
    files: &[FileEntry],
    plan: &WindowPlan,
    former: Option<&FormerBytes>,
    changes: &[bool],
) -> Amounts {
    let zeros = plan.zeros.iter().filter(|run| is_there(former, run.file)).map(|run| run.length);
    let pieces = || plan.reads.iter().flat_map(PackRead::pieces);
    let blocks = |piece: &Piece| blocks_in(u64::from(piece.length)) as u64;
    Amounts {
        files: files.len() as u64,
        blocks: files.iter().map(|file| blocks_in(file.size) as u64).sum(),
        bytes: files.iter().map(|file| file.size).sum(),
        changed_files: changes.iter().filter(|changes| **changes).count() as u64,
        read_bytes: 0,
        fetch_blocks: pieces().map(blocks).sum(),
        fetch_bytes: plan.reads.iter().map(|read| read.length).sum(),
        write_bytes: zeros.chain(pieces().map(|piece| u64::from(piece.length))).sum(),
    }
}
