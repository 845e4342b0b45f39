//! Which backups there are, and in what state each is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use futures::{StreamExt, TryStreamExt};

use super::Repository;
use super::documents::Mark;
use super::layout::{BackupId, ObjectName, prefix};
use super::manifest::{MANIFEST_BYTES, Manifest, ManifestDocument};
use crate::container::{self, ObjectKind};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::SystemIdentifier;

const READS_IN_FLIGHT: usize = 8;

/// Every backup of a repository, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    entries: Vec<CatalogEntry>,
}

/// One backup, in whatever state.
#[derive(Debug, Clone)]
pub struct CatalogEntry {
    /// The backup.
    pub id: BackupId,
    /// Its state.
    pub state: BackupState,
    /// Whether it is marked permanent.
    pub permanent: bool,
    /// Whether a tombstone condemns it.
    pub condemned: bool,
    /// When its newest object was written, by the store's clock.
    pub newest_object: SystemTime,
}

/// What the manifest of a backup says.
#[derive(Debug, Clone)]
pub enum BackupState {
    /// Complete.
    Complete(Box<Manifest>),
    /// Fenced; it can never become complete.
    Void,
    /// No manifest yet: running, or dead.
    Unfinished,
    /// There is a manifest, and it is damaged; the text says how.
    Damaged(String),
}

impl CatalogEntry {
    /// The manifest of a backup that may be restored: complete and not condemned.
    pub fn visible(&self) -> Option<&Manifest> {
        match &self.state {
            BackupState::Complete(manifest) if !self.condemned => Some(manifest),
            _ => None,
        }
    }

    /// The error about a damaged manifest; a condemned backup's does not matter any more.
    fn damage(&self) -> Option<Error> {
        match &self.state {
            BackupState::Damaged(why) if !self.condemned => Some(
                Error::damaged(format!("cannot read the manifest of backup `{}`", self.id))
                    .because(why.clone())
                    .hint("other backups can still be restored when they are named; `walrs backup-list` shows them"),
            ),
            _ => None,
        }
    }
}

impl Catalog {
    /// Lists the repository completely and reads every manifest.
    ///
    /// A damaged manifest is a state of its backup and a warning: it must not keep the others from being restored.
    pub async fn load(repository: &Repository) -> Result<Self> {
        let condemned = tombstones(repository).await?;
        let permanent = permanent(repository).await?;
        let found = backups(repository).await?;
        let entries = futures::stream::iter(found)
            .map(|(id, found)| {
                let (permanent, condemned) = (permanent.contains(&id), condemned.contains(&id));
                async move {
                    let state = match found.manifest {
                        true => state_or_damage(repository, &id).await?,
                        false => BackupState::Unfinished,
                    };
                    let newest_object = found.newest;
                    Ok::<_, Error>(CatalogEntry { id, state, permanent, condemned, newest_object })
                }
            })
            .buffered(READS_IN_FLIGHT)
            .try_collect()
            .await?;
        Ok(Self { entries })
    }

    /// An error when a manifest is damaged: for a decision that must know every backup.
    pub fn ensure_readable(&self) -> Result<()> {
        self.entries.iter().find_map(CatalogEntry::damage).map_or(Ok(()), Err)
    }

    /// Every backup, in whatever state.
    pub fn entries(&self) -> &[CatalogEntry] {
        &self.entries
    }

    /// The backups that may be restored, oldest first by id.
    pub fn visible(&self) -> impl DoubleEndedIterator<Item = &Manifest> {
        self.entries.iter().filter_map(CatalogEntry::visible)
    }

    /// The visible backup of `cluster` that stopped last.
    pub fn latest(&self, cluster: SystemIdentifier) -> Option<&Manifest> {
        let of_cluster = self.visible().filter(|manifest| manifest.system_identifier == cluster);
        of_cluster.max_by_key(|manifest| (manifest.stop_time, manifest.backup_id.clone()))
    }

    /// The visible backup that `name` means: `LATEST`, an id, or the unambiguous beginning of one.
    pub fn resolve(&self, name: &str, cluster: SystemIdentifier) -> Result<&Manifest> {
        if name == "LATEST" {
            return self.resolve_latest(cluster);
        }
        let matches: Vec<_> =
            self.visible().filter(|m| m.backup_id.as_str().starts_with(name)).collect();
        match matches.as_slice() {
            [one] => Ok(one),
            [] => Err(self.no_such(name)),
            several => {
                let ids: Vec<_> = several.iter().map(|m| format!("`{}`", m.backup_id)).collect();
                Err(Error::usage(format!("`{name}` is ambiguous"))
                    .because(format!("it may mean {}", ids.join(", "))))
            }
        }
    }

    /// Whose backup a damaged manifest is, and when it stopped, is unknown: when it began later, it may be the latest.
    fn resolve_latest(&self, cluster: SystemIdentifier) -> Result<&Manifest> {
        let latest = self.latest(cluster);
        let newer = |entry: &&CatalogEntry| latest.is_none_or(|known| entry.id > known.backup_id);
        match self.entries.iter().filter(newer).find_map(CatalogEntry::damage) {
            Some(damage) => Err(damage),
            None => latest.ok_or_else(|| {
                Error::nothing_matched(format!("there is no backup of cluster `{cluster}`"))
                    .hint("`walrs backup-push` takes one")
            }),
        }
    }

