//! Tables and their maps.

use super::{
    archiving_as, assert_delta_is_right, assert_skipping_delta_is_right, push_settled,
    without_checksums,
};
use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::repository::TestRepository;

/// What happens to a table of the same name between two backups.
struct Change {
    before: &'static str,
    between: &'static str,
    /// What a delta that trusts it would miss the change by.
    stays: &'static str,
    /// Shows that something has changed all the same.
    differs: &'static str,
}

/// VACUUM sets the all-visible flag of a heap page and leaves its LSN alone.
const VACUUMED: Change = Change {
    before: "create table vacuumed as select i from generate_series(1, 3000) i; \
             create index on vacuumed (i); select count(*) from vacuumed",
    between: "vacuum vacuumed",
    stays: "select lsn from page_header(get_raw_page('vacuumed', 0))",
    differs: "select flags from page_header(get_raw_page('vacuumed', 0))",
};

/// A deletion clears bits of the visibility map, whose page keeps its LSN.
const CLEARED: Change = Change {
    before: "create table cleared as select i from generate_series(1, 3000) i; \
             create index on cleared (i); vacuum cleared",
    between: "delete from cleared where i % 1000 = 17",
    stays: "select lsn from page_header(get_raw_page('cleared', 'vm', 0))",
    differs: "select count(*) from pg_visibility_map('cleared') where all_visible",
};

/// The first to look at a row notes in it that it is committed, which is in no WAL.
const HINTED: Change = Change {
    before: "create table hinted as select i from generate_series(1, 3000) i",
    between: "select count(*) from hinted",
    stays: "select lsn from page_header(get_raw_page('hinted', 1))",
    differs: "select sum(t_infomask) from heap_page_items(get_raw_page('hinted', 1))",
};

/// VACUUM cuts off the end of a table, and it grows to the same size again.
const CUT_AND_GROWN: Change = Change {
    before: "create table cut_and_grown as select i, repeat('a', 100) from generate_series(1, 9000) i; \
             create index on cut_and_grown (i)",
    between: "delete from cut_and_grown where i > 100; vacuum cut_and_grown; \
              insert into cut_and_grown select -i, repeat('b', 100) from generate_series(101, 9000) i",
    stays: "select pg_relation_filepath('cut_and_grown'), pg_relation_size('cut_and_grown')",
    differs: "select sum(i) from cut_and_grown",
};

/// COPY FREEZE makes pages that are frozen, and marked so, from the beginning.
const COPIED_FROZEN: Change = Change {
    before: "create table copied_frozen (i int); create index on copied_frozen (i); \
             insert into copied_frozen select generate_series(1, 5000)",
    between: "begin; truncate copied_frozen; \
              copy copied_frozen from program 'seq 7001 12000' (freeze); commit",
    stays: "select count(*), pg_relation_size('copied_frozen') from copied_frozen",
    differs: "select sum(i) from copied_frozen",
};

/// A table that becomes logged is written anew.
const SET_LOGGED: Change = Change {
    before: "create unlogged table set_logged as select i from generate_series(1, 3000) i; \
             create index on set_logged (i)",
    between: "alter table set_logged set logged; vacuum set_logged",
    stays: "select count(*) from set_logged",
    differs: "select relpersistence from pg_class where relname = 'set_logged'",
};

/// There and back: in between there was nothing of it to back up.
const SET_UNLOGGED: Change = Change {
    before: "create table set_unlogged as select i from generate_series(1, 3000) i; \
             create index on set_unlogged (i)",
    between: "alter table set_unlogged set unlogged; update set_unlogged set i = i + 5000; \
              alter table set_unlogged set logged",
    stays: "select relpersistence from pg_class where relname = 'set_unlogged'",
    differs: "select sum(i) from set_unlogged",
};

const CHANGES: [Change; 7] =
    [VACUUMED, CLEARED, HINTED, CUT_AND_GROWN, COPIED_FROZEN, SET_LOGGED, SET_UNLOGGED];

/// What the server answers to one statement of every change.
fn tell(cluster: &Cluster, statement: fn(&Change) -> &'static str) -> Vec<String> {
    CHANGES.iter().map(|change| cluster.psql(statement(change))).collect()
}

/// D2: the changes that a delta by page LSN, by size or by name would miss.
#[test]
fn a_delta_has_what_changed_behind_the_back_of_page_lsns() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving_as(without_checksums(Major::V15), &repository);
    cluster.psql("create extension pageinspect; create extension pg_visibility");
    tell(&cluster, |change| change.before);
    let parent = push_settled(&cluster);
    let stays = tell(&cluster, |change| change.stays);
    let differs = tell(&cluster, |change| change.differs);
    tell(&cluster, |change| change.between);
    cluster.psql("checkpoint");
    assert_eq!(tell(&cluster, |change| change.stays), stays);
    let all_differ = std::iter::zip(tell(&cluster, |change| change.differs), &differs)
        .all(|(now, then)| now != *then);
    assert!(all_differ, "{differs:?}");
    let delta = assert_skipping_delta_is_right(&mut cluster, "copy");
    assert_eq!(delta.shown["parent"], parent["id"]);
}

/// D2: the same when every file is read, because all were written just before the parent.
#[test]
fn a_delta_that_reads_everything_has_them_too() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving_as(without_checksums(Major::V15), &repository);
    tell(&cluster, |change| change.before);
    cluster.environment_mut().insert("WALRS_BACKUP_RESCAN".to_owned(), "always".to_owned());
    super::push(&cluster, &[]);
    tell(&cluster, |change| change.between);
    let delta = assert_delta_is_right(&mut cluster, "copy");
    assert_eq!(delta.unread.len(), 0);
}

fn assert_changes_are_in_a_delta(major: Major) {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving_as(without_checksums(major), &repository);
    tell(&cluster, |change| change.before);
    push_settled(&cluster);
    tell(&cluster, |change| change.between);
    assert_skipping_delta_is_right(&mut cluster, "copy");
}

/// D2
#[test]
fn a_delta_of_postgresql_13_has_them_too() {
    assert_changes_are_in_a_delta(Major::V13);
}

/// D2
#[test]
fn a_delta_of_postgresql_17_has_them_too() {
    assert_changes_are_in_a_delta(Major::V17);
}

/// The rows are those of the backup, and what was prepared can still be committed.
#[test]
fn prepared_transactions_and_multixacts_live_on_in_a_restored_delta() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving_as(without_checksums(Major::V15), &repository);
    cluster.psql(
        "create table shared as select i from generate_series(1, 500) i; create index on shared (i); \
         create table prepared as select 1 as i; \
         begin; select from shared where i <= 200 for share; prepare transaction 'first'",
    );
    push_settled(&cluster);
    cluster.psql(
        "begin; select from shared where i <= 100 for share; prepare transaction 'second'; \
         begin; insert into prepared values (1000); prepare transaction 'third'; \
         begin; insert into prepared values (1001); prepare transaction 'fourth'; \
         commit prepared 'fourth'",
    );
    let members = "select count(*) from shared, lateral pg_get_multixact_members(shared.xmax) \
                   where i between 1 and 100";
    assert_eq!(cluster.psql(members), "200");
    assert_skipping_delta_is_right(&mut cluster, "copy");
    let copy = super::recovered(&cluster, "further", "LATEST");
    assert_eq!(copy.psql(members), "200");
    assert_eq!(copy.psql("select gid from pg_prepared_xacts order by 1"), "first\nsecond\nthird");
    copy.psql("commit prepared 'third'; rollback prepared 'first'; commit prepared 'second'");
    assert_eq!(copy.psql("select sum(i) from prepared"), "2002");
}
