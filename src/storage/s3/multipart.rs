//! Objects too large for one request: uploaded in parts, made visible by the last request, aborted otherwise.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::{Payloads, S3Storage, parts, put};
use crate::storage::{
    Body, ByteRange, ObjectKey, PutMode, Storage, StorageError, StorageErrorKind,
};
use crate::{step, task};

/// What goes with one request when it lies in memory.
pub(super) const SINGLE_PUT_BYTES: usize = 64 << 20;

/// With the parts in flight and the one that is being cut, a WAL segment of 1 GiB goes in less than 64 MiB of memory.
const PART_BYTES: usize = 6 << 20;
const PARTS_IN_FLIGHT: usize = 4;

/// The protocol's limit; with it, objects end at 58 GiB.
const MOST_PARTS: i32 = 10_000;

/// How long an abort may take; what is not aborted then is left to `remove_leftovers`.
const ABORT_PATIENCE: Duration = Duration::from_secs(10);

impl S3Storage {
    /// Stores a body of unknown length; one that turns out small goes with a single request.
    pub(super) async fn put_in_parts(
        &self,
        key: &ObjectKey,
        body: &Body,
        mode: PutMode,
    ) -> Result<(), StorageError> {
        let mut parts = parts::of(body.open(), PART_BYTES);
        let first = parts.try_next().await.map_err(|error| self.no_content(key, error))?;
        let first = first.unwrap_or_default();
        if first.len() < PART_BYTES {
            return self.put_bytes(key, first, mode).await;
        }
        let parts = futures::stream::once(async { Ok(first) }).chain(parts).boxed();
        let upload = self.begin_upload(key).await?;
        let result = upload.send(parts, mode).await;
        upload.finish(&result).await;
        result
    }

    async fn begin_upload(&self, key: &ObjectKey) -> Result<Upload, StorageError> {
        let request = self
            .client()
            .create_multipart_upload()
            .bucket(self.bucket())
            .key(self.name_of(key))
            .checksum_algorithm(ChecksumAlgorithm::Crc32C)
            .set_storage_class(self.shared.new_objects.storage_class.clone())
            .set_server_side_encryption(self.shared.new_objects.encryption.clone())
            .set_ssekms_key_id(self.shared.new_objects.kms_key_id.clone());
        let what = || self.cannot("begin to store", key);
        let answer = self.ask(what, request.send()).await?;
        let id = answer.upload_id().filter(|id| !id.is_empty()).ok_or_else(|| {
            StorageError::new(StorageErrorKind::Unavailable, what())
                .because("no upload id came back")
        })?;
        step::reached("storage-s3:upload-begun");
        Ok(Upload { storage: self.clone(), key: key.clone(), id: id.to_owned(), open: true })
    }

