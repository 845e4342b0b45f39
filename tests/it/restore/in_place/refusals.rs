//! What is refused before anything changes: servers, other clusters, and WAL that is nowhere else.

use std::collections::BTreeMap;
use std::fs;

use super::{archiving, back_up, mapping, try_in_place};
use crate::restore::story::{commit, prepare, rows};
use crate::support::cluster::Cluster;
use crate::support::cluster_builder::touch;
use crate::support::installation::Major;
use crate::support::oracle;
use crate::support::paused::Paused;
use crate::support::postmaster::Stop;
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::TestRepository;

/// A cluster with a backup and everything archived, which still runs.
fn backed_up(repository: &TestRepository) -> Cluster {
    let mut source = archiving(Major::V15, repository);
    prepare(&mut source);
    back_up(&source);
    commit(&source, 1);
    source.archive_all();
    source
}

/// Runs a restore in place that must be refused with `message` and change nothing.
#[track_caller]
fn assert_refused(source: &Cluster, arguments: &[&str], message: &str) {
    let before: BTreeMap<_, _> = oracle::file_digests(source.data());
    try_in_place(source, arguments).expect_status(3).expect_message(message);
    let planned = [&["--plan"], arguments].concat();
    try_in_place(source, &planned).expect_status(3).expect_message(message);
    assert_eq!(oracle::file_digests(source.data()), before, "something was changed");
}

/// R6
#[test]
fn a_directory_with_a_server_or_its_lock_file_is_refused() {
    let repository = TestRepository::plain_directory();
    let mut source = backed_up(&repository);
    let data = source.data_argument().to_owned();
    for more in [&[][..], &["--discard-unarchived-wal"]] {
        let arguments = [&["restore", &data, "--in-place"], more].concat();
        source.walrs(&arguments).expect_status(3).expect_message("a PostgreSQL server runs in it");
    }
    source.stop(Stop::Kill);
    assert!(source.data().join("postmaster.pid").exists());
    assert_refused(&source, &["--discard-unarchived-wal"], "`postmaster.pid` is there");
    assert_eq!(repository.keys_with("leases/"), [""; 0]);
}

/// R6
#[test]
fn a_server_that_was_started_meanwhile_keeps_its_directory() {
    let repository = TestRepository::plain_directory();
    let mut source = backed_up(&repository);
    source.stop(Stop::Fast);
    let command = source.walrs_command(&["restore", source.data_argument(), "--in-place"]);
    let paused = Paused::at("restore:marker", command, &source);
    source.start();
    paused.resume().expect_status(3).expect_message("a PostgreSQL server runs in it");
    source.psql("checkpoint");
    commit(&source, 2);
    source.restart();
    assert_eq!(rows(&source), "0 1 2");
}

/// R6
#[test]
fn what_a_server_did_since_the_directory_was_looked_at_is_not_lost() {
    let repository = TestRepository::plain_directory();
    let mut source = backed_up(&repository);
    source.stop(Stop::Fast);
    let command = source.walrs_command(&["restore", source.data_argument(), "--in-place"]);
    let paused = Paused::at("restore:chosen", command, &source);
    source.start();
    commit(&source, 2);
    source.stop(Stop::Fast);
    paused.resume().expect_status(3).expect_message("has changed meanwhile");
    source.start();
    assert_eq!(rows(&source), "0 1 2");
}

/// R6
#[test]
fn two_restores_never_take_over_the_same_directory() {
    let repository = TestRepository::plain_directory();
    let mut source = backed_up(&repository);
    source.stop(Stop::Fast);
    let command = source.walrs_command(&["restore", source.data_argument(), "--in-place"]);
    let paused = Paused::at("restore:wal-emptied", command, &source);
    try_in_place(&source, &[]).expect_status(3).expect_message("another restore is filling");
    paused.resume().expect_success();
    source.recover_to(RecoveryEnd::Promoted);
    assert_eq!(rows(&source), "0 1");
}

/// R6, C1
#[test]
fn another_cluster_is_never_overwritten() {
    let repository = TestRepository::plain_directory();
    let source = backed_up(&repository);
    let backup = source.walrs(&["backup-list", "--json"]).expect_success().stdout;
    let backup: serde_json::Value = serde_json::from_str(&backup).unwrap();
    let backup = backup[0]["id"].as_str().unwrap();
    let other = Cluster::builder(Major::V15).using(&repository).create();
    assert_refused(&other, &["--discard-unarchived-wal"], "walrs init --add-cluster");
    let added = other.walrs(&["init", "--add-cluster"]);
    added.expect_success();
    let arguments = ["--discard-unarchived-wal", "--backup", backup];
    assert_refused(&other, &arguments, "the data directory is of cluster");
}

