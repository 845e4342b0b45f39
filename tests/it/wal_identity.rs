//! The identity of a bucket, which WAL commands remember for a few minutes: what it saves, and what it never answers for.

use std::fs;

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::wal::{FIRST, segment};

/// A stopped cluster whose first push has read the identity of its bucket.
fn pushed_once(sealing: Sealing) -> (TestRepository, Cluster) {
    let repository = TestRepository::new(Place::Bucket, sealing);
    let cluster = Cluster::builder(Major::V15).using(&repository).create();
    repository.init(cluster.data()).expect_success();
    cluster.push(FIRST).expect_success();
    (repository, cluster)
}

fn assert_a_new_segment_costs_one_put(sealing: Sealing) {
    let (repository, cluster) = pushed_once(sealing);
    let next = segment(1, 2);
    cluster.forge(&next);
    let before = repository.server().requests().len();
    cluster.push(&next).expect_success();
    let asked = repository.server().requests().split_off(before);
    let puts = asked.iter().filter(|request| request.is("PUT", &next)).count();
    assert_eq!((puts, asked.len()), (1, 1), "{asked:?}");
    cluster.fetch(&next).expect_success();
    assert_eq!(cluster.fetched(), fs::read(cluster.wal_file(&next)).unwrap());
}

#[test]
fn a_new_segment_costs_one_put_in_a_plain_bucket() {
    assert_a_new_segment_costs_one_put(Sealing::Plain);
}

#[test]
fn a_new_segment_costs_one_put_in_an_encrypted_bucket() {
    assert_a_new_segment_costs_one_put(Sealing::Encrypted);
}

/// S8: what a place does not hold says something only if it is still the right place.
#[test]
fn absence_is_told_only_of_a_repository_that_was_seen_by_this_command() {
    let (repository, cluster) = pushed_once(Sealing::Plain);
    let absent = segment(1, 9);
    cluster.fetch(&absent).expect_status(1);
    fs::remove_file(repository.object("repository.json")).unwrap();
    cluster.fetch(&absent).expect_status(255).expect_message("there is no repository");
}

/// C1, S8: neither another place nor another repository is taken for the remembered one.
#[test]
fn what_is_remembered_counts_for_its_own_place_and_repository_only() {
    let (_repository, mut cluster) = pushed_once(Sealing::Plain);
    let next = segment(1, 2);
    cluster.forge(&next);
    let url = cluster.environment()["WALRS_REPOSITORY"].clone();
    cluster.environment_mut().insert("WALRS_REPOSITORY".to_owned(), format!("{url}-mistyped"));
    cluster.push(&next).expect_status(3).expect_message("there is no repository");
    cluster.environment_mut().insert("WALRS_REPOSITORY".to_owned(), url);
    cluster.push(&next).expect_success();
}

/// A key that does not open the repository is no better for what was remembered.
#[test]
fn a_wrong_key_is_refused_though_the_slot_is_remembered() {
    let (repository, cluster) = pushed_once(Sealing::Encrypted);
    let next = segment(1, 2);
    cluster.forge(&next);
    // Another key of the same form: 32 bytes in base64.
    let other = format!("{}=", "A".repeat(43));
    fs::write(repository.key_file(), other).unwrap();
    cluster.push(&next).expect_status(2).expect_message("opens none");
}
