//! Takes objects apart and puts them together again, knowing only `docs/format.md`.

use std::ops::Range;

/// The positions of all records of an object, the prelude first.
pub(super) fn positions(object: &[u8]) -> Vec<Range<usize>> {
    let mut positions = Vec::new();
    let mut start = 0;
    while start < object.len() {
        let number = |offset: usize| {
            let bytes = object[start + offset..start + offset + 4].try_into().unwrap();
            u32::from_le_bytes(bytes) as usize
        };
        assert_eq!(number(0), 0x184D_2A57, "a record begins at {start}");
        let follows = if object[start + 8] == 2 { number(24) } else { 0 };
        let end = start + 8 + number(4) + follows;
        positions.push(start..end);
        start = end;
    }
    positions
}

/// An object taken apart.
pub(super) struct Parts {
    pub(super) prelude: Vec<u8>,
    pub(super) records: Vec<Vec<u8>>,
}

impl Parts {
    pub(super) fn of(object: &[u8]) -> Self {
        let mut records: Vec<_> =
            positions(object).into_iter().map(|record| object[record].to_vec()).collect();
        Self { prelude: records.remove(0), records }
    }

    pub(super) fn join(&self) -> Vec<u8> {
        let mut object = self.prelude.clone();
        object.extend(self.records.concat());
        object
    }

    /// Makes the tag of record `index` right again after a change, as only a plain object allows.
    pub(super) fn retag(&mut self, index: usize) {
        let prelude_digest = blake3::hash(&self.prelude);
        let record = &mut self.records[index];
        let covered = if record[8] == 4 { 12 } else { 32 };
        let mut hasher = blake3::Hasher::new();
        hasher.update(prelude_digest.as_bytes()).update(&record[..covered]);
        hasher.update(&record[covered + 16..]);
        record[covered..covered + 16].copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    }

    /// Replaces the head of a plain object and makes all tags right again.
    pub(super) fn replace_head(&mut self, head: &str) {
        self.prelude.truncate(132);
        self.prelude.extend_from_slice(head.as_bytes());
        let payload_length = self.prelude.len() as u32 - 8;
        self.prelude[4..8].copy_from_slice(&payload_length.to_le_bytes());
        self.prelude[112..114].copy_from_slice(&(head.len() as u16).to_le_bytes());
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.prelude[..116]).update(head.as_bytes());
        self.prelude[116..132].copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        (0..self.records.len()).for_each(|index| self.retag(index));
    }
}
