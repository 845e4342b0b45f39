//! The settings with which a restored server recovers, and what it archives.

use super::story::{commit, prepare, rows};
use super::{archiving, back_up, restore, try_restore};
use crate::support::installation::Major;
use crate::support::oracle;
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::{Place, Sealing, TestRepository};

/// R7
#[test]
fn a_copy_archives_nothing_until_it_is_told_to() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    prepare(&mut source);
    back_up(&source);
    source.archive_all();
    let (mut copy, restored) = try_restore(&source, "copy", &[]);
    restored.expect_success().expect_message("ALTER SYSTEM SET archive_mode = on");
    let before = repository.keys();
    copy.recover_to(RecoveryEnd::Promoted);
    assert_eq!(copy.psql("show archive_mode"), "off");
    commit(&copy, 1);
    copy.switch_wal();
    assert_eq!(repository.keys(), before);
    copy.psql("alter system set archive_mode = on");
    copy.environment_mut().extend(source.environment().clone());
    copy.restart();
    assert_eq!(copy.psql("show archive_mode"), "on");
    let segment = copy.archive_all();
    assert!(!repository.keys_with(&segment).is_empty());
}

/// R7
#[test]
fn a_standby_keeps_archiving_and_follows_the_archive() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    prepare(&mut source);
    back_up(&source);
    let (mut standby, restored) = try_restore(&source, "standby", &["--standby"]);
    restored.expect_success().expect_message("archiving is as the source had it");
    standby.start();
    assert_eq!(standby.psql("show archive_mode"), "on");
    commit(&source, 1);
    source.archive_all();
    standby.wait_for("select count(*) = 2 from rows");
    assert_eq!(standby.psql("select pg_is_in_recovery()"), "t");
}

/// A source may carry targets of its own, in more than one file: PostgreSQL refuses to start with two of them.
fn targets_of_the_source_give_way(major: Major) {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(major, &repository);
    prepare(&mut source);
    source.set("recovery_target_time", "2020-01-01 00:00:00+00");
    source.psql("alter system set recovery_target_name = 'never'");
    source.psql("alter system set recovery_target_action = 'shutdown'");
    source.psql("alter system set recovery_min_apply_delay = '1h'");
    back_up(&source);
    let one = commit(&source, 1);
    commit(&source, 2);
    source.archive_all();
    let copy = restore(&source, "copy", &["--to-xid", &one.xid]);
    assert_eq!(rows(&copy), "0 1");
    assert_eq!(rows(&restore(&source, "end", &[])), "0 1 2");
    drop(copy);
}

#[test]
fn targets_of_a_source_of_13_give_way() {
    targets_of_the_source_give_way(Major::V13);
}

#[test]
fn targets_of_a_source_of_15_give_way() {
    targets_of_the_source_give_way(Major::V15);
}

#[test]
fn targets_of_a_source_of_17_give_way() {
    targets_of_the_source_give_way(Major::V17);
}

/// What a restored copy is restored from again carries the settings of the first restore.
#[test]
fn a_copy_of_a_copy_recovers_to_its_own_target() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    prepare(&mut source);
    back_up(&source);
    let one = commit(&source, 1);
    commit(&source, 2);
    source.archive_all();
    let arguments = ["--to-xid", &one.xid, "--archive", "keep"];
    let (mut copy, restored) = try_restore(&source, "copy", &arguments);
    restored.expect_success();
    copy.environment_mut().extend(source.environment().clone());
    copy.recover_to(RecoveryEnd::Promoted);
    back_up(&copy);
    commit(&copy, 3);
    copy.archive_all();
    let again = restore(&source, "again", &[]);
    assert_eq!(rows(&again), "0 1 3");
    let settings = std::fs::read_to_string(again.data().join("postgresql.auto.conf")).unwrap();
    assert_eq!(settings.matches("# begin of the settings of walrs").count(), 1);
}

/// In a bucket or a directory, plain or encrypted, recovery finds its way without any variable but credentials.
#[test]
fn recovery_works_from_an_empty_environment_wherever_the_repository_is() {
    for (place, sealing) in [
        (Place::Directory, Sealing::Encrypted),
        (Place::Bucket, Sealing::Plain),
        (Place::Bucket, Sealing::Encrypted),
    ] {
        let repository = TestRepository::new(place, sealing);
        let mut source = archiving(Major::V15, &repository);
        prepare(&mut source);
        back_up(&source);
        commit(&source, 1);
        source.archive_all();
        let (mut copy, restored) = try_restore(&source, "copy", &[]);
        let restored = restored.expect_success();
        let settings = std::fs::read_to_string(copy.data().join("postgresql.auto.conf")).unwrap();
        if place == Place::Bucket {
            restored.expect_message("must carry AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY");
            let secret = &repository.environment()["AWS_SECRET_ACCESS_KEY"];
            assert!(!settings.contains(secret), "K2");
        }
        copy.recover_to(RecoveryEnd::Promoted);
        oracle::assert_same_rows(&source, &copy);
    }
}

/// A configuration file with paths that need quoting, and values that only flags and variables carry.
#[test]
fn recovery_reads_the_same_configuration_file() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    prepare(&mut source);
    back_up(&source);
    commit(&source, 1);
    source.archive_all();
    let directory = source.scratch().create_directory("it's 100%");
    let content = format!("repository = {:?}\n", repository.url());
    source.scratch().write("it's 100%/walrs.toml", content);
    let mut copy = source.sibling("copy");
    let mut command =
        source.walrs_command(&["restore", copy.data_argument(), "--config", "walrs.toml"]);
    command.env_remove("WALRS_REPOSITORY").current_dir(&directory);
    crate::support::program::Finished::run(&mut command).expect_success();
    copy.environment_mut().clear();
    copy.recover_to(RecoveryEnd::Promoted);
    assert_eq!(rows(&copy), "0 1");
}
