//! Keys ⇄ byte streams: the one trait every driver implements, and the decorators around it.
//!
//! Owns drivers, retries, limits and what a store's answers mean. Does not own object names
//! (`repository/layout.rs`) or what the bytes are (`container/`).

mod body;
mod connect;
mod decorators;
mod error;
mod fs;
mod key;
mod retry;
mod s3;
mod url;

use std::fmt;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

pub use body::Body;
pub use connect::{ConnectOptions, connect};
pub use decorators::{Retrying, SingleWriter};
pub use error::{StorageError, StorageErrorKind};
pub use fs::FsStorage;
pub use key::{InvalidKey, ObjectKey, ObjectPrefix};
pub use retry::RetryPolicy;
pub use s3::{Addressing, S3Options, S3Storage, ServerSideEncryption, StaticCredentials};
pub use url::{BucketLocation, RepositoryUrl};

/// The bytes of an object, in order. An error item ends the stream; a clean end means every byte arrived.
pub type ByteStream = BoxStream<'static, Result<Bytes, StorageError>>;

/// Whether a put may find an object under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Fails with `AlreadyExists`, atomically, when an object has the name.
    Create,
    /// Replaces whatever has the name. Only the single-writer decorator uses it, on stores without
    /// conditional create.
    Overwrite,
}

/// Which bytes of an object are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// All of it.
    Full,
    /// `length` bytes from `offset`, fewer when the object ends earlier; `length` is at least 1.
    /// An `offset` at or past the end is `Invalid`.
    Span {
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
}

impl ByteRange {
    /// The wanted bytes of an object of `size` bytes; `None` when the range begins at or past its end or is empty.
    pub fn within(self, size: u64) -> Option<Range<u64>> {
        match self {
            Self::Full => Some(0..size),
            Self::Span { offset, length } if offset < size && length > 0 => {
                Some(offset..offset.saturating_add(length).min(size))
            }
            Self::Span { .. } => None,
        }
    }
}

/// What a store says about an object without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The name.
    pub key: ObjectKey,
    /// Length in bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub modified: SystemTime,
}

/// A map from keys to immutable bytes. Strongly consistent: what was put can be read and listed at once.
///
/// Dropping a future of `get`, `head` or `list` is safe. A dropped `put` leaves the object whole or absent,
/// never partial.
#[async_trait]
pub trait Storage: fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// Stores an object whole or not at all; durable on return.
    async fn put(&self, key: &ObjectKey, body: Body, mode: PutMode) -> Result<(), StorageError>;

    /// Reads an object. `NotFound` is an authenticated answer.
    async fn get(&self, key: &ObjectKey, range: ByteRange) -> Result<ByteStream, StorageError>;

    /// Size and age of an object.
    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StorageError>;

    /// Every object under `prefix` whose key is greater than `after`, in byte order; complete, or an error.
    fn list(
        &self,
        prefix: &ObjectPrefix,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectInfo, StorageError>>;

    /// Deletes objects; an absent one is no error.
    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError>;

    /// The store's clock now, by an object just written or an answer just received.
    ///
    /// The directory driver writes and removes an unnamed temporary file; S3 uses the `Date` of an answer.
    async fn now(&self) -> Result<SystemTime, StorageError>;

    /// Removes what writers that died left behind where no listing shows it (temporary files, unfinished multipart
    /// uploads), when it is older than `age` by the store's clock. Returns how many there were.
    async fn remove_leftovers(&self, age: Duration) -> Result<u64, StorageError>;
}

/// Reads a whole small object into memory; more than `limit` bytes is `Invalid`.
pub async fn read_all(
    storage: &dyn Storage,
    key: &ObjectKey,
    range: ByteRange,
    limit: usize,
) -> Result<Bytes, StorageError> {
    use futures::TryStreamExt;
    let mut stream = storage.get(key, range).await?;
    let mut collected = bytes::BytesMut::new();
    while let Some(part) = stream.try_next().await? {
        if collected.len() + part.len() > limit {
            let what = format!("`{key}` in `{storage}` is larger than {limit} bytes");
            return Err(StorageError::new(StorageErrorKind::Invalid, what));
        }
        if collected.is_empty() && part.len() == limit {
            return Ok(part);
        }
        collected.extend_from_slice(&part);
    }
    Ok(collected.freeze())
}
