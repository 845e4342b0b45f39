//! Whatever a data directory has become, it is brought back byte by byte, and nothing outside of it is touched.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::{archiving, assert_same_content, back_up, mapping, relation, try_in_place};
use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::load::Load;
use crate::support::oracle;
use crate::support::postmaster::Stop;
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::standby::Feed;
use crate::support::user::ServerUser;

/// Tables of every kind of change, a tablespace, and a database that is dropped after the backup.
fn before_the_backup(source: &Cluster) {
    Load::prepare(source, 1);
    source.create_tablespace("fast");
    source.psql("create table there tablespace fast as select i from generate_series(1, 9000) i");
    source.psql("create table dropped as select 1 as id");
    source.psql("create table truncated as select i from generate_series(1, 90000) i");
    source.psql("create database given_up");
    // Zeros are no blocks of a pack.
    let zeros = source.data().join("zeros");
    fs::write(&zeros, vec![0; 200_000]).unwrap();
    ServerUser::get().own(&zeros);
}

fn after_the_backup(source: &Cluster) {
    source.psql("drop table dropped; truncate truncated; insert into there values (9001)");
    source.psql("drop database given_up");
    source.psql("create database later");
    source.create_tablespace("late");
    source.psql("create table later tablespace late as select 1 as id");
    source.psql("alter system set work_mem = '5MB'");
    let load = Load::start(source, 2);
    source.psql("checkpoint");
    load.stop();
}

/// Files and directories that PostgreSQL never made.
fn strew_foreign_entries(data: &Path, outside: &Path) {
    for name in ["notes", "backup_label", "tablespace_map", "standby.signal", "recovery.signal"] {
        fs::write(data.join(name), "of somebody else").unwrap();
    }
    fs::create_dir_all(data.join("base/junk/below")).unwrap();
    fs::write(data.join("base/junk/below/file"), "junk").unwrap();
    fs::set_permissions(data.join("base/junk"), fs::Permissions::from_mode(0o500)).unwrap();
    symlink(outside, data.join("base/link")).unwrap();
    symlink("nowhere", data.join("pg_xact/dangling")).unwrap();
}

/// Entries that are of another kind than they were, and names that lead out of the data directory.
fn change_kinds(data: &Path, outside: &Path) {
    fs::remove_file(data.join("base/1/PG_VERSION")).unwrap();
    fs::create_dir_all(data.join("base/1/PG_VERSION/below")).unwrap();
    fs::remove_dir_all(data.join("pg_logical")).unwrap();
    fs::write(data.join("pg_logical"), "a file").unwrap();
    fs::remove_file(data.join("pg_ident.conf")).unwrap();
    symlink(outside.join("kept"), data.join("pg_ident.conf")).unwrap();
    fs::remove_dir_all(data.join("pg_multixact/offsets")).unwrap();
    symlink(outside, data.join("pg_multixact/offsets")).unwrap();
    fs::hard_link(data.join("pg_hba.conf"), outside.join("second-name")).unwrap();
    fs::write(data.join("pg_hba.conf"), "changed under both names").unwrap();
}

/// Bytes that are not what they were: a flipped bit, an end that is missing, one that is too many, zeros.
fn change_bytes(table: &Path, index: &Path, catalog: &Path, zeros: &Path) {
    let mut content = fs::read(table).unwrap();
    content[8192 * 3 + 5000] ^= 1;
    content[8192 * 5..8192 * 6].fill(0);
    fs::write(table, &content[..content.len() - 8192 - 100]).unwrap();
    let mut content = fs::read(index).unwrap();
    content.extend([1; 10_000]);
    fs::write(index, content).unwrap();
    fs::write(catalog, "").unwrap();
    let mut content = vec![0; 150_000];
    content[20_000..100_000].fill(1);
    fs::write(zeros, content).unwrap();
    fs::set_permissions(catalog, fs::Permissions::from_mode(0o400)).unwrap();
}

