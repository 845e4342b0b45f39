//! WAL files without a running server: what `initdb` leaves, and segments forged from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cluster::Cluster;
use super::cluster_builder::touch;
use super::program::{Finished, walrs_binary};
use super::user::ServerUser;

// Offsets in XLogPageHeaderData and XLogLongPageHeaderData, access/xlog_internal.h.
const MAGIC: usize = 0;
const TIMELINE: usize = 4;
const ADDRESS: usize = 8;
const SYSTEM_IDENTIFIER: usize = 24;

/// The first segment of every cluster, which `initdb` writes.
pub(crate) const FIRST: &str = "000000010000000000000001";

/// The name of a segment of timeline `timeline` in a cluster whose segments share one log.
pub(crate) fn segment(timeline: u32, number: u32) -> String {
    format!("{timeline:08X}{:08X}{number:08X}", 0)
}

/// `00000002.history` and the like.
pub(crate) fn history(timeline: u32) -> String {
    format!("{timeline:08X}.history")
}

impl Cluster {
    /// A file of `pg_wal`.
    pub(crate) fn wal_file(&self, name: &str) -> PathBuf {
        self.data().join("pg_wal").join(name)
    }

    /// The oldest segment in `pg_wal`; with segments of the usual size it is [`FIRST`].
    pub(crate) fn first_segment(&self) -> Vec<u8> {
        let names = names_in(&self.data().join("pg_wal"));
        let first = names.iter().find(|name| name.len() == FIRST.len());
        fs::read(self.wal_file(first.expect("initdb writes WAL"))).expect("it is ours")
    }

    /// Bytes that pass for the segment `name`: the first one with another address, timeline and a marker.
    pub(crate) fn forged_segment(&self, name: &str, marker: u8) -> Vec<u8> {
        let mut bytes = self.first_segment();
        let number = |range: std::ops::Range<usize>| u64::from_str_radix(&name[range], 16).unwrap();
        let address = (number(8..16) << 32) + number(16..24) * bytes.len() as u64;
        bytes[TIMELINE..TIMELINE + 4].copy_from_slice(&(number(0..8) as u32).to_le_bytes());
        bytes[ADDRESS..ADDRESS + 8].copy_from_slice(&address.to_le_bytes());
        *bytes.last_mut().expect("a segment is not empty") = marker;
        bytes
    }

    /// Writes a file into `pg_wal`, replacing one, and returns PostgreSQL's `%p` for it.
    pub(crate) fn write_wal(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.wal_file(name);
        fs::write(&path, content).expect("the data directory is writable");
        ServerUser::get().own(&path);
        format!("pg_wal/{name}")
    }

    /// Forges a segment in `pg_wal` and returns PostgreSQL's `%p` for it.
    pub(crate) fn forge(&self, name: &str) -> String {
        self.write_wal(name, self.forged_segment(name, 0))
    }

    /// `walrs ARGUMENTS` as PostgreSQL runs its commands: in the data directory, which no variable names.
    pub(crate) fn as_postgres(&self, arguments: &[&str]) -> Command {
        let mut command = self.walrs_command(arguments);
        command.env_remove("PGDATA").current_dir(self.data());
        command
    }

    /// Archives a file of `pg_wal` as PostgreSQL does.
    pub(crate) fn push(&self, name: &str) -> Finished {
        Finished::run(&mut self.as_postgres(&["wal-push", &format!("pg_wal/{name}")]))
    }

    /// Asks for a file as PostgreSQL's recovery does; it lands in `pg_wal/RECOVERYXLOG`.
    pub(crate) fn fetch(&self, name: &str) -> Finished {
        Finished::run(&mut self.as_postgres(&["wal-fetch", name, "pg_wal/RECOVERYXLOG"]))
    }

    /// What the last fetch delivered.
    pub(crate) fn fetched(&self) -> Vec<u8> {
        fs::read(self.wal_file("RECOVERYXLOG")).expect("something was delivered")
    }

    /// Puts `recovery.signal` or `standby.signal` in place.
    pub(crate) fn signal(&self, name: &str) {
        touch(&self.data().join(name));
    }

    /// Asserts that no fetch has delivered anything or left anything behind.
    #[track_caller]
    pub(crate) fn assert_nothing_fetched(&self) {
        assert!(!self.wal_file("RECOVERYXLOG").exists(), "something was delivered");
        let names = names_in(&self.data().join("pg_wal"));
        assert!(!names.iter().any(|name| name.starts_with('.')), "left behind: {names:?}");
    }

    /// The `restore_command` of the binary under test.
    pub(crate) fn restore_command() -> String {
        format!("\"{}\" wal-fetch %f %p", walrs_binary().display())
    }

    /// The prefix of the cluster's objects: the system identifier as 16 hex digits, out of a stopped cluster's WAL.
    pub(crate) fn identifier_in_names(&self) -> String {
        let bytes = self.first_segment();
        let number = bytes[SYSTEM_IDENTIFIER..SYSTEM_IDENTIFIER + 8].try_into().unwrap();
        format!("{:016x}", u64::from_le_bytes(number))
    }

    /// The key of a segment's object.
    pub(crate) fn segment_key(&self, name: &str) -> String {
        let cluster = self.identifier_in_names();
        format!("wal/{cluster}/{}/{}/{name}", &name[..8], &name[8..16])
    }

    /// The key of a history's object.
    pub(crate) fn history_key(&self, timeline: u32) -> String {
        format!("histories/{}/{}", self.identifier_in_names(), history(timeline))
    }
}

/// Overwrites the magic number of a page.
pub(crate) fn break_magic(segment: &mut [u8], page: usize) {
    segment[page * 8192 + MAGIC..][..2].copy_from_slice(&[0xFF, 0xFF]);
}

/// Gives a segment to another cluster.
pub(crate) fn change_owner(segment: &mut [u8]) {
    segment[SYSTEM_IDENTIFIER] ^= 1;
}

/// Moves a directory, as an unmounted disk or its return looks to others.
pub(crate) fn move_away(from: &Path, to: &Path) {
    walrs::durable::rename(from, to, walrs::durable::Existing::Keep).expect("the test's own");
}

/// The names in a directory, sorted.
pub(crate) fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory of the test can be read");
    let names = entries.map(|entry| entry.expect("readable").file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
