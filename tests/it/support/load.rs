//! Clients that write while a test backs up: pgbench, stopped by its own process id.

use std::process::{Child, Stdio};

use rustix::process::Signal;

use super::cluster::Cluster;
use super::postmaster::{send, wait_until};
use super::program::Finished;

/// A running pgbench; stopped when dropped.
#[derive(Debug)]
pub(crate) struct Load {
    child: Child,
}

impl Load {
    /// Creates pgbench's tables: `scale` times 100,000 rows, about 15 MB each.
    pub(crate) fn prepare(cluster: &Cluster, scale: u32) {
        let mut command = cluster.client("pgbench");
        command.args(["--initialize", "--quiet", "--scale", &scale.to_string()]);
        Finished::run(&mut command).expect_success();
    }

    /// Starts `clients` connections that update prepared tables, and waits until the first of them has committed.
    pub(crate) fn start(cluster: &Cluster, clients: u32) -> Self {
        let before = committed(cluster);
        let mut command = cluster.client("pgbench");
        command.args(["--no-vacuum", "--time=3600", "--client", &clients.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("pgbench can be started");
        let load = Self { child };
        wait_until("pgbench writes", || committed(cluster) > before);
        load
    }

    /// Stops the clients and waits for their end. Panics when pgbench had ended by itself.
    pub(crate) fn stop(mut self) {
        let ended = self.child.try_wait().expect("pgbench is our child");
        assert!(ended.is_none(), "pgbench ended by itself: {ended:?}");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            send(self.child.id(), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

fn committed(cluster: &Cluster) -> u64 {
    let count = cluster.psql("select count(*) from pgbench_history");
    count.parse().expect("a count is a number")
}
