//! Interrupted backups: what they have stored serves the next one.

use super::{archiving, assert_delta_is_the_directory, number, push, text};
use crate::support::cluster::Cluster;
use crate::support::repository::TestRepository;
use crate::support::stored_backup::StoredBackup;

const PACKS: usize = 5;

/// A cluster whose full backup takes about five packs: 150 MB that no compressor shrinks.
fn incompressible(repository: &TestRepository) -> Cluster {
    let cluster = archiving(repository);
    cluster.psql(
        "create extension pgcrypto; \
         create table t as select i, gen_random_bytes(960) as filler from generate_series(1, 150000) i; \
         checkpoint",
    );
    cluster
}

/// Stops a full backup when four packs are stored.
fn kill_at_four_fifths(cluster: &Cluster) {
    let mut command = cluster.walrs_command(&["backup-push"]);
    command.env("WALRS_FAILPOINT", "backup-push:pack=kill:4");
    let killed = crate::support::program::Finished::run(&mut command);
    killed.expect_status(128 + 9);
}

fn stored_packs(repository: &TestRepository, backup: &str) -> u64 {
    let keys = repository.keys_with(&format!("{backup}/packs/"));
    keys.iter().map(|key| repository.object(key).metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn a_backup_killed_at_80_percent_is_finished_by_storing_the_rest() {
    let repository = TestRepository::plain_directory();
    let mut cluster = incompressible(&repository);
    kill_at_four_fifths(&cluster);
    let dead = repository.keys_with("/packs/");
    assert!(dead.len() >= 4, "{dead:?}");
    let before = stored_packs(&repository, "");
    let rest = push(&cluster, &[]);
    assert_eq!(text(&rest, "kind"), "full");
    let stored = stored_packs(&repository, text(&rest, "id"));
    assert!(stored < before / 2, "{stored} stored again of {before}");
    let backup = StoredBackup::latest(&repository).await;
    assert!(backup.manifest.packs.len() >= PACKS);
    backup.file_digests();
    assert_delta_is_the_directory(&mut cluster, "copy");
}

#[test]
fn an_interrupted_delta_serves_the_next_one() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving(&repository);
    let full = push(&cluster, &[]);
    cluster.psql(
        "create extension pgcrypto; \
         create table t as select i, gen_random_bytes(960) as filler from generate_series(1, 20000) i; \
         checkpoint",
    );
    cluster.walrs_killed_at("backup-push:last-pack", &["backup-push"]).expect_status(128 + 9);
    let delta = assert_delta_is_the_directory(&mut cluster, "copy");
    assert_eq!(text(&delta, "parent"), text(&full, "id"));
    assert!(number(&delta, "new_bytes") < 2 << 20, "{delta}");
}

/// What a full backup was to store again must not come from an old delta.
#[test]
fn a_full_backup_takes_nothing_from_an_interrupted_delta() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    push(&cluster, &[]);
    cluster.psql("create table t as select i from generate_series(1, 100000) i; checkpoint");
    cluster.walrs_killed_at("backup-push:last-pack", &["backup-push"]).expect_status(128 + 9);
    let full = push(&cluster, &["--full"]);
    assert_eq!(full["parent"], serde_json::Value::Null);
    assert!(number(&full, "new_bytes") > number(&full, "bytes") / 2, "{full}");
}

#[test]
fn a_damaged_pack_of_an_interrupted_backup_is_left_out() {
    use std::os::unix::fs::FileExt;
    let repository = TestRepository::plain_directory();
    let mut cluster = incompressible(&repository);
    kill_at_four_fifths(&cluster);
    let pack = repository.object(&repository.keys_with("/packs/")[1]);
    let file = std::fs::File::options().write(true).open(&pack).unwrap();
    // In the last index record, before the end record of 92 bytes.
    file.write_all_at(b"damage", pack.metadata().unwrap().len() - 120).unwrap();
    let rest = cluster.walrs(&["backup-push"]).expect_success();
    rest.expect_message("a pack of an interrupted backup is left out");
    assert_delta_is_the_directory(&mut cluster, "copy");
}

/// Whatever is in flight, the next pack must get its part of the budget.
#[test]
fn a_delta_with_much_new_data_and_many_workers_comes_to_its_end() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving(&repository);
    push(&cluster, &[]);
    cluster.psql(
        "create extension pgcrypto; \
         create table t as select i, gen_random_bytes(960) as filler from generate_series(1, 200000) i; \
         checkpoint",
    );
    for workers in ["16", "64"] {
        cluster.environment_mut().insert("WALRS_BACKUP_WORKERS".to_owned(), workers.to_owned());
        let mut running = cluster.walrs_beside(&["backup-push"]);
        crate::support::postmaster::wait_until("the backup ends", || running.has_ended());
        running.finish().expect_success();
        cluster.psql("update t set filler = gen_random_bytes(960); checkpoint");
    }
}

#[test]
fn an_interrupted_backup_that_the_sweeper_voided_is_not_used() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    cluster.psql("create table t as select i from generate_series(1, 100000) i; checkpoint");
    cluster.walrs_killed_at("backup-push:last-pack", &["backup-push"]).expect_status(128 + 9);
    let intent = repository.keys_with("intent.json").remove(0);
    let dead = intent.split('/').nth(1).unwrap();
    void(&repository, dead);
    let full = push(&cluster, &[]);
    assert!(number(&full, "new_bytes") > number(&full, "bytes") / 2, "{full}");
}

fn void(repository: &TestRepository, backup: &str) {
    use walrs::container::ObjectKind;
    use walrs::repository::{FORMAT, ManifestDocument, ObjectName, VoidManifest};
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let repository = crate::support::stored_backup::open(repository).await;
        let backup_id: walrs::repository::BackupId = backup.parse().unwrap();
        let name = ObjectName::Manifest(backup_id.clone());
        let created = "2026-11-20T12:00:00Z".parse().unwrap();
        let void = ManifestDocument::Void(VoidManifest { format: FORMAT, backup_id, created });
        let (cluster, json) = (repository.newest_cluster(), void.to_json().unwrap().into());
        repository.put_object(&name, ObjectKind::Manifest, cluster, json).await.unwrap();
    });
}
