//! Random histories: whatever happened to the blocks of files between backups, and whichever earlier backup each one is
//! compared with, every list restores what was read, also after others are deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::backup::base::WhyFull;
use crate::backup::host;
use crate::backup::test_directory::TestDirectory;
use crate::config::{Config, Environment, LinkPolicy};
use crate::container::{BLOCK_SIZE, CHUNK_HEADER_BYTES, ContentDigest};
use crate::postgres::{SegmentSize, SystemIdentifier};
use crate::repository::{
    BackupId, Creation, Entry, ExtentSource, FileEntry, FileListPart, FirstCluster, Manifest,
    OpenPack, Opening, PackReference, Packs, Repository, describe_pack, example_manifest,
};
use crate::storage::FsStorage;

const FILES: [&str; 6] =
    ["base/5/1", "base/5/1_vm", "base/5/2", "base/5/2.1", "global/3", "postgresql.conf"];
/// A file spans up to three chunks, and ranges of the readers.
const FILE_BLOCKS: u64 = 300;

/// What happens to a file.
#[derive(Debug, Clone)]
enum Event {
    /// Blocks are written, maybe beyond the end.
    Write {
        first: u64,
        count: u64,
        seed: u8,
    },
    /// Every so many blocks one is written.
    Scatter {
        step: usize,
        seed: u8,
    },
    Zero {
        first: u64,
        count: u64,
    },
    Resize {
        bytes: u64,
    },
    Remove,
    /// It and another file change names.
    Exchange {
        with: usize,
    },
    /// It is what it was at an earlier backup.
    Revert {
        to: Index,
    },
}

/// What happens until a backup is taken, and how that is done.
#[derive(Debug, Clone)]
struct Round {
    events: Vec<(usize, Event)>,
    /// One of the earlier backups, whichever; none for a full backup.
    parent: Option<Index>,
    rescan: Rescan,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Complete,
    /// Interrupted after the last pack.
    Dead,
}

fn event() -> impl Strategy<Value = Event> {
    let (first, seed) = (0..FILE_BLOCKS, 1..4_u8);
    let write = |count: std::ops::Range<u64>| (first.clone(), count, seed.clone());
    prop_oneof![
        2 => write(1..5).prop_map(|(first, count, seed)| Event::Write { first, count, seed }),
        2 => write(1..300).prop_map(|(first, count, seed)| Event::Write { first, count, seed }),
        1 => (2..40_usize, seed.clone()).prop_map(|(step, seed)| Event::Scatter { step, seed }),
        1 => write(1..50).prop_map(|(first, count, _)| Event::Zero { first, count }),
        2 => (0..FILE_BLOCKS * BLOCK_SIZE as u64).prop_map(|bytes| Event::Resize { bytes }),
        1 => Just(Event::Remove),
        1 => (0..FILES.len()).prop_map(|with| Event::Exchange { with }),
        2 => any::<Index>().prop_map(|to| Event::Revert { to }),
    ]
}

fn round() -> impl Strategy<Value = Round> {
    let events = prop::collection::vec((0..FILES.len(), event()), 0..6);
    let parent = prop::option::weighted(0.9, any::<Index>());
    let rescan = prop_oneof![3 => Just(Rescan::Changed), 1 => Just(Rescan::Always)];
    let end = prop_oneof![4 => Just(End::Complete), 1 => Just(End::Dead)];
    (events, parent, rescan, end).prop_map(|(events, parent, rescan, end)| Round {
        events,
        parent,
        rescan,
        end,
    })
}

type Files = BTreeMap<String, Vec<u8>>;

/// A data directory, and the backups that were taken of it with what it was then.
struct World {
    source: TestDirectory,
    _directory: tempfile::TempDir,
    repository: Repository,
    backups: Vec<(Manifest, Files)>,
    dead: Vec<(BackupId, Vec<PackReference>)>,
}

fn cluster() -> SystemIdentifier {
    TestDirectory::control().system_identifier
}

