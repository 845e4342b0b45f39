//! `walrs backup-show`: everything a manifest says of one backup.

use bytesize::ByteSize;
use serde::Serialize;

use super::backup_document::{BackupDocument, permanence};
use super::{Context, Outcome, output};
use crate::deadline::Deadline;
use crate::error::Result;
use crate::postgres::{SegmentName, TimelineId};
use crate::repository::{Catalog, Entry, FileListPart, ListedPath, Manifest, Repository};

/// Arguments of `walrs backup-show`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backup: LATEST, an id, or the unambiguous beginning of one
    #[arg(value_name = "BACKUP")]
    backup: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Outcome> {
    let repository = context.repository(Deadline::never()).await?;
    let catalog = Catalog::load(&repository).await?;
    let manifest = catalog.resolve(&args.backup, context.cluster(&repository)?)?;
    let is_it = |id: &_| *id == manifest.backup_id;
    let permanent = catalog.entries().iter().any(|entry| is_it(&entry.id) && entry.permanent);
    let damaged_files = damaged_files(&repository, manifest).await?;
    let document = ShowDocument::new(manifest, permanent, damaged_files);
    if args.json {
        output::json(&document)?;
    } else {
        output::line(&document.to_text())?;
    }
    Ok(Outcome::Done)
}

/// The files with bad pages; the file list is read only when there are any.
async fn damaged_files(repository: &Repository, manifest: &Manifest) -> Result<Vec<DamagedFile>> {
    let mut damaged = Vec::new();
    let parts = if manifest.bad_pages == 0 { &[][..] } else { &manifest.parts };
    for part in parts {
        for entry in FileListPart::read(repository, manifest, part).await? {
            match entry? {
                Entry::File(file) if !file.bad_pages.is_empty() => {
                    damaged.push(DamagedFile { path: file.path, blocks: file.bad_pages });
                }
                _ => {}
            }
        }
    }
    Ok(damaged)
}

#[derive(Debug, Serialize)]
struct ShowDocument<'a> {
    #[serde(flatten)]
    backup: BackupDocument<'a>,
    #[serde(skip)]
    manifest: &'a Manifest,
    #[serde(skip)]
    permanent: bool,
    start_timeline: TimelineId,
    first_segment: SegmentName,
    last_segment: SegmentName,
    postgres_version: u32,
    walrs_version: &'a str,
    from_standby: bool,
    data_checksums: bool,
    packs: usize,
    damaged_files: Vec<DamagedFile>,
}

#[derive(Debug, Serialize)]
struct DamagedFile {
    path: ListedPath,
    blocks: Vec<u32>,
}

impl<'a> ShowDocument<'a> {
    fn new(manifest: &'a Manifest, permanent: bool, damaged_files: Vec<DamagedFile>) -> Self {
        Self {
            backup: BackupDocument::new(manifest, permanence(permanent)),
            manifest,
            permanent,
            start_timeline: manifest.start_timeline,
            first_segment: manifest.first_segment,
            last_segment: manifest.last_segment,
            postgres_version: manifest.postgres_version,
            walrs_version: &manifest.walrs_version,
            from_standby: manifest.from_standby,
            data_checksums: manifest.data_checksums != 0,
            packs: manifest.packs.len(),
            damaged_files,
        }
    }

    fn to_text(&self) -> String {
        let manifest = self.manifest;
        let size = |bytes| ByteSize(bytes).to_string();
        let mut lines = vec![
            ("backup", manifest.backup_id.to_string()),
            ("kind", manifest.kind().to_string()),
            ("parent", manifest.parent_id.as_ref().map_or("none".to_owned(), ToString::to_string)),
            ("label", manifest.label.clone().unwrap_or_else(|| "none".to_owned())),
            ("retention", if self.permanent { "permanent" } else { "by policy" }.to_owned()),
            ("started", manifest.start_time.to_string()),
            ("stopped", manifest.stop_time.to_string()),
            ("start LSN", format!("{} (timeline {})", manifest.start_lsn, manifest.start_timeline)),
            ("stop LSN", format!("{} (timeline {})", manifest.stop_lsn, manifest.timeline)),
            ("WAL needed", format!("{} to {}", manifest.first_segment, manifest.last_segment)),
            ("cluster", manifest.system_identifier.to_string()),
            ("PostgreSQL", version(manifest.postgres_version)),
            (
                "taken from",
                if manifest.from_standby { "a standby" } else { "a primary" }.to_owned(),
            ),
            ("checksums", if manifest.data_checksums == 0 { "off" } else { "on" }.to_owned()),
            ("files", format!("{}, {}", manifest.files, size(manifest.bytes))),
            ("new", size(manifest.new_bytes)),
            ("stored", format!("{} (packs: {})", size(manifest.stored_bytes), self.packs)),
            ("bad pages", manifest.bad_pages.to_string()),
        ];
        for file in &self.damaged_files {
            lines.push(("", format!("{}: blocks {}", file.path, listed(&file.blocks))));
        }
        let line = |(name, value): &(&str, String)| format!("{name:<12} {value}");
        lines.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// `150018` is 15.18.
fn version(number: u32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

fn listed(blocks: &[u32]) -> String {
    const SHOWN: usize = 20;
    let shown = blocks.iter().take(SHOWN).map(u32::to_string).collect::<Vec<_>>().join(", ");
    match blocks.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
