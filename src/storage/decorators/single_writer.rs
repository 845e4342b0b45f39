//! Creating on a store that overwrites silently: look, write, read back.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use crate::storage::{
    Body, ByteRange, ByteStream, ObjectInfo, ObjectKey, ObjectPrefix, PutMode, Storage,
    StorageError, StorageErrorKind,
};

/// A store without conditional create, used by one writer at a time.
///
/// What falls away: two writers of one name may both look before either writes, and then the later one's object
/// stays, although the earlier one was told of success. Reading back catches it only when the other write came in
/// between. So it is used only when the operator has said `single_writer = true`.
#[derive(Debug)]
pub struct SingleWriter {
    inner: Arc<dyn Storage>,
}

impl SingleWriter {
    /// Puts the weaker promise around `inner`, and says so in the log.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        tracing::warn!(
            repository = %inner,
            "this store has no conditional create: two writers at once can overwrite each other unnoticed"
        );
        Self { inner }
    }

    async fn create(&self, key: &ObjectKey, body: Body) -> Result<(), StorageError> {
        match self.inner.head(key).await {
            Ok(_) => return Err(taken(&self.inner, key)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let (body, sent) = observed(&body);
        self.inner.put(key, body, PutMode::Overwrite).await?;
        self.read_back(key, &sent).await
    }

    async fn read_back(&self, key: &ObjectKey, sent: &Observed) -> Result<(), StorageError> {
        let mut hasher = blake3::Hasher::new();
        let mut parts = self.inner.get(key, ByteRange::Full).await?;
        while let Some(part) = parts.try_next().await? {
            hasher.update(&part);
        }
        if hasher.finalize() == sent.lock().expect("no panic while held").finalize() {
            return Ok(());
        }
        let what = format!("`{}/{key}` does not hold what was just written there", self.inner);
        Err(StorageError::new(StorageErrorKind::Damaged, what)
            .hint("another writer is at work on a store that cannot keep two apart; stop it"))
    }
}

/// The hash of what the last opening of a body has given so far.
type Observed = Arc<Mutex<blake3::Hasher>>;

fn observed(body: &Body) -> (Body, Observed) {
    if let Some(bytes) = body.as_bytes() {
        let mut hasher = blake3::Hasher::new();
        hasher.update(bytes);
        return (body.clone(), Arc::new(Mutex::new(hasher)));
    }
    let observed = Observed::default();
    let (body, hasher) = (body.clone(), Arc::clone(&observed));
    let source = Body::source(move || {
        hasher.lock().expect("no panic while held").reset();
        let hasher = Arc::clone(&hasher);
        let note = move |part: &Bytes| {
            hasher.lock().expect("no panic while held").update(part);
        };
        body.open().inspect_ok(note).boxed()
    });
    (source, observed)
}

fn taken(storage: &Arc<dyn Storage>, key: &ObjectKey) -> StorageError {
    StorageError::new(StorageErrorKind::AlreadyExists, format!("`{storage}/{key}` exists already"))
}

#[async_trait]
impl Storage for SingleWriter {
    async fn put(&self, key: &ObjectKey, body: Body, mode: PutMode) -> Result<(), StorageError> {
        match mode {
            PutMode::Create => self.create(key, body).await,
            PutMode::Overwrite => self.inner.put(key, body, mode).await,
        }
    }

    async fn get(&self, key: &ObjectKey, range: ByteRange) -> Result<ByteStream, StorageError> {
        self.inner.get(key, range).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StorageError> {
        self.inner.head(key).await
    }

    fn list(
        &self,
        prefix: &ObjectPrefix,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectInfo, StorageError>> {
        self.inner.list(prefix, after)
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        self.inner.delete(keys).await
    }

    async fn now(&self) -> Result<SystemTime, StorageError> {
        self.inner.now().await
    }

    async fn remove_leftovers(&self, age: Duration) -> Result<u64, StorageError> {
        self.inner.remove_leftovers(age).await
    }
}

impl fmt::Display for SingleWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
