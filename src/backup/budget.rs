//! The one bound of a backup's memory, in bytes: whatever holds blocks or packs holds a part of it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of blocks, chunks and packs that may be in memory at a time.
///
/// Room for the pack that is filled, two that are being stored, and the chunks on their way: with the program
/// itself the process stays below 160 MiB.
const MEMORY_BYTES: u32 = 104 << 20;

/// Shared by everything that needs memory in proportion to the data. Cloning shares.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<Semaphore>);

/// A part of the budget; given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation(OwnedSemaphorePermit);

impl Budget {
    /// A budget of which nothing is taken.
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MEMORY_BYTES as usize)))
    }

    /// Waits until `bytes` are free, in the order of asking. Cancel safe.
    ///
    /// More than the whole budget is granted as the whole: one oversized object must not wait for ever.
    pub(super) async fn reserve(&self, bytes: u64) -> Reservation {
        let bytes = u32::try_from(bytes).unwrap_or(MEMORY_BYTES).min(MEMORY_BYTES);
        let permit = Arc::clone(&self.0).acquire_many_owned(bytes).await;
        Reservation(permit.expect("the semaphore is never closed"))
    }
}

impl Reservation {
    /// Gives back what exceeds `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: u64) {
        let excess = (self.0.num_permits() as u64).saturating_sub(bytes);
        drop(self.0.split(excess as usize));
    }

    /// Takes over another reservation of the same budget.
    pub(super) fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_given_back_can_be_reserved_again() {
        let budget = Budget::new();
        let mut all = budget.reserve(u64::MAX).await;
        assert_eq!(budget.0.available_permits(), 0);
        all.shrink_to(10);
        let mut rest = budget.reserve(u64::from(MEMORY_BYTES) - 10).await;
        rest.merge(all);
        drop(rest);
        assert_eq!(budget.0.available_permits(), MEMORY_BYTES as usize);
    }
}
