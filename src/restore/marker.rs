//! The marker of a restore that has not ended: what proves whose leftovers a directory holds.
//!
//! A restore into empty directories writes it into the data directory, and into every tablespace directory outside it,
//! before anything else and only while these are empty. So everything beside it came from this restore, and another run
//! may remove it and start over. A directory that was ever complete or started does not count, marker or not: it would
//! hold `global/pg_control`, `postmaster.pid` or `postmaster.opts`.
//!
//! A restore in place writes it before `global/pg_control` goes. From then on the marker alone says which cluster the
//! directory is, and that the restore in place may be run again (R6).

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::beneath::Beneath;
use super::local;
use crate::durable::Existing;
use crate::error::{Error, Result};
use crate::postgres::{CONTROL_FILE, POSTMASTER_PID, SystemIdentifier};
use crate::repository::{BackupId, Manifest};

/// Its name in every directory that the restore fills.
pub(super) const MARKER_NAME: &str = ".walrs-restore-in-progress";
const MARKER_MODE: u32 = 0o600;
const MARKER_BYTES: u64 = 64 << 10;

/// What a server leaves when it has ever been started.
const POSTMASTER_OPTIONS: &str = "postmaster.opts";

/// What a restore in progress says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    /// This run, unlike any other.
    pub(super) run: String,
    /// The backup.
    pub(super) backup_id: BackupId,
    /// The cluster.
    pub(super) system_identifier: SystemIdentifier,
    /// How the directories were found.
    pub(super) into: Into,
}

/// What a restore fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Into {
    /// Directories that were empty: whatever they hold came from the restore.
    Empty,
    /// A data directory of the same cluster.
    Existing,
}

/// What is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) backup_id: BackupId,
    pub(super) system_identifier: SystemIdentifier,
}

impl From<&Manifest> for Subject {
    fn from(manifest: &Manifest) -> Self {
        let system_identifier = manifest.system_identifier;
        Self { backup_id: manifest.backup_id.clone(), system_identifier }
    }
}

impl Marker {
    /// The marker of a new run.
    pub(super) fn new(subject: Subject, into: Into) -> Result<Self> {
        let random = getrandom::u64().map_err(|source| {
            Error::unavailable("no random bytes from the system").because(source)
        })?;
        let Subject { backup_id, system_identifier } = subject;
        Ok(Self { run: format!("{random:016x}"), backup_id, system_identifier, into })
    }

    /// The marker of a run that goes on where `interrupted` stopped: what that one left in other directories is ours.
    pub(super) fn resuming(self, interrupted: Option<&Self>) -> Self {
        let run = interrupted.map(|marker| marker.run.clone());
        Self { run: run.unwrap_or(self.run), ..self }
    }

    /// The marker in `directory`, if there is one.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(MARKER_NAME);
        let unreadable = |source| Error::io(format!("cannot read `{}`", path.display()), source);
        let bytes = match local::read_small(&path, MARKER_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        // A marker that cannot be understood proves nothing.
        Ok(serde_json::from_slice(&bytes).ok())
    }

    /// The marker of a data directory whose restore was interrupted, and which no server can have started from.
    pub(super) fn of_interrupted(data: &Path) -> Result<Option<Self>> {
        let ever_complete = [CONTROL_FILE, POSTMASTER_PID, POSTMASTER_OPTIONS];
        for name in ever_complete {
            if exists(&data.join(name))? {
                return Ok(None);
            }
        }
        Self::read(data)
    }

    /// The marker of a data directory whose restore in place was interrupted after its control file was gone.
    pub(super) fn of_interrupted_in_place(data: &Path) -> Result<Option<Self>> {
        if exists(&data.join(CONTROL_FILE))? {
            return Ok(None);
        }
        Ok(Self::read(data)?.filter(|marker| marker.into == Into::Existing))
    }

    /// Leaves the marker, durably; `existing` says whether an older one may be there.
    pub(super) fn leave(&self, directory: &Beneath, existing: Existing) -> Result<()> {
        let json = serde_json::to_vec(self)
            .map_err(|source| Error::bug("cannot write a marker as JSON").because(source))?;
        local::write(directory, MARKER_NAME, &json, MARKER_MODE, existing)
    }
}

/// Whether anything has this name, be it a link that leads nowhere.
pub(super) fn exists(path: &Path) -> Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(format!("cannot look for `{}`", path.display()), error)),
    }
}

/// Where the marker of a directory lies.
pub(super) fn path_in(directory: &Path) -> PathBuf {
    directory.join(MARKER_NAME)
}
