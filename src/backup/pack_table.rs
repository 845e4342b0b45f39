//! The packs that a backup references: its own and those of earlier backups, each with how much of it is used.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::repository::{Extent, ExtentSource, PackReference};

/// The pack table of the manifest, while it grows.
#[derive(Debug, Default)]
pub(super) struct PackTable {
    rows: Vec<PackReference>,
    /// Packs of earlier backups.
    known: Arc<[PackReference]>,
    /// Rows of known packs, by their index among these.
    taken: BTreeMap<u32, u32>,
}

impl PackTable {
    /// An empty table that may come to name the `known` packs.
    pub(super) fn new(known: Arc<[PackReference]>) -> Self {
        Self { known, ..Self::default() }
    }

    /// A row for a pack of this backup's own; its facts follow with [`PackTable::complete`].
    pub(super) fn add_own(&mut self, pack: PackReference) -> u32 {
        self.rows.push(pack);
        self.rows.len() as u32 - 1
    }

    /// The facts of an own pack that is sealed.
    pub(super) fn complete(&mut self, row: u32, pack: PackReference) {
        self.rows[row as usize] = pack;
    }

    /// The row of a known pack, of which `length` more bytes are used.
    pub(super) fn take(&mut self, known: u32, length: u64) -> Result<u32> {
        let row = match self.taken.get(&known) {
            Some(row) => *row,
            None => self.add_known(known)?,
        };
        self.rows[row as usize].used += length;
        Ok(row)
    }

    fn add_known(&mut self, known: u32) -> Result<u32> {
        let pack = self.known.get(known as usize).ok_or_else(|| {
            Error::damaged(format!(
                "an earlier file list names pack {known}, its manifest does not"
            ))
        })?;
        let row = self.add_own(PackReference { used: 0, ..pack.clone() });
        self.taken.insert(known, row);
        Ok(row)
    }

    /// Extents that name known packs, as this table numbers them.
    pub(super) fn take_extents(&mut self, extents: &[Extent]) -> Result<Vec<Extent>> {
        let take = |extent: &Extent| {
            let source = match extent.source {
                ExtentSource::Zeros => ExtentSource::Zeros,
                ExtentSource::Pack { pack, chunk, offset } => {
                    let pack = self.take(pack, extent.length)?;
                    ExtentSource::Pack { pack, chunk, offset }
                }
            };
            Ok(Extent { source, ..*extent })
        };
        extents.iter().map(take).collect()
    }

    /// All rows, once every own pack is sealed.
    pub(super) fn take_rows(&mut self) -> Vec<PackReference> {
        std::mem::take(&mut self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::BackupId;

    fn pack(number: u32) -> PackReference {
        let backup: BackupId = "20261120T101500Z-k3v7qa".parse().unwrap();
        PackReference { backup, number, size: 10, index: 5, raw: 1000, used: 77 }
    }

    #[test]
    fn known_packs_get_a_row_when_they_are_used_and_only_then() {
        let mut table = PackTable::new([pack(1), pack(2), pack(3)].into());
        let own = table.add_own(PackReference { used: 0, ..pack(9) });
        let source = |pack| ExtentSource::Pack { pack, chunk: 4, offset: 8192 };
        let extent = |offset, length, source| Extent { offset, length, source };
        let taken = table.take_extents(&[
            extent(0, 8192, source(2)),
            extent(8192, 8192, ExtentSource::Zeros),
            extent(16_384, 100, source(2)),
        ]);
        let sources: Vec<_> = taken.unwrap().iter().map(|extent| extent.source).collect();
        assert_eq!(sources, [source(1), ExtentSource::Zeros, source(1)]);
        table.complete(own, pack(9));
        let rows: Vec<_> = table.take_rows().iter().map(|row| (row.number, row.used)).collect();
        assert_eq!(rows, [(9, 77), (3, 8292)]);
    }

    #[test]
    fn an_extent_outside_the_parents_table_is_damage() {
        let mut table = PackTable::new([pack(1)].into());
        assert!(table.take(1, 1).is_err());
    }
}
