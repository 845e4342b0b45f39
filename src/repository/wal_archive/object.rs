//! Which of a repository's objects hold WAL.

use std::fmt;

use crate::container::ObjectKind;
use crate::repository::layout::ObjectName;

/// An object that holds a file of `pg_wal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalObject {
    name: ObjectName,
    kind: ObjectKind,
}

impl WalObject {
    /// The object `name`; `None` when such an object holds no WAL.
    pub fn new(name: ObjectName) -> Option<Self> {
        let kind = match name {
            ObjectName::Segment(..) => ObjectKind::WalSegment,
            ObjectName::Partial(..) => ObjectKind::PartialSegment,
            ObjectName::BackupHistory(..) => ObjectKind::BackupHistory,
            ObjectName::History(..) => ObjectKind::TimelineHistory,
            _ => return None,
        };
        Some(Self { name, kind })
    }

    /// Its name.
    pub fn name(&self) -> &ObjectName {
        &self.name
    }

    /// What its content is.
    pub fn kind(&self) -> ObjectKind {
        self.kind
    }
}

impl fmt::Display for WalObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.key().fmt(f)
    }
}
