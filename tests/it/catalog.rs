//! The catalogue when a manifest is damaged: the other backups must still be found.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use walrs::config::{Config, Environment};
use walrs::container::ObjectKind;
use walrs::error::ErrorKind;
use walrs::postgres::{SegmentSize, SystemIdentifier};
use walrs::repository::{
    BackupId, Catalog, Creation, FirstCluster, ObjectName, Opening, Repository,
};
use walrs::storage::FsStorage;

use crate::support::program::Finished;
use crate::support::repository::TestRepository;

const OLD: &str = "20261101T000000Z-aaaaaa";
const NEW: &str = "20261102T000000Z-bbbbbb";

fn cluster() -> SystemIdentifier {
    SystemIdentifier::new(7_000_000_000_000_000_001)
}

async fn with_two_backups(location: &TestRepository) -> Repository {
    let settings =
        Config::load(None, Vec::new(), Environment::default()).unwrap().settings().unwrap();
    let first = FirstCluster { system_identifier: cluster(), segment_size: SegmentSize::DEFAULT };
    let storage = Arc::new(FsStorage::new(location.path()));
    let opening = Opening { storage, settings: &settings, site: None, expected: None };
    let repository = opening.open(Creation::By(first)).await.unwrap();
    for id in [OLD, NEW] {
        let name = ObjectName::Manifest(id.parse().unwrap());
        let content = Bytes::from(manifest(id));
        repository.put_object(&name, ObjectKind::Manifest, cluster(), content).await.unwrap();
    }
    repository
}

fn manifest(id: &str) -> Vec<u8> {
    let stop = format!("{}-{}-{}T00:00:09Z", &id[..4], &id[4..6], &id[6..8]);
    let document = json!({
        "kind": "backup", "format": 1, "backup_id": id, "parent_id": null, "last_full": id,
        "system_identifier": cluster().to_string(), "postgres_version": 150_008,
        "control_version": 1300, "catalog_version": 202_209_061, "walrs_version": "0.1.0",
        "block_size": 8192, "wal_block_size": 8192, "segment_size": 16_777_216,
        "relation_segment_blocks": 131_072, "start_timeline": 1, "timeline": 1,
        "start_lsn": "0/2000028", "stop_lsn": "0/2000100",
        "first_segment": "000000010000000000000002", "last_segment": "000000010000000000000002",
        "start_requested": [1, 0], "start_time": stop, "stop_time": stop, "machine_id": "",
        "boot_id": "", "from_standby": false, "backup_label": "", "tablespace_map": "",
        "data_checksums": 1, "label": null, "files": 0, "bytes": 0, "new_bytes": 0,
        "stored_bytes": 0, "bad_pages": 0, "packs": [], "parts": []
    });
    serde_json::to_vec(&document).unwrap()
}

fn damage(location: &TestRepository, id: &str) {
    let path = location.object(&format!("backups/{id}/manifest"));
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_with_a_damaged_manifest_shows_the_others_and_fails() {
    let location = TestRepository::plain_directory();
    with_two_backups(&location).await;
    damage(&location, OLD);
    let absent = location.path().join("no-data-directory");
    let listed = Finished::run(location.walrs_command(&absent).arg("backup-list"));
    let listed = listed.expect_status(5).expect_message(OLD);
    assert!(listed.stdout.contains(NEW) && !listed.stdout.contains(OLD), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_finds_only_damaged_manifests_says_damaged_and_not_that_there_is_no_backup()
{
    let location = TestRepository::plain_directory();
    with_two_backups(&location).await;
    damage(&location, OLD);
    damage(&location, NEW);
    let target = location.path().join("target");
    let mut restore = location.walrs_command(&location.path().join("no-data-directory"));
    Finished::run(restore.arg("restore").arg(&target)).expect_status(5).expect_message(OLD);
    assert!(!target.exists());
}

fn id(manifest: &walrs::repository::Manifest) -> &BackupId {
    &manifest.backup_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_hides_no_other_backup() {
    let location = TestRepository::plain_directory();
    let repository = with_two_backups(&location).await;
    damage(&location, OLD);
    let catalog = Catalog::load(&repository).await.unwrap();
    assert_eq!(id(catalog.resolve(NEW, cluster()).unwrap()).as_str(), NEW);
    assert_eq!(id(catalog.resolve("LATEST", cluster()).unwrap()).as_str(), NEW);
    assert_eq!(catalog.resolve(OLD, cluster()).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(catalog.ensure_readable().unwrap_err().kind(), ErrorKind::Damaged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_mark_keeps_its_backup_and_hides_none() {
    let location = TestRepository::plain_directory();
    let repository = with_two_backups(&location).await;
    let mark = location.object(&format!("marks/{OLD}/00000001.json"));
    fs::create_dir_all(mark.parent().unwrap()).unwrap();
    fs::write(mark, b"{}").unwrap();
    let catalog = Catalog::load(&repository).await.unwrap();
    let permanent: Vec<_> = catalog.entries().iter().map(|entry| entry.permanent).collect();
    assert_eq!(permanent, [true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_backup_is_not_the_latest_because_a_newer_ones_manifest_is_damaged() {
    let location = TestRepository::plain_directory();
    let repository = with_two_backups(&location).await;
    assert!(Catalog::load(&repository).await.unwrap().ensure_readable().is_ok());
    damage(&location, NEW);
    let catalog = Catalog::load(&repository).await.unwrap();
    let error = catalog.resolve("LATEST", cluster()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error:?}");
    assert!(error.report().contains(NEW), "{error:?}");
    assert_eq!(id(catalog.resolve(OLD, cluster()).unwrap()).as_str(), OLD);
}
