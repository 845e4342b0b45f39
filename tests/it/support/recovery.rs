//! Watching a recovery to its end: promoted, paused, shut down, or failed.

use super::cluster::Cluster;
use super::postmaster::{Stop, wait_until};

/// How a recovery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecoveryEnd {
    /// Read-write on its timeline.
    Promoted,
    /// Paused at its target, readable.
    Paused,
    /// Shut down at its target, as `recovery_target_action = shutdown` asks.
    ShutDown,
    /// The server ended by itself for any other reason.
    Failed,
}

impl Cluster {
    /// Starts the server over a restored data directory and waits for the end of recovery.
    ///
    /// A promoted or paused server keeps running. The log is [`Cluster::log`].
    pub(crate) fn recover(&mut self) -> RecoveryEnd {
        for _ in 0..5 {
            let before = self.log().len();
            self.launch();
            let end = self.recovery_end();
            if end != RecoveryEnd::Failed
                || !self.log()[before..].contains("Address already in use")
            {
                return end;
            }
            self.forget_port();
        }
        panic!("no free port");
    }

    /// As [`Cluster::recover`], asserting the expected end and showing the log when it differs.
    #[track_caller]
    pub(crate) fn recover_to(&mut self, expected: RecoveryEnd) {
        let end = self.recover();
        assert_eq!(end, expected, "recovery ended otherwise; the log:\n{}", self.log());
    }

    fn recovery_end(&mut self) -> RecoveryEnd {
        let mut end = None;
        wait_until("recovery ends", || {
            end = self.recovery_end_now();
            end.is_some()
        });
        end.expect("waited for")
    }

    fn recovery_end_now(&mut self) -> Option<RecoveryEnd> {
        if self.take_exit_status().is_some() {
            return Some(self.reason_of_exit());
        }
        if !self.is_ready() {
            return None;
        }
        let state = "select case when not pg_is_in_recovery() then 'promoted' \
                     when pg_is_wal_replay_paused() then 'paused' else 'replaying' end";
        // The server may end, or be promoted between the two questions; then the next look tells.
        match self.try_psql("postgres", state).stdout.trim() {
            "promoted" => Some(RecoveryEnd::Promoted),
            "paused" => Some(RecoveryEnd::Paused),
            _ => None,
        }
    }

    fn reason_of_exit(&self) -> RecoveryEnd {
        let log = self.log();
        let last_start = log.rfind("starting PostgreSQL").unwrap_or(0);
        if log[last_start..].contains("shutdown at recovery target") {
            RecoveryEnd::ShutDown
        } else {
            RecoveryEnd::Failed
        }
    }

    /// Replays until the standby has everything the `primary` has written so far.
    pub(crate) fn wait_caught_up(&self, primary: &Cluster) {
        let goal = primary.psql("select pg_current_wal_flush_lsn()");
        let reached = format!("select pg_last_wal_replay_lsn() >= '{goal}'::pg_lsn");
        wait_until("the standby has caught up", || self.psql(&reached) == "t");
    }

    /// Replays until `condition`, a query that yields one boolean, holds.
    pub(crate) fn wait_for(&self, condition: &str) {
        wait_until(condition, || self.try_psql("postgres", condition).stdout.trim() == "t");
    }

    /// The timeline that the server writes or replays.
    pub(crate) fn timeline(&self) -> u32 {
        // The control file lags behind after a promotion until its checkpoint; the segment's name does not.
        let sql = "select case when pg_is_in_recovery() \
                   then (select received_tli from pg_stat_wal_receiver) \
                   else ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int end";
        self.psql(sql).parse().expect("a timeline is a number")
    }

    /// Stops the server as a crash would, and starts it again.
    pub(crate) fn crash_and_restart(&mut self) {
        self.stop(Stop::Kill);
        self.start();
    }
}
