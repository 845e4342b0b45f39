//! Page checksums of what is read (B7): a page that fails may only be torn by a write in progress, so it is read again.

use std::fs::File;
use std::ops::Range;
use std::thread::sleep;
use std::time::Duration;

use super::cached_read::read_at;
use crate::postgres::{
    BlockNumber, ControlFile, DataChecksums, Lsn, PageState, RelationFile, page_lsn, verify_page,
};

/// How often a page that fails is read again.
const REREADS: u32 = 5;

/// Time for the server to finish a write, before pages are read again.
const REREAD_PAUSE: Duration = Duration::from_millis(10);

/// What is needed to verify pages of a cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageChecks {
    page_bytes: usize,
    relation_segment_blocks: u32,
}

/// A page that failed its checksum every time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suspect {
    /// Counted from the start of the file, in units of the cluster's block size.
    pub(super) block: u32,
    /// What the page says of its last change.
    pub(super) lsn: Lsn,
}

impl PageChecks {
    /// How to verify the pages of a cluster; `None` when it has no checksums (or is about to get or lose them).
    pub(super) fn of(control: &ControlFile) -> Option<Self> {
        let page_bytes = control.block_size as usize;
        let relation_segment_blocks = control.relation_segment_blocks;
        (control.data_checksums == DataChecksums::On)
            .then_some(Self { page_bytes, relation_segment_blocks })
    }

    /// Verifies the whole pages in `bytes`, which lie at `offset` of `file`, and reads those that fail again.
    ///
    /// Pages that turn out well are replaced in `bytes`; the others are returned. `offset` is at a page's beginning.
    pub(super) fn settle(
        &self,
        file: &File,
        relation: RelationFile,
        offset: u64,
        bytes: &mut [u8],
    ) -> std::io::Result<Vec<Suspect>> {
        let Some(segment) = relation.first_block(self.relation_segment_blocks) else {
            return Ok(Vec::new());
        };
        let first = (offset / self.page_bytes as u64) as u32;
        let mut pages =
            Pages { file, offset, bytes, page_bytes: self.page_bytes, block: segment.0 + first };
        let count = (pages.bytes.len() / self.page_bytes) as u32;
        let mut bad: Vec<u32> = (0..count).filter(|index| !pages.is_good(*index)).collect();
        for _ in 0..REREADS {
            if bad.is_empty() {
                break;
            }
            sleep(REREAD_PAUSE);
            bad = pages.read_again(&bad)?;
        }
        let suspect = |index| Suspect { block: first + index, lsn: page_lsn(pages.page(index)) };
        Ok(bad.into_iter().map(suspect).collect())
    }
}

/// The pages of one range of a file.
struct Pages<'a> {
    file: &'a File,
    /// Where the range begins in the file.
    offset: u64,
    bytes: &'a mut [u8],
    page_bytes: usize,
    /// The number of the first page in its relation.
    block: u32,
}

impl Pages<'_> {
    fn range(&self, index: u32) -> Range<usize> {
        let start = index as usize * self.page_bytes;
        start..start + self.page_bytes
    }

    fn page(&self, index: u32) -> &[u8] {
        &self.bytes[self.range(index)]
    }

    fn is_good(&self, index: u32) -> bool {
        verify_page(self.page(index), BlockNumber(self.block + index)) != PageState::Bad
    }

    /// Reads the `bad` pages again; those that are still bad.
    fn read_again(&mut self, bad: &[u32]) -> std::io::Result<Vec<u32>> {
        let mut page = vec![0; self.page_bytes];
        let mut still_bad = Vec::new();
        for index in bad.iter().copied() {
            let range = self.range(index);
            let read = read_at(self.file, &mut page, self.offset + range.start as u64)?;
            if read < self.page_bytes {
                // Cut off since it was read: replay will cut it off again.
                continue;
            }
            self.bytes[range].copy_from_slice(&page);
            if !self.is_good(index) {
                still_bad.push(index);
            }
        }
        Ok(still_bad)
    }
}

/// The blocks among `suspects` that replay will not rewrite: not changed between `start` and `present`.
pub(super) fn bad_pages(suspects: &[Suspect], start: Lsn, present: Lsn) -> Vec<u32> {
    let rewritten = |suspect: &&Suspect| !(start..=present).contains(&suspect.lsn);
    suspects.iter().filter(rewritten).map(|suspect| suspect.block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B7
    #[test]
    fn only_pages_that_replay_rewrites_are_forgiven() {
        let suspect = |block, lsn| Suspect { block, lsn: Lsn::new(lsn) };
        let suspects = [suspect(1, 99), suspect(2, 100), suspect(3, 200), suspect(4, 201)];
        assert_eq!(bad_pages(&suspects, Lsn::new(100), Lsn::new(200)), [1, 4]);
    }
}
