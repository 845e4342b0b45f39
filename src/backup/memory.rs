//! What earlier backups know of each file that the walk meets.

use std::sync::Arc;

use tracing::debug;

use super::feed::{FedFile, Feed};
use super::known::{KnownFile, KnownPacks, Layer};
use super::unchanged::{SkipRule, Verdict};
use super::walk::{DataDirectory, FoundFile};
use crate::container::ContentDigest;
use crate::error::Result;
use crate::repository::FileEntry;

/// What is known of a file that is read.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// Blocks that are stored already.
    pub(super) known: KnownFile,
    /// What the parent says of a file that looks unchanged and is read to prove it.
    pub(super) expected: Option<ContentDigest>,
}

/// What becomes of a file.
#[derive(Debug)]
pub(super) enum Recalled {
    /// The parent's line, without its extents, and those.
    Unchanged(Box<FileEntry>, Layer),
    /// It is read.
    ToRead(Earlier),
}

/// Earlier backups, followed in the order of the walk.
#[derive(Default)]
pub(super) struct Memory {
    /// The parent first, then interrupted backups.
    feeds: Vec<Feed>,
    packs: Option<Arc<KnownPacks>>,
    rule: Option<SkipRule>,
}

impl Memory {
    /// What `feeds` tell; files are skipped only by a `rule`.
    pub(super) fn new(feeds: Vec<Feed>, packs: Arc<KnownPacks>, rule: Option<SkipRule>) -> Self {
        Self { feeds, packs: Some(packs), rule }
    }

    /// What becomes of the next file of the walk; blocking.
    pub(super) fn recall(&mut self, data: &DataDirectory, file: &FoundFile) -> Result<Recalled> {
        let mut earlier = Earlier::default();
        let mut lines = Vec::with_capacity(self.feeds.len());
        for feed in &mut self.feeds {
            lines.extend(feed.take(&file.path)?);
        }
        for FedFile { extents, entry, .. } in lines {
            match entry.as_ref().map(|entry| self.judge(data, file, entry, &extents)) {
                Some(Verdict::Same) => {
                    debug!(path = %file.path, "taken over unread");
                    let entry = entry.expect("it was judged");
                    return Ok(Recalled::Unchanged(entry, extents));
                }
                Some(Verdict::Sample) => earlier.expected = entry.map(|entry| entry.digest),
                Some(Verdict::Read) | None => {}
            }
            earlier.known.layers.push(extents);
        }
        Ok(Recalled::ToRead(earlier))
    }

    fn judge(
        &mut self,
        data: &DataDirectory,
        file: &FoundFile,
        entry: &FileEntry,
        extents: &Layer,
    ) -> Verdict {
        let Some(rule) = &mut self.rule else { return Verdict::Read };
        match rule.judge(&data.local(&file.path), &file.status, entry) {
            Verdict::Same if !self.packs.as_ref().is_some_and(|packs| packs.may_stay(extents)) => {
                Verdict::Read
            }
            verdict => verdict,
        }
    }
}
