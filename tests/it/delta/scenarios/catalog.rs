//! Databases, checksums and relations that come back under a name that was used before.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::shown;
use super::{
    archiving_as, assert_delta_is_right, assert_skipping_delta_is_right, push_settled,
    without_checksums,
};
use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::postmaster::Stop;
use crate::support::program::Finished;
use crate::support::repository::TestRepository;
use crate::support::user::ServerUser;

/// The copied files bring the names of the dropped ones, and LSNs from before the parent.
#[test]
fn a_database_made_again_by_file_copy_under_the_same_oid_is_the_new_one() {
    const COPY: &str = "create database again oid = 70000 strategy file_copy template";
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving_as(without_checksums(Major::V15), &repository);
    cluster.psql("create database first");
    cluster.psql_in(
        "first",
        "create table t as select i, 'first' as name from generate_series(1, 5000) i; \
         create index on t (i); vacuum t",
    );
    cluster.psql("create database second strategy file_copy template first");
    cluster.psql_in("second", "update t set name = 'other', i = -i where i % 3 = 0; vacuum t");
    cluster.psql(&format!("{COPY} first"));
    push_settled(&cluster);
    cluster.psql(&format!("drop database again; {COPY} second"));
    assert_eq!(cluster.psql_in("again", "select count(*) from t where name = 'other'"), "1666");
    assert_skipping_delta_is_right(&mut cluster, "copy");
}

/// Turning checksums on writes every block; turning them off leaves what is in the pages.
#[test]
fn checksums_turned_off_and_on_again_between_backups_do_no_harm() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving_as(Cluster::builder(Major::V15), &repository);
    cluster
        .psql("create table t as select i from generate_series(1, 20000) i; create index on t (i)");
    push_settled(&cluster);
    toggle_checksums(&mut cluster, "--disable");
    cluster.psql("vacuum t; update t set i = -i where i % 100 = 1");
    assert_skipping_delta_is_right(&mut cluster, "off");
    assert_eq!(newest(&cluster)["data_checksums"], false);
    std::thread::sleep(super::SETTLING);
    toggle_checksums(&mut cluster, "--enable");
    cluster.psql("update t set i = i - 1 where i % 100 = 2");
    assert_delta_is_right(&mut cluster, "on");
    let newest = newest(&cluster);
    assert_eq!((&newest["data_checksums"], &newest["bad_pages"]), (&true.into(), &0.into()));
}

fn newest(cluster: &Cluster) -> Value {
    shown(&cluster.walrs(&["backup-show", "LATEST", "--json"]))
}

fn toggle_checksums(cluster: &mut Cluster, how: &str) {
    cluster.stop(Stop::Fast);
    let mut command = ServerUser::get().command(cluster.major().server_program("pg_checksums"));
    Finished::run(command.arg(how).arg("--pgdata").arg(cluster.data())).expect_success();
    cluster.start();
}

/// Two tables of equal size with other rows, settled so that reading changes nothing, and the file of each.
fn twins(cluster: &Cluster) -> [PathBuf; 2] {
    ["one", "two"].map(|name| {
        cluster.psql(&format!(
            "create table {name} as select i, '{name}' as name from generate_series(1, 5000) i; \
             vacuum {name}"
        ));
        cluster.data().join(cluster.psql(&format!("select pg_relation_filepath('{name}')")))
    })
}

/// Puts the bytes of table `two` into the file of table `one` in some way, after which size and time are what they
/// were: of a file's identity, only the rest tells.
fn assert_replaced_file_is_in_the_delta(replace: impl FnOnce(&Path, Vec<u8>)) {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving_as(without_checksums(Major::V15), &repository);
    let [one, two] = twins(&cluster);
    push_settled(&cluster);
    cluster.stop(Stop::Fast);
    let looks = || one.metadata().map(|status| (status.len(), status.modified().unwrap())).unwrap();
    let before = looks();
    replace(&one, fs::read(&two).unwrap());
    fs::File::options().write(true).open(&one).unwrap().set_modified(before.1).unwrap();
    cluster.start();
    assert_eq!(cluster.psql("select count(*) from one where name = 'two'"), "5000");
    assert_skipping_delta_is_right(&mut cluster, "copy");
    assert_eq!(looks(), before);
}

#[test]
fn a_file_with_other_rows_and_the_old_size_and_time_is_in_the_delta() {
    assert_replaced_file_is_in_the_delta(|path, content| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(&content, 0).unwrap();
    });
}

/// A relation's file was dropped, and another relation has its name, its size and its time.
#[test]
fn a_file_made_again_under_the_same_name_is_in_the_delta() {
    assert_replaced_file_is_in_the_delta(|path, content| {
        fs::remove_file(path).unwrap();
        fs::write(path, content).unwrap();
        ServerUser::get().own(path);
    });
}
