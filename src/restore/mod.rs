//! Bringing a cluster back.
//!
//! Owns the choice of the backup for a target and whether it can be reached, what is read for it and in which order
//! it becomes a data directory, and the settings of the recovery that follows. Does not own replay (PostgreSQL asks
//! `wal-fetch` for each segment), nor what the stored bytes mean (`repository/`, `container/`).
//!
//! [`RecoveryPlan`] chooses and checks; [`Job`] looks at the directories; [`Ready::fill`] makes the data directory.

mod beneath;
mod choose;
mod command;
mod content;
mod destination;
mod fetch;
mod filling;
mod goal;
mod job;
mod lease;
mod listing;
mod local;
mod marker;
mod plan;
mod recovery;
mod route;
mod settings;
mod survey;
mod tree;

pub use command::FetchCommand;
pub use goal::{
    Archiving, Edge, Goal, RestorePoint, Role, Target, TargetAction, TimelineChoice, parse_time,
};
pub use job::{Filled, Job, Ready};
pub use recovery::{RecoveryPlan, Wanted};
pub use settings::RecoverySettings;
