//! Bringing a cluster back.
//!
//! Owns the choice of the backup for a target and whether it can be reached, what is read for it and in which order
//! it becomes a data directory, and the settings of the recovery that follows. Does not own replay (PostgreSQL asks
//! `wal-fetch` for each segment), nor what the stored bytes mean (`repository/`, `container/`).
//!
//! [`RecoveryPlan`] chooses and checks; [`Job`] looks at the directories; [`Ready::fill`] makes the data directory.

mod adopt;
mod beneath;
mod choose;
mod command;
mod content;
mod destination;
mod existing;
mod fetch;
mod filling;
mod goal;
mod job;
mod lease;
mod listing;
mod local;
mod marker;
mod needs;
mod plan;
mod prune;
mod recovery;
mod reuse;
mod route;
mod settings;
mod survey;
mod takeover;
mod tree;
mod unarchived;

pub use command::FetchCommand;
pub use existing::cluster_in_place;
pub use goal::{
    Archiving, Edge, Goal, RestorePoint, Role, Target, TargetAction, TimelineChoice, parse_time,
};
pub use job::{Filled, Job, Onto, Ready};
pub use needs::Amounts;
pub use recovery::{RecoveryPlan, Wanted};
pub use settings::RecoverySettings;
pub use unarchived::UnarchivedWal;