async fn repository(directory: &std::path::Path) -> Repository {
    let settings = Config::load(None, Vec::new(), Environment::default());
    let settings = settings.unwrap().settings().unwrap();
    let storage = Arc::new(FsStorage::new(directory));
    let opening = Opening { storage, settings: &settings, site: None, expected: None };
    let first = FirstCluster { system_identifier: cluster(), segment_size: SegmentSize::DEFAULT };
    opening.open(Creation::By(first)).await.unwrap()
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let repository = repository(directory.path()).await;
        let (source, backups, dead) = (TestDirectory::new(), Vec::new(), Vec::new());
        Self { source, _directory: directory, repository, backups, dead }
    }

    fn happen(&self, name: &str, event: &Event) {
        let path = self.source.path().join(name);
        let size = path.metadata().map_or(0, |status| status.len());
        let options = || fs::File::options().write(true).create(true).truncate(false).open(&path);
        let blocks = |from: u64, step: usize, to: u64| (from..to).step_by(step);
        let write = |block: u64, seed: u8| {
            let block = block * BLOCK_SIZE as u64;
            options().unwrap().write_all_at(&[seed ^ (block >> 16) as u8; BLOCK_SIZE], block)
        };
        match event {
            Event::Write { first, count, seed } => {
                blocks(*first, 1, first + count).try_for_each(|block| write(block, *seed)).unwrap();
            }
            Event::Scatter { step, seed } => {
                let end = size / BLOCK_SIZE as u64;
                blocks(0, *step, end).try_for_each(|block| write(block, *seed)).unwrap();
            }
            Event::Zero { first, count } => {
                let zeros = vec![0; *count as usize * BLOCK_SIZE];
                options().unwrap().write_all_at(&zeros, first * BLOCK_SIZE as u64).unwrap();
            }
            Event::Resize { bytes } => options().unwrap().set_len(*bytes).unwrap(),
            Event::Remove => drop(fs::remove_file(&path)),
            Event::Exchange { with } => self.exchange(&path, FILES[*with]),
            Event::Revert { to } => self.revert(name, *to),
        }
    }

    fn exchange(&self, path: &std::path::Path, with: &str) {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let with = self.source.path().join(with);
        if path.exists() && with.exists() && path != with {
            renameat_with(CWD, path, CWD, &with, RenameFlags::EXCHANGE).unwrap();
        }
    }

    fn revert(&self, name: &str, to: Index) {
        if self.backups.is_empty() {
            return;
        }
        match to.get(&self.backups).1.get(name) {
            Some(content) => self.source.write(name, content),
            None => drop(fs::remove_file(self.source.path().join(name))),
        }
    }

    fn files(&self) -> Files {
        let names = FILES.iter().chain(&["PG_VERSION", "global/pg_control"]);
        let read =
            |name: &&str| Some((name.to_string(), fs::read(self.source.path().join(name)).ok()?));
        names.filter_map(read).collect()
    }

    async fn live(&mut self, round: &Round) {
        for (file, event) in &round.events {
            self.happen(FILES[*file], event);
        }
        // Far longer than the ticks by which file systems tell the time.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let parent = round.parent.filter(|_| !self.backups.is_empty());
        let parent = parent.map(|index| Arc::new(index.get(&self.backups).0.clone()));
        let base = Base { parent: parent.ok_or(WhyFull::Asked), dead: self.dead.clone() };
        let manifest = self.back_up(&base, round.rescan).await;
        if round.end == End::Dead {
            let id = manifest.backup_id.clone();
            self.dead.push((id.clone(), self.packs_of(&id, &manifest).await));
            return;
        }
        self.backups.push((manifest, self.files()));
        self.require_restores(self.backups.last().unwrap()).await;
    }

    /// What is found out about the packs of a backup without its manifest.
    async fn packs_of(&self, id: &BackupId, manifest: &Manifest) -> Vec<PackReference> {
        let mut packs = Vec::new();
        for pack in manifest.packs.iter().filter(|pack| pack.backup == *id) {
            let described =
                describe_pack(&self.repository, cluster(), id, pack.number, pack.size).await;
            packs.push(described.unwrap());
        }
        packs
    }

    /// As [`copy`], without a server.
    async fn back_up(&self, base: &Base, rescan: Rescan) -> Manifest {
        let backup = BackupId::generate(Timestamp::now()).unwrap();
        let target = Target { repository: self.repository.clone(), cluster: cluster(), backup };
        let data = self.source.data(LinkPolicy::Error);
        let mut feeders = Feeders::default();
        let recollection = base.recollect(&self.repository, cluster(), rescan, &mut feeders);
        let (memory, known) = recollection.map(|earlier| (earlier.memory, earlier.known)).unzip();
        let table = known.as_ref().map(|known| Arc::clone(known.table())).unwrap_or_default();
        let mut assembler = Assembler::new(target.clone(), data.clone(), Numbers::FIRST, table);
        let (pool, codec) = (BufferPool::default(), self.repository.codec());
        let sealing = self.repository.sealing().clone();
        let reader = Arc::new(Reader::new(data.clone(), sealing, None, pool.clone()));
        let (budget, limit) = (Budget::of(MEMORY_BYTES), Arc::new(RateLimit::new(None)));
        let reading = Reading { reader: Arc::clone(&reader), known, budget, limit };
        let read = |job: Result<Job>| {
            let reading = reading.clone();
            async move { reading.read(job?).await }
        };
        let portions = jobs(data, memory.unwrap_or_default()).map(read).buffered(4);
        let mut chunks = Box::pin(chunked(portions.boxed()));
        while let Some(raw) = chunks.try_next().await.unwrap() {
            let chunk = compress_chunk(codec, &pool, raw).unwrap();
            self.put(assembler.add(chunk, &|_| Vec::new()).unwrap()).await;
            assert_eq!(assembler.lying(), None);
        }
        drop(chunks);
        let mut chunker = Chunker::default();
        chunker.add(reader.read_control_file().unwrap().1);
        let chunk = compress_chunk(codec, &pool, chunker.finish().unwrap()).unwrap();
        self.put(assembler.add_control_file(chunk).unwrap()).await;
        self.put(assembler.seal_pack().unwrap()).await;
        manifest_of(target, base, assembler.take_stored())
    }

    async fn put(&self, sealed: impl IntoIterator<Item = Sealed>) {
        for Sealed { name, bytes } in sealed {
            self.repository.put(&name, bytes).await.unwrap();
        }
    }

    /// D1, D3, D4
    async fn require_restores(&self, (manifest, expected): &(Manifest, Files)) {
        let mut contents = Contents::read(&self.repository, manifest).await;
        let mut restored = Files::new();
        for part in &manifest.parts {
            let lines = FileListPart::read(&self.repository, manifest, part).await.unwrap();
            for line in lines {
                if let Entry::File(file) = line.unwrap() {
                    restored.insert(file.path.to_string(), contents.restore(&file));
                }
            }
        }
        let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&restored), names(expected));
        for (name, content) in &restored {
            assert!(*content == expected[name], "`{name}` differs");
        }
        let used: Vec<_> = manifest.packs.iter().map(|pack| pack.used).collect();
        assert_eq!(contents.used, used);
    }

    /// Deletes backups as a sweeper does, the dead ones too: packs stay that a kept backup names.
    async fn keep(&mut self, is_kept: &[bool]) {
        let mut kept = is_kept.iter().cycle();
        let dropped: Vec<_> = self.backups.extract_if(.., |_| !kept.next().unwrap()).collect();
        let packs = |(manifest, _): &(Manifest, Files)| manifest.packs.clone();
        let named = |pack: PackReference| ObjectName::Pack(pack.backup, pack.number).key();
        let needed: BTreeSet<_> = self.backups.iter().flat_map(packs).map(named).collect();
        let dead = self.dead.drain(..).flat_map(|(_, packs)| packs);
        let deletable: BTreeSet<_> =
            dropped.iter().flat_map(packs).chain(dead).map(named).collect();
        let deletable: Vec<_> = deletable.difference(&needed).cloned().collect();
        self.repository.storage().delete(&deletable).await.unwrap();
    }
}

