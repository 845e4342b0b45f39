//! A full disk, on the side of the repository and on the side of the server.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::program::{Finished, walrs_binary};
use crate::support::repository::TestRepository;
use crate::support::user::ServerUser;
use crate::support::wal::{FIRST, segment};

/// Runs walrs where `directory` is a disk of 2 MiB; what it leaves there is listed on stdout.
fn with_full_disk(directory: &Path, cluster: &Cluster, arguments: &[&str]) -> Finished {
    let script = "mount -t tmpfs -o size=2m,mode=777 walrs-test \"$1\" && cd \"$2\" && shift 2 || exit 99\n\
                  \"$@\"; status=$?; find \"$DISK\" -mindepth 1; exit $status";
    let mut command: Command = ServerUser::get().command("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command.arg(directory).arg(cluster.data()).arg(walrs_binary()).args(arguments);
    command.envs(
        cluster.walrs_command(&[]).get_envs().filter_map(|(name, value)| Some((name, value?))),
    );
    Finished::run(command.env("DISK", directory))
}

/// A cluster whose first segment is archived, and a second one of noise in `pg_wal`.
fn archived() -> (TestRepository, Cluster) {
    let repository = TestRepository::plain_directory();
    let cluster = Cluster::builder(Major::V15).using(&repository).create();
    cluster.push(FIRST).expect_success();
    let mut noise = cluster.forged_segment(&segment(1, 2), 0);
    blake3::Hasher::new().finalize_xof().fill(&mut noise[8192..]);
    cluster.write_wal(&segment(1, 2), noise);
    (repository, cluster)
}

/// W2
#[test]
fn a_push_to_a_full_disk_fails_and_leaves_nothing() {
    let (repository, cluster) = archived();
    let directory = repository.object(&cluster.segment_key(FIRST));
    let directory = directory.parent().unwrap();
    let path = format!("pg_wal/{}", segment(1, 2));
    let failed = with_full_disk(directory, &cluster, &["wal-push", &path]).expect_status(4);
    assert_eq!(failed.expect_message("full").stdout, "");
    cluster.push(&segment(1, 2)).expect_success();
}

/// F1, F2
#[test]
fn a_fetch_to_a_full_disk_could_not_find_out_and_leaves_nothing() {
    let (_repository, cluster) = archived();
    cluster.push(&segment(1, 2)).expect_success();
    let disk = cluster.scratch().create_directory("disk");
    let destination = disk.join("RECOVERYXLOG").display().to_string();
    let arguments = ["wal-fetch", &segment(1, 2), &destination];
    let failed = with_full_disk(&disk, &cluster, &arguments).expect_status(255);
    let failed = failed.expect_message("No space left");
    assert_eq!(failed.stdout, "");
    assert_eq!(fs::read_dir(&disk).unwrap().count(), 0);
}
