//! Files that move between tablespaces, and come back under the names they had.

use super::{archiving_as, assert_skipping_delta_is_right, push_settled, without_checksums};
use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::repository::TestRepository;

/// A database and a table of another one, both in tablespace `here`; there is `there`, too.
fn moving(repository: &TestRepository) -> Cluster {
    let cluster = archiving_as(without_checksums(Major::V15), repository);
    cluster.create_tablespace("here");
    cluster.create_tablespace("there");
    cluster.psql("create database d tablespace here");
    let table = "create table t tablespace here as select i from generate_series(1, 5000) i; \
                 create index on t (i) tablespace here; vacuum t";
    cluster.psql(table);
    cluster.psql_in("d", &table.replace("tablespace here", ""));
    cluster
}

fn move_to(cluster: &Cluster, tablespace: &str, change: &str) {
    cluster.psql(&format!(
        "alter database d set tablespace {tablespace}; alter table t set tablespace {tablespace}; \
         alter index t_i_idx set tablespace {tablespace}; {change}"
    ));
    cluster.psql_in("d", change);
}

/// A database keeps the names of its files when it moves.
#[test]
fn what_moved_to_another_tablespace_and_back_is_where_it_was_as_it_is_now() {
    let repository = TestRepository::plain_directory();
    let mut cluster = moving(&repository);
    let path = "select pg_relation_filepath('t')";
    push_settled(&cluster);
    let home = cluster.psql_in("d", path);
    move_to(&cluster, "there", "update t set i = -i where i % 50 = 1; vacuum t");
    assert_ne!(cluster.psql_in("d", path), home);
    assert_skipping_delta_is_right(&mut cluster, "there");
    std::thread::sleep(super::SETTLING);
    move_to(&cluster, "here", "update t set i = i + 7000 where i % 50 = 2");
    assert_eq!(cluster.psql_in("d", path), home);
    assert_skipping_delta_is_right(&mut cluster, "here");
}

/// The parent of the second delta has nothing under the name that the files come back to.
#[test]
fn what_went_there_and_back_between_two_backups_is_in_the_delta() {
    let repository = TestRepository::plain_directory();
    let mut cluster = moving(&repository);
    push_settled(&cluster);
    move_to(&cluster, "there", "update t set i = -i where i % 50 = 1; vacuum t");
    move_to(&cluster, "here", "delete from t where i % 50 = 2");
    assert_skipping_delta_is_right(&mut cluster, "copy");
}
