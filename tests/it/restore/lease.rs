//! A restore tells the sweeper what it needs.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use walrs::container::seal_control;
use walrs::repository::Tombstone;

use super::{archiving, back_up, try_restore};
use crate::support::installation::Major;
use crate::support::postmaster::wait_until;
use crate::support::program::Finished;
use crate::support::repository::TestRepository;

#[test]
fn a_restore_leaves_a_lease_of_its_backup_and_its_first_segment() {
    let repository = TestRepository::plain_directory();
    let source = archiving(Major::V15, &repository);
    let backup = back_up(&source);
    try_restore(&source, "copy", &["--immediate"]).1.expect_success();
    let leases = repository.keys_with("leases/");
    assert_eq!(leases.len(), 1);
    let lease: Value =
        serde_json::from_slice(&fs::read(repository.object(&leases[0])).unwrap()).unwrap();
    assert_eq!(lease["backup_id"], backup.as_str());
    assert_eq!(lease["first_segment"], "000000010000000000000002");
    assert_eq!(lease["seconds"], 7 * 24 * 3600);
}

/// The lease goes first and the tombstone is read after it.
#[test]
fn a_backup_that_is_condemned_before_the_lease_is_refused() {
    let repository = TestRepository::plain_directory();
    let source = archiving(Major::V15, &repository);
    let backup = back_up(&source);
    let copy = source.sibling("copy");
    let pause = source.scratch().join("paused");
    let mut command = source.walrs_command(&["restore", copy.data_argument(), "--immediate"]);
    command.env("WALRS_FAILPOINT", format!("restore:chosen=pause:{}", pause.display()));
    let restoring = std::thread::spawn(move || Finished::run(&mut command));
    wait_until("the backup is chosen", || pause.exists());
    let tombstone = Tombstone {
        backup_id: backup.parse().unwrap(),
        created: "2026-11-20T10:00:00Z".parse().unwrap(),
        reason: "a test".to_owned(),
    };
    let path = repository.object(&format!("tombstones/{backup}.json"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, seal_control(&tombstone).unwrap()).unwrap();
    fs::remove_file(&pause).unwrap();
    restoring.join().unwrap().expect_status(3).expect_message("is condemned");
    assert!(!copy.data().exists());
    let (_, refused) = try_restore(&source, "again", &["--immediate"]);
    refused.expect_status(1).expect_message("there is no backup");
}

#[test]
fn where_nothing_may_be_put_the_restore_says_until_when_it_must_be_over() {
    let repository = TestRepository::plain_directory();
    let source = archiving(Major::V15, &repository);
    back_up(&source);
    // Owned by whoever runs the tests, and closed to the server's user.
    let leases = repository.object("leases");
    fs::create_dir(&leases).unwrap();
    fs::set_permissions(&leases, fs::Permissions::from_mode(0o555)).unwrap();
    let (_, restored) = try_restore(&source, "copy", &["--immediate"]);
    restored.expect_success().expect_message("no lease could be put").expect_message("deadline=");
}
