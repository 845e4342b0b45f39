//! Taking base backups: what is read when, what is stored in which order, and when a backup begins to exist.
//!
//! Owns the steps of `backup-push`, the pipeline that copies a data directory, and marks. Does not own what a data
//! directory holds (`postgres`), object names and documents (`repository`), or reading a backup back (`restore`).
//!
//! [`Source`] is a server that was found fit, [`push`] takes one backup of it, [`plan`] tells what it would read.

mod alive;
mod announce;
mod assemble;
mod base;
mod buffer;
mod cached_read;
mod chunker;
mod complete;
mod compress;
mod copy;
mod feed;
mod file_builder;
mod host;
mod job;
mod known;
mod list_writer;
mod listing;
mod mark;
mod memory;
mod pack_builder;
mod pack_table;
mod pages;
mod plan;
mod push;
mod rate_limit;
mod read;
mod recollect;
mod source;
mod survey;
#[cfg(test)]
mod test_directory;
mod unchanged;
mod uploads;
mod wal_range;
mod walk;

use crate::postgres::SystemIdentifier;
use crate::repository::{BackupId, Repository};

pub use base::{Scope, WhyFull};
pub use mark::{Permanence, mark};
pub use plan::{Plan, ToRead, plan};
pub use push::{Options, Pushed, Request, push};
pub use source::Source;
pub use survey::Survey;

/// The backup that is being written. Cloning is cheap.
#[derive(Clone)]
struct Target {
    repository: Repository,
    cluster: SystemIdentifier,
    backup: BackupId,
}
