use proptest::prelude::*;

use super::*;

const CODECS: [Codec; 4] =
    [Codec::None, Codec::Zstd { level: 1 }, Codec::Zstd { level: 19 }, Codec::Lz4];

fn decompress(codec: CodecId, frame: &[u8], raw_length: usize) -> Checked<Vec<u8>> {
    let mut raw = vec![0; raw_length];
    codec.decompress(frame, &mut raw).map(|()| raw)
}

/// Bytes that no codec makes shorter.
fn noise(length: usize) -> Vec<u8> {
    let mut noise = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_codec_returns_what_it_was_given(raw in prop::collection::vec(0..4_u8, 1..70_000)) {
        for codec in CODECS {
            let chunk = compress(codec, &raw).unwrap();
            prop_assert_eq!(&decompress(codec.id(), &chunk.frame, raw.len()).unwrap(), &raw);
        }
    }
}

#[test]
fn blocks_of_every_size_survive_no_compression() {
    let limit = 128 << 10;
    for length in [1, 255, 256, limit - 1, limit, limit + 1, 2 * limit, CHUNK_SIZE] {
        let raw = noise(length);
        let chunk = compress(Codec::None, &raw).unwrap();
        assert_eq!(decompress(CodecId::None, &chunk.frame, length).unwrap(), raw, "{length} bytes");
    }
}

#[test]
fn incompressible_bytes_stay_within_the_expansion_limit() {
    for codec in CODECS {
        let chunk = compress(codec, &noise(CHUNK_SIZE)).unwrap();
        assert!(chunk.stored_length() <= CHUNK_SIZE + EXPANSION_LIMIT_BYTES, "{codec:?}");
    }
}

#[test]
fn impossible_chunks_are_refused() {
    for codec in CODECS {
        assert!(compress(codec, &[]).is_err());
        assert!(compress(codec, &vec![0; CHUNK_SIZE + 1]).is_err());
    }
}

#[test]
fn a_frame_of_any_other_length_is_refused() {
    for codec in CODECS {
        let frame = compress(codec, &[7; 5000]).unwrap().frame;
        for length in [1, 4999, 5001, CHUNK_SIZE] {
            assert!(decompress(codec.id(), &frame, length).is_err(), "{codec:?} gave {length}");
        }
    }
}

#[test]
fn anything_but_exactly_one_frame_is_refused() {
    for codec in CODECS {
        let frame = compress(codec, &[7; 5000]).unwrap().frame;
        let half = compress(codec, &[7; 2500]).unwrap().frame;
        let skippable = [0x57, 0x2A, 0x4D, 0x18, 1, 0, 0, 0, 9];
        let wrong: [&[u8]; 6] = [
            &[],
            &frame[..frame.len() - 5],
            &frame[..frame.len() - 4],
            &[&frame[..], &[0]].concat(),
            &[&half[..], &half].concat(),
            &[&skippable, &frame[..]].concat(),
        ];
        for frame in wrong {
            assert!(decompress(codec.id(), frame, 5000).is_err(), "{codec:?} took {frame:x?}");
        }
    }
}

#[test]
fn no_flipped_bit_in_a_frame_makes_a_codec_panic_or_write_elsewhere() {
    for codec in CODECS {
        let frame = compress(codec, &noise(3000)).unwrap().frame;
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A codec need not notice: the tag does, before the codec sees anything.
            let _ = decompress(codec.id(), &flipped, 3000);
        }
    }
}
