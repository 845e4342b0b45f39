//! The command line: one thin file per verb, each parse → call → print.
//!
//! Owns arguments, output, exit codes and the runtime. Does not own what a command does.

mod backup_document;
mod backup_fetch;
mod backup_list;
mod backup_mark;
mod backup_push;
mod backup_show;
mod check;
mod context;
mod exit;
mod init;
mod key;
mod logging;
mod output;
mod progress;
mod restore;
mod restore_command;
mod restore_report;
mod show_config;
mod wal_fetch;
mod wal_prefetch;
mod wal_push;

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::container::RepositoryId;
use crate::error::{Error, Result};
use crate::memory;
use crate::postgres::SystemIdentifier;

use self::exit::Threads;
pub use context::Context;
pub use exit::{Outcome, Statuses};

/// PostgreSQL WAL archiving, physical backups and point-in-time restore.
#[derive(Debug, Parser)]
#[command(name = "walrs", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "The first three lines to write:\n  \
    archive_command = 'walrs wal-push %p'\n  \
    restore_command = 'walrs wal-fetch %f %p'\n  \
    walrs backup-push                      # on a schedule")]
struct Arguments {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Globals {
    /// Configuration file [default: /etc/walrs/walrs.toml when it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[arg(long, global = true, value_name = "URL")]
    #[arg(help = "Repository: file:///dir, an absolute path, or s3://bucket/prefix")]
    repository: Option<String>,
    /// Refuse any other repository than the one with this id
    #[arg(long, global = true, value_name = "ID")]
    repository_id: Option<RepositoryId>,
    /// Data directory
    #[arg(long, global = true, value_name = "DIR")]
    pgdata: Option<PathBuf>,
    /// Cluster that is meant where there is no data directory
    #[arg(long, global = true, value_name = "NUMBER")]
    system_identifier: Option<SystemIdentifier>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a repository, or add a cluster to one
    Init(init::Args),
    /// Archive one file of the write-ahead log, as PostgreSQL's archive command
    WalPush(wal_push::Args),
    /// Restore one file of the write-ahead log, as PostgreSQL's restore command
    WalFetch(wal_fetch::Args),
    /// Fetch segments ahead of a recovery; started by `wal-fetch`, not by people
    #[command(hide = true)]
    WalPrefetch(wal_prefetch::Args),
    /// Fetch the files of one backup, without settings of a recovery
    BackupFetch(backup_fetch::Args),
    /// Fetch the backup that leads to a target, and set up the recovery to it
    Restore(restore::Args),
    /// Add, list or remove the keys that open an encrypted repository
    Key(key::Args),
    /// Take a base backup
    BackupPush(backup_push::Args),
    /// List the backups that can be restored
    BackupList(backup_list::Args),
    /// Show everything about one backup
    BackupShow(backup_show::Args),
    /// Exempt a backup from retention, or no longer
    BackupMark(backup_mark::Args),
    /// Look for what is wrong with this set-up, and say how to mend it
    Check(check::Args),
    /// Print the effective configuration with the origin of every value
    Config(show_config::Args),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Command {
    fn run(self, context: &Arc<Context>) -> Result<Outcome> {
        match self {
            Self::WalPush(args) => wal_push::run(args, context),
            Self::Config(args) => show_config::run(&args, context),
            Self::Completions { shell } => completions(shell),
            Self::WalFetch(args) => wal_fetch::run(&args, context),
            Self::WalPrefetch(args) => wal_prefetch::run(args, context),
            other => exit::in_runtime(Threads::Pool, other.run_in_pool(context)),
        }
    }

    async fn run_in_pool(self, context: &Context) -> Result<Outcome> {
        match self {
            Self::Init(args) => init::run(args, context).await,
            Self::BackupFetch(args) => backup_fetch::run(args, context).await,
            Self::Restore(args) => restore::run(args, context).await,
            Self::Key(args) => key::run(args, context).await,
            Self::BackupPush(args) => Box::pin(backup_push::run(args, context)).await,
            Self::BackupList(args) => backup_list::run(&args, context).await,
            Self::BackupShow(args) => backup_show::run(&args, context).await,
            Self::BackupMark(args) => backup_mark::run(&args, context).await,
            Self::Check(args) => check::run(args, context).await,
            Self::WalPush(_)
            | Self::WalFetch(_)
            | Self::WalPrefetch(_)
            | Self::Config(_)
            | Self::Completions { .. } => {
                Err(Error::bug("a command without a pool was to run in one"))
            }
        }
    }
}

/// Runs the program and maps every way it can end to an exit code; prints an error once.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    keep_secrets_out_of_core_dumps();
    // The statuses are settled before anything is parsed: PostgreSQL reads a wrong one as "end of WAL" (F2, W10).
    let statuses = Statuses::of(&arguments, &known_verbs());
    let run = std::panic::catch_unwind(AssertUnwindSafe(|| run(arguments, &statuses)));
    ExitCode::from(run.unwrap_or_else(|_| statuses.of_panic()))
}

fn run(arguments: Vec<OsString>, statuses: &Statuses) -> u8 {
    let parsed = Arguments::command()
        .try_get_matches_from(arguments)
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => return print_usage(&error, statuses),
    };
    match execute(arguments, statuses) {
        Ok(outcome) => statuses.of_outcome(outcome),
        Err(error) => {
            output::error(&error);
            statuses.of_error(&error)
        }
    }
}

fn execute(arguments: Arguments, statuses: &Statuses) -> Result<Outcome> {
    if statuses.is_of_wal() {
        memory::hold_little();
    }
    logging::start(statuses.verb());
    let context = match Context::load(arguments.globals) {
        Ok(context) => Arc::new(context),
        Err(error) => {
            return match &arguments.command {
                Command::WalFetch(args) => args.misconfigured(error),
                _ => Err(error),
            };
        }
    };
    arguments.command.run(&context)
}

fn print_usage(error: &clap::Error, statuses: &Statuses) -> u8 {
    // Where standard output is gone there is nobody left to tell.
    let _ = error.print();
    match error.kind() {
        clap::error::ErrorKind::DisplayVersion => statuses.of_version(),
        clap::error::ErrorKind::DisplayHelp => statuses.of_help(),
        _ => statuses.of_usage(),
    }
}

fn known_verbs() -> Vec<String> {
    Arguments::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

fn completions(shell: clap_complete::Shell) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "walrs", &mut script);
    output::bytes(&script)?;
    Ok(Outcome::Done)
}

/// K2: a core dump would carry keys. A failure is harmless to go on with, and there is nobody to tell yet.
fn keep_secrets_out_of_core_dumps() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
