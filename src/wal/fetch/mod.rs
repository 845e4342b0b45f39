//! `wal-fetch`: one file out of the repository, proof that there is none, or a failure; never a guess.
//!
//! PostgreSQL ends recovery and promotes when it is told that a file does not exist. So absence is told only when an
//! authenticated answer proved it in the right repository (S8), the file is no hole (F7), and the branch is not
//! abandoned (F8). Owns these decisions and the patience; does not own exit statuses (`cli/`).

mod abandoned;
mod absence;
mod ahead;
mod destination;
mod patience;
mod situation;
mod wanted;

use std::cell::OnceCell;
use std::ffi::OsString;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, OptionFuture, ready, select};
use tokio::time::{Instant, sleep};

use self::absence::Missing;
use self::ahead::{Ahead, Filling, beside};
use self::destination::Destination;
use self::patience::Patience;
use self::situation::Situation;
pub use self::situation::status_of_failure;
use self::wanted::Wanted;
use super::place::{Certainty, Place};
use super::prefetch::{Host, Stock, Waited};
use super::spool::{Binding, Meant};
use crate::config::Settings;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::postgres::{SystemIdentifier, WalFileName};
use crate::repository::{Repository, Site, WalArchive};
use crate::step;

/// How long a hole may be one that is about to be filled: parallel pushes land out of order.
const HOLE_PATIENCE: Duration = Duration::from_mins(1);

/// How long to wait before looking at a hole again.
const HOLE_PAUSE: Duration = Duration::from_secs(1);

/// What became of a file that PostgreSQL asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// It lies at its destination, verified and durable.
    Delivered,
    /// It is proven that it does not exist, and nothing says that it ever should.
    ProvenAbsent,
}

/// One file that PostgreSQL asked for, and where it goes.
#[derive(Debug)]
pub struct Request {
    wanted: Wanted,
    destination: Destination,
    place: Place,
    situation: Situation,
    patience: Patience,
    named_cluster: Option<SystemIdentifier>,
    allowed_gap: Option<WalFileName>,
    stock: Option<Stock>,
    ahead: Option<Ahead>,
}

impl Request {
    /// Reads PostgreSQL's `%f` and `%p`, and what the working directory says about the server.
    ///
    /// `named_cluster` is the cluster that the command line names.
    pub fn new(
        name: &str,
        destination: &Path,
        named_cluster: Option<SystemIdentifier>,
        meant: Meant<'_>,
    ) -> Result<Self> {
        let settings = meant.settings;
        let place =
            Place::around(destination, settings.pgdata.as_deref(), settings.spool.as_deref())?;
        let wanted: Wanted = name.parse()?;
        let situation = Situation::around(wanted.file());
        let mut request = Self {
            wanted,
            destination: Destination::new(destination)?,
            patience: Patience::new(situation, &settings.wal, place.site()),
            place,
            situation,
            named_cluster,
            allowed_gap: allowed_gap(settings)?,
            stock: None,
            ahead: None,
        };
        request.find_stock(meant).unwrap_or_else(|error| {
            tracing::debug!(error = %error.chain(), "nothing is taken from the spool");
        });
        Ok(request)
    }

    /// Looks for the place of prefetched segments; opening the repository will report whatever is wrong.
    fn find_stock(&mut self, meant: Meant<'_>) -> Result<()> {
        let (Some(site), Some(control)) = (self.place.site(), self.place.control()?) else {
            return Ok(());
        };
        let cluster = control.cluster();
        if self.named_cluster.is_some_and(|named| named != cluster.system_identifier) {
            return Ok(());
        }
        let binding = Binding::by_witness(site, meant, cluster.system_identifier)?;
        let Some(stock) = binding.and_then(|binding| Stock::of(site, &binding)) else {
            return Ok(());
        };
        if let WalFileName::Segment(segment) = self.wanted.file() {
            let (site, stock, wal) = (site.clone(), stock.clone(), &meant.settings.wal);
            self.ahead = Ahead::of(segment, site, stock, cluster, self.situation, wal);
        }
        self.stock = Some(stock);
        Ok(())
    }

