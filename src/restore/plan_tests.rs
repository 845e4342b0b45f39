//! Plans against a byte-by-byte model of what the extents say.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::container::ContentDigest;
use crate::repository::{FileIdentity, ListedPath};

const BLOCK: u64 = BLOCK_SIZE as u64;

/// Where a byte of a file comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Zero,
    Pack { pack: u32, chunk: u32, offset: u32 },
}

/// The packs of a repository: for every chunk its blocks, some of them short (ends of files).
type Packs = Vec<Vec<Vec<u32>>>;

/// What the proptest draws for an extent: zeros, or a place to start; and how many blocks at most.
type Drawn = (bool, prop::sample::Index, prop::sample::Index, prop::sample::Index, usize);

fn packs() -> impl Strategy<Value = Packs> {
    let block = prop_oneof![4 => Just(BLOCK as u32), 1 => 1..BLOCK as u32];
    let chunk = prop::collection::vec(block, 1..6);
    prop::collection::vec(prop::collection::vec(chunk, 1..6), 1..4)
}

fn files() -> impl Strategy<Value = Vec<Vec<Drawn>>> {
    let place = any::<prop::sample::Index>;
    let extent = (prop::bool::weighted(0.2), place(), place(), place(), 1_usize..9);
    prop::collection::vec(prop::collection::vec(extent, 0..8), 1..10)
}

/// For each of ten files of at most 64 blocks, whether its blocks are right already.
fn right_blocks() -> impl Strategy<Value = Vec<Vec<bool>>> {
    let file = prop_oneof![
        1 => Just(vec![false; 64]),
        1 => Just(vec![true; 64]),
        2 => prop::collection::vec(any::<bool>(), 64),
    ];
    prop::collection::vec(file, 10)
}

fn tables(packs: &Packs) -> Vec<Vec<ChunkPosition>> {
    let table = |pack: &Vec<Vec<u32>>| {
        let mut offset = 300;
        let position = |chunk: &Vec<u32>| {
            let raw_length = chunk.iter().sum();
            // As if half of it compressed away; a few are wide enough to part reads.
            let stored_length = if raw_length % 5 == 0 { 900_000 } else { raw_length / 2 + 1 };
            let position = ChunkPosition { offset, stored_length, raw_length };
            offset = frame_end(&position);
            position
        };
        pack.iter().map(position).collect()
    };
    packs.iter().map(table).collect()
}

/// A file made of the drawn extents; a short block ends it.
fn file(number: usize, drawn: &[Drawn], packs: &Packs) -> FileEntry {
    let (mut extents, mut size) = (Vec::new(), 0);
    for (zero, pack, chunk, block, count) in drawn {
        let source = if *zero {
            ExtentSource::Zeros
        } else {
            let pack = pack.index(packs.len());
            let chunk = chunk.index(packs[pack].len());
            let block = block.index(packs[pack][chunk].len());
            let offset = packs[pack][chunk][..block].iter().sum();
            ExtentSource::Pack { pack: pack as u32, chunk: chunk as u32, offset }
        };
        let length = match source {
            ExtentSource::Zeros => *count as u64 * BLOCK,
            ExtentSource::Pack { pack, chunk, offset } => {
                run_of_blocks(&packs[pack as usize], chunk, offset, *count)
            }
        };
        extents.push(Extent { offset: size, length, source });
        size += length;
        if !size.is_multiple_of(BLOCK) {
            break;
        }
    }
    entry(number, size, extents)
}

/// Bytes of at most `count` blocks that follow each other from a place in a pack, up to the first short one.
fn run_of_blocks(pack: &[Vec<u32>], chunk: u32, offset: u32, count: usize) -> u64 {
    let mut length = 0;
    let mut skip = offset;
    let blocks = pack[chunk as usize..].iter().flatten().skip_while(|block| {
        let skipped = skip > 0;
        skip = skip.saturating_sub(**block);
        skipped
    });
    for block in blocks.take(count) {
        length += u64::from(*block);
        if u64::from(*block) < BLOCK {
            break;
        }
    }
    length
}

fn entry(number: usize, size: u64, extents: Vec<Extent>) -> FileEntry {
    FileEntry {
        path: ListedPath::new(format!("base/1/{number}")).unwrap(),
        mode: 0o600,
        size,
        mtime: (0, 0),
        identity: FileIdentity(0, 0, 0, 0),
        digest: ContentDigest::of(b""),
        extents,
        bad_pages: Vec::new(),
    }
}

/// The source of every block by following the extents one byte at a time (in steps of a block).
fn model(file: &FileEntry, tables: &[Vec<ChunkPosition>]) -> BTreeMap<u64, (Source, u64)> {
    let mut sources = BTreeMap::new();
    for extent in &file.extents {
        let mut at = extent.offset;
        let mut source = extent.source;
        while at < extent.offset + extent.length {
            let length = BLOCK.min(extent.offset + extent.length - at);
            sources.insert(at, (resolve(&mut source, tables, length), length));
            at += length;
        }
    }
    sources
}

