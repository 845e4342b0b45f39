//! Listing, page by page: complete and in order, or an error.

use std::time::SystemTime;

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::Object;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::S3Storage;
use super::exchange::Exchange;
use crate::storage::{ObjectInfo, ObjectKey, ObjectPrefix, StorageError, StorageErrorKind};

impl S3Storage {
    /// Every object under `prefix` behind `after`.
    pub(super) fn list_objects(
        &self,
        prefix: &ObjectPrefix,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'static, Result<ObjectInfo, StorageError>> {
        let listing = Listing {
            storage: self.clone(),
            prefix: self.shared.location.name_of(prefix),
            last: after.map(|key| self.name_of(key)),
            token: Token::First,
        };
        futures::stream::try_unfold(listing, Listing::next_page).try_flatten().boxed()
    }

    /// The store's clock, by the date of an answer.
    pub(super) async fn clock(&self) -> Result<SystemTime, StorageError> {
        let what = || format!("cannot read the clock of `{self}`");
        let prefix = self.shared.location.name_of("");
        let request =
            self.client().list_objects_v2().bucket(self.bucket()).prefix(prefix).max_keys(1);
        let exchange = Exchange::new();
        self.ask_with(exchange.clone(), what, request.send()).await?;
        exchange.answered_at().ok_or_else(|| {
            StorageError::new(StorageErrorKind::Invalid, what()).because("its answer has no date")
        })
    }
}

/// How far a listing has come.
struct Listing {
    storage: S3Storage,
    /// Full name in the bucket, like `last`.
    prefix: String,
    last: Option<String>,
    token: Token,
}

enum Token {
    First,
    Next(String),
    End,
}

type Page = BoxStream<'static, Result<ObjectInfo, StorageError>>;

impl Listing {
    async fn next_page(mut self) -> Result<Option<(Page, Self)>, StorageError> {
        let (token, start_after) = match &self.token {
            Token::First => (None, self.last.clone()),
            Token::Next(token) => (Some(token.clone()), None),
            Token::End => return Ok(None),
        };
        let storage = self.storage.clone();
        let request = storage
            .client()
            .list_objects_v2()
            .bucket(storage.bucket())
            .prefix(&self.prefix)
            .set_start_after(start_after)
            .set_continuation_token(token);
        let page = storage.ask(|| self.what(), request.send()).await?;
        let objects = self.accept(&page)?;
        self.token = self.next_token(&page)?;
        Ok(Some((futures::stream::iter(objects.into_iter().map(Ok)).boxed(), self)))
    }

    fn accept(&mut self, page: &ListObjectsV2Output) -> Result<Vec<ObjectInfo>, StorageError> {
        let counted = page.key_count().and_then(|count| usize::try_from(count).ok());
        if counted.is_some_and(|count| count != page.contents().len()) {
            return Err(self.unusable("a page holds another number of objects than it says"));
        }
        let mut objects = Vec::with_capacity(page.contents().len());
        for object in page.contents() {
            objects.extend(self.accept_object(object)?);
        }
        Ok(objects)
    }

    /// An object that walrs can have written; names that it cannot are somebody else's.
    fn accept_object(&mut self, object: &Object) -> Result<Option<ObjectInfo>, StorageError> {
        let Some(name) = object.key().filter(|name| name.starts_with(&self.prefix)) else {
            return Err(self.unusable("it shows an object outside of the prefix"));
        };
        if self.last.as_deref().is_some_and(|last| name <= last) {
            return Err(self.unusable(&format!("`{name}` comes out of order")));
        }
        self.last = Some(name.to_owned());
        let below = self.storage.shared.location.name_of("").len();
        let Ok(key) = ObjectKey::parse(&name[below..]) else { return Ok(None) };
        let size = object.size().and_then(|size| u64::try_from(size).ok());
        let modified = object.last_modified().and_then(|date| SystemTime::try_from(*date).ok());
        match (size, modified) {
            (Some(size), Some(modified)) => Ok(Some(ObjectInfo { key, size, modified })),
            _ => Err(self.unusable(&format!("`{name}` lacks its size or its age"))),
        }
    }

    fn next_token(&self, page: &ListObjectsV2Output) -> Result<Token, StorageError> {
        match page.is_truncated() {
            None => return Err(self.unusable("it does not say whether there is more")),
            Some(false) => return Ok(Token::End),
            Some(true) => {}
        }
        match (page.next_continuation_token(), &self.token) {
            (None, _) => Err(self.unusable("it says there is more, but not how to get it")),
            (Some(next), Token::Next(previous)) if next == previous => {
                Err(self.unusable("it repeats a page"))
            }
            (Some(next), _) => Ok(Token::Next(next.to_owned())),
        }
    }

    fn what(&self) -> String {
        format!("cannot list `s3://{}/{}`", self.storage.bucket(), self.prefix)
    }

    fn unusable(&self, reason: &str) -> StorageError {
        let what = format!("{}: the answer is not usable: {reason}", self.what());
        StorageError::new(StorageErrorKind::Invalid, what)
    }
}
