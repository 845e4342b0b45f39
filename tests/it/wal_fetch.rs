//! `wal-fetch`: delivered, proven absent, or could not find out; and the destination in each case.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::support::cluster::Cluster;
use crate::support::cluster_builder::touch;
use crate::support::installation::Major;
use crate::support::postmaster::{send, wait_until};
use crate::support::program::Finished;
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::s3_server::{Effect, Fault};
use crate::support::user::ServerUser;
use crate::support::wal::{FIRST, history, names_in, segment};

use rustix::process::Signal;

const UNKNOWN: i32 = 255;

/// A stopped cluster whose first segment is in a new repository.
fn archived(place: Place, sealing: Sealing) -> (TestRepository, Cluster) {
    let repository = TestRepository::new(place, sealing);
    let cluster = Cluster::builder(Major::V15).using(&repository).create();
    repository.init(cluster.data()).expect_success();
    cluster.push(FIRST).expect_success();
    (repository, cluster)
}

fn archived_plainly() -> (TestRepository, Cluster) {
    archived(Place::Directory, Sealing::Plain)
}

#[track_caller]
fn could_not_find_out(cluster: &Cluster, fetched: Finished) -> Finished {
    let finished = fetched.expect_status(UNKNOWN);
    cluster.assert_nothing_fetched();
    finished
}

/// F1, F2
#[test]
fn a_file_is_delivered_and_replaces_what_lies_at_its_destination() {
    let (_repository, cluster) = archived_plainly();
    cluster.write_wal("RECOVERYXLOG", b"left by an earlier recovery");
    cluster.fetch(FIRST).expect_status(0);
    assert_eq!(cluster.fetched(), cluster.first_segment());
    let mode = fs::metadata(cluster.wal_file("RECOVERYXLOG")).unwrap().permissions().mode();
    assert_eq!(mode & 0o137, 0, "{mode:o}");
}

/// F2
#[test]
fn a_file_that_is_proven_absent_gives_1() {
    for place in Place::ALL {
        let (_repository, cluster) = archived(place, Sealing::Encrypted);
        let absent = [
            segment(1, 2),
            segment(2, 1),
            history(1),
            history(2),
            format!("{}.partial", segment(1, 2)),
            format!("{FIRST}.00000028.backup"),
        ];
        for name in absent {
            cluster.fetch(&name).expect_status(1);
        }
        cluster.assert_nothing_fetched();
    }
}

/// F2
#[test]
fn wrong_usage_and_wrong_configuration_give_255() {
    let (_repository, cluster) = archived_plainly();
    let lines: [&[&str]; 8] = [
        &["wal-fetch"],
        &["wal-fetch", "--help"],
        &["--version", "wal-fetch"],
        &["wal-fetch", FIRST],
        &["wal-fetch", FIRST, "pg_wal/RECOVERYXLOG", "more"],
        &["wal-fetch", FIRST, "pg_wal/RECOVERYXLOG", "--config", "/nonexistent"],
        &["wal-fetch", FIRST, "pg_wal/RECOVERYXLOG", "--repository", "ftp://somewhere"],
        &["wal-fetch", "RECOVERYXLOG", "pg_wal/RECOVERYXLOG"],
    ];
    for line in lines {
        could_not_find_out(&cluster, Finished::run(&mut cluster.as_postgres(line)));
    }
    let mut command = cluster.as_postgres(&["wal-fetch", FIRST, "pg_wal/RECOVERYXLOG"]);
    command.env("WALRS_WAL_FETCH_TIMEOUT", "soon");
    could_not_find_out(&cluster, Finished::run(&mut command));
}

/// S8, F2
#[test]
fn a_repository_that_is_not_there_or_not_ours_proves_nothing() {
    let (repository, cluster) = archived_plainly();
    let (other, _) = archived_plainly();
    let document = repository.object("repository.json");
    let kept = fs::read(&document).unwrap();
    let refused = |why: &str| {
        could_not_find_out(&cluster, cluster.fetch(&segment(1, 2))).expect_message(why);
    };
    fs::write(&document, fs::read(other.object("repository.json")).unwrap()).unwrap();
    refused("this data directory uses repository");
    fs::write(&document, &kept[..kept.len() - 3]).unwrap();
    refused("repository.json");
    fs::write(&document, kept).unwrap();
    cluster.fetch(&segment(1, 2)).expect_status(1);
    fs::remove_file(&document).unwrap();
    refused("there is no repository");
    fs::remove_dir_all(repository.path()).unwrap();
    refused("is the disk mounted");
}

/// S8
#[test]
fn an_unmounted_disk_or_a_wrong_prefix_is_never_made_a_repository() {
    let (repository, cluster) = archived_plainly();
    fs::remove_dir_all(repository.path()).unwrap();
    fs::create_dir(repository.path()).unwrap();
    could_not_find_out(&cluster, cluster.fetch(FIRST));
    assert_eq!(repository.keys(), Vec::<String>::new());
    let (bucket, cluster) = archived(Place::Bucket, Sealing::Plain);
    let mut command = cluster.as_postgres(&["wal-fetch", FIRST, "pg_wal/RECOVERYXLOG"]);
    command.env("WALRS_REPOSITORY", format!("{}/typo", bucket.url()));
    could_not_find_out(&cluster, Finished::run(&mut command));
}

