//! What the files of a window hold already: every block read once and hashed, with all cores busy.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use super::content::{HashedRun, WindowHashes, hash_blocks};
use super::needs::Files;
use super::tree::Tree;
use crate::budget::Budget;
use crate::container::{BLOCK_SIZE, Sealing};
use crate::error::{Error, Result};
use crate::repository::FileEntry;
use crate::task;

/// A share of the work: large enough to be read in one go by the disk, small enough that one large file has many.
const SHARE_BYTES: u64 = 4 << 20;
/// Files that are too small to fill a share.
const SHARE_FILES: usize = 256;
/// Read and hashed at a time, so that the bytes are hashed while they are in the processor's cache.
const BUFFER_BYTES: usize = 256 << 10;
/// Shares waiting for a thread beside those in work, for each core: what one reads, another hashes.
const SHARES_PER_CORE: usize = 2;

/// How many bytes each file of a window had before the restore; none for one that has to be made anew.
pub(super) type FormerBytes = Vec<Option<u64>>;

/// Whether a file of the window was there before.
pub(super) fn is_there(former: Option<&FormerBytes>, file: u32) -> bool {
    former.is_some_and(|former| former[file as usize].is_some())
}

/// Hashes files that are in place already.
pub(super) struct Reuse<'a> {
    pub(super) tree: &'a Arc<Tree>,
    pub(super) sealing: &'a Sealing,
    pub(super) budget: &'a Budget,
}

/// A stretch of a file that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    /// Index of the file in the window.
    file: u32,
    offset: u64,
    length: u64,
}

impl Reuse<'_> {
    /// Puts the hashes of all blocks that the files of a window have into `hashes`; returns the bytes that were read.
    pub(super) async fn hash(
        &self,
        files: &Files,
        former: &FormerBytes,
        hashes: &mut WindowHashes,
    ) -> Result<u64> {
        let shares = shares(files, former).into_iter().map(|share| self.hash_share(files, share));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut done = futures::stream::iter(shares).buffer_unordered(cores * SHARES_PER_CORE);
        let mut bytes = 0;
        while let Some((runs, read)) = done.try_next().await? {
            runs.into_iter().try_for_each(|run| hashes.put(run))?;
            bytes += read;
        }
        Ok(bytes)
    }

    async fn hash_share(
        &self,
        files: &Files,
        share: Vec<Stretch>,
    ) -> Result<(Vec<HashedRun>, u64)> {
        let bytes = share.iter().map(|stretch| stretch.length).sum();
        let _room = self.budget.reserve(BUFFER_BYTES as u64).await;
        let (tree, files, sealing) =
            (Arc::clone(self.tree), Arc::clone(files), self.sealing.clone());
        let runs = task::blocking(move || {
            let mut buffer = vec![0; BUFFER_BYTES];
            let hashed = share.into_iter().map(|stretch| {
                let path = &files[stretch.file as usize].path;
                let file = tree.file_to_read(path)?;
                hash_stretch(&file, stretch, &sealing, &mut buffer).map_err(|error| {
                    Error::io(format!("cannot read `{}`", tree.local_path(path).display()), error)
                })
            });
            hashed.collect::<Result<Vec<_>>>()
        })
        .await?;
        Ok((runs, bytes))
    }
}

fn hash_stretch(
    file: &File,
    stretch: Stretch,
    sealing: &Sealing,
    buffer: &mut [u8],
) -> io::Result<HashedRun> {
    let mut hashes = Vec::with_capacity(stretch.length.div_ceil(BLOCK_SIZE as u64) as usize);
    let (mut offset, end) = (stretch.offset, stretch.offset + stretch.length);
    while offset < end {
        let length = (buffer.len() as u64).min(end - offset);
        let part = &mut buffer[..length as usize];
        file.read_exact_at(part, offset)?;
        hashes.extend(hash_blocks(sealing, part));
        offset += length;
    }
    Ok(HashedRun { file: stretch.file, file_offset: stretch.offset, hashes })
}

/// Divides what can be compared, in the order of the files.
fn shares(files: &[FileEntry], former: &FormerBytes) -> Vec<Vec<Stretch>> {
    let (mut shares, mut share, mut filled) = (Vec::new(), Vec::new(), 0);
    for (number, (file, former)) in (0_u32..).zip(files.iter().zip(former)) {
        let end = comparable_bytes(file.size, former.unwrap_or(0));
        let mut offset = 0;
        while offset < end {
            let length = (SHARE_BYTES - filled).min(end - offset);
            share.push(Stretch { file: number, offset, length });
            offset += length;
            filled += length.next_multiple_of(BLOCK_SIZE as u64);
            if filled >= SHARE_BYTES || share.len() == SHARE_FILES {
                shares.push(std::mem::take(&mut share));
                filled = 0;
            }
        }
    }
    shares.extend(Some(share).filter(|share| !share.is_empty()));
    shares
}

/// The bytes at the beginning of a file of `former` bytes that are blocks of one of `size` bytes.
fn comparable_bytes(size: u64, former: u64) -> u64 {
    if former >= size { size } else { former - former % BLOCK_SIZE as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::ContentDigest;
    use crate::repository::{FileIdentity, ListedPath};

    const BLOCK: u64 = BLOCK_SIZE as u64;

    fn file(size: u64) -> FileEntry {
        FileEntry {
            path: ListedPath::new("base/1/2").unwrap(),
            mode: 0o600,
            size,
            mtime: (0, 0),
            identity: FileIdentity(0, 0, 0, 0),
            digest: ContentDigest::of(b""),
            extents: Vec::new(),
            bad_pages: Vec::new(),
        }
    }

    #[test]
    fn only_blocks_that_both_have_whole_are_compared() {
        assert_eq!(comparable_bytes(20_000, 20_000), 20_000);
        assert_eq!(comparable_bytes(20_000, 30_000), 20_000);
        assert_eq!(comparable_bytes(20_000, 19_999), 2 * BLOCK);
        assert_eq!(comparable_bytes(20_000, 8191), 0);
    }

    #[test]
    fn a_large_file_is_divided_and_small_ones_are_put_together() {
        let sizes = [100, 3 * SHARE_BYTES + 5, 0, 8192, 20_000];
        let files = sizes.map(file);
        let former = vec![Some(100), Some(u64::MAX), Some(7), None, Some(10_000)];
        let shares = shares(&files, &former);
        assert_eq!(shares.len(), 4);
        let stretches: Vec<_> = shares.iter().flatten().collect();
        assert!(stretches.iter().all(|it| it.offset.is_multiple_of(BLOCK) && it.length > 0));
        let of = |number| stretches.iter().filter(move |it| it.file == number);
        let bytes = [0, 1, 2, 3, 4].map(|number| of(number).map(|it| it.length).sum::<u64>());
        assert_eq!(bytes, [100, 3 * SHARE_BYTES + 5, 0, 0, 8192]);
        assert!(of(1).is_sorted_by_key(|it| it.offset));
    }
}
