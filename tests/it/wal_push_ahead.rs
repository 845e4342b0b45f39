//! `wal-push` look-ahead: what PostgreSQL will ask for next is stored beside the asked file, and its own call answers by
//! a mark.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;

use crate::support::cluster::Cluster;
use crate::support::cluster_builder::touch;
use crate::support::installation::Major;
use crate::support::paused::Paused;
use crate::support::program::Finished;
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::s3_server::{Effect, Fault};
use crate::support::wal::{FIRST, history, move_away, names_in, segment};

const HISTORY: &str = "1\t0/2000000\tno recovery target specified\n";

/// A deadline that no test can wait for.
const FOREVER: &str = "1h";

/// A stopped cluster whose first segment is asked for, and segments 2 to `last` that wait behind it.
fn backlog(place: Place, last: u32) -> (TestRepository, Cluster) {
    let repository = TestRepository::new(place, Sealing::Plain);
    let cluster = Cluster::builder(Major::V15).using(&repository).create();
    repository.init(cluster.data()).expect_success();
    make_ready(&cluster, FIRST);
    for number in 2..=last {
        cluster.forge(&segment(1, number));
        make_ready(&cluster, &segment(1, number));
    }
    (repository, cluster)
}

fn status_directory(cluster: &Cluster) -> PathBuf {
    cluster.data().join("pg_wal/archive_status")
}

fn make_ready(cluster: &Cluster, name: &str) {
    touch(&status_directory(cluster).join(format!("{name}.ready")));
}

/// As PostgreSQL does after a success.
fn make_done(cluster: &Cluster, name: &str) {
    let status = status_directory(cluster);
    let (ready, done) = (status.join(format!("{name}.ready")), status.join(format!("{name}.done")));
    move_away(&ready, &done);
}

fn push_with(cluster: &Cluster, name: &str, variable: (&str, &str)) -> Finished {
    let mut command = cluster.as_postgres(&["wal-push", &format!("pg_wal/{name}")]);
    Finished::run(command.env(variable.0, variable.1))
}

/// The segments in the repository, in order.
fn stored(repository: &TestRepository, cluster: &Cluster) -> Vec<String> {
    let names = (1..=2).flat_map(|timeline| (1..30).map(move |number| segment(timeline, number)));
    names.filter(|name| repository.object(&cluster.segment_key(name)).exists()).collect()
}

fn segments(numbers: std::ops::RangeInclusive<u32>) -> Vec<String> {
    numbers.map(|number| segment(1, number)).collect()
}

/// The mark of a file, of which there is at most one.
fn mark(cluster: &Cluster, name: &str) -> Option<PathBuf> {
    let spool = cluster.scratch().join("walrs-spool");
    let directories = fs::read_dir(spool).ok()?.map(|entry| entry.unwrap().path());
    let mut marks = directories.map(|path| path.join(format!("{name}.json")));
    marks.find(|path| path.exists())
}

/// W3, W11
#[test]
fn neighbours_are_stored_and_nothing_of_postgresql_is_touched() {
    for place in Place::ALL {
        let (repository, cluster) = backlog(place, 12);
        let before = names_in(&status_directory(&cluster));
        cluster.push(FIRST).expect_success();
        assert_eq!(stored(&repository, &cluster), segments(1..=9), "asked, and 8 ahead");
        assert_eq!(names_in(&status_directory(&cluster)), before);
        for name in segments(1..=9) {
            cluster.fetch(&name).expect_success();
            assert_eq!(cluster.fetched(), fs::read(cluster.wal_file(&name)).unwrap(), "{name}");
        }
    }
}

