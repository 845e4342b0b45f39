//! `wal-fetch` of damaged objects: one flipped bit anywhere, cut, grown, swapped.

use std::fs;
use std::ops::Range;

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::wal::{history, segment};

const UNKNOWN: i32 = 255;
const FLIPS: usize = 200;
const END_RECORD: usize = 92;

/// A stopped cluster of small segments, with files of every kind in a repository.
fn archived(sealing: Sealing) -> (TestRepository, Cluster) {
    let repository = TestRepository::new(Place::Directory, sealing);
    let cluster = Cluster::builder(Major::V15).segment_megabytes(1).using(&repository).create();
    repository.init(cluster.data()).expect_success();
    for name in names() {
        match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("history") => {
                cluster.write_wal(&name, "1\t0/300000\tno recovery target specified\n")
            }
            Some("backup") => cluster.write_wal(&name, "START WAL LOCATION: 0/300028\n"),
            _ => cluster.write_wal(&name, cluster.forged_segment(&segment(1, 3), 0)),
        };
        cluster.push(&name).expect_success();
    }
    (repository, cluster)
}

fn names() -> [String; 4] {
    let whole = segment(1, 3);
    [whole.clone(), format!("{whole}.partial"), format!("{whole}.00000028.backup"), history(2)]
}

/// The object of a file.
fn key_of(repository: &TestRepository, name: &str) -> String {
    let keys = repository.keys_with(name);
    let found = keys.into_iter().find(|key| key.ends_with(name) || key.contains(".partial/"));
    found.expect("it was archived")
}

/// Prelude, chunks and end record, as `docs/format.md` lays them out.
fn records(stored: &[u8]) -> [Range<usize>; 3] {
    let prelude = 8 + u32::from_le_bytes(stored[4..8].try_into().unwrap()) as usize;
    let end = stored.len() - END_RECORD;
    [0..prelude, prelude..end, end..stored.len()]
}

/// Positions in `range`, the same in every run; all of it when it is short.
fn positions(range: Range<usize>) -> Vec<usize> {
    if range.len() <= FLIPS {
        return range.collect();
    }
    let mut random = blake3::Hasher::new().update(b"seed").finalize_xof();
    let mut next = || {
        let mut bytes = [0; 8];
        random.fill(&mut bytes);
        range.start + (u64::from_le_bytes(bytes) % range.len() as u64) as usize
    };
    (0..FLIPS).map(|_| next()).collect()
}

#[track_caller]
fn not_delivered(cluster: &Cluster, name: &str, what: &str) {
    let fetched = cluster.fetch(name);
    assert_eq!(fetched.status, UNKNOWN, "{what}: {fetched}");
    cluster.assert_nothing_fetched();
}

fn no_flipped_bit_is_delivered(sealing: Sealing, name: &str) {
    let (repository, cluster) = archived(sealing);
    let object = repository.object(&key_of(&repository, name));
    let stored = fs::read(&object).unwrap();
    for position in records(&stored).into_iter().flat_map(positions) {
        let mut damaged = stored.clone();
        damaged[position] ^= 1 << (position % 8);
        fs::write(&object, damaged).unwrap();
        not_delivered(&cluster, name, &format!("bit of byte {position}"));
    }
    fs::write(&object, stored).unwrap();
    cluster.fetch(name).expect_status(0);
}

macro_rules! flips {
    ($($test:ident: $sealing:ident, $index:literal;)*) => {
        $(
            /// F1
            #[test]
            fn $test() {
                no_flipped_bit_is_delivered(Sealing::$sealing, &names()[$index]);
            }
        )*
    };
}

flips! {
    a_flipped_bit_of_a_plain_segment_is_never_delivered: Plain, 0;
    a_flipped_bit_of_a_plain_partial_is_never_delivered: Plain, 1;
    a_flipped_bit_of_a_plain_label_is_never_delivered: Plain, 2;
    a_flipped_bit_of_a_plain_history_is_never_delivered: Plain, 3;
    a_flipped_bit_of_an_encrypted_segment_is_never_delivered: Encrypted, 0;
    a_flipped_bit_of_an_encrypted_partial_is_never_delivered: Encrypted, 1;
    a_flipped_bit_of_an_encrypted_label_is_never_delivered: Encrypted, 2;
    a_flipped_bit_of_an_encrypted_history_is_never_delivered: Encrypted, 3;
}

/// F1
#[test]
fn an_object_that_is_cut_or_grew_is_never_delivered() {
    for sealing in [Sealing::Plain, Sealing::Encrypted] {
        let (repository, cluster) = archived(sealing);
        for name in names() {
            let object = repository.object(&key_of(&repository, &name));
            let stored = fs::read(&object).unwrap();
            for length in [0, 1, 100, stored.len() / 2, stored.len() - END_RECORD, stored.len() - 1]
            {
                fs::write(&object, &stored[..length]).unwrap();
                not_delivered(&cluster, &name, &format!("{length} bytes of it"));
            }
            fs::write(&object, [&stored[..], b"more"].concat()).unwrap();
            not_delivered(&cluster, &name, "four bytes more");
            fs::write(&object, [&stored[..], &stored[..]].concat()).unwrap();
            not_delivered(&cluster, &name, "twice");
        }
    }
}

/// F1
#[test]
fn a_whole_object_under_another_name_is_never_delivered() {
    for sealing in [Sealing::Plain, Sealing::Encrypted] {
        let (repository, cluster) = archived(sealing);
        cluster.write_wal(&segment(1, 4), cluster.forged_segment(&segment(1, 4), 0));
        cluster.push(&segment(1, 4)).expect_success();
        let other = fs::read(repository.object(&cluster.segment_key(&segment(1, 4)))).unwrap();
        for name in names() {
            fs::write(repository.object(&key_of(&repository, &name)), &other).unwrap();
            not_delivered(&cluster, &name, "the object of another segment");
        }
    }
}

/// F1
#[test]
fn a_failed_fetch_leaves_what_lies_at_the_destination() {
    let (repository, cluster) = archived(Sealing::Plain);
    let name = segment(1, 3);
    let object = repository.object(&key_of(&repository, &name));
    let stored = fs::read(&object).unwrap();
    fs::write(&object, &stored[..stored.len() - 1]).unwrap();
    cluster.write_wal("RECOVERYXLOG", b"what was there");
    cluster.fetch(&name).expect_status(UNKNOWN);
    assert_eq!(cluster.fetched(), b"what was there");
}
