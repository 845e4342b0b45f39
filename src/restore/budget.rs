//! One bound for the bytes that all reads of a restore hold in memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory for stored bytes, and for what they open to, of all reads in flight.
pub(super) const BUDGET_BYTES: u64 = 48 << 20;
const UNIT_BYTES: u64 = 4096;

/// Hands out parts of the budget; a part is given back when it is dropped.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    /// The whole budget, unused.
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(units(BUDGET_BYTES) as usize)))
    }

    /// Waits for `bytes`. A request above the whole budget gets all of it, alone.
    pub(super) async fn take(&self, bytes: u64) -> OwnedSemaphorePermit {
        let units = units(bytes.clamp(1, BUDGET_BYTES));
        let taken = Arc::clone(&self.0).acquire_many_owned(units).await;
        taken.expect("the budget is never closed")
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).expect("the budget is small")
}
