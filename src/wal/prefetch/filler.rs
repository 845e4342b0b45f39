//! The one piece of code that fills a window: downloads side by side, in order, up to the first absent segment (F5).

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use super::pace::Limit;
use super::stock::{Part, Stock};
use crate::error::{Error, Result};
use crate::postgres::{
    ExpectedCluster, LONG_HEADER_BYTES, SegmentName, WalFileName, check_segment,
};
use crate::repository::WalArchive;
use crate::step;
use crate::task;

/// Most downloads at the same time; each holds a few megabytes.
const SIDE_BY_SIDE: usize = 8;

/// The window: so many segments behind one that recovery has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wal) struct Aim {
    /// The segment that recovery asked for last.
    pub(in crate::wal) behind: SegmentName,
    /// How many to have behind it.
    pub(in crate::wal) segments: u32,
}

/// Fills the stock. Dropping it gives up what is under way.
pub(in crate::wal) struct Filler {
    archive: WalArchive,
    stock: Stock,
    limit: Limit,
    aim: Option<Aim>,
    /// The first segment of the window that is absent, or cannot be had now: nothing behind it is begun.
    end: Option<SegmentName>,
    busy: BTreeSet<SegmentName>,
    under_way: FuturesUnordered<BoxFuture<'static, (SegmentName, Result<Found>)>>,
}

/// What became of one download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Complete,
    Absent,
    /// Another process downloads it.
    Elsewhere,
}

impl Filler {
    /// A filler that has nothing to do yet.
    pub(in crate::wal) fn new(archive: WalArchive, stock: Stock, limit: Limit) -> Self {
        let (busy, under_way) = (BTreeSet::new(), FuturesUnordered::new());
        Self { archive, stock, limit, aim: None, end: None, busy, under_way }
    }

    /// Goes on from another repository handle.
    pub(super) fn reopened(&mut self, archive: WalArchive) {
        self.archive = archive;
    }

    /// Moves the window, removes what recovery has passed, and begins what is missing.
    pub(in crate::wal) async fn aim(&mut self, aim: Aim) -> Result<()> {
        let (stock, size) = (self.stock.clone(), self.limit.size);
        // A window that has shrunk keeps what it has; one that is none keeps nothing.
        let reach = if aim.segments == 0 { 0 } else { self.limit.segments };
        task::blocking(move || stock.keep_behind(aim.behind, reach, size)).await?;
        self.aim = Some(aim);
        self.end = None;
        self.begin().await
    }

    /// Whether anything is being downloaded.
    pub(in crate::wal) fn is_busy(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Waits until one download has ended, and begins the next; at once when there is none. Cancel safe.
    pub(in crate::wal) async fn step(&mut self) -> Result<()> {
        let Some((segment, found)) = self.under_way.next().await else { return Ok(()) };
        self.busy.remove(&segment);
        match found {
            Ok(Found::Complete | Found::Elsewhere) => {}
            Ok(Found::Absent) => self.ends_at(segment),
            Err(error) => {
                tracing::debug!(%segment, error = %error.chain(), "not fetched ahead");
                self.ends_at(segment);
            }
        }
        self.begin().await
    }

    fn ends_at(&mut self, segment: SegmentName) {
        self.end = Some(self.end.map_or(segment, |end| end.min(segment)));
    }

    async fn begin(&mut self) -> Result<()> {
        let stock = self.stock.clone();
        let (present, mut free) =
            task::blocking(move || Ok((stock.segments()?, stock.free_bytes()?))).await?;
        for segment in self.window() {
            if self.busy.contains(&segment) || present.iter().any(|(name, _)| *name == segment) {
                continue;
            }
            // PostgreSQL writes to this disk, too: as much as the window may take stays free.
            free = free.saturating_sub(self.limit.size.bytes());
            if self.busy.len() >= SIDE_BY_SIDE || free < self.limit.bytes() {
                break;
            }
            self.busy.insert(segment);
            let (archive, stock) = (self.archive.clone(), self.stock.clone());
            self.under_way
                .push(Box::pin(async move { (segment, download(archive, stock, segment).await) }));
        }
        Ok(())
    }

    /// The segments of the window, as far as its end is known.
    fn window(&self) -> Vec<SegmentName> {
        let Some(aim) = self.aim else { return Vec::new() };
        let size = self.limit.size;
        let behind = std::iter::successors(aim.behind.next(size), |segment| segment.next(size));
        let segments = behind.take(aim.segments as usize);
        segments.take_while(|segment| self.end.is_none_or(|end| *segment < end)).collect()
    }
}

async fn download(archive: WalArchive, stock: Stock, segment: SegmentName) -> Result<Found> {
    let begun = task::blocking(move || stock.begin(segment));
    let Some(part) = begun.await? else { return Ok(Found::Elsewhere) };
    let object = archive.object(WalFileName::Segment(segment)).expect("a segment has one object");
    let target = part.file().try_clone().map_err(cannot_write)?;
    step::reached("prefetch:begun");
    let Some(content) = archive.read_in_chunks(&object, target).await? else {
        return Ok(Found::Absent);
    };
    step::reached("prefetch:written");
    let cluster = archive.expected();
    task::blocking(move || {
        verify(&part, segment, content.raw_length, &cluster)?;
        part.publish(segment, content.digest).map_err(cannot_write)
    })
    .await?;
    step::reached("prefetch:complete");
    Ok(Found::Complete)
}

/// F1: the header is that of the segment; the bytes are authentic already.
fn verify(part: &Part, segment: SegmentName, length: u64, cluster: &ExpectedCluster) -> Result<()> {
    let mut first = [0; LONG_HEADER_BYTES];
    part.file().read_exact_at(&mut first, 0).map_err(cannot_write)?;
    let checked = check_segment(segment, length, &first, cluster);
    checked.map(drop).map_err(|defect| Error::damaged(defect.to_string()))
}

fn cannot_write(error: std::io::Error) -> Error {
    Error::io("cannot write what was fetched ahead", error)
}
