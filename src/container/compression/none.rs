//! No compression: zstd frames of raw blocks, written by hand.
//!
//! Source: RFC 8878, sections 3.1.1.1 (frame header) and 3.1.1.2 (blocks).

const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// A frame content size of four bytes, a single segment, no checksum, no dictionary.
const DESCRIPTOR: u8 = 0b1010_0000;

const BLOCK_LIMIT_BYTES: usize = 128 << 10;
const HEADER_BYTES: usize = 9;
const BLOCK_HEADER_BYTES: usize = 3;

pub(super) fn compress(raw: &[u8]) -> Vec<u8> {
    let blocks = raw.len().div_ceil(BLOCK_LIMIT_BYTES);
    let mut frame = Vec::with_capacity(HEADER_BYTES + blocks * BLOCK_HEADER_BYTES + raw.len());
    frame.extend_from_slice(&MAGIC);
    frame.push(DESCRIPTOR);
    frame.extend_from_slice(&(raw.len() as u32).to_le_bytes());
    for (index, block) in raw.chunks(BLOCK_LIMIT_BYTES).enumerate() {
        let last = u32::from(index + 1 == blocks);
        // Bits 1 and 2 are the type of the block; raw is 0.
        let header = last | (block.len() as u32) << 3;
        frame.extend_from_slice(&header.to_le_bytes()[..BLOCK_HEADER_BYTES]);
        frame.extend_from_slice(block);
    }
    frame
}
