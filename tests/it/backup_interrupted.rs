//! Backups that are cut off: by the server, by a promotion, by a kill, by a sweeper. None of them becomes visible.

use std::fs;

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::postmaster::{Stop, wait_until};
use crate::support::repository::TestRepository;
use crate::support::standby::Feed;
use crate::support::stored_backup::StoredBackup;
use crate::support::user::ServerUser;

const PUSH: [&str; 1] = ["backup-push"];

fn archiving(repository: &TestRepository) -> Cluster {
    Cluster::builder(Major::V15).archiving_to(repository).start()
}

#[track_caller]
fn assert_no_backup(cluster: &Cluster) {
    let listed = cluster.walrs(&["backup-list", "--json"]).expect_success();
    assert_eq!(listed.stdout.trim(), "[]");
}

/// B2
#[test]
fn a_lost_connection_fails_the_backup() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    let paused = cluster.walrs_paused_at("backup-push:before-control-file", &PUSH);
    let sql = "select pg_terminate_backend(pid) from pg_stat_activity \
               where application_name = 'walrs backup-push'";
    assert_eq!(cluster.psql(sql), "t");
    paused.resume().expect_status(4).expect_message("connection");
    assert_no_backup(&cluster);
}

/// B2
#[test]
fn a_restart_in_the_middle_fails_the_backup() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving(&repository);
    let paused = cluster.walrs_paused_at("backup-push:before-control-file", &PUSH);
    cluster.stop(Stop::Immediate);
    cluster.start();
    paused.resume().expect_status(4);
    assert_no_backup(&cluster);
    cluster.walrs(&PUSH).expect_success();
}

/// B2
#[test]
fn a_promotion_in_the_middle_fails_the_backup_of_a_standby() {
    let repository = TestRepository::plain_directory();
    let mut primary = archiving(&repository);
    let standby = primary.standby("standby", Feed::Streaming);
    standby.wait_caught_up(&primary);
    let paused = standby.walrs_paused_at("backup-push:before-control-file", &PUSH);
    standby.promote();
    paused.resume().expect_status(4).expect_message("promoted");
    assert_no_backup(&standby);
}

/// B1
#[test]
fn a_backup_killed_at_any_step_is_not_visible_and_the_next_one_succeeds() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    let steps = [
        "intent",
        "start",
        "first-pack",
        "control-file",
        "file-list",
        "last-pack",
        "stop",
        "wait-for-wal",
    ];
    for step in steps {
        for point in [format!("backup-push:before-{step}"), format!("backup-push:{step}")] {
            cluster.walrs_killed_at(&point, &PUSH);
            assert_no_backup(&cluster);
        }
    }
    cluster.walrs_killed_at("backup-push:before-manifest", &PUSH);
    assert_no_backup(&cluster);
    cluster.walrs_killed_at("backup-push:manifest", &PUSH);
    cluster.walrs(&PUSH).expect_success();
    let manifests = repository.keys_with("/manifest").len();
    assert_eq!(manifests, 2, "the one killed after its manifest, and the last");
}

/// B5
#[test]
fn a_backup_whose_wal_does_not_arrive_is_not_visible() {
    let repository = TestRepository::plain_directory();
    let cluster = Cluster::builder(Major::V15)
        .using(&repository)
        .archive_command("/bin/false")
        .variable("WALRS_BACKUP_WAL_TIMEOUT", "2s")
        .start();
    let failed = cluster.walrs(&PUSH).expect_status(4);
    failed.expect_message("did not arrive").expect_message("hint: ");
    assert_no_backup(&cluster);
}

/// B5: success of `archive_command` is no proof that the WAL is in this repository.
#[test]
fn wal_that_was_archived_elsewhere_does_not_count() {
    let repository = TestRepository::plain_directory();
    let cluster = Cluster::builder(Major::V15)
        .using(&repository)
        .archive_command("/bin/true")
        .variable("WALRS_BACKUP_WAL_TIMEOUT", "1s")
        .start();
    cluster.walrs(&PUSH).expect_status(4);
    assert_no_backup(&cluster);
}

/// A sweeper that took the writer for dead wins: the writer must not report success.
#[test]
fn a_backup_that_was_voided_meanwhile_fails() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    let paused = cluster.walrs_paused_at("backup-push:before-manifest", &PUSH);
    let intent = repository.keys_with("intent.json").remove(0);
    let manifest = repository.object(&intent.replace("intent.json", "manifest"));
    // Another writer's bytes under the name of the manifest: create-only must hold.
    fs::write(&manifest, "void").unwrap();
    let failed = paused.resume();
    assert!([4, 5].contains(&failed.status), "{failed}");
    assert_eq!(fs::read(&manifest).unwrap(), b"void");
}

#[test]
fn a_backup_whose_wal_is_being_swept_is_announced_three_times_and_given_up() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    cluster.archive_all();
    let cluster_directory = fs::read_dir(repository.path().join("wal")).unwrap().next().unwrap();
    let cluster_name = cluster_directory.unwrap().file_name();
    let horizons = repository.path().join("horizons").join(cluster_name).join("00000001");
    fs::create_dir_all(&horizons).unwrap();
    fs::write(horizons.join("0000000100000000000000FF"), b"").unwrap();
    ServerUser::get().own_tree(&repository.path().join("horizons"));
    cluster.walrs(&PUSH).expect_status(4).expect_message("sweep");
    assert_eq!(repository.keys_with("intent.json").len(), 3);
    assert_eq!(repository.keys_with("/manifest").len(), 3, "each was voided");
    assert_no_backup(&cluster);
}

#[test]
fn a_running_backup_gives_signs_of_life() {
    let repository = TestRepository::plain_directory();
    let cluster = Cluster::builder(Major::V15)
        .archiving_to(&repository)
        .variable("WALRS_RETENTION_LEASE", "1s")
        .start();
    let paused = cluster.walrs_paused_at("backup-push:before-control-file", &PUSH);
    wait_until("two signs of life", || repository.keys_with("/alive/0000000").len() >= 2);
    paused.resume().expect_success();
}

#[tokio::test]
async fn two_backups_at_once_both_succeed() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    let first = cluster.walrs_paused_at("backup-push:before-control-file", &PUSH);
    cluster.walrs(&PUSH).expect_success();
    first.resume().expect_success();
    assert_eq!(repository.keys_with("/manifest").len(), 2);
    StoredBackup::latest(&repository).await.file_digests();
}
