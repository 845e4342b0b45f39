//! The repository key and the slots that wrap it.
//!
//! `docs/format.md` section 4.3. Any number of slots may wrap one key: adding or removing one rewrites no data.

use std::fmt;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::identity::{KeyId, RepositoryId, SlotId};
use super::sealing::{derive, fill_random, label, push_field, random_bytes};
use crate::error::{Error, Result};
use crate::secret::Secret;

pub(super) const SLOT_LABEL: &[u8] = b"walrs/v1/slot";

/// The key that everything in an encrypted repository is sealed with.
pub struct RepositoryKey(Secret<[u8; 32]>);

/// What opens a slot.
#[derive(Debug)]
pub enum KeySource {
    /// The 32 bytes of a key file, or of what a key command prints.
    KeyFile(Secret<[u8; 32]>),
    /// A passphrase; slow to use by intent.
    Passphrase(Secret<Vec<u8>>),
}

/// How the secret of a slot becomes the key that wraps the repository key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyDerivation {
    /// HKDF of a key file.
    KeyFile,
    /// Argon2id of a passphrase, then HKDF.
    Passphrase,
}

/// One way to the repository key; immutable, stored as `keys/<key id>/<slot id>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlot {
    key_id: KeyId,
    slot_id: SlotId,
    created: Timestamp,
    label: Option<String>,
    #[serde(flatten)]
    derivation: Derivation,
    #[serde(with = "super::hex")]
    nonce: [u8; 12],
    #[serde(with = "super::hex")]
    wrapped: [u8; 48],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kdf", rename_all = "kebab-case")]
enum Derivation {
    KeyFile {
        #[serde(with = "super::hex")]
        salt: [u8; 16],
    },
    Passphrase {
        #[serde(with = "super::hex")]
        salt: [u8; 16],
        #[serde(flatten)]
        cost: Argon2Cost,
    },
}

/// What one guess of a passphrase costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Argon2Cost {
    memory_kib: u32,
    iterations: u32,
    parallelism: u32,
}

impl Argon2Cost {
    const WRITTEN: Self = Self { memory_kib: 65_536, iterations: 3, parallelism: 4 };
    /// A slot that asks for more is refused: it could only be meant to exhaust the reader.
    const LIMIT: Self = Self { memory_kib: 1_048_576, iterations: 16, parallelism: 16 };

    fn is_within(&self, limit: &Self) -> bool {
        self.memory_kib <= limit.memory_kib
            && self.iterations <= limit.iterations
            && self.parallelism <= limit.parallelism
    }
}

/// The random parts of a new slot.
pub(super) struct SlotSeeds {
    pub(super) slot_id: SlotId,
    pub(super) salt: [u8; 16],
    pub(super) nonce: [u8; 12],
}

impl RepositoryKey {
    /// A new key. Fails when the operating system gives no random bytes.
    pub fn generate() -> Result<Self> {
        Secret::try_filled(|key: &mut [u8; 32]| fill_random(key)).map(Self)
    }

    /// The key that `secret` holds.
    pub fn from_secret(secret: Secret<[u8; 32]>) -> Self {
        Self(secret)
    }

    pub(super) fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

impl fmt::Debug for RepositoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RepositoryKey(..)")
    }
}

impl KeySource {
    /// A passphrase as read from a file: one line feed at its end does not count.
    pub fn passphrase(mut bytes: Secret<Vec<u8>>) -> Result<Self> {
        bytes.change(|bytes| {
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
            }
        });
        if bytes.expose().is_empty() {
            return Err(Error::usage("the passphrase is empty"));
        }
        Ok(Self::Passphrase(bytes))
    }

    /// The kind of slot that this can open.
    pub fn derivation(&self) -> KeyDerivation {
        match self {
            Self::KeyFile(_) => KeyDerivation::KeyFile,
            Self::Passphrase(_) => KeyDerivation::Passphrase,
        }
    }
}

impl KeyDerivation {
    /// How slots spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyFile => "key-file",
            Self::Passphrase => "passphrase",
        }
    }
}

impl fmt::Display for KeyDerivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl KeySlot {
    /// Wraps `key` so that `source` opens it, in a new slot.
    pub fn wrap(
        repository_id: &RepositoryId,
        key_id: KeyId,
        key: &RepositoryKey,
        source: &KeySource,
        label: Option<String>,
    ) -> Result<Self> {
        let seeds =
            SlotSeeds { slot_id: SlotId::random()?, salt: random_bytes()?, nonce: random_bytes()? };
        let now = Timestamp::now().as_second();
        let created = Timestamp::from_second(now).expect("seconds of a valid time are valid");
        Self::wrap_with(&seeds, created, repository_id, key_id, key, source, label)
    }

    pub(super) fn wrap_with(
        seeds: &SlotSeeds,
        created: Timestamp,
        repository_id: &RepositoryId,
        key_id: KeyId,
        key: &RepositoryKey,
        source: &KeySource,
        label: Option<String>,
    ) -> Result<Self> {
        let salt = seeds.salt;
        let derivation = match source {
            KeySource::KeyFile(_) => Derivation::KeyFile { salt },
            KeySource::Passphrase(_) => Derivation::Passphrase { salt, cost: Argon2Cost::WRITTEN },
        };
        let (slot_id, nonce, wrapped) = (seeds.slot_id, seeds.nonce, [0; 48]);
        let mut slot = Self { key_id, slot_id, created, label, derivation, nonce, wrapped };
        slot.seal(repository_id, key, source)?;
        Ok(slot)
    }

