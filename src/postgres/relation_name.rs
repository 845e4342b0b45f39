//! Names of the files of relations: tables, indexes, sequences and their forks.

use std::collections::BTreeSet;

use super::page::BlockNumber;

/// The number in the names of a relation's files, unique in its database and tablespace.
///
/// Source: `RelFileNumber` in `common/relpath.h` (before 16, the `relNode` of `RelFileNode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationNumber(pub u32);

/// The kinds of file that a relation has.
///
/// Source: `ForkNumber`, `forkNames` in `common/relpath.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fork {
    /// The data.
    Main,
    /// `_fsm`: where there is room.
    FreeSpaceMap,
    /// `_vm`: which pages all can see.
    VisibilityMap,
    /// `_init`: what an unlogged relation becomes after a crash; it exists for unlogged relations only.
    Init,
}

/// A file of a permanent or unlogged relation: `<number>[_<fork>][.<segment>]`.
///
/// Source: `parse_filename_for_nontemp_relation` in `storage/file/reinit.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationFile {
    /// The relation.
    pub number: RelationNumber,
    /// Which of its forks.
    pub fork: Fork,
    /// Which part of the fork, from 0; each but the last has `relation_segment_blocks` pages.
    pub segment: u32,
}

impl RelationFile {
    /// The file named `name`, or `None` when no relation has such a file.
    pub fn parse(name: &[u8]) -> Option<Self> {
        let (stem, segment) = split_segment(name)?;
        let (number, fork) = split_fork(stem)?;
        Some(Self { number: RelationNumber(decimal(number)?), fork, segment })
    }

    /// The number of the file's first page, with `relation_segment_blocks` as in `pg_control`; `None` when no
    /// relation can be that long.
    pub fn first_block(self, relation_segment_blocks: u32) -> Option<BlockNumber> {
        self.segment.checked_mul(relation_segment_blocks).map(BlockNumber)
    }
}

/// Whether `name` is that of a temporary relation's file: `t<backend>_<number>[_<fork>][.<segment>]`.
///
/// Source: `looks_like_temp_rel_name` in `storage/file/fd.c`.
pub(super) fn is_temporary_relation(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(b"t") else { return false };
    let backend = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    backend > 0
        && rest.get(backend) == Some(&b'_')
        && RelationFile::parse(&rest[backend + 1..]).is_some()
}

/// Whether `name` is an object identifier, as directories of databases and links of tablespaces are named.
pub(super) fn object_identifier(name: &[u8]) -> Option<u32> {
    decimal(name)
}

/// The unlogged relations of one directory: those with an `_init` fork in it.
///
/// Only their `_init` forks are copied: recovery rebuilds the others from them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnloggedRelations(BTreeSet<RelationNumber>);

impl UnloggedRelations {
    /// Finds them among all the `names` in a directory.
    pub fn among<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let files = names.into_iter().filter_map(RelationFile::parse);
        Self(files.filter(|file| file.fork == Fork::Init).map(|file| file.number).collect())
    }

    /// Whether recovery resets `file`, so that its content does not matter.
    pub fn resets(&self, file: RelationFile) -> bool {
        file.fork != Fork::Init && self.0.contains(&file.number)
    }
}

fn split_segment(name: &[u8]) -> Option<(&[u8], u32)> {
    match name.iter().position(|byte| *byte == b'.') {
        None => Some((name, 0)),
        Some(dot) => Some((&name[..dot], decimal(&name[dot + 1..])?)),
    }
}

fn split_fork(stem: &[u8]) -> Option<(&[u8], Fork)> {
    let Some(underscore) = stem.iter().position(|byte| *byte == b'_') else {
        return Some((stem, Fork::Main));
    };
    let fork = match &stem[underscore + 1..] {
        b"fsm" => Fork::FreeSpaceMap,
        b"vm" => Fork::VisibilityMap,
        b"init" => Fork::Init,
        _ => return None,
    };
    Some((&stem[..underscore], fork))
}

/// A positive number without sign or leading zero, as PostgreSQL prints numbers into names.
fn decimal(digits: &[u8]) -> Option<u32> {
    if digits.first() == Some(&b'0') || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Option<(u32, Fork, u32)> {
        RelationFile::parse(name.as_bytes()).map(|file| (file.number.0, file.fork, file.segment))
    }

    #[test]
    fn names_of_relation_files_are_read_whole() {
        assert_eq!(parse("16384"), Some((16384, Fork::Main, 0)));
        assert_eq!(parse("16384.7"), Some((16384, Fork::Main, 7)));
        assert_eq!(parse("1259_fsm"), Some((1259, Fork::FreeSpaceMap, 0)));
        assert_eq!(parse("1259_vm.1"), Some((1259, Fork::VisibilityMap, 1)));
        assert_eq!(parse("4294967295_init"), Some((u32::MAX, Fork::Init, 0)));
    }

    #[test]
    fn names_that_only_resemble_relation_files_are_none() {
        for name in [
            "",
            "0",
            "016384",
            "16384.",
            "16384.0",
            "16384.01",
            "16384_",
            "16384_fsmx",
            "16384_FSM",
            "_fsm",
            "16384_vm_fsm",
            "16384.1_fsm",
            "16384.1.2",
            "+1",
            "4294967296",
            "16384 ",
            "PG_VERSION",
            "pg_filenode.map",
            "t3_16384",
        ] {
            assert_eq!(parse(name), None, "`{name}`");
        }
    }

    #[test]
    fn temporary_relations_are_told_by_their_whole_name() {
        for name in ["t3_16384", "t12_16384_fsm", "t3_16384.1", "t3_16384_vm.2"] {
            assert!(is_temporary_relation(name.as_bytes()), "`{name}`");
        }
        for name in
            ["t_16384", "t3_", "t3", "t3_x", "t3_16384x", "tt3_16384", "3_16384", "t3_16384_old"]
        {
            assert!(!is_temporary_relation(name.as_bytes()), "`{name}`");
        }
    }

    #[test]
    fn an_init_fork_makes_a_relation_unlogged_with_all_its_other_files() {
        let names = ["16384", "16384.1", "16384_fsm", "16384_init", "16390", "163841"];
        let unlogged = UnloggedRelations::among(names.iter().map(|name| name.as_bytes()));
        let reset = |name: &&&str| unlogged.resets(RelationFile::parse(name.as_bytes()).unwrap());
        let reset: Vec<_> = names.iter().filter(reset).copied().collect();
        assert_eq!(reset, ["16384", "16384.1", "16384_fsm"]);
    }

    #[test]
    fn blocks_count_on_across_the_files_of_a_relation() {
        let block = |name: &str| RelationFile::parse(name.as_bytes()).unwrap().first_block(131_072);
        assert_eq!(block("16384"), Some(BlockNumber(0)));
        assert_eq!(block("16384.2"), Some(BlockNumber(262_144)));
        assert_eq!(block("16384.32768"), None);
    }
}
