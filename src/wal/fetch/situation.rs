//! What the working directory says about the server that asks: PostgreSQL runs `restore_command` in its data directory.

use std::path::Path;

/// Why a file is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Situation {
    /// `standby.signal`: the server keeps asking, so a failure may be told as "not now".
    Standby,
    /// `recovery.signal`: the server ends recovery at the first file that does not exist.
    Recovery,
    /// Neither: `pg_rewind`, or a person.
    Other,
}

impl Situation {
    /// Of the working directory. Both signals together mean a standby, as they do to PostgreSQL.
    pub(super) fn of_working_directory() -> Self {
        match (Path::new("standby.signal").exists(), Path::new("recovery.signal").exists()) {
            (true, _) => Self::Standby,
            (false, true) => Self::Recovery,
            (false, false) => Self::Other,
        }
    }

    /// Whether what is delivered will be replayed.
    pub(super) fn replays(self) -> bool {
        self != Self::Other
    }
}

/// Whether the server that runs this command asks again after a failure that is not told as 126 or more.
pub fn server_asks_again() -> bool {
    Situation::of_working_directory() == Situation::Standby
}

/// Whether somebody asked for a promotion that PostgreSQL has not begun yet.
///
/// Source: `PROMOTE_SIGNAL_FILE` in `access/xlog.h`; the startup process removes it when it acts.
pub(super) fn promotion_is_asked() -> bool {
    Path::new("promote").exists()
}