/// S8
#[test]
fn a_cluster_that_the_repository_does_not_know_learns_nothing_about_absence() {
    let (repository, _first) = archived_plainly();
    let stranger = Cluster::builder(Major::V15).using(&repository).create();
    could_not_find_out(&stranger, stranger.fetch(&segment(1, 2)));
}

/// S8, F2
#[test]
fn answers_that_are_not_the_stores_own_word_prove_nothing() {
    let (repository, cluster) = archived(Place::Bucket, Sealing::Plain);
    let name = segment(1, 2);
    let effects = [
        Effect::Refuse { status: 403, code: "AccessDenied" },
        Effect::Refuse { status: 404, code: "NoSuchBucket" },
        Effect::Refuse { status: 503, code: "SlowDown" },
        Effect::Refuse { status: 500, code: "InternalError" },
        Effect::Page { status: 404 },
        Effect::BreakBefore,
        Effect::Stall,
    ];
    for part in [name.as_str(), "repository.json", "epochs"] {
        for effect in effects.clone() {
            repository.server().inject(Fault::always("GET", part, effect));
            let arguments = ["wal-fetch", &name, "pg_wal/RECOVERYXLOG"];
            let mut command = cluster.as_postgres(&arguments);
            let fetched = Finished::run(command.env("WALRS_WAL_FETCH_TIMEOUT", "1s"));
            could_not_find_out(&cluster, fetched);
            repository.server().forgive();
        }
    }
    cluster.fetch(&name).expect_status(1);
}

/// F2
#[test]
fn a_wrong_or_missing_key_is_no_proof_of_absence() {
    let (_repository, cluster) = archived(Place::Directory, Sealing::Encrypted);
    for (name, value) in [("WALRS_ENCRYPTION_KEY_FILE", ""), ("WALRS_ENCRYPTION_KEY_FILE", "/none")]
    {
        let mut command = cluster.as_postgres(&["wal-fetch", FIRST, "pg_wal/RECOVERYXLOG"]);
        could_not_find_out(&cluster, Finished::run(command.env(name, value)));
    }
}

/// S8
#[test]
fn the_repository_may_be_named_by_its_id() {
    let (repository, cluster) = archived_plainly();
    let document = fs::read_to_string(repository.object("repository.json")).unwrap();
    let id = document.split("\"repository_id\":\"").nth(1).unwrap()[..32].to_owned();
    let fetch = |id: &str| {
        let arguments = ["wal-fetch", FIRST, "pg_wal/RECOVERYXLOG", "--repository-id", id];
        Finished::run(&mut cluster.as_postgres(&arguments))
    };
    could_not_find_out(&cluster, fetch(&"0".repeat(32)));
    fetch(&id).expect_status(0);
}

/// C1
#[test]
fn a_cluster_named_on_the_command_line_must_be_the_one_of_the_data_directory() {
    let (_repository, cluster) = archived_plainly();
    let number = u64::from_str_radix(&cluster.identifier_in_names(), 16).unwrap();
    let fetch = |cluster: &Cluster, number: u64| {
        let number = number.to_string();
        let arguments = ["wal-fetch", FIRST, "pg_wal/RECOVERYXLOG", "--system-identifier", &number];
        Finished::run(&mut cluster.as_postgres(&arguments))
    };
    could_not_find_out(&cluster, fetch(&cluster, number ^ 1));
    fetch(&cluster, number).expect_status(0);
}

/// C1
#[test]
fn without_a_data_directory_the_newest_cluster_is_meant_and_that_is_said() {
    let (_repository, cluster) = archived_plainly();
    let destination = cluster.scratch().join("segment");
    let mut command = cluster.as_postgres(&["wal-fetch", FIRST, destination.to_str().unwrap()]);
    let fetched = Finished::run(command.current_dir(cluster.scratch().path())).expect_status(0);
    fetched.expect_message("the repository's newest cluster is meant");
    assert_eq!(fs::read(destination).unwrap(), cluster.first_segment());
}

/// W5
#[test]
fn one_of_several_partials_must_be_named() {
    let (repository, cluster) = archived_plainly();
    let partial = format!("{}.partial", segment(1, 2));
    let push = |marker| {
        let version = cluster.forged_segment(&segment(1, 2), marker);
        cluster.write_wal(&partial, &version);
        cluster.push(&partial).expect_success();
        version
    };
    let first = push(1);
    cluster.fetch(&partial).expect_status(0);
    assert_eq!(cluster.fetched(), first);
    fs::remove_file(cluster.wal_file("RECOVERYXLOG")).unwrap();
    let second = push(2);
    let refused = could_not_find_out(&cluster, cluster.fetch(&partial));
    let mut found = Vec::new();
    for key in repository.keys_with(&format!("{partial}/")) {
        let name = key.rsplit_once(&segment(1, 2)[..]).unwrap().1;
        let name = format!("{}{name}", segment(1, 2));
        assert!(refused.stderr.contains(&name), "{refused}");
        cluster.fetch(&name).expect_status(0);
        found.push(cluster.fetched());
    }
    found.sort();
    assert!(found == [first, second]);
}

