//! A backup read back through the library, without any of the code that restores: every byte of every file, and
//! whether hashes and digests say the truth about them.

use std::collections::BTreeMap;
use std::sync::Arc;

use walrs::config::{Config, Environment};
use walrs::container::{self, BLOCK_SIZE, BlockHash, ObjectKind};
use walrs::repository::{
    BackupId, Catalog, Entry, Extent, ExtentSource, FileEntry, FileListPart, Manifest, ObjectName,
    Opening, PackExtent, PackIndex, Repository, blocks_in,
};
use walrs::storage::FsStorage;

use super::repository::TestRepository;

const OBJECT_BYTES: usize = 64 << 20;

/// The newest visible backup of a repository.
pub(crate) struct StoredBackup {
    repository: Repository,
    pub(crate) manifest: Manifest,
    pub(crate) entries: Vec<Entry>,
    packs: Vec<Pack>,
}

struct Pack {
    content: Vec<u8>,
    /// Where every chunk begins in the content.
    starts: Vec<u64>,
    hashes: BTreeMap<(Vec<u8>, u64), BlockHash>,
}

/// Opens a repository as walrs would, by the files that hold its objects.
pub(crate) async fn open(repository: &TestRepository) -> Repository {
    let environment: Environment = repository.environment().iter().collect();
    let settings = Config::load(None, Vec::new(), environment).unwrap().settings().unwrap();
    let storage = Arc::new(FsStorage::new(repository.path()));
    let opening = Opening { storage, settings: &settings, site: None, expected: None };
    opening.existing().await.unwrap()
}

impl StoredBackup {
    /// Reads the newest visible backup whole.
    pub(crate) async fn latest(repository: &TestRepository) -> Self {
        let repository = open(repository).await;
        let catalog = Catalog::load(&repository).await.unwrap();
        // Not by id: backups of one second differ in nothing but random letters.
        let newest = catalog.visible().max_by_key(|manifest| manifest.stop_time);
        let manifest = newest.expect("a visible backup").clone();
        let mut backup = Self { repository, manifest, entries: Vec::new(), packs: Vec::new() };
        backup.read().await;
        backup
    }

    async fn read(&mut self) {
        for part in &self.manifest.parts {
            let read = FileListPart::read(&self.repository, &self.manifest, part).await.unwrap();
            self.entries.extend(read.map(Result::unwrap));
        }
        for pack in &self.manifest.packs {
            let name = ObjectName::Pack(pack.backup.clone(), pack.number);
            self.packs.push(self.read_pack(&name, pack.index).await);
        }
    }

    async fn read_pack(&self, name: &ObjectName, index: u64) -> Pack {
        let bytes = self.repository.read_stored(name, OBJECT_BYTES).await.unwrap().unwrap();
        let cluster = self.manifest.system_identifier;
        let identity = self.repository.object_identity(name, ObjectKind::Pack, cluster);
        let sealing = self.repository.sealing();
        let content = container::decode(sealing, &identity, &bytes).unwrap();
        let reader = container::ObjectReader::open(sealing, &identity, &bytes).unwrap();
        let index = reader.read_index(index, &bytes[index as usize..]).unwrap();
        let index = PackIndex::decode(&index).unwrap();
        let mut starts = vec![0];
        starts.extend(index.chunks.iter().scan(0, |end, chunk| {
            *end += u64::from(chunk.raw_length);
            Some(*end)
        }));
        assert_eq!(starts.last(), Some(&(content.len() as u64)));
        Pack { content, starts, hashes: index.extents.iter().flat_map(hashes_of).collect() }
    }

    /// The id of the backup.
    pub(crate) fn id(&self) -> &BackupId {
        &self.manifest.backup_id
    }

    /// The paths of all lines, in their order.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.path().to_string()).collect()
    }

    /// The line of a file.
    #[track_caller]
    pub(crate) fn file(&self, path: &str) -> &FileEntry {
        let files = self.entries.iter().filter_map(|entry| match entry {
            Entry::File(file) => Some(file),
            _ => None,
        });
        let mut matching = files.filter(|file| file.path.to_string() == path);
        matching.next().unwrap_or_else(|| panic!("no file `{path}` in {:?}", self.paths()))
    }

    /// The bytes of a file, after its hashes and its digest have been compared.
    #[track_caller]
    pub(crate) fn content(&self, path: &str) -> Vec<u8> {
        let file = self.file(path);
        let content: Vec<u8> =
            file.extents.iter().flat_map(|extent| self.extent(file, extent)).collect();
        let mut digest = blake3::Hasher::new();
        for block in content.chunks(BLOCK_SIZE) {
            digest.update(self.repository.sealing().hash_block(block).as_bytes());
        }
        digest.update(&file.size.to_le_bytes());
        assert_eq!(digest.finalize().as_bytes(), file.digest.as_bytes(), "digest of `{path}`");
        content
    }

    fn extent(&self, file: &FileEntry, extent: &Extent) -> Vec<u8> {
        let length = extent.length as usize;
        let ExtentSource::Pack { pack, chunk, offset } = extent.source else {
            return vec![0; length];
        };
        let pack = &self.packs[pack as usize];
        let start = (pack.starts[chunk as usize] + u64::from(offset)) as usize;
        let bytes = &pack.content[start..start + length];
        for (index, block) in bytes.chunks(BLOCK_SIZE).enumerate() {
            let place = extent.offset + (index * BLOCK_SIZE) as u64;
            let indexed = pack.hashes.get(&(file.path.as_bytes().to_vec(), place));
            let hash = self.repository.sealing().hash_block(block);
            assert_eq!(indexed, Some(&hash), "`{}` at {place} in its pack's index", file.path);
        }
        bytes.to_vec()
    }

    /// In the words of [`super::oracle::file_digests`]: files with their digest, directories, links.
    pub(crate) fn file_digests(&self) -> BTreeMap<String, String> {
        let lines = self.entries.iter().map(|entry| {
            let path = entry.path().to_string();
            let told = match entry {
                Entry::Directory(_) => String::new(),
                Entry::Tablespace(tablespace) => format!("-> {}", tablespace.target),
                Entry::File(_) => blake3::hash(&self.content(&path)).to_hex().to_string(),
            };
            (path, told)
        });
        lines.collect()
    }
}

fn hashes_of(extent: &PackExtent) -> Vec<((Vec<u8>, u64), BlockHash)> {
    assert_eq!(extent.hashes.len(), blocks_in(extent.length));
    let place = |index: usize| extent.file_offset + (index * BLOCK_SIZE) as u64;
    let path = || extent.path.clone();
    extent.hashes.iter().enumerate().map(|(index, hash)| ((path(), place(index)), *hash)).collect()
}