fn manifest_of(target: Target, base: &Base, stored: Stored) -> Manifest {
    // Everything has settled, by the clock that the rule is told: times of change alone must tell.
    let requested = Timestamp::now() + SignedDuration::from_secs(100);
    Manifest {
        backup_id: target.backup,
        system_identifier: target.cluster,
        start_requested: (requested.as_second(), 0),
        machine_id: host::machine_id(),
        boot_id: host::boot_id(),
        from_standby: false,
        sample: base.sample(),
        packs: stored.packs,
        parts: stored.parts,
        ..example_manifest()
    }
}

/// The contents of all packs that a manifest names, and how much of each was restored from.
struct Contents<'a> {
    repository: &'a Repository,
    packs: Vec<(Arc<OpenPack>, Vec<u8>)>,
    used: Vec<u64>,
}

impl<'a> Contents<'a> {
    async fn read(repository: &'a Repository, manifest: &Manifest) -> Self {
        let table: Arc<[_]> = manifest.packs.clone().into();
        let count = table.len();
        let budget = Budget::of(MEMORY_BYTES);
        let packs = Packs::new(repository, cluster(), table, budget, 16 << 20);
        let mut contents = Vec::new();
        for index in 0..count {
            let pack = packs.open(index as u32).await.unwrap();
            let mut content = Vec::new();
            for (chunk, position) in (0..).zip(pack.blocks().chunks()) {
                let length = CHUNK_HEADER_BYTES as u64 + u64::from(position.stored_length);
                let bytes = packs.read(&pack, position.offset, length).await.unwrap();
                content.extend(pack.open_chunk(chunk, &bytes).unwrap());
            }
            contents.push((pack, content));
        }
        Self { repository, packs: contents, used: vec![0; count] }
    }

