//! `wal-fetch` on a standby: PostgreSQL keeps asking, and a promotion must not wait for a store that does not answer.

use std::fs;

use crate::support::cluster::Cluster;
use crate::support::cluster_builder::touch;
use crate::support::installation::Major;
use crate::support::postmaster::{Stop, wait_until};
use crate::support::program::Finished;
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::s3_server::{Effect, Fault};
use crate::support::standby::Feed;
use crate::support::wal::{FIRST, history, move_away, names_in, segment};

/// A deadline that no test can wait for.
const FOREVER: &str = "1h";

/// A primary that archives, and a standby that has only the archive.
fn archive_standby(place: Place) -> (TestRepository, Cluster, Cluster) {
    let repository = TestRepository::new(place, Sealing::Plain);
    let mut primary = Cluster::builder(Major::V15).archiving_to(&repository).create();
    repository.init(primary.data()).expect_success();
    primary.start();
    primary.psql("create table rows (i int)");
    let standby = primary.cold_copy("standby");
    standby.follow(&primary, Feed::Archive);
    (repository, primary, standby)
}

fn has_row(cluster: &Cluster, number: u32) -> bool {
    let count = format!("select count(*) from rows where i = {number}");
    cluster.try_psql("postgres", &count).stdout.trim() == "1"
}

fn archive_row(primary: &Cluster, number: u32) {
    primary.psql(&format!("insert into rows values ({number})"));
    primary.archive_all();
}

/// F2
#[test]
fn a_standby_keeps_asking_while_the_repository_is_away_and_follows_when_it_is_back() {
    let (repository, primary, mut standby) = archive_standby(Place::Directory);
    archive_row(&primary, 1);
    standby.start();
    wait_until("the first row is there", || has_row(&standby, 1));
    let away = repository.path().with_extension("away");
    move_away(repository.path(), &away);
    wait_until("the standby complains", || standby.log().contains("is the disk mounted"));
    assert!(standby.is_running() && standby.psql("select pg_is_in_recovery()") == "t");
    move_away(&away, repository.path());
    archive_row(&primary, 2);
    wait_until("the second row is there", || has_row(&standby, 2));
}

/// F7
#[test]
fn a_hole_does_not_end_a_standbys_recovery() {
    let (repository, primary, mut standby) = archive_standby(Place::Directory);
    archive_row(&primary, 1);
    let before = repository.keys();
    archive_row(&primary, 2);
    let hole = repository.keys().into_iter().find(|key| !before.contains(key)).unwrap();
    archive_row(&primary, 3);
    let (hole, kept) = (repository.object(&hole), repository.path().with_extension("kept"));
    move_away(&hole, &kept);
    standby.start();
    wait_until("the hole is reported", || standby.log().contains("is missing in the repository"));
    assert!(!has_row(&standby, 2) && standby.psql("select pg_is_in_recovery()") == "t");
    move_away(&kept, &hole);
    wait_until("the third row is there", || has_row(&standby, 3));
}

/// F2
#[test]
fn a_standby_stops_where_the_configuration_says_so() {
    let (repository, _primary, mut standby) = archive_standby(Place::Directory);
    let variable = ("WALRS_WAL_STANDBY_ERROR_EXIT".to_owned(), "255".to_owned());
    standby.environment_mut().extend([variable]);
    move_away(repository.path(), &repository.path().with_extension("away"));
    standby.recover_to(RecoveryEnd::Failed);
}

/// P2
#[test]
fn a_promotion_does_not_wait_for_a_store_that_does_not_answer() {
    let (repository, mut primary, mut standby) = archive_standby(Place::Bucket);
    archive_row(&primary, 1);
    let variable = ("WALRS_WAL_STANDBY_FETCH_TIMEOUT".to_owned(), FOREVER.to_owned());
    standby.environment_mut().extend([variable]);
    standby.start();
    wait_until("the first row is there", || has_row(&standby, 1));
    primary.stop(Stop::Immediate);
    repository.server().inject(Fault::always("*", "", Effect::Stall));
    let asked = repository.server().requests().len();
    wait_until("the standby asks", || repository.server().requests().len() > asked);
    standby.promote();
    assert!(has_row(&standby, 1));
}

