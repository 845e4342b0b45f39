//! What PostgreSQL defines: positions, names, page and file layouts, what a data directory holds, and the SQL session.
//!
//! Owns every fact about PostgreSQL 13 to 18 that walrs relies on, each with its source, as small types that are
//! parsed once at the edge. Does not own what is done with them, nor names in the repository; only `session` talks
//! to a server, and nothing here reads the environment.

mod lsn;
mod segment;
mod system_identifier;
mod text;
mod timeline;

pub use lsn::Lsn;
pub use segment::{SegmentName, SegmentNumber, SegmentSize, WalFileName};
pub use system_identifier::SystemIdentifier;
pub use text::Malformed;
pub use timeline::{HistoryEntry, HistoryName, TimelineHistory, TimelineId};
