//! The pipeline: walk → read, check and hash → chunk → compress → pack → store, ordered, parallel and bounded.
//!
//! One blocking thread walks and cuts jobs. Jobs are read in parallel, but their results go on in the order of the
//! walk; so do the compressed chunks. One place assembles packs and file list and hands them to the uploads.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use super::Target;
use super::assemble::{Assembler, Chunk, Numbers, Stored};
use super::base::Base;
use super::buffer::{BufferPool, buffer_size};
use super::chunker::{Chunker, RawChunk};
use super::compress::compress_chunk;
use super::feed::Feeders;
use super::job::{Item, Job, Planner};
use super::known::{KnownBlocks, KnownPacks};
use super::memory::Memory;
use super::pack_builder::{PACK_BYTES, Sealed};
use super::pages::{PageChecks, Suspect, bad_pages};
use super::rate_limit::RateLimit;
use super::read::{Portion, ReadItem, Reader};
use super::recollect::RECOLLECTION_BYTES;
use super::uploads::Uploads;
use super::walk::DataDirectory;
use crate::budget::{Budget, Reservation};
use crate::config::Rescan;
use crate::container::{CHUNK_SIZE, Codec};
use crate::error::{Error, Result};
use crate::postgres::{ControlFile, Lsn, Session};
use crate::progress::Progress;
use crate::repository::{ListedPath, ObjectName};
use crate::{step, task};

/// Jobs that wait for a reader.
const JOBS_WAITING: usize = 8;

/// Bytes of blocks, chunks and packs that may be in memory at a time.
///
/// Room for the pack that is filled, two that are being stored, and the chunks on their way: with the program
/// itself the process stays below 160 MiB.
const MEMORY_BYTES: u32 = 104 << 20;

/// What a job and a chunk that are worked on hold together at most: a chunk may hold half a buffer in vain.
const JOB_AND_CHUNK_BYTES: u64 = 5 * CHUNK_SIZE as u64 / 2;

/// Most jobs, and most chunks, that are worked on at a time, however many cores there are, when `free` bytes are left
/// for them and for the pack that is filled: whatever they hold, the next pack must get its part, or all wait for ever.
fn most_in_flight(free: u64) -> usize {
    const BETWEEN: u64 = 4 * CHUNK_SIZE as u64;
    ((free - PACK_BYTES - BETWEEN) / JOB_AND_CHUNK_BYTES) as usize
}

/// What is copied, how, and into which backup.
#[derive(Clone)]
pub(super) struct Copy<'a> {
    pub(super) target: Target,
    pub(super) data: DataDirectory,
    pub(super) checks: Option<PageChecks>,
    /// Where replay of the backup begins.
    pub(super) start_lsn: Lsn,
    pub(super) session: &'a Session,
    /// Parallel readers and compressors.
    pub(super) workers: usize,
    /// Objects in flight.
    pub(super) uploads: usize,
    /// Bytes per second.
    pub(super) rate_limit: Option<u64>,
    pub(super) progress: &'a dyn Progress,
    /// What earlier backups hold.
    pub(super) base: &'a Base,
    /// Whether files may be taken over unread.
    pub(super) rescan: Rescan,
    /// The numbers of the first objects.
    pub(super) numbers: Numbers,
}

/// How a copy ended.
pub(super) enum CopyEnd {
    /// Everything is in.
    Whole(Box<Copied>),
    /// What was taken over unread cannot be kept: everything must be read. Objects below the numbers may have been stored;
    /// nothing refers to them.
    Distrusted(Distrust, Numbers),
}

/// Why nothing may be taken over unread.
#[derive(Debug)]
pub(super) enum Distrust {
    /// The file has changed though its identity has not.
    LyingFile(ListedPath),
    /// A pack of an earlier backup is damaged: what was taken over may lie in it.
    DamagedPack,
}

/// Everything was read and sealed; some of it may still be on its way into the repository.
pub(super) struct Copied {
    pub(super) stored: Stored,
    pub(super) uploads: Uploads,
    /// `pg_control` as it was copied.
    pub(super) control: ControlFile,
    /// Whether a later backup may go by what this one saw of the files.
    pub(super) identities: Identities,
}