/// R6
#[test]
fn what_is_no_data_directory_is_refused() {
    let repository = TestRepository::plain_directory();
    let mut source = backed_up(&repository);
    source.stop(Stop::Fast);
    let missing = source.scratch().join("missing");
    let restore_into = |directory: &str| source.walrs(&["restore", directory, "--in-place"]);
    restore_into(missing.to_str().unwrap()).expect_status(3).expect_message("it does not exist");
    assert!(!missing.exists());
    let empty = source.scratch().create_directory("empty");
    let message = "nothing says which cluster it is";
    restore_into(empty.to_str().unwrap()).expect_status(3).expect_message(message);
    fs::remove_file(source.data().join("global/pg_control")).unwrap();
    assert_refused(&source, &["--discard-unarchived-wal"], message);
}

/// R6
#[test]
fn a_server_that_was_not_shut_down_is_refused_unless_its_wal_may_go() {
    let repository = TestRepository::plain_directory();
    let mut source = backed_up(&repository);
    commit(&source, 2);
    source.stop(Stop::Immediate);
    assert_refused(&source, &[], "its server was not shut down: it is `in production`");
    assert_eq!(repository.keys_with("leases/"), [""; 0]);
    try_in_place(&source, &["--discard-unarchived-wal"]).expect_success();
    source.recover_to(RecoveryEnd::Promoted);
    assert_eq!(rows(&source), "0 1", "row 2 was in the current segment only");
}

/// R6
#[test]
fn files_that_wait_to_be_archived_are_refused_unless_they_may_go() {
    let repository = TestRepository::plain_directory();
    let mut source = backed_up(&repository);
    source.set("archive_command", "false");
    source.reload();
    commit(&source, 2);
    let waiting = source.switch_wal();
    source.stop(Stop::Fast);
    assert!(source.data().join(format!("pg_wal/archive_status/{waiting}.ready")).exists());
    assert_refused(&source, &[], &format!("wait to be archived, `{waiting}` first"));
    try_in_place(&source, &["--discard-unarchived-wal", "--immediate"]).expect_success();
    source.recover_to(RecoveryEnd::Promoted);
    assert_eq!(rows(&source), "0");
}

/// R6
#[test]
fn a_last_segment_that_is_not_in_the_repository_is_refused() {
    let repository = TestRepository::plain_directory();
    let mut source = backed_up(&repository);
    source.set("archive_command", "true");
    source.reload();
    commit(&source, 2);
    let lost = source.archive_all();
    source.stop(Stop::Fast);
    // Stopping ends a segment too, and `true` takes that for archived as well.
    assert_refused(&source, &[], "the last segment before its shutdown, is not in the repository");
    assert_eq!(repository.keys_with(&lost), [""; 0]);
}

/// R6
#[test]
fn a_restored_directory_that_was_never_started_says_so() {
    let repository = TestRepository::plain_directory();
    let mut source = backed_up(&repository);
    source.stop(Stop::Fast);
    try_in_place(&source, &["--immediate"]).expect_success();
    assert_refused(&source, &[], "no server has recovered from that yet");
    try_in_place(&source, &["--discard-unarchived-wal"]).expect_success();
    source.recover_to(RecoveryEnd::Promoted);
    assert_eq!(rows(&source), "0 1");
}

/// R6, S8
#[test]
fn a_repository_that_the_data_directory_does_not_use_is_refused() {
    let (repository, other) =
        (TestRepository::plain_directory(), TestRepository::plain_directory());
    let mut source = backed_up(&repository);
    source.stop(Stop::Fast);
    let stranger = archiving(Major::V15, &other);
    back_up(&stranger);
    source.environment_mut().extend(other.environment().clone());
    assert_refused(&source, &[], "this data directory uses repository");
}

/// R2, R6
#[test]
fn a_mapping_into_a_directory_in_use_and_a_missing_disk_are_refused() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    let location = source.create_tablespace("fast");
    source.psql("create table there tablespace fast as select 1 as id");
    let (oid, mapping) = mapping(&source, "fast", "used");
    back_up(&source);
    source.stop(Stop::Fast);
    touch(&source.scratch().create_directory("used").join("file"));
    assert_refused(
        &source,
        &["--tablespace", &mapping],
        &format!("for tablespace {oid}, is not empty"),
    );
    let link = source.data().join(format!("pg_tblspc/{oid}"));
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(location.join("not/mounted"), &link).unwrap();
    assert_refused(&source, &[], &format!("is the disk of tablespace {oid} mounted?"));
}

#[test]
fn unarchived_wal_is_given_up_in_place_only() {
    let repository = TestRepository::plain_directory();
    let source = backed_up(&repository);
    let copy = source.sibling("copy");
    let arguments = ["restore", copy.data_argument(), "--discard-unarchived-wal"];
    source.walrs(&arguments).expect_status(2).expect_message("--in-place");
}
