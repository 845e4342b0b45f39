//! walrs archives PostgreSQL's write-ahead log, takes physical base backups into object storage, and brings a
//! cluster back to any moment.
//!
//! The layers, from the top; arrows point down only, and `tests/it/layers.rs` enforces them:
//!
//! ```text
//! cli                                     one file per verb: parse → call → print
//! wal · backup · restore · retention      what to do, in which order; none imports another
//! repository                              one cluster's WAL and backups as typed values
//! container · storage                     bytes ⇄ sealed chunks; keys ⇄ byte streams
//! postgres                                what PostgreSQL defines
//! error · config · secret · budget · deadline · durable · memory · progress · task · step
//! ```

#[cfg(not(target_pointer_width = "64"))]
compile_error!("walrs keeps file positions in usize and needs a 64-bit platform");

pub mod backup;
pub mod budget;
pub mod cli;
pub mod config;
pub mod container;
pub mod deadline;
pub mod durable;
pub mod error;
pub mod memory;
pub mod postgres;
pub mod progress;
pub mod repository;
pub mod restore;
pub mod secret;
pub mod step;
pub mod storage;
pub mod task;
pub mod wal;
