//! The readers: from files to checked, hashed blocks, without the blocks that hold only zeros.

use std::fs::File;
use std::thread::sleep;
use std::time::Duration;

use tracing::debug;

use super::buffer::{Buffer, BufferPool};
use super::cached_read::read_at;
use super::job::{FileRange, Item, Job, RANGE_BYTES, open, status_of};
use super::known::{KnownBlocks, KnownPlace, Layer};
use super::listing::{FileStatus, cannot};
use super::pages::{PageChecks, Suspect};
use super::walk::{DataDirectory, FoundFile};
use crate::budget::Reservation;
use crate::container::{BLOCK_SIZE, BlockHash, CHUNK_SIZE, ContentDigest, Sealing};
use crate::error::{Error, Result};
use crate::postgres::{CONTROL_FILE, ControlFile, FileContent, filenode_map_is_intact};
use crate::repository::{Entry, FileEntry, ListedPath, blocks_in};
use crate::step;

/// A file that was small when it was found may have grown or been replaced; beyond this it is not read in one go.
const SMALL_FILE_BYTES: u64 = 16 * RANGE_BYTES;

const MAP_ATTEMPTS: u32 = 50;
const MAP_PAUSE: Duration = Duration::from_millis(10);

/// What one job yields, or a part of it: at most a chunk of data and what it belongs to, in order.
#[derive(Debug, Default)]
pub(super) struct Portion {
    /// What was read, in the order of the file list.
    pub(super) items: Vec<ReadItem>,
    /// The bytes of all [`RunSource::Data`] runs, one behind the other.
    pub(super) data: Buffer,
}

/// A step in the file list.
#[derive(Debug)]
pub(super) enum ReadItem {
    /// A line that is complete as it is.
    Line(Entry),
    /// The place of `global/pg_control`.
    ControlFile,
    /// A file that is taken over unread, with where its blocks lie.
    Taken(Box<FileEntry>, Layer),
    /// A file begins; its contents and its end follow.
    Begin(FileStart),
    /// The next bytes of the file.
    Content(Content),
    /// The file is complete.
    End,
}

/// What is known of a file before its content.
#[derive(Debug, Clone)]
pub(super) struct FileStart {
    /// Where.
    pub(super) path: ListedPath,
    /// Of the open file, before its first byte was read.
    pub(super) status: FileStatus,
    /// The digest that the parent states of a file that looks unchanged and is read to prove it.
    pub(super) expected: Option<ContentDigest>,
}

/// Consecutive bytes of a file.
#[derive(Debug)]
pub(super) struct Content {
    /// Bytes that were read.
    pub(super) length: u64,
    /// Whether the file ended before the bytes that were asked for.
    pub(super) ended_early: bool,
    /// Of every block, in order.
    pub(super) hashes: Vec<BlockHash>,
    /// Where the bytes come from; covers `length`.
    pub(super) runs: Vec<Run>,
    /// Pages that kept failing their checksum.
    pub(super) suspects: Vec<Suspect>,
}

/// Consecutive blocks with the same source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Bytes; a multiple of the block size except at the end of a file.
    pub(super) length: u64,
    /// Where a restore gets them.
    pub(super) source: RunSource,
}

/// Where a restore gets a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunSource {
    /// Nowhere: it is all zeros.
    Zeros,
    /// From what this backup stores.
    Data,
    /// From what an earlier backup has stored: the first block of the run lies there.
    Known(KnownPlace),
}

impl Run {
    /// Whether a block with this source goes on where the run ends.
    fn goes_on(&self, source: RunSource) -> bool {
        match (self.source, source) {
            (RunSource::Known(first), RunSource::Known(next)) => {
                let end = u64::from(first.position) + self.length;
                first.pack == next.pack && end == u64::from(next.position)
            }
            (same, other) => same == other,
        }
    }
}

