//! walrs as the `archive_command` of real servers.

use std::fs;

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::postmaster::{Stop, wait_until};
use crate::support::program::walrs_binary;
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::standby::Feed;
use crate::support::wal::{history, move_away, names_in};

/// A running server that archives into a new repository, with some rows.
fn archiving(major: Major, place: Place, sealing: Sealing) -> (TestRepository, Cluster) {
    let repository = TestRepository::new(place, sealing);
    let builder = Cluster::builder(major).archiving_to(&repository);
    let mut cluster = builder.setting("wal_keep_size", "1GB").create();
    repository.init(cluster.data()).expect_success();
    cluster.start();
    cluster.psql("create table rows as select i, md5(i::text) from generate_series(1, 1000) i");
    (repository, cluster)
}

#[track_caller]
fn what_is_archived_is_what_was_written(major: Major, place: Place, sealing: Sealing) {
    let (_repository, mut cluster) = archiving(major, place, sealing);
    let segments = [cluster.archive_all(), cluster.archive_all(), cluster.archive_all()];
    cluster.stop(Stop::Fast);
    for segment in segments {
        cluster.fetch(&segment).expect_success();
        let (fetched, local) = (cluster.fetched(), fs::read(cluster.wal_file(&segment)).unwrap());
        let first = fetched.iter().zip(&local).position(|(left, right)| left != right);
        assert_eq!((fetched.len(), first), (local.len(), None), "{segment}");
    }
}

/// W1
#[test]
fn servers_of_every_version_archive() {
    for major in Major::ALL {
        what_is_archived_is_what_was_written(major, Place::Directory, Sealing::Plain);
    }
}

/// W1
#[test]
fn a_server_archives_encrypted_to_s3() {
    what_is_archived_is_what_was_written(Major::V15, Place::Bucket, Sealing::Encrypted);
}

fn failures(cluster: &Cluster) -> u32 {
    cluster.psql("select failed_count from pg_stat_archiver").parse().expect("a count")
}

/// W9, W10
#[test]
fn wal_waits_while_the_repository_is_away_and_is_archived_when_it_is_back() {
    let (repository, cluster) = archiving(Major::V15, Place::Directory, Sealing::Plain);
    let first = cluster.archive_all();
    let away = repository.path().with_extension("away");
    move_away(repository.path(), &away);
    let (before, second) = (failures(&cluster), cluster.switch_wal());
    // A status above 125 would kill the archiver, and nothing would be counted.
    wait_until("a failure is counted", || failures(&cluster) > before);
    assert!(cluster.wal_file(&format!("archive_status/{second}.ready")).exists());
    move_away(&away, repository.path());
    cluster.wait_archived(&second);
    for segment in [first, second] {
        assert_eq!(repository.keys_with(&segment).len(), 1, "{segment}");
    }
}

/// W6
#[test]
fn a_server_that_crashes_while_it_archives_goes_on() {
    let (repository, mut cluster) = archiving(Major::V15, Place::Directory, Sealing::Plain);
    for _ in 0..3 {
        cluster.switch_wal();
    }
    cluster.crash_and_restart();
    cluster.archive_all();
    let names = names_in(&cluster.data().join("pg_wal/archive_status"));
    for done in names.iter().filter_map(|name| name.strip_suffix(".done")) {
        assert_eq!(repository.keys_with(done).len(), 1, "{done}");
    }
}

/// The numbers of the segments of timeline 1 in the repository.
fn of_first_timeline(repository: &TestRepository) -> Vec<u32> {
    let keys = repository.keys_with("/00000001/00000000/");
    let whole = keys.iter().filter(|key| !key.contains(".partial"));
    whole.map(|key| u32::from_str_radix(&key[key.len() - 8..], 16).unwrap()).collect()
}

/// A standby, and what its primary wrote but never archived.
fn standby_of_a_primary_that_archives_nothing() -> (TestRepository, Cluster, Cluster) {
    let repository = TestRepository::plain_directory();
    let builder = Cluster::builder(Major::V15).using(&repository);
    let mut primary = builder.setting("wal_keep_size", "1GB").create();
    repository.init(primary.data()).expect_success();
    primary.start();
    let standby = primary.standby("standby", Feed::Streaming);
    for number in 1..=3 {
        primary.psql(&format!("create table t{number} as select generate_series(1, 1000)"));
        primary.switch_wal();
    }
    standby.wait_caught_up(&primary);
    (repository, primary, standby)
}

fn archive_from_now_on(cluster: &mut Cluster) {
    let command = format!("\"{}\" wal-push %p", walrs_binary().display());
    cluster.set("archive_mode", "on");
    cluster.set("archive_command", &command);
    cluster.restart();
}

/// W9
#[test]
fn the_parents_last_segments_are_stored_before_the_history_of_a_promoted_standby() {
    let (repository, mut primary, mut standby) = standby_of_a_primary_that_archives_nothing();
    archive_from_now_on(&mut standby);
    standby.wait_caught_up(&primary);
    primary.stop(Stop::Immediate);
    standby.promote();
    standby.wait_archived(&history(2));
    let local = standby.psql(
        "select string_agg(name, ' ' order by name) from pg_ls_waldir() where name ~ '^00000001[0-9A-F]{16}$'",
    );
    let stored = of_first_timeline(&repository);
    assert!(stored.len() >= 3, "{stored:?}");
    for segment in local.split(' ') {
        assert_eq!(repository.keys_with(segment).len(), 1, "{segment} of {local}");
    }
}

/// W12
#[test]
fn a_server_promoted_with_archiving_off_archives_its_history_with_its_first_segment() {
    let (repository, mut primary, mut standby) = standby_of_a_primary_that_archives_nothing();
    primary.stop(Stop::Immediate);
    standby.promote();
    archive_from_now_on(&mut standby);
    let segment = standby.archive_all();
    assert!(segment.starts_with("00000002"), "{segment}");
    assert_eq!(repository.keys_with(&history(2)).len(), 1);
    assert!(of_first_timeline(&repository).len() >= 3);
}

/// T2
#[test]
fn two_servers_that_take_the_same_timeline_do_not_mix() {
    let repository = TestRepository::plain_directory();
    let mut primary = Cluster::builder(Major::V15).archiving_to(&repository).start();
    let mut first = primary.standby("first", Feed::Streaming);
    let second = primary.standby("second", Feed::Streaming);
    primary.psql("create table t as select generate_series(1, 1000)");
    primary.archive_all();
    first.wait_caught_up(&primary);
    // The first standby does not see what comes now.
    first.stop(Stop::Fast);
    primary.psql("create table u as select generate_series(1, 1000)");
    second.wait_caught_up(&primary);
    primary.stop(Stop::Immediate);
    first.start();
    first.promote();
    first.wait_archived(&history(2));
    let stored = repository.keys_with("/00000002/");
    second.promote();
    let before = failures(&second);
    second.switch_wal();
    wait_until("the second one is refused", || failures(&second) > before);
    wait_until("its log says why", || second.log().contains("promote it again"));
    assert_eq!(repository.keys_with("/00000002/"), stored);
}
