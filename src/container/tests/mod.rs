//! Tests of what only the inside sees: nonces, and bytes that follow from fixed salts.

mod known_answers;

use std::collections::HashSet;

use super::*;
use crate::postgres::SystemIdentifier;
use crate::secret::Secret;

fn identity(kind: ObjectKind, name: &str) -> ObjectIdentity {
    ObjectIdentity {
        kind,
        system_identifier: SystemIdentifier::new(7_625_123_456_789_012_345),
        name: name.to_owned(),
    }
}

fn plain() -> Sealing {
    Sealing::plain(RepositoryId::from_bytes([0x17; 16]))
}

fn encrypted() -> Sealing {
    let key = RepositoryKey::from_secret(Secret::new([0x42; 32]));
    Sealing::encrypted(RepositoryId::from_bytes([0x17; 16]), KeyId::from_bytes([0x29; 16]), key)
}

/// A pack of `chunks` small chunks and the given index.
fn pack(sealing: &Sealing, salt: &[u8; 32], chunks: &[&[u8]], index: &[u8]) -> FinishedObject {
    let identity = identity(ObjectKind::Pack, PACK);
    let mut writer = ObjectWriter::with_salt(sealing, identity, Codec::None, salt).unwrap();
    for raw in chunks {
        writer.push(compress(Codec::None, raw).unwrap(), raw).unwrap();
    }
    writer.push_index(index).unwrap();
    writer.finish().unwrap()
}

const PACK: &str = "backups/20261120T101500Z-k3v7qa/packs/00000001";

#[test]
fn no_nonce_is_used_twice_within_an_object() {
    let index = vec![1; 2 * CHUNK_SIZE + 1];
    encryption::test_hook::take();
    pack(&encrypted(), &[1; 32], &[b"a", b"b", b"c", b"d"], &index);
    let nonces = encryption::test_hook::take();
    assert_eq!(nonces.len(), 1 + 4 + 3 + 1, "head, chunks, index records, end");
    assert_eq!(nonces.iter().collect::<HashSet<_>>().len(), nonces.len(), "{nonces:x?}");
}

#[test]
fn no_nonce_is_used_twice_within_a_streamed_segment() {
    let content = vec![7; 5 * CHUNK_SIZE + 1];
    let digest = ContentDigest::of(&content);
    let stated = ContentFacts { raw_length: content.len() as u64, digest };
    let segment = identity(ObjectKind::WalSegment, "wal/x");
    encryption::test_hook::take();
    let pieces =
        EncodeStream::new(&encrypted(), segment, Codec::default(), stated, &content[..]).unwrap();
    pieces.for_each(|piece| drop(piece.unwrap()));
    let nonces = encryption::test_hook::take();
    assert_eq!(nonces.len(), 1 + 6 + 1, "head, chunks, end");
    assert_eq!(nonces.iter().collect::<HashSet<_>>().len(), nonces.len(), "{nonces:x?}");
}

/// E2
#[test]
fn wal_that_would_not_open_to_itself_is_never_returned() {
    let segment = identity(ObjectKind::WalSegment, "wal/x");
    let content = vec![7; 2 * CHUNK_SIZE + 1];
    let object = encode(&encrypted(), &segment, Codec::default(), &content).unwrap();
    let reader = ObjectReader::open(&encrypted(), &segment, &object.bytes).unwrap();
    assert!(reader.ensure_holds(&object.bytes, &content).is_ok());
    for position in [0, CHUNK_SIZE, 2 * CHUNK_SIZE] {
        let mut other = content.clone();
        other[position] ^= 1;
        let error = reader.ensure_holds(&object.bytes, &other).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Bug);
    }
    assert!(reader.ensure_holds(&object.bytes, &content[..CHUNK_SIZE]).is_err());
    assert!(reader.ensure_holds(&object.bytes, &[&content[..], b"x"].concat()).is_err());
}

/// K3
#[test]
fn every_use_of_a_key_has_a_label_of_its_own() {
    let labels =
        [sealing::OBJECT_LABEL, sealing::BLOCK_LABEL, sealing::PARTIAL_LABEL, keys::SLOT_LABEL];
    assert_eq!(HashSet::from(labels).len(), labels.len());
}
