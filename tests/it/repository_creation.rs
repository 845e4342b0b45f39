//! Making a repository when something comes in between: a store that stumbles, another command, another user.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::sync::Arc;

use walrs::config::{Config, Environment};
use walrs::error::{ErrorKind, Result};
use walrs::postgres::{SegmentSize, SystemIdentifier};
use walrs::repository::{Creation, FirstCluster, Opening, Repository};
use walrs::storage::FsStorage;

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::program::{Finished, walrs_binary};
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::s3_server::{Effect, Fault};
use crate::support::user::ServerUser;

fn data_directory(repository: &TestRepository) -> Cluster {
    Cluster::builder(Major::V15).using(repository).create()
}

const STUMBLE: Effect = Effect::Refuse { status: 503, code: "SlowDown" };

/// S4: the answer that was tried again belongs to the second creation, not to the first.
#[test]
fn a_store_that_stumbles_while_it_is_probed_is_not_taken_for_one_that_overwrites() {
    let repository = TestRepository::new(Place::Bucket, Sealing::Plain);
    let cluster = data_directory(&repository);
    repository.server().inject(Fault::once("PUT", "epochs/", STUMBLE).sparing(1));
    cluster.walrs(&["init"]).expect_success();
    repository.server().inject(Fault::once("PUT", "epochs/", STUMBLE));
    let checked = cluster.walrs(&["check"]);
    assert!(checked.stdout.contains("this host may write"), "{checked}");
}

/// S4
#[test]
fn a_store_that_overwrites_is_refused_and_check_warns_of_one_that_was_accepted() {
    let repository = TestRepository::new(Place::Bucket, Sealing::Plain);
    let cluster = data_directory(&repository);
    repository.server().inject(Fault::always("PUT", "", Effect::IgnoreCondition));
    cluster.walrs(&["init"]).expect_status(3).expect_message("ignores conditional creation");
    assert_eq!(repository.keys_with("repository.json"), [""; 0]);
    let mut single = cluster.walrs_command(&["init"]);
    Finished::run(single.env("WALRS_SINGLE_WRITER", "true"))
        .expect_success()
        .expect_message("only one host may ever write");
    let mut check = cluster.walrs_command(&["check"]);
    let checked = Finished::run(check.env("WALRS_SINGLE_WRITER", "true"));
    assert!(checked.stdout.contains("two writers could overwrite"), "{checked}");
}

/// S4
#[test]
fn a_store_that_begins_to_overwrite_is_noticed_by_check() {
    let repository = TestRepository::new(Place::Bucket, Sealing::Plain);
    let cluster = data_directory(&repository);
    cluster.walrs(&["init"]).expect_success();
    // Last-Modified has seconds: what is overwritten within the second of its making cannot be told by it.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    repository.server().inject(Fault::always("PUT", "", Effect::IgnoreCondition));
    let checked = cluster.walrs(&["check"]);
    assert!(checked.stdout.contains("two writers could overwrite"), "{checked}");
}

#[test]
fn check_takes_an_empty_place_for_new_and_one_with_other_things_for_wrong() {
    let repository = TestRepository::plain_directory();
    let cluster = data_directory(&repository);
    let checked = cluster.walrs(&["check"]);
    assert!(checked.stdout.contains("warning repository         none yet"), "{checked}");
    std::fs::write(repository.object("letter.txt"), b"dear reader").unwrap();
    let checked = cluster.walrs(&["check"]);
    assert!(
        checked.stdout.contains("ERROR   repository         there is no repository"),
        "{checked}"
    );
}

