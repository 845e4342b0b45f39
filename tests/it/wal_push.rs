//! `wal-push`: what is stored under which name, and what is refused. No server runs here; `wal_archiving` has the real
//! `archive_command`.

use std::fs;

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::program::Finished;
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::s3_server::{Effect, Fault};
use crate::support::wal::{self, FIRST, history, names_in, segment};

const HISTORY: &str = "1\t0/3000000\tno recovery target specified\n";

/// A stopped cluster that uses `repository`.
fn cluster_for(repository: &TestRepository) -> Cluster {
    Cluster::builder(Major::V15).using(repository).create()
}

/// A stopped cluster, and the plain repository that its first push made.
fn pushed_once() -> (TestRepository, Cluster) {
    let repository = TestRepository::plain_directory();
    let cluster = cluster_for(&repository);
    cluster.push(FIRST).expect_success();
    (repository, cluster)
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
}

#[track_caller]
fn files_of_every_kind_come_back(repository: &TestRepository) {
    let cluster = cluster_for(repository);
    repository.init(cluster.data()).expect_success();
    let partial = format!("{}.partial", segment(1, 3));
    cluster.write_wal(&partial, cluster.forged_segment(&segment(1, 3), 7));
    let label = format!("{FIRST}.00000028.backup");
    cluster.write_wal(&label, "START WAL LOCATION: 0/1000028 (file 000000010000000000000001)\n");
    cluster.write_wal(&history(2), HISTORY);
    cluster.forge(&segment(2, 3));
    for name in [FIRST, &history(2), &segment(2, 3), &partial, &label] {
        cluster.push(name).expect_success();
        cluster.fetch(name).expect_success();
        assert_eq!(cluster.fetched(), fs::read(cluster.wal_file(name)).unwrap(), "{name}");
    }
}

/// W1
#[test]
fn files_of_every_kind_come_back_from_a_directory() {
    for sealing in [Sealing::Plain, Sealing::Encrypted] {
        files_of_every_kind_come_back(&TestRepository::new(Place::Directory, sealing));
    }
}

/// W1
#[test]
fn files_of_every_kind_come_back_from_s3() {
    for sealing in [Sealing::Plain, Sealing::Encrypted] {
        files_of_every_kind_come_back(&TestRepository::new(Place::Bucket, sealing));
    }
}

/// W4
#[test]
fn pushing_the_same_bytes_again_is_a_success_and_changes_nothing() {
    let (repository, cluster) = pushed_once();
    let object = repository.object(&cluster.segment_key(FIRST));
    let stored = (fs::read(&object).unwrap(), fs::metadata(&object).unwrap().modified().unwrap());
    cluster.push(FIRST).expect_success();
    assert_eq!(
        (fs::read(&object).unwrap(), fs::metadata(&object).unwrap().modified().unwrap()),
        stored
    );
}

/// W4
#[test]
fn pushing_different_bytes_under_an_archived_name_is_refused() {
    let (_repository, cluster) = pushed_once();
    let label = format!("{FIRST}.00000028.backup");
    cluster.write_wal(&label, "START WAL LOCATION: 0/1000028\n");
    cluster.write_wal(&history(2), HISTORY);
    cluster.push(&label).expect_success();
    cluster.push(&history(2)).expect_success();
    cluster.write_wal(&label, "START WAL LOCATION: 0/1000060\n");
    cluster.write_wal(&history(2), "1\t0/2000000\tno recovery target specified\n");
    cluster.write_wal(FIRST, cluster.forged_segment(FIRST, 9));
    for name in [FIRST, &label, &history(2)] {
        let refused = cluster.push(name).expect_status(3);
        refused.expect_message("different bytes under this name (blake3 ");
    }
}

