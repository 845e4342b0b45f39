//! An object is exactly as long as it says: neither cut, nor continued, nor rearranged.

use walrs::container::Codec;
use walrs::error::ErrorKind;

use super::Sample;
use super::records::Parts;

fn ensure_refused(sample: &Sample, bytes: &[u8], why: &str) {
    for error in sample.refusals(bytes, why) {
        assert_eq!(error.kind(), ErrorKind::Damaged, "{why}: {error:?}");
    }
}

#[test]
fn an_object_cut_at_any_length_is_damaged() {
    for sample in Sample::small() {
        for length in 0..sample.bytes.len() {
            ensure_refused(&sample, &sample.bytes[..length], &format!("cut to {length} bytes"));
        }
    }
}

#[test]
fn an_object_with_anything_behind_its_end_is_damaged() {
    for sample in Sample::small() {
        let last_record = Parts::of(&sample.bytes).records.pop().unwrap();
        for more in [&[0][..], &[0x57, 0x2A, 0x4D, 0x18, 0, 0, 0, 0], &last_record, &sample.bytes] {
            let longer = [&sample.bytes, more].concat();
            ensure_refused(&sample, &longer, &format!("followed by {} bytes", more.len()));
        }
    }
}

#[test]
fn dropping_repeating_or_exchanging_any_records_is_damage() {
    for sealing in [super::plain(), super::encrypted()] {
        let sample = Sample::pack(sealing, Codec::default(), 50, 2_200_000);
        let parts = Parts::of(&sample.bytes);
        assert_eq!(parts.records.len(), 4 + 3 + 1, "chunks, index records and the end");
        for first in 0..parts.records.len() {
            let mut dropped = parts.records.clone();
            dropped.remove(first);
            let mut repeated = parts.records.clone();
            repeated.insert(first, parts.records[first].clone());
            let mut changes = vec![("dropped", dropped), ("repeated", repeated)];
            for second in first + 1..parts.records.len() {
                let mut exchanged = parts.records.clone();
                exchanged.swap(first, second);
                changes.push(("exchanged", exchanged));
            }
            for (change, records) in changes {
                let prelude = parts.prelude.clone();
                ensure_refused(&sample, &Parts { prelude, records }.join(), change);
            }
        }
    }
}

#[test]
fn a_renumbered_chunk_does_not_pass_for_its_neighbour() {
    for sealing in [super::plain(), super::encrypted()] {
        let sample = Sample::pack(sealing, Codec::default(), 50, 100);
        let mut parts = Parts::of(&sample.bytes);
        parts.records.swap(0, 1);
        for (index, record) in parts.records.iter_mut().take(2).enumerate() {
            record[16..24].copy_from_slice(&(index as u64).to_le_bytes());
        }
        ensure_refused(&sample, &parts.join(), "chunks exchanged and renumbered");
    }
}

#[test]
fn an_object_shortened_by_moving_its_last_flag_is_damaged() {
    for sealing in [super::plain(), super::encrypted()] {
        let sample = Sample::pack(sealing, Codec::default(), 50, 100);
        let mut parts = Parts::of(&sample.bytes);
        parts.records.remove(3);
        parts.records[2][9] = 1;
        ensure_refused(&sample, &parts.join(), "the third of four chunks marked as the last");
    }
}
