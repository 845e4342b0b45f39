//! A restore in place that is killed at any step cannot be started, and can be run again.

use std::fs;

use super::{archiving, assert_same_content, back_up, mapping, relation, try_in_place};
use crate::restore::story::{commit, prepare, rows};
use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::postmaster::Stop;
use crate::support::program::Finished;
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::TestRepository;

const SIGKILLED: i32 = 128 + 9;

/// The steps while the control file is in its place: the directory is still what it was.
const UNTOUCHED: [&str; 3] = ["restore:chosen", "restore:begin", "restore:marker"];

/// The steps from there to the one that makes the directory complete, in their order.
const INCOMPLETE: [&str; 12] = [
    "restore:control-aside",
    "restore:labels-removed",
    "restore:wal-emptied",
    "restore:unlisted-removed",
    "restore:tree",
    "restore:read",
    "restore:written",
    "restore:files",
    "restore:links",
    "restore:labels",
    "restore:settings",
    "restore:directories",
];

/// After it: the directory is complete, whatever is left to tidy.
const COMPLETE: [&str; 2] = ["restore:control", "restore:done"];

/// A stopped cluster that has gone on after its backup, with a tablespace.
fn stopped(repository: &TestRepository) -> Cluster {
    let mut source = archiving(Major::V15, repository);
    prepare(&mut source);
    source.create_tablespace("fast");
    source.psql("create table there tablespace fast as select 1 as id");
    back_up(&source);
    commit(&source, 1);
    source.psql("create table unlisted as select 1; insert into there values (2)");
    source.archive_all();
    source.stop(Stop::Fast);
    source
}

fn kill_at(step: &str, source: &Cluster) {
    let mut command = source.walrs_command(&["restore", source.data_argument(), "--in-place"]);
    command.env("WALRS_FAILPOINT", format!("{step}=kill"));
    Finished::run(&mut command).expect_status(SIGKILLED);
}

/// R6
#[test]
fn a_restore_in_place_killed_at_any_step_cannot_be_started_and_can_be_run_again() {
    let repository = TestRepository::plain_directory();
    let mut source = stopped(&repository);
    let control = source.data().join("global/pg_control");
    for step in UNTOUCHED {
        kill_at(step, &source);
        assert!(control.exists(), "incomplete after {step}");
    }
    for step in INCOMPLETE {
        kill_at(step, &source);
        assert!(!control.exists(), "complete after {step}");
        assert_eq!(source.recover(), RecoveryEnd::Failed, "started after {step}");
    }
    try_in_place(&source, &[]).expect_success();
    source.recover_to(RecoveryEnd::Promoted);
    assert_eq!(rows(&source), "0 1");
    assert_eq!(source.psql("select string_agg(id::text, ' ' order by id) from there"), "1 2");
}

/// R6
#[test]
fn what_a_rerun_leaves_is_what_one_run_leaves() {
    let repository = TestRepository::plain_directory();
    let source = stopped(&repository);
    let copy = source.stopped_copy("copy");
    for step in ["restore:wal-emptied", "restore:unlisted-removed", "restore:read", "restore:links"]
    {
        kill_at(step, &source);
        // As if the interrupted run had left bytes that it was still writing.
        let torn = source.data().join("base/1/1259");
        let mut content = fs::read(&torn).unwrap();
        content[5000] ^= 1;
        fs::write(&torn, content).unwrap();
    }
    try_in_place(&source, &[]).expect_success();
    try_in_place(&copy, &[]).expect_success();
    assert_same_content(copy.data(), source.data(), |path| path == "tablespace_map");
}

/// R6
#[test]
fn a_restore_in_place_killed_after_its_last_step_is_complete() {
    for step in COMPLETE {
        let repository = TestRepository::plain_directory();
        let mut source = stopped(&repository);
        kill_at(step, &source);
        source.recover_to(RecoveryEnd::Promoted);
        assert_eq!(rows(&source), "0 1");
        // What was left behind proves nothing about a directory that has lived on.
        source.stop(Stop::Immediate);
        try_in_place(&source, &[]).expect_status(3);
        source.walrs(&["restore", source.data_argument()]).expect_status(3);
    }
}

/// R6
#[test]
fn after_the_control_file_is_gone_another_backup_of_the_cluster_may_be_restored() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    prepare(&mut source);
    let first = back_up(&source);
    commit(&source, 1);
    source.psql("create table of_second as select 1");
    back_up(&source);
    commit(&source, 2);
    source.archive_all();
    source.stop(Stop::Fast);
    kill_at("restore:written", &source);
    let arguments = ["--backup", &first, "--immediate"];
    try_in_place(&source, &arguments).expect_success();
    source.recover_to(RecoveryEnd::Promoted);
    assert_eq!(rows(&source), "0");
}

/// R6
#[test]
fn an_interrupted_restore_is_continued_only_by_one_of_its_kind() {
    let repository = TestRepository::plain_directory();
    let source = stopped(&repository);
    let data = source.data_argument();
    kill_at("restore:files", &source);
    source
        .walrs(&["restore", data])
        .expect_status(3)
        .expect_message("run it again with `--in-place`");
    let copy = source.sibling("copy");
    let elsewhere = source.scratch().join("elsewhere");
    let oid = fs::read_dir(source.data().join("pg_tblspc")).unwrap().next().unwrap().unwrap();
    let mapping = format!("{}={}", oid.file_name().display(), elsewhere.display());
    let arguments = ["restore", copy.data_argument(), "--tablespace", &mapping];
    let mut killed = source.walrs_command(&arguments);
    killed.env("WALRS_FAILPOINT", "restore:files=kill");
    Finished::run(&mut killed).expect_status(SIGKILLED);
    source
        .walrs(&["restore", copy.data_argument(), "--in-place"])
        .expect_status(3)
        .expect_message("without `--in-place`");
}

/// R6
#[test]
fn a_tablespace_that_moves_is_filled_again_after_a_kill() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    let location = source.create_tablespace("fast");
    source.psql("create table there tablespace fast as select 1 as id");
    let (oid, mapping) = mapping(&source, "fast", "moved");
    back_up(&source);
    source.archive_all();
    let file = relation(&source, "there");
    source.stop(Stop::Fast);
    let arguments = ["restore", source.data_argument(), "--in-place", "--tablespace", &mapping];
    for step in ["restore:unlisted-removed", "restore:files", "restore:links"] {
        let mut command = source.walrs_command(&arguments);
        command.env("WALRS_FAILPOINT", format!("{step}=kill"));
        Finished::run(&mut command).expect_status(SIGKILLED);
    }
    source.walrs(&arguments).expect_success();
    let link = fs::read_link(source.data().join(format!("pg_tblspc/{oid}"))).unwrap();
    assert_eq!(link, source.scratch().join("moved"));
    assert!(location.read_dir().unwrap().next().is_some(), "the former place is left alone");
    source.recover_to(RecoveryEnd::Promoted);
    assert_eq!(source.psql("select id from there"), "1");
    assert!(file.exists());
}
