//! Small words for tests of stores.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use walrs::storage::{
    ByteRange, ObjectKey, ObjectPrefix, PutMode, Storage, StorageError, read_all,
};

/// Creates an object.
pub(crate) async fn put(
    storage: &Arc<dyn Storage>,
    name: &str,
    content: &[u8],
) -> Result<(), StorageError> {
    let body = Bytes::copy_from_slice(content).into();
    storage.put(&key(name), body, PutMode::Create).await
}

/// Reads an object or a part of it.
pub(crate) async fn get(
    storage: &Arc<dyn Storage>,
    name: &str,
    range: ByteRange,
) -> Result<Bytes, StorageError> {
    read_all(storage.as_ref(), &key(name), range, 100_000_000).await
}

/// The keys of a listing.
pub(crate) async fn keys(
    storage: &Arc<dyn Storage>,
    below: &str,
    after: Option<&str>,
) -> Vec<String> {
    let after = after.map(key);
    let listed = storage.list(&prefix(below), after.as_ref()).map_ok(|info| info.key.to_string());
    listed.try_collect().await.expect("a complete listing")
}

/// A key.
pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::parse(name).expect("a valid key")
}

/// A prefix.
pub(crate) fn prefix(name: &str) -> ObjectPrefix {
    ObjectPrefix::parse(name).expect("a valid prefix")
}

/// Bytes that repeat nowhere near, so that a misplaced part shows.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
