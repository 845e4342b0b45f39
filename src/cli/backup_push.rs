//! `walrs backup-push`: takes a base backup.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use super::backup_document::{BackupDocument, permanence};
use super::{Context, Outcome, output, progress};
use crate::backup::{self, Options, Plan, Pushed, Request, Scope, Source};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::repository::{self, BackupKind, Creation, FirstCluster, Repository, Site};
use crate::storage::RepositoryUrl;

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

impl Args {
    fn scope(&self) -> Scope {
        if self.full { Scope::Full } else { Scope::Delta }
    }
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
    let scope = args.scope();
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
    let repository = existing_repository(context, &site).await?;
    let (settings, spool) = (&context.settings.backup, site.spool());
    let plan = backup::plan(repository.as_ref(), pgdata, settings, args.scope(), spool).await?;
    if args.json {
        output::json(&PlanDocument::new(&plan))?;
    } else {
        output::line(&plan_text(&plan))?;
    }
    Ok(Outcome::Done)
}

/// The repository, if there is one yet: the first backup would make it.
async fn existing_repository(context: &Context, site: &Site) -> Result<Option<Repository>> {
    if !repository::exists(&*context.storage(Deadline::never()).await?).await? {
        return Ok(None);
    }
    let creation = Creation::Refused("a plan changes nothing".to_owned());
    context.open(Deadline::never(), Some(site), creation).await.map(Some)
}

fn plan_text(plan: &Plan) -> String {
    let Plan { survey, to_read, parent } = plan;
    let kind = match parent {
        Ok(parent) => format!("delta of {parent}"),
        Err(why) => format!("full backup: {why}"),
    };
    format!(
        "{kind}\ncopy   {} files, {} ({} directories, {} tablespaces)\n\
         read   {} files, {} ({} blocks)\nstore  at most {}",
        survey.files,
        ByteSize(survey.bytes),
        survey.directories,
        survey.tablespaces,
        to_read.files,
        ByteSize(to_read.bytes),
        to_read.blocks,
        ByteSize(to_read.bytes),
    )
}

#[derive(serde::Serialize)]
struct PlanDocument {
    kind: BackupKind,
    parent: Option<String>,
    files: u64,
    bytes: u64,
    directories: u64,
    tablespaces: u64,
    files_to_read: u64,
    blocks_to_read: u64,
    bytes_to_read: u64,
}

impl PlanDocument {
    fn new(plan: &Plan) -> Self {
        let (survey, to_read) = (&plan.survey, &plan.to_read);
        Self {
            kind: if plan.parent.is_ok() { BackupKind::Delta } else { BackupKind::Full },
            parent: plan.parent.as_ref().ok().map(ToString::to_string),
            files: survey.files,
            bytes: survey.bytes,
            directories: survey.directories,
            tablespaces: survey.tablespaces,
            files_to_read: to_read.files,
            blocks_to_read: to_read.blocks,
            bytes_to_read: to_read.bytes,
        }
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
