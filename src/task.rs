//! Concurrency that cannot leak: blocking work off the runtime, bounded fan-out, first error wins, panics propagate.

use std::future::Future;

use futures::{StreamExt, TryStreamExt};

use crate::error::{Error, Result};

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
