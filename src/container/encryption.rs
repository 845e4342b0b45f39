//! Sealing of single records: AES-256-GCM, or a checksum in a plain repository.
//!
//! Every record of an object is sealed under one key with a nonce made of its role and position, so that the same
//! nonce never covers two records; `docs/format.md` section 4.

use std::borrow::Cow;

use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{Aes256Gcm, KeyInit};
use subtle::ConstantTimeEq;

use super::damage::{Checked, Damage};
use crate::secret::Secret;

/// Bytes of a record's tag.
pub(super) const TAG_BYTES: usize = 16;

/// The tag of a record: GCM's, or the beginning of a BLAKE3 digest.
pub(super) type Tag = [u8; TAG_BYTES];

/// What a record is for; part of its nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Head = 1,
    Chunk = 2,
    Index = 3,
    End = 4,
}

/// Where a record stands in its object; no two records of an object stand in the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    role: Role,
    last: bool,
    index: u64,
}

impl Place {
    pub(super) const HEAD: Self = Self { role: Role::Head, last: false, index: 0 };
    pub(super) const END: Self = Self { role: Role::End, last: false, index: 0 };

    pub(super) const fn of(role: Role, last: bool, index: u64) -> Self {
        Self { role, last, index }
    }

    fn nonce(self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[0] = self.role as u8;
        nonce[3] = u8::from(self.last);
        nonce[4..].copy_from_slice(&self.index.to_le_bytes());
        nonce
    }
}

/// Seals and opens the records of one object.
pub(super) enum Cipher {
    /// Suite 0.
    Plain,
    /// Suite 1, under the object's key.
    Encrypted(Box<Aes256Gcm>),
}

impl Cipher {
    pub(super) fn encrypted(object_key: &Secret<[u8; 32]>) -> Self {
        Self::Encrypted(Box::new(Aes256Gcm::new(object_key.expose().into())))
    }

    /// Turns `buffer` into stored bytes, in place; returns their tag.
    pub(super) fn seal(&self, place: Place, associated: &[u8], buffer: &mut [u8]) -> Tag {
        #[cfg(test)]
        test_hook::record(place.nonce());
        match self {
            Self::Plain => checksum(associated, buffer),
            Self::Encrypted(cipher) => cipher
                .encrypt_inout_detached(&place.nonce().into(), associated, buffer.into())
                .expect("a record is far below the limits of GCM")
                .into(),
        }
    }

    /// The bytes that were sealed, when the tag matches everything.
    pub(super) fn open<'a>(
        &self,
        place: Place,
        associated: &[u8],
        stored: &'a [u8],
        tag: &Tag,
    ) -> Checked<Cow<'a, [u8]>> {
        let opened = match self {
            Self::Plain => {
                let matches = checksum(associated, stored).ct_eq(tag).into();
                if matches { Some(Cow::Borrowed(stored)) } else { None }
            }
            Self::Encrypted(cipher) => decrypt(cipher, place, associated, stored, tag),
        };
        opened.ok_or_else(|| Damage::new(format!("the tag of {} does not match", place.name())))
    }
}

fn decrypt<'a>(
    cipher: &Aes256Gcm,
    place: Place,
    associated: &[u8],
    stored: &[u8],
    tag: &Tag,
) -> Option<Cow<'a, [u8]>> {
    let mut opened = vec![0; stored.len()];
    let buffer = InOutBuf::new(stored, &mut opened).expect("the lengths are equal");
    cipher
        .decrypt_inout_detached(&place.nonce().into(), associated, buffer, tag.into())
        .ok()
        .map(|()| Cow::Owned(opened))
}

fn checksum(associated: &[u8], stored: &[u8]) -> Tag {
    let mut hasher = blake3::Hasher::new();
    hasher.update(associated).update(stored);
    *hasher.finalize().as_bytes().first_chunk().expect("a digest is longer than a tag")
}

impl Place {
    fn name(self) -> String {
        match self.role {
            Role::Head => "the prelude".to_owned(),
            Role::Chunk => format!("chunk {}", self.index),
            Role::Index => format!("index record {}", self.index),
            Role::End => "the end record".to_owned(),
        }
    }
}

/// Lets tests see every nonce that this thread has sealed with.
#[cfg(test)]
pub(super) mod test_hook {
    use std::cell::RefCell;

    thread_local! {
        static NONCES: RefCell<Vec<[u8; 12]>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn record(nonce: [u8; 12]) {
        NONCES.with_borrow_mut(|nonces| nonces.push(nonce));
    }

    /// The nonces since the last call.
    pub(in crate::container) fn take() -> Vec<[u8; 12]> {
        NONCES.take()
    }
}
