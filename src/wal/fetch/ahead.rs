//! What a fetch has to do with the segments ahead: it takes its own from the spool, and sees to it that the next ones
//! will be there.

use std::ffi::OsString;
use std::fs::File;
use std::future::Future;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Fuse, FusedFuture, LocalBoxFuture};

use super::abandoned;
use super::destination::Destination;
use super::situation::Situation;
use crate::config::WalSettings;
use crate::deadline::Deadline;
use crate::durable;
use crate::error::{Error, Result};
use crate::postgres::{ExpectedCluster, LONG_HEADER_BYTES, SegmentName, check_segment};
use crate::repository::{Site, WalArchive};
use crate::step;
use crate::task;
use crate::wal::prefetch::{Aim, Entry, Filler, Host, Launch, Limit, Pace, Stock, Waited, tell};

/// How much is read at once to hash it: it stays in the cache between reading and hashing.
const READ_BYTES: usize = 128 << 10;

const PACE_FILE: &str = "pace.json";
const PACE_MODE: u32 = 0o600;

/// The work of fetching segments ahead in this process; dropping it gives up what is under way.
pub(super) type Filling<'a> = Fuse<LocalBoxFuture<'a, ()>>;

/// One asked segment and the ones behind it.
#[derive(Debug, Clone)]
pub(super) struct Ahead {
    site: Site,
    stock: Stock,
    segment: SegmentName,
    cluster: ExpectedCluster,
    limit: Limit,
    situation: Situation,
    /// How long to wait for the segments behind, where this process fetches them.
    wait: Duration,
}

impl Ahead {
    /// `None` when the settings allow no segment ahead.
    pub(super) fn of(
        segment: SegmentName,
        site: Site,
        stock: Stock,
        cluster: ExpectedCluster,
        situation: Situation,
        settings: &WalSettings,
    ) -> Option<Self> {
        let limit = Limit::of(settings, cluster.segment_size)?;
        let wait = settings.fetch_ahead_wait;
        Some(Self { site, stock, segment, cluster, limit, situation, wait })
    }

    /// Delivers the asked segment from the spool; `None` when it must be fetched. Blocking.
    ///
    /// Waits up to `patience` for a helper that is downloading it. A branch that this recovery has left is not for the
    /// spool to judge (F8).
    pub(super) fn take(
        &self,
        destination: &Destination,
        patience: Duration,
    ) -> Result<Option<Waited>> {
        let size = self.cluster.segment_size;
        if self.situation.replays() && abandoned::branch_of(self.segment, size)?.is_some() {
            return Ok(None);
        }
        if self.deliver(destination)? {
            return Ok(Some(Waited::No));
        }
        let Some(part) = self.stock.under_way(self.segment) else {
            // It may have become complete between the two looks.
            return Ok(self.deliver(destination)?.then_some(Waited::Yes));
        };
        step::reached("wal-fetch:under-way");
        // The lock comes when its writer is done with it, or dead.
        let waiting = task::in_time(Deadline::after(patience), move || {
            part.lock_shared().map_err(|error| Error::io("cannot wait for a helper", error))
        });
        waiting?;
        Ok(self.deliver(destination)?.then_some(Waited::Yes))
    }

    fn deliver(&self, destination: &Destination) -> Result<bool> {
        let Some(entry) = self.stock.find(self.segment)? else { return Ok(false) };
        if !self.is_sound(&entry)? {
            tracing::warn!(segment = %self.segment, "what lay in the spool was damaged; fetching it again");
            self.stock.remove(&entry)?;
            return Ok(false);
        }
        step::reached("wal-fetch:hit");
        destination.take_over(&entry.path)?;
        Ok(true)
    }