    /// Delivers a segment that was fetched ahead; false when it must be fetched. Blocking; asks nothing of the network.
    ///
    /// `options` are those of this command: a helper that has to be started gets them.
    pub fn take_from_spool(&self, options: &[OsString]) -> bool {
        let Some(ahead) = &self.ahead else { return false };
        let taken = ahead.take(&self.destination, self.patience.for_helper());
        match taken {
            Ok(None) => false,
            Ok(Some(waited)) => {
                tracing::info!(file = %self.wanted, ?waited, "was fetched ahead");
                step::reached("wal-fetch:delivered");
                if let Some(host) = ahead.host() {
                    ahead.tell_helper(host, waited, options);
                }
                true
            }
            Err(error) => {
                tracing::debug!(error = %error.chain(), "not taken from the spool");
                false
            }
        }
    }

    /// When the command gives up.
    pub fn deadline(&self) -> Deadline {
        self.patience.deadline()
    }

    /// The local places of the data directory.
    pub fn site(&self) -> Option<&Site> {
        self.place.site()
    }

    /// Fetches the file; `opening` opens the repository, which must exist. `options` are as in
    /// [`Request::take_from_spool`].
    pub async fn fetch(
        &self,
        opening: impl Future<Output = Result<Repository>>,
        options: &[OsString],
    ) -> Result<Fetched> {
        let host = self.ahead.as_ref().and_then(Ahead::host);
        let opened = OnceCell::new();
        let mut filling = None;
        let work = async {
            let repository = opening.await?;
            let archive = WalArchive::of(&repository, self.cluster(&repository)?)?;
            if let (Some(ahead), Some(Host::This)) = (&self.ahead, &host) {
                filling = Some(ahead.filling(&archive));
            }
            self.fetch_from(opened.get_or_init(|| archive), filling.as_mut()).await
        };
        let starting =
            OptionFuture::from(self.helper_to_start(host.as_ref(), options).map(Box::pin));
        let (fetched, starting) = {
            let fetching = pin!(self.patience.bound(work));
            match select(fetching, starting).await {
                Either::Left((fetched, starting)) => (fetched, starting.left_future()),
                Either::Right((told, fetching)) => (fetching.await, ready(told).right_future()),
            }
        };
        let fetched =
            fetched.map_err(|error| error.context(format!("cannot fetch `{}`", self.wanted)))?;
        // The answer is known; nothing from here on can change it.
        match (&self.ahead, host, opened.get()) {
            (Some(ahead), Some(host), Some(archive)) if fetched == Fetched::Delivered => {
                let told = match (&filling, starting.await) {
                    (Some(_), _) => false,
                    (None, Some(told)) => told,
                    (None, None) => ahead.tell_helper(host, Waited::Yes, options),
                };
                if !told {
                    ahead.finish(filling.unwrap_or_else(|| ahead.filling(archive))).await;
                }
            }
            _ => self.leave_spool(),
        }
        Ok(fetched)
    }

    /// The start of a helper beside the first segment of a recovery; none where one runs or cannot be.
    ///
    /// A standby asks again and again for what does not exist, and would start a helper for nothing each time.
    fn helper_to_start(
        &self,
        host: Option<&Host>,
        options: &[OsString],
    ) -> Option<impl Future<Output = bool> + use<>> {
        match (&self.ahead, host) {
            (Some(ahead), Some(Host::ToStart(launch))) if self.situation == Situation::Recovery => {
                Some(ahead.clone().start_beside(launch.clone(), options.to_owned()))
            }
            _ => None,
        }
    }

    /// Recovery is over when a promotion asks its last question.
    fn leave_spool(&self) {
        let stock = self.stock.as_ref().filter(|_| self.situation == Situation::Promotion);
        if let Some(Err(error)) = stock.map(Stock::clear) {
            tracing::debug!(error = %error.chain(), "what was fetched ahead stays in the spool");
        }
    }

