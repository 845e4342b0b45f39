//! When a first push makes a repository, and when it must not: an unmounted disk or a typo is no new repository.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::user::ServerUser;
use crate::support::wal::{FIRST, history, segment};

fn cluster_for(repository: &TestRepository) -> Cluster {
    Cluster::builder(Major::V15).using(repository).create()
}

#[track_caller]
fn refused(cluster: &Cluster, repository: &TestRepository, name: &str, why: &str) {
    cluster.push(name).expect_status(3).expect_message(why);
    assert_eq!(repository.keys(), Vec::<String>::new());
}

#[test]
fn the_first_push_makes_a_plain_repository_in_an_empty_directory_and_leaves_a_witness() {
    let repository = TestRepository::plain_directory();
    let cluster = cluster_for(&repository);
    cluster.push(FIRST).expect_success();
    let keys = repository.keys();
    let expected = ["epochs/00000001.json", "repository.json", &cluster.segment_key(FIRST)];
    assert_eq!(keys, expected);
    fs::remove_dir_all(repository.path()).unwrap();
    fs::create_dir(repository.path()).unwrap();
    ServerUser::get().own(repository.path());
    cluster.forge(&segment(1, 2));
    refused(&cluster, &repository, &segment(1, 2), "is the disk mounted");
}

#[test]
fn the_first_push_makes_a_plain_repository_in_an_empty_bucket() {
    let repository = TestRepository::new(Place::Bucket, Sealing::Plain);
    cluster_for(&repository).push(FIRST).expect_success();
    assert!(repository.object("repository.json").exists());
}

#[test]
fn a_directory_that_does_not_exist_is_not_made() {
    let repository = TestRepository::plain_directory();
    let cluster = cluster_for(&repository);
    fs::remove_dir(repository.path()).unwrap();
    cluster.push(FIRST).expect_status(4).expect_message("is the disk mounted");
    assert!(!repository.path().exists());
}

#[test]
fn a_place_that_holds_other_things_is_no_place_for_a_repository() {
    let repository = TestRepository::plain_directory();
    let cluster = cluster_for(&repository);
    fs::write(repository.object("letter.txt"), b"dear reader").unwrap();
    cluster.push(FIRST).expect_status(3).expect_message("is not empty");
    assert_eq!(repository.keys(), ["letter.txt"]);
}

#[test]
fn a_cluster_that_archived_before_makes_no_repository() {
    let repository = TestRepository::plain_directory();
    let cluster = cluster_for(&repository);
    let done = cluster.data().join("pg_wal/archive_status").join(format!("{}.done", segment(1, 0)));
    fs::write(&done, b"").unwrap();
    refused(&cluster, &repository, FIRST, "WAL was archived before");
}

#[test]
fn a_cluster_above_timeline_1_makes_no_repository() {
    let repository = TestRepository::plain_directory();
    let cluster = cluster_for(&repository);
    let partial = format!("{FIRST}.partial");
    cluster.write_wal(&partial, cluster.first_segment());
    cluster.forge(&segment(2, 1));
    refused(&cluster, &repository, &partial, "is not what a new cluster archives first");
    refused(&cluster, &repository, &segment(2, 1), "is not what a new cluster archives first");
    cluster.write_wal(&history(2), "1\t0/1800000\tno recovery target specified\n");
    refused(&cluster, &repository, &history(2), "is not what a new cluster archives first");
    refused(&cluster, &repository, FIRST, "the cluster is not new");
}

#[test]
fn where_no_witness_can_be_kept_no_repository_is_made() {
    let repository = TestRepository::plain_directory();
    let cluster = cluster_for(&repository);
    let close = |mode| {
        for directory in [cluster.data(), cluster.scratch().path()] {
            fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    close(0o555);
    let pushed = cluster.push(FIRST);
    close(0o755);
    pushed.expect_status(3).expect_message("no witness can be kept");
    assert_eq!(repository.keys(), Vec::<String>::new());
}

#[test]
fn without_pg_control_no_repository_is_made() {
    let repository = TestRepository::plain_directory();
    let cluster = cluster_for(&repository);
    fs::remove_file(cluster.data().join("global/pg_control")).unwrap();
    refused(&cluster, &repository, FIRST, "`pg_control` could not be read");
}

#[test]
fn an_encrypted_repository_is_never_made_by_a_push() {
    let repository = TestRepository::new(Place::Directory, Sealing::Encrypted);
    let cluster = cluster_for(&repository);
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
    fs::write(repository.key_file(), key).unwrap();
    fs::set_permissions(repository.key_file(), fs::Permissions::from_mode(0o600)).unwrap();
    ServerUser::get().own(&repository.key_file());
    refused(&cluster, &repository, FIRST, "walrs init");
}
