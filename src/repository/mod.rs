//! One repository's WAL and backups as typed values.
//!
//! Owns object names, control documents, manifests, file lists, pack indexes, and who may use a repository
//! (identity, clusters, witness). Does not own the order in which a backup, a restore or a sweep uses them.

mod catalog;
mod create;
mod documents;
mod file_list;
mod file_list_part;
mod key_command;
mod key_ring;
mod key_slots;
mod layout;
mod manifest;
mod open;
mod pack;
mod pack_blocks;
mod pack_writer;
mod packs;
mod remembered;
mod site;
mod wal_archive;

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::container::{
    self, CONTROL_OBJECT_LIMIT_BYTES, Codec, ObjectIdentity, ObjectKind, RepositoryId, Sealing,
};
use crate::error::{Error, Result};
use crate::postgres::{SegmentSize, SystemIdentifier};
use crate::storage::{self, Body, ByteRange, PutMode, Storage, StorageErrorKind};

pub use catalog::{BackupState, Catalog, CatalogEntry};
pub use create::{
    Added, FirstCluster, NewRepository, Overwrites, add_cluster, exists, initialise, prove_writable,
};
pub use documents::{Epoch, Intent, Lease, Mark, RepositoryDocument, Tombstone};
pub use file_list::{
    DirectoryEntry, Entry, Extent, ExtentSource, FileEntry, FileIdentity, LINE_BYTES, ListedPath,
    PART_BYTES, TablespaceEntry, decode_path, encode_path, file_digest,
};
pub use file_list_part::FileListPart;
pub use key_ring::KeyRing;
pub use key_slots::{KeySlots, NewSlot};
pub use layout::{BackupId, ObjectName, PartialDigest, prefix};
#[cfg(test)]
pub(crate) use manifest::example_manifest;
pub use manifest::{
    BackupKind, FORMAT, MANIFEST_BYTES, Manifest, ManifestDocument, PackReference, PartReference,
    VoidManifest,
};
pub use open::{Creation, Opening};
pub use pack::{PACK_EXTENTS, PACK_RAW_BYTES, PACK_STORED_BYTES, PackExtent, PackIndex, blocks_in};
pub use pack_blocks::PackBlocks;
pub use pack_writer::{PackIndexWriter, PackRun};
pub use packs::{OpenPack, Packs, describe_pack, read_index};
pub use site::{Site, Witness};
pub use wal_archive::{
    IN_MEMORY_BYTES, SealedWal, StoredWal, Storing, WalArchive, WalContent, WalObject, WalRange,
};

/// Whether a create-only put made the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// This put made it.
    New,
    /// The name was taken; the stored bytes may be others.
    Existed,
}

/// An open repository: its store, its identity, its key, and the clusters that may use it.
#[derive(Clone)]
pub struct Repository {
    storage: Arc<dyn Storage>,
    document: RepositoryDocument,
    epochs: Arc<[Epoch]>,
    sealing: Sealing,
    codec: Codec,
    identity: remembered::Identity,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repository({} at {})", self.document.repository_id, self.storage)
    }
}

impl Repository {
    /// The store.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// The identity.
    pub fn id(&self) -> RepositoryId {
        self.document.repository_id
    }

    /// `repository.json`.
    pub fn document(&self) -> &RepositoryDocument {
        &self.document
    }

    /// The clusters that may use the repository, oldest first.
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// What seals and opens the objects.
    pub fn sealing(&self) -> &Sealing {
        &self.sealing
    }

    /// How new objects are compressed.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The epoch of a cluster; a cluster that no epoch names is refused (C1).
    pub fn authorise(&self, cluster: SystemIdentifier) -> Result<&Epoch> {
        self.epochs.iter().find(|epoch| epoch.system_identifier == cluster).ok_or_else(|| {
            let known: Vec<_> =
                self.epochs.iter().map(|epoch| format!("`{}`", epoch.system_identifier)).collect();
            Error::refused(format!(
                "the cluster with system identifier `{cluster}` does not belong to `{}`",
                self.storage
            ))
            .because(format!("the repository is for {}", known.join(", ")))
            .hint("after pg_upgrade or for a further cluster run `walrs init --add-cluster`")
        })
    }

