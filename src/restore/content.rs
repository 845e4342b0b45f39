//! What has arrived of the files of a window: the hashes of their blocks, until all are there (R1).

use std::collections::BTreeSet;

use super::plan::RightBlocks;
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

    /// Whether all blocks of a file are there and are those that its list states.
    fn is_right(&self, number: usize, file: &FileEntry) -> bool {
        let hashes: Option<Vec<BlockHash>> = self.0[number].iter().copied().collect();
        hashes.is_some_and(|hashes| file_digest(&hashes, file.size) == file.digest)
    }

    /// The files, by their index, of which not every block is right.
    pub(super) fn wrong_files(&self, files: &[FileEntry]) -> BTreeSet<u32> {
        let numbered = files.iter().enumerate();
        let wrong = numbered.filter(|(number, file)| !self.is_right(*number, file));
        wrong.map(|(number, _)| u32::try_from(number).expect("a window holds few files")).collect()
    }

    /// Forgets the blocks of a file that are not what is `expected`, which has a hash for every block.
    pub(super) fn keep_matching(&mut self, file: u32, expected: &[BlockHash]) {
        for (found, expected) in self.0[file as usize].iter_mut().zip(expected) {
            *found = found.filter(|found| found == expected);
        }
    }

    /// The blocks that are there.
    pub(super) fn known(&self) -> RightBlocks {
        let known = |blocks: &Vec<Option<BlockHash>>| blocks.iter().map(Option::is_some).collect();
        RightBlocks::new(self.0.iter().map(known).collect())
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
