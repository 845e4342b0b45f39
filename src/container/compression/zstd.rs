//! Zstandard: frames with their content size, without checksum and dictionary.

use std::io;

use ::zstd::zstd_safe;

use super::ensure_announced;
use crate::container::damage::{Checked, Damage, ensure};

const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

// A new context for every chunk is no slower than one kept for every thread: a megabyte of input hides it.
pub(super) fn compress(level: i32, raw: &[u8]) -> io::Result<Vec<u8>> {
    let mut frame = ::zstd::bulk::compress(raw, level)?;
    frame.shrink_to_fit();
    Ok(frame)
}

pub(super) fn decompress(stored: &[u8], raw: &mut [u8]) -> Checked<()> {
    // The library would also accept skippable frames and several frames in a row.
    ensure(stored.starts_with(&MAGIC), "a chunk does not begin a zstd frame")?;
    let frame_length = zstd_safe::find_frame_compressed_size(stored).ok();
    ensure(frame_length == Some(stored.len()), "a chunk is not exactly one zstd frame")?;
    let content_size = zstd_safe::get_frame_content_size(stored).ok().flatten();
    ensure_announced(content_size, raw)?;
    let written = ::zstd::bulk::decompress_to_buffer(stored, raw)
        .map_err(|error| Damage::new(format!("zstd refuses a chunk: {error}")))?;
    ensure(written == raw.len(), "a chunk has not its stated length")
}