/// W4
#[test]
fn a_refusal_names_both_digests_and_what_to_look_at() {
    let (_repository, cluster) = pushed_once();
    let stored = blake3::hash(&cluster.first_segment());
    let local = cluster.forged_segment(FIRST, 9);
    cluster.write_wal(FIRST, &local);
    let digests = format!("(blake3 {stored} stored, {} local)", blake3::hash(&local));
    let refused = cluster.push(FIRST).expect_status(3).expect_message(&digests);
    refused.expect_message(&format!("cannot archive `{FIRST}`")).expect_message("walrs check");
}

/// W4
#[test]
fn a_damaged_object_under_the_name_is_reported_with_the_way_out() {
    let (repository, cluster) = pushed_once();
    let key = cluster.segment_key(FIRST);
    let stored = fs::read(repository.object(&key)).unwrap();
    let mut flipped = stored.clone();
    flipped[60] ^= 1;
    for damaged in [&stored[..stored.len() - 1], &stored[..100], &[], &flipped] {
        fs::write(repository.object(&key), damaged).unwrap();
        cluster.push(FIRST).expect_status(5).expect_message(&format!("move the object `{key}`"));
    }
    fs::remove_file(repository.object(&key)).unwrap();
    cluster.push(FIRST).expect_success();
}

/// W5
#[test]
fn two_versions_of_a_partial_are_both_kept_and_neither_answers_for_its_segment() {
    let (repository, cluster) = pushed_once();
    let (whole, partial) = (segment(1, 2), format!("{}.partial", segment(1, 2)));
    let versions = [cluster.forged_segment(&whole, 1), cluster.forged_segment(&whole, 2)];
    for version in &versions {
        cluster.write_wal(&partial, version);
        cluster.push(&partial).expect_success();
        cluster.push(&partial).expect_success();
    }
    let keys = repository.keys_with(&format!("{partial}/"));
    assert_eq!(keys.len(), 2, "{keys:?}");
    cluster.fetch(&whole).expect_status(1);
    cluster.forge(&whole);
    cluster.push(&whole).expect_success();
}

#[track_caller]
fn refused_before_upload(cluster: &Cluster, repository: &TestRepository, name: &str, why: &str) {
    let before = repository.keys();
    cluster.push(name).expect_status(3).expect_message(why);
    assert_eq!(repository.keys(), before);
}

/// W7
#[test]
fn what_is_not_the_segment_of_its_name_is_refused_before_upload() {
    let (repository, cluster) = pushed_once();
    let name = segment(1, 2);
    let good = cluster.forged_segment(&name, 0);
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let cases = [
        (good[..good.len() / 2].to_vec(), "it has 8388608 bytes"),
        (Vec::new(), "hold no page header"),
        (vec![0; good.len()], "the page at byte 0 is empty"),
        (changed(|bytes| wal::break_magic(bytes, 0)), "magic number"),
        (
            changed(|bytes| wal::change_owner(bytes)),
            "belongs to the cluster with system identifier",
        ),
        (cluster.forged_segment(&segment(1, 3), 0), "belongs to position"),
        (cluster.forged_segment(&segment(2, 2), 0), "above the name's 1"),
        (changed(|bytes| bytes.extend_from_slice(&[0; 8192])), "it has 16785408 bytes"),
    ];
    for (bytes, why) in cases {
        cluster.write_wal(&name, bytes);
        refused_before_upload(&cluster, &repository, &name, why);
    }
}

/// W7
#[test]
fn a_segment_may_begin_on_an_earlier_timeline_than_its_name() {
    let (_repository, cluster) = pushed_once();
    cluster.write_wal(&history(2), HISTORY);
    // A promotion copies the beginning of its first segment from the parent's.
    cluster.write_wal(&segment(2, 3), cluster.forged_segment(&segment(1, 3), 0));
    cluster.push(&segment(2, 3)).expect_success();
}

/// W7
#[test]
fn a_history_that_names_no_parent_is_refused() {
    let (repository, cluster) = pushed_once();
    for content in ["", "# nothing\n", "not a history\n", "3\t0/3000000\tx\n"] {
        cluster.write_wal(&history(2), content);
        refused_before_upload(&cluster, &repository, &history(2), "is not what its name says");
    }
}

