//! `pg_filenode.map`: which files hold the system catalogs that cannot look themselves up.

use crc_fast::CrcAlgorithm;

use super::bytes::u32_at;

/// The name of the file, in `global` and in every database's directory.
pub const FILENODE_MAP: &str = "pg_filenode.map";

// RelMapFile, utils/cache/relmapper.c: magic, num_mappings, mappings, crc.
const RELMAPPER_FILEMAGIC: u32 = 0x0059_2717;
const MAPPING_BYTES: usize = 8;
const MAPPINGS: usize = 8;

/// 62 mappings and 4 bytes of padding after the checksum, before 16.
const BYTES_13: usize = 512;
const CRC_13: usize = MAPPINGS + 62 * MAPPING_BYTES;

/// 64 mappings, since 16.
const BYTES_16: usize = 524;
const CRC_16: usize = MAPPINGS + 64 * MAPPING_BYTES;

/// Whether `content` is a whole map whose checksum holds; a map read while the server wrote it may not be.
pub fn filenode_map_is_intact(content: &[u8]) -> bool {
    let crc_offset = match content.len() {
        BYTES_13 => CRC_13,
        BYTES_16 => CRC_16,
        _ => return false,
    };
    let crc = crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, &content[..crc_offset]);
    u32_at(content, 0) == RELMAPPER_FILEMAGIC && crc == u64::from(u32_at(content, crc_offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `global/pg_filenode.map` right after `initdb`.
    const REAL: [&[u8]; 2] =
        [include_bytes!("testdata/filenode_map.15"), include_bytes!("testdata/filenode_map.17")];

    /// B8
    #[test]
    fn real_maps_are_intact() {
        assert!(REAL.into_iter().all(filenode_map_is_intact));
    }

    /// B8
    #[test]
    fn a_torn_map_is_told() {
        for map in REAL {
            let mut torn = map.to_vec();
            torn[16] ^= 1;
            assert!(!filenode_map_is_intact(&torn));
            assert!(!filenode_map_is_intact(&map[..map.len() / 2]));
        }
        assert!(!filenode_map_is_intact(&[]));
    }
}
