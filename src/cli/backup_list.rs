//! `walrs backup-list`: the backups that can be restored.

use bytesize::ByteSize;

use super::backup_document::{BackupDocument, permanence};
use super::{Context, Outcome, output};
use crate::deadline::Deadline;
use crate::error::Result;
use crate::postgres::TimelineId;
use crate::repository::{Catalog, CatalogEntry, Manifest};

const HEADER: [&str; 6] = ["BACKUP", "KIND", "STOPPED (UTC)", "SIZE", "STORED", "NOTES"];

/// Arguments of `walrs backup-list`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Outcome> {
    let repository = context.repository(Deadline::never()).await?;
    let catalog = Catalog::load(&repository).await?;
    let wanted = context.named_cluster();
    let is_wanted = |cluster| wanted.is_none_or(|wanted| wanted == cluster);
    let visible: Vec<(&CatalogEntry, &Manifest)> = catalog
        .entries()
        .iter()
        .filter_map(|entry| Some((entry, entry.visible()?)))
        .filter(|(_, manifest)| is_wanted(manifest.system_identifier))
        .collect();
    if args.json {
        output::json(&visible.iter().map(document).collect::<Vec<_>>())?;
    } else if !visible.is_empty() {
        let rows = visible.iter().map(|(entry, manifest)| row(entry, manifest));
        output::line(&output::table(&HEADER, rows))?;
    }
    // Only now: what can be restored is shown in any case.
    catalog.ensure_readable()?;
    if visible.is_empty() && !args.json {
        output::note("there are no backups; `walrs backup-push` takes one");
    }
    Ok(Outcome::Done)
}

fn document<'a>((entry, manifest): &(&CatalogEntry, &'a Manifest)) -> BackupDocument<'a> {
    BackupDocument::new(manifest, permanence(entry.permanent))
}

fn row(entry: &CatalogEntry, manifest: &Manifest) -> Vec<String> {
    vec![
        manifest.backup_id.to_string(),
        manifest.kind().to_string(),
        manifest.stop_time.strftime("%Y-%m-%d %H:%M").to_string(),
        ByteSize(manifest.bytes).to_string(),
        ByteSize(manifest.stored_bytes).to_string(),
        notes(entry, manifest),
    ]
}

fn notes(entry: &CatalogEntry, manifest: &Manifest) -> String {
    let bad_pages = match manifest.bad_pages {
        0 => None,
        1 => Some("1 bad page".to_owned()),
        count => Some(format!("{count} bad pages")),
    };
    let permanent = entry.permanent.then(|| "permanent".to_owned());
    let timeline = manifest.timeline;
    let timeline = (timeline != TimelineId::FIRST).then(|| format!("timeline {timeline}"));
    let notes = [permanent, bad_pages, timeline, manifest.label.clone()];
    notes.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
