//! The S3 driver, on the AWS SDK, for AWS and for servers that speak its protocol.
//!
//! Owns what requests are sent and what answers mean. Does not own retries (`retry.rs`, `decorators/retrying.rs`):
//! each operation is tried once, save the parts of a multipart upload and a stream that broke, which only the driver
//! can take up again. The SDK's own retries and timeouts are off.

mod client;
mod delete;
mod exchange;
mod failure;
mod leftovers;
mod list;
mod multipart;
mod options;
mod parts;
mod put;
mod read;

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use self::exchange::Exchange;
pub use self::options::{Addressing, S3Options, ServerSideEncryption, StaticCredentials};
use super::retry::RetryPolicy;
use super::{
    Body, BucketLocation, ByteRange, ByteStream, ObjectInfo, ObjectKey, ObjectPrefix, PutMode,
    Storage, StorageError, StorageErrorKind,
};
use crate::error::Result;

/// A repository in a bucket. Cloning is cheap and shares the connections.
#[derive(Clone)]
pub struct S3Storage {
    shared: Arc<Shared>,
}

struct Shared {
    client: RwLock<Client>,
    location: BucketLocation,
    idle_timeout: Duration,
    policy: RetryPolicy,
    new_objects: NewObjects,
    payloads: Payloads,
    credentials_refreshed: AtomicBool,
}

/// What is asked for every new object.
struct NewObjects {
    storage_class: Option<types::StorageClass>,
    encryption: Option<types::ServerSideEncryption>,
    kms_key_id: Option<String>,
}

/// What vouches for a body on its way, beside its CRC32C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Payloads {
    /// Its SHA-256, signed: on a plain connection anybody might change it.
    Signed,
    /// TLS, which does so already: a SHA-256 of everything would cost CPU time for nothing.
    InTls,
}

impl Payloads {
    fn of(options: &S3Options) -> Self {
        match &options.endpoint {
            Some(endpoint) if endpoint.starts_with("http://") => Self::Signed,
            _ => Self::InTls,
        }
    }
}

impl S3Storage {
    /// A driver for `location`; nothing is sent yet. `policy` serves what the driver takes up again by itself.
    pub async fn new(
        location: BucketLocation,
        options: &S3Options,
        policy: RetryPolicy,
    ) -> Result<Self> {
        let client = RwLock::new(client::build(options).await?);
        let new_objects = NewObjects {
            storage_class: options.storage_class.as_deref().map(types::StorageClass::from),
            encryption: options.encryption.map(Into::into),
            kms_key_id: options.kms_key_id.clone(),
        };
        let shared = Shared {
            client,
            location,
            idle_timeout: options.idle_timeout,
            policy,
            new_objects,
            payloads: Payloads::of(options),
            credentials_refreshed: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    fn client(&self) -> Client {
        self.shared.client.read().expect("no panic while held").clone()
    }

    fn bucket(&self) -> &str {
        &self.shared.location.bucket
    }

    /// The name of an object in the bucket.
    fn name_of(&self, key: &ObjectKey) -> String {
        self.shared.location.name_of(key)
    }

    fn cannot(&self, verb: &str, key: &ObjectKey) -> String {
        format!("cannot {verb} `{self}/{key}`")
    }

    /// Sends one request and waits for its answer; `what` names the operation and the object should it fail.
    fn ask<'a, T, E>(
        &'a self,
        what: impl FnOnce() -> String + Send + 'a,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StorageError>>
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        self.ask_with(Exchange::new(), what, request)
    }

    /// The SDK's futures are large, so they are boxed here, once.
    fn ask_with<'a, T, E>(
        &'a self,
        exchange: Exchange,
        what: impl FnOnce() -> String + Send + 'a,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StorageError>>
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        Box::pin(async move {
            match exchange.watch(self.shared.idle_timeout, request).await {
                Ok(Ok(answer)) => {
                    self.shared.credentials_refreshed.store(false, Ordering::Relaxed);
                    Ok(answer)
                }
                Ok(Err(error)) if failure::says_expired(&error) && self.refresh_credentials() => {
                    let what = format!("{}: the credentials had expired", what());
                    Err(StorageError::new(StorageErrorKind::Unavailable, what).because(error))
                }
                Ok(Err(error)) => Err(failure::of(what(), error)),
                Err(silence) => {
                    Err(StorageError::new(StorageErrorKind::Unavailable, what()).because(silence))
                }
            }
        })
    }

    /// Forgets the credentials in use, once until the next success; whether they were forgotten now.
    fn refresh_credentials(&self) -> bool {
        if self.shared.credentials_refreshed.swap(true, Ordering::Relaxed) {
            return false;
        }
        let mut client = self.shared.client.write().expect("no panic while held");
        *client = client::with_fresh_credentials(&client);
        true
    }
}

#[async_trait]
impl Storage for S3Storage {
    async fn put(&self, key: &ObjectKey, body: Body, mode: PutMode) -> Result<(), StorageError> {
        match body.as_bytes().filter(|bytes| bytes.len() <= multipart::SINGLE_PUT_BYTES) {
            Some(bytes) => self.put_bytes(key, bytes.clone(), mode).await,
            None => self.put_in_parts(key, &body, mode).await,
        }
    }

    async fn get(&self, key: &ObjectKey, range: ByteRange) -> Result<ByteStream, StorageError> {
        self.read(key, range).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StorageError> {
        self.head_object(key).await
    }

    fn list(
        &self,
        prefix: &ObjectPrefix,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectInfo, StorageError>> {
        self.list_objects(prefix, after)
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        self.delete_objects(keys).await
    }

    async fn now(&self) -> Result<SystemTime, StorageError> {
        self.clock().await
    }

    async fn remove_leftovers(&self, age: Duration) -> Result<u64, StorageError> {
        self.abort_stale_uploads(age).await
    }
}

impl fmt::Display for S3Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.shared.location)
    }
}

impl fmt::Debug for S3Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Storage({self})")
    }
}