fn resolve(source: &mut ExtentSource, tables: &[Vec<ChunkPosition>], length: u64) -> Source {
    let ExtentSource::Pack { pack, chunk, offset } = source else { return Source::Zero };
    if *offset == tables[*pack as usize][*chunk as usize].raw_length {
        (*chunk, *offset) = (*chunk + 1, 0);
    }
    let found = Source::Pack { pack: *pack, chunk: *chunk, offset: *offset };
    *offset += length as u32;
    found
}

/// The source of every block of every file as the plan has it; a block with two sources fails.
fn planned(plan: &WindowPlan) -> BTreeMap<(u32, u64), (Source, u64)> {
    let mut sources = BTreeMap::new();
    let mut put = |file, at, source, length| {
        let before = sources.insert((file, at), (source, length));
        assert_eq!(before, None, "two sources for byte {at} of file {file}");
    };
    for run in &plan.zeros {
        for at in (0..run.length).step_by(BLOCK_SIZE) {
            put(run.file, run.file_offset + at, Source::Zero, BLOCK.min(run.length - at));
        }
    }
    for read in &plan.reads {
        for chunk in &read.chunks {
            for piece in &chunk.pieces {
                for at in (0..piece.length).step_by(BLOCK_SIZE) {
                    let offset = piece.chunk_offset + at;
                    let source = Source::Pack { pack: read.pack, chunk: chunk.index, offset };
                    let length = BLOCK.min(u64::from(piece.length - at));
                    put(piece.file, piece.file_offset + u64::from(at), source, length);
                }
            }
        }
    }
    sources
}

fn plan(files: &[FileEntry], tables: &[Vec<ChunkPosition>]) -> Result<WindowPlan> {
    plan_around(files, tables, &RightBlocks::default())
}

fn plan_around(
    files: &[FileEntry],
    tables: &[Vec<ChunkPosition>],
    right: &RightBlocks,
) -> Result<WindowPlan> {
    let tables = tables.iter().enumerate();
    let tables = tables.map(|(pack, table)| (pack as u32, table.as_slice())).collect();
    plan_window(files, &tables, right)
}

proptest! {
    /// D1, D3
    #[test]
    fn every_byte_of_every_file_gets_the_one_source_its_extents_name(
        packs in packs(), drawn in files()
    ) {
        let tables = tables(&packs);
        let files: Vec<_> =
            drawn.iter().enumerate().map(|(number, drawn)| file(number, drawn, &packs)).collect();
        let mut expected = BTreeMap::new();
        for (number, file) in files.iter().enumerate() {
            let blocks = model(file, &tables);
            expected.extend(blocks.into_iter().map(|(at, block)| ((number as u32, at), block)));
        }
        let plan = plan(&files, &tables).unwrap();
        prop_assert_eq!(planned(&plan), expected);
    }

    /// D1, R6
    #[test]
    fn every_block_that_is_not_right_gets_its_source_and_no_other_is_touched(
        packs in packs(), drawn in files(), right in right_blocks()
    ) {
        let tables = tables(&packs);
        let files: Vec<_> =
            drawn.iter().enumerate().map(|(number, drawn)| file(number, drawn, &packs)).collect();
        let mut expected = BTreeMap::new();
        for (number, file) in files.iter().enumerate() {
            let blocks = model(file, &tables);
            expected.extend(blocks.into_iter().map(|(at, block)| ((number as u32, at), block)));
        }
        expected.retain(|(file, at), _| !right[*file as usize][(at / BLOCK) as usize]);
        let plan = plan_around(&files, &tables, &RightBlocks::new(right)).unwrap();
        prop_assert_eq!(planned(&plan), expected);
    }

    #[test]
    fn every_wanted_chunk_is_read_once_within_one_bounded_read(
        packs in packs(), drawn in files(), right in right_blocks()
    ) {
        let tables = tables(&packs);
        let files: Vec<_> =
            drawn.iter().enumerate().map(|(number, drawn)| file(number, drawn, &packs)).collect();
        let plan = plan_around(&files, &tables, &RightBlocks::new(right)).unwrap();
        let mut seen = BTreeSet::new();
        for read in &plan.reads {
            let end = read.offset + read.length;
            prop_assert!(read.length <= READ_BYTES);
            prop_assert_eq!(read.chunks.first().unwrap().position.offset, read.offset);
            prop_assert_eq!(read.chunks.last().unwrap().end(), end);
            for chunk in &read.chunks {
                prop_assert!(seen.insert((read.pack, chunk.index)), "a chunk is read twice");
                prop_assert_eq!(chunk.position, tables[read.pack as usize][chunk.index as usize]);
                prop_assert!(read.offset <= chunk.position.offset && chunk.end() <= end);
            }
        }
        let order: Vec<_> = plan.reads.iter().map(|read| (read.pack, read.offset)).collect();
        prop_assert!(order.is_sorted());
    }
}

