//! Marks: whether the sweeper may ever condemn a backup.

use futures::TryStreamExt;
use jiff::Timestamp;

use crate::error::Result;
use crate::repository::{BackupId, Created, Mark, ObjectName, Repository, prefix};

/// Whether a backup is exempt from retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permanence {
    /// The sweeper never condemns it.
    Permanent,
    /// Retention decides.
    Ordinary,
}

/// Marks a backup; the newest mark counts. A mark of a backup that never gets its manifest means nothing.
pub async fn mark(repository: &Repository, backup: &BackupId, as_what: Permanence) -> Result<()> {
    let mark = Mark {
        backup_id: backup.clone(),
        permanent: as_what == Permanence::Permanent,
        created: Timestamp::now(),
    };
    loop {
        let name = ObjectName::Mark(backup.clone(), highest(repository, backup).await? + 1);
        if repository.put_control(&name, &mark).await? == Created::New {
            return Ok(());
        }
        // Another command took the number; look again.
    }
}

async fn highest(repository: &Repository, backup: &BackupId) -> Result<u32> {
    let mut highest = 0;
    let mut listing = repository.storage().list(&prefix::marks_of(backup), None);
    while let Some(info) = listing.try_next().await? {
        if let Some(ObjectName::Mark(_, number)) = ObjectName::parse(&info.key) {
            highest = highest.max(number);
        }
    }
    Ok(highest)
}
