//! What a backup builds on: the parent, if there is a usable one, and what interrupted backups have left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use tracing::{info, warn};

use super::unchanged::next_sample;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::SystemIdentifier;
use crate::repository::{
    BackupId, BackupState, Catalog, CatalogEntry, FileListPart, Intent, Manifest, ObjectName,
    PackReference, Repository, describe_pack, prefix,
};
use crate::task;

/// Whether a backup may build on an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// It stores everything.
    Full,
    /// It stores what differs from a parent, when there is a usable one.
    Delta,
}

/// Why a backup stores everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhyFull {
    /// It was asked for.
    Asked,
    /// There is no earlier one.
    First,
    /// The last one that did is too old.
    Due(BackupId),
    /// No earlier one can be read whole; the text says why.
    Unusable(String),
}

/// Earlier backups, as far as this one may reference what they stored.
#[derive(Debug, Clone)]
pub(super) struct Base {
    /// The backup it is compared with, or why there is none.
    pub(super) parent: Result<Arc<Manifest>, WhyFull>,
    /// Interrupted backups and their packs.
    pub(super) dead: Vec<(BackupId, Vec<PackReference>)>,
}

/// Candidates for a parent that are tried at most.
const CANDIDATES: usize = 4;
/// Interrupted backups that are used at most, the newest.
const DEAD: usize = 4;
/// Interrupted backups that are looked at for that.
const LOOKED_AT: usize = 64;
const LISTED_AT_ONCE: usize = 8;
const READ_AT_ONCE: usize = 2;

impl fmt::Display for WhyFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("as asked"),
            Self::First => f.write_str("there is no earlier backup of this cluster"),
            Self::Due(last) => {
                write!(f, "the last full one, `{last}`, is older than `backup.full_every`")
            }
            Self::Unusable(why) => write!(f, "no earlier backup is usable: {why}"),
        }
    }
}

impl Base {
    /// Looks through the repository. Damage of an earlier backup is warned of, and another one is taken.
    pub(super) async fn choose(
        repository: &Repository,
        cluster: SystemIdentifier,
        scope: Scope,
        full_every: Duration,
    ) -> Result<Self> {
        let catalog = Catalog::load(repository).await?;
        let parent = match scope {
            Scope::Full => Err(WhyFull::Asked),
            Scope::Delta => choose_parent(repository, &catalog, cluster, full_every).await?,
        };
        match &parent {
            Ok(manifest) => info!(parent = %manifest.backup_id, "a delta"),
            Err(why) => info!(%why, "a full backup"),
        }
        let dead = choose_dead(repository, &catalog, cluster, parent.is_ok()).await?;
        Ok(Self { parent, dead })
    }

    /// The parent.
    pub(super) fn manifest(&self) -> Option<&Arc<Manifest>> {
        self.parent.as_ref().ok()
    }

    /// Which part of the unchanged files is read all the same.
    pub(super) fn sample(&self) -> u32 {
        self.manifest().map_or(0, |parent| next_sample(parent))
    }

    /// Ids of all backups whose packs may be referenced through this base.
    pub(super) fn named(&self) -> (Vec<BackupId>, Vec<BackupId>) {
        let parents = self.manifest().map(|manifest| manifest.backup_id.clone());
        (parents.into_iter().collect(), self.dead.iter().map(|(id, _)| id.clone()).collect())
    }
}

