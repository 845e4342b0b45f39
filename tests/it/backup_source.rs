//! What a backup is taken from: the right server, standbys, unreadable and damaged files, links.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::load::Load;
use crate::support::postmaster::Stop;
use crate::support::repository::TestRepository;
use crate::support::standby::Feed;
use crate::support::stored_backup::StoredBackup;

const PUSH: [&str; 1] = ["backup-push"];

fn archiving(repository: &TestRepository) -> Cluster {
    Cluster::builder(Major::V15).archiving_to(repository).start()
}

fn newest(cluster: &Cluster) -> Value {
    let shown = cluster.walrs(&["backup-show", "LATEST", "--json"]).expect_success();
    serde_json::from_str(&shown.stdout).unwrap()
}

/// C1
#[test]
fn the_server_of_another_cluster_is_refused() {
    let repository = TestRepository::plain_directory();
    let (cluster, other) = (archiving(&repository), archiving(&repository));
    let mut command = cluster.walrs_command(&PUSH);
    command.env("PGDATA", other.data());
    let refused = crate::support::program::Finished::run(&mut command).expect_status(3);
    refused.expect_message("system identifier");
}

/// C1: a standby has its primary's identifier.
#[test]
fn the_server_of_another_data_directory_is_refused() {
    let repository = TestRepository::plain_directory();
    let mut primary = archiving(&repository);
    let standby = primary.standby("standby", Feed::Streaming);
    let mut command = primary.walrs_command(&PUSH);
    command.env("PGDATA", standby.data());
    let refused = crate::support::program::Finished::run(&mut command).expect_status(3);
    refused.expect_message("does not serve");
}

/// C1
#[test]
fn a_cluster_that_the_repository_does_not_know_is_refused() {
    let repository = TestRepository::plain_directory();
    archiving(&repository).walrs(&PUSH).expect_success();
    let stranger = archiving(&repository);
    stranger.walrs(&PUSH).expect_status(3).expect_message("--add-cluster");
    assert_eq!(repository.keys_with("intent.json").len(), 1);
}

/// B1: PostgreSQL down is no reason for anything in the repository.
#[test]
fn a_stopped_server_is_unavailable_and_nothing_is_stored() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving(&repository);
    cluster.stop(Stop::Fast);
    let before = repository.keys();
    cluster.walrs(&PUSH).expect_status(4).expect_message("cannot connect");
    assert_eq!(repository.keys(), before);
}

/// B2, B5: the WAL of a standby's backup comes from its primary.
#[tokio::test]
async fn a_standby_is_backed_up_and_waits_for_the_wal_of_its_primary() {
    let repository = TestRepository::plain_directory();
    let mut primary = archiving(&repository);
    primary.psql("create table t as select generate_series(1, 1000) i");
    let standby = primary.standby("standby", Feed::Streaming);
    standby.wait_caught_up(&primary);
    let mut running = standby.walrs_beside(&PUSH);
    while !running.has_ended() {
        primary.switch_wal();
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    running.finish().expect_success();
    let backup = StoredBackup::latest(&repository).await;
    assert!(backup.manifest.from_standby);
    backup.file_digests();
    let control =
        walrs::postgres::ControlFile::parse(&backup.content("global/pg_control")).unwrap();
    assert!(backup.manifest.stop_lsn >= control.min_recovery_point.unwrap());
}

/// B2: two backups from one restartpoint have the same start; the second must not wait for WAL that is there.
#[tokio::test]
async fn a_standby_can_be_backed_up_twice_from_one_restartpoint() {
    let repository = TestRepository::plain_directory();
    let mut primary = archiving(&repository);
    let standby = primary.standby("standby", Feed::Streaming);
    standby.wait_caught_up(&primary);
    for _ in 0..2 {
        let mut running = standby.walrs_beside(&PUSH);
        while !running.has_ended() {
            primary.switch_wal();
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        running.finish().expect_success();
    }
    assert_eq!(repository.keys_with("/manifest").len(), 2);
}

/// B7
#[tokio::test]
async fn a_damaged_page_is_recorded_and_the_backup_ends_with_its_own_status() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving(&repository);
    cluster.psql(
        "create table t as select i, repeat('x', 100) from generate_series(1, 1000) i; checkpoint",
    );
    let path = cluster.psql("select pg_relation_filepath('t')");
    cluster.stop(Stop::Fast);
    flip(&cluster.data().join(&path), 3 * 8192 + 5000);
    cluster.start();
    let pushed = cluster.walrs(&PUSH).expect_status(6);
    pushed.expect_message("1 pages fail");
    let shown = newest(&cluster);
    assert_eq!(shown["bad_pages"], 1);
    assert_eq!(shown["damaged_files"], serde_json::json!([{ "path": path, "blocks": [3] }]));
    let backup = StoredBackup::latest(&repository).await;
    assert_eq!(backup.content(&path), fs::read(cluster.data().join(&path)).unwrap());
}

/// B7: without checksums there is nothing to verify.
#[test]
fn a_cluster_without_checksums_has_no_bad_pages() {
    use crate::support::cluster_builder::PageChecksums;
    let repository = TestRepository::plain_directory();
    let cluster =
        Cluster::builder(Major::V15).checksums(PageChecksums::Off).archiving_to(&repository);
    let mut cluster = cluster.start();
    cluster.psql("create table t as select generate_series(1, 1000) i; checkpoint");
    let path = cluster.psql("select pg_relation_filepath('t')");
    cluster.stop(Stop::Fast);
    flip(&cluster.data().join(&path), 5000);
    cluster.start();
    cluster.walrs(&PUSH).expect_success();
    assert_eq!(newest(&cluster)["data_checksums"], false);
}

fn flip(path: &std::path::Path, position: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 1], position).unwrap();
}

