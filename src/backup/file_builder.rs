//! One line of the file list, while the ranges of its file arrive in order.

use super::pack_builder::RunPlace;
use super::read::FileStart;
use crate::container::{BLOCK_SIZE, BlockHash, ContentDigest};
use crate::repository::{Extent, ExtentSource, FileEntry, ListedPath};

/// The line of a file whose end is not yet known.
pub(super) struct FileBuilder {
    start: FileStart,
    size: u64,
    hasher: blake3::Hasher,
    extents: Vec<Extent>,
    /// Where the last extent ends in its pack; none after zeros.
    end: Option<(u32, u64)>,
    bad_pages: Vec<u32>,
}

impl FileBuilder {
    /// The line of a file of which nothing has been read.
    pub(super) fn begin(start: FileStart) -> Self {
        Self {
            start,
            size: 0,
            hasher: blake3::Hasher::new(),
            extents: Vec::new(),
            end: None,
            bad_pages: Vec::new(),
        }
    }

    /// The file.
    pub(super) fn path(&self) -> &ListedPath {
        &self.start.path
    }

    /// The digest that it has if it is what it looks like.
    pub(super) fn expected(&self) -> Option<ContentDigest> {
        self.start.expected
    }

    /// Bytes so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Appends zeros.
    pub(super) fn zeros(&mut self, length: u64, hashes: &[BlockHash]) {
        let extends = self.is_aligned()
            && self.extents.last().is_some_and(|last| last.source == ExtentSource::Zeros);
        self.append(length, hashes, extends.then_some(()), ExtentSource::Zeros);
        self.end = None;
    }

    /// Appends bytes that are stored at `place`.
    pub(super) fn stored(&mut self, length: u64, hashes: &[BlockHash], place: RunPlace) {
        let (pack, position) = place.position();
        let extends = self.is_aligned() && self.end == Some((pack, position));
        self.append(length, hashes, extends.then_some(()), place.source());
        self.end = Some((pack, position + length));
    }

    /// Every extent but the last covers whole blocks.
    fn is_aligned(&self) -> bool {
        self.size.is_multiple_of(BLOCK_SIZE as u64)
    }

    fn append(
        &mut self,
        length: u64,
        hashes: &[BlockHash],
        last: Option<()>,
        source: ExtentSource,
    ) {
        match (last, self.extents.last_mut()) {
            (Some(()), Some(extent)) => extent.length += length,
            _ => self.extents.push(Extent { offset: self.size, length, source }),
        }
        for hash in hashes {
            self.hasher.update(hash.as_bytes());
        }
        self.size += length;
    }

    /// Adds pages that failed their checksum.
    pub(super) fn bad_pages(&mut self, pages: &[u32]) {
        self.bad_pages.extend_from_slice(pages);
    }

    /// The line, after the last byte.
    pub(super) fn finish(mut self) -> FileEntry {
        self.hasher.update(&self.size.to_le_bytes());
        let status = self.start.status;
        FileEntry {
            path: self.start.path,
            mode: status.mode,
            size: self.size,
            mtime: status.mtime,
            identity: status.identity,
            digest: ContentDigest::from(self.hasher.finalize()),
            extents: self.extents,
            bad_pages: self.bad_pages,
        }
    }
}
