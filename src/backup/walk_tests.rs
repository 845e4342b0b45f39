use std::os::unix::net::UnixListener;

use super::*;
use crate::backup::test_directory::TestDirectory;

fn walk(directory: &TestDirectory, links: LinkPolicy) -> Result<Vec<String>> {
    let mut found = Vec::new();
    directory.data(links).walk(&mut |entry| {
        found.push(match entry {
            Found::Directory { path, .. } => format!("{path}/"),
            Found::Tablespace { path, target, .. } => format!("{path} -> {}", target.display()),
            Found::File(file) => file.path.to_string(),
        });
        Ok(())
    })?;
    Ok(found)
}

fn strict(directory: &TestDirectory) -> Vec<String> {
    walk(directory, LinkPolicy::Error).unwrap()
}

#[test]
fn a_walk_meets_paths_in_the_order_of_the_file_list() {
    let directory = TestDirectory::new();
    for name in ["base/5/1", "base/5/10", "base/5.d/1", "base-x/1", "base/5!x", "zz", "%"] {
        directory.write(name, b"x");
    }
    let mut paths = Vec::new();
    let record = |found: Found| {
        paths.push(match found {
            Found::Directory { path, .. } | Found::Tablespace { path, .. } => path,
            Found::File(file) => file.path,
        });
        Ok(())
    };
    directory.data(LinkPolicy::Error).walk(&mut { record }).unwrap();
    assert!(paths.is_sorted(), "{paths:?}");
    assert_eq!(paths[0], ListedPath::root());
    assert_eq!(paths.len(), 16);
}

#[test]
fn directories_without_contents_are_recorded_with_what_the_server_expects_in_them() {
    let directory = TestDirectory::new();
    directory.write("pg_wal/000000010000000000000001", b"x");
    directory.write("pg_replslot/a/state", b"x");
    let found = strict(&directory);
    let of = |name: &str| -> Vec<_> {
        found.iter().filter(|path| path.starts_with(name)).map(String::as_str).collect()
    };
    assert_eq!(of("pg_wal"), ["pg_wal/", "pg_wal/archive_status/"]);
    assert_eq!(of("pg_replslot"), ["pg_replslot/"]);
}

#[test]
fn a_wal_directory_elsewhere_is_recorded_as_a_directory() {
    let directory = TestDirectory::new();
    let elsewhere = tempfile::tempdir().unwrap();
    directory.link("pg_wal", elsewhere.path());
    assert!(strict(&directory).contains(&"pg_wal/archive_status/".to_owned()));
}

#[test]
fn tablespaces_are_met_through_their_links_only() {
    let (directory, elsewhere) = (TestDirectory::new(), tempfile::tempdir().unwrap());
    let version = TestDirectory::version_directory();
    std::fs::create_dir_all(elsewhere.path().join(&version).join("5")).unwrap();
    std::fs::create_dir(elsewhere.path().join("PG_14_202107181")).unwrap();
    directory.link("pg_tblspc/16385", elsewhere.path());
    // One inside the data directory, and one in place (allow_in_place_tablespaces).
    directory.write(&format!("inner/{version}/5/16400"), b"x");
    directory.link("pg_tblspc/16386", directory.path().join("inner"));
    directory.create(&format!("pg_tblspc/16387/{version}"));
    let found = strict(&directory);
    let links: Vec<_> = found.iter().skip_while(|path| *path != "pg_tblspc/").skip(1).collect();
    let target = |path: &Path| path.display().to_string();
    let expected = [
        format!("pg_tblspc/16385 -> {}", target(elsewhere.path())),
        format!("pg_tblspc/16385/{version}/"),
        format!("pg_tblspc/16385/{version}/5/"),
        format!("pg_tblspc/16386 -> {}", target(&directory.path().join("inner"))),
        format!("pg_tblspc/16386/{version}/"),
        format!("pg_tblspc/16386/{version}/5/"),
        format!("pg_tblspc/16386/{version}/5/16400"),
        "pg_tblspc/16387/".to_owned(),
        format!("pg_tblspc/16387/{version}/"),
    ];
    assert_eq!(links, expected.iter().collect::<Vec<_>>());
    assert!(!found.contains(&"inner/".to_owned()), "copied twice");
}

/// B3
#[test]
fn a_tablespace_whose_files_are_gone_fails_the_walk() {
    let (directory, unmounted) = (TestDirectory::new(), tempfile::tempdir().unwrap());
    directory.link("pg_tblspc/16385", unmounted.path());
    let error = walk(&directory, LinkPolicy::Error).unwrap_err();
    assert!(error.hint_text().unwrap().contains("mounted"), "{error:?}");
    unmounted.close().unwrap();
    assert!(walk(&directory, LinkPolicy::Error).is_err(), "a dangling link is no tablespace");
}

/// B3
#[test]
fn a_tablespace_that_is_dropped_during_the_walk_is_fine() {
    let (directory, dropped) = (TestDirectory::new(), tempfile::tempdir().unwrap());
    directory.link("pg_tblspc/16385", dropped.path());
    let link = directory.path().join("pg_tblspc/16385");
    // PostgreSQL removes the directory of the version first, and the link a moment later.
    let server = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::fs::remove_file(link).unwrap();
    });
    let walked = walk(&directory, LinkPolicy::Error);
    server.join().unwrap();
    walked.unwrap();
}

#[test]
fn other_links_fail_the_walk_unless_a_policy_says_otherwise() {
    let (directory, elsewhere) = (TestDirectory::new(), tempfile::tempdir().unwrap());
    std::fs::write(elsewhere.path().join("a"), "x").unwrap();
    directory.link("extra", elsewhere.path());
    directory.link("file.conf", elsewhere.path().join("a"));
    let error = walk(&directory, LinkPolicy::Error).unwrap_err();
    assert!(error.to_string().contains("extra"), "{error}");
    let names = |policy| -> Vec<String> {
        let found = walk(&directory, policy).unwrap();
        found.into_iter().filter(|name| name.contains("extra") || name.contains("conf")).collect()
    };
    assert_eq!(names(LinkPolicy::Follow), ["extra/", "extra/a", "file.conf"]);
    assert!(names(LinkPolicy::Skip).is_empty());
}

#[test]
fn a_followed_link_that_leads_back_is_refused() {
    let directory = TestDirectory::new();
    directory.link("base/round", directory.path());
    assert!(walk(&directory, LinkPolicy::Follow).is_err());
}

#[test]
fn sockets_and_walrs_own_directory_are_left_out() {
    let directory = TestDirectory::new();
    let _socket = UnixListener::bind(directory.path().join(".s.PGSQL.5432")).unwrap();
    directory.write("cache/wal/x", b"x");
    let mut paths = Vec::new();
    let data = directory.data(LinkPolicy::Error);
    let data = data.leave_out(Some(&directory.path().join("cache")));
    data.walk(&mut |found| {
        if let Found::File(file) = found {
            paths.push(file.path.to_string());
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(paths, ["PG_VERSION", "global/pg_control"]);
}
