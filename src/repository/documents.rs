//! The control objects of a repository (`docs/format.md`, section 2). The envelope adds format and digest.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::layout::BackupId;
use crate::container::{KeyId, RepositoryId};
use crate::postgres::{SegmentName, SystemIdentifier};

/// `repository.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryDocument {
    /// Identity of the repository, wherever it is moved.
    pub repository_id: RepositoryId,
    /// When it was made.
    pub created: Timestamp,
    /// 0 plain, 1 encrypted.
    pub suite: u8,
    /// The repository key's id, when encrypted.
    pub key_id: Option<KeyId>,
    /// Whether the store was seen to honour conditional creation.
    pub conditional_create: bool,
}

/// `epochs/<n>.json`: a cluster that may write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// The cluster.
    pub system_identifier: SystemIdentifier,
    /// Its WAL segment size in bytes.
    pub segment_size: u64,
    /// When it was added.
    pub created: Timestamp,
}

/// `backups/<id>/intent.json`: what a backup may come to need, written first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The backup.
    pub backup_id: BackupId,
    /// When it began.
    pub created: Timestamp,
    /// The cluster.
    pub system_identifier: SystemIdentifier,
    /// Backups whose packs it may reference.
    pub parents: Vec<BackupId>,
    /// Interrupted backups whose packs it may reference.
    pub dead: Vec<BackupId>,
    /// The first WAL segment that must stay.
    pub floor: SegmentName,
    /// Name of the host.
    pub host: String,
    /// Process number on the host.
    pub process: u32,
}

/// `marks/<id>/<n>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The backup.
    pub backup_id: BackupId,
    /// Whether the sweeper must never condemn it.
    pub permanent: bool,
    /// When it was marked.
    pub created: Timestamp,
}

/// `tombstones/<id>.json`: condemned by the sweeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The backup.
    pub backup_id: BackupId,
    /// When it was condemned.
    pub created: Timestamp,
    /// Which rule condemned it.
    pub reason: String,
}

/// `leases/<id>/<n>.json`: a restore in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The backup that is being restored.
    pub backup_id: BackupId,
    /// The cluster.
    pub system_identifier: SystemIdentifier,
    /// The first WAL segment that its replay needs.
    pub first_segment: SegmentName,
    /// How long the lease counts from its `Last-Modified`.
    pub seconds: u64,
    /// When it was taken.
    pub created: Timestamp,
}
