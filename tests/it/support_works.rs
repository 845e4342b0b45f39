//! The support code itself, on every PostgreSQL version that the tests use.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use crate::support::cluster::Cluster;
use crate::support::cluster_builder::{PageChecksums, touch};
use crate::support::installation::Major;
use crate::support::load::Load;
use crate::support::oracle;
use crate::support::postmaster::Stop;
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::standby::Feed;

const ARCHIVE: &str = "test ! -f ../%f && cp %p ../%f";

fn archived_cluster(major: Major) -> Cluster {
    Cluster::builder(major).archive_command(ARCHIVE).start()
}

fn a_cluster_archives_crashes_and_recovers(major: Major) {
    let mut cluster = archived_cluster(major);
    cluster.psql("create table rows (id int primary key, word text)");
    cluster.psql("insert into rows select i, md5(i::text) from generate_series(1, 1000) i");
    let segment = cluster.archive_all();
    assert!(cluster.scratch().join(segment).exists());
    let before = oracle::table_digests(&cluster);
    cluster.crash_and_restart();
    assert_eq!(oracle::table_digests(&cluster), before);
    oracle::assert_sound(&cluster);
}

#[test]
fn a_cluster_of_13_archives_crashes_and_recovers() {
    a_cluster_archives_crashes_and_recovers(Major::V13);
}

#[test]
fn a_cluster_of_15_archives_crashes_and_recovers() {
    a_cluster_archives_crashes_and_recovers(Major::V15);
}

#[test]
fn a_cluster_of_17_archives_crashes_and_recovers() {
    a_cluster_archives_crashes_and_recovers(Major::V17);
}

#[test]
fn a_standby_follows_under_load_and_can_be_promoted() {
    let mut primary = archived_cluster(Major::V15);
    primary.create_tablespace("elsewhere");
    primary.psql("create table there (id int) tablespace elsewhere");
    Load::prepare(&primary, 1);
    let standby = primary.standby("standby", Feed::Streaming);
    Load::start(&primary, 2).stop();
    primary.psql("insert into there values (1)");
    standby.wait_caught_up(&primary);
    assert_eq!(oracle::table_digests(&primary), oracle::table_digests(&standby));
    standby.promote();
    assert_eq!(standby.timeline(), 2);
    oracle::assert_same_rows(&primary, &standby);
}

#[test]
fn the_end_of_a_recovery_is_told() {
    let mut source = archived_cluster(Major::V15);
    let cases = [
        ("promote", RecoveryEnd::Promoted),
        ("pause", RecoveryEnd::Paused),
        ("shutdown", RecoveryEnd::ShutDown),
    ];
    let copies = cases.map(|(action, end)| (source.cold_copy(action), action, end));
    let mut broken = source.cold_copy("broken");
    source.psql("select pg_create_restore_point('here')");
    source.archive_all();
    for (mut copy, action, end) in copies {
        copy.set("restore_command", "cp ../%f %p");
        copy.set("recovery_target_name", "here");
        copy.set("recovery_target_action", action);
        touch(&copy.data().join("recovery.signal"));
        copy.recover_to(end);
    }
    broken.set("restore_command", "exit 200");
    touch(&broken.data().join("recovery.signal"));
    broken.recover_to(RecoveryEnd::Failed);
}

/// 200 rows in one page, each findable in the file, with an index over what is to be changed.
fn cluster_to_damage() -> (Cluster, PathBuf) {
    let cluster = Cluster::builder(Major::V15)
        .checksums(PageChecksums::Off)
        .setting("autovacuum", "off")
        .start();
    cluster.psql("create table rows (word text primary key)");
    cluster.psql("insert into rows select 'needle-' || i from generate_series(100, 199) i");
    cluster.psql("vacuum rows");
    cluster.psql("update rows set word = 'needle-200' where word = 'needle-199'");
    oracle::assert_sound(&cluster);
    let file = cluster.data().join(cluster.psql("select pg_relation_filepath('rows')"));
    (cluster, file)
}

fn replace_bytes(file: &PathBuf, from: &[u8], to: &[u8]) {
    let mut bytes = fs::read(file).unwrap();
    let position = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[position..position + to.len()].copy_from_slice(to);
    fs::write(file, bytes).unwrap();
}

fn is_sound(cluster: &Cluster) -> bool {
    catch_unwind(AssertUnwindSafe(|| oracle::assert_sound(cluster))).is_ok()
}

#[test]
fn the_oracle_notices_a_changed_row() {
    let (mut cluster, file) = cluster_to_damage();
    let before = oracle::table_digests(&cluster);
    cluster.stop(Stop::Fast);
    replace_bytes(&file, b"needle-150", b"needle-950");
    cluster.start();
    assert_ne!(oracle::table_digests(&cluster), before);
    assert!(!is_sound(&cluster), "the index still leads to the old word");
}

#[test]
fn the_oracle_notices_a_visibility_map_that_lies() {
    let (mut cluster, file) = cluster_to_damage();
    let before = oracle::table_digests(&cluster);
    cluster.stop(Stop::Fast);
    let map = PathBuf::from(format!("{}_vm", file.display()));
    let mut bytes = fs::read(&map).unwrap();
    // The first two bits after the page header are those of the first heap page: all visible, all frozen.
    assert_eq!(bytes[24] & 3, 0, "the update cleared them");
    bytes[24] |= 3;
    fs::write(&map, bytes).unwrap();
    cluster.start();
    assert_eq!(oracle::table_digests(&cluster), before, "no scan looks at the map");
    assert!(!is_sound(&cluster));
}

#[test]
fn a_repository_of_every_kind_can_be_made() {
    let cluster = Cluster::builder(Major::V15).create();
    for place in Place::ALL {
        for sealing in [Sealing::Plain, Sealing::Encrypted] {
            let repository = TestRepository::new(place, sealing);
            assert_eq!(repository.keys(), [""; 0]);
            repository.init(cluster.data()).expect_success();
            assert_eq!(repository.keys_with("repository.json").len(), 1);
            assert_eq!(repository.key_file().exists(), sealing == Sealing::Encrypted);
        }
    }
}
