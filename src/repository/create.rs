//! Making a repository: key slot, first epoch, then `repository.json`, every one create-only.

use std::path::Path;
use std::sync::Arc;

use futures::TryStreamExt;
use jiff::Timestamp;

use super::documents::{Epoch, RepositoryDocument};
use super::key_ring::{self, KeyRing};
use super::layout::ObjectName;
use super::open::{read_document, read_epochs, unlock};
use super::{Created, Repository, put_create, read_control};
use crate::config::Settings;
use crate::container::{
    CONTROL_OBJECT_LIMIT_BYTES, KeyId, KeySlot, KeySource, RepositoryId, RepositoryKey,
    generate_key_file, seal_control,
};
use crate::error::{Error, Result};
use crate::postgres::{SegmentSize, SystemIdentifier};
use crate::step;
use crate::storage::{ObjectPrefix, Storage};

/// The cluster for which a repository is made.
#[derive(Debug, Clone, Copy)]
pub struct FirstCluster {
    /// Its system identifier.
    pub system_identifier: SystemIdentifier,
    /// Its WAL segment size.
    pub segment_size: SegmentSize,
}

/// What `walrs init` is to make.
#[derive(Debug)]
pub struct NewRepository<'a> {
    /// The first cluster.
    pub cluster: FirstCluster,
    /// Where to create the key file; none for a plain repository.
    pub new_key_file: Option<&'a Path>,
}

/// Whether `walrs init --add-cluster` had to add anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// A new epoch.
    New,
    /// The cluster was already authorised.
    Already,
}

/// Makes a plain repository for the first push of a cluster; the location must exist and be empty.
pub(super) async fn first_push(
    storage: &dyn Storage,
    settings: &Settings,
    cluster: FirstCluster,
) -> Result<RepositoryDocument> {
    refuse_foreign_objects(storage, Maker::FirstPush).await?;
    let document = make(storage, settings, cluster, None).await?;
    tracing::info!(repository = %storage, id = %document.repository_id, "plain repository made");
    Ok(document)
}

/// Whether there is a repository, readable or not.
pub async fn exists(storage: &dyn Storage) -> Result<bool> {
    Ok(read_document(storage).await?.is_some())
}

/// Makes a repository; one that exists already is refused. The key is proven to open it before this returns.
pub async fn initialise(
    storage: &Arc<dyn Storage>,
    settings: &Settings,
    new: &NewRepository<'_>,
) -> Result<RepositoryDocument> {
    if let Some(existing) = read_document(&**storage).await? {
        let id = existing.repository_id;
        return Err(Error::refused(format!("`{storage}` already holds repository `{id}`"))
            .hint("`walrs init --add-cluster` adds a further cluster to it"));
    }
    refuse_foreign_objects(&**storage, Maker::Init).await?;
    let key = match new.new_key_file {
        Some(path) => Some(new_key(path)?),
        None => None,
    };
    let document = make(&**storage, settings, new.cluster, key.as_ref()).await?;
    prove(&**storage, &document, key).await?;
    Ok(document)
}

/// Authorises a further cluster, or the same one after `pg_upgrade`.
pub async fn add_cluster(repository: &Repository, cluster: FirstCluster) -> Result<Added> {
    let known = |epochs: &[Epoch]| {
        epochs.iter().any(|epoch| epoch.system_identifier == cluster.system_identifier)
    };
    for next_number in 2.. {
        let epochs = read_epochs(&**repository.storage()).await?;
        if known(&epochs) {
            return Ok(Added::Already);
        }
        let name = ObjectName::Epoch(next_number);
        if repository.put_control(&name, &epoch(cluster)).await? == Created::New {
            return Ok(Added::New);
        }
        // The number is taken, perhaps by another command just now: look again before taking the next one.
    }
    unreachable!("a repository has fewer clusters than there are numbers")
}

/// What a store does with a create-only put of a name that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrites {
    /// It refuses, as it must.
    Refused,
    /// It overwrites.
    Accepted,
}

/// Proves that this host may write, and finds out whether the store refuses to overwrite.
///
/// Creates `epochs/00000001.json`, which exists, once more with the bytes it has: whatever the store does, nothing
/// changes and nothing is left behind. On a store that was known to overwrite when the repository was made, nothing is
/// tried.
pub async fn prove_writable(repository: &Repository) -> Result<Overwrites> {
    let name = ObjectName::Epoch(1);
    if !repository.document().conditional_create {
        return Ok(Overwrites::Accepted);
    }
    let age = || async { Ok::<_, Error>(repository.storage().head(&name.key()).await?.modified) };
    let before = age().await?;
    let stored = repository.read_stored(&name, CONTROL_OBJECT_LIMIT_BYTES).await?;
    let bytes = stored.ok_or_else(|| Error::damaged(format!("`{}` is missing", name.key())))?;
    match repository.put(&name, bytes).await? {
        Created::Existed => Ok(Overwrites::Refused),
        // After an answer that was lost, bytes that were there before look like a success: only their age tells.
        Created::New if age().await? == before => Ok(Overwrites::Refused),
        Created::New => Ok(Overwrites::Accepted),
    }
}