/// F1
#[test]
fn a_destination_that_is_no_regular_file_is_refused() {
    let (_repository, cluster) = archived_plainly();
    let directory = cluster.scratch().create_directory("directory");
    let link = cluster.scratch().join("link");
    symlink("elsewhere", &link).unwrap();
    let missing = cluster.scratch().join("missing/segment");
    for destination in [&directory, &link, &missing] {
        let mut command = cluster.as_postgres(&["wal-fetch", FIRST, destination.to_str().unwrap()]);
        Finished::run(&mut command).expect_status(UNKNOWN);
    }
    assert_eq!(names_in(&directory), Vec::<String>::new());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

/// F1
#[test]
fn what_a_killed_fetch_left_is_removed_when_it_is_old_enough() {
    let (_repository, cluster) = archived_plainly();
    let (old, young) = (".walrs-tmp-1-0-0000000000000000", ".walrs-tmp-2-0-0000000000000000");
    for name in [old, young] {
        cluster.write_wal(name, b"half a segment");
    }
    let age = std::time::SystemTime::now() - std::time::Duration::from_hours(2);
    fs::File::options().write(true).open(cluster.wal_file(old)).unwrap().set_modified(age).unwrap();
    cluster.fetch(FIRST).expect_status(0);
    assert!(!cluster.wal_file(old).exists() && cluster.wal_file(young).exists());
}

/// F1
#[test]
fn a_fetch_killed_at_any_step_leaves_the_destination_whole_and_can_be_repeated() {
    let (_repository, cluster) = archived_plainly();
    for (step, delivered) in [("wal-fetch:written", false), ("wal-fetch:delivered", true)] {
        cluster.write_wal("RECOVERYXLOG", b"what was there");
        let mut command = cluster.as_postgres(&["wal-fetch", FIRST, "pg_wal/RECOVERYXLOG"]);
        Finished::run(command.env("WALRS_FAILPOINT", format!("{step}=kill")))
            .expect_status(128 + 9);
        assert_eq!(cluster.fetched() == cluster.first_segment(), delivered, "{step}");
        assert_eq!(cluster.fetched() == b"what was there", !delivered, "{step}");
        cluster.fetch(FIRST).expect_success();
        assert_eq!(cluster.fetched(), cluster.first_segment());
    }
}

/// As PostgreSQL starts it; whoever runs the tests in the background makes them ignore some signals.
fn heeding_signals(cluster: &Cluster, arguments: &[&str]) -> Command {
    let inner = cluster.as_postgres(arguments);
    let mut command = ServerUser::get().command("env");
    command.arg("--default-signal").arg(inner.get_program()).args(inner.get_args());
    command.current_dir(cluster.data());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// F6
#[test]
fn a_fetch_dies_by_the_signal_it_got() {
    let (repository, cluster) = archived(Place::Bucket, Sealing::Plain);
    repository.server().inject(Fault::always("GET", FIRST, Effect::Stall));
    for (signal, number) in
        [(Signal::TERM, 15), (Signal::INT, 2), (Signal::QUIT, 3), (Signal::HUP, 1)]
    {
        let asked = repository.server().count("GET", FIRST);
        let mut command = heeding_signals(&cluster, &["wal-fetch", FIRST, "pg_wal/RECOVERYXLOG"]);
        let child = command.spawn().unwrap();
        wait_until("the store is asked", || repository.server().count("GET", FIRST) > asked);
        send(child.id(), signal);
        let output = child.wait_with_output().unwrap();
        assert_eq!(Finished::of(&command, &output).status, 128 + number);
    }
}

/// F2
#[test]
fn a_standby_is_told_to_ask_again_with_the_status_of_its_configuration() {
    let (repository, cluster) = archived_plainly();
    cluster.signal("standby.signal");
    cluster.fetch(FIRST).expect_status(0);
    fs::remove_file(cluster.wal_file("RECOVERYXLOG")).unwrap();
    fs::remove_file(repository.object("repository.json")).unwrap();
    cluster.fetch(FIRST).expect_status(1).expect_message("there is no repository");
    cluster.assert_nothing_fetched();
    let mut command = cluster.as_postgres(&["wal-fetch", FIRST, "pg_wal/RECOVERYXLOG"]);
    Finished::run(command.env("WALRS_WAL_STANDBY_ERROR_EXIT", "255")).expect_status(255);
    let mut command = cluster.as_postgres(&["wal-fetch", FIRST, "pg_wal/RECOVERYXLOG"]);
    Finished::run(command.env("WALRS_CONFIG", "/nonexistent")).expect_status(1);
    touch(&cluster.data().join("recovery.signal"));
    cluster.fetch(FIRST).expect_status(1);
}