/// R6, D4
#[test]
fn a_directory_that_was_changed_in_every_way_becomes_what_a_fresh_restore_makes() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    before_the_backup(&source);
    let (oid, mapping) = mapping(&source, "fast", "elsewhere");
    back_up(&source);
    let [table, index, catalog] =
        ["there", "pg_class_oid_index", "pg_proc"].map(|name| relation(&source, name));
    after_the_backup(&source);
    source.stop(Stop::Fast);
    let outside = source.scratch().create_directory("outside");
    fs::write(outside.join("kept"), "untouched").unwrap();
    strew_foreign_entries(source.data(), &outside);
    change_kinds(source.data(), &outside);
    change_bytes(&table, &index, &catalog, &source.data().join("zeros"));
    ServerUser::get().own_tree(&source.data().join("base"));
    let fresh = source.sibling("fresh");
    let arguments =
        ["restore", fresh.data_argument(), "--archive", "keep", "--tablespace", &mapping];
    source.walrs(&arguments).expect_success();
    try_in_place(&source, &[]).expect_success();
    assert_same_content(fresh.data(), source.data(), |path| path == "tablespace_map");
    assert!(source.data().join(format!("pg_tblspc/{oid}")).is_symlink());
    assert_eq!(fs::read(outside.join("kept")).unwrap(), b"untouched");
    assert_eq!(fs::read(outside.join("second-name")).unwrap(), b"changed under both names");
    source.recover_to(RecoveryEnd::Promoted);
    assert_eq!(source.psql("select count(*) from there"), "9001", "replay goes to the end");
    assert_eq!(source.psql("select id from later"), "1");
    oracle::assert_sound(&source);
}

/// R6, F4
#[test]
fn rows_come_back_out_of_an_encrypted_bucket() {
    let repository = TestRepository::new(Place::Bucket, Sealing::Encrypted);
    let mut source = archiving(Major::V17, &repository);
    Load::prepare(&source, 1);
    back_up(&source);
    let load = Load::start(&source, 2);
    source.archive_all();
    load.stop();
    source.psql("vacuum");
    source.archive_all();
    let expected = oracle::table_digests(&source);
    source.stop(Stop::Fast);
    try_in_place(&source, &[]).expect_success();
    source.recover_to(RecoveryEnd::Promoted);
    assert_eq!(oracle::table_digests(&source), expected);
    oracle::assert_sound(&source);
}

/// R6, R7
#[test]
fn a_former_primary_follows_its_successor() {
    let repository = TestRepository::plain_directory();
    let mut former = archiving(Major::V15, &repository);
    Load::prepare(&former, 1);
    back_up(&former);
    let successor = former.standby("successor", Feed::Both);
    former.psql("create table seen as select 1 as id");
    successor.wait_caught_up(&former);
    // The rest is what only the former primary knows.
    former.stop(Stop::Kill);
    fs::remove_file(former.data().join("postmaster.pid")).unwrap();
    successor.promote();
    successor.psql("create table goes_on as select 2 as id");
    successor.archive_all();
    try_in_place(&former, &["--standby"]).expect_status(3);
    try_in_place(&former, &["--standby", "--discard-unarchived-wal"]).expect_success();
    former.start();
    former.wait_for("select to_regclass('goes_on') is not null");
    assert_eq!(former.psql("select seen.id, goes_on.id from seen, goes_on"), "1|2");
    assert_eq!(former.psql("select pg_is_in_recovery()"), "t");
    assert_eq!(oracle::table_digests(&former), oracle::table_digests(&successor));
}

/// R6, R1
#[test]
fn a_flipped_bit_is_repaired_in_any_file() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    source.psql("create table wide as select i, repeat('x', 500) from generate_series(1, 20000) i");
    back_up(&source);
    let table = relation(&source, "wide");
    source.stop(Stop::Fast);
    let mut content = fs::read(&table).unwrap();
    for position in [0, 8191, 8192, 1_000_000, 4 << 20, content.len() - 1] {
        content[position] ^= 1 << (position % 8);
    }
    fs::write(&table, content).unwrap();
    try_in_place(&source, &[]).expect_success();
    source.recover_to(RecoveryEnd::Promoted);
    assert_eq!(source.psql("select sum(length(repeat)) from wide"), "10000000");
    oracle::assert_sound(&source);
}
