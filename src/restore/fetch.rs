//! Fetching the files of a backup: window by window of the file list, each chunk read once, many reads in flight.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::adopt::write_zeros;
use super::beneath::Syncing;
use super::content::{HashedRun, WindowHashes, hash_blocks, hash_zeros};
use super::needs::{Amounts, Files, Local, Needs, Sources};
use super::plan::{PackRead, PlannedChunk, ZeroRun};
use super::reuse::{FormerBytes, is_there};
use super::tree::Tree;
use crate::container::{CHUNK_HEADER_BYTES, CHUNK_SIZE, Sealing};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::repository::{FileEntry, Manifest, OpenPack, Repository};
use crate::{step, task};

/// While one window's files are synced, the next one's bytes arrive.
const WINDOWS_AT_ONCE: usize = 2;
/// Further bounded by the budget.
const READS_IN_FLIGHT: usize = 16;
/// Files are made and synced by this many threads: the file system joins what they wait for.
const THREADS: usize = 8;
/// What a chunk takes while it is opened: decrypted, and decompressed.
const OPENING_BYTES: u64 = 2 * CHUNK_SIZE as u64;

/// Whether files that are in the tree already are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// There are none.
    Nothing,
    /// Blocks of them stay where their hash is right (R6).
    Reused,
}

/// Fetches the files of one backup into a tree whose directories exist.
pub(super) struct Fetch<'a> {
    sources: Sources<'a>,
    tree: &'a Arc<Tree>,
    found: Found,
    progress: &'a dyn Progress,
}

impl<'a> Fetch<'a> {
    /// A fetch of the backup `manifest` into `tree`.
    pub(super) fn new(
        repository: &'a Repository,
        manifest: &'a Arc<Manifest>,
        tree: &'a Arc<Tree>,
        found: Found,
        progress: &'a dyn Progress,
    ) -> Self {
        Self { sources: Sources::new(repository, manifest), tree, found, progress }
    }

    /// Fetches, verifies and syncs every file; returns how much that was.
    pub(super) async fn run(&self) -> Result<Amounts> {
        let windows = self.sources.windows().map_ok(|files| self.window(files));
        let mut done = windows.try_buffer_unordered(WINDOWS_AT_ONCE);
        let mut amounts = Amounts::default();
        while let Some(window) = done.try_next().await? {
            amounts += window;
        }
        Ok(amounts)
    }

    async fn window(&self, files: Files) -> Result<Amounts> {
        let local = self.make(&files).await?;
        let needs = self.sources.needs(&files, local.as_ref()).await?;
        let Needs { packs, plan, mut hashes, changes, amounts } = needs;
        self.progress.advance(amounts.bytes - plan.bytes());
        self.make_zeros(&files, &plan.zeros, local.as_ref(), &mut hashes).await?;
        let reads = plan.reads.into_iter().map(|read| self.read(read, &packs, &files));
        let mut written = futures::stream::iter(reads).buffer_unordered(READS_IN_FLIGHT);
        while let Some(runs) = written.try_next().await? {
            runs.into_iter().try_for_each(|run| hashes.put(run))?;
        }
        hashes.verify(&files)?;
        step::reached("restore:written");
        self.settle(&files, changes).await?;
        Ok(amounts)
    }

