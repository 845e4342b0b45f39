//! Keys, key files and key slots.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use walrs::container::{
    KeyDerivation, KeyId, KeySlot, KeySource, ObjectKind, RepositoryId, Sealing, decode, encode,
    generate_key_file, open_control, parse_key, read_key_file, read_passphrase_file, seal_control,
};
use walrs::error::ErrorKind;
use walrs::secret::Secret;

use super::{encrypted, identity, key, plain, repository};
use crate::support::scratch::Scratch;

fn key_file(byte: u8) -> KeySource {
    KeySource::KeyFile(Secret::new([byte; 32]))
}

fn passphrase(text: &str) -> KeySource {
    KeySource::passphrase(Secret::new(text.as_bytes().to_vec())).unwrap()
}

fn slot(source: &KeySource) -> KeySlot {
    let label = Some("cold storage".to_owned());
    KeySlot::wrap(&repository(), KeyId::from_bytes([9; 16]), &key(42), source, label).unwrap()
}

#[test]
fn a_slot_yields_the_key_that_opens_the_repository() {
    for source in [key_file(1), passphrase("correct horse")] {
        let stored = seal_control(&slot(&source)).unwrap();
        let slot: KeySlot = open_control(&stored).unwrap();
        let opened = slot.unwrap(&repository(), &source).unwrap();
        let reopened = Sealing::encrypted(repository(), slot.key_id(), opened);
        let segment = identity(ObjectKind::WalSegment);
        let object = encode(&encrypted(), &segment, walrs::container::Codec::Lz4, b"wal").unwrap();
        assert_eq!(decode(&reopened, &segment, &object.bytes).unwrap(), b"wal");
    }
}

#[test]
fn a_wrong_key_is_a_mistake_of_usage_and_names_the_setting() {
    let cases = [
        (key_file(1), key_file(2), "encryption.key_file"),
        (passphrase("right"), passphrase("wrong"), "encryption.passphrase_file"),
    ];
    for (right, wrong, setting) in cases {
        let error = slot(&right).unwrap(&repository(), &wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.hint_text().unwrap().contains(setting), "{error:?}");
    }
}

