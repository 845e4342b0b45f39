//! Objects whose checksums are right and whose statements are lies: no length is believed.

use walrs::container::{CHUNK_SIZE, Codec};
use walrs::error::ErrorKind;

use super::records::Parts;
use super::{Sample, plain};

/// Refused by both decoders after `lie` was told with valid tags.
fn ensure_refused(sample: &Sample, why: &str, lie: impl FnOnce(&mut Parts)) {
    let mut parts = Parts::of(&sample.bytes);
    lie(&mut parts);
    (0..parts.records.len()).for_each(|index| parts.retag(index));
    for error in sample.refusals(&parts.join(), why) {
        assert_eq!(error.kind(), ErrorKind::Damaged, "{why}: {error:?}");
    }
}

fn set<const N: usize>(record: &mut [u8], offset: usize, value: [u8; N]) {
    record[offset..offset + N].copy_from_slice(&value);
}

#[test]
fn retagging_alone_changes_nothing() {
    let sample = Sample::pack(plain(), Codec::default(), 50, 100);
    let mut parts = Parts::of(&sample.bytes);
    (0..parts.records.len()).for_each(|index| parts.retag(index));
    assert!(parts.join() == sample.bytes);
}

#[test]
fn impossible_raw_lengths_are_refused() {
    for codec in super::CODECS {
        let sample = Sample::segment(plain(), codec, 300);
        for length in [0, 1, 299, 301, CHUNK_SIZE as u32, CHUNK_SIZE as u32 + 1, u32::MAX] {
            let why = format!("a chunk of 300 bytes states {length}");
            ensure_refused(&sample, &why, |parts| {
                set(&mut parts.records[0], 12, length.to_le_bytes());
            });
        }
    }
}

#[test]
fn impossible_stored_lengths_are_refused() {
    let sample = Sample::segment(plain(), Codec::None, 300);
    for length in [0, 1, 65_837, u32::MAX] {
        let why = format!("a chunk states {length} stored bytes");
        ensure_refused(&sample, &why, |parts| set(&mut parts.records[0], 24, length.to_le_bytes()));
    }
}

#[test]
fn set_reserved_bytes_and_unknown_flags_and_types_are_refused() {
    let sample = Sample::pack(plain(), Codec::default(), 50, 100);
    for (record, offset) in [(0, 10), (0, 11), (0, 28), (4, 10), (4, 31), (5, 9), (5, 11)] {
        let why = format!("byte {offset} of record {record} is set");
        ensure_refused(&sample, &why, |parts| parts.records[record][offset] = 0x40);
    }
    ensure_refused(&sample, "an unknown flag", |parts| parts.records[3][9] = 3);
    for record_type in [0, 1, 5, b'W'] {
        let why = format!("record type {record_type}");
        ensure_refused(&sample, &why, |parts| parts.records[0][8] = record_type);
    }
}

#[test]
fn a_frame_that_unpacks_to_more_than_stated_is_refused() {
    let bomb = walrs_bomb();
    let sample = Sample::segment(plain(), Codec::default(), 300);
    ensure_refused(&sample, "a frame of a gigabyte", |parts| {
        let record = &mut parts.records[0];
        record.truncate(48);
        record.extend_from_slice(&bomb);
        set(record, 24, (bomb.len() as u32).to_le_bytes());
    });
}

/// A zstd frame that states 300 bytes and unpacks to 1 GiB, in RLE blocks of 128 KiB.
fn walrs_bomb() -> Vec<u8> {
    let mut frame = 0xFD2F_B528_u32.to_le_bytes().to_vec();
    frame.push(0b1010_0000);
    frame.extend_from_slice(&300_u32.to_le_bytes());
    for index in 0..8192_u32 {
        let header = u32::from(index == 8191) | 1 << 1 | (128 << 10) << 3;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(b'x');
    }
    frame
}

#[test]
fn false_statements_of_the_end_record_are_refused() {
    let sample = Sample::pack(plain(), Codec::default(), 50, 100);
    for offset in [28, 36, 44, 75, 76, 84] {
        let why = format!("the end record is wrong at {offset}");
        ensure_refused(&sample, &why, |parts| parts.records.last_mut().unwrap()[offset] ^= 1);
    }
}

#[test]
fn false_statements_of_the_head_are_refused() {
    let sample = Sample::segment(plain(), Codec::default(), 300);
    let (name, digest) = (&sample.identity.name, blake3::hash(&sample.content).to_hex());
    let other = blake3::hash(b"other").to_hex();
    let heads = [
        String::new(),
        "{}".to_owned(),
        r#"{"name":"other"}"#.to_owned(),
        format!(r#"{{"name":"{name}","raw_length":300}}"#),
        format!(r#"{{"name":"{name}","digest":"{digest}"}}"#),
        format!(r#"{{"name":"{name}","raw_length":301,"digest":"{digest}"}}"#),
        format!(r#"{{"name":"{name}","raw_length":300,"digest":"{other}"}}"#),
        format!(r#"{{"name":"{name}","body_length":1}}"#),
        format!(r#"{{"name":"{name}","body_length":-1}}"#),
    ];
    for head in heads {
        ensure_refused(&sample, &head, |parts| parts.replace_head(&head));
    }
}

#[test]
fn unknown_members_of_the_head_are_ignored() {
    let sample = Sample::segment(plain(), Codec::default(), 300);
    let mut parts = Parts::of(&sample.bytes);
    parts.replace_head(&format!(r#"{{"name":"{}","later":[1]}}"#, sample.identity.name));
    assert_eq!(sample.decode(&parts.join()).unwrap(), sample.content);
}

#[test]
fn preludes_of_impossible_length_are_refused() {
    let sample = Sample::segment(plain(), Codec::default(), 300);
    for length in [0, 1, 123, 124, 4089, u32::MAX] {
        let why = format!("a prelude of {length} bytes");
        ensure_refused(&sample, &why, |parts| set(&mut parts.prelude, 4, length.to_le_bytes()));
    }
}

#[test]
fn an_index_in_anything_but_a_pack_is_refused() {
    let pack = Sample::pack(plain(), Codec::default(), 50, 100);
    let kind = walrs::container::ObjectKind::Manifest;
    let identity = walrs::container::ObjectIdentity { kind, ..pack.identity.clone() };
    let sample = Sample { identity, ..pack };
    ensure_refused(&sample, "a manifest with an index", |parts| {
        parts.prelude[19] = kind.id();
        let head = format!(r#"{{"name":"{}"}}"#, sample.identity.name);
        parts.replace_head(&head);
    });
}
