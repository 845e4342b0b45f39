//! The packs of a backup: opened once for the windows that need them, remembered within a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::plan::{PackRead, PlannedChunk};
use crate::budget::Budget;
use crate::container::{
    CHUNK_HEADER_BYTES, ChunkPosition, INDEX_LIMIT_BYTES, ObjectKind, ObjectReader,
    PRELUDE_LIMIT_BYTES,
};
use crate::error::{Error, Result};
use crate::repository::{Manifest, ObjectName, PackIndex, PackReference, Repository};
use crate::storage::{self, ByteRange, StorageErrorKind};
use crate::task;

/// Tables of chunks are kept while they take at most this much memory together.
const REMEMBERED_BYTES: usize = 8 << 20;
const OPENED_AT_ONCE: usize = 8;

/// A pack whose prelude and index have been read and verified.
pub(super) struct OpenPack {
    name: ObjectName,
    reader: ObjectReader,
    chunks: Vec<ChunkPosition>,
}

/// Opens the packs that a manifest names.
pub(super) struct Packs {
    repository: Repository,
    manifest: Arc<Manifest>,
    budget: Budget,
    remembered: Mutex<Remembered>,
}

/// Packs by index, and in the order of their use, the latest last.
#[derive(Default)]
struct Remembered(Vec<(u32, Arc<OpenPack>)>);

impl OpenPack {
    /// Where its chunks lie.
    pub(super) fn chunks(&self) -> &[ChunkPosition] {
        &self.chunks
    }

    /// The content of a chunk, out of the bytes of the read it was planned for.
    pub(super) fn open_chunk(
        &self,
        read: &PackRead,
        chunk: &PlannedChunk,
        bytes: &[u8],
    ) -> Result<Vec<u8>> {
        let start = (chunk.position.offset - read.offset) as usize;
        let length = CHUNK_HEADER_BYTES + chunk.position.stored_length as usize;
        let content =
            self.reader.open_chunk(u64::from(chunk.index), &bytes[start..start + length])?;
        if content.len() == chunk.position.raw_length as usize {
            return Ok(content);
        }
        let what = format!(
            "chunk {} of `{}` has not the length its index states",
            chunk.index,
            self.name.key()
        );
        Err(Error::damaged(what))
    }

    fn memory_bytes(&self) -> usize {
        1024 + self.chunks.len() * size_of::<ChunkPosition>()
    }
}

impl Packs {
    /// The packs of `manifest`, none opened yet.
    pub(super) fn new(repository: &Repository, manifest: &Arc<Manifest>, budget: Budget) -> Self {
        let (repository, manifest) = (repository.clone(), Arc::clone(manifest));
        Self { repository, manifest, budget, remembered: Mutex::default() }
    }

    /// Opens packs by their index in the manifest.
    pub(super) async fn open(
        &self,
        wanted: &BTreeSet<u32>,
    ) -> Result<BTreeMap<u32, Arc<OpenPack>>> {
        let opened =
            wanted.iter().map(|index| async move { Ok((*index, self.open_one(*index).await?)) });
        futures::stream::iter(opened).buffer_unordered(OPENED_AT_ONCE).try_collect().await
    }

    async fn open_one(&self, index: u32) -> Result<Arc<OpenPack>> {
        if let Some(pack) = self.remembered().use_again(index) {
            return Ok(pack);
        }
        let reference = self.manifest.packs.get(index as usize).ok_or_else(|| {
            let backup = &self.manifest.backup_id;
            Error::damaged(format!(
                "the file list of backup `{backup}` names pack {index}, its manifest does not"
            ))
        })?;
        let pack = Arc::new(self.read(reference).await?);
        self.remembered().add(index, &pack);
        Ok(pack)
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered.lock().expect("no panic while holding the lock")
    }

    async fn read(&self, reference: &PackReference) -> Result<OpenPack> {
        let name = ObjectName::Pack(reference.backup.clone(), reference.number);
        let index_bytes = index_length(reference).ok_or_else(|| {
            Error::damaged(format!("the manifest states an impossible index of `{}`", name.key()))
        })?;
        // Stored, opened, and parsed.
        let _room = self.budget.reserve(index_bytes * 3).await;
        let prelude = self.read_prelude(&name);
        let index = self.read_range(&name, reference.index, index_bytes);
        let (prelude, index) = futures::try_join!(prelude, index)?;
        let sealing = self.repository.sealing().clone();
        let cluster = self.manifest.system_identifier;
        let identity = self.repository.object_identity(&name, ObjectKind::Pack, cluster);
        let position = reference.index;
        task::blocking(move || {
            let reader = ObjectReader::open(&sealing, &identity, &prelude)?;
            let chunks = PackIndex::decode(&reader.read_index(position, &index)?)
                .map_err(|error| {
                    error.context(format!("cannot read the index of `{}`", name.key()))
                })?
                .chunks;
            Ok(OpenPack { name, reader, chunks })
        })
        .await
    }

    async fn read_prelude(&self, name: &ObjectName) -> Result<Bytes> {
        self.read_up_to(name, 0, PRELUDE_LIMIT_BYTES as u64).await
    }

    /// Reads one planned range.
    pub(super) async fn read_planned(&self, pack: &OpenPack, read: &PackRead) -> Result<Bytes> {
        self.read_range(&pack.name, read.offset, read.length).await
    }

    /// Exactly `length` bytes from `offset`.
    async fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Bytes> {
        let bytes = self.read_up_to(name, offset, length).await?;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(too_short(name)) }
    }

    /// At most `length` bytes from `offset`, which must lie within the object.
    async fn read_up_to(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Bytes> {
        let range = ByteRange::Span { offset, length };
        let storage = &**self.repository.storage();
        let read = storage::read_all(storage, &name.key(), range, length as usize).await;
        read.map_err(|error| match error.kind() {
            StorageErrorKind::Invalid => too_short(name).because(error),
            _ => error.into(),
        })
    }
}

fn too_short(name: &ObjectName) -> Error {
    Error::damaged(format!("`{}` is too short", name.key()))
}

/// Stored bytes from the first index record to the end of the object.
fn index_length(reference: &PackReference) -> Option<u64> {
    const OVERHEAD_BYTES: u64 = 8 << 20;
    let length = reference.size.checked_sub(reference.index)?;
    (reference.index > 0 && (1..=INDEX_LIMIT_BYTES + OVERHEAD_BYTES).contains(&length))
        .then_some(length)
}

impl Remembered {
    fn use_again(&mut self, index: u32) -> Option<Arc<OpenPack>> {
        let position = self.0.iter().position(|(known, _)| *known == index)?;
        let entry = self.0.remove(position);
        let pack = Arc::clone(&entry.1);
        self.0.push(entry);
        Some(pack)
    }

    /// Adds a pack, and forgets those that were not used for the longest time.
    fn add(&mut self, index: u32, pack: &Arc<OpenPack>) {
        self.0.push((index, Arc::clone(pack)));
        let mut bytes: usize = self.0.iter().map(|(_, pack)| pack.memory_bytes()).sum();
        while bytes > REMEMBERED_BYTES && self.0.len() > 1 {
            bytes -= self.0.remove(0).1.memory_bytes();
        }
    }
}