/// B3
#[test]
fn a_file_that_cannot_be_read_fails_the_backup() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    let secret = cluster.data().join("base/secret");
    fs::write(&secret, "root's own").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    cluster.walrs(&PUSH).expect_status(4).expect_message("base/secret");
    assert_eq!(repository.keys_with("/manifest"), [""; 0]);
}

/// B3: files come and go while a backup runs.
#[tokio::test]
async fn relations_that_vanish_while_they_are_copied_do_no_harm() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    let churn = cluster.client("psql");
    let mut churn = churn;
    let loops = "do $$ begin for i in 1..1500 loop \
                 execute format('create table gone_%s as select generate_series(1, 2000)', i); \
                 execute format('drop table gone_%s', i); commit; end loop; end $$";
    let mut child = churn.args(["-X", "-q", "-c", loops]).spawn().unwrap();
    let mut taken = 0;
    while child.try_wait().unwrap().is_none() {
        cluster.walrs(&PUSH).expect_success();
        taken += 1;
    }
    assert!(taken > 0);
    StoredBackup::latest(&repository).await.file_digests();
}

#[test]
fn links_that_postgresql_knows_nothing_of_are_refused_unless_told_otherwise() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving(&repository);
    symlink("/etc/hostname", cluster.data().join("extra.conf")).unwrap();
    cluster.walrs(&PUSH).expect_status(3).expect_message("extra.conf");
    for (policy, holds) in [("skip", false), ("follow", true)] {
        cluster.environment_mut().insert("WALRS_BACKUP_LINKS".to_owned(), policy.to_owned());
        cluster.walrs(&PUSH).expect_success();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let backup = runtime.block_on(StoredBackup::latest(&repository));
        assert_eq!(backup.paths().contains(&"extra.conf".to_owned()), holds, "{policy}");
    }
}

#[test]
fn a_repository_inside_the_data_directory_is_refused() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    let inside = cluster.data().join("backups");
    fs::create_dir(&inside).unwrap();
    let refused = cluster.walrs(&["backup-push", "--repository", inside.to_str().unwrap()]);
    refused.expect_status(3).expect_message("lies in the data directory");
}

/// What a role needs that does nothing but back up.
#[test]
fn a_role_without_superuser_rights_can_take_a_backup() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving(&repository);
    cluster.psql("create role backup login");
    cluster.environment_mut().insert("WALRS_POSTGRES_USER".to_owned(), "backup".to_owned());
    cluster.walrs(&PUSH).expect_status(4).expect_message("pg_read_all_settings");
    cluster.psql("grant pg_read_all_settings to backup");
    cluster.walrs(&PUSH).expect_status(4).expect_message("grant the role `execute`");
    cluster.psql(
        "grant execute on function pg_backup_start to backup;
         grant execute on function pg_backup_stop to backup",
    );
    cluster.walrs(&PUSH).expect_success();
}

/// B7: pages that are torn by the server's writes are read again, and none of them is called bad.
#[tokio::test]
async fn a_backup_under_load_has_no_bad_pages() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    Load::prepare(&cluster, 4);
    let load = Load::start(&cluster, 4);
    for _ in 0..3 {
        cluster.walrs(&PUSH).expect_success();
    }
    load.stop();
    assert_eq!(newest(&cluster)["bad_pages"], 0);
    StoredBackup::latest(&repository).await.file_digests();
}
