//! `backup.rate_limit`: how fast the data directory is read.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Spreads reads evenly over time.
pub(super) struct RateLimit {
    bytes_per_second: Option<u64>,
    /// When the bytes that were granted so far have all been earned.
    earned: Mutex<Instant>,
}

impl RateLimit {
    /// At most so many bytes per second; as fast as it goes when none are given.
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, earned: Mutex::new(Instant::now()) }
    }

    /// Waits until `bytes` may be read. Cancel safe, though what was granted stays granted.
    pub(super) async fn wait(&self, bytes: u64) {
        if let Some(begin) = self.grant(bytes, Instant::now()) {
            tokio::time::sleep_until(begin).await;
        }
    }

    /// When reading may begin.
    fn grant(&self, bytes: u64, now: Instant) -> Option<Instant> {
        let rate = self.bytes_per_second.filter(|rate| *rate > 0)?;
        let mut earned = self.earned.lock().expect("computing a time does not panic");
        let begin = (*earned).max(now);
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
        *earned = begin + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        Some(begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reads_are_spread_over_time() {
        let limit = RateLimit::new(Some(1000));
        let now = Instant::now();
        let begin = |bytes| limit.grant(bytes, now).unwrap() - now;
        assert_eq!(begin(500).as_millis(), 0);
        assert_eq!(begin(2000).as_millis(), 500);
        assert_eq!(begin(1).as_millis(), 2500);
        assert_eq!(RateLimit::new(None).grant(1 << 40, now), None);
    }
}