/// W11
#[test]
fn the_call_of_a_marked_file_asks_nothing_of_the_store_and_uses_the_mark_up() {
    let (repository, cluster) = backlog(Place::Bucket, 4);
    cluster.push(FIRST).expect_success();
    make_done(&cluster, FIRST);
    let requests = repository.server().requests().len();
    for name in segments(2..=4) {
        assert!(mark(&cluster, &name).is_some());
        cluster.push(&name).expect_success();
        assert!(mark(&cluster, &name).is_none(), "{name}");
        make_done(&cluster, &name);
    }
    assert_eq!(repository.server().requests().len(), requests);
    // Asked again, as after a crash of the server, it is compared.
    cluster.push(&segment(1, 2)).expect_success();
    assert!(repository.server().requests().len() > requests);
}

/// W4, W11
#[test]
fn a_mark_does_not_answer_for_a_file_that_was_changed_or_replaced() {
    let (_repository, cluster) = backlog(Place::Directory, 4);
    cluster.push(FIRST).expect_success();
    // Other bytes in another file, and in the same one.
    cluster.write_wal(&segment(1, 2), cluster.forged_segment(&segment(1, 2), 9));
    let file = OpenOptions::new().write(true).open(cluster.wal_file(&segment(1, 3))).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, &[9], 100_000).unwrap();
    for name in segments(2..=3) {
        cluster.push(&name).expect_status(3).expect_message("different bytes");
    }
}

/// W11
#[test]
fn a_mark_with_any_other_part_is_ignored() {
    let (repository, cluster) = backlog(Place::Bucket, 3);
    cluster.push(FIRST).expect_success();
    let path = mark(&cluster, &segment(1, 2)).unwrap();
    let good: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut parts = vec!["/digest", "/file"];
    parts.extend(["/seen/device", "/seen/inode", "/seen/length", "/seen/modified/1"]);
    parts.extend(["/seen/changed/1", "/binding/repository_id", "/binding/url"]);
    parts.extend(["/binding/endpoint", "/binding/system_identifier"]);
    for part in parts {
        let mut other = good.clone();
        spoil(other.pointer_mut(part).unwrap_or_else(|| panic!("{part} of {good}")));
        fs::write(&path, serde_json::to_vec(&other).unwrap()).unwrap();
        let requests = repository.server().requests().len();
        cluster.push(&segment(1, 2)).expect_success();
        assert!(repository.server().requests().len() > requests, "{part}");
    }
    for torn in [&b""[..], b"\0\0\0\0", b"{"] {
        fs::write(&path, torn).unwrap();
        cluster.push(&segment(1, 2)).expect_success();
    }
}

/// Another value of the same kind.
fn spoil(value: &mut serde_json::Value) {
    *value = match value.as_str() {
        None => (value.as_u64().unwrap() + 1).into(),
        Some(text) if text.ends_with('2') => format!("{}3", &text[..text.len() - 1]).into(),
        Some(text) => format!("{}2", &text[..text.len() - 1]).into(),
    };
}

/// W11, S8
#[test]
fn a_mark_counts_for_the_repository_at_its_url_only() {
    let (repository, cluster) = backlog(Place::Directory, 2);
    cluster.push(FIRST).expect_success();
    let elsewhere = cluster.scratch().create_directory("elsewhere").display().to_string();
    let refused =
        push_with(&cluster, &segment(1, 2), ("WALRS_REPOSITORY", &elsewhere)).expect_status(3);
    refused.expect_message("is the disk mounted");
    let mut command = cluster.as_postgres(&["wal-push", &format!("pg_wal/{}", segment(1, 2))]);
    command.args(["--repository-id", "00000000000000000000000000000000"]);
    Finished::run(&mut command).expect_status(3);
    assert!(mark(&cluster, &segment(1, 2)).is_some());
    drop(repository);
    cluster.push(&segment(1, 2)).expect_success();
}

