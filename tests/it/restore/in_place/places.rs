//! Where things lie stays as it is: links of tablespaces and of `pg_wal`, and what belongs to walrs.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use super::{archiving, back_up, mapping, try_in_place};
use crate::restore::story::{commit, prepare, rows};
use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::postmaster::Stop;
use crate::support::program::{Finished, walrs_binary};
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::TestRepository;
use crate::support::user::ServerUser;

/// Moves a directory and leaves a link.
fn move_behind_link(directory: &Path, to: &Path) {
    Finished::run(std::process::Command::new("mv").arg(directory).arg(to)).expect_success();
    symlink(to, directory).unwrap();
    ServerUser::get().own_tree(to);
}

/// R6
#[test]
fn links_of_tablespaces_stay_unless_mapped_and_other_versions_are_left_alone() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    source.create_tablespace("stays");
    let mapped = source.create_tablespace("mapped");
    source.psql("create table one tablespace stays as select 1 as id");
    source.psql("create table two tablespace mapped as select 2 as id");
    let (oid, _) = mapping(&source, "stays", "moved");
    let (other, arguments) = mapping(&source, "mapped", "mapped-now");
    back_up(&source);
    source.archive_all();
    source.stop(Stop::Fast);
    // An administrator moved one of them since the backup; another version's cluster shares its directory.
    let (link, moved) =
        (source.data().join(format!("pg_tblspc/{oid}")), source.scratch().join("moved"));
    let before = fs::read_link(&link).unwrap();
    fs::remove_file(&link).unwrap();
    Finished::run(std::process::Command::new("mv").arg(&before).arg(&moved)).expect_success();
    symlink(&moved, &link).unwrap();
    fs::create_dir_all(moved.join("PG_13_202007201/5")).unwrap();
    fs::write(moved.join("PG_13_202007201/5/1"), "of another cluster").unwrap();
    let own = fs::read_dir(&moved).unwrap().map(|entry| entry.unwrap().path());
    let own = own.into_iter().find(|path| path.to_string_lossy().contains("PG_15")).unwrap();
    fs::write(own.join("unlisted"), "gone").unwrap();
    let done = try_in_place(&source, &["--tablespace", &arguments]).expect_success();
    done.expect_message(&format!("tablespace {other} leaves `{}`", mapped.display()));
    assert_eq!(fs::read_link(&link).unwrap(), moved);
    assert_eq!(fs::read(moved.join("PG_13_202007201/5/1")).unwrap(), b"of another cluster");
    assert!(!own.join("unlisted").exists());
    assert!(!moved.join(".walrs-restore-in-progress").exists());
    source.recover_to(RecoveryEnd::Promoted);
    assert_eq!(fs::read_link(&link).unwrap(), moved, "no map of tablespaces moved it back");
    assert_eq!(source.psql("select one.id, two.id from one, two"), "1|2");
}

/// R6
#[test]
fn wal_behind_a_link_is_emptied_there_and_the_link_stays() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V17, &repository);
    prepare(&mut source);
    source.stop(Stop::Fast);
    let (wal, place) = (source.data().join("pg_wal"), source.scratch().join("wal-disk"));
    move_behind_link(&wal, &place);
    source.start();
    back_up(&source);
    commit(&source, 1);
    source.archive_all();
    source.stop(Stop::Fast);
    fs::create_dir(place.join("lost+found")).unwrap();
    try_in_place(&source, &[]).expect_success();
    assert_eq!(fs::read_link(&wal).unwrap(), place);
    let mut names: Vec<_> =
        fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["archive_status", "lost+found", "summaries"]);
    source.recover_to(RecoveryEnd::Promoted);
    assert_eq!(rows(&source), "0 1");
    source.stop(Stop::Fast);
    fs::remove_file(&wal).unwrap();
    symlink(place.join("unmounted"), &wal).unwrap();
    try_in_place(&source, &["--discard-unarchived-wal"])
        .expect_status(3)
        .expect_message("mounted?");
}

/// R6
#[test]
fn a_tablespace_inside_the_data_directory_is_no_unlisted_directory() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    prepare(&mut source);
    let inside = source.data().join("deep/inside");
    fs::create_dir_all(&inside).unwrap();
    ServerUser::get().own_tree(&source.data().join("deep"));
    back_up_with_tablespace(&source, &inside);
    source.stop(Stop::Fast);
    fs::write(inside.join("PG_15_202209061/unlisted"), "gone").unwrap();
    fs::write(source.data().join("deep/unlisted"), "gone").unwrap();
    try_in_place(&source, &[]).expect_success();
    assert!(!inside.join("PG_15_202209061/unlisted").exists());
    assert!(!source.data().join("deep/unlisted").exists());
    source.recover_to(RecoveryEnd::Promoted);
    assert_eq!(source.psql("select id from there"), "1");
}

