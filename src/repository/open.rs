//! Opening a repository: identity, witness, suite, key and clusters, checked in every command (S8, C1).

use std::sync::Arc;

use futures::TryStreamExt;

use super::create::{self, FirstCluster};
use super::documents::{Epoch, RepositoryDocument};
use super::key_ring::KeyRing;
use super::layout::{ObjectName, prefix};
use super::remembered::Identity;
use super::site::{Site, Witness};
use super::{Repository, read_control};
use crate::config::{CompressionMethod, CompressionSettings, Settings};
use crate::container::{Codec, KeySlot, RepositoryId, Sealing};
use crate::error::{Error, Result};
use crate::postgres::ControlFile;
use crate::storage::{SingleWriter, Storage};

/// Everything that decides whether, and how, a repository is opened.
#[derive(Debug)]
pub struct Opening<'a> {
    /// The store at the configured URL.
    pub storage: Arc<dyn Storage>,
    /// The configuration.
    pub settings: &'a Settings,
    /// The local places of the data directory, when there is one.
    pub site: Option<&'a Site>,
    /// The repository that must be found (`--repository-id`).
    pub expected: Option<RepositoryId>,
}

/// What to do when there is no repository yet.
#[derive(Debug)]
pub enum Creation {
    /// The first push of a cluster may make a plain repository in an empty location.
    By(FirstCluster),
    /// Only an existing repository will do; the text says why.
    Refused(String),
}

impl Opening<'_> {
    /// Opens the repository, or makes a plain one when `creation` allows it and nothing speaks against it.
    pub async fn open(self, creation: Creation) -> Result<Repository> {
        self.open_now(creation).await.map(|(repository, _)| repository)
    }

    /// The repository, and the key slot that the configured key opened.
    pub(super) async fn open_now(
        self,
        creation: Creation,
    ) -> Result<(Repository, Option<KeySlot>)> {
        let witness = match self.site {
            Some(site) => site.witness()?,
            None => None,
        };
        let keys = KeyRing::read(&self.settings.encryption).await?;
        let document = match read_document(&*self.storage).await? {
            Some(document) => document,
            None => self.create(creation, witness.as_ref(), &keys).await?,
        };
        self.check_identity(&document, witness.as_ref())?;
        let storage = self.guarded_storage(&document)?;
        let (sealing, slot) = unlock(&*storage, &document, &keys).await?;
        let epochs = read_epochs(&*storage).await?;
        if witness.is_none() {
            self.leave_witness(&document, &epochs);
        }
        let codec = codec(self.settings.compression)?;
        let (epochs, identity) = (epochs.into(), Identity::Read);
        Ok((Repository { storage, document, epochs, sealing, codec, identity }, slot))
    }

    /// Opens the repository, which must exist.
    pub async fn existing(self) -> Result<Repository> {
        self.open(Creation::Refused("this command never makes a repository".to_owned())).await
    }

    async fn create(
        &self,
        creation: Creation,
        witness: Option<&Witness>,
        keys: &KeyRing,
    ) -> Result<RepositoryDocument> {
        let missing = || Error::refused(format!("there is no repository at `{}`", self.storage));
        if let Some(witness) = witness {
            return Err(missing()
                .because(format!(
                    "this data directory uses repository `{}`, last seen at `{}`",
                    witness.repository_id, witness.url
                ))
                .hint("is the disk mounted and the URL right? `walrs init` makes a new repository on purpose"));
        }
        if let Some(expected) = self.expected {
            return Err(missing().because(format!("repository `{expected}` is expected here")));
        }
        if keys.source().is_some() {
            return Err(missing().because("an encryption key is configured").hint(
                "an encrypted repository is made by `walrs init --encrypt --new-key-file FILE` only",
            ));
        }
        match creation {
            Creation::Refused(reason) => {
                Err(missing().because(reason).hint("check `repository`, or run `walrs init`"))
            }
            Creation::By(first) => create::first_push(&*self.storage, self.settings, first).await,
        }
    }

    fn check_identity(
        &self,
        document: &RepositoryDocument,
        witness: Option<&Witness>,
    ) -> Result<()> {
        let found = document.repository_id;
        let foreign = |why: String| {
            Error::refused(format!("`{}` holds repository `{found}`", self.storage)).because(why)
        };
        if let Some(expected) = self.expected.filter(|expected| *expected != found) {
            return Err(foreign(format!("repository `{expected}` is expected here")));
        }
        match witness {
            Some(witness) if witness.repository_id != found => Err(foreign(format!(
                "this data directory uses repository `{}`, last seen at `{}`",
                witness.repository_id, witness.url
            ))
            .hint("check `repository`; `walrs init` moves this data directory to another repository on purpose")),
            _ => Ok(()),
        }
    }

    pub(super) fn guarded_storage(
        &self,
        document: &RepositoryDocument,
    ) -> Result<Arc<dyn Storage>> {
        if document.conditional_create {
            return Ok(Arc::clone(&self.storage));
        }
        if !self.settings.single_writer {
            return Err(create::no_conditional_create(&*self.storage));
        }
        Ok(Arc::new(SingleWriter::new(Arc::clone(&self.storage))))
    }

    /// Remembers the repository, if it is for the cluster of this data directory: to have looked at another cluster's
    /// repository binds to nothing.
    fn leave_witness(&self, document: &RepositoryDocument, epochs: &[Epoch]) {
        let Some(site) = self.site else { return };
        let Ok(control) = ControlFile::read(site.pgdata()) else { return };
        if !epochs.iter().any(|epoch| epoch.system_identifier == control.system_identifier) {
            return;
        }
        let witness =
            Witness { url: self.storage.to_string(), repository_id: document.repository_id };
        if let Err(error) = site.leave_witness(&witness) {
            tracing::warn!(%error, "no witness kept");
        }
    }
}

