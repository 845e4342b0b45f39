//! `wal-fetch` prefetch where no server runs, so that the asking process fills the window itself; `wal_helper` has the
//! other host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::paused::Paused;
use crate::support::postmaster::{send, wait_until};
use crate::support::program::{Finished, walrs_binary};
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::s3_server::{Effect, Fault};
use crate::support::user::ServerUser;
use crate::support::wal::{FIRST, history, names_in, segment};

const FOREVER: &str = "1h";

/// A stopped cluster in recovery whose segments with these numbers are archived.
fn archived(place: Place, numbers: impl IntoIterator<Item = u32>) -> (TestRepository, Cluster) {
    let repository = TestRepository::new(place, Sealing::Plain);
    let builder = Cluster::builder(Major::V15).using(&repository);
    // Whatever the load of this machine, the window is filled.
    let cluster = builder.variable("WALRS_WAL_FETCH_AHEAD_WAIT", FOREVER).create();
    repository.init(cluster.data()).expect_success();
    cluster.push(FIRST).expect_success();
    for number in numbers {
        cluster.forge(&segment(1, number));
        cluster.push(&segment(1, number)).expect_success();
    }
    cluster.signal("recovery.signal");
    (repository, cluster)
}

fn fetch_with(cluster: &Cluster, name: &str, variable: (&str, &str)) -> Finished {
    let mut command = cluster.as_postgres(&["wal-fetch", name, "pg_wal/RECOVERYXLOG"]);
    Finished::run(command.env(variable.0, variable.1))
}

#[track_caller]
fn assert_delivers(cluster: &Cluster, name: &str) {
    cluster.fetch(name).expect_success();
    assert_eq!(cluster.fetched(), cluster.forged_segment(name, 0), "{name}");
}

/// The complete segments in the spool, and where they lie.
fn prefetched(cluster: &Cluster) -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    collect(&cluster.scratch().join("walrs-spool"), &mut files);
    files.sort();
    files
}

fn collect(directory: &Path, files: &mut Vec<(String, PathBuf)>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match name.split_once('.') {
            _ if path.is_dir() => collect(&path, files),
            Some((segment, digest)) if digest.len() == 64 => files.push((segment.to_owned(), path)),
            _ => {}
        }
    }
}

fn names(files: &[(String, PathBuf)]) -> Vec<&str> {
    files.iter().map(|(name, _)| name.as_str()).collect()
}

/// F3
#[test]
fn the_segments_behind_the_asked_one_are_delivered_without_asking_the_store() {
    let (repository, cluster) = archived(Place::Bucket, 2..=9);
    cluster.fetch(FIRST).expect_success();
    assert_eq!(names(&prefetched(&cluster)), [segment(1, 2), segment(1, 3)]);
    let requests = repository.server().requests().len();
    for number in 2..=3 {
        assert_delivers(&cluster, &segment(1, number));
    }
    assert_eq!(repository.server().requests().len(), requests);
    assert!(prefetched(&cluster).is_empty(), "a hit uses its segment up");
    // PostgreSQL had to wait for the fourth: the window grows.
    assert_delivers(&cluster, &segment(1, 4));
    assert_eq!(prefetched(&cluster).len(), 4);
}

/// F5
#[test]
fn the_window_ends_at_the_first_absent_segment_and_absence_is_asked_for() {
    for place in Place::ALL {
        let (_repository, cluster) = archived(place, [2, 4]);
        cluster.fetch(FIRST).expect_success();
        assert_eq!(names(&prefetched(&cluster)), [segment(1, 2)]);
        assert_delivers(&cluster, &segment(1, 2));
        cluster.forge(&segment(1, 3));
        cluster.push(&segment(1, 3)).expect_success();
        assert_delivers(&cluster, &segment(1, 3));
        cluster.fetch(&segment(1, 5)).expect_status(1);
    }
}

/// F3
#[test]
fn what_was_damaged_in_the_spool_is_fetched_again() {
    let damage: [fn(&mut Vec<u8>); 3] =
        [|bytes| bytes[9_000_000] ^= 1, |bytes| bytes.truncate(1 << 20), Vec::clear];
    for damage in damage {
        let (_repository, cluster) = archived(Place::Directory, 2..=3);
        cluster.fetch(FIRST).expect_success();
        let (_, path) = prefetched(&cluster).remove(0);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        assert_delivers(&cluster, &segment(1, 2));
    }
}

