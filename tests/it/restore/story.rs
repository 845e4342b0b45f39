//! A cluster with a past: one promotion, and one branch out of the middle, every row known by transaction, position
//! and moment.
//!
//! ```text
//! timeline 1   row 0 · backup · 1 · 2 · "two" · 3 · 4
//! timeline 2                                        └─ 5 · 6 · backup · 7 · "seven" · 8
//! timeline 3                     └─ 102 · 103
//! ```

use super::{archiving, back_up, try_restore};
use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::postmaster::Stop;
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::TestRepository;
use crate::support::standby::Feed;

/// When a row was committed.
#[derive(Debug, Clone)]
pub(super) struct Commit {
    pub(super) xid: String,
    /// Where the commit record begins.
    pub(super) lsn: String,
    /// With microseconds and `Z`.
    pub(super) time: String,
}

/// The clusters, their repository, and what was committed when.
pub(super) struct Story {
    _repository: TestRepository,
    /// The server on timeline 2.
    pub(super) source: Cluster,
    /// Backups of timelines 1 and 2.
    pub(super) backups: [String; 2],
    /// Rows 2, 7 and 102.
    pub(super) two: Commit,
    pub(super) seven: Commit,
    pub(super) branched: Commit,
}

impl Story {
    /// Lives through it.
    pub(super) fn tell(major: Major) -> Self {
        let repository = TestRepository::plain_directory();
        let mut first = archiving(major, &repository);
        prepare(&mut first);
        let first_backup = back_up(&first);
        commit(&first, 1);
        let two = commit(&first, 2);
        first.psql("select pg_create_restore_point('two')");
        commit(&first, 3);
        let second = first.standby("second", Feed::Streaming);
        commit(&first, 4);
        first.archive_all();
        second.wait_caught_up(&first);
        first.stop(Stop::Fast);
        second.promote();
        commit(&second, 5);
        commit(&second, 6);
        let second_backup = back_up(&second);
        let seven = commit(&second, 7);
        second.psql("select pg_create_restore_point('seven')");
        commit(&second, 8);
        second.archive_all();
        let branched = branch(&second, &two);
        let backups = [first_backup, second_backup];
        Self { _repository: repository, source: second, backups, two, seven, branched }
    }
}

/// A table with row 0, and a server that tells when a row was committed and writes nothing of its own accord.
pub(super) fn prepare(cluster: &mut Cluster) {
    cluster.set("track_commit_timestamp", "on");
    cluster.set("autovacuum", "off");
    cluster.restart();
    cluster.psql("create table rows (id int)");
    commit(cluster, 0);
}

/// Commits row `id`.
pub(super) fn commit(cluster: &Cluster, id: u32) -> Commit {
    let sql = format!(
        "begin; insert into rows values ({id}); select pg_current_xact_id(); \
         select pg_current_wal_insert_lsn(); commit;"
    );
    let output = cluster.psql(&sql);
    let (xid, lsn) = output.split_once('\n').expect("two results");
    let time = cluster.psql(&format!(
        "select to_char(pg_xact_commit_timestamp('{xid}') at time zone 'UTC', \
         'YYYY-MM-DD HH24:MI:SS.US') || 'Z'"
    ));
    Commit { xid: xid.to_owned(), lsn: lsn.to_owned(), time }
}

/// The rows, in order.
#[track_caller]
pub(super) fn rows(cluster: &Cluster) -> String {
    cluster.psql("select string_agg(id::text, ' ' order by id) from rows")
}

/// Timeline 3: a copy of timeline 1 up to row 2 that went on by itself, and archived.
fn branch(source: &Cluster, two: &Commit) -> Commit {
    let arguments = ["--timeline", "1", "--to-xid", &two.xid, "--archive", "keep"];
    let (mut branch, restored) = try_restore(source, "branch", &arguments);
    restored.expect_success();
    // Without the source's settings, its archive command knows no repository.
    branch.environment_mut().extend(source.environment().clone());
    branch.recover_to(RecoveryEnd::Promoted);
    assert_eq!(rows(&branch), "0 1 2");
    let branched = commit(&branch, 102);
    commit(&branch, 103);
    branch.archive_all();
    branch.stop(Stop::Fast);
    branched
}
