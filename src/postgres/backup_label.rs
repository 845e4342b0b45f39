//! `backup_label`: where replay of a base backup begins.

use super::lsn::Lsn;
use super::timeline::TimelineId;
use crate::error::{Error, Result};

/// What PostgreSQL's `backup_label` says, as far as walrs uses it; it is stored byte for byte.
///
/// Source: `build_backup_content` in `access/transam/xlogbackup.c`, `read_backup_label` in `xlogrecovery.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupLabel {
    /// The redo point of the backup's checkpoint.
    pub start: Lsn,
    /// The timeline that holds it. A standby's may be older than the one it follows.
    pub timeline: TimelineId,
}

impl BackupLabel {
    /// Reads the content of the file.
    pub fn parse(content: &[u8]) -> Result<Self> {
        let text = String::from_utf8_lossy(content);
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.split_ascii_whitespace().next())
        };
        let start = value("START WAL LOCATION:").and_then(|word| word.parse().ok());
        let timeline = value("START TIMELINE:").and_then(|word| word.parse().ok());
        let malformed = || Error::damaged("`backup_label` names no start location and timeline");
        Ok(Self { start: start.ok_or_else(malformed)?, timeline: timeline.ok_or_else(malformed)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = "START WAL LOCATION: 0/3000028 (file 000000020000000000000003)\n\
        CHECKPOINT LOCATION: 0/3000060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
        START TIME: 2026-11-20 10:15:00 UTC\nLABEL: nightly START TIMELINE: 9\nSTART TIMELINE: 2\n";

    #[test]
    fn a_real_label_is_read() {
        let label = BackupLabel::parse(REAL.as_bytes()).unwrap();
        assert_eq!(label.start, Lsn::new(0x300_0028));
        assert_eq!(label.timeline.get(), 2);
    }

    #[test]
    fn a_label_without_a_start_is_damage() {
        assert!(BackupLabel::parse(b"").is_err());
        assert!(BackupLabel::parse(b"START TIMELINE: 1\n").is_err());
    }
}
