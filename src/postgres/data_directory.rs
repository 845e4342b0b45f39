//! What of a data directory is copied, what is left out, and why.
//!
//! Pure: a walker lists a directory and asks about each entry. Entries are told by the directory they lie in and
//! their whole name, never by a part of it.

use std::fmt;

use super::relation_name::{
    RelationFile, UnloggedRelations, is_temporary_relation, object_identifier,
};
use super::tablespace::TablespaceId;
use super::version::VersionDirectory;

/// The name of walrs's own spool when it lies in the data directory.
pub const SPOOL_DIRECTORY: &str = "walrs-spool";

/// What the name of a witness beside the spool begins with.
pub const WITNESS_PREFIX: &str = "walrs-spool-witness-";

/// What every other name that walrs makes in a data directory begins with.
pub const OWN_PREFIX: &str = ".walrs-";

/// Directories of the data directory whose contents the server makes anew; `pg_wal` comes from the archive.
///
/// Source: `excludeDirContents` in `backup/basebackup.c`.
const CONTENTS_LEFT_OUT: [&[u8]; 7] = [
    b"pg_dynshmem",
    b"pg_notify",
    b"pg_replslot",
    b"pg_serial",
    b"pg_snapshots",
    b"pg_stat_tmp",
    b"pg_subtrans",
];

/// Files of the data directory that belong to the running server or to an earlier backup or restore.
///
/// Source: `excludeFiles` in `backup/basebackup.c`.
const LEFT_OUT: [(&[u8], SkipReason); 9] = [
    (b"backup_label", SkipReason::EarlierBackup),
    (b"tablespace_map", SkipReason::EarlierBackup),
    (b"backup_manifest", SkipReason::EarlierBackup),
    (b"recovery.signal", SkipReason::RecoverySignal),
    (b"standby.signal", SkipReason::RecoverySignal),
    (b"postmaster.pid", SkipReason::RunningServer),
    (b"postmaster.opts", SkipReason::RunningServer),
    (b"postgresql.auto.conf.tmp", SkipReason::RunningServer),
    (b"current_logfiles.tmp", SkipReason::RunningServer),
];

/// What the relation cache is named; while it is written, a process number follows.
///
/// Source: `RELCACHE_INIT_FILENAME` in `utils/relcache.h`.
const RELATION_CACHE: &[u8] = b"pg_internal.init";

/// What names of temporary files and their directory begin with.
///
/// Source: `PG_TEMP_FILES_DIR`, `PG_TEMP_FILE_PREFIX` in `common/file_utils.h`.
const TEMPORARY_FILES: &[u8] = b"pgsql_tmp";

/// The kind of an entry as the file system tells it, links not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A socket, a fifo or a device.
    Special,
}

/// The place of a directory in the data directory, which decides what its entries mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The data directory itself.
    Root,
    /// `global`: relations that all databases share.
    Global,
    /// `base`: the databases of the default tablespace.
    Base,
    /// `base/<oid>` or `pg_tblspc/<oid>/PG_…/<oid>`: the relations of one database.
    Database,
    /// `pg_tblspc`: the tablespaces.
    Tablespaces,
    /// `pg_tblspc/<oid>`: one tablespace, which several versions may share.
    Tablespace,
    /// `pg_tblspc/<oid>/PG_…`: the databases in one tablespace.
    TablespaceVersion,
    /// Anything else; its entries have no special meaning.
    Other,
}

/// What to do with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Copy the file.
    Copy(FileContent),
    /// Record the directory and ask about its entries.
    Enter(Place),
    /// Record a directory (also in place of a link), with these directories in it and nothing else.
    Empty(&'static [&'static str]),
    /// Record the link and enter what it points to, as [`Place::Tablespace`].
    TablespaceLink(TablespaceId),
    /// A symbolic link that PostgreSQL knows nothing of: `backup.links` decides.
    ForeignLink,
    /// Leave it out, whatever is beneath it too.
    Skip(SkipReason),
}

/// What a copied file holds, where it matters for reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileContent {
    /// Pages, which carry checksums where the cluster has them.
    Relation(RelationFile),
    /// `global/pg_control`: read last and checked.
    ControlFile,
    /// `pg_filenode.map`: read again until its checksum holds.
    FilenodeMap,
    /// Anything else.
    Other,
}

/// Why an entry is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// It means something to the running server only.
    RunningServer,
    /// It belongs to an earlier backup.
    EarlierBackup,
    /// It would start a recovery.
    RecoverySignal,
    /// It is walrs's own.
    Walrs,
    /// `pg_internal.init`: the server makes it anew.
    RelationCache,
    /// A temporary file of a query.
    TemporaryFile,
    /// A temporary table or index.
    TemporaryRelation,
    /// An unlogged relation, which recovery makes empty.
    UnloggedRelation,
    /// In a tablespace, but not of this version's cluster.
    OtherVersion,
    /// A socket, a fifo or a device: worth a warning.
    SpecialFile,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RunningServer => "belongs to the running server",
            Self::EarlierBackup => "belongs to an earlier backup",
            Self::RecoverySignal => "would start a recovery",
            Self::Walrs => "belongs to walrs",
            Self::RelationCache => "is a cache that the server makes anew",
            Self::TemporaryFile => "is a temporary file",
            Self::TemporaryRelation => "is a temporary relation",
            Self::UnloggedRelation => "is an unlogged relation",
            Self::OtherVersion => "is no part of this cluster's tablespace",
            Self::SpecialFile => "is neither a file nor a directory",
        })
    }
}

