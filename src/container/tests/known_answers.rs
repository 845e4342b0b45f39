//! Version 1 is frozen: the files in `tests/known_answers/v1` open for ever, and what does not depend on a
//! compressor's release is written again byte for byte. Their README says what they hold.

use std::fs;
use std::path::Path;

use jiff::Timestamp;

use super::keys::SlotSeeds;
use super::*;

const SEGMENT: &str = "wal/69d1e16262685f79/00000001/00000000/000000010000000000000042";
const HISTORY: &str = "histories/69d1e16262685f79/00000002.history";
const SALT: [u8; 32] = [0x5a; 32];
const CHUNKS: [&[u8]; 3] = [b"first chunk", b"second chunk", b"third"];
const INDEX: &[u8] = b"an index";

fn stored(name: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/known_answers/v1");
    fs::read(directory.join(name)).unwrap_or_else(|error| panic!("`{name}`: {error}"))
}

/// Two chunks, the second one short: byte `i` is the low byte of `i / 1000`.
fn segment_content() -> Vec<u8> {
    (0..CHUNK_SIZE + 5000).map(|position| (position / 1000) as u8).collect()
}

fn history_content() -> &'static [u8] {
    b"1\t0/3000148\tno recovery target specified\n"
}

#[test]
fn stored_segments_still_open() {
    let segment = identity(ObjectKind::WalSegment, SEGMENT);
    for (name, sealing) in [
        ("segment.plain.zstd", plain()),
        ("segment.plain.lz4", plain()),
        ("segment.encrypted.zstd", encrypted()),
        ("segment.encrypted.lz4", encrypted()),
    ] {
        let content = decode(&sealing, &segment, &stored(name)).unwrap();
        assert!(content == segment_content(), "{name}");
    }
}

#[test]
fn uncompressed_objects_are_written_as_ever() {
    let history = identity(ObjectKind::TimelineHistory, HISTORY);
    for (name, sealing, salt) in
        [("history.plain.none", plain(), [0; 32]), ("history.encrypted.none", encrypted(), SALT)]
    {
        let written =
            encode::encode_with_salt(&sealing, &history, Codec::None, history_content(), &salt);
        assert_eq!(written.unwrap().bytes, stored(name), "{name}");
        assert_eq!(decode(&sealing, &history, &stored(name)).unwrap(), history_content());
    }
}

#[test]
fn packs_are_written_as_ever() {
    for (name, sealing, salt) in
        [("pack.plain.none", plain(), [0; 32]), ("pack.encrypted.none", encrypted(), SALT)]
    {
        let written = super::pack(&sealing, &salt, &CHUNKS, INDEX);
        assert_eq!(written.bytes, stored(name), "{name}");
        let identity = identity(ObjectKind::Pack, PACK);
        let reader = ObjectReader::open(&sealing, &identity, &written.bytes).unwrap();
        let position = written.index_position.unwrap();
        let tail = &stored(name)[position as usize..];
        assert_eq!(reader.read_index(position, tail).unwrap(), INDEX);
    }
}

#[test]
fn key_slots_are_written_as_ever_and_still_open() {
    let repository_id = RepositoryId::from_bytes([0x17; 16]);
    let passphrase = Secret::new(b"correct horse battery staple\n".to_vec());
    for (name, source) in [
        ("slot.key-file.json", KeySource::KeyFile(Secret::new([0x33; 32]))),
        ("slot.passphrase.json", KeySource::passphrase(passphrase).unwrap()),
    ] {
        let slot = open_control::<KeySlot>(&stored(name)).unwrap();
        let key = slot.unwrap(&repository_id, &source).unwrap();
        assert_eq!(key.expose(), &[0x42; 32], "{name}");
        assert_eq!(seal_control(&known_slot(&repository_id, &source)).unwrap(), stored(name));
    }
}

fn known_slot(repository_id: &RepositoryId, source: &KeySource) -> KeySlot {
    let seeds =
        SlotSeeds { slot_id: SlotId::from_bytes([0x61; 16]), salt: [0x62; 16], nonce: [0x63; 12] };
    let created: Timestamp = "2026-11-20T10:15:00Z".parse().unwrap();
    let key = RepositoryKey::from_secret(Secret::new([0x42; 32]));
    let (key_id, label) = (KeyId::from_bytes([0x29; 16]), Some("known answer".to_owned()));
    KeySlot::wrap_with(&seeds, created, repository_id, key_id, &key, source, label).unwrap()
}

#[test]
fn hashes_of_blocks_and_partial_segments_are_as_ever() {
    let block = [0x77; BLOCK_SIZE];
    let known = String::from_utf8(stored("hashes.txt")).unwrap();
    let computed = [plain(), encrypted()].map(|sealing| {
        let (suite, hash) = (sealing.suite(), sealing.hash_block(&block));
        let partial = BlockHash::from_bytes(sealing.partial_digest(&block));
        format!("{suite:?} block {hash}\n{suite:?} partial {partial}\n")
    });
    assert_eq!(computed.concat(), known);
}
