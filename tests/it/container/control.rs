//! Control objects: no changed byte is believed.

use serde::{Deserialize, Serialize};
use walrs::container::{CONTROL_OBJECT_LIMIT_BYTES, open_control, seal_control};
use walrs::error::ErrorKind;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Members {
    backup_id: String,
    parents: Vec<String>,
    label: Option<String>,
}

fn members() -> Members {
    Members {
        backup_id: "20261120T101500Z-k3v7qa".to_owned(),
        parents: vec!["20261119T101500Z-aaaaaa".to_owned()],
        label: Some("\",\"digest\":\"".to_owned()),
    }
}

#[test]
fn a_control_object_is_read_back() {
    let sealed = seal_control(&members()).unwrap();
    assert_eq!(open_control::<Members>(&sealed).unwrap(), members());
}

#[test]
fn the_digest_is_the_last_member_and_covers_the_document_without_it() {
    let sealed = String::from_utf8(seal_control(&members()).unwrap()).unwrap();
    assert!(sealed.starts_with(r#"{"format":1,"backup_id":"#), "{sealed}");
    let (document, digest) = sealed.rsplit_once(r#","digest":""#).unwrap();
    let expected = blake3::hash(format!("{document}}}").as_bytes());
    assert_eq!(digest, format!("{expected}\"}}"));
}

#[test]
fn a_flipped_bit_anywhere_is_damage() {
    let sealed = seal_control(&members()).unwrap();
    for position in 0..sealed.len() {
        for bit in 0..8 {
            let mut flipped = sealed.clone();
            flipped[position] ^= 1 << bit;
            let error = open_control::<Members>(&flipped).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "byte {position}: {error:?}");
        }
    }
}

#[test]
fn a_cut_or_continued_control_object_is_damaged() {
    let sealed = seal_control(&members()).unwrap();
    for length in 0..sealed.len() {
        let error = open_control::<Members>(&sealed[..length]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "cut to {length}");
    }
    let longer = [&sealed[..], b"\n"].concat();
    assert_eq!(open_control::<Members>(&longer).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn unknown_members_are_ignored() {
    #[derive(Deserialize)]
    struct Earlier {
        backup_id: String,
    }
    let sealed = seal_control(&members()).unwrap();
    assert_eq!(open_control::<Earlier>(&sealed).unwrap().backup_id, members().backup_id);
}

#[test]
fn a_later_format_is_told_from_damage() {
    let document = r#"{"format":2,"backup_id":"x"}"#;
    let digest = blake3::hash(document.as_bytes());
    let sealed = document.replace('}', &format!(r#","digest":"{digest}"}}"#));
    let error = open_control::<serde_json::Value>(sealed.as_bytes()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.hint_text().unwrap().contains("later walrs"), "{error:?}");
}

#[test]
fn more_than_64_kib_is_neither_written_nor_read() {
    let large = Members { label: Some("x".repeat(CONTROL_OBJECT_LIMIT_BYTES)), ..members() };
    assert_eq!(seal_control(&large).unwrap_err().kind(), ErrorKind::Refused);
    let zeros = vec![0; CONTROL_OBJECT_LIMIT_BYTES + 1];
    assert_eq!(open_control::<Members>(&zeros).unwrap_err().kind(), ErrorKind::Damaged);
}