    /// The bytes of a file by its line, after everything that the line says of them was compared.
    fn restore(&mut self, file: &FileEntry) -> Vec<u8> {
        let mut content = Vec::new();
        for extent in &file.extents {
            assert_eq!(extent.offset, content.len() as u64);
            let ExtentSource::Pack { pack, chunk, offset } = extent.source else {
                content.resize(content.len() + extent.length as usize, 0);
                continue;
            };
            self.used[pack as usize] += extent.length;
            let (open, bytes) = &self.packs[pack as usize];
            let position = open.blocks().position(chunk, offset).unwrap();
            assert!(open.blocks().hashes(position, extent.length).is_some());
            content.extend_from_slice(&bytes[position as usize..][..extent.length as usize]);
        }
        assert_eq!(content.len() as u64, file.size);
        let mut digest = blake3::Hasher::new();
        for block in content.chunks(BLOCK_SIZE) {
            digest.update(self.repository.sealing().hash_block(block).as_bytes());
        }
        digest.update(&file.size.to_le_bytes());
        assert_eq!(ContentDigest::from(digest.finalize()), file.digest);
        content
    }
}

/// A run that found out that identities of files lie began anew, and was then interrupted: its packs have a file twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_an_interrupted_backup_stored_twice_is_no_trouble() {
    let mut world = World::new().await;
    let write_ends = |world: &World, seed| {
        for first in [0, 290] {
            world.happen(FILES[0], &Event::Write { first, count: 10, seed });
        }
    };
    write_ends(&world, 1);
    let first = Base { parent: Err(WhyFull::First), dead: Vec::new() };
    let first = Arc::new(world.back_up(&first, Rescan::Always).await);
    let mut packs = world.packs_of(&first.backup_id, &first).await;
    write_ends(&world, 2);
    let again = Base { parent: Ok(Arc::clone(&first)), dead: Vec::new() };
    let again = world.back_up(&again, Rescan::Always).await;
    packs.extend(world.packs_of(&again.backup_id, &again).await);
    assert_eq!(packs.len(), 2);
    let dead = vec![(first.backup_id.clone(), packs)];
    let next = Base { parent: Err(WhyFull::Asked), dead };
    let next = world.back_up(&next, Rescan::Always).await;
    world.backups.push((next, world.files()));
    world.require_restores(world.backups.last().unwrap()).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// D1, D2, D3, D4
    #[test]
    fn every_backup_of_a_random_history_restores_what_was_read(
        rounds in prop::collection::vec(round(), 2..8),
        is_kept in prop::collection::vec(any::<bool>(), 1..8),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for round in &rounds {
                world.live(round).await;
            }
            world.keep(&is_kept).await;
            for backup in &world.backups {
                world.require_restores(backup).await;
            }
        });
    }
}