pub(super) fn no_conditional_create(storage: &dyn Storage) -> Error {
    Error::refused(format!("`{storage}` ignores conditional creation"))
        .because("two writers could overwrite each other's WAL unseen")
        .hint("use another store, or set `single_writer = true` and keep to one writing host")
}

struct NewKey {
    id: KeyId,
    key: RepositoryKey,
    source: KeySource,
}

fn new_key(path: &Path) -> Result<NewKey> {
    let source = KeySource::KeyFile(generate_key_file(path)?);
    Ok(NewKey { id: KeyId::random()?, key: RepositoryKey::generate()?, source })
}

async fn make(
    storage: &dyn Storage,
    settings: &Settings,
    cluster: FirstCluster,
    key: Option<&NewKey>,
) -> Result<RepositoryDocument> {
    let repository_id = RepositoryId::random()?;
    if let Some(new) = key {
        let slot = KeySlot::wrap(&repository_id, new.id, &new.key, &new.source, None)?;
        key_ring::put_slot(storage, &slot).await?;
        step::reached("init:slot");
    }
    let conditional_create = put_first_epoch(storage, settings, cluster).await?;
    step::reached("init:epoch");
    let document = RepositoryDocument {
        repository_id,
        created: Timestamp::now(),
        suite: u8::from(key.is_some()),
        key_id: key.map(|new| new.id),
        conditional_create,
    };
    put_document(storage, settings, document).await
}

/// Creates epoch 1 and tries to create it again: a store that lets the second attempt through is no match for two writers.
///
/// The second has a later `created`: when its answer is lost and it is tried again, an epoch with its own bytes would
/// look like its success.
async fn put_first_epoch(
    storage: &dyn Storage,
    settings: &Settings,
    cluster: FirstCluster,
) -> Result<bool> {
    let name = ObjectName::Epoch(1);
    let bytes = seal_control(&epoch(cluster))?;
    let first = put_create(storage, &name, bytes.into()).await?;
    let again = seal_control(&epoch(cluster))?;
    let honoured = first == Created::Existed
        || put_create(storage, &name, again.into()).await? == Created::Existed;
    if !honoured && !settings.single_writer {
        return Err(no_conditional_create(storage));
    }
    let stored: Epoch = read_control(storage, &name)
        .await?
        .ok_or_else(|| Error::damaged(format!("`{}` vanished after it was written", name.key())))?;
    if stored.system_identifier != cluster.system_identifier {
        return Err(Error::refused(format!(
            "`{storage}` was just made for the cluster `{}`",
            stored.system_identifier
        ))
        .hint("`walrs init --add-cluster` adds a further cluster to it"));
    }
    Ok(honoured)
}

async fn put_document(
    storage: &dyn Storage,
    settings: &Settings,
    document: RepositoryDocument,
) -> Result<RepositoryDocument> {
    if !document.conditional_create && settings.single_writer {
        tracing::warn!(repository = %storage, "the store ignores conditional creation; only one host may write");
    }
    let bytes = seal_control(&document)?;
    match put_create(storage, &ObjectName::Repository, bytes.into()).await? {
        Created::New => Ok(document),
        Created::Existed if document.suite == 0 => read_document(storage)
            .await?
            .ok_or_else(|| Error::damaged("`repository.json` vanished after it was written")),
        Created::Existed => {
            Err(Error::refused(format!("`{storage}` was just made by another command"))
                .hint("remove the key file that this run created, and look with `walrs check`"))
        }
    }
}

async fn prove(
    storage: &dyn Storage,
    document: &RepositoryDocument,
    key: Option<NewKey>,
) -> Result<()> {
    let keys = KeyRing::holding(key.map(|new| new.source));
    unlock(storage, document, &keys).await.map(drop)
}

/// Who makes a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    /// The operator, on purpose.
    Init,
    /// The first push into an empty location.
    FirstPush,
}

impl Maker {
    /// Whether an attempt of this kind that was interrupted leaves such an object behind.
    ///
    /// A key slot says that an encrypted repository was meant: a push must not make a plain one of it.
    fn leaves_behind(self, name: &ObjectName) -> bool {
        match name {
            ObjectName::Epoch(1) => true,
            ObjectName::KeySlot(..) => self == Self::Init,
            _ => false,
        }
    }
}

/// Only what an interrupted attempt to make a repository leaves behind may be there.
async fn refuse_foreign_objects(storage: &dyn Storage, maker: Maker) -> Result<()> {
    let mut listing = storage.list(&ObjectPrefix::root(), None);
    while let Some(info) = listing.try_next().await? {
        let name = ObjectName::parse(&info.key);
        if !name.is_some_and(|name| maker.leaves_behind(&name)) {
            return Err(Error::refused(format!(
                "`{storage}` is not empty and holds no repository"
            ))
            .because(format!("it holds `{}`", info.key))
            .hint("choose an empty location, or repair the URL; a `walrs init` that was interrupted is run again"));
        }
    }
    Ok(())
}

fn epoch(cluster: FirstCluster) -> Epoch {
    Epoch {
        system_identifier: cluster.system_identifier,
        segment_size: cluster.segment_size.bytes(),
        created: Timestamp::now(),
    }
}
