//! What the working directory says about the server that asks: PostgreSQL runs `restore_command` in its data directory.

use std::path::Path;

use crate::postgres::{CONTROL_FILE, ControlFile, DatabaseState, TimelineId, WalFileName};

/// Why a file is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Situation {
    /// `standby.signal`: the server keeps asking, so a failure may be told as "not now".
    Standby,
    /// `recovery.signal`: the server ends recovery at the first file that does not exist.
    Recovery,
    /// The server has begun to promote, and asks for the history of the timeline that it leaves.
    Promotion,
    /// Neither: `pg_rewind`, or a person.
    Other,
}

impl Situation {
    /// Of whoever asks for `file`. Both signals together mean a standby, as they do to PostgreSQL.
    pub(super) fn around(file: WalFileName) -> Self {
        match (Path::new("standby.signal").exists(), Path::new("recovery.signal").exists()) {
            (true, _) => Self::Standby,
            (false, true) => Self::Recovery,
            (false, false) if is_last_of_promotion(file) => Self::Promotion,
            (false, false) => Self::Other,
        }
    }

    /// Whether what is delivered will be replayed.
    pub(super) fn replays(self) -> bool {
        matches!(self, Self::Standby | Self::Recovery)
    }

    /// Whether somebody waits for a promotion while PostgreSQL waits for an answer, or may do so soon (P2).
    pub(super) fn is_hurried(self) -> bool {
        matches!(self, Self::Standby | Self::Promotion)
    }
}

/// The status, instead of "could not find out", of a failure to fetch `name`; none where that one is right.
///
/// A standby asks again, and takes `standby_status`. A server that is being promoted must not be stopped any more: it
/// has removed its signal files, so it would come up on the timeline that it was about to leave. Told 1, it reads the
/// history in its own `pg_wal`.
pub fn status_of_failure(name: &str, standby_status: u8) -> Option<u8> {
    match Situation::around(name.parse().ok()?) {
        Situation::Standby => Some(standby_status),
        Situation::Promotion => Some(1),
        Situation::Recovery | Situation::Other => None,
    }
}

/// Whether this is the one file that PostgreSQL asks for after it has removed its signal files, and does without.
///
/// `StartupXLOG` in `access/transam/xlog.c` removes them before `writeTimeLineHistory` reads the parent's history, from
/// the archive or else from `pg_wal`, where following that timeline has put it; timeline 1 has none (seen on 15).
fn is_last_of_promotion(file: WalFileName) -> bool {
    let WalFileName::History(timeline) = file else { return false };
    let local = Path::new("pg_wal").join(file.to_string());
    let dispensable = timeline == TimelineId::FIRST || local.exists();
    dispensable && Path::new(CONTROL_FILE).exists() && is_in_archive_recovery()
}

fn is_in_archive_recovery() -> bool {
    let control = ControlFile::read(Path::new("."));
    control.is_ok_and(|control| control.state == DatabaseState::InArchiveRecovery)
}

/// Whether somebody asked for a promotion that PostgreSQL has not begun yet.
///
/// Source: `PROMOTE_SIGNAL_FILE` in `access/xlog.h`; the startup process removes it when it acts.
pub(super) fn promotion_is_asked() -> bool {
    Path::new("promote").exists()
}
