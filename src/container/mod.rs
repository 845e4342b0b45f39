//! The object container: bytes ⇄ sealed chunks, as `docs/format.md` sections 2 to 4 specify them.
//!
//! Owns compression, checksums, encryption, keys and key slots, control objects, and the hashes of blocks. Does not
//! own what the content means (packs, lists, manifests) nor where objects lie. All of it is blocking: callers run it
//! through `task::blocking`.
//!
//! To write: [`encode`] for what is in memory, [`encode_file`] for WAL, [`EncodeStream`] for large segments,
//! [`ObjectWriter`] for packs.
//! To read: [`decode`] for whole objects, [`StreamDecoder`] for streams, [`ObjectReader`] for parts of an object.

mod body;
mod chunk;
mod compression;
mod control;
mod damage;
mod encode;
mod encode_file;
mod encryption;
mod hex;
mod identity;
mod key_file;
mod keys;
mod parallel;
mod prelude;
mod reader;
mod sealing;
mod sequence;
mod stream_decoder;
mod stream_encoder;
mod tree_hash;
mod writer;

pub use chunk::{CHUNK_HEADER_BYTES, END_RECORD_BYTES, EndRecord};
pub use compression::{Codec, CodecId, CompressedChunk, compress};
pub use control::{CONTROL_OBJECT_LIMIT_BYTES, open_control, seal_control};
pub use encode::{EncodedObject, encode};
pub use encode_file::encode_file;
pub use identity::{
    BlockHash, ContentDigest, InvalidHex, KeyId, ObjectIdentity, ObjectKind, RepositoryId, SlotId,
    Suite,
};
pub use key_file::{generate_key_file, parse_key, read_key_file, read_passphrase_file};
pub use keys::{KeyDerivation, KeySlot, KeySource, RepositoryKey};
pub use prelude::{ContentFacts, Head, PRELUDE_LIMIT_BYTES, claimed_cluster, prelude_length};
pub use reader::{ObjectReader, decode};
pub use sealing::Sealing;
pub use sequence::INDEX_LIMIT_BYTES;
pub use stream_decoder::{DecodedObject, StreamDecoder};
pub use stream_encoder::EncodeStream;
pub use writer::{ChunkPosition, FinishedObject, ObjectWriter};

#[cfg(test)]
mod tests;

/// Bytes of a block, the unit of hashing and of delta backups; the last block of a file may be shorter.
pub const BLOCK_SIZE: usize = 8192;

/// Most bytes of a chunk or of an index record before compression.
pub const CHUNK_SIZE: usize = 1 << 20;

/// Most chunks of one WAL object that are in memory besides it, raw or compressed, however many cores there are.
const CHUNKS_AT_ONCE_MAX: usize = 4;
