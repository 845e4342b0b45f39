//! How often and how long something is tried again: S10 in one place.

use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use backon::Retryable;

use super::{StorageError, StorageErrorKind};
use crate::deadline::Deadline;
use crate::error::chain;

/// Exponential pauses with full jitter, bounded by the command's deadline and by the patience of one operation.
///
/// Only `Unavailable` is tried again, and a pause that the server asked for is kept.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// The command's deadline.
    pub deadline: Deadline,
    /// How long one operation, or one silence of a stream, is tried where the deadline leaves more time.
    pub patience: Duration,
    /// Bound of the first pause; it doubles from failure to failure.
    pub first_pause: Duration,
    /// Bound of every pause.
    pub longest_pause: Duration,
}

impl RetryPolicy {
    /// The usual policy for a command with this deadline.
    pub fn until(deadline: Deadline) -> Self {
        Self {
            deadline,
            patience: Duration::from_mins(10),
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(20),
        }
    }

    /// Runs `attempt` until it succeeds, fails for good, or time is up.
    pub(super) async fn run<T, F, A>(&self, attempt: F) -> Result<T, StorageError>
    where
        F: Fn() -> A + Send,
        A: Future<Output = Result<T, StorageError>> + Send,
    {
        let end = self.deadline.at_most(self.patience);
        let history = Mutex::new(String::new());
        let bounded = || async {
            match end.bound(attempt()).await {
                Ok(result) => result,
                Err(passed) => Err(out_of_time(&history).because(passed)),
            }
        };
        bounded
            .retry(self.pauses())
            .when(StorageError::is_unavailable)
            .adjust(|error, pause| {
                let pause = pause?.max(error.asked_pause().unwrap_or_default());
                end.allows(pause).then_some(pause)
            })
            .notify(|error, pause| {
                let error = chain(error);
                tracing::warn!(error, pause_ms = pause.as_millis(), "trying again");
                *history.lock().expect("no panic while held") = error;
            })
            .await
    }

    /// The pauses after one failure, two, three and so on.
    pub(super) fn pauses(&self) -> FullJitter {
        FullJitter { bound: self.first_pause, longest: self.longest_pause }
    }
}

fn out_of_time(history: &Mutex<String>) -> StorageError {
    let last = history.lock().expect("no panic while held");
    let what = match last.as_str() {
        "" => "no answer in time".to_owned(),
        last => format!("no answer in time; before that: {last}"),
    };
    StorageError::new(StorageErrorKind::Unavailable, what)
}

/// Endless random pauses below a bound that doubles up to the longest.
#[derive(Debug, Clone)]
pub(super) struct FullJitter {
    bound: Duration,
    longest: Duration,
}

impl Iterator for FullJitter {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let bound = self.bound.min(self.longest);
        self.bound = bound * 2;
        // Without randomness the bound itself is a good pause.
        let fraction =
            getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
        Some(bound.mul_f64(fraction))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn brisk(deadline: Deadline) -> RetryPolicy {
        let (first_pause, longest_pause) = (Duration::from_millis(1), Duration::from_millis(4));
        RetryPolicy { first_pause, longest_pause, ..RetryPolicy::until(deadline) }
    }

    fn failure(kind: StorageErrorKind) -> StorageError {
        StorageError::new(kind, "it failed")
    }

    async fn attempts_until(policy: &RetryPolicy, last: Result<(), StorageErrorKind>) -> u32 {
        let count = AtomicU32::new(0);
        let result = policy
            .run(|| async {
                match count.fetch_add(1, Ordering::Relaxed) {
                    0 | 1 => Err(failure(StorageErrorKind::Unavailable)),
                    _ => last.map_err(failure),
                }
            })
            .await;
        assert_eq!(result.map_err(|error| error.kind()), last);
        count.into_inner()
    }

    /// S10
    #[test]
    fn pauses_are_random_below_a_bound_that_doubles_up_to_a_cap() {
        for (number, bound_ms) in
            [200, 400, 800, 1600, 3200, 6400, 12800, 20000, 20000].iter().enumerate()
        {
            let many: Vec<_> = (0..200)
                .map(|_| {
                    RetryPolicy::until(Deadline::never()).pauses().nth(number).expect("endless")
                })
                .collect();
            let bound = Duration::from_millis(*bound_ms);
            assert!(many.iter().all(|pause| *pause <= bound), "pause {number}");
            // 200 draws of a uniform distribution on both sides of its middle.
            assert!(many.iter().any(|pause| *pause < bound / 2), "pause {number}");
            assert!(many.iter().any(|pause| *pause > bound / 2), "pause {number}");
        }
    }

    /// S10
    #[tokio::test]
    async fn only_what_may_get_better_is_tried_again() {
        use StorageErrorKind::{AlreadyExists, Damaged, Denied, Invalid, NotFound};
        let policy = brisk(Deadline::never());
        assert_eq!(attempts_until(&policy, Ok(())).await, 3);
        for kind in [AlreadyExists, Damaged, Denied, Invalid, NotFound] {
            assert_eq!(attempts_until(&policy, Err(kind)).await, 3, "{kind:?} ends it");
        }
    }

    /// S10, W8
    #[tokio::test(start_paused = true)]
    async fn the_deadline_ends_an_attempt_that_hangs_and_the_message_tells_the_last_failure() {
        let policy = brisk(Deadline::after(Duration::from_secs(5)));
        let count = AtomicU32::new(0);
        let attempt = || async {
            if count.fetch_add(1, Ordering::Relaxed) == 0 {
                return Err(failure(StorageErrorKind::Unavailable));
            }
            std::future::pending::<Result<(), _>>().await
        };
        let error = policy.run(attempt).await.expect_err("it hangs");
        assert_eq!(error.kind(), StorageErrorKind::Unavailable);
        assert!(error.to_string().contains("it failed"), "{error}");
    }

    /// S10
    #[tokio::test(start_paused = true)]
    async fn a_pause_that_the_server_asks_for_is_kept() {
        let policy = brisk(Deadline::never());
        let (begin, count) = (tokio::time::Instant::now(), AtomicU32::new(0));
        let attempt = || async {
            match count.fetch_add(1, Ordering::Relaxed) {
                0 => {
                    Err(failure(StorageErrorKind::Unavailable).retry_after(Duration::from_secs(7)))
                }
                _ => Ok(()),
            }
        };
        policy.run(attempt).await.expect("the second attempt succeeds");
        assert!(begin.elapsed() >= Duration::from_secs(7));
    }

    /// S10
    #[tokio::test(start_paused = true)]
    async fn a_pause_beyond_the_deadline_is_not_begun() {
        let policy = brisk(Deadline::after(Duration::from_secs(5)));
        let begin = tokio::time::Instant::now();
        let attempt = || async {
            Err::<(), _>(failure(StorageErrorKind::Unavailable).retry_after(Duration::from_mins(1)))
        };
        let error = policy.run(attempt).await.expect_err("it fails");
        assert_eq!(error.to_string(), "it failed");
        assert!(begin.elapsed() < Duration::from_secs(1));
    }
}
