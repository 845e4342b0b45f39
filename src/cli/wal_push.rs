//! `walrs wal-push`: PostgreSQL's `archive_command`.

use std::path::PathBuf;

use super::{Context, Outcome};
use crate::deadline::Deadline;
use crate::error::Result;
use crate::wal::push::Candidate;

/// Arguments of `walrs wal-push`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file, as PostgreSQL passes it with %p: a segment, or a .partial, .history or .backup file
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Outcome> {
    let deadline = Deadline::after(context.settings.wal.push_timeout);
    let candidate = Candidate::examine(args.path, &context.settings, deadline).await?;
    // Boxed: what connects to a store is large, and only one of these is ever alive.
    let opening = Box::pin(context.open(deadline, candidate.site(), candidate.creation()));
    candidate.archive(opening, deadline).await?;
    Ok(Outcome::Done)
}