/// P2
#[test]
fn a_promotion_succeeds_while_the_repository_is_away() {
    let (repository, mut primary, mut standby) = archive_standby(Place::Directory);
    archive_row(&primary, 1);
    standby.start();
    wait_until("the first row is there", || has_row(&standby, 1));
    primary.stop(Stop::Immediate);
    let away = repository.path().with_extension("away");
    move_away(repository.path(), &away);
    standby.promote();
    assert_eq!((standby.timeline(), has_row(&standby, 1)), (2, true));
    // And once more, from a timeline that has a history.
    move_away(&away, repository.path());
    standby.wait_archived(&history(2));
    let mut next = standby.cold_copy("next");
    next.follow(&standby, Feed::Archive);
    archive_row(&standby, 2);
    next.start();
    wait_until("the second row is there", || has_row(&next, 2));
    standby.stop(Stop::Immediate);
    move_away(repository.path(), &away);
    next.promote();
    assert_eq!((next.timeline(), has_row(&next, 2)), (3, true));
}

/// P2
#[test]
fn a_promotion_still_gets_what_the_store_has() {
    let (_repository, mut primary, mut standby) = archive_standby(Place::Directory);
    standby.start();
    archive_row(&primary, 1);
    archive_row(&primary, 2);
    primary.stop(Stop::Immediate);
    standby.promote();
    assert!(has_row(&standby, 2));
}

/// A stopped standby whose store has a first segment and then never answers.
fn stalled_standby() -> (TestRepository, Cluster) {
    let repository = TestRepository::new(Place::Bucket, Sealing::Plain);
    let cluster = Cluster::builder(Major::V15).using(&repository).create();
    repository.init(cluster.data()).expect_success();
    cluster.push(FIRST).expect_success();
    cluster.signal("standby.signal");
    repository.server().inject(Fault::always("*", "", Effect::Stall));
    (repository, cluster)
}

fn fetch_within(cluster: &Cluster, timeout: &str) -> Finished {
    let name = segment(1, 2);
    let mut command = cluster.as_postgres(&["wal-fetch", &name, "pg_wal/RECOVERYXLOG"]);
    Finished::run(command.env("WALRS_WAL_STANDBY_FETCH_TIMEOUT", timeout))
}

/// P2
#[test]
fn after_a_missed_deadline_the_next_calls_are_short() {
    let (repository, cluster) = stalled_standby();
    fetch_within(&cluster, "4s").expect_status(1).expect_message("in time");
    // Were it not remembered, this would take an hour.
    fetch_within(&cluster, FOREVER).expect_status(1).expect_message("in time");
    repository.server().forgive();
    cluster.fetch(FIRST).expect_success();
}

/// P2
#[test]
fn a_promote_file_ends_patience() {
    let (_repository, cluster) = stalled_standby();
    touch(&cluster.data().join("promote"));
    fetch_within(&cluster, FOREVER).expect_status(1).expect_message("a promotion waits");
}

/// P2
#[test]
fn a_spool_is_made_for_its_owner_only_and_nothing_fails_without_one() {
    use std::os::unix::fs::PermissionsExt;
    let (_repository, cluster) = stalled_standby();
    let close = |mode| {
        for directory in [cluster.data(), cluster.scratch().path()] {
            fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    close(0o555);
    let fetched = fetch_within(&cluster, "4s");
    close(0o755);
    fetched.expect_status(1).expect_message("in time");
    fetch_within(&cluster, "4s").expect_status(1);
    let spool = cluster.scratch().join("walrs-spool");
    assert_eq!(fs::metadata(&spool).unwrap().permissions().mode() & 0o777, 0o700);
    let missed = names_in(&spool).into_iter().filter(|name| name.contains("missed"));
    assert_eq!(missed.count(), 1, "{:?}", names_in(&spool));
}
