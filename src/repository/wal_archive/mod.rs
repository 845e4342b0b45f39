//! The WAL of one cluster as a repository holds it: what is stored under which name, and what its listings mean.
//!
//! Owns create-only storing with comparison of content (W4), verified reading, and contiguity along a line of
//! timelines. Does not own what PostgreSQL is told and when (`wal/`).

mod coverage;
mod object;
mod read;
mod store;
mod stored;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

pub use coverage::WalRange;
pub use object::WalObject;
pub use store::{IN_MEMORY_BYTES, SealedWal, Storing, WalContent};
pub use stored::StoredWal;

use super::layout::{ObjectName, PartialDigest, prefix};
use super::{Repository, absent_is_none};
use crate::error::{Error, Result};
use crate::postgres::{
    ExpectedCluster, SegmentName, SegmentSize, SystemIdentifier, TimelineHistory, TimelineId,
    WalFileName,
};
use crate::storage::{ObjectKey, ObjectPrefix};

/// The WAL of one cluster in one repository. Cloning is cheap.
#[derive(Clone)]
pub struct WalArchive {
    repository: Repository,
    cluster: SystemIdentifier,
    segment_size: SegmentSize,
}

impl WalArchive {
    /// The WAL of `cluster`; a cluster that the repository does not know is refused (C1).
    pub fn of(repository: &Repository, cluster: SystemIdentifier) -> Result<Self> {
        let segment_size = repository.segment_size(cluster)?;
        Ok(Self { repository: repository.clone(), cluster, segment_size })
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The cluster.
    pub fn cluster(&self) -> SystemIdentifier {
        self.cluster
    }

    /// The size of the cluster's segments.
    pub fn segment_size(&self) -> SegmentSize {
        self.segment_size
    }

    /// What the header of a segment must say.
    pub fn expected(&self) -> ExpectedCluster {
        ExpectedCluster { system_identifier: self.cluster, segment_size: self.segment_size }
    }

    /// Whether the repository holds this segment; a `.partial` of it does not count (W5).
    pub async fn segment_exists(&self, segment: SegmentName) -> Result<bool> {
        let key = ObjectName::Segment(self.cluster, segment).key();
        let head = self.repository.storage().head(&key).await;
        Ok(absent_is_none(head)?.is_some())
    }

    /// The segments of `timeline` behind `after`, in the order of their positions; complete, or an error.
    pub fn segments(
        &self,
        timeline: TimelineId,
        after: Option<SegmentName>,
    ) -> BoxStream<'_, Result<SegmentName>> {
        let segments = self.files(timeline, after).try_filter_map(|name| async move {
            Ok(match name {
                ObjectName::Segment(_, segment) => Some(segment),
                _ => None,
            })
        });
        segments.boxed()
    }

    /// The first segment behind `segment` of which the repository holds anything: itself, a `.partial` or a `.backup`.
    pub async fn first_after(&self, segment: SegmentName) -> Result<Option<SegmentName>> {
        let mut files = self.files(segment.timeline(), Some(segment));
        while let Some(name) = files.try_next().await? {
            let (ObjectName::Segment(_, found)
            | ObjectName::Partial(_, found, _)
            | ObjectName::BackupHistory(_, found, _)) = name
            else {
                continue;
            };
            if found > segment {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Whether the repository holds any WAL of `timeline`.
    pub async fn has_wal_of(&self, timeline: TimelineId) -> Result<bool> {
        Ok(self.files(timeline, None).try_next().await?.is_some())
    }

    /// The timelines that have a history, in increasing order.
    pub async fn histories(&self) -> Result<Vec<TimelineId>> {
        let names = self.names(&prefix::histories(self.cluster), None);
        let timelines = names.try_filter_map(|name| async move {
            Ok(match name {
                ObjectName::History(_, timeline) => Some(timeline),
                _ => None,
            })
        });
        timelines.try_collect().await
    }

    /// The history of a timeline; `None` when the repository has none.
    pub async fn history(&self, timeline: TimelineId) -> Result<Option<TimelineHistory>> {
        let object = self.history_object(timeline);
        let Some(content) = self.read(&object).await? else { return Ok(None) };
        let parsed = TimelineHistory::parse(timeline, &content);
        parsed.map(Some).map_err(|defect| {
            Error::damaged(format!("`{object}` is no history of its timeline")).because(defect)
        })
    }

    /// The history of a timeline, without ancestors when the repository has none.
    pub async fn line(&self, timeline: TimelineId) -> Result<TimelineHistory> {
        let stored = self.history(timeline).await?;
        Ok(stored.unwrap_or_else(|| TimelineHistory::without_ancestors(timeline)))
    }

    /// The digests of all `.partial` versions of a segment.
    pub async fn partials(&self, segment: SegmentName) -> Result<Vec<PartialDigest>> {
        let names = self.names(&prefix::partials(self.cluster, segment), None);
        let digests = names.try_filter_map(|name| async move {
            Ok(match name {
                ObjectName::Partial(_, _, digest) => Some(digest),
                _ => None,
            })
        });
        digests.try_collect().await
    }

    /// The segment below which the sweeper removes WAL of `timeline`; none when it never did.
    pub async fn horizon(&self, timeline: TimelineId) -> Result<Option<SegmentName>> {
        let names = self.names(&prefix::horizons_of(self.cluster, timeline), None);
        let highest = names.try_fold(None, |highest, name| async move {
            Ok(match name {
                ObjectName::Horizon(_, segment) => highest.max(Some(segment)),
                _ => highest,
            })
        });
        highest.await
    }

    /// The object of a file that has one name only; a `.partial` has one for every content.
    pub fn object(&self, file: WalFileName) -> Option<WalObject> {
        let cluster = self.cluster;
        let name = match file {
            WalFileName::Segment(segment) => ObjectName::Segment(cluster, segment),
            WalFileName::History(timeline) => ObjectName::History(cluster, timeline),
            WalFileName::BackupLabel { segment, offset } => {
                ObjectName::BackupHistory(cluster, segment, offset)
            }
            WalFileName::Partial(_) => return None,
        };
        WalObject::new(name)
    }

    /// The object of one version of a `.partial`.
    pub fn partial_object(&self, segment: SegmentName, digest: PartialDigest) -> WalObject {
        let name = ObjectName::Partial(self.cluster, segment, digest);
        WalObject::new(name).expect("a partial segment is WAL")
    }

    /// The object of a history.
    pub fn history_object(&self, timeline: TimelineId) -> WalObject {
        let name = ObjectName::History(self.cluster, timeline);
        WalObject::new(name).expect("a history is WAL")
    }

    fn files(
        &self,
        timeline: TimelineId,
        after: Option<SegmentName>,
    ) -> BoxStream<'_, Result<ObjectName>> {
        let after = after.map(|segment| ObjectName::Segment(self.cluster, segment).key());
        self.names(&prefix::timeline(self.cluster, timeline), after.as_ref())
    }

    fn names(
        &self,
        prefix: &ObjectPrefix,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectName>> {
        let listing = self.repository.storage().list(prefix, after);
        let names = listing.map_err(Error::from);
        names.try_filter_map(|info| async move { Ok(ObjectName::parse(&info.key)) }).boxed()
    }
}