/// T1
#[test]
fn other_files_of_pg_wal_are_no_files_to_archive() {
    let (repository, cluster) = pushed_once();
    let names = [
        "RECOVERYXLOG",
        "xlogtemp.12",
        "00000001000000000000000g",
        "00000001000000000000000A.partial2",
    ];
    for name in names {
        cluster.write_wal(name, cluster.first_segment());
        let before = repository.keys();
        cluster.push(name).expect_status(2).expect_message("is no file of `pg_wal`");
        assert_eq!(repository.keys(), before);
    }
    cluster.write_wal("0000000100000000000FFFFF", cluster.first_segment());
    refused_before_upload(
        &cluster,
        &repository,
        "0000000100000000000FFFFF",
        "is no name of a segment",
    );
}

/// C1
#[test]
fn a_cluster_that_the_repository_does_not_know_is_refused() {
    let (repository, _first) = pushed_once();
    let second = cluster_for(&repository);
    let before = repository.keys();
    second.push(FIRST).expect_status(3).expect_message("does not belong to");
    assert_eq!(repository.keys(), before);
}

/// C1, W7
#[test]
fn without_pg_control_the_segment_itself_names_a_cluster_that_must_be_known() {
    let (repository, cluster) = pushed_once();
    let (name, stranger) = (segment(1, 2), cluster_for(&repository));
    for each in [&cluster, &stranger] {
        each.forge(&name);
        fs::remove_file(each.data().join("global/pg_control")).unwrap();
    }
    cluster.push(&name).expect_success();
    stranger.push(&name).expect_status(3).expect_message("does not belong to");
}

/// C1
#[test]
fn a_stale_pgdata_of_another_cluster_does_not_confuse_a_push() {
    let (_repository, cluster) = pushed_once();
    let stranger = Cluster::builder(Major::V15).create();
    cluster.forge(&segment(1, 2));
    let path = format!("pg_wal/{}", segment(1, 2));
    let mut command = cluster.as_postgres(&["wal-push", &path]);
    Finished::run(command.env("PGDATA", stranger.data())).expect_success();
}

/// W12
#[test]
fn no_segment_of_a_new_timeline_is_stored_before_its_history() {
    let (repository, cluster) = pushed_once();
    cluster.write_wal(&history(2), HISTORY);
    cluster.forge(&segment(2, 3));
    cluster.push(&segment(2, 3)).expect_success();
    assert!(repository.object(&cluster.history_key(2)).exists());
}

/// W12
#[test]
fn the_history_of_an_ancestor_is_stored_before_its_segments_and_the_later_history() {
    let (repository, cluster) = pushed_once();
    cluster.write_wal(&history(2), HISTORY);
    cluster.write_wal(&history(3), "1\t0/3000000\tx\n2\t0/5000000\tx\n");
    cluster.push(&history(3)).expect_success();
    assert!(repository.object(&cluster.history_key(2)).exists(), "recoveries from timeline 1 ask");
}

/// T2
#[test]
fn segments_of_an_ancestor_that_another_server_took_are_not_mixed_with_its_own() {
    let (repository, cluster) = pushed_once();
    cluster.write_wal(&history(2), "1\t0/2000000\tanother server\n");
    cluster.push(&history(2)).expect_success();
    cluster.write_wal(&history(2), HISTORY);
    cluster.write_wal(&history(3), "1\t0/3000000\tx\n2\t0/5000000\tx\n");
    cluster.forge(&segment(2, 3));
    cluster.push(&history(3)).expect_success().expect_message("another server took");
    assert!(!repository.object(&cluster.segment_key(&segment(2, 3))).exists());
}

/// W12
#[test]
fn a_segment_whose_history_exists_nowhere_is_stored_with_a_warning() {
    let (_repository, cluster) = pushed_once();
    cluster.forge(&segment(2, 3));
    let pushed = cluster.push(&segment(2, 3)).expect_success();
    pushed.expect_message("00000002.history");
}

