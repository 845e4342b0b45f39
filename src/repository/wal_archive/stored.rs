//! What the repository already holds under a name, told from its prelude and its size.

use crate::container::{ContentFacts, END_RECORD_BYTES, Head, ObjectReader, PRELUDE_LIMIT_BYTES};
use crate::error::{Error, Result};
use crate::repository::absent_is_none;
use crate::storage::{self, ByteRange, ObjectKey};

use super::{WalArchive, WalObject};

/// A stored file of WAL; it is whole as far as its size tells, and its prelude is authentic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredWal {
    /// Length and digest of the file.
    pub content: ContentFacts,
    /// Bytes of the object.
    pub stored_length: u64,
}

impl WalArchive {
    /// What is stored as `object`, without reading its body; `None` when there is none.
    ///
    /// An object that is not whole, or has no authentic prelude, is damaged (exit code 5).
    pub async fn stored(&self, object: &WalObject) -> Result<Option<StoredWal>> {
        let key = object.name().key();
        let info = self.repository.storage().head(&key).await;
        let Some(info) = absent_is_none(info)? else { return Ok(None) };
        let looked = self.look_into(object, &key, info.size).await;
        looked.map(Some).map_err(|error| self.with_remedy(error, &key))
    }

    async fn look_into(&self, object: &WalObject, key: &ObjectKey, size: u64) -> Result<StoredWal> {
        let damaged = |why: &str| Error::damaged(format!("`{key}` is damaged: {why}"));
        if size == 0 {
            return Err(damaged("it is empty"));
        }
        let identity = self.repository.object_identity(object.name(), object.kind(), self.cluster);
        let prelude = self.part(key, 0, PRELUDE_LIMIT_BYTES).await?;
        let reader = ObjectReader::open(self.repository.sealing(), &identity, &prelude)?;
        let Head { content: Some(content), body_length, .. } = *reader.head() else {
            return Err(damaged("its head says nothing about its content"));
        };
        let whole = match body_length {
            Some(length) => length.checked_add(reader.prelude_length() as u64) == Some(size),
            None => self.ends_as_stated(key, size, &reader, content).await?,
        };
        if whole {
            Ok(StoredWal { content, stored_length: size })
        } else {
            Err(damaged("it is cut"))
        }
    }

    /// Whether an object whose length was not known in advance ends with its end record.
    async fn ends_as_stated(
        &self,
        key: &ObjectKey,
        size: u64,
        reader: &ObjectReader,
        content: ContentFacts,
    ) -> Result<bool> {
        let Some(position) = size.checked_sub(END_RECORD_BYTES as u64) else { return Ok(false) };
        let bytes = self.part(key, position, END_RECORD_BYTES).await?;
        let Some(record) = bytes.first_chunk() else { return Ok(false) };
        let end = reader.open_end(record)?;
        Ok(end.raw_length == content.raw_length && end.digest == content.digest)
    }

    async fn part(&self, key: &ObjectKey, offset: u64, length: usize) -> Result<bytes::Bytes> {
        let range = ByteRange::Span { offset, length: length as u64 };
        Ok(storage::read_all(&**self.repository.storage(), key, range, length).await?)
    }

    /// Says how to get rid of a damaged object; anything else stays as it is.
    pub(super) fn with_remedy(&self, error: Error, key: &ObjectKey) -> Error {
        if error.kind() != crate::error::ErrorKind::Damaged {
            return error;
        }
        let storage = self.repository.storage();
        error.hint(format!(
            "move the object `{key}` out of `{storage}` with the store's own tools and keep it for inspection; \
             while PostgreSQL still has the file, the next `wal-push` stores it again"
        ))
    }
}
