//! The first record of every object: what it is, what it is sealed for, and what its head says.
//!
//! `docs/format.md` section 3.1.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::chunk::{FRAME_HEADER_BYTES, SKIPPABLE_MAGIC, array_at, frame_header};
use super::compression::CodecId;
use super::damage::{Checked, Damage, ensure};
use super::encryption::{Cipher, Place, TAG_BYTES, Tag};
use super::identity::{ContentDigest, KeyId, ObjectIdentity, ObjectKind, Suite};
use super::sealing::{Salt, Sealing};
use crate::error::{Error, Result};
use crate::postgres::SystemIdentifier;

/// Most bytes of a prelude: one ranged read of this length always has all of it.
pub const PRELUDE_LIMIT_BYTES: usize = 4096;

const MAGIC: &[u8; 8] = b"WALRSOBJ";
const VERSION: u8 = 1;

/// Bytes of the payload before the head tag, and before the head.
const FIELDS_BYTES: usize = 108;
const HEAD_OFFSET: usize = FRAME_HEADER_BYTES + FIELDS_BYTES + TAG_BYTES;

/// What the prelude says about the object; unknown facts are absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The object's key below the repository root.
    pub name: String,
    /// The content, when it was known before the first chunk was written.
    pub content: Option<ContentFacts>,
    /// Bytes of the object after the prelude, when it was built in memory.
    pub body_length: Option<u64>,
}

/// Which content an object holds: two contents are the same when these are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentFacts {
    /// Bytes of the content.
    pub raw_length: u64,
    /// BLAKE3 of the content.
    pub digest: ContentDigest,
}

/// The head as it is written.
#[derive(Serialize, Deserialize)]
struct HeadDocument {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<ContentDigest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_length: Option<u64>,
}

/// A prelude that has been read and opened.
pub(super) struct OpenedPrelude {
    pub(super) codec: CodecId,
    pub(super) head: Head,
    pub(super) records: RecordCipher,
    pub(super) length: usize,
}

/// Seals and opens the records after the prelude; binds each of them to it.
pub(super) struct RecordCipher {
    cipher: Cipher,
    prelude_digest: [u8; 32],
}

impl RecordCipher {
    pub(super) fn seal(&self, place: Place, header: &[u8], buffer: &mut [u8]) -> Tag {
        self.cipher.seal(place, &self.associated(header), buffer)
    }

    pub(super) fn open<'a>(
        &self,
        place: Place,
        header: &[u8],
        stored: &'a [u8],
        tag: &Tag,
    ) -> Checked<std::borrow::Cow<'a, [u8]>> {
        self.cipher.open(place, &self.associated(header), stored, tag)
    }

    fn associated(&self, header: &[u8]) -> Vec<u8> {
        [&self.prelude_digest, header].concat()
    }
}

/// The length of the prelude at the beginning of an object, of which `first_bytes` has at least eight bytes.
pub fn prelude_length(first_bytes: &[u8]) -> Result<usize> {
    frame_length(first_bytes).map_err(|damage| damage.of("the object"))
}

/// The system identifier that the prelude at the beginning of an object claims; opening the object proves it.
pub fn claimed_cluster(first_bytes: &[u8]) -> Result<SystemIdentifier> {
    const POSITION: usize = FRAME_HEADER_BYTES + 32;
    frame_length(first_bytes)
        .and_then(|_| {
            array_at(first_bytes, POSITION).ok_or_else(|| Damage::new("it ends within its prelude"))
        })
        .map(|bytes| SystemIdentifier::new(u64::from_le_bytes(bytes)))
        .map_err(|damage| damage.of("the object"))
}

fn frame_length(first_bytes: &[u8]) -> Checked<usize> {
    let (Some(magic), Some(payload)) = (array_at(first_bytes, 0), array_at(first_bytes, 4)) else {
        return Err(Damage::new("it ends within its prelude"));
    };
    ensure(u32::from_le_bytes(magic) == SKIPPABLE_MAGIC, "it is no walrs object")?;
    let length = FRAME_HEADER_BYTES + u32::from_le_bytes(payload) as usize;
    ensure(length <= PRELUDE_LIMIT_BYTES, "its prelude is too long")?;
    ensure(length > HEAD_OFFSET, "its prelude is too short")?;
    Ok(length)
}

/// Makes the prelude of a new object and the cipher for its records.
pub(super) fn seal(
    sealing: &Sealing,
    identity: &ObjectIdentity,
    codec: CodecId,
    head: Head,
    salt: &Salt,
) -> Result<(Vec<u8>, RecordCipher)> {
    let keys = sealing.object_keys(identity, salt);
    let mut head = head.into_json();
    let mut prelude = frame_header(FIELDS_BYTES + TAG_BYTES + head.len()).to_vec();
    prelude.extend_from_slice(MAGIC);
    prelude.extend([VERSION, sealing.suite().id(), codec.id(), identity.kind.id()]);
    prelude.extend([0; 4]);
    prelude.extend(sealing.key_id().map_or([0; 16], |key_id| *key_id.as_bytes()));
    prelude.extend(identity.system_identifier.get().to_le_bytes());
    prelude.extend(salt);
    prelude.extend(keys.commitment);
    prelude.extend((head.len() as u16).to_le_bytes());
    prelude.extend([0; 2]);
    let tag = keys.cipher.seal(Place::HEAD, &prelude, &mut head);
    prelude.extend(tag);
    prelude.extend(head);
    if prelude.len() > PRELUDE_LIMIT_BYTES {
        return Err(Error::bug(format!("the prelude of `{}` is too long", identity.name)));
    }
    let prelude_digest = *blake3::hash(&prelude).as_bytes();
    Ok((prelude, RecordCipher { cipher: keys.cipher, prelude_digest }))
}

