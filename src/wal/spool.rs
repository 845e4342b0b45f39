//! What may lie in a spool, and for whom: whatever is taken from it must have been meant for exactly this use.

use serde::{Deserialize, Serialize};

use crate::config::Settings;
use crate::container::RepositoryId;
use crate::error::Result;
use crate::postgres::SystemIdentifier;
use crate::repository::Site;
use crate::storage::RepositoryUrl;

/// The repository that a command means, and the way to it; what lies in the spool counts for no other.
///
/// The way counts too: whoever points walrs at another place wants to hear what is, or is not, in that place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Binding {
    repository_id: RepositoryId,
    url: String,
    endpoint: Option<String>,
    system_identifier: SystemIdentifier,
}

/// What the command line and the configuration say about the repository.
#[derive(Debug, Clone, Copy)]
pub struct Meant<'a> {
    /// The configuration.
    pub settings: &'a Settings,
    /// The id that `--repository-id` demands.
    pub repository: Option<RepositoryId>,
}

impl Binding {
    /// The binding of a command that has not opened its repository: by the witness of the data directory.
    ///
    /// `None` where there is no witness, or where it is not the repository that the command demands: opening the
    /// repository will tell.
    pub(super) fn by_witness(
        site: &Site,
        meant: Meant<'_>,
        cluster: SystemIdentifier,
    ) -> Result<Option<Self>> {
        let Some(witness) = site.witness()? else { return Ok(None) };
        let id = witness.repository_id;
        if meant.repository.is_some_and(|demanded| demanded != id) {
            return Ok(None);
        }
        Self::to(id, meant.settings, cluster)
    }

    /// The binding to an open repository; `None` when no URL is configured.
    pub(super) fn to(
        repository: RepositoryId,
        settings: &Settings,
        cluster: SystemIdentifier,
    ) -> Result<Option<Self>> {
        let Some(url) = &settings.repository else { return Ok(None) };
        let url: RepositoryUrl = url.parse()?;
        Ok(Some(Self {
            repository_id: repository,
            url: url.to_string(),
            endpoint: settings.s3.endpoint.clone(),
            system_identifier: cluster,
        }))
    }

    /// 32 digits that stand for the binding in a name.
    pub(super) fn tag(&self) -> String {
        let parts = [
            self.repository_id.to_string(),
            self.url.clone(),
            self.endpoint.clone().unwrap_or_default(),
            self.system_identifier.to_string(),
        ];
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            // With its length before it, no part can be taken for the end of the one before.
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }
}