    /// Makes the files that are not there, and takes over those that are.
    async fn make(&self, files: &Files) -> Result<Option<Local<'a>>> {
        if self.found == Found::Nothing {
            self.in_shares(files, Tree::create_file).await?;
            return Ok(None);
        }
        let former = self.in_shares(files, Tree::adopt_file).await?;
        Ok(Some(Local { tree: self.tree, former }))
    }

    /// Zeros are holes in new files; in others they are written.
    async fn make_zeros(
        &self,
        files: &Files,
        zeros: &[ZeroRun],
        local: Option<&Local<'_>>,
        hashes: &mut WindowHashes,
    ) -> Result<()> {
        let former = local.map(|local| &local.former);
        let is_there = |run: &&ZeroRun| is_there(former, run.file);
        let written: Vec<ZeroRun> = zeros.iter().filter(is_there).copied().collect();
        let (tree, files) = (Arc::clone(self.tree), Arc::clone(files));
        task::blocking(move || written.iter().try_for_each(|run| zero(&tree, &files, run))).await?;
        for run in zeros {
            let (file, file_offset) = (run.file, run.file_offset);
            let zeros = hash_zeros(self.sources.repository.sealing(), run.length);
            hashes.put(HashedRun { file, file_offset, hashes: zeros })?;
            self.progress.advance(run.length);
        }
        Ok(())
    }

    /// Reads one range, and writes what it holds where it belongs.
    async fn read(
        &self,
        read: PackRead,
        packs: &BTreeMap<u32, Arc<OpenPack>>,
        files: &Files,
    ) -> Result<Vec<HashedRun>> {
        let _room = self.sources.budget.reserve(read.length + OPENING_BYTES).await;
        let content_bytes = read.content_bytes();
        let pack = Arc::clone(&packs[&read.pack]);
        let bytes = self.sources.packs.read(&pack, read.offset, read.length).await?;
        let writer = Writer {
            sealing: self.sources.repository.sealing().clone(),
            tree: Arc::clone(self.tree),
            files: Arc::clone(files),
        };
        let runs = task::blocking(move || writer.write_read(&pack, &read, &bytes)).await?;
        step::reached("restore:read");
        self.progress.advance(content_bytes);
        Ok(runs)
    }

    /// Gives the files their modes and times, and syncs those that were written.
    async fn settle(&self, files: &Files, changes: Vec<bool>) -> Result<()> {
        let (changes, syncing) = (Arc::new(changes), Syncing::in_place());
        let settle = move |tree: &Tree, (number, file): (usize, &FileEntry)| match changes[number] {
            true => tree.settle_file(file),
            false => tree.settle_unchanged(file, syncing),
        };
        self.in_numbered_shares(files, settle).await.map(drop)
    }

    /// Does something with every file, on several threads; the results in the order of the files.
    async fn in_shares<T: Send + 'static>(
        &self,
        files: &Files,
        work: impl Fn(&Tree, &FileEntry) -> Result<T> + Clone + Send + 'static,
    ) -> Result<Vec<T>> {
        self.in_numbered_shares(files, move |tree, (_, file)| work(tree, file)).await
    }

    async fn in_numbered_shares<T: Send + 'static>(
        &self,
        files: &Files,
        work: impl Fn(&Tree, (usize, &FileEntry)) -> Result<T> + Clone + Send + 'static,
    ) -> Result<Vec<T>> {
        let share = files.len().div_ceil(THREADS).max(1);
        let shares = (0..files.len()).step_by(share).map(|first| {
            let (tree, files, work) = (Arc::clone(self.tree), Arc::clone(files), work.clone());
            task::blocking(move || {
                let files = files.iter().enumerate().skip(first).take(share);
                files.map(|file| work(&tree, file)).collect::<Result<Vec<T>>>()
            })
        });
        let done: Vec<_> = futures::stream::iter(shares).buffered(THREADS).try_collect().await?;
        Ok(done.into_iter().flatten().collect())
    }
}

/// What a fetch of the backup `manifest` would read and write; `found` is what there is already.
pub(super) async fn estimate(
    repository: &Repository,
    manifest: &Arc<Manifest>,
    found: Option<&Arc<Tree>>,
    progress: &dyn Progress,
) -> Result<Amounts> {
    let sources = Sources::new(repository, manifest);
    let mut windows = sources.windows();
    let mut amounts = Amounts::default();
    while let Some(files) = windows.try_next().await? {
        let local = match found {
            Some(tree) => Some(Local { tree, former: former_bytes(tree, &files).await? }),
            None => None,
        };
        let needs = sources.needs(&files, local.as_ref()).await?;
        progress.advance(needs.amounts.bytes);
        amounts += needs.amounts;
    }
    Ok(amounts)
}

async fn former_bytes(tree: &Arc<Tree>, files: &Files) -> Result<FormerBytes> {
    let (tree, files) = (Arc::clone(tree), Arc::clone(files));
    task::blocking(move || files.iter().map(|file| tree.adoptable_bytes(file)).collect()).await
}

fn zero(tree: &Tree, files: &Files, run: &ZeroRun) -> Result<()> {
    let path = &files[run.file as usize].path;
    let file = tree.file_to_write(path)?;
    write_zeros(&file, run.file_offset, run.length).map_err(|error| {
        Error::io(format!("cannot write zeros to `{}`", tree.local_path(path).display()), error)
    })
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
