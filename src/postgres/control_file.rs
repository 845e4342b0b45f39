//! `global/pg_control`: the identity and the state of a cluster.

use std::fmt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use crc_fast::CrcAlgorithm;
use jiff::Timestamp;
use thiserror::Error;

use super::bytes::{i64_at, u32_at, u64_at};
use super::lsn::Lsn;
use super::segment::SegmentSize;
use super::system_identifier::SystemIdentifier;
use super::timeline::TimelineId;
use super::wal_header::ExpectedCluster;
use crate::error::{Error, Result};

/// Where `pg_control` lies in a data directory.
///
/// Source: `XLOG_CONTROL_FILE` in `access/xlog_internal.h`.
pub const CONTROL_FILE: &str = "global/pg_control";

/// How often a torn `pg_control` is read again: PostgreSQL overwrites the file in place.
const READ_ATTEMPTS: u32 = 50;

/// How long a write of `pg_control` may need before the next look.
const READ_PAUSE: Duration = Duration::from_millis(10);

// Offsets in ControlFileData, catalog/pg_control.h; the same in 13 to 18 but for the checksum at the end.
const SYSTEM_IDENTIFIER: usize = 0;
const PG_CONTROL_VERSION: usize = 8;
const CATALOG_VERSION_NO: usize = 12;
const STATE: usize = 16;
const CHECK_POINT: usize = 32;
// checkPointCopy, a CheckPoint of 88 bytes. Its `wal_level`, new in 17, lies in what was padding.
const CHECK_POINT_REDO: usize = 40;
const CHECK_POINT_THIS_TIMELINE: usize = 48;
const CHECK_POINT_TIME: usize = 104;
const MIN_RECOVERY_POINT: usize = 136;
const MIN_RECOVERY_POINT_TIMELINE: usize = 144;
const BACKUP_START_POINT: usize = 152;
const WAL_LEVEL: usize = 172;
const BLCKSZ: usize = 216;
const RELSEG_SIZE: usize = 220;
const XLOG_BLCKSZ: usize = 224;
const XLOG_SEG_SIZE: usize = 228;
const DATA_CHECKSUM_VERSION: usize = 252;
// 13 to 17: mock_authentication_nonce follows at 256, then the CRC.
const CRC_13: usize = 288;
// 18 put default_char_signedness at 256; the nonce moved to 257, the CRC to the next multiple of 4.
const CRC_18: usize = 292;

// PG_CONTROL_VERSION, catalog/pg_control.h.
const VERSION_13: u32 = 1300;
const VERSION_17: u32 = 1700;
const VERSION_18: u32 = 1800;

/// What a cluster was doing when `pg_control` was written; displayed as `pg_controldata` does.
///
/// Source: `DBState` in `catalog/pg_control.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseState {
    /// `starting up`
    StartingUp,
    /// `shut down`: cleanly, as a primary.
    ShutDown,
    /// `shut down in recovery`: cleanly, as a standby.
    ShutDownInRecovery,
    /// `shutting down`
    ShuttingDown,
    /// `in crash recovery`
    InCrashRecovery,
    /// `in archive recovery`: a standby, or a restore in progress.
    InArchiveRecovery,
    /// `in production`: running, or crashed while it ran.
    InProduction,
}

impl DatabaseState {
    fn new(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::StartingUp,
            1 => Self::ShutDown,
            2 => Self::ShutDownInRecovery,
            3 => Self::ShuttingDown,
            4 => Self::InCrashRecovery,
            5 => Self::InArchiveRecovery,
            6 => Self::InProduction,
            _ => return None,
        })
    }

    /// Whether the server stopped cleanly, so that no commit waits in WAL alone.
    pub const fn is_clean(self) -> bool {
        matches!(self, Self::ShutDown | Self::ShutDownInRecovery)
    }
}

impl fmt::Display for DatabaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StartingUp => "starting up",
            Self::ShutDown => "shut down",
            Self::ShutDownInRecovery => "shut down in recovery",
            Self::ShuttingDown => "shutting down",
            Self::InCrashRecovery => "in crash recovery",
            Self::InArchiveRecovery => "in archive recovery",
            Self::InProduction => "in production",
        })
    }
}

/// How much a cluster writes to its WAL.
///
/// Source: `WalLevel` in `access/xlog.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WalLevel {
    /// Enough for crash recovery only; nothing to archive.
    Minimal,
    /// Enough for archiving and standbys.
    Replica,
    /// Enough for logical decoding, too.
    Logical,
}

