//! What is refused before anything changes: directories in use, and targets that cannot be reached.

use std::fs;

use super::story::{commit, prepare, rows};
use super::{archiving, back_up, restore, try_restore};
use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::postmaster::Stop;
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::TestRepository;

/// A backup, rows 1 and 2 in a segment of their own each, and the names of the two segments.
fn two_segments(repository: &TestRepository) -> (Cluster, [String; 2]) {
    let mut source = archiving(Major::V15, repository);
    prepare(&mut source);
    back_up(&source);
    let segments = [1, 2].map(|id| {
        commit(&source, id);
        source.archive_all()
    });
    (source, segments)
}

fn lose(repository: &TestRepository, segment: &str) {
    let keys = repository.keys_with(segment);
    let key = keys.iter().find(|key| key.ends_with(segment)).expect("the segment is stored");
    fs::remove_file(repository.object(key)).unwrap();
}

/// R2
#[test]
fn a_directory_in_use_is_refused_and_stays_as_it_is() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    back_up(&source);
    let into = source.data_argument().to_owned();
    for command in ["restore", "backup-fetch"] {
        source
            .walrs(&[command, &into])
            .expect_status(3)
            .expect_message("a PostgreSQL server runs in it");
    }
    source.stop(Stop::Fast);
    source.walrs(&["restore", &into]).expect_status(3).expect_message("holds a data directory");
    source.start();
    assert_eq!(repository.keys_with("leases/"), [""; 0]);
}

/// R2
#[test]
fn a_tablespace_that_is_in_use_is_refused_and_may_go_elsewhere() {
    let repository = TestRepository::plain_directory();
    let source = archiving(Major::V15, &repository);
    let location = source.create_tablespace("fast");
    back_up(&source);
    let oid = source.psql("select oid from pg_tablespace where spcname = 'fast'");
    let (copy, refused) = try_restore(&source, "copy", &[]);
    refused.expect_status(3).expect_message(&format!("for tablespace {oid}, is not empty"));
    assert!(!copy.data().exists(), "nothing was changed");
    let elsewhere = source.scratch().join("elsewhere");
    let mapping = format!("{oid}={}", elsewhere.display());
    source
        .walrs(&["restore", copy.data_argument(), "--tablespace", "1=/srv"])
        .expect_status(2)
        .expect_message(&format!("it has: {oid}"));
    let all = ["restore", copy.data_argument(), "--tablespace", &mapping];
    source.walrs(&all).expect_success();
    let link = copy.data().join(format!("pg_tblspc/{oid}"));
    assert_eq!(fs::read_link(link).unwrap(), elsewhere);
    assert!(location.read_dir().unwrap().next().is_some());
}

/// T3
#[test]
fn a_target_beyond_the_archived_wal_is_refused() {
    let repository = TestRepository::plain_directory();
    let (source, _) = two_segments(&repository);
    let refused = |arguments: &[&str], message| {
        let (copy, refused) = try_restore(&source, message, arguments);
        refused.expect_status(3).expect_message(message);
        assert!(!copy.data().exists(), "nothing was changed");
    };
    refused(&["--to-lsn", "1/0"], "the archived WAL of its line ends at");
    refused(&["--to-lsn", "0/1"], "it ends at");
    refused(&["--to-time", "2020-01-01 00:00:00Z"], "after the target");
    refused(&["--to-time", "2099-01-01 00:00:00Z"], "lies in the future");
    assert_eq!(repository.keys_with("leases/"), [""; 0]);
}

/// T3
#[test]
fn a_hole_in_the_wal_is_told_before_anything_is_fetched() {
    let repository = TestRepository::plain_directory();
    let (source, [lost, _]) = two_segments(&repository);
    let before_hole = source.psql(&format!(
        "select '0/0'::pg_lsn + ((('x' || right('{lost}', 8))::bit(32)::int * 16777216)::numeric - 8)"
    ));
    lose(&repository, &lost);
    let (_, refused) = try_restore(&source, "end", &[]);
    refused.expect_status(3).expect_message(&format!("`{lost}` is missing although later WAL"));
    let (_, refused) = try_restore(&source, "lsn", &["--to-lsn", &source.current_lsn()]);
    refused.expect_status(3).expect_message(&lost);
    let (_, warned) = try_restore(&source, "time", &["--to-time", &commit(&source, 3).time]);
    warned.expect_success().expect_message("recovery fails unless the target lies before it");
    let (_, reached) = try_restore(&source, "before", &["--to-lsn", &before_hole]);
    reached.expect_success();
}