#[test]
fn a_damaged_slot_is_told_from_a_wrong_key() {
    let mut stored = seal_control(&slot(&key_file(1))).unwrap();
    let wrapped = String::from_utf8(stored.clone()).unwrap().find("wrapped").unwrap() + 20;
    stored[wrapped] = if stored[wrapped] == b'0' { b'1' } else { b'0' };
    assert_eq!(open_control::<KeySlot>(&stored).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn a_slot_opens_only_in_its_repository_and_under_its_names() {
    let source = key_file(1);
    let other_repository = RepositoryId::from_bytes([8; 16]);
    assert!(slot(&source).unwrap(&other_repository, &source).is_err());
    for member in ["key_id", "slot_id"] {
        let mut document = serde_json::to_value(slot(&source)).unwrap();
        document[member] = "00112233445566778899aabbccddeeff".into();
        let moved: KeySlot = serde_json::from_value(document).unwrap();
        assert!(moved.unwrap(&repository(), &source).is_err(), "another {member} was accepted");
    }
}

#[test]
fn a_slot_is_opened_by_its_own_kind_of_secret_only() {
    let slot = slot(&key_file(1));
    assert_eq!(slot.derivation(), KeyDerivation::KeyFile);
    let error = slot.unwrap(&repository(), &passphrase("x")).unwrap_err();
    assert!(error.to_string().contains("by a key-file, not by a passphrase"), "{error}");
}

#[test]
fn a_slot_that_would_exhaust_the_reader_is_refused() {
    let source = passphrase("x");
    for (member, cost) in [("memory_kib", 1_048_577), ("iterations", 17), ("parallelism", 17)] {
        let mut document = serde_json::to_value(slot(&source)).unwrap();
        document[member] = cost.into();
        let costly: KeySlot = serde_json::from_value(document).unwrap();
        let error = costly.unwrap(&repository(), &source).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{member}");
    }
}

#[test]
fn a_passphrase_does_not_include_one_line_feed_at_its_end() {
    let slot = slot(&passphrase("correct horse"));
    assert!(slot.unwrap(&repository(), &passphrase("correct horse\n")).is_ok());
    assert!(slot.unwrap(&repository(), &passphrase("correct horse\n\n")).is_err());
    assert!(KeySource::passphrase(Secret::new(b"\n".to_vec())).is_err());
}

/// K1
#[test]
fn a_key_has_exactly_32_bytes() {
    for length in 0..100 {
        let text = STANDARD.encode(vec![7; length]);
        let parsed = parse_key(text.as_bytes());
        assert_eq!(parsed.is_ok(), length == 32, "{length} bytes");
    }
    let text = STANDARD.encode([7; 32]);
    assert_eq!(parse_key(format!(" \n{text}\r\n").as_bytes()).unwrap().expose(), &[7; 32]);
    let unpadded = text.trim_end_matches('=');
    for wrong in [unpadded, &text.replace('B', "-"), &format!("{text}{text}"), &"7".repeat(64)] {
        assert!(parse_key(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

/// K2
#[test]
fn secrets_are_in_no_debug_output_and_no_message() {
    let text = STANDARD.encode(b"0123456789abcdef0123456789abcde\x80");
    let secret = parse_key(text.as_bytes()).unwrap();
    let source = KeySource::KeyFile(secret);
    let opened = slot(&key_file(1)).unwrap(&repository(), &source);
    let shown = [
        format!("{source:?} {:?} {:?} {:?}", key(0x61), encrypted(), slot(&source)),
        format!("{:?} {opened:?}", passphrase("0123456789abcdef")),
        format!("{:?}", parse_key(format!("{text}0123456789abcdef").as_bytes())),
    ]
    .concat();
    let spellings = [
        "0123456789",
        "MDEyMzQ1",
        "30, 31, 32",
        "30313233",
        "48, 49, 50",
        "97, 97, 97",
        "61616161",
    ];
    for secret in spellings {
        assert!(!shown.contains(secret), "`{secret}` is in {shown}");
    }
}

/// K3
#[test]
fn every_use_of_a_key_gives_another_key() {
    for sealing in [plain(), encrypted()] {
        let block = sealing.hash_block(b"same bytes");
        assert_ne!(block.as_bytes(), &sealing.partial_digest(b"same bytes"));
    }
    assert_ne!(plain().hash_block(b"same bytes"), encrypted().hash_block(b"same bytes"));
    let other = Sealing::plain(RepositoryId::from_bytes([8; 16]));
    assert_ne!(plain().hash_block(b"same bytes"), other.hash_block(b"same bytes"));
}

#[test]
fn a_generated_key_file_is_private_and_read_back_and_never_replaced() {
    let scratch = Scratch::new();
    let path = scratch.join("walrs.key");
    let generated = generate_key_file(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(read_key_file(&path).unwrap().expose(), generated.expose());
    assert_eq!(generate_key_file(&path).unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(read_key_file(&path).unwrap().expose(), generated.expose());
}

#[test]
fn a_secret_that_others_may_read_is_refused() {
    let scratch = Scratch::new();
    let path = scratch.join("walrs.key");
    generate_key_file(&path).unwrap();
    for mode in [0o640, 0o604, 0o660, 0o620] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = read_key_file(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.hint_text().unwrap().starts_with("chmod 0600"), "{error:?}");
        assert!(read_passphrase_file(&path).is_err());
    }
}

#[test]
fn what_is_no_key_file_is_refused_with_its_name() {
    let scratch = Scratch::new();
    let long = scratch.write("long", "x".repeat(5000));
    let short = scratch.write("short", "AAAA\n");
    for path in [long, short, scratch.create_directory("directory"), scratch.join("absent")] {
        let error = read_key_file(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}
