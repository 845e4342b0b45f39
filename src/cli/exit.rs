//! How a run ends: outcomes, and the exit status that each verb gives them (`product.md`, exit codes).
//!
//! `restore_command` and `archive_command` read statuses in opposite ways: for the first, 1–125 means "no such file" and
//! ends recovery; for the second, anything above 125 kills the archiver uncounted.

use std::ffi::OsString;
use std::future::Future;

use crate::error::{Error, Result};

const FETCH: &str = "wal-fetch";
const PUSH: &str = "wal-push";
/// Whoever its parent is must never learn anything from it (P1).
const PREFETCH: &str = "wal-prefetch";
/// `wal-fetch` could not find out: PostgreSQL must stop, not promote.
const COULD_NOT_FIND_OUT: u8 = 255;

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or already so.
    Done,
    /// The backup is complete and records damaged pages of the cluster.
    BadPages,
    /// `wal-fetch`: an authenticated answer proved that the file does not exist.
    ProvenAbsent,
    /// `wal-fetch` on a standby: failed, and PostgreSQL is to ask again with this status.
    AskAgain(u8),
}

/// The statuses of the verb that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses {
    verb: Option<String>,
}

impl Statuses {
    /// Finds the verb: the first known one among the arguments.
    pub fn of(arguments: &[OsString], known: &[String]) -> Self {
        let mut texts = arguments.iter().skip(1).filter_map(|argument| argument.to_str());
        let verb = texts.find(|text| known.iter().any(|verb| verb == text)).map(str::to_owned);
        Self { verb }
    }

    /// The verb, if one is known.
    pub fn verb(&self) -> Option<&str> {
        self.verb.as_deref()
    }

    /// Whether PostgreSQL starts this once per segment, or it lives beside PostgreSQL.
    pub fn is_of_wal(&self) -> bool {
        matches!(self.verb(), Some(FETCH | PUSH | PREFETCH))
    }

    fn silent(&self) -> bool {
        self.verb() == Some(PREFETCH)
    }

    fn cautious(&self) -> bool {
        matches!(self.verb(), None | Some(FETCH))
    }

    /// Of a run that did not fail.
    pub fn of_outcome(&self, outcome: Outcome) -> u8 {
        match outcome {
            _ if self.silent() => 0,
            Outcome::Done => 0,
            Outcome::ProvenAbsent => 1,
            Outcome::BadPages => 6,
            Outcome::AskAgain(status) => status,
        }
    }

    /// Of a failed run.
    pub fn of_error(&self, error: &Error) -> u8 {
        if self.silent() {
            return 0;
        }
        if self.cautious() { COULD_NOT_FIND_OUT } else { error.kind().exit_code() }
    }

    /// Of wrong arguments.
    pub fn of_usage(&self) -> u8 {
        if self.silent() {
            return 0;
        }
        if self.cautious() { COULD_NOT_FIND_OUT } else { 2 }
    }

    /// Of `--help`.
    ///
    /// Without a verb, or in a `restore_command`, even help must not look like "delivered" or "no such file".
    pub fn of_help(&self) -> u8 {
        match self.verb() {
            None | Some(FETCH) => COULD_NOT_FIND_OUT,
            // Nothing was archived.
            Some(PUSH) => 2,
            Some(_) => 0,
        }
    }

    /// Of `--version`, which delivers and archives nothing either.
    pub fn of_version(&self) -> u8 {
        match self.verb() {
            None => 0,
            Some(_) => self.of_help(),
        }
    }

    /// Of a panic.
    pub fn of_panic(&self) -> u8 {
        if self.silent() {
            return 0;
        }
        if self.cautious() { COULD_NOT_FIND_OUT } else { 70 }
    }
}

/// What a command's runtime works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// The calling thread: PostgreSQL starts the WAL verbs once per segment, so they get no thread pool.
    One,
    /// A thread for every core.
    Pool,
}

/// Runs a command to its end.
pub(super) fn in_runtime(
    threads: Threads,
    command: impl Future<Output = Result<Outcome>>,
) -> Result<Outcome> {
    let mut builder = match threads {
        Threads::One => tokio::runtime::Builder::new_current_thread(),
        Threads::Pool => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|source| Error::unavailable("cannot start the runtime").because(source))?;
    let outcome = runtime.block_on(command);
    // Work that was given up, such as a read from a dead disk, must not keep the process.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(line: &str) -> Statuses {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        Statuses::of(
            &arguments,
            &["wal-fetch", "wal-push", "wal-prefetch", "config"].map(str::to_owned),
        )
    }

    /// F2
    #[test]
    fn nothing_but_proven_absence_gives_wal_fetch_a_status_below_126() {
        for line in
            ["walrs wal-fetch", "walrs --config x wal-fetch a b", "walrs", "walrs wal-fetsh a b"]
        {
            let statuses = statuses(line);
            assert_eq!(statuses.of_usage(), 255, "{line}");
            assert_eq!(statuses.of_help(), 255, "{line}");
            assert_eq!(statuses.of_panic(), 255, "{line}");
            for error in [
                Error::usage("x"),
                Error::nothing_matched("x"),
                Error::damaged("x"),
                Error::bug("x"),
            ] {
                assert_eq!(statuses.of_error(&error), 255, "{line}");
            }
        }
        assert_eq!(statuses("walrs --version wal-fetch a b").of_version(), 255);
        assert_eq!(statuses("walrs --version").of_version(), 0);
        assert_eq!(statuses("walrs wal-fetch a b").of_outcome(Outcome::ProvenAbsent), 1);
    }

    /// P1
    #[test]
    fn the_helper_always_exits_0() {
        let statuses = statuses("walrs --config x wal-prefetch fill x");
        let errors = [Error::usage("x"), Error::damaged("x"), Error::bug("x")];
        let failures = errors.iter().map(|error| statuses.of_error(error));
        for status in failures.chain([statuses.of_usage(), statuses.of_panic()]) {
            assert_eq!(status, 0);
        }
        assert_eq!(statuses.of_outcome(Outcome::ProvenAbsent), 0);
    }

    /// W10
    #[test]
    fn wal_push_stays_within_1_to_125() {
        let statuses = statuses("walrs wal-push x");
        let errors = [
            Error::usage("x"),
            Error::refused("x"),
            Error::unavailable("x"),
            Error::damaged("x"),
            Error::bug("x"),
        ];
        let failures = errors.iter().map(|error| statuses.of_error(error));
        for status in failures.chain([statuses.of_usage(), statuses.of_help(), statuses.of_panic()])
        {
            assert!((1..=125).contains(&status), "{status}");
        }
    }
}