/// W2, W6, W11
#[test]
fn a_look_ahead_killed_at_any_step_can_be_repeated() {
    let steps = ["stored=kill", "stored-ahead=kill", "stored-ahead=kill:3", "marked=kill"];
    for step in steps.into_iter().chain(["marked=kill:3", "acknowledged=kill"]) {
        let (repository, cluster) = backlog(Place::Directory, 5);
        let killed = push_with(&cluster, FIRST, ("WALRS_FAILPOINT", &format!("wal-push:{step}")));
        killed.expect_status(128 + 9);
        for name in segments(1..=5) {
            cluster.push(&name).expect_success();
            make_done(&cluster, &name);
            assert!(repository.object(&cluster.segment_key(&name)).exists(), "{step}: {name}");
        }
    }
}

/// W6, W11
#[test]
fn a_call_killed_after_it_used_its_mark_can_be_repeated() {
    let (_repository, cluster) = backlog(Place::Directory, 2);
    cluster.push(FIRST).expect_success();
    let step = ("WALRS_FAILPOINT", "wal-push:mark-used=kill");
    push_with(&cluster, &segment(1, 2), step).expect_status(128 + 9);
    cluster.push(&segment(1, 2)).expect_success();
}

/// W7
#[test]
fn a_neighbour_that_is_unfit_is_not_stored_and_fails_nothing() {
    let (repository, cluster) = backlog(Place::Directory, 4);
    let mut foreign = cluster.forged_segment(&segment(1, 3), 0);
    crate::support::wal::change_owner(&mut foreign);
    cluster.write_wal(&segment(1, 3), foreign);
    cluster.push(FIRST).expect_success();
    assert_eq!(stored(&repository, &cluster), segments(1..=2));
    cluster.push(&segment(1, 3)).expect_status(3);
}

/// W2
#[test]
fn neighbours_that_the_store_refuses_or_leaves_without_answer_do_not_fail_the_asked_file() {
    let effects = [Effect::Refuse { status: 403, code: "AccessDenied" }, Effect::Stall];
    for effect in effects {
        let (repository, cluster) = backlog(Place::Bucket, 4);
        repository.server().inject(Fault::always("PUT", &segment(1, 3), effect));
        push_with(&cluster, FIRST, ("WALRS_WAL_PUSH_TIMEOUT", FOREVER)).expect_success();
        assert!(mark(&cluster, &segment(1, 3)).is_none());
        assert!(mark(&cluster, &segment(1, 2)).is_some());
        repository.server().forgive();
        cluster.push(&segment(1, 3)).expect_success();
    }
}

/// W4
#[test]
fn nothing_is_stored_ahead_of_a_file_that_is_refused() {
    let (repository, cluster) = backlog(Place::Directory, 5);
    push_with(&cluster, FIRST, ("WALRS_WAL_PUSH_AHEAD", "0")).expect_success();
    cluster.write_wal(FIRST, cluster.forged_segment(FIRST, 9));
    cluster.push(FIRST).expect_status(3).expect_message("different bytes");
    assert_eq!(stored(&repository, &cluster), segments(1..=1));
}

/// W4
#[test]
fn behind_wal_of_another_server_the_first_difference_ends_the_look_ahead() {
    let (repository, cluster) = backlog(Place::Directory, 6);
    // The other server, a clone, has archived 3 with other bytes.
    cluster.write_wal(&segment(1, 3), cluster.forged_segment(&segment(1, 3), 9));
    push_with(&cluster, &segment(1, 3), ("WALRS_WAL_PUSH_AHEAD", "0")).expect_success();
    cluster.forge(&segment(1, 3));
    cluster.push(FIRST).expect_success();
    assert_eq!(stored(&repository, &cluster), segments(1..=3));
    cluster.push(&segment(1, 3)).expect_status(3);
}

/// W12
#[test]
fn histories_go_first_and_without_its_history_nothing_of_a_timeline_is_stored() {
    for place in Place::ALL {
        let (repository, cluster) = backlog(place, 2);
        cluster.write_wal(&history(2), HISTORY);
        make_ready(&cluster, &history(2));
        cluster.forge(&segment(2, 3));
        make_ready(&cluster, &segment(2, 3));
        let step = ("WALRS_FAILPOINT", "wal-push:stored-ahead=kill");
        push_with(&cluster, FIRST, step).expect_status(128 + 9);
        assert!(repository.object(&cluster.history_key(2)).exists());
        assert_eq!(stored(&repository, &cluster), segments(1..=1));
        cluster.push(FIRST).expect_success();
        assert!(stored(&repository, &cluster).contains(&segment(2, 3)));
        for name in [history(2), segment(1, 2), segment(2, 3)] {
            assert!(mark(&cluster, &name).is_some(), "{name}");
        }
    }
}

