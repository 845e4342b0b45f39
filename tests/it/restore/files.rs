//! What is restored: rows, files, modes, owners, links.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{archiving, back_up, restore};
use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::load::Load;
use crate::support::oracle;
use crate::support::postmaster::Stop;
use crate::support::program::{Finished, walrs_binary};
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::TestRepository;
use crate::support::user::ServerUser;

#[test]
fn a_backup_under_load_with_tablespaces_comes_back_row_by_row() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    Load::prepare(&source, 1);
    source.create_tablespace("fast");
    source.psql("create table there tablespace fast as select i from generate_series(1, 1000) i");
    let load = Load::start(&source, 2);
    back_up(&source);
    load.stop();
    source.psql("insert into there values (1001)");
    source.archive_all();
    let oid = source.psql("select oid from pg_tablespace where spcname = 'fast'");
    let mapping = format!("{oid}={}", source.scratch().join("elsewhere").display());
    let copy = restore(&source, "copy", &["--tablespace", &mapping]);
    oracle::assert_same_rows(&source, &copy);
    source.restart();
}

/// What a backup leaves out, and what is only in one of the two directories.
const NOT_COMPARED: [&str; 8] = [
    "pg_wal",
    "pg_subtrans/",
    "pg_stat",
    "base/pgsql_tmp",
    "global/pg_control",
    "global/pg_internal",
    "backup_label",
    "postmaster.",
];

/// R1
#[test]
fn every_file_is_restored_as_it_was_when_the_server_stood_still() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    Load::prepare(&source, 1);
    source.psql("create database other");
    back_up(&source);
    // Nothing was written since the checkpoint of the backup's start, and nothing is written now.
    source.stop(Stop::Immediate);
    let copy = source.sibling("copy");
    source.walrs(&["backup-fetch", copy.data_argument()]).expect_success();
    let is_compared = |path: &str| {
        let skipped = NOT_COMPARED.iter().any(|name| path.starts_with(name));
        !skipped && !path.contains("/pg_internal")
    };
    let digests = |cluster: &Cluster| {
        let mut digests = oracle::file_digests(cluster.data());
        digests.retain(|path, _| is_compared(path));
        digests
    };
    let (expected, restored) = (digests(&source), digests(&copy));
    assert!(expected.len() > 900, "{}", expected.len());
    let paths: BTreeSet<_> = expected.keys().chain(restored.keys()).collect();
    let differing: Vec<_> =
        paths.into_iter().filter(|path| expected.get(*path) != restored.get(*path)).collect();
    assert_eq!(differing, [""; 0]);
    for directory in ["pg_wal/archive_status", "pg_replslot", "pg_notify", "pg_stat_tmp"] {
        let entries = fs::read_dir(copy.data().join(directory)).unwrap();
        assert_eq!(entries.count(), 0, "{directory}");
    }
}

/// R5
#[test]
fn modes_and_times_are_restored_as_recorded() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    source.stop(Stop::Fast);
    let mut readable = std::process::Command::new("chmod");
    Finished::run(readable.args(["-R", "g+rX"]).arg(source.data())).expect_success();
    source.start();
    source.psql("create table later (id int)");
    back_up(&source);
    let copy = source.sibling("copy");
    source.walrs(&["restore", copy.data_argument(), "--immediate"]).expect_success();
    let at = |cluster: &Cluster, path: &str| cluster.data().join(path).metadata().unwrap();
    for path in ["", "base", "PG_VERSION", "pg_wal/archive_status"] {
        let (expected, found) = (at(&source, path), at(&copy, path));
        assert_eq!(expected.mode(), found.mode(), "{path}");
    }
    assert_eq!(
        at(&source, "PG_VERSION").modified().unwrap(),
        at(&copy, "PG_VERSION").modified().unwrap()
    );
    for path in ["backup_label", "recovery.signal", "postgresql.auto.conf", "global/pg_control"] {
        assert_eq!(at(&copy, path).mode() & 0o777, 0o640, "{path}");
    }
}

/// R5
#[test]
fn root_restores_for_the_owner_of_the_directory_and_never_for_itself() {
    if !ServerUser::get().differs_from_caller() {
        eprintln!("SKIPPED: only root can show what root restores");
        return;
    }
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    back_up(&source);
    source.archive_all();
    let as_root = |destination: &Path| {
        let mut command = std::process::Command::new(walrs_binary());
        command.env_clear().envs(source.environment()).arg("restore").arg(destination);
        Finished::run(&mut command)
    };
    let of_root = tempfile::tempdir().unwrap();
    as_root(&of_root.path().join("data")).expect_status(3).expect_message("would belong to root");
    let mut copy = source.sibling("copy");
    as_root(copy.data()).expect_success();
    let owner = source.data().metadata().unwrap().uid();
    let mut find = std::process::Command::new("find");
    let others = find.arg(copy.data()).args(["!", "-uid", &owner.to_string()]);
    assert_eq!(Finished::run(others).expect_success().stdout, "");
    copy.environment_mut().clear();
    copy.recover_to(RecoveryEnd::Promoted);
    source.stop(Stop::Fast);
}
