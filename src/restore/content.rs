//! What has arrived of the files of a window: the hashes of their blocks, until all are there (R1).

use crate::container::{BLOCK_SIZE, BlockHash, ContentDigest, Sealing};
use crate::error::{Error, Result};
use crate::repository::{FileEntry, blocks_in, file_digest};

/// The hashes of blocks that follow each other in a file of the window.
#[derive(Debug)]
pub(super) struct HashedRun {
    /// Index of the file in the window.
    pub(super) file: u32,
    /// Position of the first block in the file.
    pub(super) file_offset: u64,
    /// One hash for every block.
    pub(super) hashes: Vec<BlockHash>,
}

/// The hashes of all blocks of the files of a window, as far as they have arrived.
pub(super) struct WindowHashes(Vec<Vec<Option<BlockHash>>>);

impl WindowHashes {
    /// Nothing has arrived yet of `files`.
    pub(super) fn new(files: &[FileEntry]) -> Self {
        Self(files.iter().map(|file| vec![None; blocks_in(file.size)]).collect())
    }

    /// Takes what has arrived; blocks that nobody waits for, or that came before, are a defect of the plan.
    pub(super) fn put(&mut self, run: HashedRun) -> Result<()> {
        let unplanned = || Error::bug("a block of a file was written twice or beyond its end");
        let first = (run.file_offset / BLOCK_SIZE as u64) as usize;
        let blocks = self.0.get_mut(run.file as usize).and_then(|blocks| blocks.get_mut(first..));
        let blocks =
            blocks.filter(|blocks| blocks.len() >= run.hashes.len()).ok_or_else(unplanned)?;
        for (block, hash) in blocks.iter_mut().zip(run.hashes) {
            if block.replace(hash).is_some() {
                return Err(unplanned());
            }
        }
        Ok(())
    }

    /// Compares every file with the digest that its list states.
    pub(super) fn verify(self, files: &[FileEntry]) -> Result<()> {
        self.0.into_iter().zip(files).try_for_each(|(blocks, file)| verify_file(blocks, file))
    }
}

fn verify_file(blocks: Vec<Option<BlockHash>>, file: &FileEntry) -> Result<()> {
    let hashes: Option<Vec<BlockHash>> = blocks.into_iter().collect();
    let hashes =
        hashes.ok_or_else(|| Error::bug(format!("`{}` was not written whole", file.path)))?;
    let found: ContentDigest = file_digest(&hashes, file.size);
    if found == file.digest {
        return Ok(());
    }
    Err(Error::damaged(format!(
        "the restored bytes of `{}` are not those of the backup",
        file.path
    ))
    .because(format!("their digest is `{found}`, the file list states `{}`", file.digest)))
}

/// The hashes of all blocks of `content`, which begins at a block.
pub(super) fn hash_blocks(sealing: &Sealing, content: &[u8]) -> Vec<BlockHash> {
    content.chunks(BLOCK_SIZE).map(|block| sealing.hash_block(block)).collect()
}

/// The hashes of `length` bytes of zeros, which begin at a block.
pub(super) fn hash_zeros(sealing: &Sealing, length: u64) -> Vec<BlockHash> {
    const ZEROS: [u8; BLOCK_SIZE] = [0; BLOCK_SIZE];
    let whole = (length / BLOCK_SIZE as u64) as usize;
    let rest = (length % BLOCK_SIZE as u64) as usize;
    let mut hashes = vec![sealing.hash_block(&ZEROS); whole];
    if rest > 0 {
        hashes.push(sealing.hash_block(&ZEROS[..rest]));
    }
    hashes
}