    /// Aborts one upload by its name in the bucket.
    pub(super) async fn abort_upload(&self, name: &str, id: &str) -> Result<(), StorageError> {
        let request = self.client().abort_multipart_upload().bucket(self.bucket());
        let what = || format!("cannot abort the upload of `{name}` to `{self}`");
        match self.ask(what, request.key(name).upload_id(id).send()).await {
            Ok(_) => Ok(()),
            // Aborted or completed by another request.
            Err(error) if error.is_not_found() || error.kind() == StorageErrorKind::Invalid => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn no_content(&self, key: &ObjectKey, error: io::Error) -> StorageError {
        let what = format!("cannot produce the content of `{self}/{key}`");
        StorageError::new(StorageErrorKind::Invalid, what).because(error)
    }
}

/// A multipart upload that has begun; dropped while open, it is aborted in the background.
struct Upload {
    storage: S3Storage,
    key: ObjectKey,
    id: String,
    open: bool,
}

type Parts = futures::stream::BoxStream<'static, io::Result<Bytes>>;

impl Upload {
    async fn send(&self, parts: Parts, mode: PutMode) -> Result<(), StorageError> {
        let sent = Sent::default();
        let uploaded: Vec<_> = observed(parts, Arc::clone(&sent))
            .zip(futures::stream::iter(1..))
            .map(|(part, number)| self.send_part(part, number).boxed())
            .buffered(PARTS_IN_FLIGHT)
            .try_collect()
            .await?;
        step::reached("storage-s3:parts-stored");
        let sent = sent.lock().expect("no panic while held").clone();
        self.complete(uploaded, mode, &sent).await
    }

    /// Stores one part, again and again while that may help: what came before it need not be sent anew.
    async fn send_part(
        &self,
        part: io::Result<Bytes>,
        number: i32,
    ) -> Result<CompletedPart, StorageError> {
        let part = part.map_err(|error| self.storage.no_content(&self.key, error))?;
        if number > MOST_PARTS {
            let what = format!("`{}/{}` is too large for an object", self.storage, self.key);
            return Err(StorageError::new(StorageErrorKind::Invalid, what));
        }
        let (part, checksum) = put::with_checksum(part).await;
        let e_tag =
            self.storage.shared.policy.run(|| self.try_part(&part, &checksum, number)).await?;
        let part = CompletedPart::builder().part_number(number).e_tag(e_tag);
        Ok(part.checksum_crc32_c(checksum).build())
    }

    async fn try_part(
        &self,
        part: &Bytes,
        checksum: &str,
        number: i32,
    ) -> Result<String, StorageError> {
        let request = self
            .storage
            .client()
            .upload_part()
            .bucket(self.storage.bucket())
            .key(self.storage.name_of(&self.key))
            .upload_id(&self.id)
            .part_number(number)
            .body(ByteStream::from(part.clone()))
            .checksum_crc32_c(checksum)
            .customize();
        let request = match self.storage.shared.payloads {
            Payloads::Signed => request,
            Payloads::InTls => request.disable_payload_signing(),
        };
        let what = || format!("cannot store part {number} of `{}/{}`", self.storage, self.key);
        let answer = self.storage.ask(what, request.send()).await?;
        answer.e_tag().map(str::to_owned).ok_or_else(|| {
            StorageError::new(StorageErrorKind::Unavailable, what())
                .because("no entity tag came back")
        })
    }

    /// Makes the object visible. When an answer was lost, what is stored under the name decides.
    async fn complete(
        &self,
        parts: Vec<CompletedPart>,
        mode: PutMode,
        sent: &blake3::Hasher,
    ) -> Result<(), StorageError> {
        let in_doubt = AtomicBool::new(false);
        let result = self
            .storage
            .shared
            .policy
            .run(|| async {
                let result = self.try_complete(parts.clone(), mode, sent.count()).await;
                if result.as_ref().is_err_and(StorageError::is_unavailable) {
                    in_doubt.store(true, Ordering::Relaxed);
                }
                result
            })
            .await;
        match result {
            Err(failure) if in_doubt.into_inner() => self.settle(sent, failure).await,
            other => other,
        }
    }

    async fn try_complete(
        &self,
        parts: Vec<CompletedPart>,
        mode: PutMode,
        size: u64,
    ) -> Result<(), StorageError> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self
            .storage
            .client()
            .complete_multipart_upload()
            .bucket(self.storage.bucket())
            .key(self.storage.name_of(&self.key))
            .upload_id(&self.id)
            .multipart_upload(parts)
            .set_if_none_match(put::condition(mode));
        let what = || self.storage.cannot("complete", &self.key);
        let answer = self.storage.ask(what, request.send()).await?;
        if answer.e_tag().is_none() {
            let empty = StorageError::new(StorageErrorKind::Unavailable, what());
            return Err(empty.because("the answer is a success without content"));
        }
        self.storage.confirm_size(&self.key, size).await
    }

    /// Success when the object under the name holds what was sent, else the failure.
    async fn settle(
        &self,
        sent: &blake3::Hasher,
        failure: StorageError,
    ) -> Result<(), StorageError> {
        match self.stored_hash().await {
            Ok(stored) if stored == sent.finalize() => Ok(()),
            _ => Err(failure),
        }
    }

    async fn stored_hash(&self) -> Result<blake3::Hash, StorageError> {
        let mut hasher = blake3::Hasher::new();
        let mut parts = self.storage.get(&self.key, ByteRange::Full).await?;
        while let Some(part) = parts.try_next().await? {
            hasher.update(&part);
        }
        Ok(hasher.finalize())
    }

    /// Closes the upload: nothing is left of a failed one.
    async fn finish(mut self, result: &Result<(), StorageError>) {
        if result.is_err() {
            abort(self.storage.clone(), self.storage.name_of(&self.key), self.id.clone()).await;
        }
        self.open = false;
    }
}

/// The hash of all parts so far, by which the whole is recognised should its last answer get lost.
type Sent = Arc<Mutex<blake3::Hasher>>;

/// The same parts, hashed in order as they pass.
fn observed(parts: Parts, sent: Sent) -> Parts {
    parts.and_then(move |part| note(Arc::clone(&sent), part)).boxed()
}

async fn note(sent: Sent, part: Bytes) -> io::Result<Bytes> {
    let hash = move || {
        sent.lock().expect("no panic while held").update(&part);
        part
    };
    Ok(task::unblock(hash).await)
}

impl Drop for Upload {
    /// The future of a put was dropped. The abort is the one task that runs free: nobody is left to wait for it, and
    /// should the process end first, `remove_leftovers` finds the upload.
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let name = self.storage.name_of(&self.key);
            runtime.spawn(abort(self.storage.clone(), name, self.id.clone()));
        }
    }
}

async fn abort(storage: S3Storage, name: String, id: String) {
    let aborted = tokio::time::timeout(ABORT_PATIENCE, storage.abort_upload(&name, &id)).await;
    match aborted {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%name, %error, "an upload could not be aborted"),
        Err(_) => tracing::warn!(%name, "an upload could not be aborted in time"),
    }
}
