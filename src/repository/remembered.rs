//! The identity of a repository in an object store, remembered for a few minutes: WAL commands run once per segment, and
//! each question costs the way to the store and back.
//!
//! It is as much as the objects say that are never rewritten: `repository.json`, the epochs, and the wrapped key slot that
//! the configured key opened. A directory is looked at every time: it may be unmounted.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Repository;
use super::documents::{Epoch, RepositoryDocument};
use super::key_ring::KeyRing;
use super::open::{Creation, Opening, codec, read_document, read_epochs};
use super::site::Site;
use crate::container::{KeySlot, Sealing};
use crate::durable;
use crate::error::{Error, Result};
use crate::postgres::{ControlFile, SystemIdentifier};

const REMEMBERED_FOR: SignedDuration = SignedDuration::from_mins(5);
const MODE: u32 = 0o600;

/// Whether the identity of an open repository was read by this command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    /// It was.
    Read,
    /// An earlier command read it, a few minutes ago.
    Remembered,
}

#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    /// The way to the store; another one leads to nothing that is known.
    store: String,
    endpoint: Option<String>,
    read: Timestamp,
    document: RepositoryDocument,
    epochs: Vec<Epoch>,
    slot: Option<KeySlot>,
}

impl Opening<'_> {
    /// As [`Opening::open`], but what an earlier command of this data directory read within five minutes is enough.
    ///
    /// Before such a repository is said to lack anything, [`Repository::confirm`] must be asked.
    pub async fn open_or_remember(self, creation: Creation) -> Result<Repository> {
        match self.recall().await {
            Ok(Some(repository)) => return Ok(repository),
            Ok(None) => {}
            Err(error) => tracing::debug!(error = %error.chain(), "nothing is remembered"),
        }
        let place = self.site.and_then(memory_of);
        let endpoint = self.settings.s3.endpoint.clone();
        let (repository, slot) = self.open_now(creation).await?;
        if let Some(place) = place {
            let memory = Memory {
                store: repository.storage().to_string(),
                endpoint,
                read: Timestamp::now(),
                document: repository.document().clone(),
                epochs: repository.epochs().to_vec(),
                slot,
            };
            memory.leave(&place).unwrap_or_else(|error| {
                tracing::debug!(error = %error.chain(), "the identity is not remembered");
            });
        }
        Ok(repository)
    }

    async fn recall(&self) -> Result<Option<Repository>> {
        let Some(site) = self.site else { return Ok(None) };
        let Some(memory) = memory_of(site).and_then(|place| Memory::read(&place)) else {
            return Ok(None);
        };
        if !self.is_about(&memory, site)? {
            return Ok(None);
        }
        let keys = KeyRing::read(&self.settings.encryption).await?;
        let Some(sealing) = memory.unlock(&keys)? else { return Ok(None) };
        let storage = self.guarded_storage(&memory.document)?;
        let codec = codec(self.settings.compression)?;
        let Memory { document, epochs, .. } = memory;
        let (epochs, identity) = (epochs.into(), Identity::Remembered);
        Ok(Some(Repository { storage, document, epochs, sealing, codec, identity }))
    }

    /// Whether it is fresh, and of the repository that is meant here, for this data directory's cluster.
    fn is_about(&self, memory: &Memory, site: &Site) -> Result<bool> {
        let age = Timestamp::now().duration_since(memory.read);
        let id = memory.document.repository_id;
        let is_meant = memory.store == self.storage.to_string()
            && memory.endpoint == self.settings.s3.endpoint
            && self.expected.is_none_or(|expected| expected == id)
            && site.witness()?.is_some_and(|witness| witness.repository_id == id);
        if !is_meant || age.is_negative() || age > REMEMBERED_FOR {
            return Ok(false);
        }
        let cluster = ControlFile::read(site.pgdata())?.system_identifier;
        Ok(memory.epochs.iter().any(|epoch| epoch.system_identifier == cluster))
    }
}

impl Memory {
    /// One that cannot be read or parsed is none.
    fn read(place: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(place).ok()?).ok()
    }

    fn leave(&self, place: &Path) -> Result<()> {
        let json = serde_json::to_vec(self)
            .map_err(|source| Error::bug("cannot write an identity as JSON").because(source))?;
        durable::write_unsynced(place, &json, MODE)
            .map_err(|error| Error::io(format!("cannot write `{}`", place.display()), error))
    }

    /// None when the configured key does not fit: then the repository is asked.
    fn unlock(&self, keys: &KeyRing) -> Result<Option<Sealing>> {
        let id = self.document.repository_id;
        match (self.document.suite, self.document.key_id, &self.slot, keys.source()) {
            (0, None, None, None) => Ok(Some(Sealing::plain(id))),
            (1, Some(key), Some(slot), Some(source))
                if slot.derivation() == source.derivation() =>
            {
                Ok(Some(Sealing::encrypted(id, key, slot.unwrap(&id, source)?)))
            }
            _ => Ok(None),
        }
    }
}

impl Repository {
    /// An error unless the store still holds this repository, and that still authorises `cluster`; asks only when its
    /// identity was remembered.
    ///
    /// What a place does not hold says something only if it is the right place (S8).
    pub async fn confirm(&self, cluster: SystemIdentifier) -> Result<()> {
        if self.identity == Identity::Read {
            return Ok(());
        }
        let id = self.id();
        match read_document(&*self.storage).await? {
            Some(found) if found.repository_id == id => {
                let epochs = read_epochs(&*self.storage).await?.into();
                Self { epochs, ..self.clone() }.authorise(cluster).map(drop)
            }
            Some(found) => Err(Error::refused(format!(
                "`{}` holds repository `{}`, and `{id}` a moment ago",
                self.storage, found.repository_id
            ))),
            None => Err(Error::refused(format!("there is no repository at `{}`", self.storage))
                .because(format!("repository `{id}` was there a moment ago"))),
        }
    }
}

/// The file in the spool; none where there is no spool.
fn memory_of(site: &Site) -> Option<PathBuf> {
    let directory = site.make_spool_directory(&format!("identity-{}", site.tag())).ok()??;
    Some(directory.join("repository.json"))
}
