//! Which directories may be filled.

use super::*;
use crate::error::ErrorKind;
use crate::postgres::SystemIdentifier;

struct Host {
    directory: tempfile::TempDir,
}

impl Host {
    /// A directory above the destinations whose owner is not root, so that there is somebody to give files to.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(directory.path(), Some(65_534), Some(65_534)).unwrap();
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A directory with files in it.
    fn with(&self, name: &str, files: &[&str]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65_534), Some(65_534)).unwrap();
        }
        for file in files {
            fs::create_dir_all(path.join(file).parent().unwrap()).unwrap();
            fs::write(path.join(file), "").unwrap();
        }
        path
    }
}

fn inspect(data: &Path, tablespaces: &[(u32, PathBuf)]) -> Result<Destination> {
    Destination::inspect(data, &tablespaces.iter().cloned().collect())
}

fn subject() -> Subject {
    let backup_id = "20261120T101500Z-k3v7qa".parse().unwrap();
    Subject { backup_id, system_identifier: SystemIdentifier::new(7) }
}

#[track_caller]
fn assert_refused(result: Result<Destination>, why: &str) {
    let error = result.expect_err("the directory is in use");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.report().contains(why), "{}", error.report());
}

/// R2
#[test]
fn a_directory_with_anything_in_it_is_refused() {
    let host = Host::new();
    assert_refused(inspect(&host.with("a", &["notes"]), &[]), "is not empty");
    assert_refused(inspect(&host.with("b", &["PG_VERSION"]), &[]), "holds a data directory");
    assert_refused(inspect(&host.with("c", &["lost+found/x"]), &[]), "mount point");
    assert!(inspect(&host.with("d", &[]), &[]).is_ok());
    assert!(inspect(&host.path("absent"), &[]).is_ok());
    assert_refused(inspect(&host.path("not/mounted"), &[]), "does not exist");
}

/// R2
#[test]
fn a_running_server_is_told_from_an_abandoned_directory() {
    let host = Host::new();
    let data = host.with("data", &["PG_VERSION"]);
    fs::write(data.join("postmaster.pid"), format!("{}\n", std::process::id())).unwrap();
    assert_refused(inspect(&data, &[]), "a PostgreSQL server runs in it");
}

/// R2
#[test]
fn a_tablespace_directory_with_anything_in_it_is_refused() {
    let host = Host::new();
    let used = host.with("used", &["PG_15_202209061/5/1"]);
    assert_refused(inspect(&host.path("data"), &[(16384, used)]), "for tablespace 16384");
    assert!(inspect(&host.path("data"), &[(16384, host.with("empty", &[]))]).is_ok());
    assert!(inspect(&host.path("data"), &[(16384, host.path("absent"))]).is_ok());
    assert_refused(inspect(&host.path("data"), &[(16384, host.path("not/mounted"))]), "not exist");
}

#[test]
fn directories_within_each_other_are_refused() {
    let host = Host::new();
    let data = host.path("data");
    let twice = [(1, host.path("same")), (2, host.path("same"))];
    assert_refused(inspect(&data, &twice), "overlaps with the directory of tablespace 1");
    assert_refused(inspect(&data, &[(1, host.path(""))]), "holds the data directory");
    assert!(inspect(&data, &[(1, data.join("inside/it"))]).is_ok());
}

/// R3
#[test]
fn what_an_interrupted_restore_left_is_removed_by_the_next() {
    let host = Host::new();
    let (data, tablespace) = (host.path("data"), host.path("space"));
    let places = [(16384, tablespace.clone())];
    let prepared = inspect(&data, &places).unwrap().prepare(subject()).unwrap();
    fs::create_dir_all(data.join("base/1")).unwrap();
    fs::create_dir(tablespace.join("PG_15_202209061")).unwrap();
    drop(prepared);
    let _prepared = inspect(&data, &places).unwrap().prepare(subject()).unwrap();
    for directory in [data, tablespace] {
        assert_eq!(names_in(&directory).unwrap().unwrap(), [MARKER_NAME]);
    }
}

/// R2
#[test]
fn a_marker_beside_a_cluster_that_was_complete_or_started_proves_nothing() {
    let host = Host::new();
    for (name, file) in
        [("a", "global/pg_control"), ("b", "postmaster.opts"), ("c", "postmaster.pid")]
    {
        let data = host.with(name, &[]);
        drop(inspect(&data, &[]).unwrap().prepare(subject()).unwrap());
        fs::create_dir_all(data.join("global")).unwrap();
        assert!(inspect(&data, &[]).is_ok());
        fs::write(data.join(file), "").unwrap();
        assert_refused(inspect(&data, &[]), "is not empty");
    }
}

/// R2
#[test]
fn a_tablespace_that_another_run_filled_is_never_emptied() {
    let host = Host::new();
    let places = [(16384, host.path("space"))];
    drop(inspect(&host.path("first"), &places).unwrap().prepare(subject()).unwrap());
    drop(inspect(&host.path("second"), &[]).unwrap().prepare(subject()).unwrap());
    fs::create_dir(host.path("space/PG_15_202209061")).unwrap();
    assert_refused(inspect(&host.path("second"), &places), "another interrupted restore");
    assert_refused(inspect(&host.path("third"), &places), "another interrupted restore");
    assert!(inspect(&host.path("first"), &places).is_ok());
}

#[test]
fn a_restore_that_lives_is_not_taken_for_interrupted() {
    let host = Host::new();
    let data = host.path("data");
    let prepared = inspect(&data, &[]).unwrap().prepare(subject()).unwrap();
    let second = inspect(&data, &[]).unwrap().prepare(subject()).unwrap_err();
    assert!(second.to_string().contains("another restore is filling"));
    drop(prepared);
    assert!(inspect(&data, &[]).unwrap().prepare(subject()).is_ok());
}

/// R2
#[test]
fn two_restores_that_live_never_share_a_tablespace_directory() {
    let host = Host::new();
    let places = [(16384, host.path("space"))];
    let first = inspect(&host.path("first"), &places).unwrap().prepare(subject()).unwrap();
    let second = inspect(&host.path("second"), &places).unwrap().prepare(subject()).unwrap_err();
    assert!(second.to_string().contains("another restore is filling"), "{second}");
    drop(first);
    assert!(inspect(&host.path("first"), &places).unwrap().prepare(subject()).is_ok());
}

/// R5
#[test]
fn root_gives_everything_to_the_owner_of_the_directory_above() {
    let host = Host::new();
    let data = host.path("data");
    let _prepared = inspect(&data, &[(1, host.path("space"))]).unwrap().prepare(subject()).unwrap();
    let expected = host.directory.path().metadata().unwrap().uid();
    assert_ne!(expected, 0, "the test's directory belongs to somebody else");
    let marker = data.join(MARKER_NAME);
    for path in [&data, &host.path("space"), &marker] {
        assert_eq!(path.metadata().unwrap().uid(), expected, "{}", path.display());
    }
}