/// Reads jobs; shared by all workers.
pub(super) struct Reader {
    data: DataDirectory,
    sealing: Sealing,
    checks: Option<PageChecks>,
    pool: BufferPool,
    zeros: BlockHash,
}

impl Reader {
    /// A reader of `data`. Pages are verified when `checks` says how.
    pub(super) fn new(
        data: DataDirectory,
        sealing: Sealing,
        checks: Option<PageChecks>,
        pool: BufferPool,
    ) -> Self {
        let zeros = sealing.hash_block(&[0; BLOCK_SIZE]);
        Self { data, sealing, checks, pool, zeros }
    }

    /// Does a job; blocking. More than one portion only when files grew since they were found.
    ///
    /// `known` has what earlier backups hold of each item, in order.
    pub(super) fn read(
        &self,
        job: Job,
        known: Vec<KnownBlocks>,
        reservation: Reservation,
    ) -> Result<Vec<Portion>> {
        let data = self.pool.take(job.bytes as usize, Some(reservation));
        let portion = Portion { items: Vec::with_capacity(job.items.len() * 3), data };
        let mut output = Output { reader: self, done: Vec::new(), portion };
        for (item, known) in job.items.into_iter().zip(known) {
            match item {
                Item::Line(entry) => output.push(ReadItem::Line(entry)),
                Item::ControlFile => output.push(ReadItem::ControlFile),
                Item::Taken(entry, extents) => output.push(ReadItem::Taken(entry, extents)),
                Item::SmallFile(found, earlier) => {
                    output.small_file(&found, earlier.expected, &known)?;
                }
                Item::Range(range) => output.range(&range, &known)?,
            }
        }
        output.finish_portion(Portion::default());
        Ok(output.done)
    }

    /// Reads `global/pg_control` until it is whole (B6); blocking.
    pub(super) fn read_control_file(&self) -> Result<(ControlFile, Portion)> {
        let path = ListedPath::new(CONTROL_FILE)?;
        let local = self.data.local(&path);
        let stat = rustix::fs::stat(&local).map_err(|errno| cannot("look at", &local, errno))?;
        let (control, bytes) = ControlFile::read_with_bytes(self.data.root())?;
        let mut data = self.pool.take(bytes.len(), None);
        let spare = &mut data.spare()[..bytes.len()];
        spare.copy_from_slice(&bytes);
        let Hashed { hashes, runs, kept } = self.hash(spare, Blocks::UNKNOWN);
        data.fill(kept);
        let status = FileStatus::from(&stat);
        let begin = ReadItem::Begin(FileStart { path, status, expected: None });
        let (length, ended_early, suspects) = (bytes.len() as u64, false, Vec::new());
        let content = ReadItem::Content(Content { length, ended_early, hashes, runs, suspects });
        Ok((control, Portion { items: vec![begin, content, ReadItem::End], data }))
    }

    /// Hashes the blocks of `bytes` and moves those that are kept to the front.
    fn hash(&self, bytes: &mut [u8], known: Blocks<'_>) -> Hashed {
        let mut hashed = Hashed {
            hashes: Vec::with_capacity(blocks_in(bytes.len() as u64)),
            ..Hashed::default()
        };
        let mut start = 0;
        while start < bytes.len() {
            let end = bytes.len().min(start + BLOCK_SIZE);
            let block = hashed.hashes.len();
            let (hash, source) = self.judge(&bytes[start..end], |hash| known.find(block, hash));
            hashed.hashes.push(hash);
            hashed.extend(source, (end - start) as u64);
            if source == RunSource::Data {
                if hashed.kept < start {
                    bytes.copy_within(start..end, hashed.kept);
                }
                hashed.kept += end - start;
            }
            start = end;
        }
        hashed
    }

