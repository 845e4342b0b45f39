//! The main job, end to end: archive, back up under load, lose a table, restore to the moment before.

use std::path::PathBuf;

use crate::support::cluster::Cluster;
use crate::support::cluster_builder::PageChecksums;
use crate::support::installation::Major;
use crate::support::load::Load;
use crate::support::oracle::{TableDigests, assert_sound, table_digests};
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::{Place, Sealing, TestRepository};

/// A cluster that archives, with two tablespaces and rows in each.
fn archiving_cluster(major: Major, repository: &TestRepository) -> Cluster {
    let builder = Cluster::builder(major).checksums(PageChecksums::On).archiving_to(repository);
    let mut cluster = builder.create();
    repository.init(cluster.data()).expect_success();
    cluster.start();
    Load::prepare(&cluster, 2);
    for name in ["fast", "slow"] {
        cluster.create_tablespace(name);
        cluster.psql(&format!(
            "create table in_{name} (id int primary key, filler text) tablespace {name}; \
             insert into in_{name} select i, md5(i::text) from generate_series(1, 20000) i"
        ));
    }
    cluster
}

fn back_up_under_load(cluster: &Cluster) {
    let load = Load::start(cluster, 2);
    cluster.walrs(&["backup-push"]).expect_success();
    load.stop();
}

/// Rows of the moment that is returned, which is followed by the loss of a table.
fn lose_a_table(cluster: &Cluster) -> (String, TableDigests) {
    cluster.psql("create table precious as select i, md5(i::text) from generate_series(1, 1000) i");
    let rows = table_digests(cluster);
    let moment =
        cluster.psql("select to_char(clock_timestamp(), 'YYYY-MM-DD\"T\"HH24:MI:SS.USOF')");
    cluster.psql("drop table precious; update in_fast set filler = 'overwritten'");
    cluster.archive_all();
    (moment, rows)
}

/// `--tablespace OID=DIR` for every tablespace, each into a new directory.
fn mapped_tablespaces(cluster: &Cluster) -> Vec<String> {
    let sql = "select oid from pg_tablespace where spcname in ('fast', 'slow')";
    let map = |row: Vec<String>| {
        let directory: PathBuf = cluster.scratch().create_directory(format!("moved-{}", row[0]));
        format!("--tablespace={}={}", row[0], directory.display())
    };
    cluster.sql_rows(sql).into_iter().map(map).collect()
}

fn restored(cluster: &Cluster, moment: &str) -> Cluster {
    let mut copy = cluster.sibling("copy");
    let mapped = mapped_tablespaces(cluster);
    let mut arguments = vec!["restore", copy.data_argument(), "--to-time", moment];
    arguments.extend(mapped.iter().map(String::as_str));
    cluster.walrs(&arguments).expect_success();
    copy.recover_to(RecoveryEnd::Promoted);
    copy
}

fn a_dropped_table_comes_back(major: Major, place: Place, sealing: Sealing) {
    let repository = TestRepository::new(place, sealing);
    let cluster = archiving_cluster(major, &repository);
    back_up_under_load(&cluster);
    let (moment, rows) = lose_a_table(&cluster);
    let copy = restored(&cluster, &moment);
    assert_eq!(table_digests(&copy), rows);
    assert_sound(&copy);
}

#[test]
fn a_dropped_table_comes_back_from_a_plain_directory() {
    a_dropped_table_comes_back(Major::V15, Place::Directory, Sealing::Plain);
}

#[test]
fn a_dropped_table_comes_back_from_an_encrypted_directory() {
    a_dropped_table_comes_back(Major::V15, Place::Directory, Sealing::Encrypted);
}

#[test]
fn a_dropped_table_comes_back_from_a_plain_bucket() {
    a_dropped_table_comes_back(Major::V15, Place::Bucket, Sealing::Plain);
}

#[test]
fn a_dropped_table_comes_back_from_an_encrypted_bucket() {
    a_dropped_table_comes_back(Major::V15, Place::Bucket, Sealing::Encrypted);
}

#[test]
fn a_dropped_table_comes_back_on_postgresql_13() {
    a_dropped_table_comes_back(Major::V13, Place::Directory, Sealing::Encrypted);
}

#[test]
fn a_dropped_table_comes_back_on_postgresql_17() {
    a_dropped_table_comes_back(Major::V17, Place::Directory, Sealing::Plain);
}