impl WalLevel {
    fn new(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Minimal,
            1 => Self::Replica,
            2 => Self::Logical,
            _ => return None,
        })
    }
}

impl fmt::Display for WalLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minimal => "minimal",
            Self::Replica => "replica",
            Self::Logical => "logical",
        })
    }
}

/// Whether the pages of a cluster carry checksums.
///
/// Source: `data_checksum_version` in `catalog/pg_control.h`, `PG_DATA_CHECKSUM_VERSION` in `storage/checksum.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataChecksums {
    /// None is written; whatever the page header holds means nothing.
    Off,
    /// Every page written carries one.
    On,
    /// A later version's state in which some pages carry one and some do not.
    Changing(u32),
}

impl DataChecksums {
    fn new(number: u32) -> Self {
        match number {
            0 => Self::Off,
            1 => Self::On,
            other => Self::Changing(other),
        }
    }
}

/// What `pg_control` says about a cluster; see `ControlFileData` in `catalog/pg_control.h`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlFile {
    /// The cluster.
    pub system_identifier: SystemIdentifier,
    /// The layout of the file: 1300 for 13 to 16, 1700 for 17, 1800 for 18.
    pub control_version: u32,
    /// The layout of the system catalogs, part of the directory name in tablespaces.
    pub catalog_version: u32,
    /// What the cluster was doing.
    pub state: DatabaseState,
    /// The record of the latest checkpoint.
    pub checkpoint: Lsn,
    /// Where replay from that checkpoint begins.
    pub checkpoint_redo: Lsn,
    /// The timeline of that checkpoint; behind the server's after a fast promotion, until its next checkpoint.
    pub checkpoint_timeline: TimelineId,
    /// The time of that checkpoint, to the second.
    pub checkpoint_time: Timestamp,
    /// How far a standby must replay before its files are consistent; `None` on a primary.
    pub min_recovery_point: Option<Lsn>,
    /// The timeline of [`Self::min_recovery_point`].
    pub min_recovery_timeline: Option<TimelineId>,
    /// Where the backup began from which the cluster is recovering and is not yet consistent.
    pub backup_start_point: Option<Lsn>,
    /// What the WAL can be used for.
    pub wal_level: WalLevel,
    /// The size of WAL segments.
    pub segment_size: SegmentSize,
    /// The bytes of a page of a relation.
    pub block_size: u32,
    /// The bytes of a page of WAL.
    pub wal_block_size: u32,
    /// The pages of one file of a relation; larger relations go on in `.1`, `.2` and so on.
    pub relation_segment_blocks: u32,
    /// Whether pages carry checksums.
    pub data_checksums: DataChecksums,
}

/// Why the bytes are no `pg_control` that walrs can read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ControlFileDefect {
    /// Shorter than the struct.
    #[error("it has {0} bytes only")]
    TooShort(usize),
    /// Written by a version that walrs does not know.
    #[error("its version {0} is none of PostgreSQL 13 to 18")]
    UnknownVersion(u32),
    /// Torn by a concurrent write, or damaged.
    #[error("its checksum does not match")]
    WrongChecksum,
    /// A field is outside of what PostgreSQL writes.
    #[error("its field `{field}` holds {value}")]
    Impossible {
        /// The field's name in `ControlFileData`.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
}

impl ControlFile {
    /// Reads the content of `pg_control`, whole or at least the struct that begins it.
    pub fn parse(bytes: &[u8]) -> Result<Self, ControlFileDefect> {
        check_integrity(bytes)?;
        let word = |offset| u32_at(bytes, offset);
        let lsn = |offset| Lsn::new(u64_at(bytes, offset));
        Ok(Self {
            system_identifier: SystemIdentifier::new(u64_at(bytes, SYSTEM_IDENTIFIER)),
            control_version: word(PG_CONTROL_VERSION),
            catalog_version: word(CATALOG_VERSION_NO),
            state: field("state", word(STATE), DatabaseState::new)?,
            checkpoint: lsn(CHECK_POINT),
            checkpoint_redo: lsn(CHECK_POINT_REDO),
            checkpoint_timeline: field(
                "checkPointCopy.ThisTimeLineID",
                word(CHECK_POINT_THIS_TIMELINE),
                TimelineId::new,
            )?,
            checkpoint_time: checkpoint_time(bytes)?,
            min_recovery_point: lsn(MIN_RECOVERY_POINT).valid(),
            min_recovery_timeline: TimelineId::new(word(MIN_RECOVERY_POINT_TIMELINE)),
            backup_start_point: lsn(BACKUP_START_POINT).valid(),
            wal_level: field("wal_level", word(WAL_LEVEL), WalLevel::new)?,
            segment_size: field("xlog_seg_size", word(XLOG_SEG_SIZE), SegmentSize::new)?,
            block_size: field("blcksz", word(BLCKSZ), power_of_two)?,
            wal_block_size: field("xlog_blcksz", word(XLOG_BLCKSZ), power_of_two)?,
            relation_segment_blocks: field("relseg_size", word(RELSEG_SIZE), power_of_two)?,
            data_checksums: DataChecksums::new(word(DATA_CHECKSUM_VERSION)),
        })
    }

