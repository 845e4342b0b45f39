//! `walrs check`: what is wrong with this set-up, each finding with its remedy.
//!
//! Owns the list of findings. Looks only, but for one create-only put of an object that exists already, which proves at
//! once that this host may write and that the store refuses to overwrite.

mod local;
mod postgres;
mod repository;

use serde::Serialize;

use super::{Context, Outcome, output};
use crate::error::{Error, ErrorKind, Result};

/// Arguments of `walrs check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Error,
}

impl State {
    fn mark(self) -> &'static str {
        match self {
            Self::Ok => "ok     ",
            Self::Warning => "warning",
            Self::Error => "ERROR  ",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    detail: String,
    remedy: Option<String>,
    #[serde(skip)]
    kind: Option<ErrorKind>,
}

impl Finding {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, state: State::Ok, detail: detail.into(), remedy: None, kind: None }
    }

    fn warning(check: &'static str, detail: impl Into<String>, remedy: &str) -> Self {
        let remedy = Some(remedy.to_owned());
        Self { check, state: State::Warning, detail: detail.into(), remedy, kind: None }
    }

    fn error(
        check: &'static str,
        kind: ErrorKind,
        detail: impl Into<String>,
        remedy: &str,
    ) -> Self {
        let remedy = Some(remedy.to_owned());
        Self { check, state: State::Error, detail: detail.into(), remedy, kind: Some(kind) }
    }

    fn failed(check: &'static str, error: &Error) -> Self {
        let remedy = error.hint_text().map(str::to_owned);
        Self { check, state: State::Error, detail: error.chain(), remedy, kind: Some(error.kind()) }
    }

    /// The finding in lines of at most 80 columns.
    fn print(&self) -> Result<()> {
        let head = format!("{} {:<18} ", self.state.mark(), self.check);
        output::wrapped(&head, &self.detail)?;
        match &self.remedy {
            Some(remedy) => output::wrapped(&format!("{:27}-> ", ""), remedy),
            None => Ok(()),
        }
    }
}

/// Looks at everything, prints every finding, and ends with the exit code of the first error.
pub(super) async fn run(args: Args, context: &Context) -> Result<Outcome> {
    let mut findings = local::findings(context).await;
    findings.extend(repository::findings(context).await);
    findings.extend(postgres::findings(context).await);
    if args.json {
        output::json(&findings)?;
    } else {
        findings.iter().try_for_each(Finding::print)?;
    }
    match findings.iter().find_map(|finding| finding.kind) {
        None => Ok(Outcome::Done),
        Some(kind) => {
            let count = findings.iter().filter(|finding| finding.state == State::Error).count();
            Err(Error::new(kind, format!("{count} of {} checks failed", findings.len())))
        }
    }
}
