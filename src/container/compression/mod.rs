//! Codecs: one chunk ⇄ exactly one frame of a standard format.
//!
//! Owns which codecs there are and the bounds of what they may return. Does not own sealing. To add a codec: write
//! its file, and give it a row in [`Codec`] and [`CodecId`].

mod lz4;
mod none;
mod zstd;

use super::CHUNK_SIZE;
use super::damage::{Checked, ensure};
use crate::error::{Error, Result};

/// Most bytes by which a stored chunk may exceed its raw length.
pub(super) const EXPANSION_LIMIT_BYTES: usize = 65_536;

/// How new chunks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not at all: zstd frames of raw blocks, so that `zstd -d` still reads them.
    None,
    /// Zstandard.
    Zstd {
        /// Zstandard's own scale, 1 to 22; also negative for the fast levels.
        level: i32,
    },
    /// LZ4 frames.
    Lz4,
}

impl Default for Codec {
    fn default() -> Self {
        Self::Zstd { level: 1 }
    }
}

/// The format of stored chunks, as the prelude names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CodecId {
    /// zstd frames of raw blocks.
    None = 0,
    /// zstd frames.
    Zstd = 1,
    /// LZ4 frames.
    Lz4 = 2,
}

impl Codec {
    /// The format that this codec writes.
    pub const fn id(self) -> CodecId {
        match self {
            Self::None => CodecId::None,
            Self::Zstd { .. } => CodecId::Zstd,
            Self::Lz4 => CodecId::Lz4,
        }
    }
}

impl CodecId {
    /// The codec's number in the prelude.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The codec with the number `id`.
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Zstd),
            2 => Some(Self::Lz4),
            _ => None,
        }
    }

    /// Decompresses the one frame in `stored` into `raw`, which it must fill exactly.
    ///
    /// Writes nowhere else and allocates within constant bounds, whatever the frame says.
    pub(super) fn decompress(self, stored: &[u8], raw: &mut [u8]) -> Checked<()> {
        match self {
            Self::None | Self::Zstd => zstd::decompress(stored, raw),
            Self::Lz4 => lz4::decompress(stored, raw),
        }
    }
}

/// A chunk that is compressed and not yet sealed: what worker threads hand to an [`super::ObjectWriter`].
pub struct CompressedChunk {
    pub(super) codec: CodecId,
    pub(super) raw_length: u32,
    pub(super) frame: Vec<u8>,
}

impl CompressedChunk {
    /// Bytes before compression, 1 to 1 MiB.
    pub fn raw_length(&self) -> usize {
        self.raw_length as usize
    }

    /// Bytes of the compressed frame; a stored chunk takes 48 bytes more.
    pub fn stored_length(&self) -> usize {
        self.frame.len()
    }
}

/// Compresses one chunk of 1 byte to 1 MiB.
pub fn compress(codec: Codec, raw: &[u8]) -> Result<CompressedChunk> {
    if raw.is_empty() || raw.len() > CHUNK_SIZE {
        return Err(Error::bug(format!("a chunk of {} bytes was to be compressed", raw.len())));
    }
    let frame = match codec {
        Codec::None => Ok(none::compress(raw)),
        Codec::Zstd { level } => zstd::compress(level, raw),
        Codec::Lz4 => lz4::compress(raw),
    };
    let frame = frame.map_err(|error| Error::bug("cannot compress a chunk").because(error))?;
    if frame.len() > raw.len() + EXPANSION_LIMIT_BYTES {
        return Err(Error::bug(format!(
            "{codec:?} made {} bytes out of a chunk of {}",
            frame.len(),
            raw.len()
        )));
    }
    Ok(CompressedChunk { codec: codec.id(), raw_length: raw.len() as u32, frame })
}

/// Refuses a frame whose header announces another length than the record around it.
fn ensure_announced(content_size: Option<u64>, raw: &[u8]) -> Checked<()> {
    ensure(content_size == Some(raw.len() as u64), "a frame announces a wrong length")
}

#[cfg(test)]
mod tests;
