//! The directory driver where a directory differs from a bucket: durability, disks that fill or go away, permissions.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use walrs::durable::{self, Existing};
use walrs::storage::{
    Body, ByteRange, FsStorage, PutMode, Storage, StorageError, StorageErrorKind,
};

use crate::support::program::{Finished, reachable_copy};
use crate::support::scratch::Scratch;
use crate::support::stored::{get, key, keys, pattern, prefix, put};
use crate::support::user::ServerUser;

fn repository() -> (Scratch, PathBuf, Arc<dyn Storage>) {
    let scratch = Scratch::new();
    let root = scratch.create_directory("repository");
    let storage = Arc::new(FsStorage::new(&root));
    (scratch, root, storage)
}

/// S1
#[tokio::test(flavor = "multi_thread")]
async fn an_object_being_written_is_invisible() {
    let (_scratch, root, storage) = repository();
    let (finish, finished) = tokio::sync::watch::channel(());
    let body = Body::source(move || {
        let mut finished = finished.clone();
        let first = futures::stream::once(async { Ok(Bytes::from_static(b"first, ")) });
        let last = futures::stream::once(async move {
            finished.changed().await.map_err(std::io::Error::other)?;
            Ok(Bytes::from_static(b"last"))
        });
        first.chain(last).boxed()
    });
    let name = key("wal/a");
    let writing = storage.put(&name, body, PutMode::Create);
    let watching = async {
        until(|| temporary_files(&root).first().is_some_and(|file| length(file) == 7)).await;
        assert_eq!(keys(&storage, "", None).await, [""; 0]);
        assert!(get(&storage, "wal/a", ByteRange::Full).await.expect_err("hidden").is_not_found());
        finish.send(()).expect("the writer waits");
    };
    tokio::join!(async { writing.await.expect("stored") }, watching);
    assert_eq!(get(&storage, "wal/a", ByteRange::Full).await.expect("there"), "first, last");
    assert_eq!(temporary_files(&root), [""; 0].map(PathBuf::from));
}

/// S1
#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_dropped_leaves_nothing() {
    let (_scratch, root, storage) = repository();
    let body = Body::source(|| {
        let first = futures::stream::once(async { Ok(Bytes::from_static(b"first")) });
        first.chain(futures::stream::pending()).boxed()
    });
    let name = key("wal/a");
    tokio::select! {
        _ = storage.put(&name, body, PutMode::Create) => panic!("it never ends"),
        () = until(|| !temporary_files(&root).is_empty()) => {}
    }
    until(|| temporary_files(&root).is_empty()).await;
    assert_eq!(keys(&storage, "", None).await, [""; 0]);
}

/// S1
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_killed_before_the_rename_leaves_nothing_visible_and_a_rerun_succeeds() {
    let (_scratch, root, storage) = repository();
    let mut child = child("store_an_object", &root);
    child.env("WALRS_FAILPOINT", "storage-fs:written=kill");
    Finished::run(&mut child).expect_status(128 + 9);
    assert_eq!(keys(&storage, "", None).await, [""; 0]);
    assert_eq!(temporary_files(&root).len(), 1, "what it wrote is still there");

    Finished::run(&mut self::child("store_an_object", &root)).expect_success();
    assert_eq!(keys(&storage, "", None).await, ["wal/a"]);
    assert_eq!(storage.remove_leftovers(Duration::ZERO).await.expect("cleaned"), 1);
    assert_eq!(temporary_files(&root).len(), 0);
}

