//! All object names, built and parsed in one place (`docs/format.md`, section 1).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::container::{KeyId, SlotId};
use crate::error::{Error, Result};
use crate::postgres::{SegmentName, SystemIdentifier, TimelineId, WalFileName};
use crate::storage::{ObjectKey, ObjectPrefix};

const ID_ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const ID_TIME_LENGTH: usize = "20261120T101500Z".len();
const ID_RANDOM_LENGTH: usize = 6;

/// `<UTC start, 20261120T101500Z>-<6 random of a-z2-7>`: unique, sortable by start time, never reused.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupId(String);

impl BackupId {
    /// A new id for something that starts at `now`.
    pub fn generate(now: jiff::Timestamp) -> Result<Self> {
        let mut random = [0_u8; ID_RANDOM_LENGTH];
        getrandom::fill(&mut random).map_err(|source| {
            Error::unavailable("no random bytes from the system").because(source)
        })?;
        let suffix: String =
            random.iter().map(|byte| char::from(ID_ALPHABET[usize::from(byte % 32)])).collect();
        Ok(Self(format!("{}-{suffix}", now.strftime("%Y%m%dT%H%M%SZ"))))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When it was made, to the second.
    pub fn time(&self) -> jiff::Timestamp {
        time_of(&self.0).expect("checked when the id was made or parsed")
    }
}

fn time_of(id: &str) -> Option<jiff::Timestamp> {
    let digits = id.get(..ID_TIME_LENGTH)?;
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", digits).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

impl FromStr for BackupId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let valid = text.split_once('-').is_some_and(|(time, random)| {
            let digits = time.bytes().enumerate().all(|(at, byte)| match at {
                8 => byte == b'T',
                15 => byte == b'Z',
                _ => byte.is_ascii_digit(),
            });
            time.len() == ID_TIME_LENGTH
                && digits
                && time_of(text).is_some()
                && random.len() == ID_RANDOM_LENGTH
                && random.bytes().all(|byte| ID_ALPHABET.contains(&byte))
        });
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::usage(format!("`{text}` is no backup id"))
                .hint("an id looks like `20261120T101500Z-k3v7qa`; `walrs backup-list` shows them"))
        }
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for BackupId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for BackupId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The name of an object below the repository root, by meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectName {
    /// `repository.json`.
    Repository,
    /// `epochs/<n>.json`.
    Epoch(u32),
    /// `keys/<key id>/<slot id>.json`.
    KeySlot(KeyId, SlotId),
    /// `histories/<cluster>/<timeline>.history`.
    History(SystemIdentifier, TimelineId),
    /// `wal/<cluster>/<timeline>/<log>/<segment>`.
    Segment(SystemIdentifier, SegmentName),
    /// `wal/<cluster>/<timeline>/<log>/<segment>.<offset>.backup`.
    BackupHistory(SystemIdentifier, SegmentName, u32),
    /// `wal/<cluster>/<timeline>/<log>/<segment>.partial/<keyed digest>`.
    Partial(SystemIdentifier, SegmentName, PartialDigest),
    /// `horizons/<cluster>/<timeline>/<segment>`.
    Horizon(SystemIdentifier, SegmentName),
    /// `backups/<id>/intent.json`.
    Intent(BackupId),
    /// `backups/<id>/alive/<n>`.
    Alive(BackupId, u32),
    /// `backups/<id>/packs/<n>`.
    Pack(BackupId, u32),
    /// `backups/<id>/files/<n>`.
    FileList(BackupId, u32),
    /// `backups/<id>/manifest`.
    Manifest(BackupId),
    /// `marks/<id>/<n>.json`.
    Mark(BackupId, u32),
    /// `tombstones/<id>.json`.
    Tombstone(BackupId),
    /// `leases/<id>/<n>.json`.
    Lease(BackupId, u32),
}

/// The keyed digest in the name of a partial segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartialDigest(pub [u8; 16]);

