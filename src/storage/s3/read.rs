//! Reading an object: its length and range checked against the answer, its checksum where the store gives one, and a
//! stream that goes on where it broke, in the same version of the object.

use std::ops::Range;
use std::time::SystemTime;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream as Arriving;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use futures::StreamExt;

use super::S3Storage;
use crate::deadline::Deadline;
use crate::storage::retry::FullJitter;
use crate::storage::{
    ByteRange, ByteStream, ObjectInfo, ObjectKey, StorageError, StorageErrorKind,
};

impl S3Storage {
    /// Opens an object and streams it, resuming where a connection breaks.
    pub(super) async fn read(
        &self,
        key: &ObjectKey,
        range: ByteRange,
    ) -> Result<ByteStream, StorageError> {
        let header = match range {
            ByteRange::Full => None,
            ByteRange::Span { offset, length } => Some(offset..offset.saturating_add(length)),
        };
        let answer = self.request_object(key, header.as_ref(), None).await?;
        let span = self.checked_span(key, range, &answer)?;
        let reading = Reading {
            position: span.start,
            end: span.end,
            version: answer.e_tag().map(str::to_owned),
            checksum: Checksum::of(range, &answer),
            arriving: Some(answer.body),
            pauses: self.shared.policy.pauses(),
            silent_since: self.shared.policy.deadline.at_most(self.shared.policy.patience),
            key: key.clone(),
            storage: self.clone(),
        };
        let parts = futures::stream::try_unfold(reading, |mut reading| async move {
            let part = reading.next_part().await?;
            Ok(part.map(|part| (part, reading)))
        });
        Ok(parts.boxed())
    }

    /// Size and age. An answer to HEAD has no body, so its 404 may be anybody's and is asked about again.
    pub(super) async fn head_object(&self, key: &ObjectKey) -> Result<ObjectInfo, StorageError> {
        let request = self.client().head_object().bucket(self.bucket()).key(self.name_of(key));
        let answer = match self.ask(|| self.cannot("look at", key), request.send()).await {
            Err(error) if error.kind() == StorageErrorKind::Invalid => {
                return Err(self.explain_missing(key, error).await);
            }
            other => other?,
        };
        let size = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let modified = answer.last_modified().and_then(|date| SystemTime::try_from(*date).ok());
        match (size, modified) {
            (Some(size), Some(modified)) => Ok(ObjectInfo { key: key.clone(), size, modified }),
            _ => Err(self.unusable(key, "the answer lacks its size or its age")),
        }
    }

    /// Why HEAD failed, told by a request whose answer can carry a reason.
    async fn explain_missing(&self, key: &ObjectKey, error: StorageError) -> StorageError {
        match self.request_object(key, Some(&(0..1)), None).await {
            Err(reason) if reason.is_not_found() || reason.is_unavailable() => reason,
            Err(reason) if reason.kind() == StorageErrorKind::Denied => reason,
            Err(reason) if reason.hint_text().is_some() => reason,
            Err(_) => error,
            // It is there after all: put between the two requests, or the first answer was wrong.
            Ok(_) => StorageError::new(
                StorageErrorKind::Unavailable,
                format!("`{self}/{key}` is absent for HEAD and present for GET"),
            ),
        }
    }

    async fn request_object(
        &self,
        key: &ObjectKey,
        span: Option<&Range<u64>>,
        version: Option<&str>,
    ) -> Result<GetObjectOutput, StorageError> {
        let header = span.map(|span| format!("bytes={}-{}", span.start, span.end - 1));
        let request = self
            .client()
            .get_object()
            .bucket(self.bucket())
            .key(self.name_of(key))
            .set_range(header)
            .set_if_match(version.map(str::to_owned))
            .set_checksum_mode(span.is_none().then_some(ChecksumMode::Enabled));
        self.ask(|| self.cannot("read", key), request.send()).await
    }

    /// Which bytes of the object the answer brings, when they are the wanted ones.
    fn checked_span(
        &self,
        key: &ObjectKey,
        wanted: ByteRange,
        answer: &GetObjectOutput,
    ) -> Result<Range<u64>, StorageError> {
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let Some(length) = length else {
            return Err(self.unusable(key, "the answer does not say how long it is"));
        };
        let span = match wanted {
            ByteRange::Full => Some(0..length),
            ByteRange::Span { .. } => answer.content_range().and_then(|header| {
                let (span, total) = parse_content_range(header)?;
                (wanted.within(total)? == span).then_some(span)
            }),
        };
        span.filter(|span| span.end - span.start == length).ok_or_else(|| {
            let header = answer.content_range().unwrap_or("nothing");
            self.unusable(key, &format!("asked for {wanted:?}, it brings {length} bytes, {header}"))
        })
    }

    fn unusable(&self, key: &ObjectKey, reason: &str) -> StorageError {
        let what = format!("cannot use the answer about `{self}/{key}`: {reason}");
        StorageError::new(StorageErrorKind::Invalid, what)
            .hint("something between this host and the store changes answers, or it is no S3 store")
    }
}

/// `bytes 0-9/100` → 0..10 of 100.
fn parse_content_range(header: &str) -> Option<(Range<u64>, u64)> {
    let (span, total) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let end = last.parse::<u64>().ok()?.checked_add(1)?;
    Some((first.parse().ok()?..end, total.parse().ok()?))
}

