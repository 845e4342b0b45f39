//! Which WAL a repository holds, along a line of timelines.

use std::sync::Arc;

use bytes::Bytes;
use walrs::config::{Config, Environment};
use walrs::postgres::{
    Lsn, SegmentNumber, SegmentSize, SystemIdentifier, TimelineHistory, TimelineId,
};
use walrs::repository::{
    Creation, FirstCluster, ObjectName, Opening, WalArchive, WalContent, WalRange,
};
use walrs::storage::FsStorage;

use crate::support::repository::TestRepository;
use crate::support::wal::segment;

const SIZE: SegmentSize = SegmentSize::DEFAULT;

/// A repository that holds these files.
async fn holding(location: &TestRepository, names: &[&str]) -> WalArchive {
    let settings =
        Config::load(None, Vec::new(), Environment::default()).unwrap().settings().unwrap();
    let cluster = SystemIdentifier::new(7_000_000_000_000_000_001);
    let first = FirstCluster { system_identifier: cluster, segment_size: SIZE };
    let storage = Arc::new(FsStorage::new(location.path()));
    let opening = Opening { storage, settings: &settings, site: None, expected: None };
    let repository = opening.open(Creation::By(first)).await.unwrap();
    let archive = WalArchive::of(&repository, cluster).unwrap();
    for name in names {
        store(&archive, name).await;
    }
    archive
}

async fn store(archive: &WalArchive, name: &str) {
    let content = WalContent::Memory(Bytes::from(format!("what is in {name}")));
    let sealed = archive.seal(name.parse().unwrap(), content).await.unwrap();
    archive.put(&sealed).await.unwrap();
}

fn line(timeline: u32, text: &str) -> TimelineHistory {
    TimelineHistory::parse(TimelineId::new(timeline).unwrap(), text.as_bytes()).unwrap()
}

fn range(first: u64, last: u64) -> WalRange {
    WalRange { first: SegmentNumber::new(first), last: SegmentNumber::new(last) }
}

async fn missing(archive: &WalArchive, line: &TimelineHistory, range: WalRange) -> Option<String> {
    archive.first_missing(line, range).await.unwrap().map(|segment| segment.to_string())
}

async fn reached(archive: &WalArchive, line: &TimelineHistory, first: u64) -> Option<u64> {
    let first = SegmentNumber::new(first);
    archive.contiguous_to(line, first, None).await.unwrap().map(SegmentNumber::get)
}

/// B5
#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_complete_only_when_every_segment_of_its_line_is_there() {
    let location = TestRepository::plain_directory();
    let names =
        [segment(1, 3), segment(1, 4), segment(1, 5), segment(2, 5), segment(2, 6), segment(2, 8)];
    let archive = holding(&location, &names.each_ref().map(String::as_str)).await;
    let (first, second) = (line(1, ""), line(2, "1\t0/5000028\tx\n"));
    assert_eq!(missing(&archive, &first, range(3, 5)).await, None);
    assert_eq!(missing(&archive, &first, range(3, 6)).await, Some(segment(1, 6)));
    assert_eq!(missing(&archive, &first, range(2, 4)).await, Some(segment(1, 2)));
    assert_eq!(missing(&archive, &second, range(3, 6)).await, None);
    assert_eq!(missing(&archive, &second, range(3, 9)).await, Some(segment(2, 7)));
    assert_eq!(missing(&archive, &second, range(8, 8)).await, None);
}

/// B5
#[tokio::test(flavor = "multi_thread")]
async fn the_segment_of_a_fork_counts_on_the_later_timeline_only() {
    let location = TestRepository::plain_directory();
    let partial = format!("{}.partial", segment(2, 5));
    let names = [segment(1, 4), segment(1, 5), partial, segment(2, 6)];
    let archive = holding(&location, &names.each_ref().map(String::as_str)).await;
    let second = line(2, "1\t0/5000028\tx\n");
    assert_eq!(missing(&archive, &second, range(4, 6)).await, Some(segment(2, 5)));
}

/// T3
#[tokio::test(flavor = "multi_thread")]
async fn wal_reaches_as_far_as_its_first_hole() {
    let location = TestRepository::plain_directory();
    let names = [segment(1, 3), segment(1, 4), segment(2, 5), segment(2, 6), segment(2, 8)];
    let archive = holding(&location, &names.each_ref().map(String::as_str)).await;
    let second = line(2, "1\t0/5000028\tx\n");
    assert_eq!(reached(&archive, &second, 3).await, Some(6));
    assert_eq!(reached(&archive, &second, 8).await, Some(8));
    assert_eq!(reached(&archive, &second, 7).await, None);
    assert_eq!(reached(&archive, &line(1, ""), 3).await, Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_listed_is_what_was_stored() {
    let location = TestRepository::plain_directory();
    let (label, partial) =
        (format!("{}.00000028.backup", segment(1, 4)), format!("{}.partial", segment(1, 6)));
    let names = [segment(1, 3), label, segment(1, 5), partial];
    let archive = holding(&location, &names.each_ref().map(String::as_str)).await;
    let after = |number| archive.first_after(segment(1, number).parse().unwrap());
    let found = |name: Option<walrs::postgres::SegmentName>| name.map(|name| name.to_string());
    assert_eq!(found(after(3).await.unwrap()), Some(segment(1, 4)));
    assert_eq!(found(after(5).await.unwrap()), Some(segment(1, 6)));
    assert_eq!(found(after(6).await.unwrap()), None);
    assert!(archive.has_wal_of(TimelineId::FIRST).await.unwrap());
    assert!(!archive.has_wal_of(TimelineId::new(2).unwrap()).await.unwrap());
    assert!(!archive.segment_exists(segment(1, 4).parse().unwrap()).await.unwrap());
    assert_eq!(archive.histories().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_highest_horizon_of_a_timeline_counts() {
    let location = TestRepository::plain_directory();
    let archive = holding(&location, &[]).await;
    let put = async |name: String| {
        let horizon = ObjectName::Horizon(archive.cluster(), name.parse().unwrap());
        archive.repository().put(&horizon, Bytes::new()).await.unwrap();
    };
    put(segment(1, 4)).await;
    put(segment(1, 7)).await;
    put(segment(2, 9)).await;
    let horizon = archive.horizon(TimelineId::FIRST).await.unwrap();
    assert_eq!(horizon.map(|horizon| horizon.start(SIZE)), Some(Lsn::new(0x700_0000)));
    assert_eq!(archive.horizon(TimelineId::new(3).unwrap()).await.unwrap(), None);
}
