//! What PostgreSQL defines: positions, names, page and file layouts, what a data directory holds, and the SQL session.
//!
//! Owns every fact about PostgreSQL 13 to 18 that walrs relies on, each with its source, as small types that are
//! parsed once at the edge. Does not own what is done with them, nor names in the repository; only `session` talks
//! to a server, and nothing here reads the environment.

mod backup_label;
mod bytes;
mod control_file;
mod data_directory;
mod filenode_map;
mod lsn;
mod page;
mod page_checksum;
mod postmaster;
mod relation_name;
mod segment;
mod session;
mod system_identifier;
mod tablespace;
mod text;
mod timeline;
mod version;
mod wal_header;
mod wal_tail;

pub use backup_label::BackupLabel;
pub use control_file::{
    CONTROL_FILE, ControlFile, ControlFileDefect, DataChecksums, DatabaseState, WalLevel,
};
pub use data_directory::{
    EntryKind, FileContent, OWN_PREFIX, Place, SPOOL_DIRECTORY, SkipReason, Verdict, WITNESS_PREFIX,
};
pub use filenode_map::{FILENODE_MAP, filenode_map_is_intact};
pub use lsn::Lsn;
pub use page::{BlockNumber, PageState, page_lsn, verify_page};
pub use postmaster::{POSTMASTER_PID, PostmasterPid};
pub use relation_name::{Fork, RelationFile, RelationNumber, UnloggedRelations};
pub use segment::{SegmentName, SegmentNumber, SegmentSize, WalFileName};
pub use session::{
    ArchivedFile, ArchiverStatistics, ConnectionSettings, RootCertificates, ServerTablespace,
    Session, SslMode, StartedBackup, StoppedBackup,
};
pub use system_identifier::SystemIdentifier;
pub use tablespace::{TABLESPACE_LINKS, Tablespace, TablespaceId, TablespaceLocation};
pub use text::Malformed;
pub use timeline::{HistoryDefect, HistoryEntry, HistoryName, TimelineHistory, TimelineId};
pub use version::{MajorVersion, VERSION_FILE, VersionDirectory};
pub use wal_header::{
    ExpectedCluster, LONG_HEADER_BYTES, LongHeader, PageChecks, PageHeader, SegmentDefect,
    WalMagic, check_every_page, check_segment,
};