impl fmt::Display for PartialDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for PartialDigest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let malformed =
            || Error::usage(format!("`{text}` is no digest of a partial segment (32 hex digits)"));
        let lower = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if text.len() != 32 || !lower {
            return Err(malformed());
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| malformed())?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl ObjectName {
    /// The key of this object.
    pub fn key(&self) -> ObjectKey {
        let text = match self {
            Self::Repository => "repository.json".to_owned(),
            Self::Epoch(number) => format!("epochs/{number:08}.json"),
            Self::KeySlot(key, slot) => format!("keys/{key}/{slot}.json"),
            Self::History(cluster, timeline) => {
                format!("histories/{}/{}.history", cluster.hex(), timeline.hex())
            }
            Self::Segment(cluster, segment) => segment_path(*cluster, *segment),
            Self::BackupHistory(cluster, segment, offset) => {
                format!("{}.{offset:08X}.backup", segment_path(*cluster, *segment))
            }
            Self::Partial(cluster, segment, digest) => {
                format!("{}.partial/{digest}", segment_path(*cluster, *segment))
            }
            Self::Horizon(cluster, segment) => {
                format!("horizons/{}/{}/{segment}", cluster.hex(), segment.timeline().hex())
            }
            Self::Intent(id) => format!("backups/{id}/intent.json"),
            Self::Alive(id, number) => format!("backups/{id}/alive/{number:08}"),
            Self::Pack(id, number) => format!("backups/{id}/packs/{number:08}"),
            Self::FileList(id, number) => format!("backups/{id}/files/{number:08}"),
            Self::Manifest(id) => format!("backups/{id}/manifest"),
            Self::Mark(id, number) => format!("marks/{id}/{number:08}.json"),
            Self::Tombstone(id) => format!("tombstones/{id}.json"),
            Self::Lease(id, number) => format!("leases/{id}/{number:08}.json"),
        };
        ObjectKey::parse(text).expect("names are built from checked parts")
    }

    /// The meaning of a key; `None` for a key that walrs never writes.
    pub fn parse(key: &ObjectKey) -> Option<Self> {
        let parts: Vec<&str> = key.as_str().split('/').collect();
        let name = match parts.as_slice() {
            ["repository.json"] => Self::Repository,
            ["epochs", name] => Self::Epoch(number(name.strip_suffix(".json")?)?),
            ["keys", key, name] => {
                Self::KeySlot(key.parse().ok()?, name.strip_suffix(".json")?.parse().ok()?)
            }
            ["histories", cluster, name] => Self::History(
                SystemIdentifier::from_hex(cluster).ok()?,
                TimelineId::from_hex(name.strip_suffix(".history")?).ok()?,
            ),
            ["wal", cluster, _, _, name] => Self::parse_wal(cluster, name)?,
            ["wal", cluster, _, _, directory, digest] => Self::Partial(
                SystemIdentifier::from_hex(cluster).ok()?,
                directory.strip_suffix(".partial")?.parse().ok()?,
                digest.parse().ok()?,
            ),
            ["horizons", cluster, _, name] => {
                Self::Horizon(SystemIdentifier::from_hex(cluster).ok()?, name.parse().ok()?)
            }
            ["backups", id, rest @ ..] => Self::parse_backup(id.parse().ok()?, rest)?,
            ["marks", id, name] => {
                Self::Mark(id.parse().ok()?, number(name.strip_suffix(".json")?)?)
            }
            ["tombstones", name] => Self::Tombstone(name.strip_suffix(".json")?.parse().ok()?),
            ["leases", id, name] => {
                Self::Lease(id.parse().ok()?, number(name.strip_suffix(".json")?)?)
            }
            _ => return None,
        };
        // One name, one spelling: what would be written differently is not ours.
        (name.key() == *key).then_some(name)
    }

    fn parse_wal(cluster: &str, name: &str) -> Option<Self> {
        let cluster = SystemIdentifier::from_hex(cluster).ok()?;
        match name.parse().ok()? {
            WalFileName::Segment(segment) => Some(Self::Segment(cluster, segment)),
            WalFileName::BackupLabel { segment, offset } => {
                Some(Self::BackupHistory(cluster, segment, offset))
            }
            WalFileName::Partial(_) | WalFileName::History(_) => None,
        }
    }

    fn parse_backup(id: BackupId, rest: &[&str]) -> Option<Self> {
        match rest {
            ["intent.json"] => Some(Self::Intent(id)),
            ["manifest"] => Some(Self::Manifest(id)),
            ["alive", name] => Some(Self::Alive(id, number(name)?)),
            ["packs", name] => Some(Self::Pack(id, number(name)?)),
            ["files", name] => Some(Self::FileList(id, number(name)?)),
            _ => None,
        }
    }
}

/// The prefixes under which listings look.
pub mod prefix {
    use super::{
        BackupId, KeyId, ObjectPrefix, SegmentName, SystemIdentifier, TimelineId, segment_path,
    };

    fn parse(text: impl Into<String>) -> ObjectPrefix {
        ObjectPrefix::parse(text).expect("prefixes are built from checked parts")
    }

