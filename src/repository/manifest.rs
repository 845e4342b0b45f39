//! The manifest: the small document whose existence makes a backup exist (`docs/format.md`, section 7).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::layout::BackupId;
use crate::container::ContentDigest;
use crate::error::{Error, Result};
use crate::postgres::{Lsn, SegmentName, SegmentSize, SystemIdentifier, TimelineId};

/// The only format version that this program writes and reads.
pub const FORMAT: u32 = 1;

/// A manifest holds at most this many bytes.
pub const MANIFEST_BYTES: usize = 64 << 20;

/// What an object `backups/<id>/manifest` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ManifestDocument {
    /// A backup that is complete.
    Backup(Box<Manifest>),
    /// A backup that can never become complete.
    Void(VoidManifest),
}

/// A fenced backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoidManifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The backup.
    pub backup_id: BackupId,
    /// When it was fenced.
    pub created: Timestamp,
}

/// A complete backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The backup.
    pub backup_id: BackupId,
    /// The backup it was compared with; nothing is read through it.
    pub parent_id: Option<BackupId>,
    /// The newest backup that stored everything, this one included.
    pub last_full: BackupId,
    /// The cluster.
    pub system_identifier: SystemIdentifier,
    /// `server_version_num`.
    pub postgres_version: u32,
    /// `pg_control_version`.
    pub control_version: u32,
    /// Catalog version.
    pub catalog_version: u32,
    /// The program that took the backup.
    pub walrs_version: String,
    /// BLCKSZ in bytes.
    pub block_size: u32,
    /// WAL block size in bytes.
    pub wal_block_size: u32,
    /// WAL segment size in bytes.
    pub segment_size: SegmentSize,
    /// Blocks per segment file of a relation.
    pub relation_segment_blocks: u32,
    /// Timeline of the start location.
    pub start_timeline: TimelineId,
    /// Timeline of the stop location.
    pub timeline: TimelineId,
    /// Where recovery begins.
    pub start_lsn: Lsn,
    /// Where the copy is consistent.
    pub stop_lsn: Lsn,
    /// The first WAL segment the backup needs, on `start_timeline`.
    pub first_segment: SegmentName,
    /// The last WAL segment the backup needs, on `timeline`.
    pub last_segment: SegmentName,
    /// By the host's clock, just before PostgreSQL was asked to start: seconds and nanoseconds.
    pub start_requested: (i64, u32),
    /// When it began.
    pub start_time: Timestamp,
    /// When it was stopped.
    pub stop_time: Timestamp,
    /// Of the host that read the files; empty when unknown.
    pub machine_id: String,
    /// Of the host that read the files; empty when unknown.
    pub boot_id: String,
    /// Whether the server was in recovery.
    pub from_standby: bool,
    /// The bytes that PostgreSQL returned.
    #[serde(with = "base64_bytes")]
    pub backup_label: Vec<u8>,
    /// The bytes that PostgreSQL returned; may be empty.
    #[serde(with = "base64_bytes")]
    pub tablespace_map: Vec<u8>,
    /// `data_checksum_version` of `pg_control`; 0 is off.
    pub data_checksums: u32,
    /// The operator's label.
    pub label: Option<String>,
    /// Number of regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes newly stored, before compression.
    pub new_bytes: u64,
    /// Size of the packs and file list parts that this backup added.
    pub stored_bytes: u64,
    /// Number of pages whose checksum failed.
    pub bad_pages: u64,
    /// Which hundredth of the files that could be skipped was read all the same: 0 to 99, one further than the parent's.
    #[serde(default)]
    pub sample: u32,
    /// The packs that the file list references, by index.
    pub packs: Vec<PackReference>,
    /// The parts of the file list.
    pub parts: Vec<PartReference>,
}

/// A pack that a backup uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackReference {
    /// The backup under which it lies.
    pub backup: BackupId,
    /// Its number there.
    pub number: u32,
    /// Stored size in bytes.
    pub size: u64,
    /// Position of its first index record.
    pub index: u64,
    /// Bytes of its content; 0 when unknown.
    #[serde(default)]
    pub raw: u64,
    /// Bytes of its content that this backup references.
    pub used: u64,
}

/// A part of the file list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartReference {
    /// Its number.
    pub number: u32,
    /// The first path in it, encoded.
    pub first_path: String,
    /// Stored size in bytes.
    pub size: u64,
    /// Digest of its content.
    pub digest: ContentDigest,
}

/// Whether a backup stored everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupKind {
    /// It stored everything.
    Full,
    /// It stored what differs from its parent.
    Delta,
}

impl std::fmt::Display for BackupKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Delta => "delta",
        })
    }
}

impl Manifest {
    /// Whether the backup stored everything.
    pub fn kind(&self) -> BackupKind {
        if self.parent_id.is_none() { BackupKind::Full } else { BackupKind::Delta }
    }
}

impl ManifestDocument {
    /// The JSON of the document.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let json = serde_json::to_vec(self)
            .map_err(|source| Error::bug("cannot write a manifest as JSON").because(source))?;
        if json.len() > MANIFEST_BYTES {
            return Err(Error::unavailable(format!(
                "the manifest would be {} bytes, more than {MANIFEST_BYTES}",
                json.len()
            )));
        }
        Ok(json)
    }

    /// Parses and checks a document of the backup `expected`.
    pub fn from_json(json: &[u8], expected: &BackupId) -> Result<Self> {
        let malformed = || Error::damaged(format!("malformed manifest of backup `{expected}`"));
        let document: Self =
            serde_json::from_slice(json).map_err(|source| malformed().because(source))?;
        let (format, id) = match &document {
            Self::Backup(manifest) => (manifest.format, &manifest.backup_id),
            Self::Void(void) => (void.format, &void.backup_id),
        };
        if format != FORMAT {
            return Err(Error::usage(format!("backup `{expected}` has format {format}"))
                .hint("a newer walrs wrote it; use that version"));
        }
        if id != expected {
            return Err(malformed().because(format!("it names backup `{id}`")));
        }
        Ok(document)
    }
}

mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

/// A manifest of nothing in particular.
#[cfg(test)]
pub(crate) fn example_manifest() -> Manifest {
    let id = "20261120T120000Z-aaaaaa";
    let json = serde_json::json!({
        "format": 1, "kind": "backup", "backup_id": id, "parent_id": null, "last_full": id,
        "system_identifier": "7", "postgres_version": 150_018, "control_version": 1300,
        "catalog_version": 202_209_061, "walrs_version": "0", "block_size": 8192,
        "wal_block_size": 8192, "segment_size": 16_777_216, "relation_segment_blocks": 131_072,
        "start_timeline": 1, "timeline": 1, "start_lsn": "0/1000000", "stop_lsn": "0/2000000",
        "first_segment": "000000010000000000000001", "last_segment": "000000010000000000000001",
        "start_requested": [0, 0], "start_time": "2026-11-20T12:00:00Z",
        "stop_time": "2026-11-20T12:01:00Z", "machine_id": "", "boot_id": "",
        "from_standby": false, "backup_label": "", "tablespace_map": "", "data_checksums": 1,
        "label": null, "files": 0, "bytes": 0, "new_bytes": 0, "stored_bytes": 0, "bad_pages": 0,
        "sample": 0, "packs": [], "parts": [],
    });
    match ManifestDocument::from_json(json.to_string().as_bytes(), &id.parse().expect("an id")) {
        Ok(ManifestDocument::Backup(manifest)) => *manifest,
        other => panic!("no manifest: {other:?}"),
    }
}
