//! The moment at which a command gives up: one for everything it does, retries included.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// When a command must have its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

/// The deadline passed before the work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deadline of this command has passed")]
pub struct DeadlinePassed;

impl Deadline {
    /// A deadline `patience` from now.
    pub fn after(patience: Duration) -> Self {
        Self(Instant::now().checked_add(patience))
    }

    /// No deadline: every single operation still has its own patience.
    pub fn never() -> Self {
        Self(None)
    }

    /// The time that is left, zero when it has passed; `None` without a deadline.
    pub fn remaining(self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// Whether something that takes `duration` would end in time.
    pub fn allows(self, duration: Duration) -> bool {
        self.remaining().is_none_or(|remaining| duration < remaining)
    }

    /// The earlier of this deadline and one `patience` from now.
    #[must_use]
    pub fn at_most(self, patience: Duration) -> Self {
        if self.allows(patience) { Self::after(patience) } else { self }
    }

    /// Waits for `work`, but not past the deadline; then `work` is dropped.
    pub async fn bound<T>(self, work: impl Future<Output = T>) -> Result<T, DeadlinePassed> {
        match self.0 {
            Some(end) => tokio::time::timeout_at(end, work).await.map_err(|_| DeadlinePassed),
            None => Ok(work.await),
        }
    }
}
