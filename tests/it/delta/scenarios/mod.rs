//! What PostgreSQL does to its files between two backups, above all what it does without moving a page's LSN, a file's
//! size or its name: the delta has it, its restore recovers, and every path to the rows leads to the same ones.

mod catalog;
mod chains;
mod heap;
mod load;
mod segments;
mod tablespaces;
mod timelines;

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use super::{
    Delta, archiving_as, assert_restores_as_the_directory, push, push_delta, tablespace_mapping,
    text,
};
use crate::support::cluster::Cluster;
use crate::support::cluster_builder::{ClusterBuilder, PageChecksums};
use crate::support::installation::Major;
use crate::support::oracle;
use crate::support::postmaster::Stop;
use crate::support::recovery::RecoveryEnd;

/// A file that was changed so long before a backup is skipped by the next one, unless it changes again.
const SETTLING: Duration = Duration::from_millis(2100);

/// Files of a cluster that never change: most of the three databases that `initdb` makes.
const LASTING_FILES: usize = 500;

/// A cluster in which most of what changes leaves the LSNs of pages alone.
fn without_checksums(major: Major) -> ClusterBuilder {
    Cluster::builder(major).checksums(PageChecksums::Off).setting("max_prepared_transactions", "5")
}

/// Takes a backup after which files that stay as they are will not be read.
#[track_caller]
fn push_settled(cluster: &Cluster) -> Value {
    cluster.psql("checkpoint");
    sleep(SETTLING);
    push(cluster, &[])
}

/// Takes a delta that skips what has not changed, and asserts everything about it.
#[track_caller]
fn assert_skipping_delta_is_right(cluster: &mut Cluster, name: &str) -> Delta {
    let delta = assert_delta_is_right(cluster, name);
    assert_unread(&delta, cluster);
    delta
}

/// Asserts that a delta has skipped what never changes.
#[track_caller]
fn assert_unread(delta: &Delta, cluster: &Cluster) {
    if tells_changes(cluster.data()) {
        assert!(delta.unread.len() > LASTING_FILES, "only {} files unread", delta.unread.len());
    } else {
        eprintln!("SKIPPED: no file is skipped on the file system of the temporary directory");
    }
}

/// Whether the file system is one whose times of change are trusted: ext4, xfs or btrfs.
fn tells_changes(directory: &Path) -> bool {
    let kind = rustix::fs::statfs(directory).unwrap().f_type;
    [0xEF53, 0x5846_5342, 0x9123_683E].contains(&kind)
}

/// Takes a delta of a server that writes nothing meanwhile, and asserts that it restores to the very files, and, on a
/// recovered server, to the very rows by every path. The server runs afterwards.
#[track_caller]
fn assert_delta_is_right(cluster: &mut Cluster, name: &str) -> Delta {
    cluster.psql("checkpoint");
    let delta = push_delta(cluster);
    cluster.stop(Stop::Immediate);
    assert_restores_as_the_directory(cluster, &format!("{name}-files"), &delta);
    cluster.start();
    let copy = recovered(cluster, name, delta.id());
    oracle::assert_same_rows(cluster, &copy);
    delta
}

/// A copy of `source` beside it, recovered from `backup` to the end of its WAL.
#[track_caller]
fn recovered(source: &Cluster, name: &str, backup: &str) -> Cluster {
    let mut copy = source.sibling(name);
    let mut arguments = vec!["restore", copy.data_argument(), "--backup", backup];
    let mapping = tablespace_mapping(source, name);
    arguments.extend(mapping.iter().map(String::as_str));
    source.walrs(&arguments).expect_success();
    copy.recover_to(RecoveryEnd::Promoted);
    copy
}