    /// Reads the `pg_control` of the data directory `pgdata`, again while its checksum does not hold.
    ///
    /// Blocks, for half a second at most when the file is damaged.
    pub fn read(pgdata: &Path) -> Result<Self> {
        Ok(Self::read_with_bytes(pgdata)?.0)
    }

    /// Like [`ControlFile::read`], with the very bytes that passed the check: what a backup must store.
    pub fn read_with_bytes(pgdata: &Path) -> Result<(Self, Vec<u8>)> {
        let path = pgdata.join(CONTROL_FILE);
        let mut attempt = 1;
        loop {
            let bytes = std::fs::read(&path)
                .map_err(|error| Error::io(format!("cannot read `{}`", path.display()), error))?;
            match Self::parse(&bytes) {
                Ok(control) => return Ok((control, bytes)),
                Err(defect) if is_torn(&defect) && attempt < READ_ATTEMPTS => sleep(READ_PAUSE),
                Err(defect) => return Err(unreadable(&path, defect)),
            }
            attempt += 1;
        }
    }

    /// The cluster whose WAL its directory takes.
    pub fn cluster(&self) -> ExpectedCluster {
        let Self { system_identifier, segment_size, .. } = *self;
        ExpectedCluster { system_identifier, segment_size }
    }
}

/// A file read in the middle of a write has a wrong checksum, or has not all its bytes yet.
fn is_torn(defect: &ControlFileDefect) -> bool {
    matches!(defect, ControlFileDefect::WrongChecksum | ControlFileDefect::TooShort(_))
}

fn unreadable(path: &Path, defect: ControlFileDefect) -> Error {
    let what = format!("cannot use `{}`", path.display());
    match defect {
        ControlFileDefect::UnknownVersion(_) => Error::refused(what)
            .because(defect)
            .hint("this walrs knows PostgreSQL 13 to 18 with the byte order of this machine"),
        _ => Error::damaged(what).because(defect),
    }
}

fn check_integrity(bytes: &[u8]) -> Result<(), ControlFileDefect> {
    let too_short = ControlFileDefect::TooShort(bytes.len());
    let version = if bytes.len() < STATE { None } else { Some(u32_at(bytes, PG_CONTROL_VERSION)) };
    let crc_offset = match version.ok_or(too_short.clone())? {
        VERSION_13 | VERSION_17 => CRC_13,
        VERSION_18 => CRC_18,
        other => return Err(ControlFileDefect::UnknownVersion(other)),
    };
    if bytes.len() < crc_offset + 4 {
        return Err(too_short);
    }
    let crc = crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, &bytes[..crc_offset]);
    if crc != u64::from(u32_at(bytes, crc_offset)) {
        return Err(ControlFileDefect::WrongChecksum);
    }
    Ok(())
}

fn field<T>(
    field: &'static str,
    number: u32,
    meaning: impl FnOnce(u32) -> Option<T>,
) -> Result<T, ControlFileDefect> {
    meaning(number).ok_or(ControlFileDefect::Impossible { field, value: u64::from(number) })
}

fn power_of_two(number: u32) -> Option<u32> {
    number.is_power_of_two().then_some(number)
}

