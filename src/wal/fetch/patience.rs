//! How long a fetch may take: long where PostgreSQL would stop, short where it asks again or is about to be promoted.
//!
//! A promotion asks for about five files in sequence and waits for each answer (P2). So a standby's calls are short,
//! shorter still after one that missed its deadline, and as short when a promotion is asked for.

use std::future::{Future, pending};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::situation::{Situation, promotion_is_asked};
use crate::config::WalSettings;
use crate::deadline::Deadline;
use crate::durable::{self, Existing};
use crate::error::{Error, ErrorKind, Result};
use crate::repository::Site;

/// What a call gets after one that missed its deadline, and while a promotion waits.
const HURRIED: Duration = Duration::from_secs(3);

/// How long a missed deadline makes the following calls short.
const MEMORY: Duration = Duration::from_mins(1);

/// How often the working directory is looked at for a promotion.
const PROMOTION_LOOK: Duration = Duration::from_millis(100);

const MARK_MODE: u32 = 0o600;
const SPOOL_MODE: u32 = 0o700;

/// The patience of one call.
#[derive(Debug)]
pub(super) struct Patience {
    situation: Situation,
    began: Instant,
    deadline: Deadline,
    mark: Option<PathBuf>,
}

impl Patience {
    /// The patience of a call that begins now.
    pub(super) fn new(situation: Situation, settings: &WalSettings, site: Option<&Site>) -> Self {
        let mark = site.and_then(mark_of).filter(|_| situation.is_hurried());
        let patience = if !situation.is_hurried() {
            settings.fetch_timeout
        } else if mark.as_deref().is_some_and(is_fresh) {
            settings.standby_fetch_timeout.min(HURRIED)
        } else {
            settings.standby_fetch_timeout
        };
        Self { situation, began: Instant::now(), deadline: Deadline::after(patience), mark }
    }

    /// When the call gives up.
    pub(super) fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// How long to wait for a helper that is downloading what is asked for, before fetching it here.
    pub(super) fn for_helper(&self) -> Duration {
        const AT_MOST: Duration = Duration::from_secs(30);
        const HURRIED_AT_MOST: Duration = Duration::from_secs(1);
        let most = if self.situation.is_hurried() { HURRIED_AT_MOST } else { AT_MOST };
        self.deadline.remaining().map_or(most, |remaining| most.min(remaining / 2))
    }

    /// Waits for `work`, but no longer than patience lasts.
    pub(super) async fn bound<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let ended = tokio::select! {
            ended = self.deadline.bound(work) => ended.unwrap_or_else(|passed| {
                Err(Error::unavailable("the store did not answer in time").because(passed))
            }),
            () = self.promotion() => {
                Err(Error::unavailable("the store did not answer, and a promotion waits"))
            }
        };
        if let Err(error) = &ended {
            self.remember(error);
        }
        ended
    }

    /// Ends when a promotion is asked for and the store has had its chance to answer.
    async fn promotion(&self) {
        if self.situation != Situation::Standby {
            return pending().await;
        }
        while !promotion_is_asked() {
            sleep(PROMOTION_LOOK).await;
        }
        sleep_until(self.began + HURRIED).await;
    }

    /// Leaves a mark after a call that took long and learned nothing; without a spool nothing is remembered.
    fn remember(&self, error: &Error) {
        let slow = error.kind() == ErrorKind::Unavailable && self.began.elapsed() >= HURRIED;
        let Some(mark) = self.mark.as_deref().filter(|_| slow) else { return };
        if let Err(error) = leave(mark) {
            tracing::debug!(mark = %mark.display(), %error, "a missed deadline is not remembered");
        }
    }
}

/// One mark for every data directory: several may share a spool.
fn mark_of(site: &Site) -> Option<PathBuf> {
    Some(site.spool()?.join(format!("standby-fetch-missed-{}", site.tag())))
}

fn is_fresh(mark: &Path) -> bool {
    let modified = std::fs::metadata(mark).and_then(|metadata| metadata.modified());
    // A mark from the future is no mark: the clock was set back.
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age < MEMORY))
}

fn leave(mark: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if let Some(spool) = mark.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(SPOOL_MODE).create(spool)?;
    }
    durable::write(mark, b"", MARK_MODE, Existing::Replace)
}
