//! Starting and stopping a backup: other functions before 15, and always in one session.

use super::{Session, field};
use crate::error::{Error, Result};
use crate::postgres::lsn::Lsn;
use crate::postgres::text::Malformed;
use crate::postgres::version::MajorVersion;

/// A backup that the server knows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartedBackup {
    /// Where replay of the backup begins: the redo point of its checkpoint.
    pub lsn: Lsn,
}

/// What the server returned at the end of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoppedBackup {
    /// The backup is consistent once replay has reached this position. On a standby only a lower bound: see
    /// `minRecoveryPoint` in the copied `pg_control`.
    pub lsn: Lsn,
    /// The content of `backup_label`, byte for byte.
    pub backup_label: Vec<u8>,
    /// The content of `tablespace_map`, byte for byte; `None` when there is nothing to map.
    pub tablespace_map: Option<Vec<u8>>,
}

const START_13: &str = "select pg_start_backup($1, true, false)::text";
const START_15: &str = "select pg_backup_start($1, true)::text";

// Paths in the files may be in any encoding, and text would be converted to UTF-8 on its way here. `decode` takes the
// bytes as they are, but for backslashes.
const STOPPED: &str = r"select lsn::text, decode(replace(labelfile, E'\\', E'\\\\'), 'escape'),
    decode(replace(spcmapfile, E'\\', E'\\\\'), 'escape') from ";
const STOP_13: &str = "pg_stop_backup(false, false)";
const STOP_15: &str = "pg_backup_stop(false)";

const PRIVILEGE_HINT: &str = "connect as a superuser, or grant the role `execute` on the functions that start and stop a backup";

impl Session {
    /// Starts a backup called `label` with an immediate checkpoint, and returns when that is done.
    ///
    /// The backup ends with the session, unless it is stopped before.
    pub async fn start_backup(&self, label: &str) -> Result<StartedBackup> {
        let sql = if self.has_new_functions() { START_15 } else { START_13 };
        let started = self.value::<String>("start a backup", sql, &[&label]).await;
        let text = started.map_err(|error| error.hint(PRIVILEGE_HINT))?;
        Ok(StartedBackup { lsn: parse_lsn(&text)? })
    }

    /// Stops the backup of this session without waiting for the archive.
    pub async fn stop_backup(&self) -> Result<StoppedBackup> {
        let function = if self.has_new_functions() { STOP_15 } else { STOP_13 };
        let row = self.row("stop the backup", &format!("{STOPPED}{function}"), &[]).await?;
        let tablespace_map: Option<Vec<u8>> = field(&row, 2)?;
        Ok(StoppedBackup {
            lsn: parse_lsn(&field::<String>(&row, 0)?)?,
            backup_label: field(&row, 1)?,
            tablespace_map: tablespace_map.filter(|content| !content.is_empty()),
        })
    }

    fn has_new_functions(&self) -> bool {
        self.major_version() >= MajorVersion::new(15)
    }
}

/// An LSN as the server prints it.
pub(super) fn parse_lsn(text: &str) -> Result<Lsn> {
    text.parse().map_err(|malformed: Malformed| {
        Error::bug("PostgreSQL answered with an unexpected LSN").because(malformed)
    })
}
