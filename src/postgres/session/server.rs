//! Questions about the server: where it is in the log, how it is set up, how its archiving goes.

use std::path::PathBuf;

use jiff::Timestamp;

use super::backup::parse_lsn;
use super::{Session, field};
use crate::error::{Error, Result};
use crate::postgres::lsn::Lsn;
use crate::postgres::system_identifier::SystemIdentifier;
use crate::postgres::tablespace::TablespaceId;
use crate::postgres::timeline::TimelineId;

/// A file that the archiver handed to `archive_command`, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedFile {
    /// Its name in `pg_wal`.
    pub name: String,
    /// When the command ended.
    pub time: Timestamp,
}

/// How archiving goes; see `pg_stat_archiver`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiverStatistics {
    /// Files archived since the statistics were reset.
    pub archived_count: u64,
    /// The last one archived.
    pub last_archived: Option<ArchivedFile>,
    /// Attempts that failed since the statistics were reset.
    pub failed_count: u64,
    /// The last file that failed.
    pub last_failed: Option<ArchivedFile>,
}

/// A tablespace as the server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTablespace {
    /// Its identifier, which is its name in `pg_tblspc`.
    pub id: TablespaceId,
    /// Its name in SQL.
    pub name: String,
    /// Its directory; relative for one that lies in place.
    pub location: PathBuf,
}

/// A promotion shows in `pg_control` only after its first checkpoint, in the names of WAL files at once.
///
/// A standby has no function for the timeline it replays: the newest that it knows of stands for it.
const TIMELINE: &str = "select case when pg_is_in_recovery() then greatest( \
       (select timeline_id from pg_control_checkpoint())::int8, \
       (select min_recovery_end_timeline from pg_control_recovery())::int8, \
       (select received_tli from pg_stat_wal_receiver)::int8) \
     else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int8 end";

const CURRENT_LSN: &str = "select (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() \
     else pg_current_wal_insert_lsn() end)::text";

const ARCHIVER: &str = "select archived_count, last_archived_wal, \
       (extract(epoch from last_archived_time) * 1000000)::int8, \
       failed_count, last_failed_wal, (extract(epoch from last_failed_time) * 1000000)::int8 \
     from pg_stat_archiver";

const TABLESPACES: &str = "select oid, spcname::text, pg_tablespace_location(oid) from pg_tablespace \
     where spcname !~ '^pg_' order by oid";

impl Session {
    /// The server's data directory, for a role that may see it (superusers and `pg_read_all_settings`).
    pub async fn data_directory(&self) -> Result<PathBuf> {
        let sql = "select current_setting('data_directory')";
        let path: String = self.value("ask for the data directory", sql, &[]).await?;
        Ok(path.into())
    }

    /// The cluster's identity.
    pub async fn system_identifier(&self) -> Result<SystemIdentifier> {
        let sql = "select system_identifier from pg_control_system()";
        let number: i64 = self.value("ask for the system identifier", sql, &[]).await?;
        Ok(SystemIdentifier::new(number.cast_unsigned()))
    }

    /// Whether the server is a standby, or still recovering.
    pub async fn in_recovery(&self) -> Result<bool> {
        self.value("ask for the server's role", "select pg_is_in_recovery()", &[]).await
    }

    /// The timeline on which the server writes, or that a standby follows.
    pub async fn timeline(&self) -> Result<TimelineId> {
        let number: i64 = self.value("ask for the timeline", TIMELINE, &[]).await?;
        let timeline = u32::try_from(number).ok().and_then(TimelineId::new);
        timeline.ok_or_else(|| Error::bug(format!("PostgreSQL answered with timeline {number}")))
    }

    /// The present end of the log: where the server inserts, or how far a standby has replayed.
    pub async fn current_insert_lsn(&self) -> Result<Lsn> {
        let text: Option<String> = self.value("ask for the end of WAL", CURRENT_LSN, &[]).await?;
        // Null in a standby that has not replayed anything yet.
        text.map_or(Ok(Lsn::INVALID), |text| parse_lsn(&text))
    }

    /// The value of a setting, or `None` when this version does not have it.
    pub async fn setting(&self, name: &str) -> Result<Option<String>> {
        let sql = "select current_setting($1, true)";
        self.value(&format!("ask for the setting `{name}`"), sql, &[&name]).await
    }

    /// Ends the current WAL segment, so that it is archived; returns the end of what was written to it.
    pub async fn switch_wal(&self) -> Result<Lsn> {
        let sql = "select pg_switch_wal()::text";
        parse_lsn(&self.value::<String>("switch to the next WAL segment", sql, &[]).await?)
    }

    /// When the server was started: another answer means that it was restarted.
    pub async fn postmaster_start_time(&self) -> Result<Timestamp> {
        let sql = "select (extract(epoch from pg_postmaster_start_time()) * 1000000)::int8";
        timestamp(self.value("ask for the server's start time", sql, &[]).await?)
    }

    /// How archiving goes.
    pub async fn archiver_statistics(&self) -> Result<ArchiverStatistics> {
        let row = self.row("ask for the state of archiving", ARCHIVER, &[]).await?;
        Ok(ArchiverStatistics {
            archived_count: field::<i64>(&row, 0)?.unsigned_abs(),
            last_archived: archived_file(field(&row, 1)?, field(&row, 2)?)?,
            failed_count: field::<i64>(&row, 3)?.unsigned_abs(),
            last_failed: archived_file(field(&row, 4)?, field(&row, 5)?)?,
        })
    }

    /// The tablespaces besides PostgreSQL's own, in the order of their identifiers.
    pub async fn tablespaces(&self) -> Result<Vec<ServerTablespace>> {
        let result = self.client.query(TABLESPACES, &[]).await;
        let rows = self.checked("ask for the tablespaces", result).await?;
        let tablespace = |row| {
            let location: String = field(row, 2)?;
            let id = TablespaceId(field(row, 0)?);
            Ok(ServerTablespace { id, name: field(row, 1)?, location: location.into() })
        };
        rows.iter().map(tablespace).collect()
    }
}

fn archived_file(name: Option<String>, time: Option<i64>) -> Result<Option<ArchivedFile>> {
    let Some((name, time)) = name.zip(time) else { return Ok(None) };
    Ok(Some(ArchivedFile { name, time: timestamp(time)? }))
}

fn timestamp(microseconds: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(microseconds)
        .map_err(|error| Error::bug("PostgreSQL answered with an unexpected time").because(error))
}