/// What the identities of files that a backup records are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identities {
    /// They tell whether a file has changed.
    Trusted,
    /// They were seen to lie, or the clock was set: no later backup may skip a file by them.
    Refuted,
}

/// Copies the data directory; `pg_control` comes last (B6).
pub(super) async fn copy(copy: Copy<'_>) -> Result<CopyEnd> {
    let budget = Budget::of(MEMORY_BYTES);
    let mut feeders = Feeders::default();
    let Target { repository, cluster, .. } = &copy.target;
    let recollection = copy.base.recollect(repository, *cluster, copy.rescan, &mut feeders);
    let _for_earlier = match &recollection {
        Some(_) => Some(budget.reserve(RECOLLECTION_BYTES).await),
        None => None,
    };
    let (memory, known) = recollection.map(|earlier| (earlier.memory, earlier.known)).unzip();
    let table = known.as_ref().map(|known| Arc::clone(known.table())).unwrap_or_default();
    let assembler = Assembler::new(copy.target.clone(), copy.data.clone(), copy.numbers, table);
    let pool = BufferPool::default();
    let sealing = copy.target.repository.sealing().clone();
    let reader = Arc::new(Reader::new(copy.data.clone(), sealing, copy.checks, pool.clone()));
    let mut packing = Packing {
        assembler: Arc::new(Mutex::new(assembler)),
        uploads: Uploads::new(copy.target.repository.clone(), budget.clone(), copy.uploads),
        budget: budget.clone(),
        pack: None,
        session: copy.session,
        start_lsn: copy.start_lsn,
        progress: copy.progress,
    };
    let mut chunks =
        Pipeline { copy: &copy, reader: &reader, known: known.clone(), budget, pool: &pool }
            .chunks(memory.unwrap_or_default());
    while let Some(chunk) = chunks.try_next().await? {
        let lying = packing.add(chunk).await?.map(Distrust::LyingFile);
        if let Some(distrust) = lying.or_else(|| copy.doubts(known.as_deref())) {
            return packing.distrusted(distrust).await;
        }
    }
    drop(chunks);
    // The last files may have vanished after their pack was looked at, and left no chunk to ask this behind.
    if let Some(distrust) = copy.doubts(known.as_deref()) {
        return packing.distrusted(distrust).await;
    }
    let codec = copy.target.repository.codec();
    let control = packing.add_control_file(&reader, codec, pool).await?;
    let stored = packing.assemble(|assembler| Ok(assembler.take_stored())).await?;
    Ok(CopyEnd::Whole(Box::new(Copied {
        stored,
        uploads: packing.uploads,
        control,
        identities: Identities::Trusted,
    })))
}

impl Copy<'_> {
    /// A run that reads everything takes nothing over that lies in a damaged pack; one that does not may have done so.
    fn doubts(&self, known: Option<&KnownPacks>) -> Option<Distrust> {
        let damaged = known.is_some_and(KnownPacks::found_damage);
        (damaged && self.rescan == Rescan::Changed).then_some(Distrust::DamagedPack)
    }
}

struct Pipeline<'a> {
    copy: &'a Copy<'a>,
    reader: &'a Arc<Reader>,
    known: Option<Arc<KnownPacks>>,
    budget: Budget,
    pool: &'a BufferPool,
}

type ChunkStream<'a> = Pin<Box<dyn Stream<Item = Result<Chunk>> + Send + 'a>>;

impl<'a> Pipeline<'a> {
    /// The compressed chunks, in the order of the file list.
    fn chunks(self, memory: Memory) -> ChunkStream<'a> {
        let taken = if self.known.is_some() { RECOLLECTION_BYTES } else { 0 };
        let in_flight = most_in_flight(u64::from(MEMORY_BYTES) - taken);
        let in_flight = (2 * self.copy.workers).min(in_flight);
        let (codec, pool) = (self.copy.target.repository.codec(), self.pool);
        let limit = Arc::new(RateLimit::new(self.copy.rate_limit));
        let (reader, budget) = (Arc::clone(self.reader), self.budget);
        let reading = Reading { reader, known: self.known, budget, limit };
        let portions = jobs(self.copy.data.clone(), memory)
            .map(move |job| {
                let reading = reading.clone();
                async move { reading.read(job?).await }
            })
            .buffered(in_flight);
        let chunks = chunked(portions.boxed()).map(move |raw| {
            let pool = pool.clone();
            async move {
                let raw = raw?;
                task::blocking(move || compress_chunk(codec, &pool, raw)).await
            }
        });
        chunks.buffered(in_flight).boxed()
    }
}

