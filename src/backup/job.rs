//! Cutting the walk into jobs for the readers: about a megabyte each, in the order of the file list.

use std::fs::File;
use std::sync::Arc;

use tracing::debug;

use super::cached_read;
use super::known::{KnownFile, Layer};
use super::listing::{FileStatus, unless_vanished};
use super::memory::{Earlier, Memory, Recalled};
use super::read::FileStart;
use super::walk::{DataDirectory, Found, FoundFile};
use crate::container::CHUNK_SIZE;
use crate::error::{Error, Result};
use crate::postgres::FileContent;
use crate::repository::{
    DirectoryEntry, Entry, FileEntry, ListedPath, TablespaceEntry, encode_path,
};

/// Bytes of one job, and of one range of a large file: what becomes a chunk when nothing is left out.
pub(super) const RANGE_BYTES: u64 = CHUNK_SIZE as u64;

/// Items of one job: small files are many, and what is read of them waits for the slowest.
const JOB_ITEMS: usize = 256;

/// Extents of files that are taken over in one job: some files have thousands.
const JOB_EXTENTS: usize = 4096;

/// Work for one reader.
#[derive(Debug, Default)]
pub(super) struct Job {
    /// What to do, in order.
    pub(super) items: Vec<Item>,
    /// Bytes to read, as far as the walk knew; at most [`RANGE_BYTES`].
    pub(super) bytes: u64,
}

/// Something to read, or a line to pass on.
#[derive(Debug)]
pub(super) enum Item {
    /// A line of the file list that is complete as it is.
    Line(Entry),
    /// The place of `global/pg_control`, which is read last.
    ControlFile,
    /// A file that is taken over unread, with where its blocks lie.
    Taken(Box<FileEntry>, Layer),
    /// A file of at most [`RANGE_BYTES`], not yet opened.
    SmallFile(FoundFile, Earlier),
    /// A part of a larger one.
    Range(FileRange),
}

/// A range of an open file.
#[derive(Debug)]
pub(super) struct FileRange {
    /// The file.
    pub(super) file: Arc<LargeFile>,
    /// Where the range begins, a multiple of [`RANGE_BYTES`].
    pub(super) offset: u64,
    /// Its bytes, at most [`RANGE_BYTES`].
    pub(super) length: u64,
}

/// A file that is read by several jobs.
#[derive(Debug)]
pub(super) struct LargeFile {
    /// Open for reading.
    pub(super) file: File,
    /// What it holds.
    pub(super) content: FileContent,
    /// Its beginning of a line; the identity is that of the open file before its first byte was read.
    pub(super) start: FileStart,
    /// Bytes to read: what it had when it was opened.
    pub(super) size: u64,
    /// What earlier backups hold of it.
    pub(super) known: KnownFile,
}

impl FileRange {
    /// Whether the range is the first of its file.
    pub(super) fn is_first(&self) -> bool {
        self.offset == 0
    }

    /// Whether the range is the last of its file.
    pub(super) fn is_last(&self) -> bool {
        self.offset + self.length == self.file.size
    }
}

/// Collects what a walk finds into jobs and hands them on.
pub(super) struct Planner<'a> {
    data: &'a DataDirectory,
    memory: Memory,
    job: Job,
    /// Of the files that are taken over.
    extents: usize,
    send: &'a mut dyn FnMut(Job) -> Result<()>,
}

impl<'a> Planner<'a> {
    /// A planner that hands jobs to `send`, which may wait; `memory` knows what earlier backups hold.
    pub(super) fn new(
        data: &'a DataDirectory,
        memory: Memory,
        send: &'a mut dyn FnMut(Job) -> Result<()>,
    ) -> Self {
        Self { data, memory, job: Job::default(), extents: 0, send }
    }

    /// Adds what the walk found next.
    pub(super) fn add(&mut self, found: Found) -> Result<()> {
        match found {
            Found::Directory { path, mode } => {
                self.push(Item::Line(Entry::Directory(DirectoryEntry { path, mode })), 0)
            }
            Found::Tablespace { path, target, mode } => {
                let target = encode_path(target.as_os_str().as_encoded_bytes());
                let entry = TablespaceEntry { path, target, mode };
                self.push(Item::Line(Entry::Tablespace(entry)), 0)
            }
            Found::File(file) if file.content == FileContent::ControlFile => {
                self.push(Item::ControlFile, 0)
            }
            Found::File(file) => match self.memory.recall(self.data, &file)? {
                Recalled::Unchanged(entry, extents) => self.taken(entry, extents),
                Recalled::ToRead(earlier) => self.file(file, earlier),
            },
        }
    }

    fn taken(&mut self, entry: Box<FileEntry>, extents: Layer) -> Result<()> {
        self.extents += extents.len();
        self.push(Item::Taken(entry, extents), 0)?;
        if self.extents >= JOB_EXTENTS { self.flush() } else { Ok(()) }
    }

    fn file(&mut self, file: FoundFile, earlier: Earlier) -> Result<()> {
        let bytes = file.status.size;
        if bytes > RANGE_BYTES {
            self.large_file(&file, earlier)
        } else {
            self.push(Item::SmallFile(file, earlier), bytes)
        }
    }

    /// Hands on what is left.
    pub(super) fn finish(mut self) -> Result<()> {
        self.flush()
    }

    fn large_file(&mut self, found: &FoundFile, earlier: Earlier) -> Result<()> {
        let Some(file) = open(self.data, &found.path)? else { return Ok(()) };
        cached_read::announce_ranges(&file);
        let status = status_of(&file, &found.path)?;
        let start = FileStart::new(found, status, earlier.expected);
        // What it has grown by since is in the WAL too; `size` may also be less than a range by now.
        let size = status.size;
        let (content, known) = (found.content, earlier.known);
        let file = Arc::new(LargeFile { file, content, start, size, known });
        let mut offset = 0;
        loop {
            let length = (size - offset).min(RANGE_BYTES);
            let range = FileRange { file: Arc::clone(&file), offset, length };
            self.push(Item::Range(range), length)?;
            offset += length;
            if offset == size {
                return Ok(());
            }
        }
    }

    fn push(&mut self, item: Item, bytes: u64) -> Result<()> {
        if self.job.bytes + bytes > RANGE_BYTES || self.job.items.len() == JOB_ITEMS {
            self.flush()?;
        }
        self.job.items.push(item);
        self.job.bytes += bytes;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.extents = 0;
        let job = std::mem::take(&mut self.job);
        if job.items.is_empty() { Ok(()) } else { (self.send)(job) }
    }
}

/// Opens a file of the data directory; `None` when it vanished.
pub(super) fn open(data: &DataDirectory, path: &ListedPath) -> Result<Option<File>> {
    use rustix::fs::{Mode, OFlags};
    let local = data.local(path);
    let opened = rustix::fs::open(&local, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let opened = unless_vanished(opened);
    let opened = opened.map_err(|errno| super::listing::cannot("open", &local, errno))?;
    if opened.is_none() {
        debug!(%path, "vanished before it was opened");
    }
    Ok(opened.map(File::from))
}

/// The status of an open file.
pub(super) fn status_of(file: &File, path: &ListedPath) -> Result<FileStatus> {
    let stat = rustix::fs::fstat(file);
    let failed = |errno: rustix::io::Errno| {
        Error::io(format!("cannot look at the open file `{path}`"), errno.into())
    };
    stat.map(|stat| FileStatus::from(&stat)).map_err(failed)
}
