//! `walrs backup-push`: takes a base backup.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use super::backup_document::{BackupDocument, permanence};
use super::{Context, Outcome, output, progress};
use crate::backup::{self, Options, Pushed, Request, Scope, Source, Survey};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::repository::{Creation, FirstCluster, Site};
use crate::storage::RepositoryUrl;
use crate::task;

const APPLICATION_NAME: &str = "walrs backup-push";

/// Arguments of `walrs backup-push`.
#[expect(clippy::struct_excessive_bools, reason = "one for every flag")]
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Data directory [default: the configured one]
    #[arg(value_name = "PGDATA")]
    directory: Option<PathBuf>,
    /// Store everything, whatever earlier backups hold
    #[arg(long)]
    full: bool,
    /// Free text for the catalogue
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// Exempt the backup from retention
    #[arg(long)]
    permanent: bool,
    /// Tell what would be read, and take no backup
    #[arg(long)]
    plan: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Outcome> {
    let pgdata = match &args.directory {
        Some(directory) => directory.as_path(),
        None => context.pgdata()?,
    };
    if args.plan {
        return plan(&args, context, pgdata).await;
    }
    let pushed = take(&args, context, pgdata).await?;
    report(&args, &pushed)?;
    Ok(if pushed.manifest.bad_pages > 0 { Outcome::BadPages } else { Outcome::Done })
}

async fn take(args: &Args, context: &Context, pgdata: &Path) -> Result<Pushed> {
    refuse_repository_inside(context, pgdata)?;
    let site = context.site_of(pgdata)?;
    let source = Source::connect(pgdata, &context.connection(APPLICATION_NAME)?).await?;
    let creation = creation(&site, &source);
    // A backup takes as long as it takes: every single request has its own patience.
    let repository = context.open(Deadline::never(), Some(&site), creation).await?;
    let reporter = progress::reporter();
    let options = Options {
        settings: &context.settings.backup,
        lease: context.settings.retention.lease,
        spool: site.spool(),
        progress: &*reporter,
    };
    let scope = if args.full { Scope::Full } else { Scope::Delta };
    let (label, permanence) = (args.label.clone(), permanence(args.permanent));
    let request = Request { label, permanence, scope };
    backup::push(source, &repository, &request, &options).await
}

/// The first backup of a cluster may make a plain repository, but only where a witness can tell it from another later.
fn creation(site: &Site, source: &Source) -> Creation {
    if !site.can_keep_witness() {
        let why = "no witness can be kept beside or in the data directory";
        return Creation::Refused(why.to_owned());
    }
    Creation::By(FirstCluster {
        system_identifier: source.control().system_identifier,
        segment_size: source.control().segment_size,
    })
}

/// A backup that contains its own repository would grow with every run.
fn refuse_repository_inside(context: &Context, pgdata: &Path) -> Result<()> {
    let Some(url) = context.settings.repository.as_deref() else { return Ok(()) };
    let RepositoryUrl::Directory(directory) = url.parse()? else { return Ok(()) };
    let physical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if physical(&directory).starts_with(physical(pgdata)) {
        let what = format!("the repository `{}` lies in the data directory", directory.display());
        return Err(Error::refused(what).hint("keep it elsewhere, best on another machine"));
    }
    Ok(())
}

async fn plan(args: &Args, context: &Context, pgdata: &Path) -> Result<Outcome> {
    let site = context.site_of(pgdata)?;
    let (directory, links) = (pgdata.to_owned(), context.settings.backup.links);
    let spool = site.spool().map(Path::to_owned);
    let survey =
        task::blocking(move || backup::survey(&directory, links, spool.as_deref())).await?;
    if args.json {
        output::json(&PlanDocument::new(&survey))?;
    } else {
        output::line(&format!(
            "full backup of {} files, {} to read ({} directories, {} tablespaces)",
            survey.files,
            ByteSize(survey.bytes),
            survey.directories,
            survey.tablespaces
        ))?;
    }
    Ok(Outcome::Done)
}

#[derive(serde::Serialize)]
struct PlanDocument {
    kind: &'static str,
    files: u64,
    bytes: u64,
    directories: u64,
    tablespaces: u64,
}

impl PlanDocument {
    fn new(survey: &Survey) -> Self {
        let Survey { files, bytes, directories, tablespaces } = *survey;
        Self { kind: "full", files, bytes, directories, tablespaces }
    }
}

fn report(args: &Args, pushed: &Pushed) -> Result<()> {
    let manifest = &pushed.manifest;
    output::note(&match (&pushed.why_full, &manifest.parent_id) {
        (None, Some(parent)) => format!("delta of `{parent}`"),
        (Some(why), _) => format!("full backup: {why}"),
        (None, None) => "full backup".to_owned(),
    });
    if manifest.bad_pages > 0 {
        output::note(&format!(
            "warning: {} pages fail their checksum; `walrs backup-show {}` names them",
            manifest.bad_pages, manifest.backup_id
        ));
    }
    if args.json {
        return output::json(&BackupDocument::new(manifest, permanence(args.permanent)));
    }
    output::line(manifest.backup_id.as_str())?;
    output::note(&format!(
        "{} files of {}, {} stored\nneeds WAL {} to {}",
        manifest.files,
        ByteSize(manifest.bytes),
        ByteSize(manifest.stored_bytes),
        manifest.first_segment,
        manifest.last_segment
    ));
    Ok(())
}
