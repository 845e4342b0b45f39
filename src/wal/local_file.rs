//! A file of `pg_wal`: opened once, checked before anything is sent, and watched for changes while it is read.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::place::directory_of;
use crate::container::ContentDigest;
use crate::error::{Error, Result};
use crate::postgres::{
    ExpectedCluster, LONG_HEADER_BYTES, LongHeader, PageChecks, SegmentDefect, SegmentName,
    TimelineHistory, TimelineId, WalFileName, check_segment,
};
use crate::repository::WalContent;
use crate::task;

/// How much of a file is read at once to hash it: it stays in the cache between reading and hashing.
const READ_BYTES: usize = 128 << 10;

/// Most bytes of a history or a backup label; real ones have a few kilobytes.
const SMALL_FILE_BYTES: u64 = 16 << 20;

/// An open file of `pg_wal` under one of PostgreSQL's names; its content is not yet known to be good.
#[derive(Debug, Clone)]
pub(super) struct LocalFile {
    path: PathBuf,
    name: WalFileName,
    file: Arc<File>,
    seen: Seen,
}

/// A file that may be archived: it is what its name promises, for the cluster whose WAL it is (W7).
#[derive(Debug, Clone)]
pub(super) struct CheckedFile(LocalFile);

/// What tells a file from one that was changed or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl LocalFile {
    /// Opens a file that must exist.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = name_of(path)?;
        Self::open_named(path, name).map_err(|error| cannot_read(path, error))
    }

    /// Opens the file `name` of `directory`; `None` when there is none.
    pub(super) fn find(directory: &Path, name: WalFileName) -> Result<Option<Self>> {
        let path = directory.join(name.to_string());
        match Self::open_named(&path, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some).map_err(|error| cannot_read(&path, error)),
        }
    }

    fn open_named(path: &Path, name: WalFileName) -> io::Result<Self> {
        // O_NONBLOCK, because opening a FIFO would wait for its writer.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let seen = Seen::of(&metadata);
        Ok(Self { path: path.to_owned(), name, file: Arc::new(file), seen })
    }

    /// Its name.
    pub(super) fn name(&self) -> WalFileName {
        self.name
    }

    /// The directory in which it lies.
    pub(super) fn directory(&self) -> &Path {
        directory_of(&self.path)
    }

    /// The long header of a segment or a `.partial`, the only place in WAL that names its cluster.
    pub(super) fn long_header(&self) -> Result<LongHeader> {
        LongHeader::parse(&self.first_bytes()?).map_err(|defect| self.refused(defect))
    }

    /// Checks the file as far as its beginning and its length tell (W7).
    pub(super) fn check(self, cluster: &ExpectedCluster) -> Result<CheckedFile> {
        match self.name {
            WalFileName::Segment(segment) | WalFileName::Partial(segment) => {
                let first = self.first_bytes()?;
                check_segment(segment, self.seen.length, &first, cluster)
                    .map_err(|defect| self.refused(defect))?;
            }
            WalFileName::History(timeline) => drop(self.history(timeline)?),
            WalFileName::BackupLabel { segment, .. } => self.check_label(segment, cluster)?,
        }
        Ok(CheckedFile(self))
    }

    /// Checks a segment whose end nobody vouches for, page by page; it may be too large for memory.
    pub(super) fn check_every_page(
        self,
        segment: SegmentName,
        cluster: &ExpectedCluster,
    ) -> Result<CheckedFile> {
        let begun = PageChecks::begin(segment, self.seen.length, &self.first_bytes()?, cluster);
        let mut checks = begun.map_err(|defect| self.refused(defect))?;
        let mut page = vec![0; checks.block_size()];
        for position in (0..self.seen.length).step_by(page.len()) {
            self.read_at(&mut page, position)?;
            checks.check(&page).map_err(|defect| self.refused(defect))?;
        }
        self.ensure_unchanged()?;
        Ok(CheckedFile(self))
    }

    /// The history in the file.
    pub(super) fn history(&self, timeline: TimelineId) -> Result<TimelineHistory> {
        let content = self.read_small()?;
        let history = TimelineHistory::parse(timeline, &content);
        let history = history.map_err(|defect| self.unfit().because(defect))?;
        if history.parent().is_none() {
            return Err(self.unfit().because("it names no timeline that this one left"));
        }
        Ok(history)
    }

    /// The content of a file that is small whatever its name.
    pub(super) fn read_small(&self) -> Result<Bytes> {
        if self.seen.length > SMALL_FILE_BYTES {
            return Err(self.unfit().because(format!("it has {} bytes", self.seen.length)));
        }
        self.read()
    }

    fn check_label(&self, segment: SegmentName, cluster: &ExpectedCluster) -> Result<()> {
        let size = cluster.segment_size;
        if !segment.is_valid_for(size) {
            return Err(self.refused(SegmentDefect::ImpossibleName { name: segment, size }));
        }
        if self.read_small()?.is_empty() {
            return Err(self.unfit().because("it is empty"));
        }
        Ok(())
    }

    fn first_bytes(&self) -> Result<Vec<u8>> {
        let mut first = vec![0; LONG_HEADER_BYTES.min(self.seen.length as usize)];
        self.read_at(&mut first, 0)?;
        Ok(first)
    }

    fn read(&self) -> Result<Bytes> {
        let mut content = vec![0; self.seen.length as usize];
        self.read_at(&mut content, 0)?;
        let more = self.file.read_at(&mut [0], self.seen.length);
        match more.map_err(|error| cannot_read(&self.path, error))? {
            0 => Ok(content.into()),
            _ => Err(self.changed()),
        }
    }

    /// Fills `buffer` from `position` on; a file that ends before was cut since it was opened.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<()> {
        self.file.read_exact_at(buffer, position).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.changed(),
            _ => cannot_read(&self.path, error),
        })
    }

    /// An error when the file is no longer the one that was opened, with the bytes it had then.
    fn ensure_unchanged(&self) -> Result<()> {
        let now = self.file.metadata().map_err(|error| cannot_read(&self.path, error))?;
        let named = fs::metadata(&self.path).map_err(|error| cannot_read(&self.path, error))?;
        if Seen::of(&now) == self.seen && Seen::of(&named) == self.seen {
            Ok(())
        } else {
            Err(self.changed())
        }
    }

    fn changed(&self) -> Error {
        Error::unavailable(format!("`{}` changed while it was read", self.path.display()))
    }

    fn unfit(&self) -> Error {
        Error::refused(format!("`{}` is not what its name says", self.path.display()))
    }

    fn refused(&self, defect: SegmentDefect) -> Error {
        let error = self.unfit().because(defect);
        match defect {
            SegmentDefect::ForeignSystem { .. } => error.hint(
                "does `PGDATA` name the data directory of this file? another cluster's WAL is never archived here",
            ),
            _ => error,
        }
    }
}

