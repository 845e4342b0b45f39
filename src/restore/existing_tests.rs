//! Links of a data directory that are followed, and what is refused of them.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::error::ErrorKind;

/// R6
#[test]
fn a_link_of_the_wal_must_lead_to_a_directory_of_its_own() {
    let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = data.path().canonicalize().unwrap();
    assert_eq!(wal_link(&data).unwrap(), None);
    fs::create_dir(data.join("inside")).unwrap();
    let link = data.join(WAL_DIRECTORY);
    let refused = |target: &Path, why: &str| {
        symlink(target, &link).unwrap();
        let error = wal_link(&data).expect_err("such a link cannot be used");
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.report().contains(why), "{}", error.report());
        fs::remove_file(&link).unwrap();
    };
    refused(&elsewhere.path().join("unmounted"), "does not exist");
    refused(Path::new("inside"), "holds more than WAL");
    refused(data.parent().unwrap(), "holds more than WAL");
    symlink(elsewhere.path(), &link).unwrap();
    assert_eq!(wal_link(&data).unwrap(), Some(elsewhere.path().canonicalize().unwrap()));
}

#[test]
fn a_relative_link_is_taken_from_where_it_lies() {
    let data = tempfile::tempdir().unwrap();
    fs::create_dir(data.path().join("pg_tblspc")).unwrap();
    symlink("../../space", data.path().join("pg_tblspc/1")).unwrap();
    fs::create_dir(data.path().join("pg_tblspc/2")).unwrap();
    let link = |name| link_of(data.path(), Path::new(name)).unwrap();
    assert_eq!(link("pg_tblspc/1"), Some(data.path().join("pg_tblspc/../../space")));
    assert_eq!((link("pg_tblspc/2"), link("pg_tblspc/3")), (None, None));
}
