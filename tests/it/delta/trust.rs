//! What is taken over unread, and what must not be.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use walrs::container::ContentDigest;

use super::{archiving, number, push, text};
use crate::support::cluster::Cluster;
use crate::support::forgery::forge_files;
use crate::support::postmaster::Stop;
use crate::support::program::Finished;
use crate::support::repository::TestRepository;
use crate::support::stored_backup::StoredBackup;
use crate::support::user::ServerUser;

const BLOCK: usize = 8192;

/// After this, what was written before is older than the margin of the rule.
fn settle() {
    std::thread::sleep(Duration::from_millis(2200));
}

/// Source: `linux/magic.h`.
fn skips_files_here(cluster: &Cluster) -> bool {
    let found = Command::new("stat").args(["-f", "-c", "%t"]).arg(cluster.data()).output().unwrap();
    let kind = String::from_utf8(found.stdout).unwrap();
    let trusted = ["ef53", "58465342", "9123683e", "2fc12fc1"].contains(&kind.trim());
    if !trusted {
        eprintln!("SKIPPED: no file is taken over unread on a file system of type {kind}");
    }
    trusted
}

/// A file of whole megabytes in the data directory, all of `byte`.
fn extra_file(cluster: &Cluster, megabytes: usize, byte: u8) -> File {
    let path = cluster.data().join("extra");
    fs::write(&path, vec![byte; megabytes << 20]).unwrap();
    ServerUser::get().own(&path);
    File::options().read(true).write(true).open(path).unwrap()
}

fn wrong_digest() -> ContentDigest {
    ContentDigest::of(b"not what the file holds")
}

#[tokio::test]
async fn a_file_with_the_identity_that_the_parent_saw_is_not_read() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving(&repository);
    if !skips_files_here(&cluster) {
        return;
    }
    let _file = extra_file(&cluster, 1, 7);
    settle();
    let parent = push(&cluster, &[]);
    forge_files(&repository, text(&parent, "id"), |file| {
        if file.path.as_bytes() == b"extra" {
            file.digest = wrong_digest();
        }
    })
    .await;
    push(&cluster, &[]);
    let taken_over = StoredBackup::latest(&repository).await;
    assert_eq!(taken_over.file("extra").digest, wrong_digest());
    cluster.environment_mut().insert("WALRS_BACKUP_RESCAN".to_owned(), "always".to_owned());
    push(&cluster, &[]);
    assert!(StoredBackup::latest(&repository).await.content("extra") == vec![7; 1 << 20]);
}

#[tokio::test]
async fn a_file_that_changed_unseen_makes_the_backup_read_everything() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    if !skips_files_here(&cluster) {
        return;
    }
    settle();
    let parent = push(&cluster, &[]);
    forge_files(&repository, text(&parent, "id"), |file| file.digest = wrong_digest()).await;
    let loud = cluster.walrs(&["backup-push"]).expect_success();
    loud.expect_message("a file changed while device, inode, size and times stayed");
    let backup = StoredBackup::latest(&repository).await;
    backup.file_digests();
    assert_eq!(backup.manifest.boot_id, "", "no later backup may go by these identities");
    // The blocks are where the parent has them all the same.
    let (newly, all) = (backup.manifest.new_bytes, backup.manifest.bytes);
    assert!(newly * 20 < all, "{newly} of {all}");
}

#[tokio::test]
async fn a_file_written_to_while_it_was_read_is_read_again() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving(&repository);
    let file = extra_file(&cluster, 16, 1);
    cluster.environment_mut().insert("WALRS_BACKUP_WORKERS".to_owned(), "1".to_owned());
    settle();
    let paused = cluster.walrs_paused_at("backup-push:range", &["backup-push"]);
    let before = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(&[2; BLOCK], 0).unwrap();
    file.write_all_at(&[2; BLOCK], (16 << 20) - BLOCK as u64).unwrap();
    file.set_modified(before).unwrap();
    settle();
    paused.resume().expect_success();
    push(&cluster, &[]);
    let restored = StoredBackup::latest(&repository).await.content("extra");
    assert!(restored == fs::read(cluster.data().join("extra")).unwrap());
}

/// A write whose time stamp is older than the reading of the file, and whose data is younger.
struct StalledWrite(Child);