impl Place {
    /// What to do with the entry `name` of a directory at this place.
    ///
    /// `unlogged` are those of the very directory; `version` is the cluster's. A link that `backup.links` follows
    /// is asked about again, with the kind of what it points to.
    pub fn judge(
        self,
        name: &[u8],
        kind: EntryKind,
        unlogged: &UnloggedRelations,
        version: VersionDirectory,
    ) -> Verdict {
        if let Some(reason) = self.skips(name, unlogged) {
            return Verdict::Skip(reason);
        }
        if self == Self::Tablespace && name != version.to_string().as_bytes() {
            return Verdict::Skip(SkipReason::OtherVersion);
        }
        match kind {
            EntryKind::File => Verdict::Copy(self.content(name)),
            EntryKind::Directory => self.directory(name, version),
            EntryKind::Link => self.link(name, version),
            EntryKind::Special => Verdict::Skip(SkipReason::SpecialFile),
        }
    }

    fn skips(self, name: &[u8], unlogged: &UnloggedRelations) -> Option<SkipReason> {
        if name.starts_with(OWN_PREFIX.as_bytes()) {
            return Some(SkipReason::Walrs);
        }
        match self {
            Self::Root => skips_in_root(name),
            Self::Global | Self::Database => skips_relation(name, unlogged),
            Self::Base | Self::TablespaceVersion if name.starts_with(TEMPORARY_FILES) => {
                Some(SkipReason::TemporaryFile)
            }
            _ => None,
        }
    }

    fn content(self, name: &[u8]) -> FileContent {
        match (self, name) {
            (Self::Global, b"pg_control") => FileContent::ControlFile,
            (Self::Global | Self::Database, b"pg_filenode.map") => FileContent::FilenodeMap,
            (Self::Global | Self::Database, _) => {
                RelationFile::parse(name).map_or(FileContent::Other, FileContent::Relation)
            }
            _ => FileContent::Other,
        }
    }

    fn directory(self, name: &[u8], version: VersionDirectory) -> Verdict {
        let is_identifier = object_identifier(name).is_some();
        Verdict::Enter(match self {
            Self::Root => return directory_of_root(name, version),
            Self::Base | Self::TablespaceVersion if is_identifier => Self::Database,
            Self::Tablespaces if is_identifier => Self::Tablespace,
            Self::Tablespace => Self::TablespaceVersion,
            _ => Self::Other,
        })
    }

    fn link(self, name: &[u8], version: VersionDirectory) -> Verdict {
        match (self, object_identifier(name)) {
            (Self::Tablespaces, Some(number)) => Verdict::TablespaceLink(TablespaceId(number)),
            (Self::Root, _) if name == b"pg_wal" => directory_of_root(name, version),
            _ => Verdict::ForeignLink,
        }
    }
}

fn skips_in_root(name: &[u8]) -> Option<SkipReason> {
    if name == SPOOL_DIRECTORY.as_bytes() || name.starts_with(WITNESS_PREFIX.as_bytes()) {
        return Some(SkipReason::Walrs);
    }
    LEFT_OUT.iter().find(|(left_out, _)| *left_out == name).map(|(_, reason)| *reason)
}

fn skips_relation(name: &[u8], unlogged: &UnloggedRelations) -> Option<SkipReason> {
    if name.starts_with(RELATION_CACHE) {
        return Some(SkipReason::RelationCache);
    }
    if name.starts_with(TEMPORARY_FILES) {
        return Some(SkipReason::TemporaryFile);
    }
    if is_temporary_relation(name) {
        return Some(SkipReason::TemporaryRelation);
    }
    RelationFile::parse(name)
        .is_some_and(|file| unlogged.resets(file))
        .then_some(SkipReason::UnloggedRelation)
}

fn directory_of_root(name: &[u8], version: VersionDirectory) -> Verdict {
    match name {
        b"global" => Verdict::Enter(Place::Global),
        b"base" => Verdict::Enter(Place::Base),
        b"pg_tblspc" => Verdict::Enter(Place::Tablespaces),
        b"pg_wal" => Verdict::Empty(version.major.wal_subdirectories()),
        _ if CONTENTS_LEFT_OUT.contains(&name) => Verdict::Empty(&[]),
        _ => Verdict::Enter(Place::Other),
    }
}

#[cfg(test)]
#[path = "data_directory_tests.rs"]
mod tests;
