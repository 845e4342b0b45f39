//! Fetching the files of a backup: window by window of the file list, each chunk read once, many reads in flight.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::content::{HashedRun, WindowHashes, hash_blocks, hash_zeros};
use super::listing::Listing;
use super::plan::{PackRead, PlannedChunk, packs_of, plan_window};
use super::tree::Tree;
use crate::budget::Budget;
use crate::container::{CHUNK_HEADER_BYTES, CHUNK_SIZE, Sealing};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::repository::{FileEntry, Manifest, OpenPack, Packs, Repository};
use crate::{step, task};

/// While one window's files are synced, the next one's bytes arrive.
const WINDOWS_AT_ONCE: usize = 2;
/// Stored bytes, and what they open to, that may be in memory at a time, of all reads in flight.
const MEMORY_BYTES: u32 = 48 << 20;
/// Packs are remembered while what is known of them takes at most this much memory.
const REMEMBERED_BYTES: usize = 8 << 20;
/// Further bounded by the budget.
const READS_IN_FLIGHT: usize = 16;
/// Files are synced by this many threads: the file system joins what they wait for.
const SYNCS_AT_ONCE: usize = 8;
/// What a chunk takes while it is opened: decrypted, and decompressed.
const OPENING_BYTES: u64 = 2 * CHUNK_SIZE as u64;

/// Fetches the files of one backup into a tree whose directories exist.
pub(super) struct Fetch<'a> {
    repository: &'a Repository,
    manifest: &'a Arc<Manifest>,
    tree: &'a Arc<Tree>,
    progress: &'a dyn Progress,
    packs: Packs,
    budget: Budget,
}

/// A window's files, shared with the threads that write them.
type Files = Arc<[FileEntry]>;

impl<'a> Fetch<'a> {
    /// A fetch of the backup `manifest` into `tree`.
    pub(super) fn new(
        repository: &'a Repository,
        manifest: &'a Arc<Manifest>,
        tree: &'a Arc<Tree>,
        progress: &'a dyn Progress,
    ) -> Self {
        let budget = Budget::of(MEMORY_BYTES);
        let (cluster, table) = (manifest.system_identifier, manifest.packs.clone().into());
        let packs = Packs::new(repository, cluster, table, budget.clone(), REMEMBERED_BYTES);
        Self { repository, manifest, tree, progress, packs, budget }
    }

    /// Fetches, verifies and syncs every file.
    pub(super) async fn run(&self) -> Result<()> {
        let listing = Listing::new(self.repository, self.manifest);
        let windows = futures::stream::try_unfold(listing, |mut listing| async move {
            Ok(listing.next_window().await?.map(|files| (files, listing)))
        });
        windows.try_for_each_concurrent(WINDOWS_AT_ONCE, |files| self.window(files.into())).await
    }

    async fn window(&self, files: Files) -> Result<()> {
        self.create(&files).await?;
        let packs = self.packs.open_all(&packs_of(&files)).await?;
        let tables = packs.iter().map(|(index, pack)| (*index, pack.blocks().chunks())).collect();
        let plan = plan_window(&files, &tables)?;
        let mut hashes = WindowHashes::new(&files);
        for run in &plan.zeros {
            let (file, file_offset) = (run.file, run.file_offset);
            let zeros = hash_zeros(self.repository.sealing(), run.length);
            hashes.put(HashedRun { file, file_offset, hashes: zeros })?;
            self.progress.advance(run.length);
        }
        let reads = plan.reads.into_iter().map(|read| self.read(read, &packs, &files));
        let mut written = futures::stream::iter(reads).buffer_unordered(READS_IN_FLIGHT);
        while let Some(runs) = written.try_next().await? {
            runs.into_iter().try_for_each(|run| hashes.put(run))?;
        }
        hashes.verify(&files)?;
        step::reached("restore:written");
        self.settle(&files).await
    }

    async fn create(&self, files: &Files) -> Result<()> {
        let (tree, files) = (Arc::clone(self.tree), Arc::clone(files));
        task::blocking(move || files.iter().try_for_each(|file| tree.create_file(file))).await
    }

    /// Reads one range, and writes what it holds where it belongs.
    async fn read(
        &self,
        read: PackRead,
        packs: &BTreeMap<u32, Arc<OpenPack>>,
        files: &Files,
    ) -> Result<Vec<HashedRun>> {
        let _room = self.budget.reserve(read.length + OPENING_BYTES).await;
        let content_bytes = read.content_bytes();
        let pack = Arc::clone(&packs[&read.pack]);
        let bytes = self.packs.read(&pack, read.offset, read.length).await?;
        let writer = Writer {
            sealing: self.repository.sealing().clone(),
            tree: Arc::clone(self.tree),
            files: Arc::clone(files),
        };
        let runs = task::blocking(move || writer.write_read(&pack, &read, &bytes)).await?;
        step::reached("restore:read");
        self.progress.advance(content_bytes);
        Ok(runs)
    }

    /// Gives the files their modes and times, and syncs them.
    async fn settle(&self, files: &Files) -> Result<()> {
        let share = files.len().div_ceil(SYNCS_AT_ONCE).max(1);
        let work = (0..files.len()).step_by(share).map(|first| {
            let (tree, files) = (Arc::clone(self.tree), Arc::clone(files));
            task::blocking(move || {
                let end = files.len().min(first + share);
                files[first..end].iter().try_for_each(|file| tree.settle_file(file))
            })
        });
        task::for_each(SYNCS_AT_ONCE, work).await
    }
}

/// Writes the blocks of one read, on a blocking thread.
struct Writer {
    sealing: Sealing,
    tree: Arc<Tree>,
    files: Files,
}

impl Writer {
    fn write_read(
        &self,
        pack: &OpenPack,
        read: &PackRead,
        bytes: &Bytes,
    ) -> Result<Vec<HashedRun>> {
        let mut runs = Vec::new();
        for chunk in &read.chunks {
            let start = (chunk.position.offset - read.offset) as usize;
            let length = CHUNK_HEADER_BYTES + chunk.position.stored_length as usize;
            let content = pack.open_chunk(chunk.index, &bytes[start..start + length])?;
            self.write_chunk(chunk, &content, &mut runs)?;
        }
        Ok(runs)
    }

    fn write_chunk(
        &self,
        chunk: &PlannedChunk,
        content: &[u8],
        runs: &mut Vec<HashedRun>,
    ) -> Result<()> {
        for pieces in chunk.pieces.chunk_by(|left, right| left.file == right.file) {
            let path = &self.files[pieces[0].file as usize].path;
            let file = self.tree.file_to_write(path)?;
            for piece in pieces {
                let start = piece.chunk_offset as usize;
                let blocks = &content[start..start + piece.length as usize];
                file.write_all_at(blocks, piece.file_offset).map_err(|error| {
                    let local = self.tree.local_path(path);
                    Error::io(format!("cannot write `{}`", local.display()), error)
                })?;
                let hashes = hash_blocks(&self.sealing, blocks);
                runs.push(HashedRun { file: piece.file, file_offset: piece.file_offset, hashes });
            }
        }
        Ok(())
    }
}
