//! A `wal-push` that is killed, or whose file changes under it, and one of a segment too large for memory.

use std::fs::{self, OpenOptions};
use std::io::Write;

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::paused::Paused;
use crate::support::program::Finished;
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::wal::{FIRST, history, segment};

const KILLED: i32 = 128 + 9;

/// Before and after each of check, hash, put and acknowledge.
const STEPS: [&str; 5] = [
    "wal-push:check",
    "wal-push:checked",
    "wal-push:sealed",
    "wal-push:stored",
    "wal-push:acknowledged",
];

fn pushed_once(place: Place, sealing: Sealing) -> (TestRepository, Cluster) {
    let repository = TestRepository::new(place, sealing);
    let cluster = Cluster::builder(Major::V15).using(&repository).create();
    repository.init(cluster.data()).expect_success();
    cluster.push(FIRST).expect_success();
    (repository, cluster)
}

fn push_killed_at(cluster: &Cluster, name: &str, step: &str) {
    let mut command = cluster.as_postgres(&["wal-push", &format!("pg_wal/{name}")]);
    command.env("WALRS_FAILPOINT", format!("{step}=kill"));
    Finished::run(&mut command).expect_status(KILLED);
}

/// Absent, or whole and right.
#[track_caller]
fn nothing_partial_is_visible(cluster: &Cluster, name: &str) {
    let fetched = cluster.fetch(name);
    match fetched.status {
        0 => assert_eq!(cluster.fetched(), fs::read(cluster.wal_file(name)).unwrap()),
        _ => drop(fetched.expect_status(1)),
    }
}

fn killed_pushes_can_be_repeated(place: Place, steps_of_driver: &[&str]) {
    let (_repository, cluster) = pushed_once(place, Sealing::Encrypted);
    for (number, step) in (2..).zip(STEPS.iter().chain(steps_of_driver)) {
        let name = segment(1, number);
        cluster.forge(&name);
        push_killed_at(&cluster, &name, step);
        nothing_partial_is_visible(&cluster, &name);
        cluster.push(&name).expect_success();
        cluster.fetch(&name).expect_success();
        assert_eq!(cluster.fetched(), cluster.forged_segment(&name, 0), "{step}");
    }
}

/// W2, W6
#[test]
fn a_push_killed_at_any_step_leaves_nothing_partial_and_can_be_repeated() {
    killed_pushes_can_be_repeated(Place::Directory, &["storage-fs:written"]);
}

/// W2, W6
#[test]
fn a_push_to_s3_killed_at_any_step_leaves_nothing_partial_and_can_be_repeated() {
    killed_pushes_can_be_repeated(Place::Bucket, &["storage-s3:stored"]);
}

/// W2, W12
#[test]
fn a_push_killed_between_a_history_and_its_segment_can_be_repeated() {
    let (repository, cluster) = pushed_once(Place::Directory, Sealing::Plain);
    cluster.write_wal(&history(2), "1\t0/3000000\tno recovery target specified\n");
    cluster.forge(&segment(2, 3));
    push_killed_at(&cluster, &segment(2, 3), "wal-push:stored");
    assert!(repository.object(&cluster.history_key(2)).exists());
    assert!(!repository.object(&cluster.segment_key(&segment(2, 3))).exists());
    cluster.push(&segment(2, 3)).expect_success();
}

/// W6
#[test]
fn a_first_push_killed_while_it_makes_the_repository_can_be_repeated() {
    for step in ["init:epoch", "wal-push:stored"] {
        let repository = TestRepository::plain_directory();
        let cluster = Cluster::builder(Major::V15).using(&repository).create();
        push_killed_at(&cluster, FIRST, step);
        cluster.push(FIRST).expect_success();
    }
}

fn push_while(change: impl FnOnce(&Cluster, &str)) -> (TestRepository, Finished) {
    let (repository, cluster) = pushed_once(Place::Directory, Sealing::Plain);
    let name = segment(1, 2);
    let command = cluster.as_postgres(&["wal-push", &cluster.forge(&name)]);
    let paused = Paused::at("wal-push:checked", command, &cluster);
    change(&cluster, &name);
    (repository, paused.resume())
}

#[track_caller]
fn assert_refused_as_changed(repository: &TestRepository, pushed: Finished) {
    pushed.expect_status(4);
    assert_eq!(repository.keys_with(&segment(1, 2)), Vec::<String>::new());
}

