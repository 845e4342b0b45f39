//! Findings about the server: identity, archiving, settings that backups rely on.

use super::{Context, Finding};
use crate::error::{ErrorKind, Result};
use crate::postgres::{ControlFile, Session};

pub(super) async fn findings(context: &Context) -> Vec<Finding> {
    match look(context).await {
        Ok(findings) => findings,
        Err(error) => vec![Finding::failed("server", &error)],
    }
}

async fn look(context: &Context) -> Result<Vec<Finding>> {
    let session = Session::connect(&context.connection("walrs check")?).await?;
    let standby = session.in_recovery().await?;
    let mut findings = vec![identity(context, &session).await?];
    findings.push(archive_mode(&session, standby).await?);
    findings.push(archive_command(&session).await?);
    findings.push(archiver(&session).await?);
    findings.push(wal_level(&session).await?);
    findings.push(full_page_writes(&session).await?);
    findings.push(checksums(&session).await?);
    findings.push(archive_timeout(&session).await?);
    session.close().await;
    Ok(findings)
}

async fn identity(context: &Context, session: &Session) -> Result<Finding> {
    const NAME: &str = "server";
    let theirs = session.system_identifier().await?;
    let version = session.server_version_num();
    let detail =
        format!("PostgreSQL {}.{}, system identifier {theirs}", version / 10_000, version % 10_000);
    let local =
        context.settings.pgdata.as_deref().and_then(|pgdata| ControlFile::read(pgdata).ok());
    match local.map(|control| control.system_identifier) {
        Some(ours) if ours != theirs => Ok(Finding::error(
            NAME,
            ErrorKind::Refused,
            format!("{detail}, but the data directory's is {ours}"),
            "let `pgdata` and `postgres.*` name the same cluster",
        )),
        _ => Ok(Finding::ok(NAME, detail)),
    }
}

async fn text(session: &Session, name: &str) -> Result<String> {
    Ok(session.setting(name).await?.unwrap_or_default())
}

async fn archive_mode(session: &Session, standby: bool) -> Result<Finding> {
    const NAME: &str = "archive_mode";
    let mode = text(session, NAME).await?;
    Ok(match mode.as_str() {
        "off" => Finding::error(
            NAME,
            ErrorKind::Refused,
            "off: nothing is archived",
            "set `archive_mode = on` and restart the server",
        ),
        "always" if standby => Finding::warning(
            NAME,
            "always, on a standby: the tails of its segments differ from the primary's",
            "set `archive_mode = on`, so that one server archives each timeline",
        ),
        _ => Finding::ok(NAME, mode),
    })
}

async fn archive_command(session: &Session) -> Result<Finding> {
    const NAME: &str = "archive_command";
    const REMEDY: &str = "set `archive_command = 'walrs wal-push %p'` and reload the server";
    let library = text(session, "archive_library").await?;
    if !library.is_empty() {
        let detail = format!("`archive_library` is `{library}`; the command is not used");
        return Ok(Finding::error(
            NAME,
            ErrorKind::Refused,
            detail,
            "empty `archive_library`, and use the command",
        ));
    }
    let command = text(session, NAME).await?;
    let pushes = command.contains("wal-push");
    let whole = command.contains("%p");
    Ok(match (command.as_str(), pushes && whole) {
        (_, true) => Finding::ok(NAME, format!("`{command}`")),
        ("", _) => Finding::error(NAME, ErrorKind::Refused, "empty: WAL piles up", REMEDY),
        // Source: `show_archive_command` in `access/transam/xlog.c`.
        ("(disabled)", _) => Finding::warning(
            NAME,
            "the server does not show it while `archive_mode` is off",
            REMEDY,
        ),
        _ => {
            Finding::warning(NAME, format!("`{command}` does not call `walrs wal-push %p`"), REMEDY)
        }
    })
}

async fn archiver(session: &Session) -> Result<Finding> {
    const NAME: &str = "archiver";
    const REMEDY: &str = "read the server's log: walrs says there why it failed";
    let statistics = session.archiver_statistics().await?;
    let archived = statistics.last_archived;
    Ok(match (statistics.last_failed, archived) {
        (Some(failed), Some(archived)) if failed.time <= archived.time => {
            Finding::ok(NAME, format!("last archived `{}` at {}", archived.name, archived.time))
        }
        (Some(failed), _) => {
            let detail = format!("failing: `{}` at {}", failed.name, failed.time);
            Finding::error(NAME, ErrorKind::Unavailable, detail, REMEDY)
        }
        (None, Some(archived)) => {
            Finding::ok(NAME, format!("last archived `{}` at {}", archived.name, archived.time))
        }
        (None, None) => Finding::ok(NAME, "nothing archived yet"),
    })
}

async fn wal_level(session: &Session) -> Result<Finding> {
    const NAME: &str = "wal_level";
    let level = text(session, NAME).await?;
    Ok(match level.as_str() {
        "minimal" => Finding::error(
            NAME,
            ErrorKind::Refused,
            "minimal: the WAL is not enough to restore from",
            "set `wal_level = replica` and restart the server",
        ),
        _ => Finding::ok(NAME, level),
    })
}

async fn full_page_writes(session: &Session) -> Result<Finding> {
    const NAME: &str = "full_page_writes";
    Ok(match text(session, NAME).await?.as_str() {
        "off" => Finding::warning(
            NAME,
            "off: a page torn by a crash cannot be repaired",
            "set `full_page_writes = on` unless the file system never tears pages",
        ),
        other => Finding::ok(NAME, other),
    })
}

async fn checksums(session: &Session) -> Result<Finding> {
    const NAME: &str = "data_checksums";
    Ok(match text(session, NAME).await?.as_str() {
        "off" => Finding::warning(
            NAME,
            "off: backups cannot tell damaged pages from good ones",
            "stop the server and run `pg_checksums --enable`",
        ),
        other => Finding::ok(NAME, other),
    })
}

async fn archive_timeout(session: &Session) -> Result<Finding> {
    const NAME: &str = "archive_timeout";
    Ok(match text(session, NAME).await?.as_str() {
        "0" => Finding::warning(
            NAME,
            "0: an idle server may keep its last commits unarchived for long",
            "set `archive_timeout` to the seconds you can bear to lose, such as 60",
        ),
        seconds => Finding::ok(NAME, format!("{seconds} s")),
    })
}