/// What every reading needs.
#[derive(Clone)]
struct Reading {
    reader: Arc<Reader>,
    known: Option<Arc<KnownPacks>>,
    budget: Budget,
    limit: Arc<RateLimit>,
}

impl Reading {
    async fn read(self, job: Job) -> Result<Vec<Portion>> {
        let known = self.known_blocks(&job).await?;
        self.limit.wait(job.bytes).await;
        let reservation = self.budget.reserve(buffer_size(job.bytes as usize) as u64).await;
        task::blocking(move || self.reader.read(job, known, reservation)).await
    }

    /// What earlier backups hold of each item.
    async fn known_blocks(&self, job: &Job) -> Result<Vec<KnownBlocks>> {
        let mut blocks = Vec::with_capacity(job.items.len());
        for item in &job.items {
            blocks.push(match (item, &self.known) {
                (Item::SmallFile(found, earlier), Some(packs)) => {
                    packs.blocks(&earlier.known, 0, found.status.size).await?
                }
                (Item::Range(range), Some(packs)) => {
                    packs.blocks(&range.file.known, range.offset, range.length).await?
                }
                _ => KnownBlocks::default(),
            });
        }
        Ok(blocks)
    }
}

/// What the walk says: its end is a message, so that a walk that broke off is never taken for a short one.
enum Said {
    Job(Job),
    End,
}

/// The jobs of a walk, which runs on a thread of its own. An error ends the stream.
fn jobs(data: DataDirectory, memory: Memory) -> impl Stream<Item = Result<Job>> + Send {
    let (sender, receiver) = mpsc::channel(JOBS_WAITING);
    let walk = stream::once(task::blocking(move || {
        let said = walk(&data, memory, &sender).map(|()| Said::End);
        // Nobody listens any more: the backup has failed elsewhere.
        let _ = sender.blocking_send(said);
        Ok(())
    }));
    let said = stream::unfold(Some(receiver), |receiver| async {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Ok(Said::Job(job))) => Some((Ok(job), Some(receiver))),
            Some(Ok(Said::End)) => None,
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((Err(Error::bug("the walk of the data directory broke off")), None)),
        }
    });
    // Both are polled together; the walk itself yields nothing but its failure.
    stream::select(walk.filter_map(|walked| async { walked.err().map(Err) }), said)
}

fn walk(data: &DataDirectory, memory: Memory, sender: &mpsc::Sender<Result<Said>>) -> Result<()> {
    let gone = |_| Error::unavailable("the backup was given up");
    let mut send = |job| sender.blocking_send(Ok(Said::Job(job))).map_err(gone);
    let mut planner = Planner::new(data, memory, &mut send);
    data.walk(&mut |found| planner.add(found))?;
    planner.finish()
}

/// Portions joined into chunks.
fn chunked<'a>(
    portions: impl Stream<Item = Result<Vec<Portion>>> + Send + Unpin + 'a,
) -> impl Stream<Item = Result<RawChunk>> + Send + 'a {
    let state = (portions, Chunker::default());
    let chunks = stream::try_unfold(Some(state), |state| async move {
        let Some((mut portions, mut chunker)) = state else {
            return Ok::<_, Error>(None);
        };
        let mut full = Vec::new();
        while full.is_empty() {
            let Some(next) = portions.try_next().await? else {
                full.extend(chunker.finish());
                return Ok(Some((full, None)));
            };
            full.extend(next.into_iter().filter_map(|portion| chunker.add(portion)));
        }
        Ok(Some((full, Some((portions, chunker)))))
    });
    chunks.map_ok(|full| stream::iter(full.into_iter().map(Ok))).try_flatten()
}

