//! `walrs backup-mark`: exempts a backup from retention, or no longer.

use super::{Context, Outcome, output};
use crate::backup::{self, Permanence};
use crate::deadline::Deadline;
use crate::error::Result;
use crate::repository::Catalog;

/// Arguments of `walrs backup-mark`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backup: LATEST, an id, or the unambiguous beginning of one
    #[arg(value_name = "BACKUP")]
    backup: String,
    #[command(flatten)]
    mark: MarkArgs,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct MarkArgs {
    /// Retention never expires it
    #[arg(long)]
    permanent: bool,
    /// Retention decides again
    #[arg(long)]
    impermanent: bool,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Outcome> {
    let permanence = if args.mark.permanent { Permanence::Permanent } else { Permanence::Ordinary };
    let repository = context.repository(Deadline::never()).await?;
    let catalog = Catalog::load(&repository).await?;
    let backup = &catalog.resolve(&args.backup, context.cluster(&repository)?)?.backup_id;
    backup::mark(&repository, backup, permanence).await?;
    output::note(&match permanence {
        Permanence::Permanent => format!("backup {backup} is permanent"),
        Permanence::Ordinary => format!("backup {backup} is subject to retention"),
    });
    Ok(Outcome::Done)
}