impl CheckedFile {
    /// Its name.
    pub(super) fn name(&self) -> WalFileName {
        self.0.name
    }

    /// The file itself.
    pub(super) fn local(&self) -> &LocalFile {
        &self.0
    }

    /// What is to be stored.
    pub(super) fn content(&self) -> WalContent {
        WalContent::File(Arc::clone(&self.0.file))
    }

    /// What the file looked like when it was opened.
    pub(super) fn seen(&self) -> Seen {
        self.0.seen
    }

    /// Bytes of the file.
    pub(super) fn length(&self) -> u64 {
        self.0.seen.length
    }

    /// The digest of the content, which is read whole; an error when the file changes meanwhile.
    pub(super) fn digest(&self) -> Result<ContentDigest> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; READ_BYTES.min(self.length() as usize)];
        let mut position = 0;
        while position < self.length() {
            let wanted = buffer.len().min((self.length() - position) as usize);
            self.0.read_at(&mut buffer[..wanted], position)?;
            hasher.update(&buffer[..wanted]);
            position += wanted as u64;
        }
        self.0.ensure_unchanged()?;
        Ok(hasher.finalize().into())
    }

    /// An error when the file was changed, replaced or removed since it was opened.
    pub(super) async fn ensure_unchanged(&self) -> Result<()> {
        let file = self.0.clone();
        task::blocking(move || file.ensure_unchanged()).await
    }
}

fn name_of(path: &Path) -> Result<WalFileName> {
    let unknown = || Error::usage(format!("`{}` is no file of `pg_wal`", path.display()));
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(unknown)?;
    name.parse().map_err(|malformed| {
        unknown()
            .because(malformed)
            .hint("PostgreSQL passes it as `%p`: archive_command = 'walrs wal-push %p'")
    })
}

fn cannot_read(path: &Path, error: io::Error) -> Error {
    Error::io(format!("cannot read `{}`", path.display()), error)
}