    /// Whether a complete segment still is what was put there (F3).
    fn is_sound(&self, entry: &Entry) -> Result<bool> {
        let unreadable =
            |error| Error::io(format!("cannot read `{}`", entry.path.display()), error);
        let file = File::open(&entry.path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let mut first = vec![0; LONG_HEADER_BYTES.min(length as usize)];
        file.read_exact_at(&mut first, 0).map_err(unreadable)?;
        if check_segment(self.segment, length, &first, &self.cluster).is_err() {
            return Ok(false);
        }
        Ok(digest_of(file).map_err(unreadable)? == entry.digest)
    }

    /// Who fills the window.
    pub(super) fn host(&self) -> Option<Host> {
        // Whoever does not replay asks for single segments, or backwards.
        let cluster = self.cluster.system_identifier;
        self.situation.replays().then(|| Host::find(&self.stock, self.site.pgdata(), cluster))
    }

    /// Lets a helper know that the segment was asked for, and starts one where there may be one; false when there
    /// can be none. Blocking, and short. `options` are those of this command.
    pub(super) fn tell_helper(&self, host: Host, waited: Waited, options: &[OsString]) -> bool {
        let mut told = self.try_to_tell(host, waited, options);
        if told.is_err() {
            // A helper may have ended since it was looked for.
            told = self.host().map_or(Ok(false), |host| self.try_to_tell(host, waited, options));
        }
        told.unwrap_or_else(|error| no_helper(&error))
    }

    /// Starts a helper while the asked segment is on its way; false when there can be none. It hears of the segment at once:
    /// how many it is to have behind it does not depend on whether it is delivered.
    pub(super) async fn start_beside(self, launch: Launch, options: Vec<OsString>) -> bool {
        let starting =
            task::blocking(move || self.try_to_tell(Host::ToStart(launch), Waited::Yes, &options));
        starting.await.unwrap_or_else(|error| no_helper(&error))
    }

    fn try_to_tell(&self, host: Host, waited: Waited, options: &[OsString]) -> Result<bool> {
        match host {
            Host::Helper(pipe) => tell(&pipe, self.segment, waited).map(|()| true),
            Host::ToStart(launch) => {
                self.stock.prepare(&self.site)?;
                launch.start(options, self.segment, waited)
            }
            Host::This => Ok(false),
        }
    }

    /// Fetches the segments behind the asked one; ends when all are there that there are.
    pub(super) fn filling(&self, archive: &WalArchive) -> Filling<'_> {
        let mut filler = Filler::new(archive.clone(), self.stock.clone(), self.limit);
        let filling = async move {
            if let Err(error) = self.fill(&mut filler).await {
                tracing::debug!(error = %error.chain(), "nothing more is fetched ahead");
            }
        };
        filling.boxed_local().fuse()
    }

    async fn fill(&self, filler: &mut Filler) -> Result<()> {
        self.aim(filler).await?;
        while filler.is_busy() {
            filler.step().await?;
        }
        Ok(())
    }

    /// Lets a filling go on for a while: PostgreSQL has its segment, and waits for this process to end.
    pub(super) async fn finish(&self, filling: Filling<'_>) {
        if filling.is_terminated() {
            return;
        }
        if Deadline::after(self.wait).bound(filling).await.is_err() {
            tracing::debug!("what is still under way is left to later calls");
        }
    }

    async fn aim(&self, filler: &mut Filler) -> Result<()> {
        let (stock, site, limit, segment) =
            (self.stock.clone(), self.site.clone(), self.limit, self.segment);
        let segments = task::blocking(move || {
            stock.prepare(&site)?;
            let path = stock.file(PACE_FILE);
            let mut pace = read_pace(&path);
            let segments = pace.asked(segment, Waited::Yes, limit);
            let json = serde_json::to_vec(&pace)
                .map_err(|source| Error::bug("cannot write JSON").because(source))?;
            durable::write_unsynced(&path, &json, PACE_MODE)
                .map_err(|error| Error::io(format!("cannot write `{}`", path.display()), error))?;
            Ok(segments)
        });
        let aim = Aim { behind: self.segment, segments: segments.await? };
        filler.aim(aim).await
    }
}

fn no_helper(error: &Error) -> bool {
    tracing::debug!(error = %error.chain(), "no helper fetches ahead");
    false
}

/// The course so far; one that cannot be read is a new one.
fn read_pace(path: &PathBuf) -> Pace {
    let bytes = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Waits for `asked`, which is what counts, while a filling goes on.
pub(super) async fn beside<T>(filling: &mut Filling<'_>, asked: impl Future<Output = T>) -> T {
    let mut asked = pin!(asked);
    loop {
        tokio::select! {
            biased;
            answer = &mut asked => return answer,
            () = &mut *filling, if !filling.is_terminated() => {}
        }
    }
}

fn digest_of(mut file: File) -> std::io::Result<crate::container::ContentDigest> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            length => hasher.update(&buffer[..length]),
        };
    }
}
