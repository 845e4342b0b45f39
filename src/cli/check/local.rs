//! Findings about this host: configuration, data directory, spool, key.

use super::{Context, Finding};
use crate::error::{ErrorKind, Result};
use crate::postgres::ControlFile;
use crate::repository::{KeyRing, Site};

pub(super) async fn findings(context: &Context) -> Vec<Finding> {
    let mut findings = vec![configuration(context)];
    findings.extend(misspelt_variables(context));
    findings.extend(settings_for_later(context));
    findings.push(key(context).await);
    findings.extend(data_directory(context));
    findings
}

fn configuration(context: &Context) -> Finding {
    match context.config.file() {
        Some(path) => Finding::ok("configuration", format!("read `{}`", path.display())),
        None => Finding::ok("configuration", "no file; flags, environment and defaults"),
    }
}

/// A misspelt variable is not seen by anything: walrs goes on with the default.
fn misspelt_variables(context: &Context) -> Option<Finding> {
    let unknown = context.config.unknown_variables();
    if unknown.is_empty() {
        return None;
    }
    let detail = format!("nothing reads {}", unknown.join(", "));
    Some(Finding::warning(
        "environment",
        detail,
        "`walrs config` shows what is in force; `WALRS_` + section + `_` + key is a key's name",
    ))
}

/// What somebody relies on must not be missing in silence: no retention policy deletes anything yet, say.
fn settings_for_later(context: &Context) -> Option<Finding> {
    let keys = context.config.set_for_later();
    if keys.is_empty() {
        return None;
    }
    let detail = format!("this version does nothing with {}", keys.join(", "));
    Some(Finding::warning("settings", detail, "they take effect in a later version of walrs"))
}

async fn key(context: &Context) -> Finding {
    match KeyRing::read(&context.settings.encryption).await {
        Err(error) => Finding::failed("key", &error),
        Ok(keys) if keys.is_passphrase() => Finding::error(
            "key",
            ErrorKind::Usage,
            "only a passphrase is configured; archiving would derive the key once per segment",
            "on archiving hosts set `encryption.key_file` or `encryption.key_command`",
        ),
        Ok(keys) if keys.source().is_some() => Finding::ok("key", "the configured key can be read"),
        Ok(_) => Finding::ok("key", "none configured: a plain repository"),
    }
}

fn data_directory(context: &Context) -> Vec<Finding> {
    const NAME: &str = "data directory";
    let pgdata = match context.pgdata() {
        Ok(pgdata) => pgdata,
        Err(error) => {
            let remedy = error.hint_text().unwrap_or_default().to_owned();
            return vec![Finding::warning(NAME, error.to_string(), &remedy)];
        }
    };
    let control = match ControlFile::read(pgdata) {
        Ok(control) => control,
        Err(error) => return vec![Finding::failed(NAME, &error)],
    };
    let detail = format!("`{}`, system identifier {}", pgdata.display(), control.system_identifier);
    let spool = context.site_of(pgdata).map(|site| spool(&site));
    vec![Finding::ok(NAME, detail), spool_finding(spool)]
}

fn spool_finding(spool: Result<Finding>) -> Finding {
    spool.unwrap_or_else(|error| Finding::failed("spool", &error))
}

fn spool(site: &Site) -> Finding {
    const REMEDY: &str = "make the parent of the data directory writable, or set `spool`";
    match site.spool() {
        Some(path) if site.can_keep_witness() => {
            Finding::ok("spool", format!("`{}`", path.display()))
        }
        Some(path) => {
            let detail = format!("`{}`, but no witness can be kept beside it", path.display());
            Finding::warning("spool", detail, REMEDY)
        }
        None => Finding::warning("spool", "no place is writable; nothing can be cached", REMEDY),
    }
}