/// S1
#[tokio::test(flavor = "multi_thread")]
async fn leftovers_are_removed_by_age_and_objects_never() {
    let (_scratch, root, storage) = repository();
    put(&storage, "wal/a", b"content").await.expect("stored");
    let yesterday = SystemTime::now() - Duration::from_hours(25);
    for (name, modified) in [
        ("wal/.walrs-tmp-1-0-old", yesterday),
        ("wal/.walrs-tmp-2-0-young", SystemTime::now()),
        ("wal/old", yesterday),
    ] {
        let file = fs::File::create(root.join(name)).expect("the directory is ours");
        file.set_modified(modified).expect("the file is ours");
    }
    assert_eq!(storage.remove_leftovers(Duration::from_hours(24)).await.expect("cleaned"), 1);
    assert_eq!(temporary_files(&root), [root.join("wal/.walrs-tmp-2-0-young")]);
    assert_eq!(keys(&storage, "", None).await, ["wal/a", "wal/old"]);
}

/// S1, S2: the calls themselves, in their order.
#[test]
fn an_object_and_all_its_new_directories_are_synced_before_success() {
    let (scratch, root, _) = repository();
    let calls = traced_calls("store_an_object", &root, &scratch);
    let expected = ["mkdir wal", "fsync .", "fsync TEMP", "rename TEMP wal/a", "fsync wal"];
    assert_eq!(calls, expected);
}

/// S2: the writer who made it may have died before it synced the name.
#[test]
fn a_taken_name_is_synced_before_it_is_told() {
    let (scratch, root, _) = repository();
    fs::create_dir(root.join("wal")).expect("the directory is ours");
    fs::write(root.join("wal/a"), "made a moment ago").expect("the directory is ours");
    ServerUser::get().own_tree(&root);
    let calls = traced_calls("find_the_name_taken", &root, &scratch);
    let expected = ["mkdir wal", "fsync .", "fsync TEMP", "rename TEMP wal/a", "fsync wal"];
    assert_eq!(calls, expected);
}

