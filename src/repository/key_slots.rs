//! The key slots of an open, encrypted repository: adding, listing and removing ways to its key.

use std::path::Path;

use super::key_ring::{self, KeyRing};
use super::layout::ObjectName;
use super::{Created, Repository};
use crate::config::EncryptionSettings;
use crate::container::{
    KeyId, KeySlot, KeySource, SlotId, generate_key_file, read_passphrase_file,
};
use crate::error::{Error, Result};

/// The slots of one repository.
#[derive(Debug)]
pub struct KeySlots<'a> {
    repository: &'a Repository,
    key: KeyId,
}

/// What a new slot is opened by.
#[derive(Debug, Clone, Copy)]
pub enum NewSlot<'a> {
    /// A key file that is created here.
    KeyFile(&'a Path),
    /// A passphrase that is read from this file.
    Passphrase(&'a Path),
}

impl<'a> KeySlots<'a> {
    /// The slots of `repository`; a plain one has none and is refused.
    pub fn of(repository: &'a Repository) -> Result<Self> {
        match repository.document().key_id {
            Some(key) => Ok(Self { repository, key }),
            None => Err(Error::refused(format!("`{}` is not encrypted", repository.storage()))
                .hint(
                    "an encrypted repository is made by `walrs init --encrypt --new-key-file FILE`",
                )),
        }
    }

    /// Every slot, in the order of their ids.
    pub async fn list(&self) -> Result<Vec<KeySlot>> {
        key_ring::slots(&**self.repository.storage(), self.key).await
    }

    /// Adds a slot for the repository key that the configured key opens, and proves that the new slot opens it.
    pub async fn add(
        &self,
        configured: &EncryptionSettings,
        new: &NewSlot<'_>,
        label: Option<String>,
    ) -> Result<SlotId> {
        let id = self.repository.id();
        let storage = &**self.repository.storage();
        let (key, _) = KeyRing::read(configured).await?.unlock(storage, id, self.key).await?;
        let source = match new {
            NewSlot::KeyFile(path) => KeySource::KeyFile(generate_key_file(path)?),
            NewSlot::Passphrase(path) => KeySource::passphrase(read_passphrase_file(path)?)?,
        };
        let slot = KeySlot::wrap(&id, self.key, &key, &source, label)?;
        slot.unwrap(&id, &source)?;
        match key_ring::put_slot(storage, &slot).await? {
            Created::New => Ok(slot.slot_id()),
            Created::Existed => {
                Err(Error::bug(format!("key slot `{}` exists already", slot.slot_id())))
            }
        }
    }

    /// Removes a slot; the last one is refused, because nothing could be restored without it.
    pub async fn remove(&self, slot: SlotId) -> Result<()> {
        let storage = &**self.repository.storage();
        let slots = self.list().await?;
        let Some(removed) = slots.iter().find(|known| known.slot_id() == slot) else {
            return Err(Error::nothing_matched(format!("there is no key slot `{slot}`"))
                .hint("`walrs key list` shows the slots"));
        };
        if slots.len() == 1 {
            return Err(last_slot(slot));
        }
        storage.delete(&[ObjectName::KeySlot(self.key, slot).key()]).await?;
        if self.list().await?.is_empty() {
            // Another command removed the other slots meanwhile: whoever sees none left puts its own back.
            key_ring::put_slot(storage, removed).await?;
            return Err(last_slot(slot));
        }
        Ok(())
    }
}

fn last_slot(slot: SlotId) -> Error {
    Error::refused(format!("`{slot}` is the last key slot"))
        .because("nothing could ever be restored without it")
        .hint("add another with `walrs key add` first")
}
