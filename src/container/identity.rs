//! What an object is and whom it belongs to: kinds, suites, and the identifiers that names and documents spell in hex.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::hex;
use super::sealing::random_bytes;
use crate::error::Result;
use crate::postgres::SystemIdentifier;

/// What the content of an object is; part of what an object is sealed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// A whole WAL segment.
    WalSegment = 1,
    /// The last, incomplete segment of a timeline that was left by a promotion.
    PartialSegment = 2,
    /// A backup history file (`.backup`).
    BackupHistory = 3,
    /// A timeline history file.
    TimelineHistory = 4,
    /// Blocks of a backup.
    Pack = 5,
    /// Part of a file list.
    FileList = 6,
    /// The manifest of a backup.
    Manifest = 7,
}

impl ObjectKind {
    /// The kind's number in the prelude.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The kind with the number `id`.
    pub const fn from_id(id: u8) -> Option<Self> {
        Some(match id {
            1 => Self::WalSegment,
            2 => Self::PartialSegment,
            3 => Self::BackupHistory,
            4 => Self::TimelineHistory,
            5 => Self::Pack,
            6 => Self::FileList,
            7 => Self::Manifest,
            _ => return None,
        })
    }

    /// Whether PostgreSQL forgets the original as soon as the object is acknowledged.
    pub(super) const fn holds_wal(self) -> bool {
        self.id() <= Self::TimelineHistory.id()
    }

    /// Most bytes of content that an object of this kind holds: a segment has at most 1 GiB.
    pub const fn content_limit_bytes(self) -> u64 {
        match self {
            Self::WalSegment | Self::PartialSegment | Self::Pack | Self::FileList => 1 << 30,
            Self::BackupHistory | Self::TimelineHistory | Self::Manifest => 64 << 20,
        }
    }
}

/// How the objects of a repository are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Suite {
    /// Checksums only: accidents are detected, tampering is not.
    Plain = 0,
    /// AES-256-GCM with keys from HKDF-SHA-256.
    Encrypted = 1,
}

impl Suite {
    /// The suite's number in preludes and in `repository.json`.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The suite with the number `id`.
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::Plain),
            1 => Some(Self::Encrypted),
            _ => None,
        }
    }
}

/// What an object must be for a reader to accept it: sealed for any other, it does not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectIdentity {
    /// What the content is.
    pub kind: ObjectKind,
    /// The cluster the content comes from.
    pub system_identifier: SystemIdentifier,
    /// The object's key below the repository root.
    pub name: String,
}

/// A text that is not the expected number of lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {digits} lower-case hexadecimal digits")]
pub struct InvalidHex {
    text: String,
    digits: usize,
}

macro_rules! hex_identifier {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $length]);

        impl $name {
            /// The value with these bytes.
            pub const fn from_bytes(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = InvalidHex;

            fn from_str(text: &str) -> Result<Self, InvalidHex> {
                let invalid = || InvalidHex { text: text.to_owned(), digits: 2 * $length };
                hex::decode(text).map(Self).ok_or_else(invalid)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! random_identifier {
    ($name:ident) => {
        impl $name {
            /// A new one, never used before. Fails when the operating system gives no random bytes.
            pub fn random() -> Result<Self> {
                random_bytes().map(Self)
            }
        }
    };
}

hex_identifier! {
    /// Tells one repository from another; also keys the block hashes of a plain one.
    RepositoryId, 16
}
hex_identifier! {
    /// Names a repository key without saying anything about it.
    KeyId, 16
}
hex_identifier! {
    /// Names one of the slots that wrap a repository key.
    SlotId, 16
}
hex_identifier! {
    /// BLAKE3 of a whole content.
    ContentDigest, 32
}
hex_identifier! {
    /// Keyed BLAKE3 of one block, cut to 16 bytes; comparable within one repository only.
    BlockHash, 16
}
random_identifier!(RepositoryId);
random_identifier!(KeyId);
random_identifier!(SlotId);

impl ContentDigest {
    /// The digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }
}

impl From<blake3::Hash> for ContentDigest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}
