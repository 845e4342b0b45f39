//! An unencrypted object is a file of its codec: data must be recoverable without walrs.

use std::process::Command;

use walrs::container::{Codec, ObjectKind, encode};

use super::{CODECS, content, identity, pack, plain};
use crate::support::scratch::Scratch;

#[test]
fn the_codecs_own_tools_print_the_content_of_plain_objects() {
    let scratch = Scratch::new();
    for codec in CODECS {
        for size in [0, 1, 131_073, 3_000_000] {
            let content = content(size);
            let segment = identity(ObjectKind::WalSegment);
            let object = encode(&plain(), &segment, codec, &content).unwrap();
            let printed = print(&scratch, codec, &object.bytes);
            assert!(printed == content, "{codec:?}, {size} bytes");
        }
    }
}

#[test]
fn the_codecs_own_tools_print_the_content_of_plain_packs() {
    let scratch = Scratch::new();
    for codec in CODECS {
        let content = content(200_000);
        let object = pack(&plain(), codec, &content, 65_536, b"an index is no content");
        assert!(print(&scratch, codec, &object.bytes) == content, "{codec:?}");
    }
}

/// What the tool of the codec makes of the object.
fn print(scratch: &Scratch, codec: Codec, object: &[u8]) -> Vec<u8> {
    let (tool, suffix) = if codec == Codec::Lz4 { ("lz4", "lz4") } else { ("zstd", "zst") };
    let file = scratch.write(format!("object.{suffix}"), object);
    let output = Command::new(tool).arg("-dc").arg(&file).output();
    let output = output.unwrap_or_else(|error| panic!("`{tool}` is not installed: {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} refuses an object: {complaint}");
    output.stdout
}