    /// The hash of a block, and where a restore gets it: `find` compares with what is stored already (D2).
    fn judge(
        &self,
        block: &[u8],
        find: impl FnOnce(&BlockHash) -> Option<KnownPlace>,
    ) -> (BlockHash, RunSource) {
        if !is_zero(block) {
            let hash = self.sealing.hash_block(block);
            return (hash, find(&hash).map_or(RunSource::Data, RunSource::Known));
        }
        let whole = block.len() == BLOCK_SIZE;
        let hash = if whole { self.zeros } else { self.sealing.hash_block(block) };
        (hash, RunSource::Zeros)
    }
}

#[derive(Default)]
struct Hashed {
    hashes: Vec<BlockHash>,
    runs: Vec<Run>,
    kept: usize,
}

impl Hashed {
    fn extend(&mut self, source: RunSource, length: u64) {
        match self.runs.last_mut() {
            Some(run) if run.goes_on(source) => run.length += length,
            _ => self.runs.push(Run { length, source }),
        }
    }
}

struct Output<'a> {
    reader: &'a Reader,
    done: Vec<Portion>,
    portion: Portion,
}

impl Output<'_> {
    fn push(&mut self, item: ReadItem) {
        self.portion.items.push(item);
    }

    fn range(&mut self, range: &FileRange, known: &KnownBlocks) -> Result<()> {
        let file = &range.file;
        if range.is_first() {
            self.push(ReadItem::Begin(file.start.clone()));
        }
        let piece = Piece { file: &file.file, content: file.content, path: &file.start.path };
        self.content(piece, range.offset, range.length, Blocks { known: Some(known), first: 0 })?;
        step::reached("backup-push:range");
        if range.is_last() {
            self.push(ReadItem::End);
        }
        Ok(())
    }

    fn small_file(
        &mut self,
        found: &FoundFile,
        expected: Option<ContentDigest>,
        known: &KnownBlocks,
    ) -> Result<()> {
        let Some((file, status)) = self.open(found)? else { return Ok(()) };
        let size = small_size(found, &status)?;
        let path = &found.path;
        self.push(ReadItem::Begin(FileStart::new(found, status, expected)));
        let mut offset = 0;
        while offset < size {
            let length = (size - offset).min(RANGE_BYTES);
            let piece = Piece { file: &file, content: found.content, path };
            let blocks = Blocks { known: Some(known), first: blocks_in(offset) };
            self.content(piece, offset, length, blocks)?;
            offset += length;
        }
        self.push(ReadItem::End);
        Ok(())
    }

    /// B8: a map that the server replaces or overwrites right now is read again.
    fn open(&self, found: &FoundFile) -> Result<Option<(File, FileStatus)>> {
        let mut attempt = 1;
        loop {
            let Some(file) = open(&self.reader.data, &found.path)? else { return Ok(None) };
            let status = status_of(&file, &found.path)?;
            if found.content != FileContent::FilenodeMap || map_is_intact(&file, found)? {
                return Ok(Some((file, status)));
            }
            if attempt == MAP_ATTEMPTS {
                let what = format!(
                    "`{}` fails its checksum",
                    self.reader.data.local(&found.path).display()
                );
                return Err(Error::damaged(what).because("it was read 50 times"));
            }
            sleep(MAP_PAUSE);
            attempt += 1;
        }
    }

    fn content(
        &mut self,
        piece: Piece<'_>,
        offset: u64,
        length: u64,
        known: Blocks<'_>,
    ) -> Result<()> {
        let wanted = length as usize;
        self.make_room(wanted);
        let spare = &mut self.portion.data.spare()[..wanted];
        let read =
            read_at(piece.file, spare, offset).map_err(|error| piece.failed(offset, error))?;
        let read = match piece.content {
            FileContent::FilenodeMap => piece.read_until_intact(spare, offset, read)?,
            _ => read,
        };
        let bytes = &mut spare[..read];
        let suspects = match (&self.reader.checks, piece.content) {
            (Some(checks), FileContent::Relation(relation)) => checks
                .settle(piece.file, relation, offset, bytes)
                .map_err(|error| piece.failed(offset, error))?,
            _ => Vec::new(),
        };
        let Hashed { hashes, runs, kept } = self.reader.hash(bytes, known);
        self.portion.data.fill(kept);
        let ended_early = read < wanted;
        let content = Content { length: read as u64, ended_early, hashes, runs, suspects };
        self.push(ReadItem::Content(content));
        Ok(())
    }

    fn make_room(&mut self, wanted: usize) {
        if self.portion.data.room() < wanted {
            let data = self.reader.pool.take(CHUNK_SIZE, None);
            self.finish_portion(Portion { items: Vec::new(), data });
        }
    }

    /// Ends the present portion, with no more memory than what it kept.
    fn finish_portion(&mut self, next: Portion) {
        let mut full = std::mem::replace(&mut self.portion, next);
        full.data.fit();
        self.done.push(full);
    }
}