    fn seal(
        &mut self,
        repository_id: &RepositoryId,
        key: &RepositoryKey,
        source: &KeySource,
    ) -> Result<()> {
        let wrapping = self.wrapping_cipher(source)?;
        let associated = self.associated(repository_id);
        let (wrapped, tag) = self.wrapped.split_at_mut(32);
        wrapped.copy_from_slice(key.expose());
        let sealed =
            wrapping.encrypt_inout_detached(&self.nonce.into(), &associated, wrapped.into());
        tag.copy_from_slice(&sealed.expect("32 bytes are far below the limits of GCM"));
        Ok(())
    }

    /// The repository key, when `source` is the one that this slot was made for.
    ///
    /// A wrong key or passphrase is an error of kind `Usage`: the slot itself is known to be intact, because its
    /// control object carries a digest.
    pub fn unwrap(
        &self,
        repository_id: &RepositoryId,
        source: &KeySource,
    ) -> Result<RepositoryKey> {
        let wrapping = self.wrapping_cipher(source)?;
        let associated = self.associated(repository_id);
        let (wrapped, tag) = self.wrapped.split_at(32);
        let tag: &[u8; 16] = tag.try_into().expect("48 bytes less 32");
        let key = Secret::try_filled(|key: &mut [u8; 32]| {
            key.copy_from_slice(wrapped);
            let buffer = key.as_mut_slice().into();
            wrapping.decrypt_inout_detached(&self.nonce.into(), &associated, buffer, tag.into())
        });
        key.map(RepositoryKey).map_err(|_| self.wrong_key())
    }

    fn wrong_key(&self) -> Error {
        let (setting, what) = match self.derivation() {
            KeyDerivation::KeyFile => ("encryption.key_file", "key"),
            KeyDerivation::Passphrase => ("encryption.passphrase_file", "passphrase"),
        };
        Error::usage(format!("the {what} does not open key slot `{}`", self.slot_id))
            .hint(format!("`{setting}` holds another {what} than the one this slot was made with"))
    }

    /// The cipher that wraps the repository key.
    fn wrapping_cipher(&self, source: &KeySource) -> Result<Aes256Gcm> {
        let (salt, secret) = match (&self.derivation, source) {
            (Derivation::KeyFile { salt }, KeySource::KeyFile(key)) => {
                (salt, Secret::filled(|secret: &mut [u8; 32]| *secret = *key.expose()))
            }
            (Derivation::Passphrase { salt, cost }, KeySource::Passphrase(passphrase)) => {
                (salt, self.stretch(passphrase, salt, cost)?)
            }
            _ => return Err(self.other_source(source)),
        };
        let mut info = label(SLOT_LABEL);
        push_field(&mut info, self.derivation().as_str().as_bytes());
        let key: Secret<[u8; 32]> = derive(secret.expose(), salt, &info);
        Ok(Aes256Gcm::new(key.expose().into()))
    }

    fn stretch(
        &self,
        passphrase: &Secret<Vec<u8>>,
        salt: &[u8; 16],
        cost: &Argon2Cost,
    ) -> Result<Secret<[u8; 32]>> {
        let refused =
            || Error::damaged(format!("key slot `{}` has impossible costs", self.slot_id));
        if !cost.is_within(&Argon2Cost::LIMIT) {
            return Err(refused());
        }
        let parameters = Params::new(cost.memory_kib, cost.iterations, cost.parallelism, Some(32))
            .map_err(|_| refused())?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
        let mut memory = Zeroizing::new(vec![Block::new(); argon2.params().block_count()]);
        Secret::try_filled(|secret: &mut [u8; 32]| {
            let memory = memory.as_mut_slice();
            argon2.hash_password_into_with_memory(passphrase.expose(), salt, secret, memory)
        })
        .map_err(|error| Error::unavailable("cannot stretch the passphrase").because(error))
    }

    fn other_source(&self, source: &KeySource) -> Error {
        Error::usage(format!(
            "key slot `{}` is opened by a {}, not by a {}",
            self.slot_id,
            self.derivation(),
            source.derivation()
        ))
    }

    fn associated(&self, repository_id: &RepositoryId) -> Vec<u8> {
        let mut associated = label(SLOT_LABEL);
        push_field(&mut associated, repository_id.as_bytes());
        push_field(&mut associated, self.key_id.as_bytes());
        push_field(&mut associated, self.slot_id.as_bytes());
        associated
    }

    /// The key that the slot leads to.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The slot's own name.
    pub fn slot_id(&self) -> SlotId {
        self.slot_id
    }

    /// When the slot was made.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// The operator's name for it.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// What opens it.
    pub fn derivation(&self) -> KeyDerivation {
        match self.derivation {
            Derivation::KeyFile { .. } => KeyDerivation::KeyFile,
            Derivation::Passphrase { .. } => KeyDerivation::Passphrase,
        }
    }
}
