//! Storing WAL: sealed once, created once, and never taken for other bytes under the same name.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};

use super::{WalArchive, WalObject};
use crate::container::{self, Codec, ContentFacts, EncodeStream, ObjectIdentity, Sealing};
use crate::error::{Error, Result};
use crate::postgres::{TimelineId, WalFileName};
use crate::repository::Created;
use crate::repository::layout::{ObjectName, PartialDigest};
use crate::storage::Body;
use crate::task;

/// The largest file whose object is built in memory; a larger one is sealed anew for every attempt, in pieces.
pub const IN_MEMORY_BYTES: u64 = 32 << 20;

/// The content of a file of `pg_wal`.
#[derive(Debug, Clone)]
pub enum WalContent {
    /// All of it.
    Memory(Bytes),
    /// An open file that must not change until it is stored.
    File(Arc<File>),
}

/// A file of WAL ready to be stored.
#[derive(Debug, Clone)]
pub struct SealedWal {
    file: WalFileName,
    object: WalObject,
    content: ContentFacts,
    body: Body,
}

impl SealedWal {
    /// Length and digest of the file.
    pub fn content(&self) -> ContentFacts {
        self.content
    }

    /// Bytes that it holds in memory; none when it is sealed anew for every attempt.
    pub fn held_bytes(&self) -> Option<u64> {
        self.body.as_bytes().map(|bytes| bytes.len() as u64)
    }
}

/// Whether a file had to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storing {
    /// It is stored now.
    New,
    /// The same bytes were stored already (W4).
    Already,
}

impl WalArchive {
    /// Compresses and seals a file; a `.partial` is named by its content (W5).
    pub async fn seal(&self, file: WalFileName, content: WalContent) -> Result<SealedWal> {
        let archive = self.clone();
        task::blocking(move || match content {
            WalContent::Memory(bytes) => archive.seal_in_memory(file, &bytes),
            WalContent::File(opened) => archive.seal_file(file, &opened),
        })
        .await
    }

    /// Stores a sealed file, create-only; durable on return.
    ///
    /// The same bytes under this name are a success, others are refused, and a stored object that is not whole is
    /// damaged.
    pub async fn put(&self, sealed: &SealedWal) -> Result<Storing> {
        match self.repository.put(sealed.object.name(), sealed.body.clone()).await? {
            Created::New => Ok(Storing::New),
            Created::Existed => self.compare(sealed).await.map(|()| Storing::Already),
        }
    }

    async fn compare(&self, sealed: &SealedWal) -> Result<()> {
        match self.stored(&sealed.object).await? {
            Some(stored) if stored.content == sealed.content => Ok(()),
            Some(stored) => Err(self.conflict(sealed.file, stored.content, sealed.content)),
            None => {
                let what =
                    format!("`{}` existed and vanished while it was compared", sealed.object);
                Err(Error::unavailable(what))
            }
        }
    }

    /// The refusal of a file whose name is taken by other bytes.
    pub fn conflict(&self, file: WalFileName, stored: ContentFacts, local: ContentFacts) -> Error {
        let error = Error::refused(format!(
            "the repository already holds different bytes under this name (blake3 {} stored, {} local)",
            stored.digest, local.digest
        ));
        match file {
            WalFileName::History(timeline) => history_conflict(error, timeline),
            _ => error.hint(format!(
                "two clusters may be archiving to `{}`; compare the system identifiers in `walrs check`",
                self.repository.storage()
            )),
        }
    }

    fn seal_in_memory(&self, file: WalFileName, content: &[u8]) -> Result<SealedWal> {
        let object = self.object_of(file, |hasher| {
            hasher.update(content);
            Ok(())
        })?;
        let encoded = container::encode(
            self.repository.sealing(),
            &self.identity(&object),
            self.repository.codec(),
            content,
        )?;
        let content = ContentFacts { raw_length: encoded.raw_length, digest: encoded.digest };
        Ok(SealedWal { file, object, content, body: encoded.bytes.into() })
    }