fn checkpoint_time(bytes: &[u8]) -> Result<Timestamp, ControlFileDefect> {
    let seconds = i64_at(bytes, CHECK_POINT_TIME);
    Timestamp::from_second(seconds).map_err(|_| ControlFileDefect::Impossible {
        field: "checkPointCopy.time",
        value: seconds.unsigned_abs(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first 296 bytes of `pg_control` right after `initdb -k` of each major version, and what
    /// `pg_controldata` (for 18, `pg_control_system()`) printed: identifier, catalog version, checkpoint.
    const INITIAL: [(&[u8], u64, u32, u64); 6] = [
        (
            include_bytes!("testdata/pg_control.13"),
            7_710_222_062_530_437_107,
            202_007_201,
            0x0181_3E28,
        ),
        (
            include_bytes!("testdata/pg_control.14"),
            7_710_223_475_614_340_094,
            202_107_181,
            0x0194_3170,
        ),
        (
            include_bytes!("testdata/pg_control.15"),
            7_710_222_068_189_143_072,
            202_209_061,
            0x0174_14F8,
        ),
        (
            include_bytes!("testdata/pg_control.16"),
            7_710_223_480_445_776_908,
            202_307_071,
            0x0172_0FC8,
        ),
        (
            include_bytes!("testdata/pg_control.17"),
            7_710_222_063_977_680_898,
            202_406_281,
            0x0172_18D8,
        ),
        (
            include_bytes!("testdata/pg_control.18"),
            7_710_222_065_954_041_873,
            202_506_291,
            0x0174_B290,
        ),
    ];

    #[test]
    fn pg_control_of_every_supported_version_is_read() {
        for (bytes, identifier, catalog_version, checkpoint) in INITIAL {
            let control = ControlFile::parse(bytes).unwrap();
            assert_eq!(control.system_identifier, SystemIdentifier::new(identifier));
            assert_eq!(control.catalog_version, catalog_version);
            assert_eq!(control.checkpoint, Lsn::new(checkpoint));
            assert_eq!(control.checkpoint_redo, control.checkpoint);
            assert_eq!(control.state, DatabaseState::ShutDown);
            assert_eq!(control.wal_level, WalLevel::Replica);
            assert_eq!(control.data_checksums, DataChecksums::On);
            assert_eq!((control.block_size, control.wal_block_size), (8192, 8192));
            assert_eq!(control.relation_segment_blocks, 131_072);
            assert_eq!(control.segment_size, SegmentSize::DEFAULT);
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        for (bytes, ..) in INITIAL {
            let crc_end = if bytes[8..10] == 1800_u16.to_le_bytes() { 296 } else { 292 };
            for position in 0..crc_end * 8 {
                let mut damaged = bytes.to_vec();
                damaged[position / 8] ^= 1 << (position % 8);
                assert!(ControlFile::parse(&damaged).is_err(), "bit {position} flipped unseen");
            }
        }
    }

    #[test]
    fn a_version_that_walrs_does_not_know_is_named() {
        let mut bytes = INITIAL[0].0.to_vec();
        bytes[8..12].copy_from_slice(&1201_u32.to_ne_bytes());
        assert_eq!(ControlFile::parse(&bytes), Err(ControlFileDefect::UnknownVersion(1201)));
    }

    #[test]
    fn half_a_control_file_is_refused() {
        let bytes = INITIAL[2].0;
        for length in [0, 15, 16, 291] {
            assert_eq!(
                ControlFile::parse(&bytes[..length]),
                Err(ControlFileDefect::TooShort(length))
            );
        }
    }

    /// B6
    #[test]
    fn a_torn_control_file_is_read_again_until_it_is_whole() {
        let pgdata = tempfile::tempdir().unwrap();
        let path = pgdata.path().join(CONTROL_FILE);
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let whole = INITIAL[2].0;
        let mut torn = whole.to_vec();
        torn[CHECK_POINT] ^= 0xFF;
        std::fs::write(&path, &torn).unwrap();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| ControlFile::read_with_bytes(pgdata.path()).unwrap().1);
            sleep(5 * READ_PAUSE);
            std::fs::write(&path, whole).unwrap();
            assert_eq!(reader.join().unwrap(), whole);
        });
    }

    /// B6
    #[test]
    fn a_damaged_control_file_is_an_error_after_a_bounded_number_of_looks() {
        let pgdata = tempfile::tempdir().unwrap();
        std::fs::create_dir(pgdata.path().join("global")).unwrap();
        std::fs::write(pgdata.path().join(CONTROL_FILE), [0xA5; 8192]).unwrap();
        let error = ControlFile::read(pgdata.path()).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Refused);
        let mut torn = INITIAL[2].0.to_vec();
        torn[CHECK_POINT] ^= 0xFF;
        std::fs::write(pgdata.path().join(CONTROL_FILE), torn).unwrap();
        let error = ControlFile::read(pgdata.path()).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Damaged);
    }
}
