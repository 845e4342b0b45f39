//! When a delta is taken, what it stores, and what its list says.

use std::fs;
use std::os::unix::fs::FileExt;

use super::{archiving, assert_delta_is_the_directory, number, push, text};
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::stored_backup::StoredBackup;

const ROWS: &str = "create table t as select i, repeat(md5(i::text), 3) as filler \
                    from generate_series(1, 100000) i; create index on t (i)";

#[test]
fn a_second_backup_is_a_delta_and_stores_what_changed() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving(&repository);
    cluster.psql(ROWS);
    let full = push(&cluster, &[]);
    assert_eq!((text(&full, "kind"), &full["parent"]), ("full", &serde_json::Value::Null));
    cluster.psql("update t set filler = 'changed' where i between 500 and 600");
    let delta = assert_delta_is_the_directory(&mut cluster, "copy");
    assert_eq!(text(&delta, "parent"), text(&full, "id"));
    assert_eq!(delta["files"], full["files"]);
    assert!(number(&delta, "new_bytes") < number(&delta, "bytes") / 20, "{delta}");
    assert!(number(&delta, "stored_bytes") < number(&full, "stored_bytes") / 10, "{delta}");
}

/// D2
#[test]
fn reading_every_file_stores_no_more_than_trusting_their_identities() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving(&repository);
    cluster.psql(ROWS);
    push(&cluster, &[]);
    cluster.environment_mut().insert("WALRS_BACKUP_RESCAN".to_owned(), "always".to_owned());
    let delta = assert_delta_is_the_directory(&mut cluster, "copy");
    assert!(number(&delta, "new_bytes") < 200_000, "{delta}");
}

#[test]
fn a_delta_of_an_encrypted_bucket_is_the_directory() {
    let repository = TestRepository::new(Place::Bucket, Sealing::Encrypted);
    let mut cluster = archiving(&repository);
    cluster.psql(ROWS);
    push(&cluster, &[]);
    cluster.psql("delete from t where i % 1000 = 7; vacuum t");
    assert_delta_is_the_directory(&mut cluster, "copy");
}

#[test]
fn a_full_backup_is_taken_when_asked_and_when_the_last_one_is_too_old() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving(&repository);
    push(&cluster, &[]);
    let asked = cluster.walrs(&["backup-push", "--full"]).expect_success();
    asked.expect_message("full backup: as asked");
    cluster.environment_mut().insert("WALRS_BACKUP_FULL_EVERY".to_owned(), "1s".to_owned());
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let due = cluster.walrs(&["backup-push"]).expect_success();
    due.expect_message("older than `backup.full_every`");
    cluster.environment_mut().remove("WALRS_BACKUP_FULL_EVERY");
    cluster.walrs(&["backup-push"]).expect_success().expect_message("delta of `");
}

#[test]
fn a_parent_that_cannot_be_read_whole_is_passed_over() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    let first = push(&cluster, &[]);
    let second = push(&cluster, &["--full"]);
    let list = repository.object(&format!("backups/{}/files/00000001", text(&second, "id")));
    flip_in_the_middle(&list);
    let third = push(&cluster, &[]);
    assert_eq!(text(&third, "parent"), text(&first, "id"));
    for pack in repository.keys_with(&format!("{}/packs/", text(&first, "id"))) {
        fs::remove_file(repository.object(&pack)).unwrap();
    }
    let fourth = cluster.walrs(&["backup-push"]).expect_success();
    fourth.expect_message("full backup: no earlier backup is usable");
}

fn flip_in_the_middle(path: &std::path::Path) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let (middle, mut byte) = (file.metadata().unwrap().len() / 2, [0]);
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
}

/// The buffers of blocks that wait for others must not hold the whole budget.
#[tokio::test]
async fn a_large_file_with_one_block_in_every_megabyte_is_backed_up() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    let path = cluster.data().join("sparse");
    let file = fs::File::create(&path).unwrap();
    crate::support::user::ServerUser::get().own(&path);
    for megabyte in 0..300_u64 {
        file.write_all_at(&megabyte.to_be_bytes(), (megabyte << 20) + 8192).unwrap();
    }
    push(&cluster, &[]);
    let backup = StoredBackup::latest(&repository).await;
    assert!(backup.content("sparse") == fs::read(&path).unwrap());
    for megabyte in (0..300_u64).step_by(2) {
        file.write_all_at(b"changed", (megabyte << 20) + 16_384).unwrap();
    }
    push(&cluster, &[]);
    let backup = StoredBackup::latest(&repository).await;
    assert!(backup.content("sparse") == fs::read(&path).unwrap());
    let newly: u64 = backup.manifest.new_bytes;
    assert!(newly < 4 << 20, "{newly}");
}

/// Thirty deltas of scattered updates: what is stored and the length of the list stay bounded.
#[tokio::test]
async fn thirty_deltas_of_scattered_updates_stay_within_a_constant_factor() {
    const PIECES_A_MEGABYTE: usize = 64;
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving(&repository);
    cluster.psql(
        "create table t (i int, filler text) with (fillfactor = 50); \
         insert into t select i, repeat(md5(i::text), 3) from generate_series(1, 60000) i; \
         vacuum t",
    );
    let path = cluster.psql("select pg_relation_filepath('t')");
    let full = push(&cluster, &[]);
    let (mut most, mut referenced) = (0, 0);
    for round in 0..30 {
        cluster.psql(&format!("update t set filler = filler where i % 440 = {round}; checkpoint"));
        push(&cluster, &[]);
        let backup = StoredBackup::latest(&repository).await;
        most = most.max(backup.file(&path).extents.len());
        referenced = referenced.max(backup.manifest.packs.iter().map(|pack| pack.raw).sum::<u64>());
    }
    let file = cluster.data().join(&path).metadata().unwrap().len() as usize;
    // Every changed block may be a piece of its own, and make one more of what it lies in.
    let changed_blocks = 60_000 / 440 + 1;
    let bound = (file >> 20) * PIECES_A_MEGABYTE + 2 * changed_blocks + 64;
    assert!(most <= bound, "{most} extents of {file} bytes, at most {bound}");
    let bytes = number(&full, "bytes");
    assert!(referenced <= 5 * bytes, "{referenced} of {bytes}");
    assert_delta_is_the_directory(&mut cluster, "copy");
}

#[test]
fn a_plan_tells_what_a_delta_would_read() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    cluster.psql(ROWS);
    let planned = |cluster: &crate::support::cluster::Cluster, arguments: &[&str]| {
        let all = [&["backup-push", "--plan", "--json"], arguments].concat();
        let stdout = cluster.walrs(&all).expect_success().stdout;
        serde_json::from_str::<serde_json::Value>(&stdout).unwrap()
    };
    assert_eq!(text(&planned(&cluster, &[]), "kind"), "full");
    cluster.psql("checkpoint");
    std::thread::sleep(std::time::Duration::from_millis(2200));
    let full = push(&cluster, &[]);
    cluster.psql("update t set filler = 'changed' where i = 5; checkpoint");
    let before = repository.keys();
    let plan = planned(&cluster, &[]);
    assert_eq!(repository.keys(), before);
    assert_eq!((text(&plan, "kind"), text(&plan, "parent")), ("delta", text(&full, "id")));
    let shares = |name: &str, of: &str| number(&plan, name) * 2 < number(&plan, of);
    assert!(shares("files_to_read", "files"), "{plan}");
    assert!(number(&plan, "blocks_to_read") * 8192 >= number(&plan, "bytes_to_read"), "{plan}");
    assert_eq!(planned(&cluster, &["--full"])["bytes_to_read"], plan["bytes"]);
}
