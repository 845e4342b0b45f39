//! One flipped bit in any object that a restore reads is noticed: exit code 5, and nothing that starts.

use std::fs;

use super::{archiving, back_up};
use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::repository::{Place, Sealing, TestRepository};

const POSITIONS: usize = 200;

/// Positions that are the same in every run.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: usize) -> usize {
        // Knuth's MMIX generator; its upper bits are good enough.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// Flips one bit of an object while `check` runs.
fn with_flipped_bit(
    repository: &TestRepository,
    key: &str,
    seeded: &mut Seeded,
    check: impl Fn(String),
) {
    let path = repository.object(key);
    let intact = fs::read(&path).unwrap();
    let (position, bit) = (seeded.below(intact.len()), seeded.below(8));
    let mut flipped = intact.clone();
    flipped[position] ^= 1 << bit;
    fs::write(&path, &flipped).unwrap();
    check(format!("bit {bit} of byte {position} of {key}"));
    fs::write(&path, &intact).unwrap();
}

fn assert_damage_is_noticed(
    source: &Cluster,
    repository: &TestRepository,
    kind: &str,
    positions: usize,
) {
    let keys: Vec<_> = repository.keys().into_iter().filter(|key| key.contains(kind)).collect();
    assert!(!keys.is_empty(), "no {kind}");
    let copy = source.sibling(&format!("copy-{}", kind.replace('/', "")));
    let mut seeded = Seeded(7);
    for round in 0..positions {
        with_flipped_bit(repository, &keys[round % keys.len()], &mut seeded, |what| {
            let fetched = source.walrs(&["backup-fetch", copy.data_argument()]);
            assert_eq!(fetched.status, 5, "{what}\n{fetched}");
            assert!(!copy.data().join("global/pg_control").exists(), "{what}");
        });
    }
    source.walrs(&["backup-fetch", copy.data_argument()]).expect_success();
}

/// R1
fn every_flipped_bit_is_noticed(sealing: Sealing) {
    let repository = TestRepository::new(Place::Directory, sealing);
    let source = archiving(Major::V15, &repository);
    back_up(&source);
    // A damaged mark keeps nobody from restoring: it counts as permanent (tests/it/catalog.rs).
    let mut kinds = vec!["repository.json", "epochs/", "/manifest", "/files/", "/packs/"];
    if sealing == Sealing::Encrypted {
        kinds.push("keys/");
    }
    for kind in kinds {
        assert_damage_is_noticed(&source, &repository, kind, POSITIONS);
    }
}

#[test]
fn every_flipped_bit_of_a_plain_backup_is_noticed() {
    every_flipped_bit_is_noticed(Sealing::Plain);
}

#[test]
fn every_flipped_bit_of_an_encrypted_backup_is_noticed() {
    every_flipped_bit_is_noticed(Sealing::Encrypted);
}

/// R1
#[test]
fn missing_and_cut_objects_are_damage() {
    let repository = TestRepository::plain_directory();
    let source = archiving(Major::V15, &repository);
    back_up(&source);
    let copy = source.sibling("copy");
    for kind in ["/manifest", "/files/", "/packs/"] {
        let path = repository.object(&repository.keys_with(kind)[0]);
        let intact = fs::read(&path).unwrap();
        let arguments = ["backup-fetch", copy.data_argument()];
        for length in [0, 1, intact.len() / 2, intact.len() - 1] {
            fs::write(&path, &intact[..length]).unwrap();
            let cut = source.walrs(&arguments);
            assert_eq!(cut.status, 5, "{kind} cut to {length}\n{cut}");
        }
        fs::remove_file(&path).unwrap();
        let missing = if kind == "/manifest" { 1 } else { 5 };
        assert_eq!(source.walrs(&arguments).status, missing, "{kind}");
        fs::write(&path, &intact).unwrap();
    }
    source.walrs(&["backup-fetch", copy.data_argument()]).expect_success();
}
