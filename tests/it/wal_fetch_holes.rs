//! `wal-fetch`: holes told from the end of WAL, swept WAL, histories in use, and branches that a recovery has left.

use std::fs;

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::paused::Paused;
use crate::support::program::Finished;
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::user::ServerUser;
use crate::support::wal::{FIRST, history, segment};

const UNKNOWN: i32 = 255;

/// Timeline 2 left timeline 1 in the middle of its segment 5.
const SECOND: &str = "1\t0/5000028\tno recovery target specified\n";

/// A stopped cluster whose files of these names are in a repository; `.history` stands for [`SECOND`].
fn holding(names: &[String]) -> (TestRepository, Cluster) {
    let repository = TestRepository::new(Place::Directory, Sealing::Plain);
    let cluster = Cluster::builder(Major::V15).using(&repository).create();
    repository.init(cluster.data()).expect_success();
    cluster.push(FIRST).expect_success();
    for name in names {
        archive(&cluster, name);
    }
    (repository, cluster)
}

fn archive(cluster: &Cluster, name: &str) {
    if name.ends_with(".history") {
        cluster.write_wal(name, SECOND);
    } else {
        cluster.forge(name);
    }
    cluster.push(name).expect_success();
    fs::remove_file(cluster.wal_file(name)).unwrap();
}

#[track_caller]
fn missing(cluster: &Cluster, name: &str, why: &str) {
    cluster.fetch(name).expect_status(UNKNOWN).expect_message(why);
    cluster.assert_nothing_fetched();
}

fn allowing(cluster: &Cluster, gap: &str, name: &str) -> Finished {
    let mut command = cluster.as_postgres(&["wal-fetch", name, "pg_wal/RECOVERYXLOG"]);
    Finished::run(command.env("WALRS_WAL_ALLOW_GAP_AT", gap))
}

/// F7
#[test]
fn a_segment_before_a_later_one_of_its_timeline_is_missing() {
    let (_repository, cluster) = holding(&[segment(1, 3), segment(1, 5)]);
    missing(&cluster, &segment(1, 4), "holds WAL of `000000010000000000000005`, behind it");
    missing(&cluster, &segment(1, 2), "holds WAL of `000000010000000000000003`, behind it");
    cluster.fetch(&segment(1, 6)).expect_status(1);
}

/// F7
#[test]
fn a_partial_of_a_later_segment_proves_a_hole_and_one_of_the_same_segment_does_not() {
    let (_repository, cluster) = holding(&[segment(1, 3)]);
    let partial = format!("{}.partial", segment(1, 5));
    cluster.write_wal(&partial, cluster.forged_segment(&segment(1, 5), 0));
    cluster.push(&partial).expect_success();
    missing(&cluster, &segment(1, 4), "behind it");
    cluster.fetch(&segment(1, 5)).expect_status(1);
}

/// F7
#[test]
fn a_segment_before_the_one_in_which_a_later_timeline_left_is_missing() {
    let (_repository, cluster) = holding(&[segment(1, 3), history(2)]);
    missing(&cluster, &segment(1, 4), "timeline 2 left timeline 1 at 0/5000028");
    cluster.fetch(&segment(1, 5)).expect_status(1);
}

/// F7
#[test]
fn a_segment_before_the_first_of_its_timeline_is_absent() {
    let (_repository, cluster) = holding(&[history(2), segment(2, 6)]);
    cluster.fetch(&segment(2, 4)).expect_status(1);
    missing(&cluster, &segment(2, 5), "behind it");
}

/// F7
#[test]
fn a_hole_is_the_end_only_where_the_operator_says_so() {
    let (_repository, cluster) = holding(&[segment(1, 3), segment(1, 5)]);
    allowing(&cluster, &segment(1, 4), &segment(1, 4)).expect_status(1);
    allowing(&cluster, &segment(1, 4), &segment(1, 2)).expect_status(UNKNOWN);
    allowing(&cluster, &segment(1, 3), &segment(1, 3)).expect_status(0);
    fs::remove_file(cluster.wal_file("RECOVERYXLOG")).unwrap();
    for nonsense in ["4", "000000010000000000000004.partial"] {
        allowing(&cluster, nonsense, &segment(1, 6)).expect_status(UNKNOWN);
    }
    cluster.assert_nothing_fetched();
}