/// W1
#[test]
fn a_file_that_is_written_to_while_it_is_read_is_not_archived() {
    let (repository, pushed) = push_while(|cluster, name| {
        let mut bytes = cluster.forged_segment(name, 0);
        bytes[100_000] ^= 1;
        let mut file = OpenOptions::new().write(true).open(cluster.wal_file(name)).unwrap();
        file.write_all(&bytes).unwrap();
    });
    assert_refused_as_changed(&repository, pushed);
}

/// W1
#[test]
fn a_file_that_is_cut_or_grows_while_it_is_read_is_not_archived() {
    for length in [1 << 20, 17 << 20] {
        let (repository, pushed) = push_while(|cluster, name| {
            let file = OpenOptions::new().write(true).open(cluster.wal_file(name)).unwrap();
            file.set_len(length).unwrap();
        });
        assert_refused_as_changed(&repository, pushed);
    }
}

/// W1
#[test]
fn a_file_that_is_removed_or_replaced_while_it_is_read_is_not_archived() {
    let (repository, pushed) =
        push_while(|cluster, name| fs::remove_file(cluster.wal_file(name)).unwrap());
    assert_refused_as_changed(&repository, pushed);
    let (repository, pushed) = push_while(|cluster, name| {
        fs::remove_file(cluster.wal_file(name)).unwrap();
        cluster.forge(name);
    });
    assert_refused_as_changed(&repository, pushed);
}

const LARGE_MEGABYTES: u32 = 128;

fn large_segments_fit_into_little_memory(place: Place, sealing: Sealing) {
    const LIMIT_BYTES: u64 = 96 << 20;
    let repository = TestRepository::new(place, sealing);
    let builder = Cluster::builder(Major::V15).segment_megabytes(LARGE_MEGABYTES);
    let cluster = builder.using(&repository).create();
    repository.init(cluster.data()).expect_success();
    let path = cluster.write_wal(FIRST, incompressible(cluster.first_segment()));
    let pushing =
        Paused::at("wal-push:acknowledged", cluster.as_postgres(&["wal-push", &path]), &cluster);
    let pushed = pushing.peak_memory_bytes();
    pushing.resume().expect_success();
    cluster.push(FIRST).expect_success();
    let command = cluster.as_postgres(&["wal-fetch", FIRST, "pg_wal/RECOVERYXLOG"]);
    let fetching = Paused::at("wal-fetch:delivered", command, &cluster);
    let fetched = fetching.peak_memory_bytes();
    fetching.resume().expect_success();
    assert_eq!(blake3::hash(&cluster.fetched()), blake3::hash(&cluster.first_segment()));
    assert!(pushed < LIMIT_BYTES && fetched < LIMIT_BYTES, "{pushed} and {fetched} bytes");
}

/// The same first page, and noise behind it.
fn incompressible(mut segment: Vec<u8>) -> Vec<u8> {
    blake3::Hasher::new().finalize_xof().fill(&mut segment[8192..]);
    segment
}

/// W1, E2
#[test]
fn a_large_segment_is_stored_and_fetched_in_little_memory() {
    large_segments_fit_into_little_memory(Place::Directory, Sealing::Encrypted);
}

/// W1, E2
#[test]
fn a_large_segment_goes_to_s3_and_back_in_little_memory() {
    large_segments_fit_into_little_memory(Place::Bucket, Sealing::Plain);
}

/// W4
#[test]
fn a_large_object_that_is_cut_is_damaged_and_one_of_other_bytes_is_a_conflict() {
    let repository = TestRepository::plain_directory();
    let builder = Cluster::builder(Major::V15).segment_megabytes(64);
    let cluster = builder.using(&repository).create();
    cluster.push(FIRST).expect_success();
    let object = repository.object(&cluster.segment_key(FIRST));
    let stored = fs::read(&object).unwrap();
    cluster.write_wal(FIRST, cluster.forged_segment(FIRST, 1));
    cluster.push(FIRST).expect_status(3).expect_message("different bytes");
    for length in [stored.len() - 1, stored.len() / 2, 50] {
        fs::write(&object, &stored[..length]).unwrap();
        cluster.push(FIRST).expect_status(5).expect_message("move the object");
    }
}
