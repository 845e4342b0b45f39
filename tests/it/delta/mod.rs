//! Deltas: whatever happened between two backups, the second holds the data directory as it was, byte for byte, and
//! stores little more than what changed.

mod basics;
mod resumed;
mod scenarios;
mod trust;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::cluster_builder::ClusterBuilder;
use crate::support::installation::Major;
use crate::support::oracle;
use crate::support::postmaster::Stop;
use crate::support::program::Finished;
use crate::support::repository::TestRepository;

/// A running cluster that archives into `repository` and writes little of its own accord.
fn archiving(repository: &TestRepository) -> Cluster {
    archiving_as(Cluster::builder(Major::V15), repository)
}

/// The same, of a certain description.
fn archiving_as(builder: ClusterBuilder, repository: &TestRepository) -> Cluster {
    let builder = builder.archiving_to(repository);
    let mut cluster = builder.setting("autovacuum", "off").create();
    if repository.is_encrypted() {
        repository.init(cluster.data()).expect_success();
    }
    cluster.start();
    cluster
}

/// Takes a backup; what `--json` says of it.
#[track_caller]
fn push(cluster: &Cluster, arguments: &[&str]) -> Value {
    let all = [&["backup-push", "--json"], arguments].concat();
    shown(&cluster.walrs(&all))
}

/// What `--json` said.
#[track_caller]
fn shown(finished: &Finished) -> Value {
    assert_eq!(finished.status, 0, "{finished}");
    serde_json::from_str(&finished.stdout).unwrap()
}

fn text<'a>(backup: &'a Value, field: &str) -> &'a str {
    backup[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {backup}"))
}

fn number(backup: &Value, field: &str) -> u64 {
    backup[field].as_u64().unwrap_or_else(|| panic!("no `{field}` in {backup}"))
}

/// What a backup leaves out, and what is in one of two equal directories only.
fn is_compared(path: &str) -> bool {
    const NOT: [&str; 9] = [
        "pg_wal",
        "pg_subtrans/",
        "pg_stat",
        "base/pgsql_tmp",
        "global/pg_control",
        "global/pg_internal",
        "backup_label",
        "postmaster.",
        "standby.signal",
    ];
    !NOT.iter().any(|name| path.starts_with(name)) && !path.contains("/pg_internal")
}

/// Of the data directory and of its tablespaces, which are files of `pg_tblspc/<oid>` here.
fn compared_digests(directory: &std::path::Path) -> BTreeMap<String, String> {
    let mut digests = oracle::file_digests(directory);
    for link in std::fs::read_dir(directory.join("pg_tblspc")).unwrap() {
        let link = link.unwrap().path();
        let name = link.strip_prefix(directory).unwrap().display().to_string();
        let below = oracle::file_digests(&std::fs::canonicalize(&link).unwrap());
        digests.extend(below.into_iter().map(|(path, digest)| (format!("{name}/{path}"), digest)));
        digests.insert(name, "a tablespace".to_owned());
    }
    digests.retain(|path, _| is_compared(path));
    digests
}

/// A delta that restores to what the directory was.
struct Delta {
    /// What `--json` says.
    shown: Value,
    /// The files that were taken over unread.
    unread: BTreeSet<String>,
}

impl Delta {
    fn id(&self) -> &str {
        text(&self.shown, "id")
    }
}

/// Takes a delta of a server that writes nothing meanwhile, stops the server as by a crash, and asserts that what the
/// delta restores is the directory, byte for byte. The server is left stopped.
#[track_caller]
fn assert_delta_is_the_directory(cluster: &mut Cluster, name: &str) -> Value {
    cluster.psql("checkpoint");
    let delta = push_delta(cluster);
    // Nothing was written since the checkpoint of the backup's start, and nothing is written now.
    cluster.stop(Stop::Immediate);
    assert_restores_as_the_directory(cluster, name, &delta);
    delta.shown
}

/// Takes a delta.
#[track_caller]
fn push_delta(cluster: &Cluster) -> Delta {
    let mut command = cluster.walrs_command(&["backup-push", "--json"]);
    told_delta(&Finished::run(command.env("WALRS_LOG", "debug")))
}

/// What a `backup-push --json` with debug messages did.
#[track_caller]
fn told_delta(finished: &Finished) -> Delta {
    let shown = shown(finished);
    assert_eq!(text(&shown, "kind"), "delta", "{finished}");
    let lines = finished.stderr.lines().filter(|line| line.contains("taken over unread"));
    let path = |line: &str| line.rsplit_once("path=").expect("a path is told").1.to_owned();
    Delta { unread: lines.map(path).collect(), shown }
}

/// Asserts that what a backup restores is the directory of a stopped server, byte for byte.
#[track_caller]
fn assert_restores_as_the_directory(cluster: &Cluster, name: &str, delta: &Delta) {
    let copy = cluster.sibling(name);
    let mut arguments = vec!["backup-fetch", copy.data_argument(), delta.id()];
    let mapping = tablespace_mapping(cluster, name);
    arguments.extend(mapping.iter().map(String::as_str));
    cluster.walrs(&arguments).expect_success();
    assert_equal_digests(&compared_digests(cluster.data()), &compared_digests(copy.data()));
}

#[track_caller]
fn assert_equal_digests(expected: &BTreeMap<String, String>, found: &BTreeMap<String, String>) {
    let paths: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    let differing: Vec<_> =
        paths.into_iter().filter(|path| expected.get(*path) != found.get(*path)).collect();
    assert_eq!(differing, [""; 0]);
}

/// Options that put every tablespace of the cluster into directories of its copy `name`.
fn tablespace_mapping(cluster: &Cluster, name: &str) -> Vec<String> {
    let links = std::fs::read_dir(cluster.data().join("pg_tblspc")).unwrap();
    let oids = links.map(|link| link.unwrap().file_name().into_string().unwrap());
    let place = |oid: &str| cluster.scratch().join(format!("{name}-tablespace-{oid}"));
    oids.flat_map(|oid| ["--tablespace".to_owned(), format!("{oid}={}", place(&oid).display())])
        .collect()
}
