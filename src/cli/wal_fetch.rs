//! `walrs wal-fetch`: PostgreSQL's `restore_command`.

use std::path::PathBuf;
use std::sync::Arc;

use super::exit::{self, Threads};
use super::{Context, Outcome, output};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::repository::Creation;
use crate::task;
use crate::wal::fetch::{Fetched, Request, status_of_failure};

/// The default of `wal.standby_error_exit`.
const DEFAULT_STANDBY_ERROR_EXIT: u8 = 1;

/// Arguments of `walrs wal-fetch`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file, as PostgreSQL passes it with %f; X.partial/DIGEST names one version of X.partial
    #[arg(value_name = "NAME")]
    name: String,
    /// Where it goes, as PostgreSQL passes it with %p; an existing file is replaced
    #[arg(value_name = "DEST")]
    destination: PathBuf,
}

/// Answers without a runtime or a store when the segment was fetched ahead.
pub(super) fn run(args: &Args, context: &Arc<Context>) -> Result<Outcome> {
    let settings = &context.settings.wal;
    let (shared, name) = (Arc::clone(context), args.name.clone());
    let destination = args.destination.clone();
    let looked = task::in_time(Deadline::after(settings.fetch_timeout), move || {
        let cluster = shared.named_cluster();
        let request = Request::new(&name, &destination, cluster, shared.meant())?;
        let delivered = request.take_from_spool(&shared.options());
        Ok((!delivered).then_some(request))
    });
    let fetched = looked.and_then(|request| match request {
        Some(request) => exit::in_runtime(Threads::One, fetch(&request, context)),
        None => Ok(Outcome::Done),
    });
    fetched.or_else(|error| args.failed(error, settings.standby_error_exit))
}

impl Args {
    /// The outcome when the configuration, which would say more, cannot be read.
    pub(super) fn misconfigured(&self, error: Error) -> Result<Outcome> {
        self.failed(error, DEFAULT_STANDBY_ERROR_EXIT)
    }

    /// Where "could not find out" would stop a server that must not stop, the error is printed here.
    fn failed(&self, error: Error, standby_status: u8) -> Result<Outcome> {
        let Some(status) = status_of_failure(&self.name, standby_status) else {
            return Err(error);
        };
        output::error(&error);
        Ok(Outcome::AskAgain(status))
    }
}

async fn fetch(request: &Request, context: &Context) -> Result<Outcome> {
    let creation = Creation::Refused("`wal-fetch` never makes a repository".to_owned());
    // Boxed: what connects to a store is large, and only one of these is ever alive.
    let opening = Box::pin(context.open_for_wal(request.deadline(), request.site(), creation));
    let options = context.options();
    Ok(match Box::pin(request.fetch(opening, &options)).await? {
        Fetched::Delivered => Outcome::Done,
        Fetched::ProvenAbsent => Outcome::ProvenAbsent,
    })
}