/// A key slot without a repository is somebody's encrypted one in the making.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_push_makes_no_plain_repository_where_an_encrypted_one_was_begun() {
    let repository = TestRepository::new(Place::Directory, Sealing::Encrypted);
    let cluster = data_directory(&repository);
    let mut init = repository.walrs_command(cluster.data());
    init.args(["init", "--encrypt", "--new-key-file"]).arg(repository.key_file());
    init.env_remove("WALRS_ENCRYPTION_KEY_FILE").env("WALRS_FAILPOINT", "init:slot=kill");
    Finished::run(&mut init).expect_status(128 + 9);
    let refused = push_first(&repository).await.expect_err("it was to be encrypted");
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused:?}");
    assert!(refused.report().contains("walrs init"), "{refused:?}");
    assert_eq!(repository.keys_with("repository.json"), [""; 0]);
}

/// Opens as the first `wal-push` of a cluster does that has nothing configured but the URL.
async fn push_first(repository: &TestRepository) -> Result<Repository> {
    let config = Config::load(None, Vec::new(), Environment::default())?;
    let first = FirstCluster {
        system_identifier: SystemIdentifier::new(7_000_000_000_000_000_001),
        segment_size: SegmentSize::DEFAULT,
    };
    let storage = Arc::new(FsStorage::new(repository.path()));
    let settings = &config.settings()?;
    Opening { storage, settings, site: None, expected: None }.open(Creation::By(first)).await
}

/// S8: a witness that the server's user cannot read would stop all archiving.
#[test]
fn a_witness_can_be_read_by_every_user_whatever_the_umask_was() {
    let repository = TestRepository::plain_directory();
    let cluster = data_directory(&repository);
    let mut masked = Command::new("sh");
    masked.args(["-c", "umask 077; exec \"$0\" init"]).arg(walrs_binary());
    masked.env_clear().envs(repository.environment()).env("PGDATA", cluster.data());
    Finished::run(&mut masked).expect_success();
    let witness = witness_beside(&cluster);
    assert_eq!(fs::metadata(witness).unwrap().permissions().mode() & 0o777, 0o644);
}

/// S8
#[test]
fn a_spool_that_is_configured_later_does_not_make_the_witness_forgotten() {
    let repository = TestRepository::plain_directory();
    let cluster = data_directory(&repository);
    cluster.walrs(&["init"]).expect_success();
    fs::remove_file(repository.object("repository.json")).unwrap();
    let spool = cluster.scratch().create_directory("elsewhere").join("spool");
    let mut check = cluster.walrs_command(&["check"]);
    let checked = Finished::run(check.env("WALRS_SPOOL", spool)).expect_status(3);
    assert!(checked.stdout.contains("last seen at"), "{checked}");
}

fn witness_beside(cluster: &Cluster) -> std::path::PathBuf {
    let beside = fs::read_dir(cluster.data().parent().unwrap()).unwrap();
    let mut names = beside.map(|entry| entry.unwrap().path());
    names.find(|path| path.to_string_lossy().contains("witness")).expect("a witness was left")
}

/// Root runs `init` and backups, postgres archives: what root makes belongs to whom the directory belongs.
#[test]
fn what_root_makes_in_a_directory_belongs_to_its_owner() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can make files for others");
        return;
    }
    let repository = TestRepository::plain_directory();
    let cluster = data_directory(&repository);
    let owner = fs::metadata(cluster.data()).unwrap().uid();
    let made = repository.path().join("made/by/init");
    let mut init = Command::new(walrs_binary());
    init.env_clear().env("PGDATA", cluster.data()).env("WALRS_REPOSITORY", &made).arg("init");
    Finished::run(&mut init).expect_success();
    for path in [
        made.clone(),
        made.join("epochs"),
        made.join("epochs/00000001.json"),
        made.join("repository.json"),
    ] {
        assert_eq!(fs::metadata(&path).unwrap().uid(), owner, "{}", path.display());
    }
    let mut check = ServerUser::get().command(walrs_binary());
    check.env("PGDATA", cluster.data()).env("WALRS_REPOSITORY", &made).arg("check");
    let checked = Finished::run(&mut check);
    assert!(checked.stdout.contains("this host may write"), "{checked}");
}
