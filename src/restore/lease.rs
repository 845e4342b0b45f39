//! A lease: tells the sweeper that a restore needs a backup and the WAL after it.
//!
//! The lease goes first and the tombstone is read after it. So either the sweeper sees the lease before it deletes, or
//! this restore sees that the backup is condemned.

use std::time::Duration;

use jiff::Timestamp;

use crate::container;
use crate::error::{Error, Result};
use crate::repository::{BackupId, Lease, Manifest, ObjectName, Repository, Tombstone};
use crate::storage::{PutMode, StorageError, StorageErrorKind};

/// How long a lease counts, replay included.
const LEASE: Duration = Duration::from_hours(7 * 24);
/// A longer restore takes another one when half of it is over.
const RENEW_AFTER: Duration = LEASE.checked_div(2).expect("two is not zero");

/// The leases of one restore. They stay when it ends: replay still needs the WAL, and the sweeper removes what is over.
#[derive(Debug)]
pub(super) struct Leases<'a> {
    repository: &'a Repository,
    manifest: &'a Manifest,
    id: BackupId,
}

impl<'a> Leases<'a> {
    /// Takes the first lease; fails when the backup has been condemned meanwhile.
    ///
    /// Where the credentials may not put anything, a warning says until when the restore must be over: what is
    /// condemned from now on is deleted after `grace` at the earliest.
    pub(super) async fn take(
        repository: &'a Repository,
        manifest: &'a Manifest,
        grace: Duration,
    ) -> Result<Self> {
        let leases = Self { repository, manifest, id: BackupId::generate(Timestamp::now())? };
        match leases.put(1).await {
            Ok(()) => {}
            Err(error) if error.kind() == StorageErrorKind::Denied => {
                warn_of_deadline(&error, grace);
            }
            Err(error) => return Err(error.into()),
        }
        leases.refuse_condemned().await?;
        Ok(leases)
    }

    /// Takes further leases, for ever; to be dropped when the restore is over.
    pub(super) async fn keep(&self) {
        for number in 2.. {
            tokio::time::sleep(RENEW_AFTER).await;
            if let Err(error) = self.put(number).await {
                tracing::warn!(%error, "the lease could not be renewed");
            }
        }
    }

    async fn put(&self, number: u32) -> Result<(), StorageError> {
        let lease = Lease {
            backup_id: self.manifest.backup_id.clone(),
            system_identifier: self.manifest.system_identifier,
            first_segment: self.manifest.first_segment,
            seconds: LEASE.as_secs(),
            created: Timestamp::now(),
        };
        let sealed = container::seal_control(&lease).map_err(|error| {
            StorageError::new(StorageErrorKind::Invalid, "cannot write a lease").because(error)
        })?;
        let key = ObjectName::Lease(self.id.clone(), number).key();
        self.repository.storage().put(&key, sealed.into(), PutMode::Create).await
    }

    async fn refuse_condemned(&self) -> Result<()> {
        let backup = &self.manifest.backup_id;
        let name = ObjectName::Tombstone(backup.clone());
        match self.repository.read_control::<Tombstone>(&name).await? {
            None => Ok(()),
            Some(tombstone) => Err(Error::refused(format!("backup `{backup}` is condemned"))
                .because(format!(
                    "the sweeper did so at {}: {}",
                    tombstone.created, tombstone.reason
                ))
                .hint("choose another backup with `--backup`")),
        }
    }
}

fn warn_of_deadline(error: &StorageError, grace: Duration) {
    let deadline = Timestamp::now().checked_add(grace).unwrap_or(Timestamp::MAX);
    tracing::warn!(
        %error,
        %deadline,
        "no lease could be put: should a sweep condemn the backup now, restore and replay must be over by the deadline"
    );
}
