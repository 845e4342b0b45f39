//! `walrs restore`: a data directory that recovers to a target when the server is started.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgGroup, ValueEnum};

use super::restore_report::{Format, Report};
use super::{Context, Outcome, progress, restore_command};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::postgres::{Lsn, SystemIdentifier};
use crate::repository::{Creation, Repository, Site};
use crate::restore::{
    Archiving, Edge, Goal, Job, Onto, RecoveryPlan, RestorePoint, Role, Target, TargetAction,
    TimelineChoice, UnarchivedWal, Wanted, cluster_in_place, parse_time,
};

/// Arguments of `walrs restore`.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("target").args(["to_time", "to_lsn", "to_xid", "to_name", "immediate"]))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct Args {
    /// The data directory to make; new or empty, unless `--in-place`
    #[arg(value_name = "DEST")]
    destination: PathBuf,
    /// Recover up to this moment, with an offset like `2026-11-20 10:15:00+01:00` or `Z`
    #[arg(long, value_name = "TIME")]
    to_time: Option<String>,
    /// The time zone of a `--to-time` without offset, like `Europe/Berlin`
    #[arg(long, value_name = "ZONE", requires = "to_time")]
    time_zone: Option<String>,
    /// Recover up to this position
    #[arg(long, value_name = "LSN")]
    to_lsn: Option<Lsn>,
    /// Recover up to the end of this transaction
    #[arg(long, value_name = "XID")]
    to_xid: Option<u64>,
    /// Recover up to this restore point
    #[arg(long, value_name = "NAME")]
    to_name: Option<RestorePoint>,
    /// Recover only until the backup is consistent
    #[arg(long)]
    immediate: bool,
    /// Leave out what happened exactly at the target
    #[arg(long)]
    exclusive: bool,
    /// The line of timelines: latest, current (the backup's own), or a number [default: latest]
    #[arg(long, value_name = "TIMELINE")]
    timeline: Option<TimelineChoice>,
    /// What the server does at the target
    #[arg(long, value_enum, default_value_t = ActionArgument::Promote)]
    action: ActionArgument,
    /// Start from this backup: an id, its beginning, or LATEST [default: the newest that leads to the target]
    #[arg(long, value_name = "BACKUP")]
    backup: Option<String>,
    /// Make a standby, which keeps asking for WAL
    #[arg(long)]
    standby: bool,
    /// Put a tablespace elsewhere; repeatable
    #[arg(long = "tablespace", value_name = "OID=DIR", value_parser = parse_tablespace)]
    tablespaces: Vec<(u32, PathBuf)>,
    /// Bring an existing data directory of the same cluster back, reusing the blocks that are right
    #[arg(long)]
    in_place: bool,
    /// Give up what the data directory has committed and not archived
    #[arg(long, requires = "in_place")]
    discard_unarchived_wal: bool,
    /// Whether the restored server archives [default: off; keep in place and for a standby]
    #[arg(long, value_enum)]
    archive: Option<ArchiveArgument>,
    /// Print what would be done, and stop
    #[arg(long)]
    plan: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ActionArgument {
    Pause,
    Promote,
    Shutdown,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ArchiveArgument {
    Off,
    Keep,
}

/// Chooses the backup, fetches it, and writes the settings of the recovery.
pub(super) async fn run(args: Args, context: &Context) -> Result<Outcome> {
    let goal = args.goal()?;
    let archiving = args.archiving(goal.role);
    let target = OpenTarget::find(&args, context).await?;
    let repository = &target.repository;
    let plan = RecoveryPlan::make(repository, args.wanted(goal, target.cluster, context)).await?;
    let mapping: BTreeMap<_, _> = args.tablespaces.iter().cloned().collect();
    let job = Job {
        repository,
        manifest: Arc::clone(&plan.manifest),
        destination: &args.destination,
        onto: target.onto,
        tablespaces: &mapping,
        grace: context.settings.retention.grace,
    };
    let ready = job.inspect().await?;
    let format = if args.json { Format::Json } else { Format::Text };
    let report = Report::new(&plan, &ready, archiving, context)?;
    if args.plan {
        let amounts = ready.estimate(&*progress::reporter()).await?;
        return report.print_plan(&amounts, format);
    }
    let command = restore_command::for_repository(context, repository)?.to_setting();
    let settings = plan.settings(archiving, command);
    let filled = ready.fill(Some(settings), &*progress::reporter()).await?;
    report.print_done(&filled.amounts, format)
}

/// The repository, with what is known of the destination.
struct OpenTarget {
    repository: Repository,
    cluster: SystemIdentifier,
    onto: Onto,
}

impl OpenTarget {
    /// In place, the destination says which cluster it is, and its witness which repository it uses.
    async fn find(args: &Args, context: &Context) -> Result<Self> {
        if !args.in_place {
            let repository = open(context).await?;
            let cluster = context.cluster(&repository)?;
            return Ok(Self { repository, cluster, onto: Onto::Nothing });
        }
        let cluster = cluster_in_place(&args.destination)?;
        let site = context.site_of(&args.destination)?;
        let repository = open_for(context, Some(&site)).await?;
        repository.authorise(cluster)?;
        let unarchived = match args.discard_unarchived_wal {
            true => UnarchivedWal::Discarded,
            false => UnarchivedWal::Kept,
        };
        let own = context.settings.spool.iter().cloned().collect();
        Ok(Self { repository, cluster, onto: Onto::Existing { unarchived, own } })
    }
}

/// The repository, without the witness of the configured data directory: that may be the very one that is to be made.
pub(super) async fn open(context: &Context) -> Result<Repository> {
    open_for(context, None).await
}

async fn open_for(context: &Context, site: Option<&Site>) -> Result<Repository> {
    let creation = Creation::Refused("a restore never makes a repository".to_owned());
    context.open(Deadline::never(), site, creation).await
}

/// `OID=DIR`.
pub(super) fn parse_tablespace(text: &str) -> Result<(u32, PathBuf)> {
    let parts = text.split_once('=').filter(|(_, directory)| !directory.is_empty());
    let parsed =
        parts.and_then(|(number, directory)| Some((number.parse().ok()?, directory.into())));
    parsed.ok_or_else(|| Error::usage("write it like `16384=/srv/fast`"))
}

impl Args {
    fn goal(&self) -> Result<Goal> {
        let role = if self.standby { Role::Standby } else { Role::Primary };
        let edge = if self.exclusive { Edge::Exclusive } else { Edge::Inclusive };
        let action = match self.action {
            ActionArgument::Pause => TargetAction::Pause,
            ActionArgument::Promote => TargetAction::Promote,
            ActionArgument::Shutdown => TargetAction::Shutdown,
        };
        let goal = Goal { target: self.target()?, edge, timeline: self.timeline, action, role };
        goal.check()?;
        Ok(goal)
    }

    fn target(&self) -> Result<Target> {
        if let Some(time) = &self.to_time {
            return parse_time(time, self.time_zone.as_deref()).map(Target::Time);
        }
        Ok(match (self.to_lsn, self.to_xid, &self.to_name, self.immediate) {
            (Some(lsn), ..) => Target::Lsn(lsn),
            (_, Some(xid), ..) => Target::Xid(xid),
            (_, _, Some(name), _) => Target::Name(name.clone()),
            (_, _, _, true) => Target::Immediate,
            _ => Target::EndOfWal,
        })
    }

    fn archiving(&self, role: Role) -> Archiving {
        match self.archive {
            Some(ArchiveArgument::Keep) => Archiving::Keep,
            None if self.in_place || role == Role::Standby => Archiving::Keep,
            Some(ArchiveArgument::Off) | None => Archiving::Off,
        }
    }

    fn wanted<'a>(
        &'a self,
        goal: Goal,
        cluster: SystemIdentifier,
        context: &'a Context,
    ) -> Wanted<'a> {
        let allow_gap_at = context.settings.wal.allow_gap_at.as_deref();
        Wanted { cluster, backup: self.backup.as_deref(), goal, allow_gap_at }
    }
}