/// S8
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_root_is_no_empty_repository() {
    let scratch = Scratch::new();
    let root = scratch.join("mount/repository");
    let driver = FsStorage::new(&root);
    let storage: Arc<dyn Storage> = Arc::new(driver.clone());
    for error in every_operation(&storage).await {
        assert_eq!(error.kind(), StorageErrorKind::Invalid, "{error:?}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("mounted")), "{error:?}");
    }
    assert!(!root.exists(), "no operation makes it");
    driver.create_root(scratch.path()).await.expect("only this does");
    put(&storage, "a", b"content").await.expect("stored");
    driver.create_root(scratch.path()).await.expect("an existing directory is fine");
}

/// S8
#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_replaced_under_a_running_command_is_noticed() {
    let (scratch, root, storage) = repository();
    put(&storage, "a", b"content").await.expect("stored");
    durable::rename(&root, &scratch.join("unmounted"), Existing::Keep).expect("ours");
    fs::create_dir(&root).expect("the mount point stays behind");
    for error in every_operation(&storage).await {
        assert_eq!(error.kind(), StorageErrorKind::Invalid, "{error:?}");
    }
    assert_eq!(fs::read_dir(&root).expect("it is there").count(), 0, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_or_a_pipe_is_neither_followed_nor_passed_over() {
    for name in ["wal/link", "wal/to-directory", "wal/pipe"] {
        let (scratch, root, storage) = repository();
        put(&storage, "wal/a", b"content").await.expect("stored");
        let path = root.join(name);
        match name {
            "wal/link" => symlink(root.join("wal/a"), path).expect("the name is free"),
            "wal/to-directory" => symlink(scratch.path(), path).expect("the name is free"),
            _ => drop(Finished::run(Command::new("mkfifo").arg(path)).expect_success()),
        }
        let error = get(&storage, name, ByteRange::Full).await.expect_err("it is no object");
        assert_ne!(error.kind(), StorageErrorKind::Unavailable, "{name}: {error:?}");
        let error = list(&storage).await.expect_err("it cannot be complete");
        assert_eq!(error.kind(), StorageErrorKind::Invalid, "{name}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_names_in_the_root_are_passed_over() {
    let (_scratch, root, storage) = repository();
    fs::create_dir(root.join("lost+found")).expect("the directory is ours");
    fs::write(root.join("notes of mine.txt"), "x").expect("the directory is ours");
    put(&storage, "a", b"content").await.expect("stored");
    assert_eq!(keys(&storage, "", None).await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_left_empty_go_and_writers_do_not_notice() {
    let (_scratch, root, storage) = repository();
    let writers = (0..4).map(|writer| {
        let storage = Arc::clone(&storage);
        async move {
            for round in 0..100 {
                let name = format!("b/deep/{writer}-{round}");
                put(&storage, &name, b"x").await.expect("stored in spite of the pruning");
                storage.delete(&[key(&name)]).await.expect("deleted");
            }
        }
    });
    futures::future::join_all(writers).await;
    assert!(!root.join("b").exists(), "the last deletion removed the directories");
    assert!(root.exists(), "the root stays");
}

/// A full disk: a small file system that only this test's process can see.
#[test]
fn a_full_disk_is_unavailable_and_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let root = scratch.create_directory("small");
    let script = "mount -t tmpfs -o size=2m,mode=777 walrs-test \"$1\" && shift && exec \"$@\"";
    let inner = child("meet_a_full_disk", &root);
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(&root);
    command.arg(inner.get_program()).args(inner.get_args()).env("WALRS_TEST_ROOT", &root);
    Finished::run(&mut command).expect_success();
}

/// Permissions say no to everybody but root, so this runs as another user when the tests are root.
#[test]
fn a_directory_that_says_no_is_denied() {
    let (_scratch, root, _) = repository();
    fs::create_dir(root.join("wal")).expect("the directory is ours");
    fs::write(root.join("wal/secret"), "x").expect("the directory is ours");
    ServerUser::get().own_tree(&root);
    fs::set_permissions(root.join("wal/secret"), fs::Permissions::from_mode(0o000)).expect("ours");
    fs::set_permissions(root.join("wal"), fs::Permissions::from_mode(0o500)).expect("ours");
    Finished::run(&mut child("meet_closed_doors", &root)).expect_success();
    fs::set_permissions(root.join("wal"), fs::Permissions::from_mode(0o700)).expect("ours");
}

#[test]
fn a_group_may_be_let_in_and_others_never() {
    let (_scratch, root, _) = repository();
    let inner = child("store_an_object", &root);
    let mut command = ServerUser::get().command("sh");
    command.args(["-c", "umask 000 && exec \"$@\"", "sh"]).arg(inner.get_program());
    command.args(inner.get_args()).env("WALRS_TEST_ROOT", &root);
    Finished::run(&mut command).expect_success();
    assert_eq!(mode(&root.join("wal")), 0o750);
    assert_eq!(mode(&root.join("wal/a")), 0o640);
}

/// What the tests above run in a process of its own; `WALRS_TEST_ROOT` names the repository.
mod child {
    use super::*;

    fn storage() -> Arc<dyn Storage> {
        #[expect(clippy::disallowed_methods, reason = "from this file to its own child")]
        let root = std::env::var_os("WALRS_TEST_ROOT").expect("run by the tests above");
        Arc::new(FsStorage::new(PathBuf::from(root)))
    }

    #[tokio::test]
    #[ignore = "a child of other tests"]
    async fn store_an_object() {
        put(&storage(), "wal/a", b"content").await.expect("stored");
    }

    #[tokio::test]
    #[ignore = "a child of other tests"]
    async fn find_the_name_taken() {
        let error = put(&storage(), "wal/a", b"content").await.expect_err("taken");
        assert!(error.is_already_exists(), "{error:?}");
    }

    #[tokio::test]
    #[ignore = "a child of other tests"]
    async fn meet_a_full_disk() {
        let storage = storage();
        let error = put(&storage, "wal/a", &pattern(4 << 20)).await.expect_err("2 MiB are there");
        assert_eq!(error.kind(), StorageErrorKind::Unavailable, "{error:?}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("full")), "{error:?}");
        assert_eq!(keys(&storage, "", None).await, [""; 0]);
        put(&storage, "wal/a", &pattern(1 << 20)).await.expect("the space was given back");
    }

    #[tokio::test]
    #[ignore = "a child of other tests"]
    async fn meet_closed_doors() {
        let storage = storage();
        let denied = [
            get(&storage, "wal/secret", ByteRange::Full).await.expect_err("unreadable"),
            put(&storage, "wal/new", b"x").await.expect_err("not writable"),
            storage.delete(&[key("wal/secret")]).await.expect_err("not writable"),
        ];
        for error in denied {
            assert_eq!(error.kind(), StorageErrorKind::Denied, "{error:?}");
        }
        assert_eq!(keys(&storage, "", None).await, ["wal/secret"]);
    }
}

/// A command that runs one of the children on `root`, as the user who runs servers.
fn child(name: &str, root: &Path) -> Command {
    let program = std::env::current_exe().expect("a test binary knows its path");
    let mut command = ServerUser::get().command(reachable_copy(&program));
    command.args(["--exact", "--ignored", "--nocapture", &format!("storage_fs::child::{name}")]);
    command.env("WALRS_TEST_ROOT", root);
    command
}

/// The calls of a child that make names durable, in their order, with paths below `root`.
fn traced_calls(name: &str, root: &Path, scratch: &Scratch) -> Vec<String> {
    let (inner, trace) = (child(name, root), scratch.join("trace"));
    let mut command = ServerUser::get().command("strace");
    command.args([
        "-f",
        "-y",
        "-e",
        "trace=mkdir,mkdirat,fsync,fdatasync,rename,renameat2,link,linkat",
        "-o",
    ]);
    command.arg(&trace).arg(inner.get_program()).args(inner.get_args());
    Finished::run(command.env("WALRS_TEST_ROOT", root)).expect_success();
    let text = fs::read_to_string(trace).expect("strace has written it");
    text.lines().filter_map(|line| called(line, root)).collect()
}

/// `123 fsync(9</r/wal>) = 0` → `fsync wal`.
fn called(line: &str, root: &Path) -> Option<String> {
    let (_, call) = line.split_once(' ')?;
    let (verb, arguments) = call.trim().split_once('(')?;
    let root = root.to_str().expect("a path of the test");
    let paths = arguments.split(['"', '<', '>']).filter_map(|part| part.strip_prefix(root));
    let names: Vec<_> = paths.map(|path| path.trim_start_matches('/')).map(short).collect();
    let verb = verb.trim_end_matches("at").trim_end_matches("at2");
    (!names.is_empty()).then(|| format!("{verb} {}", names.join(" ")))
}

fn short(path: &str) -> &str {
    match path {
        "" => ".",
        path if path.contains(".walrs-tmp-") => "TEMP",
        path => path,
    }
}

/// The error of every operation.
async fn every_operation(storage: &Arc<dyn Storage>) -> [StorageError; 7] {
    [
        get(storage, "a", ByteRange::Full).await.expect_err("no repository"),
        storage.head(&key("a")).await.expect_err("no repository"),
        list(storage).await.expect_err("no repository"),
        put(storage, "a", b"x").await.expect_err("no repository"),
        storage.delete(&[key("a")]).await.expect_err("no repository"),
        storage.now().await.expect_err("no repository"),
        storage.remove_leftovers(Duration::ZERO).await.expect_err("no repository"),
    ]
}

async fn list(storage: &Arc<dyn Storage>) -> Result<usize, StorageError> {
    Ok(storage.list(&prefix(""), None).try_collect::<Vec<_>>().await?.len())
}

fn temporary_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("the repository is readable") {
        let path = entry.expect("the repository is readable").path();
        if path.is_dir() {
            found.extend(temporary_files(&path));
        } else if path.to_string_lossy().contains(".walrs-tmp-") {
            found.push(path);
        }
    }
    found
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

/// Waits for something that will happen; the test runner's patience is the limit.
async fn until(happened: impl Fn() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_mins(1);
    while !happened() {
        assert!(tokio::time::Instant::now() < limit, "it never happened");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
