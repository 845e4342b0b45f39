//! Does a stored object hold these bytes?

use bytes::{Buf, Bytes};
use futures::TryStreamExt;

use crate::storage::{ByteRange, ObjectKey, Storage, StorageError};

/// Reads the object and compares; no more of it than its first difference is held.
pub(super) async fn content(
    storage: &dyn Storage,
    key: &ObjectKey,
    mut expected: Bytes,
) -> Result<bool, StorageError> {
    let mut parts = storage.get(key, ByteRange::Full).await?;
    while let Some(part) = parts.try_next().await? {
        if !expected.starts_with(&part) {
            return Ok(false);
        }
        expected.advance(part.len());
    }
    Ok(expected.is_empty())
}
