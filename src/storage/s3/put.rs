//! Storing an object that lies in memory: one request, with our checksum in its header.

use aws_sdk_s3::primitives::ByteStream;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::{Payloads, S3Storage};
use crate::storage::{ObjectKey, PutMode, StorageError, StorageErrorKind};
use crate::{step, task};

impl S3Storage {
    /// Stores `bytes` with one request.
    pub(super) async fn put_bytes(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        mode: PutMode,
    ) -> Result<(), StorageError> {
        let size = bytes.len() as u64;
        let (bytes, checksum) = with_checksum(bytes).await;
        let request = self
            .client()
            .put_object()
            .bucket(self.bucket())
            .key(self.name_of(key))
            .body(ByteStream::from(bytes))
            .checksum_crc32_c(&checksum)
            .set_if_none_match(condition(mode))
            .set_storage_class(self.shared.new_objects.storage_class.clone())
            .set_server_side_encryption(self.shared.new_objects.encryption.clone())
            .set_ssekms_key_id(self.shared.new_objects.kms_key_id.clone())
            .customize();
        let request = match self.shared.payloads {
            Payloads::Signed => request,
            Payloads::InTls => request.disable_payload_signing(),
        };
        let stored = self.ask(|| self.cannot("store", key), request.send()).await?;
        step::reached("storage-s3:stored");
        match stored.checksum_crc32_c() {
            Some(theirs) if theirs == checksum => Ok(()),
            Some(_) => Err(self.stored_otherwise(key, "its checksum is not that of what was sent")),
            // No proof in the answer: the size at least is what was sent.
            None => self.confirm_size(key, size).await,
        }
    }

    /// Asks the store for the size of what was just stored.
    pub(super) async fn confirm_size(
        &self,
        key: &ObjectKey,
        size: u64,
    ) -> Result<(), StorageError> {
        let found = self.head_object(key).await.map_err(|error| match error.is_not_found() {
            true => self.not_there(key).because(error),
            false => error,
        })?;
        if found.size == size {
            return Ok(());
        }
        let difference = format!("{} bytes are there, {size} were sent", found.size);
        Err(self.stored_otherwise(key, &difference))
    }

    fn not_there(&self, key: &ObjectKey) -> StorageError {
        let what = format!(
            "{}: the answer was a success, but nothing is there",
            self.cannot("store", key)
        );
        StorageError::new(StorageErrorKind::Unavailable, what)
    }

    fn stored_otherwise(&self, key: &ObjectKey, difference: &str) -> StorageError {
        let what = format!("`{self}/{key}` is not what was stored: {difference}");
        StorageError::new(StorageErrorKind::Damaged, what)
            .hint("something between this host and the store changes what is sent")
    }
}

/// The condition that makes a put a creation.
pub(super) fn condition(mode: PutMode) -> Option<String> {
    match mode {
        PutMode::Create => Some("*".to_owned()),
        PutMode::Overwrite => None,
    }
}

/// The bytes and their CRC32C as S3 spells it: base64 of four bytes, big end first.
pub(super) async fn with_checksum(bytes: Bytes) -> (Bytes, String) {
    task::unblock(move || {
        let checksum = STANDARD.encode(crc32c(&bytes).to_be_bytes());
        (bytes, checksum)
    })
    .await
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}
