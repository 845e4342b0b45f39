//! `walrs wal-push`: PostgreSQL's `archive_command`.

use std::path::PathBuf;
use std::sync::Arc;

use super::exit::{self, Threads};
use super::{Context, Outcome};
use crate::deadline::Deadline;
use crate::error::Result;
use crate::task;
use crate::wal::push::{Candidate, Examined};

/// Arguments of `walrs wal-push`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file, as PostgreSQL passes it with %p: a segment, or a .partial, .history or .backup file
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

/// Answers at once, without a runtime or a store, when an earlier call stored the file ahead.
pub(super) fn run(args: Args, context: &Arc<Context>) -> Result<Outcome> {
    let deadline = Deadline::after(context.settings.wal.push_timeout);
    let shared = Arc::clone(context);
    let examined = task::in_time(deadline, move || Candidate::examine(&args.path, shared.meant()))?;
    match examined {
        Examined::StoredAhead => Ok(Outcome::Done),
        Examined::ToArchive(candidate) => {
            exit::in_runtime(Threads::One, archive(&candidate, context, deadline))
        }
    }
}

async fn archive(candidate: &Candidate, context: &Context, deadline: Deadline) -> Result<Outcome> {
    // Boxed: what connects to a store is large, and only one of these is ever alive.
    let opening = Box::pin(context.open_for_wal(deadline, candidate.site(), candidate.creation()));
    Box::pin(candidate.archive(opening, &context.settings, deadline)).await?;
    Ok(Outcome::Done)
}
