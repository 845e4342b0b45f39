//! Signs of life: a writer that is silent for longer than the lease counts as dead.

use std::time::Duration;

use tokio::task::JoinSet;
use tracing::warn;

use super::Target;
use crate::error::{Error, Result};
use crate::repository::ObjectName;

/// A task that puts `alive/<n>` every quarter of the lease; it ends with this value.
pub(super) struct Alive {
    task: JoinSet<()>,
}

impl Alive {
    /// Begins; the intent itself was the first sign.
    pub(super) fn begin(target: &Target, lease: Duration) -> Self {
        let mut task = JoinSet::new();
        task.spawn(keep_signalling(target.clone(), lease / 4));
        Self { task }
    }

    /// Ends; an error when the task had ended by itself.
    pub(super) async fn end(mut self) -> Result<()> {
        self.task.abort_all();
        match self.task.join_next().await {
            Some(Err(end)) if end.is_panic() => {
                Err(Error::bug("the task that signals life panicked").because(end))
            }
            _ => Ok(()),
        }
    }
}

async fn keep_signalling(target: Target, interval: Duration) {
    for number in 1.. {
        tokio::time::sleep(interval).await;
        let name = ObjectName::Alive(target.backup.clone(), number);
        // A missed sign is no failure yet: if the sweeper gives this backup up, the manifest is refused.
        if let Err(error) = target.repository.put(&name, bytes::Bytes::new()).await {
            warn!(object = %name.key(), %error, "cannot signal that this backup is alive");
        }
    }
}
