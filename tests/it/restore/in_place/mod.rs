//! Restores in place (R6).

mod chain;
mod content;
mod killed;
mod places;
mod refusals;
mod reuse;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{archiving, back_up};
use crate::support::cluster::Cluster;
use crate::support::oracle;
use crate::support::program::Finished;

/// Brings a cluster's own data directory back; the server is not started.
fn try_in_place(cluster: &Cluster, arguments: &[&str]) -> Finished {
    let data = cluster.data_argument();
    cluster.walrs(&[&["restore", data, "--in-place"], arguments].concat())
}

/// What a restore in place would do, by its own account.
#[track_caller]
fn plan(cluster: &Cluster, arguments: &[&str]) -> serde_json::Value {
    let planned = try_in_place(cluster, &[&["--plan", "--json"], arguments].concat());
    serde_json::from_str(&planned.expect_success().stdout).expect("a plan is JSON")
}

#[track_caller]
fn number(plan: &serde_json::Value, member: &str) -> u64 {
    plan[member].as_u64().unwrap_or_else(|| panic!("no number `{member}` in {plan}"))
}

/// The file of a table.
fn relation(cluster: &Cluster, table: &str) -> PathBuf {
    cluster.data().join(cluster.psql(&format!("select pg_relation_filepath('{table}')")))
}

/// The number of a tablespace, and a mapping of it to a directory of its own beside the data directory.
fn mapping(cluster: &Cluster, tablespace: &str, directory: &str) -> (String, String) {
    let oid =
        cluster.psql(&format!("select oid from pg_tablespace where spcname = '{tablespace}'"));
    let mapping = format!("{oid}={}", cluster.scratch().join(directory).display());
    (oid, mapping)
}

/// Digests of everything in a data directory and its tablespaces, wherever these are.
fn digests(data: &Path) -> BTreeMap<String, String> {
    let mut digests = oracle::file_digests(data);
    for link in fs::read_dir(data.join("pg_tblspc")).unwrap() {
        let link = link.unwrap().path();
        let name = link.strip_prefix(data).unwrap().display().to_string();
        let below = oracle::file_digests(&fs::read_link(&link).unwrap());
        digests.extend(below.into_iter().map(|(path, digest)| (format!("{name}/{path}"), digest)));
        digests.insert(name, "a link".to_owned());
    }
    digests
}

/// Asserts that two data directories hold the same, byte by byte, but for the paths that `is_left_out`.
#[track_caller]
fn assert_same_content(expected: &Path, found: &Path, is_left_out: impl Fn(&str) -> bool) {
    let (expected, found) = (digests(expected), digests(found));
    let paths = expected.keys().chain(found.keys().filter(|path| !expected.contains_key(*path)));
    let differs = |path: &&String| expected.get(*path) != found.get(*path) && !is_left_out(path);
    assert_eq!(paths.filter(differs).collect::<Vec<_>>(), [""; 0], "these differ");
    assert!(expected.len() > 900, "{}", expected.len());
}
