//! The marker of a restore that has not ended: what proves that a directory holds nothing but its leftovers.
//!
//! It is written into the data directory, and into every tablespace directory outside it, before anything else is, and
//! only while these are empty. So everything beside it came from this restore, and another run may remove it and start
//! over. A directory that was ever complete or started does not count, marker or not: it would hold `global/pg_control`,
//! `postmaster.pid` or `postmaster.opts`.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::beneath::Beneath;
use super::local;
use crate::durable::Existing;
use crate::error::{Error, Result};
use crate::postgres::{CONTROL_FILE, POSTMASTER_PID};
use crate::repository::BackupId;

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
    /// How the directories were found.
    pub(super) into: Into,
}

/// What a restore fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Into {
    /// Directories that were empty: whatever they hold came from the restore.
    Empty,
}

impl Marker {
    /// The marker of a new run.
    pub(super) fn new(backup_id: BackupId) -> Result<Self> {
        let random = getrandom::u64().map_err(|source| {
            Error::unavailable("no random bytes from the system").because(source)
        })?;
        Ok(Self { run: format!("{random:016x}"), backup_id, into: Into::Empty })
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
            let path = data.join(name);
            let exists = std::fs::symlink_metadata(&path);
            match exists {
                Ok(_) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Error::io(format!("cannot look for `{}`", path.display()), error));
                }
            }
        }
        Self::read(data)
    }

    /// Leaves the marker, durably; `existing` says whether an older one may be there.
    pub(super) fn leave(&self, directory: &Beneath, existing: Existing) -> Result<()> {
        let json = serde_json::to_vec(self)
            .map_err(|source| Error::bug("cannot write a marker as JSON").because(source))?;
        local::write(directory, MARKER_NAME, &json, MARKER_MODE, existing)
    }
}

/// Where the marker of a directory lies.
pub(super) fn path_in(directory: &Path) -> PathBuf {
    directory.join(MARKER_NAME)
}