    /// The WAL segment size of a cluster, which must be authorised.
    pub fn segment_size(&self, cluster: SystemIdentifier) -> Result<SegmentSize> {
        let bytes = self.authorise(cluster)?.segment_size;
        u32::try_from(bytes)
            .ok()
            .and_then(SegmentSize::new)
            .ok_or_else(|| Error::damaged(format!("an epoch names the segment size {bytes}")))
    }

    /// The cluster that was added last.
    pub fn newest_cluster(&self) -> SystemIdentifier {
        self.epochs.last().expect("an open repository has an epoch").system_identifier
    }

    /// What a container under `name` must say of itself.
    pub fn object_identity(
        &self,
        name: &ObjectName,
        kind: ObjectKind,
        cluster: SystemIdentifier,
    ) -> ObjectIdentity {
        ObjectIdentity { kind, system_identifier: cluster, name: name.key().to_string() }
    }

    /// Stores a finished object, create-only; durable on return.
    pub async fn put(&self, name: &ObjectName, bytes: impl Into<Body>) -> Result<Created> {
        put_create(&*self.storage, name, bytes.into()).await
    }

    /// Stores a control document, create-only; durable on return.
    pub async fn put_control<T: Serialize>(
        &self,
        name: &ObjectName,
        document: &T,
    ) -> Result<Created> {
        self.put(name, container::seal_control(document)?).await
    }

    /// Reads a control document; `None` when an authenticated answer says there is none.
    pub async fn read_control<T: DeserializeOwned>(&self, name: &ObjectName) -> Result<Option<T>> {
        read_control(&*self.storage, name).await
    }

    /// Reads a whole object into memory, as stored; `None` when there is none.
    pub async fn read_stored(&self, name: &ObjectName, limit: usize) -> Result<Option<Bytes>> {
        absent_is_none(storage::read_all(&*self.storage, &name.key(), ByteRange::Full, limit).await)
    }

    /// Reads, opens and verifies a whole container that holds at most `limit` stored bytes; `None` when there is none.
    pub async fn read_object(
        &self,
        name: &ObjectName,
        kind: ObjectKind,
        cluster: SystemIdentifier,
        limit: usize,
    ) -> Result<Option<Vec<u8>>> {
        let Some(bytes) = self.read_stored(name, limit).await? else { return Ok(None) };
        let (sealing, identity) = (self.sealing.clone(), self.object_identity(name, kind, cluster));
        let content =
            crate::task::blocking(move || container::decode(&sealing, &identity, &bytes)).await;
        content.map(Some).map_err(|error| error.context(format!("cannot read `{}`", name.key())))
    }

    /// Seals and stores a whole container, create-only; durable on return.
    pub async fn put_object(
        &self,
        name: &ObjectName,
        kind: ObjectKind,
        cluster: SystemIdentifier,
        content: Bytes,
    ) -> Result<Created> {
        let (sealing, codec) = (self.sealing.clone(), self.codec);
        let identity = self.object_identity(name, kind, cluster);
        let encode = move || container::encode(&sealing, &identity, codec, &content);
        let object = crate::task::blocking(encode).await?;
        self.put(name, object.bytes).await
    }
}

async fn put_create(storage: &dyn Storage, name: &ObjectName, body: Body) -> Result<Created> {
    match storage.put(&name.key(), body, PutMode::Create).await {
        Ok(()) => Ok(Created::New),
        Err(error) if error.kind() == StorageErrorKind::AlreadyExists => Ok(Created::Existed),
        Err(error) => Err(error.into()),
    }
}

async fn read_control<T: DeserializeOwned>(
    storage: &dyn Storage,
    name: &ObjectName,
) -> Result<Option<T>> {
    let read =
        storage::read_all(storage, &name.key(), ByteRange::Full, CONTROL_OBJECT_LIMIT_BYTES).await;
    let Some(bytes) = absent_is_none(read)? else { return Ok(None) };
    let opened = container::open_control(&bytes);
    opened.map(Some).map_err(|error| error.context(format!("cannot read `{}`", name.key())))
}

fn absent_is_none<T>(result: Result<T, storage::StorageError>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
