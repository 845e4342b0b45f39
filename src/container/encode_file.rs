//! Objects that are built in memory out of a file whose content is not: WAL of up to 32 MiB.

use std::fs::File;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use super::chunk::{CHUNK_HEADER_BYTES, Content, END_RECORD_BYTES, EndRecord, RecordHeader};
use super::compression::{Codec, CompressedChunk, compress};
use super::encode::EncodedObject;
use super::encryption::Place;
use super::identity::{ContentDigest, ObjectIdentity};
use super::parallel;
use super::prelude::{self, ContentFacts, Head, PRELUDE_LIMIT_BYTES};
use super::reader::ObjectReader;
use super::sealing::{Salt, Sealing};
use super::tree_hash::Cut;
use super::{CHUNK_SIZE, CHUNKS_AT_ONCE_MAX};
use crate::error::{Error, Result};

/// Compresses and seals the first `length` bytes of a file, on several cores; blocking.
///
/// The file is read once. This holds the stored bytes and a few chunks, raw and compressed. The object is opened again from memory, and its
/// content compared with the digest of what was read (E2).
pub fn encode_file(
    sealing: &Sealing,
    identity: &ObjectIdentity,
    codec: Codec,
    file: &File,
    length: u64,
) -> Result<EncodedObject> {
    let salt = sealing.new_salt()?;
    encode_with_salt(sealing, identity, codec, file, length, &salt)
}

fn encode_with_salt(
    sealing: &Sealing,
    identity: &ObjectIdentity,
    codec: Codec,
    file: &File,
    length: u64,
    salt: &Salt,
) -> Result<EncodedObject> {
    let positions: Vec<_> = (0..length).step_by(CHUNK_SIZE).enumerate().collect();
    let cut = Cut::of(positions.len());
    let mut object = Assembly::begin(length, positions.len());
    let mut hashes = Vec::with_capacity(positions.len());
    for batch in positions.chunks(CHUNKS_AT_ONCE_MAX) {
        let chunks = parallel::map(batch.iter(), |(index, position)| {
            let mut raw = vec![0; (length - position).min(CHUNK_SIZE as u64) as usize];
            let read = file.read_exact_at(&mut raw, *position);
            read.map_err(|error| unreadable(&identity.name, error))?;
            Ok((cut.hash(*index, &raw), compress(codec, &raw)?))
        })?;
        for (hash, chunk) in &chunks {
            hashes.push(*hash);
            object.append(chunk);
        }
    }
    let digest = cut.digest(&hashes);
    let bytes = object.seal(sealing, identity, codec, digest, salt)?;
    Ok(EncodedObject { bytes, raw_length: length, digest })
}

/// An object whose chunks are compressed, each behind the room for its header, and not sealed yet: the prelude, which
/// all tags cover, states how long the object is.
struct Assembly {
    raw_length: u64,
    /// Begins with the room for the prelude.
    bytes: Vec<u8>,
    /// Raw length and stored length of every chunk.
    chunks: Vec<(u32, u32)>,
}

impl Assembly {
    fn begin(raw_length: u64, chunk_count: usize) -> Self {
        let records = chunk_count * CHUNK_HEADER_BYTES + END_RECORD_BYTES;
        // What is never written to takes no memory.
        let most = PRELUDE_LIMIT_BYTES + records + raw_length as usize;
        let mut bytes = Vec::with_capacity(most + most / 64);
        bytes.resize(PRELUDE_LIMIT_BYTES, 0);
        Self { raw_length, bytes, chunks: Vec::with_capacity(chunk_count) }
    }

    fn append(&mut self, chunk: &CompressedChunk) {
        self.bytes.resize(self.bytes.len() + CHUNK_HEADER_BYTES, 0);
        self.bytes.extend_from_slice(&chunk.frame);
        self.chunks.push((chunk.raw_length, chunk.frame.len() as u32));
    }

