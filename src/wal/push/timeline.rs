//! What a timeline needs in the repository before its files: its own history (W12), and no other's (T2).

use super::Archiver;
use crate::container::{ContentDigest, ContentFacts};
use crate::error::Result;
use crate::postgres::{TimelineId, WalFileName};
use crate::task;
use crate::wal::local_file::{CheckedFile, LocalFile};

impl Archiver {
    /// Makes sure that the history of `timeline` is in the repository, and that it is this server's.
    ///
    /// A cluster that was promoted while archiving was off never marks its history for archiving. One whose history
    /// differs from the stored one lives on a timeline that another server took: none of its files may be mixed in.
    pub(super) async fn require_history(&self, timeline: TimelineId) -> Result<()> {
        if self.proven.lock().expect("no panic while looking").contains(&timeline) {
            return Ok(());
        }
        self.prove_history(timeline).await?;
        self.proven.lock().expect("no panic while adding").insert(timeline);
        Ok(())
    }

    async fn prove_history(&self, timeline: TimelineId) -> Result<()> {
        let stored = self.archive.stored(&self.archive.history_object(timeline)).await?;
        let local = self.local_history(timeline).await?;
        match (local, stored) {
            (Some(local), Some(stored)) => {
                let content = content_of(&local).await?;
                if content == stored.content {
                    return Ok(());
                }
                Err(self.archive.conflict(local.name(), stored.content, content))
            }
            (Some(local), None) => self.archive_history(timeline, &local).await,
            (None, Some(_)) => Ok(()),
            (None, None) => {
                tracing::warn!(
                    history = %WalFileName::History(timeline),
                    "neither the repository nor pg_wal has the history of this timeline; \
                     without it no recovery can follow the timeline"
                );
                Ok(())
            }
        }
    }

    /// Stores a history after what of its ancestors' WAL is still missing in the repository.
    async fn archive_history(&self, timeline: TimelineId, file: &CheckedFile) -> Result<()> {
        self.archive_ancestors_of(timeline, file).await?;
        self.archive_one(file).await
    }

    /// Stores what of the WAL of a history's ancestors is still missing in the repository.
    pub(super) async fn archive_ancestors_of(
        &self,
        timeline: TimelineId,
        file: &CheckedFile,
    ) -> Result<()> {
        self.archive_ancestors(&file.local().history(timeline)?).await
    }

    /// Stores the history of an ancestor unless it is there: recoveries from before it ask for it. False when the
    /// stored one is another server's, with whose segments this server's must not be mixed (T2).
    pub(super) async fn archive_history_of_ancestor(&self, timeline: TimelineId) -> Result<bool> {
        let stored = self.archive.stored(&self.archive.history_object(timeline)).await?;
        let Some(local) = self.local_history(timeline).await? else { return Ok(true) };
        let Some(stored) = stored else { return self.archive_one(&local).await.map(|()| true) };
        let is_ours = content_of(&local).await? == stored.content;
        if !is_ours {
            tracing::warn!(
                %timeline,
                "another server took this timeline, an ancestor of the present one: its WAL in pg_wal is not \
                 archived, and no earlier backup leads to the present timeline; take a backup now"
            );
        }
        Ok(is_ours)
    }

    async fn local_history(&self, timeline: TimelineId) -> Result<Option<CheckedFile>> {
        let (directory, cluster) = (self.directory.clone(), self.archive.expected());
        task::blocking(move || {
            let found = LocalFile::find(&directory, WalFileName::History(timeline))?;
            found.map(|file| file.check(&cluster)).transpose()
        })
        .await
    }
}

async fn content_of(file: &CheckedFile) -> Result<ContentFacts> {
    let file = file.clone();
    task::blocking(move || {
        let bytes = file.local().read_small()?;
        Ok(ContentFacts { raw_length: bytes.len() as u64, digest: ContentDigest::of(&bytes) })
    })
    .await
}
