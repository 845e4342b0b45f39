//! Multipart uploads that nobody completes: invisible to every listing, and paid for.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::operation::list_multipart_uploads::ListMultipartUploadsOutput;
use aws_sdk_s3::types::MultipartUpload;

use super::S3Storage;
use crate::storage::{StorageError, StorageErrorKind};

impl S3Storage {
    /// Aborts uploads below the prefix begun more than `age` ago by the store's clock; returns how many.
    pub(super) async fn abort_stale_uploads(&self, age: Duration) -> Result<u64, StorageError> {
        let Some(limit) = self.clock().await?.checked_sub(age) else { return Ok(0) };
        let (mut aborted, mut position) = (0, None);
        loop {
            let page = self.unfinished_uploads(position.as_ref()).await?;
            for upload in page.uploads().iter().filter(|upload| is_older(upload, limit)) {
                if let (Some(name), Some(id)) = (upload.key(), upload.upload_id()) {
                    self.abort_upload(name, id).await?;
                    aborted += 1;
                }
            }
            let next = Position::behind(&page);
            if next.is_none() || next == position {
                return Ok(aborted);
            }
            position = next;
        }
    }

    async fn unfinished_uploads(
        &self,
        position: Option<&Position>,
    ) -> Result<ListMultipartUploadsOutput, StorageError> {
        let request = self
            .client()
            .list_multipart_uploads()
            .bucket(self.bucket())
            .prefix(self.shared.location.name_of(""))
            .set_key_marker(position.map(|position| position.name.clone()))
            .set_upload_id_marker(position.and_then(|position| position.id.clone()));
        let what = || format!("cannot list the unfinished uploads of `{self}`");
        match self.ask(what, request.send()).await {
            // The bucket has just answered, so it is this request that the store does not know: it cleans up by itself
            // or not at all.
            Err(error) if error.kind() == StorageErrorKind::Invalid => {
                tracing::debug!(%error, "this store does not list unfinished uploads");
                Ok(ListMultipartUploadsOutput::builder().build())
            }
            other => other,
        }
    }
}

#[derive(PartialEq, Eq)]
struct Position {
    name: String,
    id: Option<String>,
}

impl Position {
    /// Where the next page begins.
    fn behind(page: &ListMultipartUploadsOutput) -> Option<Self> {
        let name = page.next_key_marker().filter(|_| page.is_truncated().unwrap_or(false))?;
        Some(Self { name: name.to_owned(), id: page.next_upload_id_marker().map(str::to_owned) })
    }
}

fn is_older(upload: &MultipartUpload, limit: SystemTime) -> bool {
    let begun = upload.initiated().and_then(|date| SystemTime::try_from(*date).ok());
    begun.is_some_and(|begun| begun <= limit)
}