pub(super) async fn read_document(storage: &dyn Storage) -> Result<Option<RepositoryDocument>> {
    read_control(storage, &ObjectName::Repository).await
}

pub(super) async fn read_epochs(storage: &dyn Storage) -> Result<Vec<Epoch>> {
    let mut epochs = Vec::new();
    let mut listing = storage.list(&prefix::epochs(), None);
    while let Some(info) = listing.try_next().await? {
        let Some(name @ ObjectName::Epoch(_)) = ObjectName::parse(&info.key) else { continue };
        let epoch = read_control(storage, &name).await?;
        epochs.push(epoch.ok_or_else(|| Error::damaged(format!("`{}` vanished", name.key())))?);
    }
    if epochs.is_empty() {
        return Err(Error::damaged(format!("the repository `{storage}` has no epoch")));
    }
    Ok(epochs)
}

pub(super) async fn unlock(
    storage: &dyn Storage,
    document: &RepositoryDocument,
    keys: &KeyRing,
) -> Result<(Sealing, Option<KeySlot>)> {
    let id = document.repository_id;
    match (document.suite, document.key_id) {
        (0, None) if keys.source().is_none() => Ok((Sealing::plain(id), None)),
        (0, None) => Err(Error::refused(format!("the repository `{storage}` is not encrypted"))
            .because("an encryption key is configured")
            .hint(
                "remove the key from the configuration, or make an encrypted repository elsewhere",
            )),
        (1, Some(key)) => {
            let (opened, slot) = keys.unlock(storage, id, key).await?;
            Ok((Sealing::encrypted(id, key, opened), Some(slot)))
        }
        (suite, _) => Err(Error::usage(format!("`{storage}` uses the unknown suite {suite}"))
            .hint("a newer walrs made it; use that version")),
    }
}

pub(super) fn codec(settings: CompressionSettings) -> Result<Codec> {
    const ZSTD_DEFAULT: i32 = 1;
    match (settings.method, settings.level) {
        (CompressionMethod::Zstd, level) => {
            Ok(Codec::Zstd { level: level.unwrap_or(ZSTD_DEFAULT) })
        }
        (CompressionMethod::Lz4, None) => Ok(Codec::Lz4),
        (CompressionMethod::None, None) => Ok(Codec::None),
        (_, Some(level)) => Err(Error::usage(format!("`compression.level` is `{level}`"))
            .hint("only `zstd` has levels; remove it")),
    }
}
