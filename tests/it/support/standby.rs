//! Standbys made from a cold copy of their primary: the same way for every major version.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::cluster::Cluster;
use super::cluster_builder::{append, setting_line, touch};
use super::postmaster::Stop;
use super::program::{Finished, walrs_binary};
use super::user::ServerUser;

/// Where a standby gets its WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feed {
    /// From the primary over the network.
    Streaming,
    /// From the repository, by `walrs wal-fetch`.
    Archive,
    /// From either, as most installations do.
    Both,
}

impl Cluster {
    /// Makes and starts a standby called `name`. The primary is stopped for the copy and started again.
    pub(crate) fn standby(&mut self, name: &str, feed: Feed) -> Cluster {
        let mut standby = self.cold_copy(name);
        standby.follow(self, feed);
        standby.start();
        standby
    }

    /// A stopped copy of the whole data directory with its tablespaces; this cluster is restarted.
    pub(crate) fn cold_copy(&mut self, name: &str) -> Cluster {
        self.stop(Stop::Fast);
        let copy = self.stopped_copy(name);
        self.start();
        copy
    }

    /// A copy of this stopped cluster.
    pub(crate) fn stopped_copy(&self, name: &str) -> Cluster {
        let copy = self.sibling(name);
        copy_tree(self.data(), copy.data());
        copy_tablespaces(&copy, name);
        copy
    }

    /// Turns a stopped copy of `primary` into its standby.
    pub(crate) fn follow(&self, primary: &Cluster, feed: Feed) {
        let settings = self.data().join("postgresql.auto.conf");
        if feed != Feed::Archive {
            append(
                &settings,
                &format!("{}\n", setting_line("primary_conninfo", &address(primary))),
            );
        }
        if feed != Feed::Streaming {
            let command = format!("\"{}\" wal-fetch %f %p", walrs_binary().display());
            append(&settings, &format!("{}\n", setting_line("restore_command", &command)));
        }
        touch(&self.data().join("standby.signal"));
    }
}

fn address(primary: &Cluster) -> String {
    let connection = primary.connection();
    format!("host={} port={} user=postgres", connection["PGHOST"], connection["PGPORT"])
}

/// Copies with owners, modes and times; links stay links.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    Finished::run(Command::new("cp").arg("-a").arg(from).arg(to)).expect_success();
}

fn copy_tablespaces(copy: &Cluster, name: &str) {
    let links = fs::read_dir(copy.data().join("pg_tblspc")).expect("every cluster has pg_tblspc");
    for link in links {
        let link = link.expect("a directory of the test can be read").path();
        let oid = link.file_name().expect("links have names").to_string_lossy().into_owned();
        let own = copy.scratch().join(format!("{name}-tablespace-{oid}"));
        copy_tree(&fs::read_link(&link).expect("tablespaces are links"), &own);
        fs::remove_file(&link).expect("the copy is ours");
        symlink(&own, &link).expect("the copy is ours");
        ServerUser::get().own_tree(&link);
    }
}
