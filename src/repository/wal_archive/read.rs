//! Reading WAL back: what is returned has been authenticated whole.

use std::fs::File;
use std::io::Write;
use std::pin::pin;

use bytes::Bytes;
use futures::future::{Either, select};
use futures::stream::Fuse;
use futures::{StreamExt, TryStreamExt};

use super::{IN_MEMORY_BYTES, WalArchive, WalObject};
use crate::container::{self, ContentFacts, ObjectKind, StreamDecoder};
use crate::error::{Error, Result};
use crate::repository::absent_is_none;
use crate::storage::{ByteRange, ByteStream};
use crate::task;

/// Stored bytes that are opened at a time: to wake another thread for every piece that arrives costs more than to open it.
const BATCH_BYTES: usize = 256 << 10;

/// Most bytes of an object that is opened in memory: what incompressible content of [`IN_MEMORY_BYTES`] takes.
const STORED_BYTES: usize = IN_MEMORY_BYTES as usize + (4 << 20);

impl WalArchive {
    /// The content of a file that fits into memory; `None` when there is no such object.
    pub async fn read(&self, object: &WalObject) -> Result<Option<Vec<u8>>> {
        self.repository.read_object(object.name(), object.kind(), self.cluster, STORED_BYTES).await
    }

    /// Writes the content to `target` in bounded memory and returns its length; `None` when there is no such object.
    ///
    /// What `target` holds must not be used unless this succeeds. The file is not synced.
    pub async fn read_into(&self, object: &WalObject, target: File) -> Result<Option<u64>> {
        let key = object.name().key();
        let opened = self.repository.storage().get(&key, ByteRange::Full).await;
        let Some(stream) = absent_is_none(opened)? else { return Ok(None) };
        let written = if self.fits_into_memory(object) {
            self.write_whole(object, stream, target).await
        } else {
            self.write_chunks(object, stream, target).await.map(|content| content.raw_length)
        };
        written.map(Some).map_err(|error| self.with_remedy(error, &key))
    }

    /// As [`WalArchive::read_into`], one chunk after the other whatever the size, and tells what was written.
    ///
    /// It takes longer and holds a few megabytes, so many can be read at the same time.
    pub async fn read_in_chunks(
        &self,
        object: &WalObject,
        target: File,
    ) -> Result<Option<ContentFacts>> {
        let key = object.name().key();
        let opened = self.repository.storage().get(&key, ByteRange::Full).await;
        let Some(stream) = absent_is_none(opened)? else { return Ok(None) };
        let written = self.write_chunks(object, stream, target).await;
        written.map(Some).map_err(|error| self.with_remedy(error, &key))
    }

    fn fits_into_memory(&self, object: &WalObject) -> bool {
        match object.kind() {
            ObjectKind::WalSegment | ObjectKind::PartialSegment => {
                self.segment_size.bytes() <= IN_MEMORY_BYTES
            }
            _ => true,
        }
    }

    /// All chunks at once, on all cores.
    async fn write_whole(
        &self,
        object: &WalObject,
        stream: ByteStream,
        mut target: File,
    ) -> Result<u64> {
        let stored = collect(object, stream).await?;
        let sealing = self.repository.sealing().clone();
        let identity = self.repository.object_identity(object.name(), object.kind(), self.cluster);
        task::blocking(move || {
            let content = container::decode(&sealing, &identity, &stored)?;
            target.write_all(&content).map_err(cannot_write)?;
            Ok(content.len() as u64)
        })
        .await
    }

    /// One chunk after the other, while what follows arrives.
    async fn write_chunks(
        &self,
        object: &WalObject,
        stream: ByteStream,
        mut target: File,
    ) -> Result<ContentFacts> {
        let identity = self.repository.object_identity(object.name(), object.kind(), self.cluster);
        let mut decoder = StreamDecoder::new(self.repository.sealing(), identity);
        // It is asked again after its end.
        let mut stream = stream.fuse();
        let mut batch = next_batch(&mut stream).await?;
        while !batch.is_empty() {
            let opening = task::blocking(move || {
                open_all(&mut decoder, batch, &mut target).map(|()| (decoder, target))
            });
            let (opening, collecting) = (pin!(opening), pin!(next_batch(&mut stream)));
            match select(opening, collecting).await {
                Either::Left((opened, collecting)) => {
                    (decoder, target) = opened?;
                    batch = collecting.await?;
                }
                // Waited for: nobody may take `target` for unused while a thread writes to it.
                Either::Right((next, opening)) => {
                    (decoder, target) = opening.await?;
                    batch = next?;
                }
            }
        }
        Ok(decoder.finish()?.content)
    }
}

/// What arrives next, about [`BATCH_BYTES`]; nothing at the end.
async fn next_batch(stream: &mut Fuse<ByteStream>) -> Result<Vec<Bytes>> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES
        && let Some(piece) = stream.try_next().await?
    {
        bytes += piece.len();
        batch.push(piece);
    }
    Ok(batch)
}

/// Writes the chunks that `pieces` complete.
fn open_all(decoder: &mut StreamDecoder, pieces: Vec<Bytes>, target: &mut File) -> Result<()> {
    for piece in pieces {
        decoder.feed(&piece);
        while let Some(chunk) = decoder.next_chunk()? {
            target.write_all(chunk).map_err(cannot_write)?;
        }
    }
    Ok(())
}

async fn collect(object: &WalObject, mut stream: ByteStream) -> Result<Bytes> {
    let mut stored = bytes::BytesMut::new();
    while let Some(piece) = stream.try_next().await? {
        if stored.len() + piece.len() > STORED_BYTES {
            return Err(Error::damaged(format!("`{object}` is larger than its file can be")));
        }
        stored.extend_from_slice(&piece);
    }
    Ok(stored.freeze())
}

fn cannot_write(error: std::io::Error) -> Error {
    Error::io("cannot write what was fetched", error)
}