fn back_up_with_tablespace(source: &Cluster, location: &Path) {
    source.psql(&format!(
        "set client_min_messages = error; create tablespace inside location '{}'",
        location.display()
    ));
    source.psql("create table there tablespace inside as select 1 as id");
    back_up(source);
    source.archive_all();
}

/// R6
#[test]
fn a_tablespace_in_place_is_brought_back_in_place() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    // Without the setting, the server refuses to recover with one.
    source.set("allow_in_place_tablespaces", "on");
    source.reload();
    source.psql("set allow_in_place_tablespaces = on; create tablespace here location ''");
    source.psql("create table there tablespace here as select 1 as id");
    back_up(&source);
    source.psql("insert into there values (2)");
    source.archive_all();
    source.stop(Stop::Fast);
    try_in_place(&source, &["--immediate"]).expect_success();
    source.recover_to(RecoveryEnd::Promoted);
    assert_eq!(source.psql("select id from there"), "1");
}

/// R6
#[test]
fn the_spool_in_the_data_directory_and_the_witness_survive() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    back_up(&source);
    source.archive_all();
    source.stop(Stop::Fast);
    let configured = source.data().join("of-walrs/spool");
    let kept =
        ["walrs-spool/mark", "walrs-spool-witness-0123456789abcdef.json", "of-walrs/spool/mark"];
    for path in kept.map(|path| source.data().join(path)) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "kept").unwrap();
    }
    fs::write(source.data().join("of-walrs/unlisted"), "gone").unwrap();
    ServerUser::get().own_tree(&source.data().join("of-walrs"));
    let spool = configured.to_str().unwrap().to_owned();
    source.environment_mut().insert("WALRS_SPOOL".to_owned(), spool);
    // The witness that this would find in the data directory is none of ours.
    fs::remove_file(source.data().join(kept[1])).unwrap();
    fs::write(source.data().join("walrs-spool-witness-other.json"), "kept").unwrap();
    try_in_place(&source, &[]).expect_success();
    for path in ["walrs-spool/mark", "walrs-spool-witness-other.json", "of-walrs/spool/mark"] {
        assert_eq!(fs::read(source.data().join(path)).unwrap(), b"kept", "{path}");
    }
    assert!(!source.data().join("of-walrs/unlisted").exists());
}

/// R5, R6
#[test]
fn root_brings_a_cluster_back_for_its_owner() {
    if !ServerUser::get().differs_from_caller() {
        eprintln!("SKIPPED: only root can show what root restores");
        return;
    }
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    prepare(&mut source);
    back_up(&source);
    commit(&source, 1);
    source.archive_all();
    source.stop(Stop::Fast);
    fs::remove_file(source.data().join("base/1/1259")).unwrap();
    // Of root: it is made anew, or given back.
    fs::write(source.data().join("PG_VERSION"), "16").unwrap();
    Finished::run(
        std::process::Command::new("chown").arg("root").arg(source.data().join("base/1/1247")),
    )
    .expect_success();
    let mut command = std::process::Command::new(walrs_binary());
    command.env_clear().envs(source.environment());
    command.args(["restore", source.data_argument(), "--in-place"]);
    Finished::run(&mut command).expect_success();
    let mut find = std::process::Command::new("find");
    let owner = source.data().metadata().unwrap().uid().to_string();
    let others = find.arg(source.data()).args(["!", "-uid", &owner]);
    assert_eq!(Finished::run(others).expect_success().stdout, "");
    source.recover_to(RecoveryEnd::Promoted);
    assert_eq!(rows(&source), "0 1");
}

/// R7
#[test]
fn a_cluster_restored_in_place_goes_on_archiving_unless_told_otherwise() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    prepare(&mut source);
    back_up(&source);
    source.archive_all();
    source.stop(Stop::Fast);
    try_in_place(&source, &[]).expect_success().expect_message("archives with");
    source.recover_to(RecoveryEnd::Promoted);
    source.wait_archived("00000002.history");
    commit(&source, 1);
    assert!(source.archive_all().starts_with("00000002"));
    source.stop(Stop::Fast);
    try_in_place(&source, &["--archive", "off"]).expect_success();
    source.recover_to(RecoveryEnd::Promoted);
    assert_eq!(
        (rows(&source), source.psql("show archive_mode")),
        ("0 1".to_owned(), "off".to_owned())
    );
}
