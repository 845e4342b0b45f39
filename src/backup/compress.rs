//! The compressors: raw chunks become compressed ones, on blocking threads.

use super::assemble::{Chunk, ChunkData};
use super::buffer::{Buffer, BufferPool};
use super::chunker::RawChunk;
use crate::container::{Codec, compress};
use crate::error::Result;

/// Compresses a chunk; blocking.
pub(super) fn compress_chunk(codec: Codec, pool: &BufferPool, raw: RawChunk) -> Result<Chunk> {
    let items = raw.items;
    let Some(raw) = join(pool, raw.parts) else { return Ok(Chunk { data: None, items }) };
    let compressed = compress(codec, &raw)?;
    Ok(Chunk { data: Some(ChunkData { raw, compressed }), items })
}

/// One buffer out of several; a single one is not copied.
fn join(pool: &BufferPool, mut parts: Vec<Buffer>) -> Option<Buffer> {
    if parts.len() < 2 {
        return parts.pop();
    }
    let length = parts.iter().map(|part| part.len()).sum();
    let mut joined = pool.take(length, None);
    for mut part in parts {
        joined.append(&part);
        joined.add_reservation(part.take_reservation());
    }
    Some(joined)
}
