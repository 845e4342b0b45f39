//! Which files need no reading because they are what the parent read (`docs/format.md`, section 6).
//!
//! The rule leans on one fact: the start checkpoint of the parent waited for every write that was in progress. A write
//! that was stamped well before that checkpoint has landed before the parent read the file; one stamped later shows in
//! the change time. A moment of reading has no such force: the system stamps a write first and copies the data later.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::host;
use super::listing::FileStatus;
use crate::repository::{FileEntry, Manifest};

/// How much older than the parent's start a change time must be: file systems stamp by coarse clocks.
const MARGIN: SignedDuration = SignedDuration::from_secs(2);

/// One in at least so many of the files that could be skipped is read all the same.
const SAMPLES: u32 = 100;

/// Bytes that a sample reads about at most: a few minutes on a slow disk.
const SAMPLE_BYTES: u64 = 32 << 30;

/// Times of change are told truly, to the second or better, by these file systems.
///
/// Source: `linux/magic.h`; for zfs `ZFS_SUPER_MAGIC` of `OpenZFS`.
const TRUSTED_FILE_SYSTEMS: [i64; 4] = [0xEF53, 0x5846_5342, 0x9123_683E, 0x2FC1_2FC1];

/// What is done with a file of which the parent has an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Taken over without reading it.
    Same,
    /// Read, and then compared with what the parent said.
    Sample,
    /// Read like any other.
    Read,
}

/// The rule for the files of one parent.
#[derive(Debug)]
pub(super) struct SkipRule {
    /// Change times before this have landed, in seconds and nanoseconds.
    settled_before: (i64, i64),
    now: (i64, i64),
    /// Which part of the files is the sample this time, of how many.
    sample: u32,
    samples: u32,
    file_systems: BTreeMap<u64, bool>,
}

impl SkipRule {
    /// The rule for files of `parent`; none when its identities of files mean nothing here and now.
    pub(super) fn of(parent: &Manifest) -> Option<Self> {
        let same = |recorded: &str, here: String| !here.is_empty() && recorded == here;
        let here = same(&parent.machine_id, host::machine_id());
        if !here || !same(&parent.boot_id, host::boot_id()) || parent.from_standby {
            return None;
        }
        let (seconds, nanoseconds) = parent.start_requested;
        let requested = Timestamp::new(seconds, i32::try_from(nanoseconds).ok()?).ok()?;
        let settled_before = parts(requested.checked_sub(MARGIN).ok()?);
        let now = parts(Timestamp::now());
        let file_systems = BTreeMap::new();
        let (sample, samples) = (next_sample(parent), samples_of(parent));
        Some(Self { settled_before, now, sample, samples, file_systems })
    }

    /// What is done with the file at `local`, whose status was just read.
    pub(super) fn judge(&mut self, local: &Path, now: &FileStatus, then: &FileEntry) -> Verdict {
        let is_same =
            now.is_of(then) && self.has_settled(now) && self.trusts_file_system(local, now);
        if !is_same {
            return Verdict::Read;
        }
        let its_sample = sample_hash(then) % self.samples;
        if its_sample == self.sample { Verdict::Sample } else { Verdict::Same }
    }

    /// A time of change in the future was stamped by a clock that has been set back since.
    fn has_settled(&self, status: &FileStatus) -> bool {
        let changed = (status.identity.2, status.identity.3);
        changed <= self.settled_before && changed <= self.now
    }

    fn trusts_file_system(&mut self, local: &Path, status: &FileStatus) -> bool {
        let device = status.identity.0;
        if let Some(known) = self.file_systems.get(&device) {
            return *known;
        }
        // A file that has just vanished costs nothing but this answer.
        let Ok(found) = rustix::fs::statfs(local) else { return false };
        #[expect(clippy::unnecessary_cast, reason = "the type differs between platforms")]
        let is_trusted = TRUSTED_FILE_SYSTEMS.contains(&(found.f_type as i64));
        self.file_systems.insert(device, is_trusted);
        is_trusted
    }
}

fn parts(time: Timestamp) -> (i64, i64) {
    (time.as_second(), i64::from(time.subsec_nanosecond()))
}

/// The sample of a child of `parent`: they take turns, so that every file has its turn.
pub(super) fn next_sample(parent: &Manifest) -> u32 {
    (parent.sample + 1) % samples_of(parent)
}

/// In how many samples the files are divided: more in a large cluster.
fn samples_of(parent: &Manifest) -> u32 {
    u32::try_from(parent.bytes / SAMPLE_BYTES).unwrap_or(u32::MAX).max(SAMPLES)
}

/// Decides in which sample a file is: by its path.
fn sample_hash(file: &FileEntry) -> u32 {
    let hash = blake3::hash(file.path.as_bytes());
    let (number, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
    u32::from_le_bytes(*number)
}

#[cfg(test)]
#[path = "unchanged_tests.rs"]
mod tests;