async fn choose_parent(
    repository: &Repository,
    catalog: &Catalog,
    cluster: SystemIdentifier,
    full_every: Duration,
) -> Result<Result<Arc<Manifest>, WhyFull>> {
    let mut candidates: Vec<_> =
        catalog.visible().filter(|manifest| manifest.system_identifier == cluster).collect();
    candidates.sort_by_key(|manifest| std::cmp::Reverse(manifest.stop_time));
    let Some(newest) = candidates.first() else { return Ok(Err(WhyFull::First)) };
    if is_due(&newest.last_full, full_every) {
        return Ok(Err(WhyFull::Due(newest.last_full.clone())));
    }
    let mut reason = String::new();
    for manifest in candidates.into_iter().take(CANDIDATES) {
        match require_whole(repository, manifest).await {
            Ok(()) => return Ok(Ok(Arc::new(manifest.clone()))),
            Err(error) if error.kind() == ErrorKind::Damaged => {
                let why = error.chain();
                warn!(backup = %manifest.backup_id, why, "an earlier backup is damaged and is no parent");
                if reason.is_empty() {
                    reason = why;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Err(WhyFull::Unusable(reason)))
}

fn is_due(last_full: &BackupId, full_every: Duration) -> bool {
    let age = Timestamp::now().duration_since(last_full.time());
    SignedDuration::try_from(full_every).is_ok_and(|limit| age > limit)
}

/// An error of damage unless every pack of a backup is there with its size, and its file list can be read.
async fn require_whole(repository: &Repository, manifest: &Manifest) -> Result<()> {
    require_packs(repository, &manifest.packs).await?;
    let parts = manifest.parts.iter().map(|part| async move {
        let mut lines = FileListPart::read(repository, manifest, part).await?;
        task::blocking(move || lines.try_for_each(|line| line.map(drop))).await
    });
    task::for_each(READ_AT_ONCE, parts).await
}

/// An error of damage unless every pack is in the repository with its size.
pub(super) async fn require_packs(repository: &Repository, packs: &[PackReference]) -> Result<()> {
    let backups: BTreeSet<_> = packs.iter().map(|pack| pack.backup.clone()).collect();
    let listings = backups.into_iter().map(|backup| async move {
        let sizes = pack_sizes(repository, &backup).await?;
        Ok::<_, Error>((backup, sizes))
    });
    let listed: BTreeMap<_, _> =
        futures::stream::iter(listings).buffer_unordered(LISTED_AT_ONCE).try_collect().await?;
    for pack in packs {
        let key = || ObjectName::Pack(pack.backup.clone(), pack.number).key();
        match listed[&pack.backup].get(&pack.number) {
            Some(size) if *size == pack.size => {}
            Some(size) => {
                let (key, stored) = (key(), pack.size);
                return Err(Error::damaged(format!(
                    "`{key}` has {size} bytes, {stored} were stored"
                )));
            }
            None => return Err(Error::damaged(format!("`{}` is missing", key()))),
        }
    }
    Ok(())
}

/// Number and size of every pack below a backup.
async fn pack_sizes(repository: &Repository, backup: &BackupId) -> Result<BTreeMap<u32, u64>> {
    let mut sizes = BTreeMap::new();
    let prefix = prefix::packs(backup);
    let mut listing = repository.storage().list(&prefix, None);
    while let Some(info) = listing.try_next().await? {
        if let Some(ObjectName::Pack(_, number)) = ObjectName::parse(&info.key) {
            sizes.insert(number, info.size);
        }
    }
    Ok(sizes)
}

/// The newest interrupted backups since the last complete one; what an older one has stored, that one has too.
///
/// It does not matter whether they are dead: what is in a pack never changes, and a named backup stays whole.
async fn choose_dead(
    repository: &Repository,
    catalog: &Catalog,
    cluster: SystemIdentifier,
    is_delta: bool,
) -> Result<Vec<(BackupId, Vec<PackReference>)>> {
    let newest = catalog
        .visible()
        .filter(|manifest| manifest.system_identifier == cluster)
        .map(|manifest| manifest.backup_id.time())
        .max();
    let is_open =
        |entry: &&CatalogEntry| matches!(entry.state, BackupState::Unfinished) && !entry.condemned;
    let is_new = |entry: &&CatalogEntry| newest.is_none_or(|newest| entry.id.time() >= newest);
    let mut dead = Vec::new();
    for entry in catalog.entries().iter().rev().filter(is_open).filter(is_new).take(LOOKED_AT) {
        // Attempts that failed before they had stored anything do not count.
        if dead.len() == DEAD {
            break;
        }
        let Some(intent) = read_intent(repository, &entry.id).await? else { continue };
        // What a full backup stores again must not be what a delta once took over.
        if intent.system_identifier == cluster && (is_delta || intent.parents.is_empty()) {
            let packs = describe_packs(repository, cluster, &entry.id).await?;
            if !packs.is_empty() {
                info!(backup = %entry.id, packs = packs.len(), "an interrupted backup serves this one");
                dead.push((entry.id.clone(), packs));
            }
        }
    }
    Ok(dead)
}

async fn read_intent(repository: &Repository, backup: &BackupId) -> Result<Option<Intent>> {
    match repository.read_control::<Intent>(&ObjectName::Intent(backup.clone())).await {
        Err(error) if error.kind() == ErrorKind::Damaged => Ok(None),
        read => read,
    }
}

/// The packs of an interrupted backup, in order; a damaged one is left out.
async fn describe_packs(
    repository: &Repository,
    cluster: SystemIdentifier,
    backup: &BackupId,
) -> Result<Vec<PackReference>> {
    let sizes = pack_sizes(repository, backup).await?;
    let described = sizes.into_iter().map(|(number, size)| async move {
        match describe_pack(repository, cluster, backup, number, size).await {
            Err(error) if error.kind() == ErrorKind::Damaged => {
                warn!(why = error.chain(), "a pack of an interrupted backup is left out");
                Ok(None)
            }
            described => described.map(Some),
        }
    });
    let described = futures::stream::iter(described).buffered(LISTED_AT_ONCE);
    described.try_filter_map(|pack| async move { Ok(pack) }).try_collect().await
}
