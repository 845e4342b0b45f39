//! How backups look to scripts: the JSON that `backup-list`, `backup-show` and `backup-push` share (`docs/json.md`).

use jiff::Timestamp;
use serde::Serialize;

use crate::backup::Permanence;
use crate::postgres::{Lsn, SystemIdentifier, TimelineId};
use crate::repository::{BackupId, BackupKind, Manifest};

/// One backup.
#[derive(Debug, Serialize)]
pub(super) struct BackupDocument<'a> {
    id: &'a BackupId,
    parent: Option<&'a BackupId>,
    kind: BackupKind,
    start_time: Timestamp,
    stop_time: Timestamp,
    start_lsn: Lsn,
    stop_lsn: Lsn,
    timeline: TimelineId,
    system_identifier: SystemIdentifier,
    permanent: bool,
    label: Option<&'a str>,
    files: u64,
    bytes: u64,
    new_bytes: u64,
    stored_bytes: u64,
    bad_pages: u64,
}

impl<'a> BackupDocument<'a> {
    /// The document of a visible backup.
    pub(super) fn new(manifest: &'a Manifest, permanence: Permanence) -> Self {
        Self {
            id: &manifest.backup_id,
            parent: manifest.parent_id.as_ref(),
            kind: manifest.kind(),
            start_time: manifest.start_time,
            stop_time: manifest.stop_time,
            start_lsn: manifest.start_lsn,
            stop_lsn: manifest.stop_lsn,
            timeline: manifest.timeline,
            system_identifier: manifest.system_identifier,
            permanent: permanence == Permanence::Permanent,
            label: manifest.label.as_deref(),
            files: manifest.files,
            bytes: manifest.bytes,
            new_bytes: manifest.new_bytes,
            stored_bytes: manifest.stored_bytes,
            bad_pages: manifest.bad_pages,
        }
    }
}

/// `Permanent` when a mark says so.
pub(super) fn permanence(permanent: bool) -> Permanence {
    if permanent { Permanence::Permanent } else { Permanence::Ordinary }
}