/// Reads the prelude at the beginning of `bytes`, which must be of the object `identity`.
pub(super) fn open(
    sealing: &Sealing,
    identity: &ObjectIdentity,
    bytes: &[u8],
) -> Checked<OpenedPrelude> {
    let length = frame_length(bytes)?;
    let prelude = bytes.get(..length).ok_or(Damage::new("it ends within its prelude"))?;
    let fields = Fields::parse(prelude)?;
    fields.ensure_of(sealing, identity)?;
    let keys = sealing.object_keys(identity, &fields.salt);
    // The key was proven when its slot was opened, so this is damage, or an object from elsewhere.
    let committed: bool = keys.commitment.ct_eq(&fields.commitment).into();
    ensure(committed, "its key commitment is not of this key, repository and name")?;
    let (associated, sealed) =
        (&prelude[..FRAME_HEADER_BYTES + FIELDS_BYTES], &prelude[HEAD_OFFSET..]);
    let head = keys.cipher.open(Place::HEAD, associated, sealed, &fields.head_tag)?;
    let head = Head::from_json(&head)?;
    ensure(head.name == identity.name, "it was written under another name")?;
    let prelude_digest = *blake3::hash(prelude).as_bytes();
    let records = RecordCipher { cipher: keys.cipher, prelude_digest };
    Ok(OpenedPrelude { codec: fields.codec, head, records, length })
}

/// The fields before the head.
struct Fields {
    suite: Suite,
    codec: CodecId,
    kind: ObjectKind,
    key_id: KeyId,
    system_identifier: SystemIdentifier,
    salt: Salt,
    commitment: [u8; 32],
    head_tag: Tag,
}

impl Fields {
    /// Parses a whole prelude frame.
    fn parse(prelude: &[u8]) -> Checked<Self> {
        let payload = &prelude[FRAME_HEADER_BYTES..];
        ensure(payload.starts_with(MAGIC), "it is no walrs object")?;
        ensure(payload[8] == VERSION, "its container version is not 1")?;
        ensure(bytes_at(payload, 12) == [0; 4], "a reserved field is set")?;
        ensure(bytes_at(payload, 106) == [0; 2], "a reserved field is set")?;
        let head_length = usize::from(u16::from_le_bytes(bytes_at(payload, 104)));
        ensure(prelude.len() == HEAD_OFFSET + head_length, "the length of its head is wrong")?;
        Ok(Self {
            suite: Suite::from_id(payload[9]).ok_or(Damage::new("its suite is unknown"))?,
            codec: CodecId::from_id(payload[10]).ok_or(Damage::new("its codec is unknown"))?,
            kind: ObjectKind::from_id(payload[11]).ok_or(Damage::new("its kind is unknown"))?,
            key_id: KeyId::from_bytes(bytes_at(payload, 16)),
            system_identifier: SystemIdentifier::new(u64::from_le_bytes(bytes_at(payload, 32))),
            salt: bytes_at(payload, 40),
            commitment: bytes_at(payload, 72),
            head_tag: bytes_at(payload, FIELDS_BYTES),
        })
    }

    fn ensure_of(&self, sealing: &Sealing, identity: &ObjectIdentity) -> Checked<()> {
        match (self.suite, sealing.suite()) {
            (Suite::Plain, Suite::Encrypted) => {
                return Err(Damage::new("it is not encrypted, in an encrypted repository"));
            }
            (Suite::Encrypted, Suite::Plain) => {
                return Err(Damage::new("it is encrypted, in a plain repository"));
            }
            _ => {}
        }
        let key_id = sealing.key_id().unwrap_or(KeyId::from_bytes([0; 16]));
        ensure(self.key_id == key_id, "it is sealed with another key")?;
        ensure(self.suite == Suite::Encrypted || self.salt == [0; 32], "an unused field is set")?;
        ensure(self.kind == identity.kind, "it is an object of another kind")?;
        let same_cluster = self.system_identifier == identity.system_identifier;
        ensure(same_cluster, "it is an object of another cluster")
    }
}

fn bytes_at<const N: usize>(payload: &[u8], offset: usize) -> [u8; N] {
    array_at(payload, offset).expect("a prelude is longer than its fields")
}

impl Head {
    fn into_json(self) -> Vec<u8> {
        let document = HeadDocument {
            name: self.name,
            raw_length: self.content.map(|content| content.raw_length),
            digest: self.content.map(|content| content.digest),
            body_length: self.body_length,
        };
        serde_json::to_vec(&document).expect("text and numbers are valid JSON")
    }

    fn from_json(json: &[u8]) -> Checked<Self> {
        let invalid = |error| Damage::new(format!("its head cannot be read: {error}"));
        let document: HeadDocument = serde_json::from_slice(json).map_err(invalid)?;
        let content = match (document.raw_length, document.digest) {
            (Some(raw_length), Some(digest)) => Some(ContentFacts { raw_length, digest }),
            (None, None) => None,
            _ => {
                return Err(Damage::new(
                    "its head states a length without a digest, or the reverse",
                ));
            }
        };
        Ok(Self { name: document.name, content, body_length: document.body_length })
    }
}
