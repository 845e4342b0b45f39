//! Storing finished objects beside the work that makes the next ones.

use bytes::Bytes;
use tokio::task::JoinSet;
use tracing::info;

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
    /// `reservation` holds the object's bytes; without one they are reserved first.
    pub(super) async fn put(&mut self, sealed: Sealed, held: Option<Reservation>) -> Result<()> {
        while self.running.len() >= self.limit {
            self.join_next().await?;
        }
        let bytes = sealed.bytes.len() as u64;
        let reservation = match held {
            Some(mut reservation) => {
                reservation.shrink_to(bytes);
                reservation
            }
            None => self.budget.reserve(bytes).await,
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
    info!(object = %name.key(), bytes = size, "stored");
    Ok(())
}
