//! What PostgreSQL's `archive_command` and `restore_command` do: one file of WAL in, one file of WAL out.
//!
//! Owns the order of checks and writes, what is told as archived, and what is told as absent. Does not own object
//! names, sealing and comparison (`repository/wal_archive`), nor exit statuses (`cli/`).

pub mod fetch;
mod local_file;
mod place;
pub mod prefetch;
pub mod push;
mod spool;

pub use spool::Meant;
