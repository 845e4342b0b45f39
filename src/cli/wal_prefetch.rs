//! `walrs wal-prefetch`: the helper of `wal-fetch`, in two roles; it is nobody's to call.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::exit::{self, Threads};
use super::{Context, Outcome};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::repository::Creation;
use crate::wal::prefetch::{Helper, Prefetch, be_helper};

const IDLE_SECONDS: u64 = 60;

/// Arguments of `walrs wal-prefetch`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Start a helper and end, or be one
    #[arg(value_enum, value_name = "ROLE")]
    role: Role,
    /// The data directory of the recovery
    #[arg(value_name = "PGDATA")]
    data_directory: PathBuf,
    /// Number of the server's first process
    #[arg(long, value_name = "PID")]
    postmaster: u32,
    /// When that process started, in clock ticks
    #[arg(long, value_name = "TICKS")]
    postmaster_started: u64,
    /// Number of the process that starts the helper
    #[arg(long, value_name = "PID", default_value_t = 0)]
    started_by: u32,
    /// Seconds without a question after which the helper ends
    #[arg(long, value_name = "SECONDS", default_value_t = IDLE_SECONDS)]
    idle_seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    Start,
    Fill,
}

pub(super) fn run(args: Args, context: &Arc<Context>) -> Result<Outcome> {
    let cluster = context.named_cluster();
    let cluster = cluster.ok_or_else(|| Error::usage("`--system-identifier` is needed"))?;
    if args.role == Role::Start {
        return Prefetch::start_helper(helper(&args, context)?).map(|()| Outcome::Done);
    }
    let postmaster = (args.postmaster, args.postmaster_started);
    let idle = Duration::from_secs(args.idle_seconds);
    let prefetch = Prefetch { pgdata: args.data_directory, cluster, postmaster, idle };
    match be_helper(&prefetch, args.started_by, context.meant())? {
        Some(helper) => exit::in_runtime(Threads::One, serve(helper, context)),
        None => Ok(Outcome::Done),
    }
}

/// The same command in its other role.
fn helper(args: &Args, context: &Context) -> Result<Command> {
    let program = std::env::current_exe();
    let program = program.map_err(|error| Error::io("cannot find this program", error))?;
    let mut command = Command::new(program);
    command.args(context.options()).args(["wal-prefetch", "fill"]).arg(&args.data_directory);
    command.args(["--postmaster", &args.postmaster.to_string()]);
    command.args(["--postmaster-started", &args.postmaster_started.to_string()]);
    command.args(["--idle-seconds", &args.idle_seconds.to_string()]);
    command.args(["--started-by", &std::process::id().to_string()]);
    if let Some(cluster) = context.named_cluster() {
        command.args(["--system-identifier", &cluster.to_string()]);
    }
    Ok(command)
}

async fn serve(helper: Helper, context: &Context) -> Result<Outcome> {
    let site = helper.site().clone();
    let open = async || {
        let creation = Creation::Refused("the helper never makes a repository".to_owned());
        Box::pin(context.open_for_wal(Deadline::never(), Some(&site), creation)).await
    };
    Box::pin(helper.serve(open, context.meant())).await?;
    Ok(Outcome::Done)
}
