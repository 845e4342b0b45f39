//! What is written is read back, by every reader, in every suite and codec.

use proptest::prelude::*;
use walrs::container::{
    CHUNK_HEADER_BYTES, CHUNK_SIZE, Codec, ContentDigest, ContentFacts, END_RECORD_BYTES,
    EncodeStream, ObjectKind, ObjectReader, ObjectWriter, compress, decode, encode, prelude_length,
};
use walrs::error::ErrorKind;

use super::{CODECS, Sample, content, encrypted, identity, pack, plain, stream};

#[test]
fn contents_of_every_size_are_read_back() {
    let sizes = [0, 1, 8191, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1];
    for sealing in [plain(), encrypted()] {
        for codec in CODECS {
            for size in sizes {
                let sample = Sample::segment(sealing.clone(), codec, size);
                let what = format!("{} of {size} bytes", sample.description);
                assert!(sample.decode(&sample.bytes).unwrap() == sample.content, "{what}");
                let streamed = sample.decode_stream(&sample.bytes, 100_000).unwrap();
                assert!(streamed == sample.content, "{what}, streamed");
            }
        }
    }
}

#[test]
fn a_segment_of_16_mib_is_read_back() {
    for sealing in [plain(), encrypted()] {
        let sample = Sample::segment(sealing, Codec::default(), 16 << 20);
        assert!(sample.decode(&sample.bytes).unwrap() == sample.content, "{}", sample.description);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_content_is_read_back_in_any_pieces(
        raw in prop::collection::vec(any::<u8>(), 0..20_000),
        piece_length in 1..30_000_usize,
        codec in prop::sample::select(CODECS.to_vec()),
        sealing in prop::sample::select(vec![plain(), encrypted()]),
    ) {
        let identity = identity(ObjectKind::FileList);
        let object = encode(&sealing, &identity, codec, &raw).unwrap();
        prop_assert_eq!(object.digest, ContentDigest::of(&raw));
        prop_assert_eq!(&decode(&sealing, &identity, &object.bytes).unwrap(), &raw);
        prop_assert_eq!(&stream(&sealing, &identity, &object.bytes, piece_length).unwrap(), &raw);
    }
}

#[test]
fn the_head_of_a_segment_tells_its_content_and_size() {
    for sealing in [plain(), encrypted()] {
        let sample = Sample::segment(sealing, Codec::default(), 3_000_000);
        let prelude = &sample.bytes[..prelude_length(&sample.bytes[..8]).unwrap()];
        let reader = ObjectReader::open(&sample.sealing, &sample.identity, prelude).unwrap();
        let facts = reader.head().content.unwrap();
        assert_eq!(facts.raw_length, 3_000_000);
        assert_eq!(facts.digest, ContentDigest::of(&sample.content));
        let body_length = sample.bytes.len() - reader.prelude_length();
        assert_eq!(reader.head().body_length, Some(body_length as u64));
        assert_eq!(reader.prelude_length(), prelude.len());
    }
}

#[test]
fn chunks_and_index_of_a_pack_are_read_by_position() {
    for sealing in [plain(), encrypted()] {
        for codec in CODECS {
            let (content, index) = (content(500_000), content(2 * CHUNK_SIZE + 7));
            let object = pack(&sealing, codec, &content, 65_536, &index);
            let reader =
                ObjectReader::open(&sealing, &identity(ObjectKind::Pack), &object.bytes).unwrap();
            for (number, raw) in content.chunks(65_536).enumerate().rev() {
                let chunk = object.chunks[number];
                let start = chunk.offset as usize;
                let end = start + CHUNK_HEADER_BYTES + chunk.stored_length as usize;
                let opened = reader.open_chunk(number as u64, &object.bytes[start..end]).unwrap();
                assert!(opened == raw && opened.len() == chunk.raw_length as usize);
            }
            let position = object.index_position.unwrap();
            let tail = &object.bytes[position as usize..];
            assert!(reader.read_index(position, tail).unwrap() == index);
            let end = reader.open_end(object.bytes.last_chunk().unwrap()).unwrap();
            assert_eq!((end.chunk_count, end.index_count), (object.chunks.len() as u64, 3));
            assert_eq!((end.raw_length, end.digest), (500_000, ContentDigest::of(&content)));
        }
    }
}

#[test]
fn a_writer_knows_how_long_its_object_would_be() {
    let codec = Codec::Lz4;
    let mut writer = ObjectWriter::new(&plain(), identity(ObjectKind::FileList), codec).unwrap();
    let empty = writer.stored_length();
    let raw = content(1000);
    let chunk = compress(codec, &raw).unwrap();
    let added = (CHUNK_HEADER_BYTES + chunk.stored_length()) as u64;
    writer.push(chunk, &raw).unwrap();
    assert_eq!(writer.stored_length(), empty + added);
    assert_eq!(writer.chunk_positions().last().unwrap().offset, empty - END_RECORD_BYTES as u64);
    assert_eq!(writer.finish().unwrap().bytes.len() as u64, empty + added);
}

#[test]
fn a_streamed_segment_is_read_back() {
    for sealing in [plain(), encrypted()] {
        for size in [0, 1, CHUNK_SIZE, 5 * CHUNK_SIZE, 5 * CHUNK_SIZE + 1] {
            let content = content(size);
            let pieces = encode_stream(&sealing, &content, facts(&content));
            let object = pieces.collect::<Result<Vec<_>, _>>().unwrap().concat();
            let segment = identity(ObjectKind::WalSegment);
            assert!(decode(&sealing, &segment, &object).unwrap() == content);
            let reader = ObjectReader::open(&sealing, &segment, &object).unwrap();
            assert_eq!(reader.head().content, Some(facts(&content)));
            assert_eq!(reader.head().body_length, None);
        }
    }
}

/// W1
#[test]
fn a_source_that_changed_after_it_was_hashed_never_becomes_an_object() {
    let original = content(3 * CHUNK_SIZE);
    let mut changed = original.clone();
    changed[100] ^= 1;
    let longer = [&original[..], b"x"].concat();
    let shorter = &original[..original.len() - 1];
    for source in [&changed[..], &longer, shorter] {
        let pieces: Vec<_> = encode_stream(&plain(), source, facts(&original)).collect();
        let error = pieces.last().unwrap().as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("changed while it was read"), "{error}");
    }
}

fn facts(content: &[u8]) -> ContentFacts {
    ContentFacts { raw_length: content.len() as u64, digest: ContentDigest::of(content) }
}

fn encode_stream<'a>(
    sealing: &walrs::container::Sealing,
    source: &'a [u8],
    stated: ContentFacts,
) -> EncodeStream<&'a [u8]> {
    let segment = identity(ObjectKind::WalSegment);
    EncodeStream::new(sealing, segment, Codec::default(), stated, source).unwrap()
}