/// The stored blocks of a piece of a file.
#[derive(Clone, Copy)]
struct Blocks<'a> {
    known: Option<&'a KnownBlocks>,
    /// Which of them is the piece's first.
    first: usize,
}

impl Blocks<'_> {
    const UNKNOWN: Self = Self { known: None, first: 0 };

    fn find(self, block: usize, hash: &BlockHash) -> Option<KnownPlace> {
        self.known?.find(self.first + block, hash)
    }
}

impl FileStart {
    /// The start of a found file that is open now; what was expected counts only for what was found.
    pub(super) fn new(
        found: &FoundFile,
        status: FileStatus,
        expected: Option<ContentDigest>,
    ) -> Self {
        let expected = expected.filter(|_| status == found.status);
        Self { path: found.path.clone(), status, expected }
    }
}

#[derive(Clone, Copy)]
struct Piece<'a> {
    file: &'a File,
    content: FileContent,
    path: &'a ListedPath,
}

impl Piece<'_> {
    /// B8: what is stored is what was checked. A map that is overwritten between the two is read again.
    fn read_until_intact(&self, bytes: &mut [u8], offset: u64, mut read: usize) -> Result<usize> {
        for _ in 0..MAP_ATTEMPTS {
            if filenode_map_is_intact(&bytes[..read]) {
                return Ok(read);
            }
            sleep(MAP_PAUSE);
            read = read_at(self.file, bytes, offset).map_err(|error| self.failed(offset, error))?;
        }
        Err(Error::damaged(format!("`{}` fails its checksum", self.path)))
    }

    fn failed(&self, offset: u64, error: std::io::Error) -> Error {
        Error::io(format!("cannot read `{}` at byte {offset}", self.path), error)
    }
}

/// The bytes to read of a file that was small when it was found.
fn small_size(found: &FoundFile, status: &FileStatus) -> Result<u64> {
    if status.size <= SMALL_FILE_BYTES {
        return Ok(status.size);
    }
    if matches!(found.content, FileContent::Relation(_)) {
        // What a relation grew by since it was found is in the WAL.
        return Ok(SMALL_FILE_BYTES);
    }
    let (before, now) = (found.status.size, status.size);
    Err(Error::unavailable(format!(
        "`{}` grew from {before} to {now} bytes in a moment",
        found.path
    ))
    .hint("take the backup again when the file has settled"))
}

fn map_is_intact(file: &File, found: &FoundFile) -> Result<bool> {
    let mut content = [0; 1024];
    let read = read_at(file, &mut content, 0)
        .map_err(|error| Error::io(format!("cannot read `{}`", found.path), error))?;
    let intact = filenode_map_is_intact(&content[..read]);
    if !intact {
        debug!(path = %found.path, "torn, read again");
    }
    Ok(intact)
}

fn is_zero(block: &[u8]) -> bool {
    const WORDS: usize = 128;
    let (rows, rest) = block.as_chunks::<WORDS>();
    let is_zero_row = |row: &[u8; WORDS]| row.iter().fold(0, |sum, byte| sum | byte) == 0;
    rows.iter().all(is_zero_row) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
