//! The file list: one line for every path of a backup (`docs/format.md`, section 6).

use std::cmp::Ordering;

use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::container::{BLOCK_SIZE, BlockHash, ContentDigest};
use crate::error::{Error, Result};

/// A line of a file list holds at most this many bytes.
pub const LINE_BYTES: usize = 64 << 20;
/// A part of a file list is cut when its content reaches this many bytes.
pub const PART_BYTES: u64 = 32 << 20;

/// A path relative to the data directory, as bytes; `.` is the data directory itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListedPath(Vec<u8>);

impl ListedPath {
    /// The data directory itself.
    pub fn root() -> Self {
        Self(b".".to_vec())
    }

    /// Checks a path: `.`, or relative with components that are not empty, `.` or `..`, and no NUL byte (R4).
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self> {
        let bytes = bytes.into();
        let component = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
        let relative = bytes.split(|byte| *byte == b'/').all(component);
        if bytes == b"." || (relative && !bytes.contains(&0)) {
            Ok(Self(bytes))
        } else {
            Err(Error::damaged(format!("`{}` is no path of a file list", encode_path(&bytes))))
        }
    }

    /// The decoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as a local one, relative to the data directory.
    pub fn to_relative(&self) -> &std::path::Path {
        use std::os::unix::ffi::OsStrExt;
        std::path::Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }

    /// The path with bytes outside 0x21–0x7E and `%`, `"`, `\` as `%HH`.
    pub fn encoded(&self) -> String {
        encode_path(&self.0)
    }
}

/// By component, as if `/` were byte 0; the data directory itself comes first.
impl Ord for ListedPath {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |path: &Self| path.0 != b".";
        let order = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        rank(self)
            .cmp(&rank(other))
            .then_with(|| self.0.iter().map(order).cmp(other.0.iter().map(order)))
    }
}

impl PartialOrd for ListedPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::fmt::Display for ListedPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.encoded())
    }
}

impl Serialize for ListedPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encoded())
    }
}

impl<'de> Deserialize<'de> for ListedPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        let bytes = decode_path(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("malformed path `{text}`")))?;
        Self::new(bytes).map_err(serde::de::Error::custom)
    }
}

/// Bytes of a path as text of a file list.
pub fn encode_path(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if matches!(byte, 0x21..=0x7E) && !matches!(byte, b'%' | b'"' | b'\\') {
            text.push(char::from(*byte));
        } else {
            let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
            text.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    text
}

/// The bytes of an encoded path; `None` when it is malformed or not spelt the one way.
pub fn decode_path(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let (digits, after) = tail.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    (encode_path(&bytes) == text).then_some(bytes)
}

/// One line of a file list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Entry {
    /// A directory.
    Directory(DirectoryEntry),
    /// A link to a tablespace.
    Tablespace(TablespaceEntry),
    /// A regular file.
    File(FileEntry),
}

impl Entry {
    /// The path of the line.
    pub fn path(&self) -> &ListedPath {
        match self {
            Self::Directory(entry) => &entry.path,
            Self::Tablespace(entry) => &entry.path,
            Self::File(entry) => &entry.path,
        }
    }

    /// The line, with its newline.
    pub fn to_line(&self) -> Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)
            .map_err(|source| Error::bug("cannot write a file list as JSON").because(source))?;
        line.push(b'\n');
        Ok(line)
    }

    /// Parses and checks one line, without its newline.
    pub fn from_line(line: &[u8]) -> Result<Self> {
        let malformed = || Error::damaged("malformed line of a file list");
        let entry: Self =
            serde_json::from_slice(line).map_err(|source| malformed().because(source))?;
        if let Self::File(file) = &entry {
            file.check_extents()?;
        }
        Ok(entry)
    }
}

/// A directory of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    /// Where.
    pub path: ListedPath,
    /// Permission bits.
    pub mode: u32,
}

/// A tablespace of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablespaceEntry {
    /// `pg_tblspc/<oid>`.
    pub path: ListedPath,
    /// Absolute path of the directory it points to, encoded like a path.
    pub target: String,
    /// Permission bits of that directory.
    pub mode: u32,
}

impl TablespaceEntry {
    /// The decoded target.
    pub fn target_path(&self) -> Result<std::path::PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        let malformed =
            || Error::damaged(format!("malformed target of tablespace `{}`", self.path));
        let bytes = decode_path(&self.target).ok_or_else(malformed)?;
        let path = std::path::PathBuf::from(std::ffi::OsString::from_vec(bytes));
        if path.is_absolute() { Ok(path) } else { Err(malformed()) }
    }

    /// The tablespace's OID.
    pub fn oid(&self) -> Result<u32> {
        let name = self.path.as_bytes().strip_prefix(b"pg_tblspc/");
        name.and_then(|name| std::str::from_utf8(name).ok())
            .and_then(|name| name.parse().ok())
            .ok_or_else(|| Error::damaged(format!("`{}` is no tablespace link", self.path)))
    }
}

/// Device, inode and change time of a file when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity(pub u64, pub u64, pub i64, pub i64);

/// A regular file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Where.
    pub path: ListedPath,
    /// Permission bits.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// By `fstat` on the open descriptor before the first byte was read.
    pub identity: FileIdentity,
    /// Over the block hashes and the size.
    pub digest: ContentDigest,
    /// Where every byte is; covers `0..size` in order.
    pub extents: Vec<Extent>,
    /// Pages whose checksum failed, counted from the start of this file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bad_pages: Vec<u32>,
}

