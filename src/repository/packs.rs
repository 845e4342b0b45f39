//! The packs that backups use, opened once for all who need them and remembered within a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::Repository;
use super::layout::ObjectName;
use super::manifest::PackReference;
use super::pack_blocks::PackBlocks;
use crate::budget::Budget;
use crate::container::{
    END_RECORD_BYTES, INDEX_LIMIT_BYTES, ObjectKind, ObjectReader, PRELUDE_LIMIT_BYTES,
};
use crate::error::{Error, Result};
use crate::postgres::SystemIdentifier;
use crate::storage::{self, ByteRange, StorageErrorKind};
use crate::task;

const OPENED_AT_ONCE: usize = 8;

/// A pack whose prelude and index have been read and verified.
pub struct OpenPack {
    name: ObjectName,
    reader: ObjectReader,
    blocks: PackBlocks,
}

/// Opens packs by their index in a table.
pub struct Packs {
    repository: Repository,
    cluster: SystemIdentifier,
    table: Arc<[PackReference]>,
    /// For what is read while an index is opened.
    budget: Budget,
    /// What opened packs may take together before the oldest is forgotten.
    remembered_bytes: usize,
    remembered: Mutex<Remembered>,
}

/// A pack that is being opened, or has been.
type Cell = Arc<OnceCell<Arc<OpenPack>>>;

/// Packs by index, in the order of their use, the latest last.
#[derive(Default)]
struct Remembered(Vec<(u32, Cell)>);

impl OpenPack {
    /// Where its chunks lie and what its blocks hash to.
    pub fn blocks(&self) -> &PackBlocks {
        &self.blocks
    }

    /// The content of chunk `index`, out of its frame and its stored bytes.
    pub fn open_chunk(&self, index: u32, bytes: &[u8]) -> Result<Vec<u8>> {
        let content = self.reader.open_chunk(u64::from(index), bytes)?;
        let stated = self.blocks.chunks().get(index as usize).map(|chunk| chunk.raw_length);
        if stated.is_some_and(|stated| stated as usize == content.len()) {
            return Ok(content);
        }
        let name = self.name.key();
        let what = format!("chunk {index} of `{name}` has not the length its index states");
        Err(Error::damaged(what))
    }
}

impl Packs {
    /// The packs of `table`, none opened yet.
    pub fn new(
        repository: &Repository,
        cluster: SystemIdentifier,
        table: Arc<[PackReference]>,
        budget: Budget,
        remembered_bytes: usize,
    ) -> Self {
        let (repository, remembered) = (repository.clone(), Mutex::default());
        Self { repository, cluster, table, budget, remembered_bytes, remembered }
    }

    /// The table.
    pub fn table(&self) -> &Arc<[PackReference]> {
        &self.table
    }

    /// Opens several packs, by their index in the table.
    pub async fn open_all(&self, wanted: &BTreeSet<u32>) -> Result<BTreeMap<u32, Arc<OpenPack>>> {
        let opened =
            wanted.iter().map(|index| async move { Ok((*index, self.open(*index).await?)) });
        futures::stream::iter(opened).buffer_unordered(OPENED_AT_ONCE).try_collect().await
    }

    /// Opens a pack by its index in the table; several who ask at once wait for one reading. Cancel safe.
    ///
    /// An index beyond the table, a missing pack and a damaged one are damage.
    pub async fn open(&self, index: u32) -> Result<Arc<OpenPack>> {
        let cell = self.remembered().cell(index);
        let opened = cell.get_or_try_init(|| self.read_pack(index)).await.map(Arc::clone);
        self.remembered().forget_beyond(self.remembered_bytes);
        opened
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().expect("no panic while holding the lock")
    }

    async fn read_pack(&self, index: u32) -> Result<Arc<OpenPack>> {
        let reference = self.table.get(index as usize).ok_or_else(|| {
            Error::damaged(format!("a file list names pack {index}, its manifest does not"))
        })?;
        let name = ObjectName::Pack(reference.backup.clone(), reference.number);
        let (reader, index) =
            read_index(&self.repository, self.cluster, reference, &self.budget).await?;
        let blocks = task::blocking(move || {
            PackBlocks::decode(&index).map_err(|error| {
                error.context(format!("cannot read the index of `{}`", name.key()))
            })
        })
        .await?;
        let name = ObjectName::Pack(reference.backup.clone(), reference.number);
        Ok(Arc::new(OpenPack { name, reader, blocks }))
    }