/// An object on its way.
struct Reading {
    storage: S3Storage,
    key: ObjectKey,
    arriving: Option<Arriving>,
    position: u64,
    end: u64,
    /// The entity tag of the answer that began it: a resumed read must not mix two objects.
    version: Option<String>,
    checksum: Checksum,
    pauses: FullJitter,
    /// When a silence that began at the last byte has lasted too long.
    silent_since: Deadline,
}

impl Reading {
    async fn next_part(&mut self) -> Result<Option<Bytes>, StorageError> {
        loop {
            match self.receive().await {
                Ok(Some(part)) => return self.accept(part).map(Some),
                // After an error, every byte is here and only whether more would have come is unknown.
                Ok(None) | Err(_) if self.position == self.end => return self.finish(),
                Ok(None) => self.resume("the stream ended early".into()).await?,
                Err(cause) => self.resume(cause).await?,
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, Cause> {
        let Some(arriving) = &mut self.arriving else { return Ok(None) };
        let patience = self.storage.shared.idle_timeout;
        match self.silent_since.at_most(patience).bound(arriving.next()).await {
            Ok(part) => Ok(part.transpose()?),
            Err(_) => Err(format!("no byte for {} s", patience.as_secs_f32()).into()),
        }
    }

    fn accept(&mut self, part: Bytes) -> Result<Bytes, StorageError> {
        let position = self.position + part.len() as u64;
        if position > self.end {
            return Err(self.storage.unusable(&self.key, "it is longer than it said"));
        }
        self.position = position;
        self.checksum.update(&part);
        let policy = &self.storage.shared.policy;
        (self.pauses, self.silent_since) =
            (policy.pauses(), policy.deadline.at_most(policy.patience));
        Ok(part)
    }

    fn finish(&mut self) -> Result<Option<Bytes>, StorageError> {
        self.arriving = None;
        if self.checksum.matches() {
            return Ok(None);
        }
        let what = format!("`{}/{}` does not have its checksum", self.storage, self.key);
        Err(StorageError::new(StorageErrorKind::Damaged, what)
            .hint("the stored object or the way to it is damaged"))
    }

    /// Opens the rest of the object after a pause, or gives up with the reason.
    async fn resume(&mut self, cause: Cause) -> Result<(), StorageError> {
        self.arriving = None;
        let what = format!(
            "reading `{}/{}` broke at byte {} of {}",
            self.storage, self.key, self.position, self.end
        );
        let mut broken = StorageError::new(StorageErrorKind::Unavailable, what).because(cause);
        loop {
            let pause = self.pauses.next().unwrap_or_default();
            let pause = pause.max(broken.asked_pause().unwrap_or_default());
            if !self.silent_since.allows(pause) {
                return Err(broken);
            }
            tracing::warn!(key = %self.key, position = self.position, error = %broken, "resuming a read");
            tokio::time::sleep(pause).await;
            match self.reopen().await {
                Err(failure) if failure.is_unavailable() => broken = failure,
                other => return other,
            }
        }
    }

    async fn reopen(&mut self) -> Result<(), StorageError> {
        let (storage, span) = (&self.storage, self.position..self.end);
        let wanted = ByteRange::Span { offset: span.start, length: span.end - span.start };
        let request = storage.request_object(&self.key, Some(&span), self.version.as_deref());
        let answer = match self.silent_since.bound(request).await {
            Ok(Err(error)) if error.is_already_exists() => return Err(self.changed()),
            Ok(answer) => answer?,
            Err(passed) => {
                let what = storage.cannot("read", &self.key);
                return Err(StorageError::new(StorageErrorKind::Unavailable, what).because(passed));
            }
        };
        if answer.e_tag() != self.version.as_deref() {
            return Err(self.changed());
        }
        storage.checked_span(&self.key, wanted, &answer)?;
        self.arriving = Some(answer.body);
        Ok(())
    }

    fn changed(&self) -> StorageError {
        let what = format!("`{}/{}` was replaced while it was read", self.storage, self.key);
        StorageError::new(StorageErrorKind::Damaged, what)
            .hint("objects are never rewritten: something other than walrs writes here")
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The CRC32C of a whole object, where the store tells it.
enum Checksum {
    Unknown,
    Known { expected: String, digest: Box<Digest> },
}

impl Checksum {
    /// A checksum composed from those of parts says nothing about the bytes as one sequence.
    fn of(range: ByteRange, answer: &GetObjectOutput) -> Self {
        let composite = answer.checksum_type() == Some(&ChecksumType::Composite);
        match answer.checksum_crc32_c() {
            Some(expected) if range == ByteRange::Full && !composite && !expected.contains('-') => {
                let digest = Box::new(Digest::new(CrcAlgorithm::Crc32Iscsi));
                Self::Known { expected: expected.to_owned(), digest }
            }
            _ => Self::Unknown,
        }
    }

    fn update(&mut self, part: &[u8]) {
        if let Self::Known { digest, .. } = self {
            digest.update(part);
        }
    }

    fn matches(&self) -> bool {
        match self {
            Self::Unknown => true,
            Self::Known { expected, digest } => {
                let found = digest.finalize() as u32;
                STANDARD.encode(found.to_be_bytes()) == *expected
            }
        }
    }
}
