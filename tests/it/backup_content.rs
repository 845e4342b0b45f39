//! What a backup holds: every byte of what recovery needs, and nothing else. Read back without the code that restores.

use std::collections::BTreeMap;
use std::fs;

use walrs::repository::Entry;

use crate::support::cluster::Cluster;
use crate::support::cluster_builder::append;
use crate::support::installation::Major;
use crate::support::load::Load;
use crate::support::oracle::file_digests;
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::stored_backup::StoredBackup;
use crate::support::user::ServerUser;

/// A running cluster in which nothing happens by itself.
fn idle(repository: &TestRepository, major: Major) -> Cluster {
    Cluster::builder(major).archiving_to(repository).setting("autovacuum", "off").start()
}

async fn back_up(cluster: &Cluster, repository: &TestRepository) -> StoredBackup {
    cluster.walrs(&["backup-push"]).expect_success();
    StoredBackup::latest(repository).await
}

/// The lines of the backup below `prefix`, without it.
fn below(stored: &BTreeMap<String, String>, prefix: &str) -> BTreeMap<String, String> {
    let cut = |(path, told): (&String, &String)| {
        Some((path.strip_prefix(prefix)?.strip_prefix('/')?.to_owned(), told.clone()))
    };
    stored.iter().filter_map(cut).collect()
}

/// The files of the data directory that the backup leaves out, and those that it holds otherwise.
fn differences(cluster: &Cluster, stored: &BTreeMap<String, String>) -> Vec<String> {
    let on_disk = file_digests(cluster.data());
    on_disk
        .into_iter()
        .filter(|(path, told)| stored.get(path) != Some(told))
        .map(|(path, _)| path)
        .collect()
}

/// Whether PostgreSQL makes the file anew, or has it from the archive.
fn may_be_left_out(path: &str) -> bool {
    ["pg_wal/", "pg_subtrans/", "pg_stat_tmp/", "pg_dynshmem/", "pg_notify/"]
        .iter()
        .any(|directory| path.starts_with(directory))
        || ["postmaster.pid", "postmaster.opts", "base/pgsql_tmp"].contains(&path)
        || path.ends_with("/pg_internal.init")
}

async fn an_idle_cluster_is_stored_byte_for_byte(place: Place, sealing: Sealing) {
    let repository = TestRepository::new(place, sealing);
    let mut cluster = Cluster::builder(Major::V15)
        .archiving_to(&repository)
        .setting("autovacuum", "off")
        .create();
    if sealing == Sealing::Encrypted {
        repository.init(cluster.data()).expect_success();
    }
    cluster.start();
    Load::prepare(&cluster, 1);
    cluster.psql("vacuum; checkpoint");
    let backup = back_up(&cluster, &repository).await;
    assert!(
        backup
            .paths()
            .iter()
            .all(|path| !may_be_left_out(path) || path.ends_with("archive_status"))
    );
    let differences = differences(&cluster, &backup.file_digests());
    let wrong: Vec<_> = differences.iter().filter(|path| !may_be_left_out(path)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(backup.manifest.new_bytes < backup.manifest.bytes, "zeros were stored");
}

/// D1, D2, D3
#[tokio::test]
async fn a_plain_directory_holds_every_byte() {
    an_idle_cluster_is_stored_byte_for_byte(Place::Directory, Sealing::Plain).await;
}

/// D1, D2, D3
#[tokio::test]
async fn an_encrypted_directory_holds_every_byte() {
    an_idle_cluster_is_stored_byte_for_byte(Place::Directory, Sealing::Encrypted).await;
}

/// D1, D2, D3
#[tokio::test]
async fn an_encrypted_bucket_holds_every_byte() {
    an_idle_cluster_is_stored_byte_for_byte(Place::Bucket, Sealing::Encrypted).await;
}

#[tokio::test]
async fn backups_of_13_and_17_hold_every_byte() {
    for major in [Major::V13, Major::V17] {
        let repository = TestRepository::plain_directory();
        let cluster = idle(&repository, major);
        let backup = back_up(&cluster, &repository).await;
        let differences = differences(&cluster, &backup.file_digests());
        assert!(differences.iter().all(|path| may_be_left_out(path)), "{major:?} {differences:?}");
        let summaries = backup.paths().contains(&"pg_wal/summaries".to_owned());
        assert_eq!(summaries, major == Major::V17);
    }
}

#[tokio::test]
async fn tablespaces_are_stored_once_wherever_they_lie() {
    let repository = TestRepository::plain_directory();
    let cluster = idle(&repository, Major::V15);
    let outer = cluster.create_tablespace("outer_space");
    let inner = cluster.data().join("inner");
    fs::create_dir(&inner).unwrap();
    ServerUser::get().own(&inner);
    cluster.psql(&format!("create tablespace inner_space location '{}'", inner.display()));
    cluster.psql(
        "set allow_in_place_tablespaces = on; create tablespace in_place location '';
         create table a tablespace outer_space as select generate_series(1, 1000) i;
         create table b tablespace inner_space as select generate_series(1, 1000) i;
         create table c tablespace in_place as select generate_series(1, 1000) i; checkpoint",
    );
    let backup = back_up(&cluster, &repository).await;
    let stored = backup.file_digests();
    let oid = |name: &str| {
        cluster.psql(&format!("select oid from pg_tablespace where spcname = '{name}'"))
    };
    let path = |name: &str| format!("pg_tblspc/{}", oid(name));
    assert_eq!(stored[&path("outer_space")], format!("-> {}", outer.display()));
    assert_eq!(below(&stored, &path("outer_space")), file_digests(&outer));
    assert_eq!(below(&stored, &path("inner_space")), file_digests(&inner));
    let in_place = file_digests(&cluster.data().join(path("in_place")));
    assert_eq!(below(&stored, &path("in_place")), in_place);
    assert_eq!(stored[&path("in_place")], "", "a directory, not a link");
    assert!(!stored.keys().any(|path| path.starts_with("inner")), "stored twice");
    let map = String::from_utf8(backup.manifest.tablespace_map.clone()).unwrap();
    assert!(map.contains(&format!("{} {}\n", oid("outer_space"), outer.display())), "{map}");
}

#[tokio::test]
async fn of_unlogged_relations_only_what_recovery_resets_them_to_is_stored() {
    let repository = TestRepository::plain_directory();
    let cluster = idle(&repository, Major::V15);
    cluster.psql(
        "create unlogged table u (i int primary key); insert into u select generate_series(1, 1000);
         create temporary table t as select 1; checkpoint",
    );
    let backup = back_up(&cluster, &repository).await;
    for relation in ["u", "u_pkey"] {
        let path = cluster.psql(&format!("select pg_relation_filepath('{relation}')"));
        assert!(!backup.paths().contains(&path), "{relation}");
        assert!(backup.paths().contains(&format!("{path}_init")), "{relation}");
    }
}

/// B4
#[tokio::test]
async fn the_label_comes_from_the_server_and_no_stray_file_of_a_recovery_is_stored() {
    let repository = TestRepository::plain_directory();
    let cluster = idle(&repository, Major::V15);
    let strays = ["backup_label", "tablespace_map", "backup_manifest", "recovery.signal"];
    for name in strays {
        fs::write(cluster.data().join(name), "stray").unwrap();
    }
    let backup = back_up(&cluster, &repository).await;
    assert!(strays.iter().all(|name| !backup.paths().contains(&(*name).to_owned())));
    let label = String::from_utf8(backup.manifest.backup_label.clone()).unwrap();
    let start = format!("START WAL LOCATION: {} (file ", backup.manifest.start_lsn);
    assert!(label.starts_with(&start) && label.contains("LABEL: walrs "), "{label}");
    // What PostgreSQL archived about this backup begins with the same lines.
    let archived = repository.keys_with(".backup");
    let history = fs::read(repository.object(&archived[0])).unwrap();
    let history = String::from_utf8(zstd::decode_all(&history[..]).unwrap()).unwrap();
    assert!(label.lines().all(|line| history.contains(line)), "{label}\n{history}");
}

/// B6
#[tokio::test]
async fn pg_control_is_read_after_everything_else_and_read_again_when_torn() {
    let repository = TestRepository::plain_directory();
    let cluster = idle(&repository, Major::V15);
    let paused = cluster.walrs_paused_at("backup-push:before-control-file", &["backup-push"]);
    cluster.psql("create table later (i int); checkpoint");
    let control = cluster.data().join("global/pg_control");
    let whole = fs::read(&control).unwrap();
    fs::write(&control, [&whole[..100], &[0; 8092]].concat()).unwrap();
    let mending = std::thread::spawn({
        let (control, whole) = (control.clone(), whole.clone());
        move || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            fs::write(&control, &whole).unwrap();
        }
    });
    paused.resume().expect_success();
    mending.join().unwrap();
    let backup = StoredBackup::latest(&repository).await;
    assert_eq!(backup.content("global/pg_control"), whole);
}