/// T3
#[test]
fn recovery_ends_before_a_hole_that_is_allowed() {
    let repository = TestRepository::plain_directory();
    let (mut source, [_, lost]) = two_segments(&repository);
    commit(&source, 3);
    source.archive_all();
    lose(&repository, &lost);
    source.environment_mut().insert("WALRS_WAL_ALLOW_GAP_AT".to_owned(), lost);
    assert_eq!(rows(&restore(&source, "copy", &[])), "0 1");
}

/// A backup whose own WAL is not there can never be consistent.
#[test]
fn a_backup_without_its_wal_is_refused() {
    let repository = TestRepository::plain_directory();
    let source = archiving(Major::V15, &repository);
    back_up(&source);
    let shown = source.walrs(&["backup-show", "LATEST", "--json"]).expect_success();
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    lose(&repository, shown["last_segment"].as_str().unwrap());
    let (_, refused) = try_restore(&source, "copy", &["--immediate"]);
    refused.expect_status(3).expect_message("cannot be made consistent");
}

/// The WAL after the backup was swept: only the state at the backup's end is left, and the server must not read ahead.
#[test]
fn of_a_backup_beyond_the_wal_window_only_its_end_can_be_restored() {
    let repository = TestRepository::plain_directory();
    let (source, [swept, kept]) = two_segments(&repository);
    lose(&repository, &swept);
    let horizon = repository.keys_with(&kept)[0].replacen("wal/", "horizons/", 1);
    let (cluster, timeline) =
        (horizon.split('/').nth(1).unwrap(), horizon.split('/').nth(2).unwrap());
    let horizon = repository.object(&format!("horizons/{cluster}/{timeline}/{kept}"));
    fs::create_dir_all(horizon.parent().unwrap()).unwrap();
    fs::write(horizon, b"").unwrap();
    for arguments in [&[][..], &["--to-time", &commit(&source, 3).time]] {
        let (_, refused) = try_restore(&source, &format!("refused{}", arguments.len()), arguments);
        refused.expect_status(3).expect_message("--immediate");
    }
    let copy = restore(&source, "copy", &["--immediate"]);
    assert_eq!(rows(&copy), "0");
    assert_eq!(copy.psql("show recovery_prefetch"), "off");
}

/// Seen on 15: following the new line would replay the rows that the first recovery had undone.
#[test]
fn the_latest_timeline_without_wal_is_refused_while_its_parent_goes_on() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    prepare(&mut source);
    back_up(&source);
    let one = commit(&source, 1);
    commit(&source, 2);
    source.archive_all();
    let arguments = ["--to-xid", &one.xid, "--archive", "keep"];
    let (mut branch, restored) = try_restore(&source, "branch", &arguments);
    restored.expect_success();
    branch.environment_mut().extend(source.environment().clone());
    branch.recover_to(RecoveryEnd::Promoted);
    branch.wait_archived("00000002.history");
    let (_, refused) = try_restore(&source, "latest", &[]);
    refused.expect_status(3).expect_message("--timeline 1");
    assert_eq!(rows(&restore(&source, "first", &["--timeline", "1"])), "0 1 2");
}

#[test]
fn a_transaction_that_two_backups_may_lead_to_needs_one_of_them_named() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    prepare(&mut source);
    let first = back_up(&source);
    let one = commit(&source, 1);
    let second = back_up(&source);
    commit(&source, 2);
    source.archive_all();
    let (_, asked) = try_restore(&source, "copy", &["--to-xid", &one.xid]);
    asked.expect_status(2).expect_message(&first).expect_message(&second);
    let copy = restore(&source, "copy2", &["--to-xid", &one.xid, "--backup", &first]);
    assert_eq!(rows(&copy), "0 1");
}

#[test]
fn a_restore_that_was_only_planned_changes_nothing() {
    let repository = TestRepository::plain_directory();
    let source = archiving(Major::V15, &repository);
    let backup = back_up(&source);
    source.archive_all();
    let before = repository.keys();
    let (copy, planned) = try_restore(&source, "copy", &["--plan"]);
    assert!(planned.expect_success().stdout.contains(&backup));
    assert!(!copy.data().exists());
    let (_, planned) = try_restore(&source, "json", &["--plan", "--json"]);
    let planned: serde_json::Value = serde_json::from_str(&planned.stdout).unwrap();
    assert_eq!((&planned["backup"], &planned["timeline"]), (&backup.into(), &1.into()));
    assert_eq!(repository.keys(), before);
}
