//! Making a connection: which places, with which user and password, with or without TLS.

use std::time::Duration;

use tokio_postgres::config::SslMode as Negotiation;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::password_file::{self, Login};
use super::settings::{Address, CONNECT_TIMEOUT, ConnectionSettings, SslMode};
use super::{Session, describe, tls};
use crate::error::{Error, Result};

/// A session is idle for hours while files are copied; a dead peer should be noticed within minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);

/// Connects to the first place that answers.
pub(super) async fn connect(settings: &ConnectionSettings) -> Result<Session> {
    let user = match &settings.user {
        Some(user) => user.clone(),
        None => operating_system_user().await?,
    };
    let tls = tls::connector(settings).await?;
    let mut failures = Vec::new();
    for address in settings.addresses() {
        let config = configure(settings, &address, &user).await?;
        match attempt(&address, settings.ssl_mode, config, &tls).await {
            Ok(session) => return Ok(session),
            Err(error) => {
                failures.push(format!("`{address}`: {}", describe(&error)));
                if is_refusal(&error) {
                    break;
                }
            }
        }
    }
    Err(unreachable(settings, &user, &failures))
}

async fn configure(settings: &ConnectionSettings, address: &Address, user: &str) -> Result<Config> {
    let database = settings.database.as_deref().unwrap_or(user);
    let mut config = Config::new();
    config.user(user).dbname(database).port(settings.port());
    config.application_name(&settings.application_name);
    config.connect_timeout(settings.connect_timeout.unwrap_or(CONNECT_TIMEOUT));
    config.keepalives_idle(KEEPALIVE_IDLE);
    match address {
        Address::Socket(directory) => config.host_path(directory),
        Address::Network(host) => config.host(host),
    };
    if let Some(password) = &settings.password {
        config.password(password.expose());
    } else if let Some(file) = &settings.password_file {
        let (host, port) = (address.password_host(), settings.port());
        if let Some(password) =
            password_file::find(file, Login { host, port, database, user }).await?
        {
            config.password(password.expose());
        }
    }
    Ok(config)
}

/// Connects as `mode` says: `prefer` and `allow` have a second try, as in libpq.
async fn attempt(
    address: &Address,
    mode: SslMode,
    mut config: Config,
    tls: &MakeRustlsConnect,
) -> Result<Session, tokio_postgres::Error> {
    let mode = match address {
        Address::Socket(_) => SslMode::Disable,
        Address::Network(_) => mode,
    };
    match mode {
        SslMode::Disable => plain(&config).await,
        SslMode::Allow => match plain(&config).await {
            Err(error) if is_refusal(&error) => {
                secured(config.ssl_mode(Negotiation::Require), tls).await
            }
            other => other,
        },
        SslMode::Prefer => match secured(config.ssl_mode(Negotiation::Prefer), tls).await {
            // Refused with TLS, or TLS itself failed; a place where nothing listens fails the same way again.
            Err(_) => plain(&config).await,
            session => session,
        },
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
            secured(config.ssl_mode(Negotiation::Require), tls).await
        }
    }
}

async fn plain(config: &Config) -> Result<Session, tokio_postgres::Error> {
    let mut config = config.clone();
    let (client, connection) = config.ssl_mode(Negotiation::Disable).connect(NoTls).await?;
    Ok(Session::drive(client, connection))
}

async fn secured(
    config: &Config,
    tls: &MakeRustlsConnect,
) -> Result<Session, tokio_postgres::Error> {
    let (client, connection) = config.connect(tls.clone()).await?;
    Ok(Session::drive(client, connection))
}

/// Whether a server answered and said no.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some()
}

fn unreachable(settings: &ConnectionSettings, user: &str, failures: &[String]) -> Error {
    let what = format!("cannot connect to PostgreSQL as user `{user}` at port {}", settings.port());
    Error::unavailable(what).because(failures.join("; ")).hint(
        "check that the server runs; `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE` or `postgres.*` \
         in the configuration say how to reach it",
    )
}

/// The name of the effective user, which is also how libpq defaults.
async fn operating_system_user() -> Result<String> {
    let id = rustix::process::geteuid().as_raw().to_string();
    let unknown =
        || Error::usage(format!("no PostgreSQL user is given and user id {id} has no name"));
    let accounts =
        tokio::fs::read("/etc/passwd").await.map_err(|error| unknown().because(error))?;
    let accounts = String::from_utf8_lossy(&accounts);
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    });
    name.ok_or_else(|| unknown().hint("set `PGUSER` or `postgres.user`"))
}