struct Packing<'a> {
    /// Locked on blocking threads only, by one of them at a time.
    assembler: Arc<Mutex<Assembler>>,
    uploads: Uploads,
    budget: Budget,
    /// For the pack that is being filled.
    pack: Option<Reservation>,
    session: &'a Session,
    start_lsn: Lsn,
    progress: &'a dyn Progress,
}

impl Packing<'_> {
    /// Adds a chunk; a file that has changed unseen.
    async fn add(&mut self, chunk: Chunk) -> Result<Option<ListedPath>> {
        if chunk.data.is_some() {
            self.make_room_for_pack().await;
        }
        let present = self.present_lsn(&chunk).await?;
        let start = self.start_lsn;
        let judge = move |suspects: &[Suspect]| bad_pages(suspects, start, present);
        self.progress.advance(chunk.bytes());
        let added = self.assemble(move |assembler| {
            let sealed = assembler.add(chunk, &judge)?;
            Ok((sealed, assembler.lying().cloned()))
        });
        let (sealed, lying) = added.await?;
        self.store(sealed).await?;
        Ok(lying)
    }

    async fn make_room_for_pack(&mut self) {
        if self.pack.is_none() {
            self.pack = Some(self.budget.reserve(PACK_BYTES).await);
        }
    }

    /// B7: the server's position is asked for after a page was read in vain for the last time.
    async fn present_lsn(&self, chunk: &Chunk) -> Result<Lsn> {
        let is_suspect = |item: &ReadItem| match item {
            ReadItem::Content(content) => !content.suspects.is_empty(),
            _ => false,
        };
        if chunk.items.iter().any(is_suspect) {
            return self.session.current_insert_lsn().await;
        }
        Ok(Lsn::INVALID)
    }

    async fn assemble<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Assembler) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let assembler = Arc::clone(&self.assembler);
        task::blocking(move || {
            work(&mut assembler.lock().expect("a panic in it has ended the backup"))
        })
        .await
    }

    async fn distrusted(&self, distrust: Distrust) -> Result<CopyEnd> {
        let numbers = self.assemble(|assembler| Ok(assembler.free_numbers())).await?;
        Ok(CopyEnd::Distrusted(distrust, numbers))
    }

    async fn store(&mut self, sealed: Vec<Sealed>) -> Result<()> {
        for object in sealed {
            let is_pack = matches!(object.name, ObjectName::Pack(..));
            let held = if is_pack { self.pack.take() } else { None };
            self.uploads.put(object, held).await?;
        }
        Ok(())
    }

    /// B6: reads `pg_control`, adds it behind everything else, and ends the last pack and the file list.
    async fn add_control_file(
        &mut self,
        reader: &Arc<Reader>,
        codec: Codec,
        pool: BufferPool,
    ) -> Result<ControlFile> {
        step::reached("backup-push:before-control-file");
        let reader = Arc::clone(reader);
        let read = task::blocking(move || {
            let (control, portion) = reader.read_control_file()?;
            let mut chunker = Chunker::default();
            chunker.add(portion);
            let raw = chunker.finish().ok_or_else(|| Error::bug("pg_control is empty"))?;
            Ok((control, compress_chunk(codec, &pool, raw)?))
        });
        let (control, chunk) = read.await?;
        step::reached("backup-push:control-file");
        self.make_room_for_pack().await;
        let parts = self.assemble(move |assembler| assembler.add_control_file(chunk)).await?;
        step::reached("backup-push:before-file-list");
        self.store(parts).await?;
        step::reached("backup-push:before-last-pack");
        let pack = self.assemble(Assembler::seal_pack).await?;
        self.store(pack.into_iter().collect()).await?;
        Ok(control)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_in_flight_leaves_room_for_the_pack() {
        for taken in [0, RECOLLECTION_BYTES] {
            let free = u64::from(MEMORY_BYTES) - taken;
            let held = most_in_flight(free) as u64 * JOB_AND_CHUNK_BYTES;
            assert!(most_in_flight(free) >= 15 && held + PACK_BYTES < free, "{taken}");
        }
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod history;