    /// All epochs.
    pub fn epochs() -> ObjectPrefix {
        parse("epochs/")
    }

    /// All slots of a key.
    pub fn key_slots(key: &KeyId) -> ObjectPrefix {
        parse(format!("keys/{key}/"))
    }

    /// All histories of a cluster.
    pub fn histories(cluster: SystemIdentifier) -> ObjectPrefix {
        parse(format!("histories/{}/", cluster.hex()))
    }

    /// All WAL of a cluster.
    pub fn wal(cluster: SystemIdentifier) -> ObjectPrefix {
        parse(format!("wal/{}/", cluster.hex()))
    }

    /// The WAL of one timeline.
    pub fn timeline(cluster: SystemIdentifier, timeline: TimelineId) -> ObjectPrefix {
        parse(format!("wal/{}/{}/", cluster.hex(), timeline.hex()))
    }

    /// All partial versions of one segment.
    pub fn partials(cluster: SystemIdentifier, segment: SegmentName) -> ObjectPrefix {
        parse(format!("{}.partial/", segment_path(cluster, segment)))
    }

    /// The horizons of a cluster.
    pub fn horizons(cluster: SystemIdentifier) -> ObjectPrefix {
        parse(format!("horizons/{}/", cluster.hex()))
    }

    /// The horizons of one timeline.
    pub fn horizons_of(cluster: SystemIdentifier, timeline: TimelineId) -> ObjectPrefix {
        parse(format!("horizons/{}/{}/", cluster.hex(), timeline.hex()))
    }

    /// All backups.
    pub fn backups() -> ObjectPrefix {
        parse("backups/")
    }

    /// Everything of one backup.
    pub fn backup(id: &BackupId) -> ObjectPrefix {
        parse(format!("backups/{id}/"))
    }

    /// The packs of one backup.
    pub fn packs(id: &BackupId) -> ObjectPrefix {
        parse(format!("backups/{id}/packs/"))
    }

    /// All marks.
    pub fn marks() -> ObjectPrefix {
        parse("marks/")
    }

    /// The marks of one backup.
    pub fn marks_of(id: &BackupId) -> ObjectPrefix {
        parse(format!("marks/{id}/"))
    }

    /// All tombstones.
    pub fn tombstones() -> ObjectPrefix {
        parse("tombstones/")
    }
}

fn segment_path(cluster: SystemIdentifier, segment: SegmentName) -> String {
    let log = segment.log();
    format!("wal/{}/{}/{log:08X}/{segment}", cluster.hex(), segment.timeline().hex())
}

fn number(text: &str) -> Option<u32> {
    let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back_to_itself() {
        let cluster = SystemIdentifier::new(0x69d3_0000_0000_0c1f);
        let segment: SegmentName = "0000000100000002000000AB".parse().unwrap();
        let id: BackupId = "20261120T101500Z-k3v7qa".parse().unwrap();
        let names = [
            ObjectName::Repository,
            ObjectName::Epoch(1),
            ObjectName::History(cluster, segment.timeline()),
            ObjectName::Segment(cluster, segment),
            ObjectName::BackupHistory(cluster, segment, 0x28),
            ObjectName::Partial(cluster, segment, PartialDigest([7; 16])),
            ObjectName::Horizon(cluster, segment),
            ObjectName::Intent(id.clone()),
            ObjectName::Alive(id.clone(), 3),
            ObjectName::Pack(id.clone(), 1),
            ObjectName::FileList(id.clone(), 1),
            ObjectName::Manifest(id.clone()),
            ObjectName::Mark(id.clone(), 2),
            ObjectName::Tombstone(id.clone()),
            ObjectName::Lease(id, 1),
        ];
        for name in names {
            assert_eq!(ObjectName::parse(&name.key()), Some(name));
        }
    }

    #[test]
    fn a_segment_filed_under_another_timeline_is_not_ours() {
        let key = "wal/69d3000000000c1f/00000002/00000000/000000010000000000000042";
        assert_eq!(ObjectName::parse(&ObjectKey::parse(key).unwrap()), None);
    }

    #[test]
    fn generated_backup_ids_parse_and_sort_by_time() {
        let at =
            |second| BackupId::generate(jiff::Timestamp::from_second(second).unwrap()).unwrap();
        let (early, late) = (at(1_000_000_000), at(2_000_000_000));
        assert!(early < late);
        assert_eq!(early.as_str().parse::<BackupId>().unwrap(), early);
        assert!("20261120T101500Z-K3V7QA".parse::<BackupId>().is_err());
    }
}
