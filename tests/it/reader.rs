//! The Python reader, written from `docs/format.md` alone, restores what walrs stored.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::cluster::Cluster;
use crate::support::cluster_builder::PageChecksums;
use crate::support::installation::Major;
use crate::support::oracle::{assert_sound, file_digests, table_digests};
use crate::support::postmaster::Stop;
use crate::support::program::Finished;
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::user::ServerUser;

/// The interpreter that `ci/test` prepared with the packages of `contrib/requirements.txt`.
fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    assert!(python.exists(), "`{}` is missing: run `ci/test`, which makes it", python.display());
    python
}

fn reader(cluster: &Cluster, repository: &TestRepository, arguments: &[&str]) -> Finished {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/walrs_reader.py");
    let mut command = Command::new(python());
    command.arg(script).current_dir(cluster.scratch().path());
    if repository.key_file().exists() {
        command.arg("--key-file").arg(repository.key_file());
    }
    Finished::run(command.args(arguments))
}

fn a_backup_restored_by_the_reader_recovers(sealing: Sealing, codec: &str) {
    let repository = TestRepository::new(Place::Directory, sealing);
    let builder = Cluster::builder(Major::V15).checksums(PageChecksums::On);
    let builder = builder.archiving_to(&repository).variable("WALRS_COMPRESSION_METHOD", codec);
    let mut cluster = builder.create();
    repository.init(cluster.data()).expect_success();
    cluster.start();
    cluster.psql("create table t as select i, md5(i::text) from generate_series(1, 50000) i");
    cluster.walrs(&["backup-push"]).expect_success();
    cluster.psql("update t set md5 = 'changed' where i % 500 = 3; checkpoint");
    cluster.walrs(&["backup-push"]).expect_success().expect_message("delta of");
    cluster.psql("insert into t select i, 'after' from generate_series(1, 10) i");
    cluster.archive_all();
    let rows = table_digests(&cluster);
    cluster.stop(Stop::Fast);
    let mut copy = cluster.sibling("copy");
    let root = repository.path().to_str().unwrap();
    reader(&cluster, &repository, &[root, "LATEST", copy.data_argument()]).expect_success();
    assert_same_files_as_backup_fetch(&cluster, &copy);
    ServerUser::get().own_tree(copy.data());
    prepare_recovery(&copy);
    copy.recover_to(RecoveryEnd::Promoted);
    assert_eq!(table_digests(&copy), rows);
    assert_sound(&copy);
}

fn assert_same_files_as_backup_fetch(cluster: &Cluster, copy: &Cluster) {
    let fetched = cluster.scratch().join("fetched");
    cluster.walrs(&["backup-fetch", fetched.to_str().unwrap()]).expect_success();
    assert_eq!(file_digests(&fetched), file_digests(copy.data()));
}

fn prepare_recovery(copy: &Cluster) {
    copy.set("restore_command", &format!("{} wal-fetch %f %p", walrs().display()));
    copy.set("archive_mode", "off");
    crate::support::cluster_builder::touch(&copy.data().join("recovery.signal"));
    ServerUser::get().own_tree(copy.data());
}

fn walrs() -> &'static Path {
    crate::support::program::walrs_binary()
}

#[test]
fn the_reader_restores_a_plain_repository() {
    a_backup_restored_by_the_reader_recovers(Sealing::Plain, "zstd");
}

#[test]
fn the_reader_restores_an_encrypted_repository() {
    a_backup_restored_by_the_reader_recovers(Sealing::Encrypted, "lz4");
}

#[test]
fn the_reader_restores_a_repository_without_compression() {
    a_backup_restored_by_the_reader_recovers(Sealing::Plain, "none");
}
