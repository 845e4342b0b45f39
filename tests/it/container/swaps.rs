//! An object opens only as what it was sealed for.

use walrs::container::{Codec, KeyId, ObjectIdentity, ObjectKind, RepositoryId, Sealing, decode};
use walrs::error::ErrorKind;
use walrs::postgres::SystemIdentifier;

use super::records::Parts;
use super::{Sample, encrypted, key, plain, repository};

fn ensure_refused(sealing: &Sealing, identity: &ObjectIdentity, bytes: &[u8], expected: &str) {
    let error = decode(sealing, identity, bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error:?}");
    assert!(error.to_string().contains(expected), "`{error}` does not say `{expected}`");
}

#[test]
fn an_object_moved_to_another_name_kind_or_cluster_is_refused() {
    for sealing in [plain(), encrypted()] {
        let sample = Sample::segment(sealing, Codec::default(), 1000);
        let renamed =
            ObjectIdentity { name: "wal/elsewhere".to_owned(), ..sample.identity.clone() };
        let other_kind = ObjectIdentity { kind: ObjectKind::Pack, ..sample.identity.clone() };
        let system_identifier = SystemIdentifier::new(1);
        let other_cluster = ObjectIdentity { system_identifier, ..sample.identity.clone() };
        ensure_refused(&sample.sealing, &other_kind, &sample.bytes, "another kind");
        ensure_refused(&sample.sealing, &other_cluster, &sample.bytes, "another cluster");
        ensure_refused(&sample.sealing, &renamed, &sample.bytes, "name");
    }
}

#[test]
fn an_object_of_another_repository_or_key_is_refused() {
    let sample = Sample::segment(encrypted(), Codec::default(), 1000);
    let other_id = RepositoryId::from_bytes([8; 16]);
    let key_id = KeyId::from_bytes([9; 16]);
    let other_repository = Sealing::encrypted(other_id, key_id, key(42));
    let other_key = Sealing::encrypted(repository(), key_id, key(43));
    let other_key_id = Sealing::encrypted(repository(), KeyId::from_bytes([1; 16]), key(42));
    ensure_refused(&other_repository, &sample.identity, &sample.bytes, "key commitment");
    ensure_refused(&other_key, &sample.identity, &sample.bytes, "key commitment");
    ensure_refused(&other_key_id, &sample.identity, &sample.bytes, "another key");
}

#[test]
fn a_reader_set_up_for_encryption_refuses_plain_objects_and_the_reverse() {
    let plain_object = Sample::segment(plain(), Codec::default(), 1000);
    let encrypted_object = Sample::segment(encrypted(), Codec::default(), 1000);
    let identity = &plain_object.identity;
    ensure_refused(&encrypted(), identity, &plain_object.bytes, "not encrypted");
    ensure_refused(&plain(), identity, &encrypted_object.bytes, "in a plain repository");
}

#[test]
fn a_record_of_another_attempt_to_write_the_same_object_is_refused() {
    let first = Sample::pack(encrypted(), Codec::default(), 50, 100);
    let second = Sample::pack(encrypted(), Codec::default(), 50, 100);
    let donor = Parts::of(&second.bytes);
    for index in 0..donor.records.len() {
        let mut parts = Parts::of(&first.bytes);
        parts.records[index].clone_from(&donor.records[index]);
        for error in first.refusals(&parts.join(), "a record is from another attempt") {
            assert_eq!(error.kind(), ErrorKind::Damaged);
        }
    }
}

#[test]
fn attempts_to_write_the_same_object_share_no_stored_byte_sequence() {
    let first = Sample::segment(encrypted(), Codec::default(), 1000);
    let second = Sample::segment(encrypted(), Codec::default(), 1000);
    let salt = |object: &Sample| object.bytes[48..80].to_vec();
    assert_ne!(salt(&first), salt(&second));
    let stored = |object: &Sample| Parts::of(&object.bytes).records[0][48..].to_vec();
    assert_ne!(stored(&first), stored(&second));
}

#[test]
fn an_encrypted_object_shows_neither_name_nor_digest_nor_content() {
    let sample = Sample::segment(encrypted(), Codec::None, 1000);
    let shows = |bytes: &[u8]| sample.bytes.windows(bytes.len()).any(|window| window == bytes);
    let digest = walrs::container::ContentDigest::of(&sample.content);
    assert!(!shows(sample.identity.name.as_bytes()));
    assert!(!shows(digest.to_string().as_bytes()) && !shows(digest.as_bytes()));
    assert!(!shows(&sample.content[..16]));
}
