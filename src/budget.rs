//! One bound for the memory of a piece of work, in bytes: whatever holds data holds a part of it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Shared by everything that needs memory in proportion to the data. Cloning shares.
#[derive(Debug, Clone)]
pub struct Budget {
    free: Arc<Semaphore>,
    bytes: u32,
}

/// A part of a budget; given back when dropped.
#[derive(Debug)]
pub struct Reservation(OwnedSemaphorePermit);

impl Budget {
    /// A budget of `bytes`, of which nothing is taken.
    pub fn of(bytes: u32) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes as usize)), bytes }
    }

    /// Waits until `bytes` are free, in the order of asking. Cancel safe.
    ///
    /// More than the whole budget is granted as the whole: one oversized object must not wait for ever.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        let bytes = u32::try_from(bytes).unwrap_or(self.bytes).min(self.bytes);
        let permit = Arc::clone(&self.free).acquire_many_owned(bytes).await;
        Reservation(permit.expect("the semaphore is never closed"))
    }

    /// Takes `bytes` when they are free now.
    pub fn try_reserve(&self, bytes: u64) -> Option<Reservation> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.free).try_acquire_many_owned(bytes).ok().map(Reservation)
    }
}

impl Reservation {
    /// Gives back what exceeds `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let excess = (self.0.num_permits() as u64).saturating_sub(bytes);
        drop(self.0.split(excess as usize));
    }

    /// Takes over another reservation of the same budget.
    pub fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_given_back_can_be_reserved_again() {
        let budget = Budget::of(1000);
        let mut all = budget.reserve(u64::MAX).await;
        assert_eq!(budget.free.available_permits(), 0);
        all.shrink_to(10);
        let mut rest = budget.reserve(990).await;
        rest.merge(all);
        drop(rest);
        assert_eq!(budget.free.available_permits(), 1000);
    }
}
