//! Fixed-width numbers at fixed offsets of the structs PostgreSQL writes to disk.
//!
//! PostgreSQL writes its structs in the byte order of its host; a file of the other order fails at its magic
//! number or version. Callers check the length first, so an offset out of range is a defect.

fn array_at<const LENGTH: usize>(bytes: &[u8], offset: usize) -> [u8; LENGTH] {
    *bytes[offset..].first_chunk().expect("the caller checked the length")
}

pub(super) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_ne_bytes(array_at(bytes, offset))
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_ne_bytes(array_at(bytes, offset))
}

pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_ne_bytes(array_at(bytes, offset))
}

pub(super) fn i64_at(bytes: &[u8], offset: usize) -> i64 {
    i64::from_ne_bytes(array_at(bytes, offset))
}
