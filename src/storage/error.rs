//! Failures of a store, by meaning.

use std::error::Error as StdError;

use crate::error::{Error, ErrorKind};

/// What a failed storage operation means to its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageErrorKind {
    /// An authenticated answer said that this object does not exist.
    NotFound,
    /// A conditional create found an object under the name.
    AlreadyExists,
    /// Credentials or permissions; trying again does not help.
    Denied,
    /// Network, server, disk or deadline; trying again may help.
    Unavailable,
    /// The bytes that arrived are not the bytes that were stored.
    Damaged,
    /// The store or its location is not what it must be (missing bucket, wrong answer, unsupported request), or the
    /// body of a put could not be produced. Trying again does not help.
    Invalid,
}

/// A failed storage operation: what was done to which object, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct StorageError {
    kind: StorageErrorKind,
    what: String,
    hint: Option<String>,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
    retry_after: Option<std::time::Duration>,
}

impl StorageError {
    /// A failure of `kind`; `what` names the operation and the object.
    pub fn new(kind: StorageErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), hint: None, source: None, retry_after: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds what the reader should do now.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the pause that the server asked for.
    #[must_use]
    pub fn retry_after(mut self, pause: std::time::Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }

    /// What the failure means.
    pub fn kind(&self) -> StorageErrorKind {
        self.kind
    }

    /// The pause that the server asked for.
    pub fn asked_pause(&self) -> Option<std::time::Duration> {
        self.retry_after
    }

    /// What the reader should do now, where it is known.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether trying the same again may help.
    pub fn is_unavailable(&self) -> bool {
        self.kind == StorageErrorKind::Unavailable
    }

    /// Whether an authenticated answer said that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind == StorageErrorKind::NotFound
    }

    /// Whether a conditional create found an object under the name.
    pub fn is_already_exists(&self) -> bool {
        self.kind == StorageErrorKind::AlreadyExists
    }
}

impl From<StorageError> for Error {
    /// An object that must exist and does not is damage; callers for whom absence is an answer look first.
    fn from(error: StorageError) -> Self {
        let kind = match error.kind {
            StorageErrorKind::NotFound | StorageErrorKind::Damaged => ErrorKind::Damaged,
            StorageErrorKind::AlreadyExists => ErrorKind::Refused,
            StorageErrorKind::Denied
            | StorageErrorKind::Unavailable
            | StorageErrorKind::Invalid => ErrorKind::Unavailable,
        };
        let converted = Self::new(kind, error.what);
        let converted = match error.hint {
            Some(hint) => converted.hint(hint),
            None => converted,
        };
        match error.source {
            Some(source) => converted.because(source),
            None => converted,
        }
    }
}
