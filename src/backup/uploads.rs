//! Storing finished objects beside the work that makes the next ones.

use bytes::Bytes;
use tokio::task::JoinSet;
use tracing::debug;

use super::pack_builder::Sealed;
use crate::budget::{Budget, Reservation};
use crate::error::{Error, Result};
use crate::repository::{Created, ObjectName, Repository};
use crate::step;

/// Objects on their way into the repository; dropping this gives them up.
pub(super) struct Uploads {
    repository: Repository,
    budget: Budget,
    /// Most objects in flight (`backup.uploads`); the budget bounds their bytes.
    limit: usize,
    running: JoinSet<Result<()>>,
    stored_bytes: u64,
}

impl Uploads {
    /// Nothing is in flight.
    pub(super) fn new(repository: Repository, budget: Budget, limit: usize) -> Self {
        Self { repository, budget, limit, running: JoinSet::new(), stored_bytes: 0 }
    }

    /// Begins to store an object, once fewer than the limit are in flight. An earlier one's failure is returned here.
    ///
    /// `held` is the object's part of the budget; without one, a part is taken as [`Self::room_for`] says.
    pub(super) async fn put(&mut self, sealed: Sealed, held: Option<Reservation>) -> Result<()> {
        while self.running.len() >= self.limit {
            self.join_next().await?;
        }
        let bytes = sealed.bytes.len() as u64;
        let reservation = match held {
            Some(mut reservation) => {
                reservation.shrink_to(bytes);
                Some(reservation)
            }
            None => self.room_for(bytes).await?,
        };
        self.stored_bytes += bytes;
        let repository = self.repository.clone();
        self.running.spawn(async move {
            let stored = store(&repository, sealed.name, sealed.bytes).await;
            drop(reservation);
            stored
        });
        Ok(())
    }

    /// A part of the budget for an object that is in memory already; none when only earlier uploads could give it back
    /// and all of them are done.
    ///
    /// The rest of the budget belongs to chunks and to the pack that is filled, and those go on only when the caller
    /// does: to wait for them would be to wait for ever.
    async fn room_for(&mut self, bytes: u64) -> Result<Option<Reservation>> {
        loop {
            let free = self.budget.try_reserve(bytes);
            if free.is_some() || self.running.is_empty() {
                return Ok(free);
            }
            self.join_next().await?;
        }
    }

    /// Waits until everything is stored; the bytes of all objects.
    pub(super) async fn finish(mut self) -> Result<u64> {
        while !self.running.is_empty() {
            self.join_next().await?;
        }
        Ok(self.stored_bytes)
    }

    async fn join_next(&mut self) -> Result<()> {
        match self.running.join_next().await {
            Some(Ok(stored)) => stored,
            Some(Err(panic)) => Err(Error::bug("an upload panicked").because(panic)),
            None => Ok(()),
        }
    }
}

async fn store(repository: &Repository, name: ObjectName, bytes: Bytes) -> Result<()> {
    let is_first_pack = matches!(name, ObjectName::Pack(_, 1));
    if is_first_pack {
        step::reached("backup-push:before-first-pack");
    }
    let size = bytes.len();
    if repository.put(&name, bytes).await? == Created::Existed {
        // The id is random and new: whoever wrote this is not this run.
        let what = format!("`{}` exists already", name.key());
        return Err(Error::refused(what).because("another process uses the id of this backup"));
    }
    if is_first_pack {
        step::reached("backup-push:first-pack");
    }
    if matches!(name, ObjectName::Pack(..)) {
        step::reached("backup-push:pack");
    }
    debug!(object = %name.key(), bytes = size, "stored");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, Environment};
    use crate::postgres::{SegmentSize, SystemIdentifier};
    use crate::repository::{BackupId, Creation, FirstCluster, Opening};
    use crate::storage::FsStorage;

    async fn repository(directory: &std::path::Path) -> Repository {
        let settings = Config::load(None, Vec::new(), Environment::default());
        let settings = settings.unwrap().settings().unwrap();
        let (system_identifier, segment_size) = (SystemIdentifier::new(1), SegmentSize::DEFAULT);
        let storage = std::sync::Arc::new(FsStorage::new(directory));
        let opening = Opening { storage, settings: &settings, site: None, expected: None };
        let first = FirstCluster { system_identifier, segment_size };
        opening.open(Creation::By(first)).await.unwrap()
    }

    fn part() -> Sealed {
        let backup = BackupId::generate(jiff::Timestamp::now()).unwrap();
        Sealed { name: ObjectName::FileList(backup, 1), bytes: vec![7; 1 << 20].into() }
    }

    #[tokio::test]
    async fn a_part_of_the_file_list_never_waits_for_chunks_that_wait_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let budget = Budget::of(2 << 20);
        let mut uploads = Uploads::new(repository(directory.path()).await, budget.clone(), 4);
        let _chunks_and_pack = budget.reserve(u64::MAX).await;
        let put = tokio::time::timeout(Duration::from_mins(1), uploads.put(part(), None));
        put.await.expect("the backup would hang").unwrap();
        assert_eq!(uploads.finish().await.unwrap(), 1 << 20);
    }
}
