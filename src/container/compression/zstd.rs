//! Zstandard: frames with their content size, without checksum and dictionary.

use std::cell::RefCell;
use std::io;

use ::zstd::bulk::{Compressor, Decompressor};
use ::zstd::zstd_safe;

use super::ensure_announced;
use crate::container::damage::{Checked, Damage, ensure};

const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

thread_local! {
    // A compression context is about a megabyte that zstd would otherwise allocate and clear for every chunk.
    static COMPRESSOR: RefCell<Option<(i32, Compressor<'static>)>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

pub(super) fn compress(level: i32, raw: &[u8]) -> io::Result<Vec<u8>> {
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(raw.len()));
    COMPRESSOR.with_borrow_mut(|slot| {
        compressor(slot, level)?.compress_to_buffer(raw, &mut frame).map(drop)
    })?;
    frame.shrink_to_fit();
    Ok(frame)
}

fn compressor<'a>(
    slot: &'a mut Option<(i32, Compressor<'static>)>,
    level: i32,
) -> io::Result<&'a mut Compressor<'static>> {
    if slot.as_ref().is_none_or(|(of_level, _)| *of_level != level) {
        *slot = Some((level, Compressor::new(level)?));
    }
    let (_, compressor) = slot.as_mut().expect("made above");
    Ok(compressor)
}

pub(super) fn decompress(stored: &[u8], raw: &mut [u8]) -> Checked<()> {
    // The library would also accept skippable frames and several frames in a row.
    ensure(stored.starts_with(&MAGIC), "a chunk does not begin a zstd frame")?;
    let frame_length = zstd_safe::find_frame_compressed_size(stored).ok();
    ensure(frame_length == Some(stored.len()), "a chunk is not exactly one zstd frame")?;
    let content_size = zstd_safe::get_frame_content_size(stored).ok().flatten();
    ensure_announced(content_size, raw)?;
    let written = DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(Decompressor::new()?),
        };
        decompressor.decompress_to_buffer(stored, raw)
    });
    let written = written.map_err(|error| Damage::new(format!("zstd refuses a chunk: {error}")))?;
    ensure(written == raw.len(), "a chunk has not its stated length")
}
