//! The integration tests: one binary, so that the support code is compiled once and servers start side by side.
//!
//! Everything here runs against real PostgreSQL servers, real directories and real S3-protocol servers.

#![expect(clippy::unwrap_used, reason = "tests end by panicking, in their helpers too")]

mod backup_content;
mod backup_interrupted;
mod backup_push;
mod backup_source;
mod catalog;
mod container;
mod delta;
mod identity;
mod journey;
mod layers;
mod postgres_layer;
mod postgres_session;
mod postgres_tls;
mod reader;
mod repository_creation;
mod restore;
mod storage_contract;
mod storage_fs;
mod storage_s3_options;
mod storage_s3_patience;
mod storage_s3_reads;
mod storage_s3_writes;
mod support;
mod support_works;
mod wal_archiving;
mod wal_coverage;
mod wal_fetch;
mod wal_fetch_ahead;
mod wal_fetch_damage;
mod wal_fetch_holes;
mod wal_first_push;
mod wal_full_disk;
mod wal_helper;
mod wal_identity;
mod wal_push;
mod wal_push_ahead;
mod wal_push_interrupted;
mod wal_recovery;
mod wal_standby;
