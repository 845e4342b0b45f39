use super::*;
use crate::backup::job::Planner;
use crate::backup::memory::Memory;
use crate::backup::test_directory::TestDirectory;
use crate::budget::Budget;
use crate::config::LinkPolicy;
use crate::container::RepositoryId;
use crate::postgres::{BlockNumber, FILENODE_MAP, PageState, verify_page};

const MAP: &[u8] = include_bytes!("../postgres/testdata/filenode_map.15");
const PAGE: &[u8; 8192] = include_bytes!("../postgres/testdata/page.15");

fn sealing() -> Sealing {
    Sealing::plain(RepositoryId::from_bytes([7; 16]))
}

fn reader(directory: &TestDirectory) -> Reader {
    let checks = PageChecks::of(&TestDirectory::control());
    Reader::new(directory.data(LinkPolicy::Error), sealing(), checks, BufferPool::default())
}

fn jobs(directory: &TestDirectory) -> Vec<Job> {
    let (data, mut jobs) = (directory.data(LinkPolicy::Error), Vec::new());
    let mut send = |job| {
        jobs.push(job);
        Ok(())
    };
    let mut planner = Planner::new(&data, Memory::default(), &mut send);
    data.walk(&mut |found| planner.add(found)).unwrap();
    planner.finish().unwrap();
    jobs
}

async fn read(directory: &TestDirectory, jobs: Vec<Job>) -> Result<Vec<Portion>> {
    let (reader, mut portions) = (reader(directory), Vec::new());
    for job in jobs {
        let known = job.items.iter().map(|_| KnownBlocks::default()).collect();
        portions.extend(reader.read(job, known, Budget::of(1).reserve(1).await)?);
    }
    Ok(portions)
}

async fn read_all(directory: &TestDirectory) -> Result<Vec<Portion>> {
    read(directory, jobs(directory)).await
}

