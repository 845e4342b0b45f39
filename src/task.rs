//! Concurrency that cannot leak: blocking work off the runtime, bounded fan-out, first error wins, panics propagate.

use std::future::Future;
use std::sync::mpsc::{self, RecvTimeoutError};

use futures::{StreamExt, TryStreamExt};

use crate::deadline::Deadline;
use crate::error::{Error, Result};

/// Does blocking work on a thread of its own and waits for it until `deadline`, without a runtime.
///
/// Work that is not done by then goes on until the process ends: a disk that does not answer keeps nobody.
pub fn in_time<T, F>(deadline: Deadline, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    let (sender, receiver) = mpsc::sync_channel(1);
    let worker = move || {
        // Nobody waits any more when the deadline has passed.
        let _ = sender.send(work());
    };
    std::thread::Builder::new()
        .spawn(worker)
        .map_err(|error| Error::unavailable("cannot start a thread").because(error))?;
    let ended = match deadline.remaining() {
        Some(remaining) => receiver.recv_timeout(remaining),
        None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
    };
    ended.unwrap_or_else(|failure| match failure {
        RecvTimeoutError::Timeout => {
            Err(Error::unavailable("the local disk did not answer in time"))
        }
        RecvTimeoutError::Disconnected => Err(Error::bug("a worker thread panicked")),
    })
}

/// Runs blocking work (files, hashing, compression, encryption) on a blocking thread.
///
/// Dropping the future does not stop the work. A panic in it becomes an error of kind `Bug`.
#[expect(clippy::disallowed_methods, reason = "this is the replacement")]
pub async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failure) => Err(Error::bug("a worker thread panicked").because(failure)),
    }
}

/// Runs blocking work whose failures have a type of their own; a panic in it goes on in the caller.
///
/// Dropping the future does not stop the work.
#[expect(clippy::disallowed_methods, reason = "this is the replacement")]
pub async fn unblock<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}

/// Runs the futures of `work`, at most `limit` at a time, until all are done or one fails.
pub async fn for_each<I, F>(limit: usize, work: I) -> Result<()>
where
    I: IntoIterator<Item = F>,
    F: Future<Output = Result<()>>,
{
    futures::stream::iter(work).buffer_unordered(limit).try_collect().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// E1
    #[test]
    fn a_panic_on_a_thread_of_its_own_is_a_bug() {
        let ended = in_time(Deadline::never(), || -> Result<()> { panic!("broken worker") });
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Bug);
    }

    /// W8
    #[test]
    fn work_that_does_not_end_keeps_nobody() {
        let deadline = Deadline::after(std::time::Duration::ZERO);
        let ended = in_time(deadline, || -> Result<()> {
            std::thread::park();
            Ok(())
        });
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Unavailable);
    }

    /// E1
    #[tokio::test]
    async fn a_panic_on_a_blocking_thread_fails_the_work_and_is_a_bug() {
        let error = blocking(|| -> Result<()> { panic!("broken worker") }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Bug);
    }

    /// E1
    #[tokio::test]
    #[should_panic(expected = "broken worker")]
    async fn a_panic_of_work_with_errors_of_its_own_goes_on_in_the_caller() {
        unblock(|| panic!("broken worker")).await;
    }

    /// E1
    #[tokio::test]
    async fn the_first_error_ends_a_fan_out_before_all_of_it_was_begun() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let begun = AtomicU32::new(0);
        let work = (0..100).map(|number| {
            let begun = &begun;
            async move {
                begun.fetch_add(1, Ordering::Relaxed);
                if number == 3 { Err(Error::damaged("the fourth")) } else { Ok(()) }
            }
        });
        assert_eq!(for_each(2, work).await.unwrap_err().to_string(), "the fourth");
        assert!(begun.into_inner() < 100);
    }
}
