//! Prefetch: the segments that recovery will ask for next lie in the spool before it asks (F3, F4, F5).
//!
//! Owns the stock (what lies in the spool, and how it is handed over), the pace (how many segments ahead), the filler
//! (the one piece of code that downloads them), and its two hosts: a helper process of its own, and, where a helper would
//! become a child of the postmaster (P1), the process that PostgreSQL started. Does not own what PostgreSQL is told: a
//! segment comes from here verified or not at all, and nothing here ever says that one does not exist.

mod descriptors;
mod filler;
mod helper;
mod host;
mod pace;
mod process;
mod stock;

pub(super) use filler::{Aim, Filler};
pub use helper::{Helper, Prefetch, be_helper};
pub(super) use host::{Host, Launch, tell};
pub(super) use pace::{Limit, Pace, Waited};
pub(super) use stock::{Entry, Stock};
