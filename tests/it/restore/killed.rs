//! A restore that is killed at any step cannot be started, and the next run takes over.

use super::story::{commit, prepare, rows};
use super::{archiving, back_up};
use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::program::Finished;
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::TestRepository;

const SIGKILLED: i32 = 128 + 9;

/// The steps before the one that makes the directory complete, in their order.
const INCOMPLETE: [&str; 10] = [
    "restore:begin",
    "restore:marker",
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

fn source(repository: &TestRepository) -> (Cluster, String) {
    let mut source = archiving(Major::V15, repository);
    prepare(&mut source);
    source.create_tablespace("fast");
    source.psql("create table there tablespace fast as select 1 as id");
    back_up(&source);
    commit(&source, 1);
    source.archive_all();
    let oid = source.psql("select oid from pg_tablespace where spcname = 'fast'");
    let mapping = format!("{oid}={}", source.scratch().join("elsewhere").display());
    (source, mapping)
}

fn killed_at(step: &str, source: &Cluster, arguments: &[&str]) {
    let mut command = source.walrs_command(arguments);
    command.env("WALRS_FAILPOINT", format!("{step}=kill"));
    Finished::run(&mut command).expect_status(SIGKILLED);
}

/// R3
#[test]
fn a_restore_killed_at_any_step_cannot_be_started_and_can_be_run_again() {
    let repository = TestRepository::plain_directory();
    let (source, mapping) = source(&repository);
    let mut copy = source.sibling("copy");
    let data = copy.data().to_owned();
    let arguments = ["restore", data.to_str().unwrap(), "--tablespace", &mapping];
    for step in INCOMPLETE {
        killed_at(step, &source, &arguments);
        assert!(!data.join("global/pg_control").exists(), "complete after {step}");
        if data.exists() {
            assert_eq!(copy.recover(), RecoveryEnd::Failed, "started after {step}");
        }
    }
    source.walrs(&arguments).expect_success();
    copy.recover_to(RecoveryEnd::Promoted);
    assert_eq!(
        (rows(&copy), copy.psql("select id from there")),
        ("0 1".to_owned(), "1".to_owned())
    );
}

/// R3
#[test]
fn a_restore_killed_after_its_last_step_is_complete() {
    let repository = TestRepository::plain_directory();
    let (source, _) = source(&repository);
    for step in COMPLETE {
        let mut copy = source.sibling(step.trim_start_matches("restore:"));
        let elsewhere = source.scratch().join(format!("{step}-elsewhere"));
        let oid = source.psql("select oid from pg_tablespace where spcname = 'fast'");
        let mapping = format!("{oid}={}", elsewhere.display());
        let data = copy.data_argument().to_owned();
        killed_at(step, &source, &["restore", &data, "--tablespace", &mapping]);
        copy.recover_to(RecoveryEnd::Promoted);
        assert_eq!(rows(&copy), "0 1");
        // It was started, so nothing that was left behind makes it fair game.
        copy.stop(crate::support::postmaster::Stop::Fast);
        source.walrs(&["restore", &data]).expect_status(3);
    }
}

/// R3
#[test]
fn killed_fetches_of_files_leave_nothing_that_starts() {
    let repository = TestRepository::plain_directory();
    let source = archiving(Major::V15, &repository);
    back_up(&source);
    let copy = source.sibling("copy");
    let arguments = ["backup-fetch", copy.data_argument()];
    for step in ["restore:files", "restore:labels", "restore:directories"] {
        killed_at(step, &source, &arguments);
        assert!(!copy.data().join("global/pg_control").exists(), "complete after {step}");
    }
    source.walrs(&arguments).expect_success();
    assert!(copy.data().join("global/pg_control").exists());
    assert!(!copy.data().join(".walrs-restore-in-progress").exists());
}