fn two_chunks() -> Vec<Vec<ChunkPosition>> {
    let chunk = |offset| ChunkPosition { offset, stored_length: 100, raw_length: 16384 };
    vec![vec![chunk(300), chunk(448)]]
}

fn extent(offset: u64, length: u64, chunk: u32, start: u32) -> Extent {
    Extent { offset, length, source: ExtentSource::Pack { pack: 0, chunk, offset: start } }
}

/// D1, D3
#[test]
fn files_whose_bytes_have_no_or_two_sources_are_damage() {
    let damaged = |size, extents| plan(&[entry(1, size, extents)], &two_chunks()).unwrap_err();
    for (size, extents) in [
        (8192, vec![]),
        (16384, vec![extent(0, 8192, 0, 0)]),
        (16384, vec![extent(0, 16384, 0, 0), extent(8192, 8192, 0, 0)]),
        (16384, vec![extent(0, 24576, 0, 0)]),
        (16384, vec![extent(8192, 8192, 0, 0)]),
        (300, vec![extent(0, 100, 0, 0), extent(100, 200, 0, 0)]),
    ] {
        assert_eq!(damaged(size, extents).kind(), crate::error::ErrorKind::Damaged);
    }
}

#[test]
fn extents_that_leave_their_pack_are_damage() {
    let damaged = |extents| plan(&[entry(1, 32768, extents)], &two_chunks()).unwrap_err();
    for extents in [
        vec![extent(0, 32768, 0, 8192)],
        vec![extent(0, 32768, 2, 0)],
        vec![extent(0, 32768, 0, 16384)],
        vec![extent(0, 32768, 0, 16385)],
    ] {
        assert!(damaged(extents).to_string().contains("outside pack 0"));
    }
    let elsewhere = ExtentSource::Pack { pack: 7, chunk: 0, offset: 0 };
    let foreign = vec![Extent { offset: 0, length: 32768, source: elsewhere }];
    assert!(damaged(foreign).to_string().contains("outside pack 7"));
}

#[test]
fn a_block_that_lies_in_two_chunks_is_damage() {
    let chunk = |offset, raw_length| ChunkPosition { offset, stored_length: 100, raw_length };
    let tables = vec![vec![chunk(300, 100), chunk(448, 16384)]];
    let refused = plan(&[entry(1, 8192, vec![extent(0, 8192, 0, 0)])], &tables).unwrap_err();
    assert!(refused.report().contains("a block lies in two chunks"));
}

#[test]
fn a_narrow_gap_is_read_along_and_a_wide_one_is_not() {
    let chunk = |offset| ChunkPosition { offset, stored_length: 952, raw_length: 8192 };
    let reads = |offset| {
        let files = [
            entry(1, 8192, vec![extent(0, 8192, 0, 0)]),
            entry(2, 8192, vec![extent(0, 8192, 1, 0)]),
        ];
        plan(&files, &[vec![chunk(1000), chunk(offset)]]).unwrap().reads.len()
    };
    assert_eq!(reads(2000 + GAP_BYTES), 1);
    assert_eq!(reads(2001 + GAP_BYTES), 2);
}

/// What deltas make of a file: every block of it in another pack than its neighbours.
#[test]
fn files_scattered_over_many_packs_are_read_in_few_reads() {
    const PACKS: u32 = 20;
    const CHUNKS: u32 = 8;
    let table = |_| {
        let chunk = |index| ChunkPosition {
            offset: 300 + index * (100_000 + CHUNK_HEADER_BYTES as u64),
            stored_length: 100_000,
            raw_length: 16 * BLOCK as u32,
        };
        (0..u64::from(CHUNKS)).map(chunk).collect::<Vec<_>>()
    };
    let tables: Vec<_> = (0..PACKS).map(table).collect();
    let extent = |number: u32| {
        let (pack, place) = (number % PACKS, number / PACKS);
        let source =
            ExtentSource::Pack { pack, chunk: place / 16, offset: place % 16 * BLOCK as u32 };
        Extent { offset: u64::from(number) * BLOCK, length: BLOCK, source }
    };
    let blocks = PACKS * CHUNKS * 16;
    let scattered = entry(1, u64::from(blocks) * BLOCK, (0..blocks).map(extent).collect());
    let plan = plan(&[scattered], &tables).unwrap();
    assert_eq!(plan.reads.len(), PACKS as usize);
    let chunks = plan.reads.iter().flat_map(|read| &read.chunks);
    assert_eq!(chunks.count(), (PACKS * CHUNKS) as usize);
}

/// An untouched file needs nothing of its packs, not even to know where their chunks lie.
#[test]
fn files_that_are_right_need_no_pack() {
    let file = entry(1, 16384, vec![extent(0, 16384, 0, 0)]);
    let right = RightBlocks::new(vec![vec![true; 2]]);
    assert_eq!(plan_around(&[file], &[], &right).unwrap(), WindowPlan::default());
}
