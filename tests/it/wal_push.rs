//! `wal-push`: what is stored, what is refused, and what a killed one leaves. No server runs here; see `wal_archiving`
//! for the real `archive_command`.

use std::fs;

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::repository::TestRepository;
use crate::support::wal::{FIRST, names_in};

/// A stopped cluster that uses `repository`.
fn cluster_for(repository: &TestRepository) -> Cluster {
    Cluster::builder(Major::V15).using(repository).create()
}

/// W1, W3
#[test]
fn a_push_stores_exactly_the_file_and_touches_nothing_of_postgresql() {
    let repository = TestRepository::plain_directory();
    let cluster = cluster_for(&repository);
    let status = cluster.data().join("pg_wal/archive_status");
    fs::write(status.join(format!("{FIRST}.ready")), b"").unwrap();
    let before = (names_in(&cluster.data().join("pg_wal")), names_in(&status));
    cluster.push(FIRST).expect_success();
    assert_eq!((names_in(&cluster.data().join("pg_wal")), names_in(&status)), before);
    let stored = fs::read(repository.object(&cluster.segment_key(FIRST))).unwrap();
    assert_eq!(zstd::decode_all(&stored[..]).unwrap(), cluster.first_segment());
    cluster.fetch(FIRST).expect_success();
    assert_eq!(cluster.fetched(), cluster.first_segment());
}
