//! Tries again what may get better, within one deadline, and finds out what became of an answer that was lost.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::same;
use crate::storage::retry::RetryPolicy;
use crate::storage::{
    Body, ByteRange, ByteStream, ObjectInfo, ObjectKey, ObjectPrefix, PutMode, Storage,
    StorageError,
};

/// A store whose operations are tried again under a [`RetryPolicy`].
///
/// A stream from `get` resumes by itself in the driver, which alone can pin the object's version.
#[derive(Debug)]
pub struct Retrying {
    inner: Arc<dyn Storage>,
    policy: RetryPolicy,
}

impl Retrying {
    /// Puts retries around `inner`.
    pub fn new(inner: Arc<dyn Storage>, policy: RetryPolicy) -> Self {
        Self { inner, policy }
    }

    /// One attempt of a put. `in_doubt` says that an earlier one may have reached the store although its answer did
    /// not reach us.
    async fn attempt_put(
        &self,
        key: &ObjectKey,
        body: &Body,
        mode: PutMode,
        in_doubt: &AtomicBool,
    ) -> Result<(), StorageError> {
        match self.inner.put(key, body.clone(), mode).await {
            Err(taken) if taken.is_already_exists() && in_doubt.load(Ordering::Relaxed) => {
                self.settle(key, body, taken).await
            }
            Err(failure) if failure.is_unavailable() => {
                in_doubt.store(true, Ordering::Relaxed);
                Err(failure)
            }
            other => other,
        }
    }

    /// The name is taken after an attempt whose outcome is unknown: ours, when it holds exactly our bytes.
    ///
    /// A body that is produced anew for every attempt may differ each time; then the caller, who knows what the bytes
    /// mean, compares.
    async fn settle(
        &self,
        key: &ObjectKey,
        body: &Body,
        taken: StorageError,
    ) -> Result<(), StorageError> {
        let Some(bytes) = body.as_bytes() else { return Err(taken) };
        match same::content(self.inner.as_ref(), key, bytes.clone()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(taken),
            Err(failure) => Err(failure),
        }
    }
}

#[async_trait]
impl Storage for Retrying {
    async fn put(&self, key: &ObjectKey, body: Body, mode: PutMode) -> Result<(), StorageError> {
        let in_doubt = AtomicBool::new(false);
        self.policy.run(|| self.attempt_put(key, &body, mode, &in_doubt)).await
    }

    async fn get(&self, key: &ObjectKey, range: ByteRange) -> Result<ByteStream, StorageError> {
        self.policy.run(|| self.inner.get(key, range)).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StorageError> {
        self.policy.run(|| self.inner.head(key)).await
    }

    /// Goes on behind the last object seen; a page that arrived resets the patience.
    fn list(
        &self,
        prefix: &ObjectPrefix,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectInfo, StorageError>> {
        let listing = Listing { prefix: prefix.clone(), seen: after.cloned(), open: None };
        futures::stream::try_unfold(listing, move |listing| self.next_listed(listing)).boxed()
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        self.policy.run(|| self.inner.delete(keys)).await
    }

    async fn now(&self) -> Result<SystemTime, StorageError> {
        self.policy.run(|| self.inner.now()).await
    }

    async fn remove_leftovers(&self, age: Duration) -> Result<u64, StorageError> {
        self.policy.run(|| self.inner.remove_leftovers(age)).await
    }
}

/// How far a listing has come.
struct Listing<'a> {
    prefix: ObjectPrefix,
    seen: Option<ObjectKey>,
    open: Option<BoxStream<'a, Result<ObjectInfo, StorageError>>>,
}

impl Retrying {
    async fn next_listed<'a>(
        &'a self,
        listing: Listing<'a>,
    ) -> Result<Option<(ObjectInfo, Listing<'a>)>, StorageError> {
        let Listing { prefix, seen, open } = listing;
        let open = tokio::sync::Mutex::new(open);
        let next = self
            .policy
            .run(|| async {
                let mut open = open.lock().await;
                let stream = open.get_or_insert_with(|| self.inner.list(&prefix, seen.as_ref()));
                let next = stream.try_next().await;
                if next.is_err() {
                    *open = None;
                }
                next
            })
            .await?;
        Ok(next.map(|info| {
            let seen = Some(info.key.clone());
            (info, Listing { prefix, seen, open: open.into_inner() })
        }))
    }
}

impl fmt::Display for Retrying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