#[tokio::test]
async fn the_file_list_is_sorted_and_begins_with_the_data_directory() {
    let repository = TestRepository::plain_directory();
    let cluster = idle(&repository, Major::V15);
    for name in ["base.old", "base-x", "odd name", "caf\u{e9}"] {
        let path = cluster.data().join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), name).unwrap();
        ServerUser::get().own_tree(&path);
    }
    let backup = back_up(&cluster, &repository).await;
    let paths: Vec<_> = backup.entries.iter().map(|entry| entry.path().clone()).collect();
    assert!(paths.is_sorted(), "{:?}", backup.paths());
    assert_eq!(backup.paths()[0], ".");
    assert_eq!(backup.content("caf%C3%A9/file"), "caf\u{e9}".as_bytes());
    assert_eq!(backup.content("odd%20name/file"), b"odd name");
    let modes = |path: &str| {
        backup.entries.iter().find_map(|entry| match entry {
            Entry::Directory(found) if found.path.to_string() == path => Some(found.mode),
            _ => None,
        })
    };
    assert_eq!(modes("."), Some(0o700));
    assert_eq!(backup.file("PG_VERSION").mode, 0o600);
}

/// Large files are read in ranges and packs closed at their limit: many of both must come back in order.
#[tokio::test]
async fn a_table_of_many_ranges_and_packs_comes_back_in_order() {
    let repository = TestRepository::plain_directory();
    let cluster = idle(&repository, Major::V15);
    append(&cluster.data().join("postgresql.conf"), "max_wal_size = 1GB\n");
    cluster.psql(
        "create table wide as select i, md5(i::text) || md5((i * 7)::text) || md5((i * 11)::text) as m
         from generate_series(1, 900000) i; checkpoint",
    );
    let path = cluster.psql("select pg_relation_filepath('wide')");
    let backup = back_up(&cluster, &repository).await;
    assert!(backup.manifest.packs.len() > 1, "{:?}", backup.manifest.packs);
    assert_eq!(backup.content(&path), fs::read(cluster.data().join(&path)).unwrap());
    let extents = backup.file(&path).extents.len();
    assert!(extents <= backup.manifest.packs.len() + 1, "{extents} extents");
}
