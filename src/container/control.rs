//! Control objects: small JSON documents that carry their own digest.
//!
//! `docs/format.md` section 2.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::damage::{Checked, Damage, ensure};
use super::identity::ContentDigest;
use crate::error::{Error, Result};

/// Most bytes of a control object.
pub const CONTROL_OBJECT_LIMIT_BYTES: usize = 64 << 10;

const FORMAT: u64 = 1;
const DIGEST_MEMBER: &str = ",\"digest\":\"";
const DIGEST_HEX_DIGITS: usize = 64;
const SUFFIX_BYTES: usize = DIGEST_MEMBER.len() + DIGEST_HEX_DIGITS + 2;

#[derive(Serialize)]
struct Document<'a, T> {
    format: u64,
    #[serde(flatten)]
    members: &'a T,
}

#[derive(Deserialize)]
struct Version {
    format: u64,
}

/// Writes `members` as a control object: puts `format` in front and the digest at the end.
///
/// `T` serialises as a struct or map, and has neither of these two members itself.
pub fn seal_control<T: Serialize>(members: &T) -> Result<Vec<u8>> {
    let unwritable = |error| Error::bug("a control object cannot be written").because(error);
    let mut document =
        serde_json::to_vec(&Document { format: FORMAT, members }).map_err(unwritable)?;
    let digest = ContentDigest::of(&document);
    document.pop();
    document.extend_from_slice(format!("{DIGEST_MEMBER}{digest}\"}}").as_bytes());
    if document.len() > CONTROL_OBJECT_LIMIT_BYTES {
        return Err(Error::refused(format!("a control object has {} bytes", document.len()))
            .hint("64 KiB is the limit; shorten a label or a list of backups"));
    }
    Ok(document)
}

/// Reads a control object; its digest is compared before anything in it is believed.
///
/// The error does not know the object's name: the caller adds it.
pub fn open_control<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let damaged = |damage: Damage| damage.of("the control object");
    let document = undigested(bytes).map_err(damaged)?;
    let unreadable = |error| Damage::new(format!("it cannot be read: {error}"));
    let version: Version =
        serde_json::from_slice(&document).map_err(unreadable).map_err(damaged)?;
    if version.format != FORMAT {
        let format = version.format;
        return Err(Error::usage(format!("the control object has format {format}, not {FORMAT}"))
            .hint("it was written by a later walrs; use that version"));
    }
    serde_json::from_slice(&document).map_err(unreadable).map_err(damaged)
}

/// The document without its last member, the digest, which must match.
fn undigested(bytes: &[u8]) -> Checked<Vec<u8>> {
    ensure(bytes.len() <= CONTROL_OBJECT_LIMIT_BYTES, "it is above 64 KiB")?;
    let malformed = || Damage::new("it does not end with its digest");
    let (members, suffix) =
        bytes.len().checked_sub(SUFFIX_BYTES).map(|at| bytes.split_at(at)).ok_or_else(malformed)?;
    let digest = std::str::from_utf8(suffix).ok();
    let digest = digest.and_then(|suffix| suffix.strip_prefix(DIGEST_MEMBER)?.strip_suffix("\"}"));
    let digest: ContentDigest = digest.and_then(|hex| hex.parse().ok()).ok_or_else(malformed)?;
    let document = [members, b"}"].concat();
    ensure(ContentDigest::of(&document) == digest, "its digest does not match")?;
    Ok(document)
}
