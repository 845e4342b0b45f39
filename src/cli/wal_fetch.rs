//! `walrs wal-fetch`: PostgreSQL's `restore_command`.

use std::path::PathBuf;

use super::{Context, Outcome, output};
use crate::error::{Error, Result};
use crate::repository::Creation;
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

pub(super) async fn run(args: Args, context: &Context) -> Result<Outcome> {
    match fetch(&args, context).await {
        Ok(Fetched::Delivered) => Ok(Outcome::Done),
        Ok(Fetched::ProvenAbsent) => Ok(Outcome::ProvenAbsent),
        Err(error) => args.failed(error, context.settings.wal.standby_error_exit),
    }
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

async fn fetch(args: &Args, context: &Context) -> Result<Fetched> {
    let request =
        Request::new(&args.name, &args.destination, context.named_cluster(), &context.settings)?;
    let creation = Creation::Refused("`wal-fetch` never makes a repository".to_owned());
    // Boxed: what connects to a store is large, and only one of these is ever alive.
    let opening = Box::pin(context.open(request.deadline(), request.site(), creation));
    request.fetch(opening).await
}