/// F4
#[test]
fn a_segment_of_another_name_repository_or_data_directory_is_not_delivered() {
    let (repository, cluster) = archived(Place::Directory, 2..=3);
    cluster.fetch(FIRST).expect_success();
    let files = prefetched(&cluster);
    // Another name.
    let digest = files[1].1.extension().unwrap().to_string_lossy().into_owned();
    fs::remove_file(&files[0].1).unwrap();
    let misnamed = files[0].1.with_file_name(format!("{}.{digest}", segment(1, 2)));
    fs::copy(&files[1].1, &misnamed).unwrap();
    ServerUser::get().own(&misnamed);
    assert_delivers(&cluster, &segment(1, 2));
    // Another repository.
    let elsewhere = cluster.scratch().create_directory("elsewhere").display().to_string();
    fetch_with(&cluster, &segment(1, 3), ("WALRS_REPOSITORY", &elsewhere)).expect_status(255);
    let mut other = cluster.as_postgres(&["wal-fetch", &segment(1, 3), "pg_wal/RECOVERYXLOG"]);
    other.args(["--repository-id", "00000000000000000000000000000000"]);
    Finished::run(&mut other).expect_status(255);
    // Another data directory with the same spool.
    let copy = cluster.stopped_copy("copy");
    fs::remove_file(repository.object(&cluster.segment_key(&segment(1, 3)))).unwrap();
    copy.fetch(&segment(1, 3)).expect_status(1);
    assert_delivers(&cluster, &segment(1, 3));
}

/// F8
#[test]
fn an_abandoned_branch_is_not_delivered_from_the_spool() {
    let (_repository, cluster) = archived(Place::Directory, 2..=3);
    cluster.fetch(FIRST).expect_success();
    cluster.write_wal(&history(2), "1\t0/2000028\tno recovery target specified\n");
    let refused = cluster.fetch(&segment(1, 2)).expect_status(255);
    refused.expect_message("abandoned branch");
}

#[test]
fn nothing_is_fetched_ahead_for_who_does_not_replay_or_goes_backwards() {
    let (_repository, cluster) = archived(Place::Directory, 2..=9);
    fs::remove_file(cluster.data().join("recovery.signal")).unwrap();
    assert_delivers(&cluster, &segment(1, 5));
    assert!(prefetched(&cluster).is_empty());
    // pg_rewind over a standby.
    cluster.signal("standby.signal");
    for number in (2..=6).rev() {
        assert_delivers(&cluster, &segment(1, number));
        let expected = if number == 6 { 2 } else { 0 };
        assert_eq!(prefetched(&cluster).len(), expected, "{number}");
    }
}

#[test]
fn prefetch_can_be_switched_off_and_does_without_a_spool() {
    let (_repository, cluster) = archived(Place::Directory, 2..=3);
    let switches = [
        ("WALRS_WAL_FETCH_AHEAD", "0"),
        ("WALRS_WAL_FETCH_AHEAD_BYTES", "15MiB"),
        ("WALRS_SPOOL", "/proc/walrs"),
    ];
    for switch in switches {
        fetch_with(&cluster, FIRST, switch).expect_success();
        assert!(prefetched(&cluster).is_empty(), "{switch:?}");
    }
}

/// F1, F3
#[test]
fn a_fetch_killed_while_it_fills_the_window_can_be_repeated() {
    for step in ["begun", "written", "complete"] {
        let (_repository, cluster) = archived(Place::Directory, 2..=4);
        let point = format!("prefetch:{step}=kill");
        fetch_with(&cluster, FIRST, ("WALRS_FAILPOINT", &point)).expect_status(128 + 9);
        for number in 2..=4 {
            assert_delivers(&cluster, &segment(1, number));
        }
    }
}

/// A store that does not answer for the segments behind must not keep a segment that is delivered.
#[test]
fn what_cannot_be_fetched_ahead_neither_fails_nor_holds_the_asked_segment() {
    for effect in [Effect::Stall, Effect::Refuse { status: 403, code: "AccessDenied" }] {
        let (repository, cluster) = archived(Place::Bucket, 2..=3);
        repository.server().inject(Fault::always("GET", &segment(1, 2), effect));
        fetch_with(&cluster, FIRST, ("WALRS_WAL_FETCH_AHEAD_WAIT", "1s")).expect_success();
        assert!(!names(&prefetched(&cluster)).contains(&segment(1, 2).as_str()));
        repository.server().forgive();
        assert_delivers(&cluster, &segment(1, 2));
    }
}

/// A fetch that waits for another process, which downloads its segment.
fn waiting_for_a_download(
    cluster: &Cluster,
) -> (Paused, std::process::Child, std::process::Command) {
    let command = cluster.as_postgres(&["wal-fetch", FIRST, "pg_wal/RECOVERYXLOG"]);
    let downloading = Paused::at("prefetch:written", command, cluster);
    let mark = cluster.scratch().join("waits");
    let mut command = cluster.as_postgres(&["wal-fetch", &segment(1, 2), "pg_wal/RECOVERYXLOG"]);
    command.env("WALRS_FAILPOINT", format!("wal-fetch:under-way=pause:{}", mark.display()));
    command.env("WALRS_WAL_FETCH_TIMEOUT", FOREVER);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_until("the second fetch has found the download", || mark.exists());
    fs::remove_file(&mark).unwrap();
    (downloading, child, command)
}

