//! The object container from outside: what goes in comes out, and nothing else is ever taken for it.

mod control;
mod damage;
mod files;
mod hostile;
mod keys;
mod lengths;
mod records;
mod round_trip;
mod swaps;

use walrs::container::{
    Codec, FinishedObject, KeyId, ObjectIdentity, ObjectKind, ObjectWriter, RepositoryId,
    RepositoryKey, Sealing, StreamDecoder, compress, decode, encode,
};
use walrs::error::{Error, Result};
use walrs::postgres::SystemIdentifier;
use walrs::secret::Secret;

pub(crate) const CODECS: [Codec; 3] = [Codec::None, Codec::Zstd { level: 1 }, Codec::Lz4];

pub(crate) fn repository() -> RepositoryId {
    RepositoryId::from_bytes([7; 16])
}

pub(crate) fn plain() -> Sealing {
    Sealing::plain(repository())
}

pub(crate) fn encrypted() -> Sealing {
    Sealing::encrypted(repository(), KeyId::from_bytes([9; 16]), key(42))
}

pub(crate) fn key(byte: u8) -> RepositoryKey {
    RepositoryKey::from_secret(Secret::new([byte; 32]))
}

pub(crate) fn identity(kind: ObjectKind) -> ObjectIdentity {
    ObjectIdentity {
        kind,
        system_identifier: SystemIdentifier::new(7_625_123_456_789_012_345),
        name: "wal/69d3d0b8a5f20c79/00000001/00000000/000000010000000000000042".to_owned(),
    }
}

/// Bytes that compress well, the same for the same length.
pub(crate) fn content(length: usize) -> Vec<u8> {
    let mut content = Vec::with_capacity(length + 64);
    let mut state = 1_u64;
    while content.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (row, table) = (content.len() / 64, state >> 61);
        content.extend_from_slice(format!("row {row:>50} of table {table}\n").as_bytes());
    }
    content.truncate(length);
    content
}

/// One object of any shape, with all a reader needs.
pub(crate) struct Sample {
    pub(crate) description: String,
    pub(crate) sealing: Sealing,
    pub(crate) identity: ObjectIdentity,
    pub(crate) bytes: Vec<u8>,
    pub(crate) content: Vec<u8>,
}

impl Sample {
    /// A WAL file that is encoded whole.
    pub(crate) fn segment(sealing: Sealing, codec: Codec, length: usize) -> Self {
        let (identity, content) = (identity(ObjectKind::WalSegment), content(length));
        let object = encode(&sealing, &identity, codec, &content).unwrap();
        let description = format!("{:?} {codec:?} segment", sealing.suite());
        Self { description, sealing, identity, bytes: object.bytes.to_vec(), content }
    }

    /// A pack of chunks with an index.
    pub(crate) fn pack(sealing: Sealing, codec: Codec, chunk_length: usize, index: usize) -> Self {
        let (identity, content) = (identity(ObjectKind::Pack), content(4 * chunk_length));
        let object = pack(&sealing, codec, &content, chunk_length, &self::content(index));
        let description = format!("{:?} {codec:?} pack", sealing.suite());
        Self { description, sealing, identity, bytes: object.bytes.to_vec(), content }
    }

    /// Small objects of both suites and all codecs.
    pub(crate) fn small() -> Vec<Self> {
        let mut samples = Vec::new();
        for sealing in [plain(), encrypted()] {
            for codec in CODECS {
                samples.push(Self::segment(sealing.clone(), codec, 300));
                samples.push(Self::pack(sealing.clone(), codec, 50, 100));
            }
            samples.push(Self::segment(sealing, Codec::Lz4, 0));
        }
        samples
    }

    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        decode(&self.sealing, &self.identity, bytes)
    }

    pub(crate) fn decode_stream(&self, bytes: &[u8], piece_length: usize) -> Result<Vec<u8>> {
        stream(&self.sealing, &self.identity, bytes, piece_length)
    }

    /// The errors of both decoders for these bytes.
    pub(crate) fn refusals(&self, bytes: &[u8], why: &str) -> [Error; 2] {
        let stream = self.decode_stream(bytes, 16 << 10);
        [self.decode(bytes), stream].map(|result| match result {
            Ok(_) => panic!("{}: {why}, and it was decoded", self.description),
            Err(error) => error,
        })
    }
}

pub(crate) fn pack(
    sealing: &Sealing,
    codec: Codec,
    content: &[u8],
    chunk_length: usize,
    index: &[u8],
) -> FinishedObject {
    let mut writer = ObjectWriter::new(sealing, identity(ObjectKind::Pack), codec).unwrap();
    for raw in content.chunks(chunk_length) {
        writer.push(compress(codec, raw).unwrap(), raw).unwrap();
    }
    writer.push_index(index).unwrap();
    writer.finish().unwrap()
}

pub(crate) fn stream(
    sealing: &Sealing,
    identity: &ObjectIdentity,
    bytes: &[u8],
    piece_length: usize,
) -> Result<Vec<u8>> {
    let mut decoder = StreamDecoder::new(sealing, identity.clone());
    let mut content = Vec::new();
    for piece in bytes.chunks(piece_length) {
        decoder.feed(piece);
        while let Some(chunk) = decoder.next_chunk()? {
            content.extend_from_slice(chunk);
        }
    }
    decoder.finish().map(|_| content)
}