    /// Exactly `length` stored bytes of a pack from `offset`.
    pub async fn read(&self, pack: &OpenPack, offset: u64, length: u64) -> Result<Bytes> {
        read_range(&self.repository, &pack.name, offset, length).await
    }
}

/// Reads and verifies the prelude and the index of a pack; the index is not parsed.
pub async fn read_index(
    repository: &Repository,
    cluster: SystemIdentifier,
    pack: &PackReference,
    budget: &Budget,
) -> Result<(ObjectReader, Vec<u8>)> {
    let name = ObjectName::Pack(pack.backup.clone(), pack.number);
    let index_bytes = index_length(pack).ok_or_else(|| {
        Error::damaged(format!("the manifest states an impossible index of `{}`", name.key()))
    })?;
    // Stored, opened, and parsed.
    let _room = budget.reserve(index_bytes * 3).await;
    let prelude = read_up_to(repository, &name, 0, PRELUDE_LIMIT_BYTES as u64);
    let index = read_range(repository, &name, pack.index, index_bytes);
    let (prelude, index) = futures::try_join!(prelude, index)?;
    let sealing = repository.sealing().clone();
    let identity = repository.object_identity(&name, ObjectKind::Pack, cluster);
    let position = pack.index;
    task::blocking(move || {
        let reader = ObjectReader::open(&sealing, &identity, &prelude)?;
        let index = reader.read_index(position, &index)?;
        Ok((reader, index))
    })
    .await
}

/// What a manifest would say of a pack of `size` stored bytes, told by the pack alone; nothing of it is used yet.
pub async fn describe_pack(
    repository: &Repository,
    cluster: SystemIdentifier,
    backup: &super::BackupId,
    number: u32,
    size: u64,
) -> Result<PackReference> {
    let name = ObjectName::Pack(backup.clone(), number);
    let end_at = size.checked_sub(END_RECORD_BYTES as u64).ok_or_else(|| too_short(&name))?;
    let prelude = read_up_to(repository, &name, 0, PRELUDE_LIMIT_BYTES as u64);
    let end = read_range(repository, &name, end_at, END_RECORD_BYTES as u64);
    let (prelude, end) = futures::try_join!(prelude, end)?;
    let identity = repository.object_identity(&name, ObjectKind::Pack, cluster);
    let reader = ObjectReader::open(repository.sealing(), &identity, &prelude)?;
    let end: &[u8; END_RECORD_BYTES] = (&*end).try_into().expect("exactly so much was read");
    let end = reader.open_end(end)?;
    let lost = || Error::damaged(format!("`{}` has no index", name.key()));
    let index = end.index_position.ok_or_else(lost)?;
    let (backup, raw) = (backup.clone(), end.raw_length);
    Ok(PackReference { backup, number, size, index, raw, used: 0 })
}

/// Exactly `length` bytes from `offset`.
async fn read_range(
    repository: &Repository,
    name: &ObjectName,
    offset: u64,
    length: u64,
) -> Result<Bytes> {
    let bytes = read_up_to(repository, name, offset, length).await?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(too_short(name)) }
}

/// At most `length` bytes from `offset`, which must lie within the object.
async fn read_up_to(
    repository: &Repository,
    name: &ObjectName,
    offset: u64,
    length: u64,
) -> Result<Bytes> {
    let range = ByteRange::Span { offset, length };
    let storage = &**repository.storage();
    let read = storage::read_all(storage, &name.key(), range, length as usize).await;
    read.map_err(|error| match error.kind() {
        StorageErrorKind::Invalid => too_short(name).because(error),
        _ if error.is_not_found() => {
            Error::damaged(format!("`{}` is missing", name.key())).because(error)
        }
        _ => error.into(),
    })
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
    /// The cell of a pack, which becomes the latest used.
    fn cell(&mut self, index: u32) -> Cell {
        let known = self.0.iter().position(|(known, _)| *known == index);
        let entry = known.map_or_else(|| (index, Cell::default()), |at| self.0.remove(at));
        let cell = Arc::clone(&entry.1);
        self.0.push(entry);
        cell
    }

    /// Forgets those that were not used for the longest time; one that is being opened costs nothing yet.
    fn forget_beyond(&mut self, limit: usize) {
        let mut bytes: usize = self.0.iter().map(|(_, cell)| memory_bytes(cell)).sum();
        while bytes > limit && self.0.len() > 1 {
            bytes -= memory_bytes(&self.0.remove(0).1);
        }
    }
}

fn memory_bytes(cell: &Cell) -> usize {
    cell.get().map_or(0, |pack| 1024 + pack.blocks.memory_bytes())
}