    /// The object, which opens to a content with this digest (E2).
    fn seal(
        mut self,
        sealing: &Sealing,
        identity: &ObjectIdentity,
        codec: Codec,
        digest: ContentDigest,
        salt: &Salt,
    ) -> Result<Bytes> {
        let body_length = self.bytes.len() - PRELUDE_LIMIT_BYTES + END_RECORD_BYTES;
        let head = Head {
            name: identity.name.clone(),
            content: Some(ContentFacts { raw_length: self.raw_length, digest }),
            body_length: Some(body_length as u64),
        };
        let (prelude, records) = prelude::seal(sealing, identity, codec.id(), head, salt)?;
        let begin = PRELUDE_LIMIT_BYTES - prelude.len();
        self.bytes[begin..PRELUDE_LIMIT_BYTES].copy_from_slice(&prelude);
        let mut position = PRELUDE_LIMIT_BYTES;
        for (index, (raw_length, stored_length)) in self.chunks.iter().enumerate() {
            let header = RecordHeader {
                content: Content::Chunk,
                last: index + 1 == self.chunks.len(),
                raw_length: *raw_length,
                index: index as u64,
                stored_length: *stored_length,
            };
            let covered = header.covered();
            let length = CHUNK_HEADER_BYTES + *stored_length as usize;
            let record = &mut self.bytes[position..][..length];
            let (front, stored) = record.split_at_mut(CHUNK_HEADER_BYTES);
            let tag = records.seal(header.place(), &covered, stored);
            front[..covered.len()].copy_from_slice(&covered);
            front[covered.len()..].copy_from_slice(&tag);
            position += length;
        }
        let end = EndRecord {
            chunk_count: self.chunks.len() as u64,
            raw_length: self.raw_length,
            digest,
            index_position: None,
            index_count: 0,
        };
        let mut facts = end.facts();
        let tag = records.seal(Place::END, &EndRecord::covered(), &mut facts);
        for part in [&EndRecord::covered()[..], &tag, &facts] {
            self.bytes.extend_from_slice(part);
        }
        let object = Bytes::from(self.bytes).slice(begin..);
        ObjectReader::open(sealing, identity, &object)?.ensure_opens(&object)?;
        Ok(object)
    }
}

fn unreadable(name: &str, error: std::io::Error) -> Error {
    Error::io(format!("cannot read what is to be stored as `{name}`"), error)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::container::encode::encode_with_salt as encode_in_memory;
    use crate::container::identity::{ObjectKind, RepositoryId};
    use crate::container::{KeyId, RepositoryKey};
    use crate::postgres::SystemIdentifier;

    fn contents() -> Vec<Vec<u8>> {
        let mut noise = vec![0; 3 * CHUNK_SIZE + 5];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        vec![noise, vec![7; 9 * CHUNK_SIZE], vec![1], Vec::new()]
    }

    fn file_of(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn identity() -> ObjectIdentity {
        ObjectIdentity {
            kind: ObjectKind::WalSegment,
            system_identifier: SystemIdentifier::new(7),
            name: "wal/some/segment".to_owned(),
        }
    }

    #[test]
    fn an_object_out_of_a_file_is_the_one_out_of_memory() {
        let id = RepositoryId::random().unwrap();
        let encrypted =
            Sealing::encrypted(id, KeyId::random().unwrap(), RepositoryKey::generate().unwrap());
        for sealing in [Sealing::plain(id), encrypted] {
            for (content, codec) in contents().iter().zip([
                Codec::Zstd { level: 1 },
                Codec::Lz4,
                Codec::None,
                Codec::Zstd { level: 1 },
            ]) {
                let salt = sealing.new_salt().unwrap();
                let (identity, file) = (identity(), file_of(content));
                let expected =
                    encode_in_memory(&sealing, &identity, codec, content, &salt).unwrap();
                let length = content.len() as u64;
                let found =
                    encode_with_salt(&sealing, &identity, codec, &file, length, &salt).unwrap();
                assert!(found.bytes == expected.bytes, "{codec:?}, {length} bytes");
                assert_eq!(found.digest, expected.digest);
            }
        }
    }

    /// W1
    #[test]
    fn a_file_that_is_shorter_than_was_said_is_an_error() {
        let sealing = Sealing::plain(RepositoryId::random().unwrap());
        let file = file_of(&contents()[0][..CHUNK_SIZE]);
        let codec = Codec::Zstd { level: 1 };
        encode_file(&sealing, &identity(), codec, &file, CHUNK_SIZE as u64 + 1).unwrap_err();
    }

    /// E2: the tags are taken of what the compressor returned, right or wrong.
    #[test]
    fn an_object_that_opens_to_anything_else_than_was_read_is_an_error() {
        let sealing = Sealing::plain(RepositoryId::random().unwrap());
        let (identity, codec) = (identity(), Codec::None);
        let content = &contents()[0];
        let mut object = Assembly::begin(content.len() as u64, 4);
        for raw in content.chunks(CHUNK_SIZE) {
            let mut miscompressed = raw.to_vec();
            miscompressed[raw.len() / 2] ^= 1;
            object.append(&compress(codec, &miscompressed).unwrap());
        }
        let digest = ContentDigest::of(content);
        let salt = sealing.new_salt().unwrap();
        object.seal(&sealing, &identity, codec, digest, &salt).unwrap_err();
    }
}
