//! Deleting in batches, every object of the answer accounted for.

use std::collections::HashSet;

use aws_sdk_s3::operation::delete_objects::DeleteObjectsOutput;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::S3Storage;
use crate::storage::{ObjectKey, StorageError, StorageErrorKind};

/// What the protocol allows in one request.
const BATCH: usize = 1000;

impl S3Storage {
    /// Deletes objects; an absent one is no error.
    pub(super) async fn delete_objects(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        for batch in keys.chunks(BATCH) {
            self.delete_batch(batch).await?;
        }
        Ok(())
    }

    async fn delete_batch(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        let what = || match keys {
            [key] => self.cannot("delete", key),
            keys => format!("cannot delete {} objects of `{self}`", keys.len()),
        };
        let named = |key| ObjectIdentifier::builder().key(self.name_of(key)).build();
        let delete = keys
            .iter()
            .map(named)
            .collect::<Result<Vec<_>, _>>()
            .and_then(|objects| Delete::builder().set_objects(Some(objects)).build())
            .map_err(|error| StorageError::new(StorageErrorKind::Invalid, what()).because(error))?;
        let request = self.client().delete_objects().bucket(self.bucket()).delete(delete);
        let answer = self.ask(what, request.send()).await?;
        self.every_key_answered(keys, &answer)
    }

    /// The answer is a success as a whole even when single objects were not deleted, or when it is empty.
    fn every_key_answered(
        &self,
        keys: &[ObjectKey],
        answer: &DeleteObjectsOutput,
    ) -> Result<(), StorageError> {
        let failed = answer.errors().iter().find(|error| error.code() != Some("NoSuchKey"));
        if let Some(error) = failed {
            let code = error.code().unwrap_or("no reason");
            let kind = match code {
                "AccessDenied" => StorageErrorKind::Denied,
                _ => StorageErrorKind::Unavailable,
            };
            let name = error.key().unwrap_or("an object");
            let what = format!("cannot delete `{name}` of `{self}`");
            return Err(StorageError::new(kind, what)
                .because(format!("{code}: {}", error.message().unwrap_or("no message"))));
        }
        let deleted = answer.deleted().iter().filter_map(|deleted| deleted.key());
        let absent = answer.errors().iter().filter_map(|error| error.key());
        let answered: HashSet<_> = deleted.chain(absent).collect();
        match keys.iter().find(|key| !answered.contains(self.name_of(key).as_str())) {
            None => Ok(()),
            Some(key) => {
                let what =
                    format!("{}: the answer does not mention it", self.cannot("delete", key));
                Err(StorageError::new(StorageErrorKind::Unavailable, what))
            }
        }
    }
}