    fn seal_file(&self, file: WalFileName, opened: &Arc<File>) -> Result<SealedWal> {
        let feed = |hasher: &mut blake3::Hasher| {
            let fed = hasher.update_reader(FromStart::of(opened));
            fed.map(drop).map_err(|error| cannot_read(file, error))
        };
        let object = self.object_of(file, feed)?;
        let identity = self.identity(&object);
        let (sealing, codec) = (self.repository.sealing(), self.repository.codec());
        let metadata = opened.metadata();
        let length = metadata.map_err(|error| cannot_read(file, error))?.len();
        if length <= IN_MEMORY_BYTES {
            let encoded = container::encode_file(sealing, &identity, codec, opened, length)?;
            let content = ContentFacts { raw_length: length, digest: encoded.digest };
            return Ok(SealedWal { file, object, content, body: encoded.bytes.into() });
        }
        let mut hasher = blake3::Hasher::new();
        feed(&mut hasher)?;
        let content = ContentFacts { raw_length: hasher.count(), digest: hasher.finalize().into() };
        let (sealing, file_again) = (sealing.clone(), Arc::clone(opened));
        let source = Source { sealing, identity, codec, content, file: file_again };
        Ok(SealedWal { file, object, content, body: Body::source(move || source.open().boxed()) })
    }

    /// The object of a file, whose content is fed to a hasher only when its name needs it.
    fn object_of(
        &self,
        file: WalFileName,
        feed: impl FnOnce(&mut blake3::Hasher) -> Result<()>,
    ) -> Result<WalObject> {
        let WalFileName::Partial(segment) = file else {
            return Ok(self.object(file).expect("only a partial segment is named by its content"));
        };
        let mut hasher = self.repository.sealing().partial_hasher();
        feed(&mut hasher)?;
        let digest = hasher.finalize();
        let digest = PartialDigest(*digest.as_bytes().first_chunk().expect("32 bytes"));
        Ok(self.partial_object(segment, digest))
    }

    fn identity(&self, object: &WalObject) -> ObjectIdentity {
        let name: &ObjectName = object.name();
        self.repository.object_identity(name, object.kind(), self.cluster)
    }
}

fn cannot_read(file: WalFileName, error: io::Error) -> Error {
    Error::io(format!("cannot read `{file}`"), error)
}

fn history_conflict(error: Error, timeline: TimelineId) -> Error {
    error.hint(format!(
        "another server took timeline {timeline} first, so nothing of this server's timeline {timeline} can be \
         archived here; stop it, or let it take a free timeline: restart it as a standby and promote it again"
    ))
}

/// What is needed to seal a large file, in pieces: its digest was taken before.
struct Source {
    sealing: Sealing,
    identity: ObjectIdentity,
    codec: Codec,
    content: ContentFacts,
    file: Arc<File>,
}

impl Source {
    /// The pieces of the object, sealed with a fresh salt.
    fn open(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let begun = EncodeStream::new(
            &self.sealing,
            self.identity.clone(),
            self.codec,
            self.content,
            FromStart::of(&self.file),
        );
        stream::once(async move { begun.map_err(io::Error::other) })
            .map(|begun| match begun {
                Ok(encoder) => stream::unfold(Some(encoder), next_piece).left_stream(),
                Err(error) => stream::once(async move { Err(error) }).right_stream(),
            })
            .flatten()
    }
}

type Encoder = EncodeStream<FromStart>;

/// Seals the next piece on a blocking thread; an error is the last one.
async fn next_piece(encoder: Option<Encoder>) -> Option<(io::Result<Bytes>, Option<Encoder>)> {
    let mut encoder = encoder?;
    let (piece, encoder) = task::unblock(move || (encoder.next(), encoder)).await;
    match piece? {
        Ok(bytes) => Some((Ok(bytes), Some(encoder))),
        Err(error) => Some((Err(io::Error::other(error)), None)),
    }
}

/// A shared file read from its first byte, by position.
struct FromStart {
    file: Arc<File>,
    position: u64,
}

impl FromStart {
    fn of(file: &Arc<File>) -> Self {
        Self { file: Arc::clone(file), position: 0 }
    }
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}
