//! Deltas: whatever happened between two backups, the second holds the data directory as it was, byte for byte, and
//! stores little more than what changed.

mod basics;
mod resumed;
mod trust;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::oracle;
use crate::support::postmaster::Stop;
use crate::support::repository::TestRepository;

/// A running cluster that archives into `repository` and writes little of its own accord.
fn archiving(repository: &TestRepository) -> Cluster {
    let builder = Cluster::builder(Major::V15).archiving_to(repository);
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
    serde_json::from_str(&cluster.walrs(&all).expect_success().stdout).unwrap()
}

fn text<'a>(backup: &'a Value, field: &str) -> &'a str {
    backup[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {backup}"))
}

fn number(backup: &Value, field: &str) -> u64 {
    backup[field].as_u64().unwrap_or_else(|| panic!("no `{field}` in {backup}"))
}

/// What a backup leaves out, and what is in one of two equal directories only.
fn is_compared(path: &str) -> bool {
    const NOT: [&str; 8] = [
        "pg_wal",
        "pg_subtrans/",
        "pg_stat",
        "base/pgsql_tmp",
        "global/pg_control",
        "global/pg_internal",
        "backup_label",
        "postmaster.",
    ];
    !NOT.iter().any(|name| path.starts_with(name)) && !path.contains("/pg_internal")
}

fn compared_digests(directory: &std::path::Path) -> BTreeMap<String, String> {
    let mut digests = oracle::file_digests(directory);
    digests.retain(|path, _| is_compared(path));
    digests
}

/// Takes a delta of a server that writes nothing meanwhile, stops the server as by a crash, and asserts that what the
/// delta restores is the directory, byte for byte. The server is left stopped.
#[track_caller]
fn assert_delta_is_the_directory(cluster: &mut Cluster, name: &str) -> Value {
    cluster.psql("checkpoint");
    let delta = push(cluster, &[]);
    assert_eq!(text(&delta, "kind"), "delta");
    // Nothing was written since the checkpoint of the backup's start, and nothing is written now.
    cluster.stop(Stop::Immediate);
    let copy = cluster.sibling(name);
    cluster.walrs(&["backup-fetch", copy.data_argument(), text(&delta, "id")]).expect_success();
    let (expected, restored) = (compared_digests(cluster.data()), compared_digests(copy.data()));
    let paths: std::collections::BTreeSet<_> = expected.keys().chain(restored.keys()).collect();
    let differing: Vec<_> =
        paths.into_iter().filter(|path| expected.get(*path) != restored.get(*path)).collect();
    assert_eq!(differing, [""; 0]);
    delta
}
