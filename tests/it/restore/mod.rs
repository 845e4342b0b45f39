//! `restore` and `backup-fetch` on real servers: what is restored, when it is refused, and what a killed one leaves.

mod damage;
mod files;
mod in_place;
mod killed;
mod lease;
mod recovery;
mod refusals;
mod story;
mod targets;

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::program::Finished;
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::TestRepository;

/// A running cluster that archives into `repository`, which an encrypted one has been made for.
fn archiving(major: Major, repository: &TestRepository) -> Cluster {
    let mut cluster = Cluster::builder(major).archiving_to(repository).create();
    if repository.is_encrypted() {
        repository.init(cluster.data()).expect_success();
    }
    cluster.start();
    cluster
}

/// Takes a backup and returns its id.
#[track_caller]
fn back_up(cluster: &Cluster) -> String {
    cluster.walrs(&["backup-push"]).expect_success().stdout.trim_end().to_owned()
}

/// Runs `walrs restore` for a new cluster `name` beside `source`, which is not started.
fn try_restore(source: &Cluster, name: &str, arguments: &[&str]) -> (Cluster, Finished) {
    let mut copy = source.sibling(name);
    let all = [&["restore", copy.data_argument()], arguments].concat();
    let finished = source.walrs(&all);
    // Recovery must work from an empty environment, but for credentials.
    copy.environment_mut().retain(|name, _| name.starts_with("AWS_"));
    (copy, finished)
}

/// Restores to the end and starts the copy, which must promote.
#[track_caller]
fn restore(source: &Cluster, name: &str, arguments: &[&str]) -> Cluster {
    let (mut copy, finished) = try_restore(source, name, arguments);
    finished.expect_success();
    copy.recover_to(RecoveryEnd::Promoted);
    copy
}
