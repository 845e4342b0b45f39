//! From what a backup builds on to what its walk and its readers ask.

use std::sync::Arc;

use super::base::Base;
use super::feed::{DeadPacks, Feeders};
use super::known::KnownPacks;
use super::memory::Memory;
use super::unchanged::SkipRule;
use crate::budget::Budget;
use crate::config::Rescan;
use crate::postgres::SystemIdentifier;
use crate::repository::{PackReference, Packs, Repository};

/// Bytes of memory for what is known of earlier packs.
const REMEMBERED_BYTES: u64 = 16 << 20;
/// Bytes of memory for reading their indexes.
const INDEX_BYTES: u64 = 8 << 20;
/// Bytes of memory that a recollection takes of the budget of its backup.
pub(super) const RECOLLECTION_BYTES: u64 = REMEMBERED_BYTES + INDEX_BYTES;

/// What earlier backups hold, of which there is at least one.
pub(super) struct Recollection {
    /// As the walk is told it.
    pub(super) memory: Memory,
    /// As the readers look it up.
    pub(super) known: Arc<KnownPacks>,
}

impl Base {
    /// Begins to follow the earlier backups; none when there are none. The tasks for that are among the `feeders`.
    pub(super) fn recollect(
        &self,
        repository: &Repository,
        cluster: SystemIdentifier,
        rescan: Rescan,
        feeders: &mut Feeders,
    ) -> Option<Recollection> {
        let budget = Budget::of(INDEX_BYTES as u32);
        let mut table: Vec<PackReference> = Vec::new();
        let mut feeds = Vec::new();
        if let Some(parent) = self.manifest() {
            table.extend_from_slice(&parent.packs);
            feeds.push(feeders.parent(repository, parent));
        }
        for (_, packs) in &self.dead {
            let first = table.len() as u32;
            table.extend_from_slice(packs);
            let packs = (first..).zip(packs.iter().cloned()).collect();
            feeds.push(feeders.dead(repository, DeadPacks { cluster, packs }, budget.clone()));
        }
        if feeds.is_empty() {
            return None;
        }
        let remembered = REMEMBERED_BYTES as usize;
        let packs = Packs::new(repository, cluster, table.into(), budget, remembered);
        let known = Arc::new(KnownPacks::new(packs));
        let parent = self.manifest().filter(|_| rescan == Rescan::Changed);
        let rule = parent.and_then(|parent| SkipRule::of(parent));
        let memory = Memory::new(feeds, Arc::clone(&known), rule);
        Some(Recollection { memory, known })
    }
}
