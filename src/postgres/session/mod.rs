//! The SQL session with a server: the only part of walrs that talks to PostgreSQL.
//!
//! Owns connecting as libpq would (sockets, TLS modes, password file), the settings of a session that may last for
//! hours, and every statement that walrs sends. Does not own where the settings come from (`config`), nor what is
//! done between start and stop of a backup (`backup/`).

mod backup;
mod connect;
mod password_file;
mod server;
mod settings;
mod tls;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::deadline::Deadline;
use crate::error::{Error, Result, chain};
use crate::postgres::version::MajorVersion;

pub use backup::{StartedBackup, StoppedBackup};
pub use server::{ArchivedFile, ArchiverStatistics, ServerTablespace};
pub use settings::{ConnectionSettings, RootCertificates, SslMode};

/// Why the connection ended, once it has.
type Ending = Option<Arc<str>>;

/// How long the farewell to a server may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection to a server, from connecting until this is closed or dropped.
///
/// Dropping the future of a call does not stop the statement on the server; the session stays usable.
#[derive(Debug)]
pub struct Session {
    client: Client,
    ending: watch::Receiver<Ending>,
    server_version_num: u32,
    /// Drives the connection; ends with this value.
    driver: JoinSet<()>,
}

impl Session {
    /// Connects as libpq would and readies the session for a long stay: no timeouts, a fixed search path.
    pub async fn connect(settings: &ConnectionSettings) -> Result<Self> {
        let mut session = connect::connect(settings).await?;
        session.prepare().await?;
        Ok(session)
    }

    /// Drives `connection` in a task of its own, which the session owns.
    fn drive(
        client: Client,
        connection: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
    ) -> Self {
        let (sender, ending) = watch::channel(None);
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let reason = match connection.await {
                Ok(()) => "the server closed the connection".to_owned(),
                Err(error) => describe(&error),
            };
            sender.send_replace(Some(reason.into()));
        });
        Self { client, ending, server_version_num: 0, driver }
    }

    /// Says goodbye: a connection that is only dropped is a FATAL line in the server's log.
    pub async fn close(self) {
        let Self { client, mut driver, .. } = self;
        drop(client);
        // Whether the server hears it changes nothing here.
        let _ = Deadline::after(FAREWELL).bound(driver.join_next()).await;
    }

    async fn prepare(&mut self) -> Result<()> {
        let version = "select current_setting('server_version_num')::int4";
        let number: i32 = self.value("ask for the server's version", version, &[]).await?;
        self.server_version_num = number.unsigned_abs();
        let mut statements = String::from(
            "set search_path = pg_catalog; set statement_timeout = 0; set lock_timeout = 0; \
             set idle_in_transaction_session_timeout = 0",
        );
        if self.major_version() >= MajorVersion::new(14) {
            statements.push_str("; set idle_session_timeout = 0");
        }
        if self.major_version() >= MajorVersion::new(17) {
            statements.push_str("; set transaction_timeout = 0");
        }
        let result = self.client.batch_execute(&statements).await;
        self.checked("turn off the session's timeouts", result).await
    }

    /// The server's version as a number, e.g. 150018 for 15.18.
    pub fn server_version_num(&self) -> u32 {
        self.server_version_num
    }

    /// The server's major version.
    pub fn major_version(&self) -> MajorVersion {
        MajorVersion::of_server(self.server_version_num)
    }

    /// Waits until the connection is lost and says why: by a restart, a termination, or the network.
    ///
    /// Never returns while the connection holds. Dropping the future is safe.
    pub async fn lost(&self) -> Error {
        let mut ending = self.ending.clone();
        // The sender goes without a word only when the driver panicked.
        let reason = match ending.wait_for(Option::is_some).await {
            Ok(reason) => reason.as_deref().map_or_else(String::new, str::to_owned),
            Err(_) => return Error::bug("the task that drives the connection ended unexpectedly"),
        };
        Error::unavailable("the connection to PostgreSQL was lost").because(reason)
    }

    /// The one row of `sql`; `action` says in an error what was wanted.
    async fn row(
        &self,
        action: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row> {
        let result = self.client.query_one(sql, parameters).await;
        self.checked(action, result).await
    }

    /// The first field of the one row of `sql`.
    async fn value<T>(
        &self,
        action: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<T>
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        let row = self.row(action, sql, parameters).await?;
        field(&row, 0)
    }

    async fn checked<T>(
        &self,
        action: &str,
        result: Result<T, tokio_postgres::Error>,
    ) -> Result<T> {
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let what = format!("cannot {action}");
        if error.is_closed() || self.client.is_closed() {
            return Err(self.lost().await.context(what));
        }
        Err(Error::unavailable(what).because(describe(&error)))
    }
}

/// Field `index` of `row`; a mismatch with walrs's own statement is a defect.
fn field<T>(row: &Row, index: usize) -> Result<T>
where
    T: for<'a> tokio_postgres::types::FromSql<'a>,
{
    row.try_get(index)
        .map_err(|error| Error::bug("PostgreSQL answered with an unexpected type").because(error))
}

/// An error and its causes in one line: the crate's own messages say too little alone (`db error`).
fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(answer) = error.as_db_error() {
        return format!("{answer} ({})", answer.code().code());
    }
    chain(error)
}