impl FileEntry {
    /// D1, D3: the extents follow each other on the block grid and cover the file exactly.
    fn check_extents(&self) -> Result<()> {
        let mut position = 0_u64;
        for extent in &self.extents {
            let aligned = position.is_multiple_of(BLOCK_SIZE as u64);
            if extent.offset != position || extent.length == 0 || !aligned {
                return Err(self.malformed());
            }
            position = position.checked_add(extent.length).ok_or_else(|| self.malformed())?;
        }
        if position == self.size { Ok(()) } else { Err(self.malformed()) }
    }

    fn malformed(&self) -> Error {
        Error::damaged(format!("the extents of `{}` do not cover the file exactly", self.path))
    }
}

/// The digest of a file: BLAKE3 over the hashes of its blocks in order, then its size as a little-endian u64.
pub fn file_digest(hashes: &[BlockHash], size: u64) -> ContentDigest {
    let mut whole = blake3::Hasher::new();
    for hash in hashes {
        whole.update(hash.as_bytes());
    }
    whole.update(&size.to_le_bytes());
    whole.finalize().into()
}

/// A run of bytes of a file, and where they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Position in the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Where they are.
    pub source: ExtentSource,
}

/// Where the bytes of an extent are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentSource {
    /// They are zeros.
    Zeros,
    /// They begin in a pack and run on into its following chunks.
    Pack {
        /// Index into the manifest's pack table.
        pack: u32,
        /// The chunk.
        chunk: u32,
        /// Position in that chunk's content.
        offset: u32,
    },
}

impl Serialize for Extent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (pack, chunk, offset) = match self.source {
            ExtentSource::Zeros => (None, 0, 0),
            ExtentSource::Pack { pack, chunk, offset } => (Some(pack), chunk, offset),
        };
        let mut sequence = serializer.serialize_seq(Some(5))?;
        sequence.serialize_element(&self.offset)?;
        sequence.serialize_element(&self.length)?;
        sequence.serialize_element(&pack)?;
        sequence.serialize_element(&chunk)?;
        sequence.serialize_element(&offset)?;
        sequence.end()
    }
}

impl<'de> Deserialize<'de> for Extent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (offset, length, pack, chunk, start): (u64, u64, Option<u32>, u32, u32) =
            Deserialize::deserialize(deserializer)?;
        let source = match pack {
            Some(pack) => ExtentSource::Pack { pack, chunk, offset: start },
            None if chunk == 0 && start == 0 => ExtentSource::Zeros,
            None => return Err(serde::de::Error::custom("an extent of zeros with a position")),
        };
        Ok(Self { offset, length, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ListedPath {
        ListedPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn paths_sort_by_component_with_the_root_first() {
        let mut paths =
            vec![path("base.d"), path("base/1"), path("base"), ListedPath::root(), path("#x")];
        paths.sort();
        assert_eq!(
            paths,
            [ListedPath::root(), path("#x"), path("base"), path("base/1"), path("base.d")]
        );
    }

    /// R4
    #[test]
    fn paths_that_leave_the_data_directory_are_refused() {
        for text in ["..", "a/../b", "/etc/passwd", "a//b", "a/", "", "./a", "a/."] {
            assert!(ListedPath::new(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_byte_string_survives_encoding(bytes: Vec<u8>) {
            let text = encode_path(&bytes);
            proptest::prop_assert!(text.bytes().all(|byte| (0x21..=0x7E).contains(&byte)));
            proptest::prop_assert_eq!(decode_path(&text), Some(bytes));
        }
    }

    #[test]
    fn a_line_reads_back_as_it_was_written() {
        let extents = vec![
            Extent {
                offset: 0,
                length: 8192,
                source: ExtentSource::Pack { pack: 1, chunk: 2, offset: 3 },
            },
            Extent { offset: 8192, length: 5, source: ExtentSource::Zeros },
        ];
        let entry = Entry::File(FileEntry {
            path: path("base/1/a b%"),
            mode: 0o600,
            size: 8197,
            mtime: (1, 2),
            identity: FileIdentity(1, 2, 3, 4),
            digest: ContentDigest::of(b"x"),
            extents,
            bad_pages: vec![],
        });
        let line = entry.to_line().unwrap();
        assert!(String::from_utf8_lossy(&line).contains("base/1/a%20b%25"));
        assert_eq!(Entry::from_line(line.trim_ascii_end()).unwrap(), entry);
    }

    /// D1, D3
    #[test]
    fn extents_with_a_hole_an_overlap_or_a_tail_are_damage() {
        let line = |extents: &str| {
            let digest = "0".repeat(64);
            let line = format!(
                r#"{{"type":"file","path":"f","mode":384,"size":16384,"mtime":[0,0],"identity":[0,0,0,0],"digest":"{digest}","extents":{extents}}}"#
            );
            Entry::from_line(line.as_bytes())
        };
        assert!(line("[[0,16384,null,0,0]]").is_ok());
        for wrong in [
            "[]",
            "[[0,8192,null,0,0]]",
            "[[0,8192,null,0,0],[16384,8192,null,0,0]]",
            "[[0,16384,null,0,0],[8192,8192,null,0,0]]",
            "[[0,24576,null,0,0]]",
            "[[0,100,null,0,0],[100,16284,null,0,0]]",
        ] {
            assert!(line(wrong).is_err(), "{wrong}");
        }
    }
}