impl StalledWrite {
    /// The first block of `path`; none where the system cannot stall a write.
    fn begin(path: &Path) -> Option<Self> {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/stalled_write.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(path).args(["0", "4096", "9"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 runs");
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        if said == "stamped\n" {
            return Some(Self(child));
        }
        assert_eq!(child.wait().unwrap().code(), Some(77), "{said}");
        None
    }

    fn land(mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

#[tokio::test]
async fn a_write_that_stalls_across_the_parents_start_and_reading_is_not_missed() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    let file = extra_file(&cluster, 2, 1);
    settle();
    let paused = cluster.walrs_paused_at("backup-push:before-start", &["backup-push"]);
    let Some(stalled) = StalledWrite::begin(&cluster.data().join("extra")) else {
        eprintln!("SKIPPED: a write cannot be stalled here (userfaultfd, as root)");
        paused.resume().expect_success();
        return;
    };
    let stamped = file.metadata().unwrap().modified().unwrap();
    // A margin that counted from the reading would forgive the stamp now.
    settle();
    paused.resume().expect_success();
    assert!(StoredBackup::latest(&repository).await.content("extra") == vec![1; 2 << 20]);
    stalled.land();
    assert_eq!(file.metadata().unwrap().modified().unwrap(), stamped, "the stamp has not moved");
    push(&cluster, &[]);
    let restored = StoredBackup::latest(&repository).await.content("extra");
    assert_eq!((restored[0], restored[4096]), (9, 1));
}

/// B7: a file that is skipped is not verified again, and its bad pages are still there.
#[test]
fn recorded_bad_pages_are_carried_over_and_never_forgotten() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving(&repository);
    cluster.psql("create table t as select i from generate_series(1, 10000) i; checkpoint");
    let path = cluster.psql("select pg_relation_filepath('t')");
    cluster.stop(Stop::Fast);
    let file = File::options().write(true).open(cluster.data().join(&path)).unwrap();
    file.write_all_at(b"x", 3 * BLOCK as u64 + 5000).unwrap();
    cluster.start();
    settle();
    let mut counts = Vec::new();
    for rescan in ["changed", "changed", "always"] {
        cluster.environment_mut().insert("WALRS_BACKUP_RESCAN".to_owned(), rescan.to_owned());
        let pushed = cluster.walrs(&["backup-push", "--json"]).expect_status(6);
        let backup: serde_json::Value = serde_json::from_str(&pushed.stdout).unwrap();
        counts.push((text(&backup, "kind").to_owned(), number(&backup, "bad_pages")));
    }
    let expected = [("full", 1), ("delta", 1), ("delta", 1)];
    assert_eq!(counts, expected.map(|(kind, count)| (kind.to_owned(), count)));
}

/// The blocks of a pack that cannot be opened are stored again, those of unchanged files too: the next backup is whole.
#[tokio::test]
async fn blocks_of_a_damaged_pack_are_stored_again() {
    for rescan in ["changed", "always"] {
        blocks_of_a_damaged_pack_are_stored_again_when_rescanning(rescan).await;
    }
}

async fn blocks_of_a_damaged_pack_are_stored_again_when_rescanning(rescan: &str) {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving(&repository);
    let _unchanged = extra_file(&cluster, 1, 7);
    cluster.psql("create table t as select i from generate_series(1, 1000) i; checkpoint");
    settle();
    let full = push(&cluster, &[]);
    cluster.psql("insert into t values (1001); checkpoint");
    for pack in repository.keys_with(&format!("{}/packs/", text(&full, "id"))) {
        let file = File::options().write(true).open(repository.object(&pack)).unwrap();
        let length = file.metadata().unwrap().len();
        file.write_all_at(b"damage", length - 40).unwrap();
    }
    cluster.environment_mut().insert("WALRS_BACKUP_RESCAN".to_owned(), rescan.to_owned());
    let mut command = cluster.walrs_command(&["backup-push"]);
    Finished::run(&mut command).expect_success().expect_message("stored again");
    let backup = StoredBackup::latest(&repository).await;
    assert!(backup.manifest.packs.iter().all(|pack| pack.backup == backup.manifest.backup_id));
    backup.file_digests();
}