/// W12, T2
#[test]
fn segments_of_a_timeline_that_another_server_took_are_not_stored_ahead() {
    let (repository, cluster) = backlog(Place::Directory, 2);
    cluster.write_wal(&history(2), "1\t0/1000000\tno recovery target specified\n");
    push_with(&cluster, &history(2), ("WALRS_WAL_PUSH_AHEAD", "0")).expect_success();
    cluster.write_wal(&history(2), HISTORY);
    cluster.forge(&segment(2, 3));
    make_ready(&cluster, &segment(2, 3));
    cluster.push(FIRST).expect_success();
    assert_eq!(stored(&repository, &cluster), segments(1..=2));
}

/// W11
#[test]
fn marks_of_files_that_nobody_will_ask_for_are_removed() {
    let (_repository, cluster) = backlog(Place::Directory, 3);
    cluster.push(FIRST).expect_success();
    for name in [FIRST, &segment(1, 2)] {
        make_done(&cluster, name);
    }
    cluster.forge(&segment(1, 4));
    cluster.push(&segment(1, 4)).expect_success();
    assert!(mark(&cluster, &segment(1, 2)).is_none());
    assert!(mark(&cluster, &segment(1, 3)).is_some());
}

/// W11
#[test]
fn without_a_spool_or_with_look_ahead_switched_off_one_call_stores_one_file() {
    let (repository, cluster) = backlog(Place::Directory, 3);
    push_with(&cluster, FIRST, ("WALRS_WAL_PUSH_AHEAD", "0")).expect_success();
    let nowhere = ("WALRS_SPOOL", "/proc/walrs");
    push_with(&cluster, FIRST, nowhere).expect_success();
    assert_eq!(stored(&repository, &cluster), segments(1..=1));
    push_with(&cluster, &segment(1, 2), nowhere).expect_success();
    assert_eq!(stored(&repository, &cluster), segments(1..=2));
}

/// W1
#[test]
fn a_neighbour_that_changes_while_it_is_read_is_not_stored() {
    let (repository, cluster) = backlog(Place::Directory, 2);
    let command = cluster.as_postgres(&["wal-push", &format!("pg_wal/{FIRST}")]);
    let paused = Paused::at("wal-push:ahead-planned", command, &cluster);
    let name = segment(1, 2);
    cluster.write_wal(&name, cluster.forged_segment(&name, 9));
    paused.resume().expect_success();
    assert_eq!(stored(&repository, &cluster), segments(1..=1));
}

/// W9, W11
#[test]
fn a_server_with_a_backlog_archives_all_of_it() {
    let repository = TestRepository::new(Place::Bucket, Sealing::Encrypted);
    let builder = Cluster::builder(Major::V15).archiving_to(&repository);
    let mut cluster = builder.setting("wal_keep_size", "1GB").create();
    repository.init(cluster.data()).expect_success();
    cluster.start();
    repository.server().inject(Fault::always(
        "PUT",
        "/wal/",
        Effect::Refuse { status: 403, code: "AccessDenied" },
    ));
    let names: Vec<_> = (0..20).map(|_| cluster.switch_wal()).collect();
    repository.server().forgive();
    for name in &names {
        cluster.wait_archived(name);
        assert_eq!(repository.keys_with(name).len(), 1, "{name}");
        assert_eq!(
            repository.server().requests().iter().filter(|seen| seen.is("HEAD", name)).count(),
            0,
            "{name}"
        );
    }
}