    async fn fetch_from(
        &self,
        archive: &WalArchive,
        mut filling: Option<&mut Filling<'_>>,
    ) -> Result<Fetched> {
        let began = Instant::now();
        loop {
            let missing = match self.abandoned(archive).await? {
                Some(abandoned) => Some(abandoned),
                None if self.deliver(archive, filling.take()).await? => {
                    return Ok(Fetched::Delivered);
                }
                None => absence::explain(archive, self.wanted.file()).await?,
            };
            match missing {
                Some(missing) if !self.may_end_at(&missing) => {
                    if !self.may_still_arrive(&missing, began) {
                        return Err(missing.into_error(self.wanted.file()));
                    }
                    tracing::debug!(file = %self.wanted, "a hole; looking again");
                    step::reached("wal-fetch:hole");
                    sleep(HOLE_PAUSE).await;
                }
                // The only place that tells of absence (F2).
                _ => {
                    archive.repository().confirm(archive.cluster()).await?;
                    return Ok(Fetched::ProvenAbsent);
                }
            }
        }
    }

    /// The cluster whose WAL is wanted: the one of the data directory, which the command line must not contradict.
    fn cluster(&self, repository: &Repository) -> Result<SystemIdentifier> {
        let found = self.place.control()?.map(|control| control.system_identifier);
        match (self.named_cluster, found) {
            (Some(named), Some(found))
                if named != found && self.place.certainty() == Certainty::Seen =>
            {
                Err(Error::refused(format!("the data directory belongs to the cluster `{found}`"))
                    .because(format!("`--system-identifier` names `{named}`")))
            }
            (Some(named), _) => Ok(named),
            (None, Some(found)) => Ok(found),
            (None, None) => {
                let newest = repository.newest_cluster();
                tracing::warn!(cluster = %newest, "no data directory is known; the repository's newest cluster is meant");
                Ok(newest)
            }
        }
    }

    async fn deliver(
        &self,
        archive: &WalArchive,
        filling: Option<&mut Filling<'_>>,
    ) -> Result<bool> {
        let Some(object) = self.wanted.object(archive).await? else { return Ok(false) };
        let delivering =
            self.destination.deliver(archive, &object, self.wanted.file(), archive.expected());
        let delivered = match filling {
            Some(filling) => beside(filling, delivering).await?,
            None => delivering.await?,
        };
        step::reached("wal-fetch:delivered");
        Ok(delivered)
    }

    /// A segment that exists but lies on a branch that this recovery has left (F8).
    async fn abandoned(&self, archive: &WalArchive) -> Result<Option<Missing>> {
        let (WalFileName::Segment(segment), true) = (self.wanted.file(), self.situation.replays())
        else {
            return Ok(None);
        };
        let Some(branch) = abandoned::branch_of(segment, archive.segment_size())? else {
            return Ok(None);
        };
        Ok(archive.segment_exists(segment).await?.then_some(Missing::Abandoned(branch)))
    }

    /// Whether the operator said that recovery may end here.
    fn may_end_at(&self, missing: &Missing) -> bool {
        let allowed = self.allowed_gap == Some(self.wanted.file());
        if allowed {
            tracing::warn!(file = %self.wanted, %missing, "recovery may end here: `wal.allow_gap_at` names it");
        }
        allowed
    }

    fn may_still_arrive(&self, missing: &Missing, began: Instant) -> bool {
        self.situation == Situation::Recovery
            && missing.may_be_filled()
            && began.elapsed() < HOLE_PATIENCE
    }
}

fn allowed_gap(settings: &Settings) -> Result<Option<WalFileName>> {
    let Some(text) = &settings.wal.allow_gap_at else { return Ok(None) };
    let expected =
        "name a segment like `000000010000000000000042`, or a history like `00000002.history`";
    match text.parse() {
        Ok(name @ (WalFileName::Segment(_) | WalFileName::History(_))) => Ok(Some(name)),
        _ => Err(Error::usage(format!("`wal.allow_gap_at` is `{text}`")).hint(expected)),
    }
}
