//! What seals the objects of one repository: its identity and the keys that follow from the repository key.
//!
//! Owns the derivation of keys, each with a label of its own (`docs/format.md` sections 4.2 and 4.3). Does not own
//! where the repository key comes from (`keys`).

use std::fmt;
use std::sync::Arc;

use hkdf::Hkdf;
use sha2::Sha256;

use super::encryption::Cipher;
use super::identity::{BlockHash, KeyId, ObjectIdentity, RepositoryId, Suite};
use super::keys::RepositoryKey;
use crate::error::{Error, Result};
use crate::secret::Secret;

pub(super) const OBJECT_LABEL: &[u8] = b"walrs/v1/object";
pub(super) const BLOCK_LABEL: &[u8] = b"walrs/v1/block";
pub(super) const PARTIAL_LABEL: &[u8] = b"walrs/v1/partial";

/// Random bytes that make the keys of every attempt to write an object unique.
pub(super) type Salt = [u8; 32];

/// Everything that seals and opens the objects of one repository. Cloning is cheap.
#[derive(Clone)]
pub struct Sealing(Arc<Inner>);

struct Inner {
    repository_id: RepositoryId,
    key: Option<(KeyId, RepositoryKey)>,
    block_key: Secret<[u8; 32]>,
    partial_key: Secret<[u8; 32]>,
}

/// What the salt of an object leads to.
pub(super) struct ObjectKeys {
    pub(super) cipher: Cipher,
    pub(super) commitment: [u8; 32],
}

impl Sealing {
    /// For a plain repository: accidents are detected, tampering is not.
    pub fn plain(repository_id: RepositoryId) -> Self {
        Self::new(repository_id, None)
    }

    /// For an encrypted repository, with the key that one of its slots yielded, which proves it to be the right one.
    pub fn encrypted(repository_id: RepositoryId, key_id: KeyId, key: RepositoryKey) -> Self {
        Self::new(repository_id, Some((key_id, key)))
    }

    fn new(repository_id: RepositoryId, key: Option<(KeyId, RepositoryKey)>) -> Self {
        // A plain repository has no secret; its identifier still keeps its hashes apart from those of any other.
        let root: &[u8] = match &key {
            Some((_, key)) => key.expose(),
            None => repository_id.as_bytes(),
        };
        let block_key = derive(root, &[], &label(BLOCK_LABEL));
        let partial_key = derive(root, &[], &label(PARTIAL_LABEL));
        Self(Arc::new(Inner { repository_id, key, block_key, partial_key }))
    }

    /// How the objects are sealed.
    pub fn suite(&self) -> Suite {
        if self.0.key.is_some() { Suite::Encrypted } else { Suite::Plain }
    }

    /// The repository whose objects these are.
    pub fn repository_id(&self) -> &RepositoryId {
        &self.0.repository_id
    }

    /// The name of the repository key; none in a plain repository.
    pub fn key_id(&self) -> Option<KeyId> {
        self.0.key.as_ref().map(|(key_id, _)| *key_id)
    }

    /// The hash of one block of at most [`super::BLOCK_SIZE`] bytes.
    pub fn hash_block(&self, block: &[u8]) -> BlockHash {
        BlockHash::from_bytes(keyed_digest(&self.0.block_key, block))
    }

    /// The digest under which a partial segment with this content is stored.
    pub fn partial_digest(&self, content: &[u8]) -> [u8; 16] {
        keyed_digest(&self.0.partial_key, content)
    }

    /// As [`Sealing::partial_digest`], for content that is fed in pieces; the first 16 bytes are the digest.
    pub fn partial_hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(self.0.partial_key.expose())
    }

    /// A salt for one attempt to write one object; all zero in a plain repository, where nothing depends on it.
    pub(super) fn new_salt(&self) -> Result<Salt> {
        match self.suite() {
            Suite::Plain => Ok([0; 32]),
            Suite::Encrypted => random_bytes(),
        }
    }

    /// The keys of the object `identity` that was written with `salt`.
    pub(super) fn object_keys(&self, identity: &ObjectIdentity, salt: &Salt) -> ObjectKeys {
        let Some((_, key)) = &self.0.key else {
            return ObjectKeys { cipher: Cipher::Plain, commitment: [0; 32] };
        };
        let derived: Secret<[u8; 64]> = derive(key.expose(), salt, &self.object_info(identity));
        let (object_key, commitment) = derived.expose().split_at(32);
        let object_key = Secret::filled(|bytes: &mut [u8; 32]| bytes.copy_from_slice(object_key));
        ObjectKeys {
            cipher: Cipher::encrypted(&object_key),
            commitment: commitment.try_into().expect("half of 64 bytes"),
        }
    }

    fn object_info(&self, identity: &ObjectIdentity) -> Vec<u8> {
        let mut info = label(OBJECT_LABEL);
        push_field(&mut info, &[self.suite().id()]);
        push_field(&mut info, self.0.repository_id.as_bytes());
        push_field(&mut info, &identity.system_identifier.get().to_le_bytes());
        push_field(&mut info, &[identity.kind.id()]);
        push_field(&mut info, identity.name.as_bytes());
        info
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealing({:?}, {})", self.suite(), self.0.repository_id)
    }
}

/// HKDF-SHA-256 of `root`; `N` is 32 or 64.
pub(super) fn derive<const N: usize>(root: &[u8], salt: &[u8], info: &[u8]) -> Secret<[u8; N]> {
    let derivation = Hkdf::<Sha256>::new(Some(salt), root);
    Secret::filled(|key| {
        derivation.expand(info, key).expect("HKDF yields up to 8160 bytes");
    })
}

/// `info` that begins with a label.
pub(super) fn label(label: &[u8]) -> Vec<u8> {
    let mut info = Vec::with_capacity(128);
    push_field(&mut info, label);
    info
}

/// Appends a field with its length, so that no two lists of fields are written alike.
pub(super) fn push_field(info: &mut Vec<u8>, field: &[u8]) {
    info.extend_from_slice(&(field.len() as u32).to_le_bytes());
    info.extend_from_slice(field);
}

fn keyed_digest(key: &Secret<[u8; 32]>, content: &[u8]) -> [u8; 16] {
    let digest = blake3::keyed_hash(key.expose(), content);
    *digest.as_bytes().first_chunk().expect("a digest has 32 bytes")
}

/// Random bytes from the operating system.
pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    fill_random(&mut bytes)?;
    Ok(bytes)
}

/// Fills `bytes` with random ones from the operating system; going on without them is never right.
pub(super) fn fill_random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| {
        Error::unavailable("the operating system gives no random bytes").because(error)
    })
}