fn contents(portions: &[Portion]) -> Vec<&Content> {
    let items = portions.iter().flat_map(|portion| &portion.items);
    items
        .filter_map(|item| match item {
            ReadItem::Content(content) => Some(content),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn blocks_of_zeros_are_hashed_and_not_stored() {
    let directory = TestDirectory::new();
    let mut content = vec![0; 5 * BLOCK_SIZE];
    content[BLOCK_SIZE] = 1;
    content[3 * BLOCK_SIZE] = 3;
    content.extend_from_slice(&[0; 10]);
    directory.write("base/5/x", &content);
    let portions = read_all(&directory).await.unwrap();
    let content = contents(&portions)[1];
    let run = |blocks: u64, source| Run { length: blocks * BLOCK_SIZE as u64, source };
    let mut expected = vec![run(1, RunSource::Zeros), run(1, RunSource::Data)];
    expected.extend([run(1, RunSource::Zeros), run(1, RunSource::Data), run(1, RunSource::Zeros)]);
    expected[4].length += 10;
    assert_eq!(content.runs, expected);
    assert_eq!(content.hashes[5], sealing().hash_block(&[0; 10]));
    assert_eq!(content.hashes[0], sealing().hash_block(&[0; BLOCK_SIZE]));
    let data = &portions[0].data[3..];
    assert_eq!((data[0], data[BLOCK_SIZE], data.len()), (1, 3, 2 * BLOCK_SIZE));
}

#[tokio::test]
async fn a_large_file_is_cut_into_ranges_and_small_ones_share_a_job() {
    let directory = TestDirectory::new();
    directory.write("base/5/a", &vec![1; 2 * CHUNK_SIZE + 10]);
    directory.write("base/5/b", &[2; 100]);
    directory.write("base/5/c", &vec![3; CHUNK_SIZE]);
    let jobs = jobs(&directory);
    let bytes: Vec<u64> = jobs.iter().map(|job| job.bytes).collect();
    assert_eq!(bytes, [3, RANGE_BYTES, RANGE_BYTES, 110, RANGE_BYTES]);
    let portions = read(&directory, jobs).await.unwrap();
    let lengths: Vec<u64> = contents(&portions).iter().map(|content| content.length).collect();
    assert_eq!(lengths, [3, RANGE_BYTES, RANGE_BYTES, 10, 100, RANGE_BYTES]);
}

/// B3
#[tokio::test]
async fn a_file_that_shrinks_ends_early_and_one_that_vanishes_is_passed_over() {
    let directory = TestDirectory::new();
    directory.write("base/5/a", &vec![1; 2 * CHUNK_SIZE]);
    directory.write("base/5/b", b"x");
    let jobs = jobs(&directory);
    let a = File::options().write(true).open(directory.path().join("base/5/a")).unwrap();
    a.set_len(CHUNK_SIZE as u64 + 10).unwrap();
    std::fs::remove_file(directory.path().join("base/5/b")).unwrap();
    let portions = read(&directory, jobs).await.unwrap();
    let found: Vec<_> =
        contents(&portions).iter().map(|content| (content.length, content.ended_early)).collect();
    assert_eq!(found, [(3, false), (RANGE_BYTES, false), (10, true)]);
}

/// B3
#[tokio::test]
async fn a_file_that_grew_since_it_was_found_is_read_whole() {
    let directory = TestDirectory::new();
    directory.write("postgresql.auto.conf", b"# old\n");
    let jobs = jobs(&directory);
    directory.write("postgresql.auto.conf", &vec![b'#'; 3 * CHUNK_SIZE]);
    let portions = read(&directory, jobs).await.unwrap();
    assert_eq!(
        contents(&portions).iter().map(|content| content.length).sum::<u64>(),
        3 + 3 * RANGE_BYTES
    );
    assert!(portions.iter().all(|portion| portion.data.len() <= CHUNK_SIZE));
}

/// B8
#[tokio::test]
async fn a_torn_filenode_map_is_read_again_until_it_is_whole() {
    let directory = TestDirectory::new();
    let name = format!("global/{FILENODE_MAP}");
    directory.write(&name, &MAP[..100]);
    let path = directory.path().join(&name);
    let mending = std::thread::spawn(move || {
        sleep(5 * MAP_PAUSE);
        std::fs::write(path, MAP).unwrap();
    });
    let portions = read_all(&directory).await.unwrap();
    mending.join().unwrap();
    assert_eq!(contents(&portions)[1].hashes, [sealing().hash_block(MAP)]);
}

/// B8
#[tokio::test]
async fn a_filenode_map_that_stays_torn_fails_the_backup() {
    let directory = TestDirectory::new();
    directory.write(&format!("base/5/{FILENODE_MAP}"), &MAP[1..]);
    let error = read_all(&directory).await.unwrap_err();
    assert_eq!(error.kind(), crate::error::ErrorKind::Damaged);
}

/// B7
#[tokio::test]
async fn a_torn_page_is_read_again_and_a_bad_one_is_told() {
    let directory = TestDirectory::new();
    let (mut torn, mut bad) = (*PAGE, *PAGE);
    torn[4096..].fill(7);
    bad[5000] ^= 1;
    directory.write("base/5/1", &torn);
    directory.write("base/5/2", &bad);
    let path = directory.path().join("base/5/1");
    let mending = std::thread::spawn(move || {
        sleep(Duration::from_millis(15));
        std::fs::write(path, PAGE).unwrap();
    });
    let portions = read_all(&directory).await.unwrap();
    mending.join().unwrap();
    let suspects: Vec<_> =
        contents(&portions)[1..].iter().map(|content| content.suspects.len()).collect();
    assert_eq!(suspects, [0, 1]);
    let settled = &portions[0].data[3..3 + BLOCK_SIZE];
    assert_eq!(verify_page(settled, BlockNumber(0)), PageState::Valid);
}

#[test]
fn the_ranges_of_a_file_know_the_first_and_the_last() {
    let directory = TestDirectory::new();
    directory.write("base/5/a", &vec![1; CHUNK_SIZE + 1]);
    let ranges: Vec<(bool, bool)> = jobs(&directory)
        .iter()
        .flat_map(|job| &job.items)
        .filter_map(|item| match item {
            Item::Range(range) => Some((range.is_first(), range.is_last())),
            _ => None,
        })
        .collect();
    assert_eq!(ranges, [(true, false), (false, true)]);
}