    fn no_such(&self, name: &str) -> Error {
        let error = Error::nothing_matched(format!("there is no backup `{name}`"));
        let mut meant = self.entries.iter().filter(|entry| entry.id.as_str().starts_with(name));
        if let Some(damage) = meant.find_map(CatalogEntry::damage) {
            return damage;
        }
        match self.entries.iter().find(|entry| entry.id.as_str() == name) {
            Some(entry) if entry.condemned => error.because("it was condemned by the sweeper"),
            Some(_) => error.because("it is not complete"),
            None => error.hint("`walrs backup-list` shows what there is"),
        }
    }
}

struct Found {
    manifest: bool,
    newest: SystemTime,
}

async fn backups(repository: &Repository) -> Result<BTreeMap<BackupId, Found>> {
    let mut found: BTreeMap<BackupId, Found> = BTreeMap::new();
    let mut listing = repository.storage().list(&prefix::backups(), None);
    while let Some(info) = listing.try_next().await? {
        let (id, is_manifest) = match ObjectName::parse(&info.key) {
            Some(ObjectName::Manifest(id)) => (id, true),
            Some(
                ObjectName::Intent(id)
                | ObjectName::Alive(id, _)
                | ObjectName::Pack(id, _)
                | ObjectName::FileList(id, _),
            ) => (id, false),
            _ => continue,
        };
        let entry = found.entry(id).or_insert(Found { manifest: false, newest: info.modified });
        entry.manifest |= is_manifest;
        entry.newest = entry.newest.max(info.modified);
    }
    Ok(found)
}

async fn tombstones(repository: &Repository) -> Result<BTreeSet<BackupId>> {
    let mut condemned = BTreeSet::new();
    let mut listing = repository.storage().list(&prefix::tombstones(), None);
    while let Some(info) = listing.try_next().await? {
        if let Some(ObjectName::Tombstone(id)) = ObjectName::parse(&info.key) {
            condemned.insert(id);
        }
    }
    Ok(condemned)
}

async fn permanent(repository: &Repository) -> Result<BTreeSet<BackupId>> {
    let mut newest: BTreeMap<BackupId, u32> = BTreeMap::new();
    let mut listing = repository.storage().list(&prefix::marks(), None);
    while let Some(info) = listing.try_next().await? {
        if let Some(ObjectName::Mark(id, number)) = ObjectName::parse(&info.key) {
            // Listings are in byte order, so the highest number comes last.
            newest.insert(id, number);
        }
    }
    let mut permanent = BTreeSet::new();
    for (id, number) in newest {
        let name = ObjectName::Mark(id.clone(), number);
        if is_permanent(repository, &name).await? {
            permanent.insert(id);
        }
    }
    Ok(permanent)
}

/// A damaged mark counts as permanent: that can only keep a backup, and it must not keep any from being restored.
async fn is_permanent(repository: &Repository, name: &ObjectName) -> Result<bool> {
    match repository.read_control::<Mark>(name).await {
        Err(error) if error.kind() == ErrorKind::Damaged => {
            tracing::warn!(mark = %name.key(), why = error.chain(), "a mark is damaged");
            Ok(true)
        }
        mark => Ok(mark?.is_some_and(|mark| mark.permanent)),
    }
}

async fn state_or_damage(repository: &Repository, id: &BackupId) -> Result<BackupState> {
    match read_state(repository, id).await {
        Err(error) if error.kind() == ErrorKind::Damaged => {
            let why = error.chain();
            tracing::warn!(backup = %id, why, "a manifest is damaged");
            Ok(BackupState::Damaged(why))
        }
        other => other,
    }
}

async fn read_state(repository: &Repository, id: &BackupId) -> Result<BackupState> {
    let name = ObjectName::Manifest(id.clone());
    let Some(bytes) = repository.read_stored(&name, MANIFEST_BYTES).await? else {
        // Deleted by a sweeper between the listing and now: what is left of the backup is going, too.
        return Ok(BackupState::Void);
    };
    let unreadable =
        |error: Error| error.context(format!("cannot read the manifest of backup `{id}`"));
    let cluster = container::claimed_cluster(&bytes).map_err(unreadable)?;
    let identity = repository.object_identity(&name, ObjectKind::Manifest, cluster);
    let sealing = repository.sealing().clone();
    let decode = move || container::decode(&sealing, &identity, &bytes);
    let json = crate::task::blocking(decode).await.map_err(unreadable)?;
    match ManifestDocument::from_json(&json, id)? {
        ManifestDocument::Backup(manifest) if manifest.system_identifier != cluster => {
            Err(Error::damaged(format!(
                "the manifest of backup `{id}` names another cluster than its object"
            )))
        }
        ManifestDocument::Backup(manifest) => Ok(BackupState::Complete(manifest)),
        ManifestDocument::Void(_) => Ok(BackupState::Void),
    }
}