/// F3
#[test]
fn a_fetch_waits_for_a_download_that_is_under_way_and_fetches_itself_when_its_process_dies() {
    let (_repository, cluster) = archived(Place::Directory, [2]);
    let (downloading, waiting, command) = waiting_for_a_download(&cluster);
    send(downloading.pid(), Signal::KILL);
    downloading.end().expect_status(128 + 9);
    Finished::of(&command, &waiting.wait_with_output().unwrap()).expect_success();
    assert_eq!(cluster.fetched(), cluster.forged_segment(&segment(1, 2), 0));
}

/// F3
#[test]
fn a_fetch_takes_over_what_a_download_under_way_has_completed() {
    let (repository, cluster) = archived(Place::Directory, [2]);
    let (downloading, waiting, command) = waiting_for_a_download(&cluster);
    // Only the download has it now.
    fs::remove_file(repository.object(&cluster.segment_key(&segment(1, 2)))).unwrap();
    downloading.resume().expect_success();
    Finished::of(&command, &waiting.wait_with_output().unwrap()).expect_success();
    assert_eq!(cluster.fetched(), cluster.forged_segment(&segment(1, 2), 0));
}

/// Fetches the first segment, as `script` says, with a spool of 64 MiB; what is in the spool then is on stdout.
fn fetch_with_small_spool(cluster: &Cluster, script: &str, variables: &[(&str, &str)]) -> Finished {
    let spool = cluster.scratch().create_directory("small");
    let script = format!(
        "mount -t tmpfs -o size=64m,mode=777 walrs-test \"$WALRS_SPOOL\" && cd \"$PGDATA\" || exit 99\n\
         {script}\nstatus=$?; ls -R \"$WALRS_SPOOL\"; exit $status"
    );
    let mut command = ServerUser::get().command("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &script]).arg(walrs_binary());
    let environment = cluster.as_postgres(&[]);
    command.envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PGDATA", cluster.data()).env("WALRS_SPOOL", &spool);
    Finished::run(command.env("ASKED", FIRST).envs(variables.iter().copied())).expect_success()
}

#[test]
fn a_disk_without_room_for_the_window_gets_none() {
    let (_repository, cluster) = archived(Place::Directory, 2..=3);
    let script = "\"$0\" wal-fetch \"$ASKED\" pg_wal/RECOVERYXLOG";
    let fetched = fetch_with_small_spool(&cluster, script, &[]);
    assert!(!fetched.stdout.contains(&segment(1, 2)), "{fetched}");
    assert!(fetched.stdout.contains("fetched-ahead"), "{fetched}");
}

/// F3: the asked segment is delivered, and nothing of what did not fit is left, whole or in part.
#[test]
fn a_disk_that_fills_while_a_segment_is_fetched_ahead_fails_nothing_and_keeps_nothing() {
    let (_repository, cluster) = archived(Place::Directory, 2..=2);
    let begun = cluster.scratch().join("begun").display().to_string();
    let script = "\"$0\" wal-fetch \"$ASKED\" pg_wal/RECOVERYXLOG & fetch=$!\n\
                  while ! [ -e \"$BEGUN\" ]; do sleep 0.1; done\n\
                  head -c 64m /dev/zero > \"$WALRS_SPOOL/full\" 2> /dev/null && exit 98\n\
                  rm \"$BEGUN\"; wait $fetch";
    let pause = format!("prefetch:begun=pause:{begun}");
    let variables =
        [("WALRS_FAILPOINT", &*pause), ("BEGUN", &begun), ("WALRS_WAL_FETCH_AHEAD", "1")];
    let fetched = fetch_with_small_spool(&cluster, script, &variables);
    assert!(fetched.stdout.contains("full"), "{fetched}");
    assert!(!fetched.stdout.contains(&segment(1, 2)), "{fetched}");
    assert_eq!(cluster.fetched(), cluster.forged_segment(FIRST, 0));
    assert_delivers(&cluster, &segment(1, 2));
}

#[test]
fn a_new_repository_empties_the_place_of_the_old_one() {
    let (_repository, cluster) = archived(Place::Directory, 2..=3);
    cluster.fetch(FIRST).expect_success();
    let other = TestRepository::plain_directory();
    let elsewhere = ("WALRS_REPOSITORY", other.url());
    other.init(cluster.data()).expect_success();
    for name in [FIRST, &segment(1, 2)] {
        let path = format!("pg_wal/{name}");
        let mut command = cluster.as_postgres(&["wal-push", &path]);
        Finished::run(command.env(elsewhere.0, elsewhere.1)).expect_success();
    }
    fetch_with(&cluster, FIRST, elsewhere).expect_success();
    assert_eq!(names(&prefetched(&cluster)), [segment(1, 2)]);
    let spool = cluster.scratch().join("walrs-spool");
    let of_cluster = names_in(&spool).into_iter().find(|name| name.starts_with("fetched-ahead"));
    assert_eq!(names_in(&spool.join(of_cluster.unwrap())).len(), 1);
}
