//! `walrs backup-fetch`: the files of one backup, with no settings of a recovery.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytesize::ByteSize;
use serde::Serialize;

use super::restore::{open, parse_tablespace};
use super::{Context, Outcome, output, progress, restore_command};
use crate::error::Result;
use crate::repository::{Catalog, Manifest};
use crate::restore::{Filled, Job, Onto};

/// Arguments of `walrs backup-fetch`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The data directory to make; new or empty
    #[arg(value_name = "DEST")]
    destination: PathBuf,
    /// The backup: an id, its beginning, or LATEST
    #[arg(value_name = "BACKUP", default_value = "LATEST")]
    backup: String,
    /// Put a tablespace elsewhere; repeatable
    #[arg(long = "tablespace", value_name = "OID=DIR", value_parser = parse_tablespace)]
    tablespaces: Vec<(u32, PathBuf)>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    backup: &'a str,
    data_directory: String,
    tablespaces: BTreeMap<u32, String>,
    files: u64,
    bytes: u64,
}

/// Fetches the backup and says what to do next.
pub(super) async fn run(args: Args, context: &Context) -> Result<Outcome> {
    let repository = open(context).await?;
    let cluster = context.cluster(&repository)?;
    let catalog = Catalog::load(&repository).await?;
    let manifest = Arc::new(catalog.resolve(&args.backup, cluster)?.clone());
    let mapping: BTreeMap<_, _> = args.tablespaces.iter().cloned().collect();
    let job = Job {
        repository: &repository,
        manifest: Arc::clone(&manifest),
        destination: &args.destination,
        onto: Onto::Nothing,
        tablespaces: &mapping,
        grace: context.settings.retention.grace,
    };
    let filled = job.inspect().await?.fill(None, &*progress::reporter()).await?;
    if args.json {
        print_json(&manifest, &filled)?;
    }
    let command = restore_command::for_repository(context, &repository)?.to_setting();
    output::note(&next_steps(&manifest, &filled, &command));
    Ok(Outcome::Done)
}

fn print_json(manifest: &Manifest, filled: &Filled) -> Result<()> {
    let place = |(number, path): (&u32, &PathBuf)| (*number, path.display().to_string());
    output::json(&Report {
        backup: manifest.backup_id.as_str(),
        data_directory: filled.data.display().to_string(),
        tablespaces: filled.tablespaces.iter().map(place).collect(),
        files: manifest.files,
        bytes: manifest.bytes,
    })
}

fn next_steps(manifest: &Manifest, filled: &Filled, command: &str) -> String {
    format!(
        "fetched backup {} into {}: {} files, {}\n\
         no recovery is set up; before the server is started:\n  \
         set restore_command = '{}'\n  \
         set archive_mode = off, unless this replaces the source: a copy must not\n  \
         archive into the repository of its source\n  \
         create `recovery.signal` (or `standby.signal`) in the data directory\n\
         `walrs restore` does all of this",
        manifest.backup_id,
        filled.data.display(),
        manifest.files,
        ByteSize(manifest.bytes),
        command.replace('\'', "''"),
    )
}
