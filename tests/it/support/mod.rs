//! What the tests stand on: real PostgreSQL clusters, repositories, load, and an oracle that compares data.
//!
//! Owns starting and stopping of servers (by process id, never by name) and the environment in which walrs runs.
//! Does not own any claim about walrs: assertions live in the tests.

#![allow(dead_code, reason = "helpers are written ahead of the tests that need them")]

pub(crate) mod beside;
pub(crate) mod cluster;
pub(crate) mod cluster_builder;
pub(crate) mod forgery;
pub(crate) mod installation;
pub(crate) mod load;
pub(crate) mod oracle;
pub(crate) mod paused;
pub(crate) mod postmaster;
pub(crate) mod program;
pub(crate) mod recovery;
pub(crate) mod repository;
pub(crate) mod s3_server;
pub(crate) mod scratch;
pub(crate) mod standby;
pub(crate) mod stored;
pub(crate) mod stored_backup;
pub(crate) mod tls;
pub(crate) mod user;
pub(crate) mod wal;
