//! Tests of what only the inside can see: fixed salts, nonces, and records of single objects.

use super::*;
use crate::postgres::SystemIdentifier;
use crate::secret::Secret;

fn identity(kind: ObjectKind) -> ObjectIdentity {
    ObjectIdentity {
        kind,
        system_identifier: SystemIdentifier::new(7_625_123_456_789_012_345),
        name: "backups/20261120T101500Z-k3v7qa/packs/00000001".to_owned(),
    }
}

fn sealings() -> [Sealing; 2] {
    let repository_id = RepositoryId::from_bytes([7; 16]);
    let key = RepositoryKey::from_secret(Secret::new([42; 32]));
    [
        Sealing::plain(repository_id),
        Sealing::encrypted(repository_id, KeyId::from_bytes([9; 16]), key),
    ]
}

#[test]
fn smoke() {
    for sealing in sealings() {
        for codec in [Codec::None, Codec::Zstd { level: 1 }, Codec::Lz4] {
            for size in [0, 1, 8191, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 5 << 20] {
                let content: Vec<u8> = (0..size).map(|i| (i / 3) as u8).collect();
                let identity = identity(ObjectKind::WalSegment);
                let object = encode(&sealing, &identity, codec, &content).unwrap();
                assert!(decode(&sealing, &identity, &object.bytes).unwrap() == content);
            }
        }
    }
}
