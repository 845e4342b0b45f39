//! What PostgreSQL defines: positions, names, page and file layouts, what a data directory holds, and the SQL session.
//!
//! Owns every fact about PostgreSQL 13 to 18 that walrs relies on, each with its source, as small types that are
//! parsed once at the edge. Does not own what is done with them, nor names in the repository; only `session` talks
//! to a server, and nothing here reads the environment.

mod bytes;
mod control_file;
mod lsn;
mod segment;
mod system_identifier;
mod text;
mod timeline;
mod wal_header;
mod wal_tail;

pub use control_file::{
    CONTROL_FILE, ControlFile, ControlFileDefect, DataChecksums, DatabaseState, WalLevel,
};
pub use lsn::Lsn;
pub use segment::{SegmentName, SegmentNumber, SegmentSize, WalFileName};
pub use system_identifier::SystemIdentifier;
pub use text::Malformed;
pub use timeline::{HistoryDefect, HistoryEntry, HistoryName, TimelineHistory, TimelineId};
pub use wal_header::{
    ExpectedCluster, LONG_HEADER_BYTES, LongHeader, PageHeader, SegmentDefect, WalMagic,
    check_every_page, check_segment,
};
