//! Objects whose content is in memory: manifests, parts of a file list.

use bytes::Bytes;

use super::CHUNK_SIZE;
use super::body::{Body, Follows, stored_chunk_bytes};
use super::chunk::END_RECORD_BYTES;
use super::compression::{Codec, CompressedChunk, compress};
use super::identity::{ContentDigest, ObjectIdentity};
use super::parallel;
use super::prelude::{ContentFacts, Head};
use super::reader::ObjectReader;
use super::sealing::{Salt, Sealing};
use crate::error::{Error, Result};

/// An object ready to be stored.
#[derive(Debug, Clone)]
pub struct EncodedObject {
    /// The whole object.
    pub bytes: Bytes,
    /// Bytes of the content.
    pub raw_length: u64,
    /// BLAKE3 of the content.
    pub digest: ContentDigest,
}

/// Compresses and seals `content`, on all cores when it is longer than a chunk.
///
/// What PostgreSQL will forget once it is stored (kinds 1 to 4) is opened again and compared before it is returned.
pub fn encode(
    sealing: &Sealing,
    identity: &ObjectIdentity,
    codec: Codec,
    content: &[u8],
) -> Result<EncodedObject> {
    encode_with_salt(sealing, identity, codec, content, &sealing.new_salt()?)
}

pub(super) fn encode_with_salt(
    sealing: &Sealing,
    identity: &ObjectIdentity,
    codec: Codec,
    content: &[u8],
    salt: &Salt,
) -> Result<EncodedObject> {
    if content.len() as u64 > identity.kind.content_limit_bytes() {
        let length = content.len();
        return Err(Error::refused(format!("`{}` would hold {length} bytes", identity.name)));
    }
    let facts =
        ContentFacts { raw_length: content.len() as u64, digest: ContentDigest::of(content) };
    let chunks = parallel::map(content.chunks(CHUNK_SIZE), |raw| compress(codec, raw))?;
    let body_length = chunks.iter().map(stored_chunk_bytes).sum::<usize>() + END_RECORD_BYTES;
    let head = Head {
        name: identity.name.clone(),
        content: Some(facts),
        body_length: Some(body_length as u64),
    };
    let mut body = Body::begin(sealing, identity, codec.id(), head, salt)?;
    push_all(&mut body, chunks);
    body.end(facts.digest);
    let bytes = body.take();
    if identity.kind.holds_wal() {
        ObjectReader::open(sealing, identity, &bytes)?.ensure_holds(&bytes, content)?;
    }
    Ok(EncodedObject { bytes, raw_length: facts.raw_length, digest: facts.digest })
}

fn push_all(body: &mut Body, chunks: Vec<CompressedChunk>) {
    let mut left = chunks.len();
    for chunk in chunks {
        left -= 1;
        body.push_chunk(&chunk, if left == 0 { Follows::Nothing } else { Follows::More });
    }
}
