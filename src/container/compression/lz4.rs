//! LZ4 frames of one independent block, with their content size, without checksums.

use std::io::{self, Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::ensure_announced;
use crate::container::damage::{Checked, Damage, ensure};

/// Magic, flags with a content size, block descriptor, content size, header checksum.
/// Source: the LZ4 frame format description, "Frame Descriptor".
const MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
const CONTENT_SIZE_FLAG: u8 = 0b0000_1000;
const END_MARK: [u8; 4] = [0; 4];
const HEADER_BYTES: usize = 15;

pub(super) fn compress(raw: &[u8]) -> io::Result<Vec<u8>> {
    let info = FrameInfo::new()
        .content_size(Some(raw.len() as u64))
        .block_size(block_size(raw.len()))
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::with_capacity(raw.len() / 2));
    encoder.write_all(raw)?;
    let mut frame = encoder.finish()?;
    frame.shrink_to_fit();
    Ok(frame)
}

/// The smallest block that holds the chunk: decoders clear a whole block, however little is in it.
fn block_size(raw_length: usize) -> BlockSize {
    match raw_length {
        0..=0x1_0000 => BlockSize::Max64KB,
        0x1_0001..=0x4_0000 => BlockSize::Max256KB,
        _ => BlockSize::Max1MB,
    }
}

pub(super) fn decompress(stored: &[u8], raw: &mut [u8]) -> Checked<()> {
    ensure_announced(content_size(stored), raw)?;
    let mut unread = stored;
    let mut decoder = FrameDecoder::new(&mut unread);
    decoder
        .read_exact(raw)
        .map_err(|error| Damage::new(format!("lz4 refuses a chunk: {error}")))?;
    // The end mark is all that is left; without it the decoder would take a cut frame for a whole one.
    ensure(**decoder.get_ref() == END_MARK, "a chunk is not exactly one lz4 frame")?;
    let more = decoder.read(&mut [0]).map_err(|error| Damage::new(error.to_string()))?;
    ensure(more == 0, "a chunk has not its stated length")
}

fn content_size(stored: &[u8]) -> Option<u64> {
    let header = stored.first_chunk::<HEADER_BYTES>()?;
    let stated = header.starts_with(&MAGIC) && header[4] & CONTENT_SIZE_FLAG != 0;
    let size = header[6..14].try_into().expect("eight bytes");
    stated.then(|| u64::from_le_bytes(size))
}
