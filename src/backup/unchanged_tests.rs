use std::fs;

use super::*;
use crate::container::ContentDigest;
use crate::repository::{FileIdentity, ListedPath};

/// A file in a temporary directory, and a rule that finds it settled.
struct Fixture {
    directory: tempfile::TempDir,
    status: FileStatus,
    entry: FileEntry,
    rule: SkipRule,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "content").unwrap();
    let status = FileStatus::from(&rustix::fs::stat(&path).unwrap());
    let entry = FileEntry {
        path: ListedPath::new("base/1/2").unwrap(),
        mode: status.mode,
        size: status.size,
        mtime: status.mtime,
        identity: status.identity,
        digest: ContentDigest::of(b"x"),
        extents: Vec::new(),
        bad_pages: Vec::new(),
    };
    let future = (status.identity.2 + 100, 0);
    let rule = SkipRule {
        settled_before: future,
        now: future,
        sample: SAMPLES,
        samples: SAMPLES,
        // The file system of the test may be any.
        file_systems: BTreeMap::from([(status.identity.0, true)]),
    };
    Fixture { directory, status, entry, rule }
}

impl Fixture {
    fn judge(&mut self) -> Verdict {
        self.rule.judge(&self.directory.path().join("file"), &self.status, &self.entry)
    }
}

#[test]
fn a_file_is_taken_over_when_everything_is_equal_and_settled() {
    assert_eq!(fixture().judge(), Verdict::Same);
}

#[test]
fn any_difference_of_identity_means_reading() {
    let FileIdentity(device, inode, seconds, nanoseconds) = fixture().entry.identity;
    for identity in [
        FileIdentity(device + 1, inode, seconds, nanoseconds),
        FileIdentity(device, inode + 1, seconds, nanoseconds),
        FileIdentity(device, inode, seconds - 1, nanoseconds),
        FileIdentity(device, inode, seconds, nanoseconds - 1),
    ] {
        let mut fixture = fixture();
        fixture.entry.identity = identity;
        assert_eq!(fixture.judge(), Verdict::Read, "{identity:?}");
    }
    let mut fixture = fixture();
    fixture.entry.size += 1;
    assert_eq!(fixture.judge(), Verdict::Read);
    fixture.entry.size -= 1;
    fixture.entry.mtime.1 += 1;
    assert_eq!(fixture.judge(), Verdict::Read);
}

#[test]
fn a_file_that_changed_around_the_parents_start_is_read() {
    let mut fixture = fixture();
    let changed = (fixture.status.identity.2, fixture.status.identity.3);
    fixture.rule.settled_before = changed;
    assert_eq!(fixture.judge(), Verdict::Same);
    fixture.rule.settled_before = (changed.0, changed.1 - 1);
    assert_eq!(fixture.judge(), Verdict::Read);
}

#[test]
fn a_file_that_changed_in_the_future_is_read() {
    let mut fixture = fixture();
    fixture.rule.now = (fixture.status.identity.2 - 1, 0);
    assert_eq!(fixture.judge(), Verdict::Read);
}

#[test]
fn files_of_unknown_file_systems_are_read() {
    let mut fixture = fixture();
    fixture.rule.file_systems = BTreeMap::from([(fixture.status.identity.0, false)]);
    assert_eq!(fixture.judge(), Verdict::Read);
}

#[test]
fn every_file_has_its_turn_in_the_sample_and_no_other() {
    let mut fixture = fixture();
    let mut turns = 0;
    for sample in 0..SAMPLES {
        fixture.rule.sample = sample;
        turns += u32::from(fixture.judge() == Verdict::Sample);
    }
    assert_eq!(turns, 1);
}

#[test]
fn samples_take_turns_and_become_smaller_parts_of_larger_clusters() {
    let parent =
        |sample, bytes| Manifest { bytes, sample, ..crate::repository::example_manifest() };
    assert_eq!(next_sample(&parent(7, 1 << 30)), 8);
    assert_eq!(next_sample(&parent(SAMPLES - 1, 1 << 30)), 0);
    assert_eq!(next_sample(&parent(SAMPLES - 1, 10 << 40)), SAMPLES);
    assert_eq!(samples_of(&parent(0, 10 << 40)), 320);
}

#[test]
fn a_parent_of_another_machine_or_run_or_of_a_standby_gives_no_rule() {
    let parent = |machine: String, boot: String, standby| Manifest {
        machine_id: machine,
        boot_id: boot,
        from_standby: standby,
        ..crate::repository::example_manifest()
    };
    let (machine, boot) = (host::machine_id(), host::boot_id());
    if machine.is_empty() || boot.is_empty() {
        eprintln!("SKIPPED: this host tells no identity");
        return;
    }
    let rule = |manifest: Manifest| SkipRule::of(&manifest).is_some();
    assert!(rule(parent(machine.clone(), boot.clone(), false)));
    assert!(!rule(parent("other".to_owned(), boot.clone(), false)));
    assert!(!rule(parent(machine.clone(), "other".to_owned(), false)));
    assert!(!rule(parent(String::new(), boot.clone(), false)));
    assert!(!rule(parent(machine, boot, true)));
}