/// F7
#[test]
fn in_recovery_a_hole_is_looked_at_again_and_delivered_when_it_is_filled() {
    let (_repository, cluster) = holding(&[segment(1, 3), segment(1, 5)]);
    cluster.signal("recovery.signal");
    let arguments = ["wal-fetch", &segment(1, 4), "pg_wal/RECOVERYXLOG"];
    let paused = Paused::at("wal-fetch:hole", cluster.as_postgres(&arguments), &cluster);
    archive(&cluster, &segment(1, 4));
    paused.resume().expect_status(0);
    assert_eq!(cluster.fetched(), cluster.forged_segment(&segment(1, 4), 0));
}

/// F7
#[test]
fn swept_wal_is_missing_at_once_with_that_reason() {
    let (repository, cluster) = holding(&[segment(1, 5)]);
    let cluster_name = cluster.identifier_in_names();
    let horizons = repository.object(&format!("horizons/{cluster_name}/00000001"));
    fs::create_dir_all(&horizons).unwrap();
    fs::write(horizons.join(segment(1, 3)), b"").unwrap();
    fs::write(horizons.join(segment(1, 4)), b"").unwrap();
    ServerUser::get().own_tree(&repository.object("horizons"));
    cluster.signal("recovery.signal");
    missing(&cluster, &segment(1, 3), "the WAL below `000000010000000000000004` was swept");
    cluster.fetch(&segment(1, 6)).expect_status(1);
}

/// F5
#[test]
fn the_history_of_a_timeline_that_has_wal_is_missing_not_absent() {
    let (repository, cluster) = holding(&[segment(1, 3), history(2), segment(2, 5)]);
    cluster.fetch(&history(1)).expect_status(1);
    cluster.fetch(&history(3)).expect_status(1);
    fs::remove_file(repository.object(&cluster.history_key(2))).unwrap();
    missing(&cluster, &history(2), "holds WAL of timeline 2");
    allowing(&cluster, &history(2), &history(2)).expect_status(1);
}

/// F5
#[test]
fn the_history_of_an_ancestor_is_missing_not_absent() {
    let (_repository, cluster) = holding(&[]);
    cluster.write_wal(&history(3), "1\t0/5000028\tx\n2\t0/6000028\tx\n");
    cluster.push(&history(3)).expect_success();
    missing(&cluster, &history(2), "the history of timeline 3 names it as an ancestor");
}

/// The directory of a recovery that follows timeline 2, whose history PostgreSQL has put into `pg_wal`.
fn following_timeline_2(signal: &str) -> (TestRepository, Cluster) {
    let segments: Vec<_> = (3..=6).map(|number| segment(1, number)).collect();
    let (repository, cluster) = holding(&[&segments[..], &[history(2)]].concat());
    cluster.write_wal(&history(2), SECOND);
    cluster.signal(signal);
    (repository, cluster)
}

/// F8
#[test]
fn a_segment_of_an_abandoned_branch_is_not_delivered() {
    let (_repository, cluster) = following_timeline_2("recovery.signal");
    for number in [5, 6] {
        missing(&cluster, &segment(1, number), "follows timeline 2, which left at 0/5000028");
    }
    cluster.fetch(&segment(1, 4)).expect_status(0);
    fs::remove_file(cluster.wal_file("RECOVERYXLOG")).unwrap();
    allowing(&cluster, &segment(1, 5), &segment(1, 5)).expect_status(1);
    fs::remove_file(cluster.data().join("recovery.signal")).unwrap();
    cluster.fetch(&segment(1, 5)).expect_status(0);
}

/// F8
#[test]
fn on_a_standby_an_abandoned_branch_is_not_delivered_either() {
    let (_repository, cluster) = following_timeline_2("standby.signal");
    cluster.fetch(&segment(1, 5)).expect_status(1).expect_message("abandoned branch");
    cluster.assert_nothing_fetched();
    cluster.fetch(&segment(1, 4)).expect_status(0);
}

/// F8
#[test]
fn histories_that_are_no_ancestors_of_the_followed_timeline_do_not_count() {
    let (_repository, cluster) = following_timeline_2("recovery.signal");
    // PostgreSQL also keeps the histories between the backup's timeline and the target's.
    cluster.write_wal(&history(3), "1\t0/6000028\tno recovery target specified\n");
    cluster.fetch(&segment(1, 5)).expect_status(0);
    fs::remove_file(cluster.wal_file("RECOVERYXLOG")).unwrap();
    missing(&cluster, &segment(1, 6), "follows timeline 3");
}
