//! `walrs restore`: a data directory that recovers to a target when the server is started.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytesize::ByteSize;
use clap::{ArgGroup, ValueEnum};
use serde::Serialize;

use super::{Context, Outcome, output, progress, restore_command};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::postgres::Lsn;
use crate::repository::{Creation, Repository};
use crate::restore::{
    Archiving, Edge, Goal, Job, Ready, RecoveryPlan, RestorePoint, Role, Target, TargetAction,
    TimelineChoice, Wanted, parse_time,
};

/// Arguments of `walrs restore`.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("target").args(["to_time", "to_lsn", "to_xid", "to_name", "immediate"]))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct Args {
    /// The data directory to make; new or empty
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
    /// Whether the restored server archives [default: off, and keep for a standby]
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

/// What was, or would be, restored.
#[derive(Debug, Serialize)]
struct Report {
    backup: String,
    backup_stop_time: String,
    system_identifier: String,
    data_directory: String,
    tablespaces: BTreeMap<u32, String>,
    target: String,
    timeline: u32,
    action: String,
    #[serde(skip)]
    afterwards: String,
    archiving: &'static str,
    files: u64,
    bytes: u64,
    packs: usize,
    stored_bytes: u64,
    warnings: Vec<String>,
}

/// Chooses the backup, fetches it, and writes the settings of the recovery.
pub(super) async fn run(args: Args, context: &Context) -> Result<Outcome> {
    let goal = args.goal()?;
    let archiving = args.archiving(goal.role);
    let repository = open(context).await?;
    let plan = RecoveryPlan::make(&repository, args.wanted(goal, &repository, context)?).await?;
    let mapping: BTreeMap<_, _> = args.tablespaces.iter().cloned().collect();
    let job = Job {
        repository: &repository,
        manifest: Arc::clone(&plan.manifest),
        destination: &args.destination,
        tablespaces: &mapping,
        grace: context.settings.retention.grace,
    };
    let ready = job.inspect().await?;
    let report = Report::new(&plan, &ready, archiving, context)?;
    if args.plan {
        return report.print_plan(&args);
    }
    let command = restore_command::for_repository(context, &repository)?.to_setting();
    let settings = plan.settings(archiving, command);
    ready.fill(Some(settings), &*progress::reporter()).await?;
    report.print_done(&args)
}

/// The repository, without the witness of the configured data directory: that may be the very one that is to be made.
pub(super) async fn open(context: &Context) -> Result<Repository> {
    let creation = Creation::Refused("a restore never makes a repository".to_owned());
    context.open(Deadline::never(), None, creation).await
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
        match (self.archive, role) {
            (Some(ArchiveArgument::Off), _) | (None, Role::Primary) => Archiving::Off,
            (Some(ArchiveArgument::Keep), _) | (None, Role::Standby) => Archiving::Keep,
        }
    }

    fn wanted<'a>(
        &'a self,
        goal: Goal,
        repository: &Repository,
        context: &'a Context,
    ) -> Result<Wanted<'a>> {
        let cluster = context.cluster(repository)?;
        let allow_gap_at = context.settings.wal.allow_gap_at.as_deref();
        Ok(Wanted { cluster, backup: self.backup.as_deref(), goal, allow_gap_at })
    }
}

impl Report {
    fn new(
        plan: &RecoveryPlan,
        ready: &Ready<'_>,
        archiving: Archiving,
        context: &Context,
    ) -> Result<Self> {
        let manifest = &plan.manifest;
        let place = |(number, path): (&u32, &PathBuf)| (*number, path.display().to_string());
        let mut warnings: Vec<String> = plan.warning.iter().cloned().collect();
        let credentials = restore_command::credentials_to_carry(context)?;
        if !credentials.is_empty() {
            warnings.push(format!(
                "the environment of the server must carry {}: credentials are not written into its settings",
                credentials.join(", ")
            ));
        }
        Ok(Self {
            backup: manifest.backup_id.to_string(),
            backup_stop_time: manifest.stop_time.to_string(),
            system_identifier: manifest.system_identifier.to_string(),
            data_directory: ready.data().display().to_string(),
            tablespaces: ready.tablespaces().iter().map(place).collect(),
            target: plan.goal.target.to_string(),
            timeline: plan.timeline.get(),
            action: plan.goal.action.to_string(),
            afterwards: afterwards(&plan.goal),
            archiving: match archiving {
                Archiving::Off => "off",
                Archiving::Keep => "keep",
            },
            files: manifest.files,
            bytes: manifest.bytes,
            packs: manifest.packs.len(),
            stored_bytes: manifest.packs.iter().map(|pack| pack.size).sum(),
            warnings,
        })
    }

    fn print_plan(&self, args: &Args) -> Result<Outcome> {
        if args.json {
            output::json(self)?;
        } else {
            output::line(&self.plan_text())?;
        }
        Ok(Outcome::Done)
    }

    fn plan_text(&self) -> String {
        let mut lines = vec![
            format!("backup      {} (ended at {})", self.backup, self.backup_stop_time),
            format!("into        {}", self.data_directory),
        ];
        lines.extend(
            self.tablespaces.iter().map(|(oid, path)| format!("tablespace  {oid} into {path}")),
        );
        lines.push(format!(
            "target      {} on timeline {}, {}",
            self.target, self.timeline, self.afterwards
        ));
        lines.push(format!("write       {} files, {}", self.files, ByteSize(self.bytes)));
        lines.push(format!(
            "fetch       at most {} (packs: {})",
            ByteSize(self.stored_bytes),
            self.packs
        ));
        lines.push(format!("archiving   {}", self.archiving));
        lines.extend(self.warnings.iter().map(|warning| format!("warning     {warning}")));
        lines.join("\n")
    }

    fn print_done(&self, args: &Args) -> Result<Outcome> {
        if args.json {
            output::json(self)?;
        }
        for warning in &self.warnings {
            output::note(&format!("warning: {warning}"));
        }
        output::note(&format!(
            "restored backup {} into {}: {} files, {}",
            self.backup,
            self.data_directory,
            self.files,
            ByteSize(self.bytes)
        ));
        output::note(&format!(
            "once started, the server recovers to {}\non timeline {}, {}\n\
             start it with: pg_ctl -D '{}' start",
            self.target, self.timeline, self.afterwards, self.data_directory
        ));
        output::note(self.archiving_text());
        Ok(Outcome::Done)
    }

    /// R7
    fn archiving_text(&self) -> &'static str {
        if self.archiving == "off" {
            "archiving is off in this copy, so that it cannot write into the repository of\n\
             its source; once it replaces the source: ALTER SYSTEM SET archive_mode = on,\n\
             restart the server, and take a backup"
        } else {
            "archiving is as the source had it: once promoted, this server archives with\n\
             the source's archive_command"
        }
    }
}

fn afterwards(goal: &Goal) -> String {
    match (goal.role, &goal.target) {
        (Role::Standby, Target::EndOfWal) => "and stays a standby".to_owned(),
        _ => format!("then: {}", goal.action),
    }
}
