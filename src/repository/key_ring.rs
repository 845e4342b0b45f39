//! The configured key, and the slots of a repository that it opens.

use futures::TryStreamExt;

use super::key_command;
use super::layout::{ObjectName, prefix};
use super::{Created, read_control};
use crate::config::EncryptionSettings;
use crate::container::{
    KeyId, KeySlot, KeySource, RepositoryId, RepositoryKey, read_key_file, read_passphrase_file,
};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// The key that the configuration names, read once.
pub struct KeyRing {
    source: Option<KeySource>,
}

impl KeyRing {
    /// Reads the configured key file, runs the key command, or reads the passphrase file.
    ///
    /// More than one of them is a usage error; none is an empty ring.
    pub async fn read(settings: &EncryptionSettings) -> Result<Self> {
        let source = match (&settings.key_file, &settings.key_command, &settings.passphrase_file) {
            (None, None, None) => None,
            (Some(path), None, None) => Some(KeySource::KeyFile(read_key_file(path)?)),
            (None, Some(command), None) => {
                Some(KeySource::KeyFile(key_command::run(command).await?))
            }
            (None, None, Some(path)) => Some(KeySource::passphrase(read_passphrase_file(path)?)?),
            _ => {
                return Err(Error::usage("more than one encryption key is configured").hint(
                    "set one of `encryption.key_file`, `encryption.key_command`, `encryption.passphrase_file`",
                ));
            }
        };
        Ok(Self { source })
    }

    /// A ring with a key that was just made.
    pub(super) fn holding(source: Option<KeySource>) -> Self {
        Self { source }
    }

    /// The configured key, if any.
    pub fn source(&self) -> Option<&KeySource> {
        self.source.as_ref()
    }

    /// Whether only a passphrase is configured, which is too slow for archiving.
    pub fn is_passphrase(&self) -> bool {
        matches!(self.source, Some(KeySource::Passphrase(_)))
    }

    /// Opens the repository key through whichever slot fits; that slot too.
    pub(super) async fn unlock(
        &self,
        storage: &dyn Storage,
        repository: RepositoryId,
        key: KeyId,
    ) -> Result<(RepositoryKey, KeySlot)> {
        let Some(source) = &self.source else {
            return Err(Error::usage(format!(
                "the repository `{storage}` is encrypted and no key is configured"
            ))
            .hint("set `encryption.key_file` (or `encryption.key_command`)"));
        };
        let slots = readable_slots(storage, key).await?;
        for slot in slots.intact.iter().filter(|slot| slot.derivation() == source.derivation()) {
            match slot.unwrap(&repository, source) {
                Ok(key) => return Ok((key, slot.clone())),
                // Another slot may have been made for this key.
                Err(error) if error.kind() == ErrorKind::Usage => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(damaged) = slots.damaged {
            return Err(damaged);
        }
        let count = slots.intact.len();
        Err(Error::usage(format!(
            "the configured key opens none of the {count} key slots of `{storage}`"
        ))
        .hint("is it the key of another repository? `walrs key list` shows the slots"))
    }
}

/// The slots that can be read, and why one cannot.
struct ReadableSlots {
    intact: Vec<KeySlot>,
    damaged: Option<Error>,
}

/// Every slot of a key, in the order of their names; a damaged one is an error.
pub(super) async fn slots(storage: &dyn Storage, key: KeyId) -> Result<Vec<KeySlot>> {
    let slots = readable_slots(storage, key).await?;
    match slots.damaged {
        Some(error) => Err(error),
        None => Ok(slots.intact),
    }
}

/// A damaged slot must not keep another one from opening the repository.
async fn readable_slots(storage: &dyn Storage, key: KeyId) -> Result<ReadableSlots> {
    let mut slots = ReadableSlots { intact: Vec::new(), damaged: None };
    let mut listing = storage.list(&prefix::key_slots(&key), None);
    while let Some(info) = listing.try_next().await? {
        let Some(name @ ObjectName::KeySlot(..)) = ObjectName::parse(&info.key) else { continue };
        match read_control(storage, &name).await {
            // A slot that vanished since the listing was removed on purpose.
            Ok(slot) => slots.intact.extend(slot),
            Err(error) if error.kind() == ErrorKind::Damaged => slots.damaged = Some(error),
            Err(error) => return Err(error),
        }
    }
    Ok(slots)
}

/// Stores a slot; `Existed` cannot happen with random ids, but is the caller's to refuse.
pub(super) async fn put_slot(storage: &dyn Storage, slot: &KeySlot) -> Result<Created> {
    let name = ObjectName::KeySlot(slot.key_id(), slot.slot_id());
    super::put_create(storage, &name, crate::container::seal_control(slot)?.into()).await
}