/// W12
#[test]
fn a_push_whose_history_cannot_be_stored_fails_without_its_segment() {
    let (repository, cluster) = pushed_once();
    cluster.write_wal(&history(2), "half a hist");
    cluster.forge(&segment(2, 3));
    refused_before_upload(&cluster, &repository, &segment(2, 3), "is not what its name says");
}

/// W9
#[test]
fn an_ancestors_segment_is_stored_before_a_history_only_when_every_page_of_it_is_there() {
    let repository = TestRepository::plain_directory();
    let cluster = cluster_for(&repository);
    repository.init(cluster.data()).expect_success();
    cluster.write_wal(&history(2), "1\t0/2000028\tno recovery target specified\n");
    // What initdb leaves is a segment that was never filled.
    refused_before_upload(&cluster, &repository, &history(2), "must be archived first");
    cluster.forge(&segment(2, 2));
    refused_before_upload(&cluster, &repository, &segment(2, 2), "must be archived first");
    fs::remove_file(cluster.wal_file(FIRST)).unwrap();
    cluster.push(&segment(2, 2)).expect_success();
}

/// T2
#[test]
fn the_files_of_a_timeline_that_another_server_took_are_refused() {
    let (repository, cluster) = pushed_once();
    cluster.write_wal(&history(2), HISTORY);
    cluster.push(&history(2)).expect_success();
    cluster.write_wal(&history(2), "1\t0/2000000\tno recovery target specified\n");
    cluster.forge(&segment(2, 3));
    let (partial, label) =
        (format!("{}.partial", segment(2, 3)), format!("{}.00000028.backup", segment(2, 3)));
    cluster.write_wal(&partial, cluster.forged_segment(&segment(2, 3), 0));
    cluster.write_wal(&label, "START WAL LOCATION: 0/3000028\n");
    for name in [&segment(2, 3), &partial, &label, &history(2)] {
        refused_before_upload(&cluster, &repository, name, "promote it again");
    }
}

/// W8, W10
#[test]
fn a_store_that_never_answers_bounds_a_push_by_its_deadline() {
    let repository = TestRepository::new(Place::Bucket, Sealing::Plain);
    let server = repository.server();
    let cluster = cluster_for(&repository);
    cluster.push(FIRST).expect_success();
    cluster.forge(&segment(1, 2));
    server.inject(Fault::always("PUT", "", Effect::Stall));
    let path = format!("pg_wal/{}", segment(1, 2));
    let mut command = cluster.as_postgres(&["wal-push", &path]);
    let stalled = Finished::run(command.env("WALRS_WAL_PUSH_TIMEOUT", "2s")).expect_status(4);
    stalled.expect_message("in time");
    server.forgive();
    cluster.push(&segment(1, 2)).expect_success();
}

/// W10
#[test]
fn a_new_segment_costs_one_put_and_no_look_before_it() {
    let repository = TestRepository::new(Place::Bucket, Sealing::Plain);
    let server = repository.server();
    let cluster = cluster_for(&repository);
    cluster.push(FIRST).expect_success();
    let name = cluster.forge(&segment(1, 2));
    let before = server.requests().len();
    cluster.push(&segment(1, 2)).expect_success();
    let about: Vec<_> = server.requests().split_off(before);
    let of_segment = about.iter().filter(|seen| seen.target.contains(&segment(1, 2)));
    let methods: Vec<_> = of_segment.map(|seen| seen.method.as_str()).collect();
    assert_eq!(methods, ["PUT"], "{name}: {about:?}");
}

/// K2
#[test]
fn a_passphrase_alone_is_refused_for_archiving() {
    let (_repository, cluster) = pushed_once();
    let passphrase = cluster.scratch().write("passphrase", "correct horse");
    let mut command = cluster.as_postgres(&["wal-push", &format!("pg_wal/{FIRST}")]);
    command.env("WALRS_ENCRYPTION_PASSPHRASE_FILE", passphrase);
    Finished::run(&mut command).expect_status(2).expect_message("encryption.key_file");
}
