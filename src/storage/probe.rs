//! Does the store honour conditional create, or does it overwrite in silence?

use bytes::Bytes;

use super::{ObjectKey, PutMode, Storage, StorageError, StorageErrorKind};

/// Whether a store can create an object atomically only when its name is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionalCreate {
    /// Of two writers of one name exactly one wins.
    Honoured,
    /// The condition is ignored or refused: the last writer wins.
    Missing,
}

/// Finds out by creating `key`, which must be a name that nothing else uses, twice.
///
/// The object is deleted afterwards where the credentials allow it and stays where they do not.
pub async fn probe_conditional_create(
    storage: &dyn Storage,
    key: &ObjectKey,
) -> Result<ConditionalCreate, StorageError> {
    let outcome = create_twice(storage, key).await;
    if let Err(error) = storage.delete(std::slice::from_ref(key)).await {
        tracing::debug!(%key, %error, "the probe's object stays");
    }
    outcome
}

/// The contents differ: a lost answer to the second put must not be mistaken for its success.
async fn create_twice(
    storage: &dyn Storage,
    key: &ObjectKey,
) -> Result<ConditionalCreate, StorageError> {
    let first = Bytes::from_static(b"walrs probe: first\n");
    match storage.put(key, first.clone().into(), PutMode::Create).await {
        Ok(()) => {}
        // Left behind by an earlier probe, and that it was seen is the answer.
        Err(error) if error.is_already_exists() => return Ok(ConditionalCreate::Honoured),
        // Some servers answer that the header is not implemented; without it they must accept the object.
        Err(error) if error.kind() == StorageErrorKind::Invalid => {
            let plain = storage.put(key, first.into(), PutMode::Overwrite).await;
            return plain.map(|()| ConditionalCreate::Missing).map_err(|_| error);
        }
        Err(error) => return Err(error),
    }
    let second = Bytes::from_static(b"walrs probe: second\n");
    match storage.put(key, second.into(), PutMode::Create).await {
        Ok(()) => Ok(ConditionalCreate::Missing),
        Err(error) if error.is_already_exists() => Ok(ConditionalCreate::Honoured),
        Err(error) => Err(error),
    }
}
