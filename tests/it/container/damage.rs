//! One flipped bit anywhere is an error, and never a panic.

use proptest::prelude::*;
use walrs::container::{Codec, ObjectReader, prelude_length};
use walrs::error::{Error, ErrorKind};

use super::records::positions;
use super::{Sample, encrypted, plain};

#[test]
fn a_flipped_bit_at_any_position_of_a_small_object_is_damage() {
    for sample in Sample::small() {
        for position in 0..sample.bytes.len() {
            ensure_flip_is_found(&sample, position, position % 8);
        }
    }
}

#[test]
fn a_flipped_bit_in_any_record_of_a_large_object_is_damage() {
    let samples = [
        Sample::segment(plain(), Codec::default(), 3 << 20),
        Sample::segment(plain(), Codec::Lz4, 2 << 20),
        Sample::segment(plain(), Codec::None, 2 << 20),
        Sample::segment(encrypted(), Codec::default(), 1_100_000),
        Sample::pack(plain(), Codec::default(), 300_000, 1_500_000),
        Sample::pack(encrypted(), Codec::default(), 100_000, 1_100_000),
    ];
    for sample in samples {
        let mut random = Random(20_261_120);
        let records = positions(&sample.bytes);
        for record in (0..200).map(|turn| &records[turn % records.len()]) {
            // Half of the flips in the first bytes, where the headers are.
            let span = if random.below(2) == 0 { record.len() } else { record.len().min(140) };
            ensure_flip_is_found(&sample, record.start + random.below(span), random.below(8));
        }
    }
}

#[test]
fn a_flipped_bit_in_a_single_chunk_is_damage() {
    for sealing in [plain(), encrypted()] {
        let sample = Sample::pack(sealing, Codec::Lz4, 300, 100);
        let reader = ObjectReader::open(&sample.sealing, &sample.identity, &sample.bytes).unwrap();
        let record = positions(&sample.bytes)[2].clone();
        assert!(reader.open_chunk(1, &sample.bytes[record.clone()]).is_ok());
        for position in 0..record.len() {
            let mut chunk = sample.bytes[record.clone()].to_vec();
            chunk[position] ^= 1 << (position % 8);
            ensure_damaged(&reader.open_chunk(1, &chunk).unwrap_err(), position);
        }
    }
}

#[test]
fn a_flipped_bit_in_the_index_is_damage() {
    for sealing in [plain(), encrypted()] {
        let sample = Sample::pack(sealing, Codec::Lz4, 300, 1000);
        let reader = ObjectReader::open(&sample.sealing, &sample.identity, &sample.bytes).unwrap();
        let index = positions(&sample.bytes)[5].start;
        assert!(reader.read_index(index as u64, &sample.bytes[index..]).is_ok());
        for position in 0..sample.bytes.len() - index {
            let mut tail = sample.bytes[index..].to_vec();
            tail[position] ^= 1 << (position % 8);
            let error = reader.read_index(index as u64, &tail).unwrap_err();
            ensure_damaged(&error, position);
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_behind_a_valid_prelude_are_damage(
        records in prop::collection::vec(any::<u8>(), 0..300),
        kept in 0..500_usize,
    ) {
        let sample = Sample::pack(plain(), Codec::None, 50, 100);
        let prelude = prelude_length(&sample.bytes).unwrap();
        let kept = (prelude + kept).min(sample.bytes.len() - 1);
        let object = [&sample.bytes[..kept], &records].concat();
        prop_assume!(object != sample.bytes);
        for error in sample.refusals(&object, "arbitrary bytes") {
            prop_assert_eq!(error.kind(), ErrorKind::Damaged);
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_object(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        let sample = Sample::segment(plain(), Codec::None, 0);
        for error in sample.refusals(&bytes, "arbitrary bytes") {
            prop_assert_eq!(error.kind(), ErrorKind::Damaged);
        }
        prop_assert!(prelude_length(&bytes).is_err());
    }
}

fn ensure_flip_is_found(sample: &Sample, position: usize, bit: usize) {
    let mut flipped = sample.bytes.clone();
    flipped[position] ^= 1 << bit;
    for error in sample.refusals(&flipped, &format!("bit {bit} of byte {position} was flipped")) {
        ensure_damaged(&error, position);
    }
}

fn ensure_damaged(error: &Error, position: usize) {
    assert_eq!(error.kind(), ErrorKind::Damaged, "byte {position}: {error:?}");
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % limit
    }
}
