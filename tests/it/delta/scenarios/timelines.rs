//! Parents from elsewhere: another server, another timeline, one that was given up. Which backup is the parent decides
//! what is stored, never what is restored.

use super::{
    Delta, archiving_as, assert_delta_is_right, assert_restores_as_the_directory, assert_unread,
    push, push_delta, push_settled, recovered, text, without_checksums,
};
use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::oracle;
use crate::support::postmaster::Stop;
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::TestRepository;
use crate::support::standby::Feed;

fn with_rows(repository: &TestRepository) -> Cluster {
    let cluster = archiving_as(without_checksums(Major::V15), repository);
    cluster.psql(
        "create table t as select i, 'first' as name from generate_series(1, 20000) i; \
         create index on t (i); vacuum t",
    );
    cluster
}

fn change(cluster: &Cluster, name: &str, remainder: u32) {
    cluster.psql(&format!("update t set name = '{name}' where i % 500 = {remainder}; vacuum t"));
}

/// B2
#[test]
fn a_promoted_standby_takes_a_delta_of_its_old_primarys_backup() {
    let repository = TestRepository::plain_directory();
    let mut primary = with_rows(&repository);
    let parent = push_settled(&primary);
    let mut standby = primary.standby("standby", Feed::Streaming);
    change(&primary, "primary", 1);
    primary.archive_all();
    standby.wait_caught_up(&primary);
    primary.stop(Stop::Fast);
    standby.promote();
    change(&standby, "promoted", 2);
    let delta = assert_delta_is_right(&mut standby, "copy");
    assert_eq!(delta.shown["parent"], parent["id"]);
    assert_eq!(delta.shown["timeline"], 2);
}

/// What the parent saw after the fork never happened here.
#[test]
fn a_parent_on_a_branch_that_was_given_up_gives_the_right_delta() {
    let repository = TestRepository::plain_directory();
    let mut source = with_rows(&repository);
    push_settled(&source);
    change(&source, "kept", 1);
    let fork = source.current_lsn();
    change(&source, "given up", 1);
    source.psql("create table given_up as select generate_series(1, 5000) i");
    let parent = push_settled(&source);
    source.archive_all();
    source.stop(Stop::Fast);
    let mut branch = source.sibling("branch");
    let arguments = ["restore", branch.data_argument(), "--to-lsn", &fork, "--archive", "keep"];
    source.walrs(&arguments).expect_success();
    branch.recover_to(RecoveryEnd::Promoted);
    change(&branch, "branched", 3);
    let delta = assert_delta_is_right(&mut branch, "copy");
    assert_eq!(delta.shown["parent"], parent["id"]);
    assert_eq!(branch.psql("select count(*) from t where name = 'given up'"), "0");
    assert_eq!(branch.psql("select count(*) from t where name = 'kept'"), "40");
}

/// A standby's backup waits for WAL that only its primary can end.
#[track_caller]
fn push_standby(standby: &Cluster, primary: &Cluster) -> Delta {
    primary.psql("checkpoint");
    standby.wait_caught_up(primary);
    standby.psql("checkpoint");
    std::thread::scope(|scope| {
        let running = scope.spawn(|| push_delta(standby));
        while !running.is_finished() {
            primary.switch_wal();
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        running.join().expect("the backup is a delta")
    })
}

/// The standby's files have other identities and, as far as nothing wrote them differently, the same blocks.
#[test]
fn a_standby_and_its_primary_are_each_others_parents() {
    let repository = TestRepository::plain_directory();
    let mut primary = with_rows(&repository);
    let full = push(&primary, &[]);
    let mut standby = primary.standby("standby", Feed::Streaming);
    change(&primary, "first change", 1);
    let of_standby = push_standby(&standby, &primary);
    assert_eq!(text(&of_standby.shown, "parent"), text(&full, "id"));
    change(&primary, "second change", 2);
    let of_primary = assert_delta_is_right(&mut primary, "primary-copy");
    assert_eq!(text(&of_primary.shown, "parent"), of_standby.id());
    assert_eq!(of_primary.unread.len(), 0);
    change(&primary, "third change", 3);
    let again = push_standby(&standby, &primary);
    assert_eq!(text(&again.shown, "parent"), of_primary.id());
    standby.stop(Stop::Immediate);
    assert_restores_as_the_directory(&standby, "standby-files", &again);
    oracle::assert_same_rows(&primary, &recovered(&standby, "standby-copy", again.id()));
}

/// The parent was taken of the very files when they were a primary's: what replay has not touched is skipped.
#[test]
fn a_primary_that_became_a_standby_takes_a_delta_of_its_own_backup() {
    let repository = TestRepository::plain_directory();
    let mut first = with_rows(&repository);
    let mut second = first.standby("second", Feed::Streaming);
    let parent = push_settled(&first);
    change(&first, "before", 1);
    second.wait_caught_up(&first);
    first.stop(Stop::Fast);
    second.promote();
    first.follow(&second, Feed::Both);
    first.start();
    change(&second, "after", 2);
    let delta = push_standby(&first, &second);
    assert_eq!(delta.shown["parent"], parent["id"]);
    assert_eq!(delta.shown["timeline"], 2);
    assert_unread(&delta, &first);
    first.stop(Stop::Immediate);
    assert_restores_as_the_directory(&first, "files", &delta);
    oracle::assert_same_rows(&second, &recovered(&second, "copy", delta.id()));
    // What a standby has read is no ground to skip anything.
    change(&second, "at last", 3);
    assert_eq!(assert_delta_is_right(&mut second, "last").unread.len(), 0);
}
