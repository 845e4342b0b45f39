//! What a backup would do, without doing it.

use std::path::Path;

use super::base::{Base, Scope, WhyFull};
use super::feed::Feeders;
use super::memory::{Memory, Recalled};
use super::survey::Survey;
use super::walk::{DataDirectory, Found, FoundFile};
use crate::config::BackupSettings;
use crate::error::Result;
use crate::postgres::ControlFile;
use crate::repository::{BackupId, Repository, blocks_in};
use crate::task;

/// What a backup would read, as things are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What the data directory holds.
    pub survey: Survey,
    /// What of that is read; at most as much is stored.
    pub to_read: ToRead,
    /// The backup it would be compared with, or why it would store everything.
    pub parent: Result<BackupId, WhyFull>,
}

/// Files that are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ToRead {
    /// Their number.
    pub files: u64,
    /// Their blocks.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl ToRead {
    fn add(&mut self, file: &FoundFile) {
        self.files += 1;
        self.blocks += blocks_in(file.status.size) as u64;
        self.bytes += file.status.size;
    }
}

/// Looks at the data directory and, where there is one, the repository. Nothing is changed anywhere, and the server is
/// not asked for anything.
///
/// Fails on what would fail the backup while it walks: unreadable directories, links that are not allowed.
pub async fn plan(
    repository: Option<&Repository>,
    pgdata: &Path,
    settings: &BackupSettings,
    scope: Scope,
    spool: Option<&Path>,
) -> Result<Plan> {
    let directory = pgdata.to_owned();
    let control = task::blocking(move || ControlFile::read(&directory)).await?;
    let data = DataDirectory::new(pgdata.to_owned(), &control, settings.links)?.leave_out(spool);
    let Some(repository) = repository else {
        return count(data, Memory::default(), Err(WhyFull::First)).await;
    };
    let cluster = control.system_identifier;
    repository.authorise(cluster)?;
    let base = Base::choose(repository, cluster, scope, settings.full_every).await?;
    let mut feeders = Feeders::default();
    let recollection = base.recollect(repository, cluster, settings.rescan, &mut feeders);
    let memory = recollection.map(|recollection| recollection.memory).unwrap_or_default();
    let parent = base.parent.map(|manifest| manifest.backup_id.clone());
    count(data, memory, parent).await
}

async fn count(
    data: DataDirectory,
    mut memory: Memory,
    parent: Result<BackupId, WhyFull>,
) -> Result<Plan> {
    task::blocking(move || {
        let (mut survey, mut to_read) = (Survey::default(), ToRead::default());
        data.walk(&mut |found| {
            survey.add(&found);
            if let Found::File(file) = &found
                && let Recalled::ToRead(_) = memory.recall(&data, file)?
            {
                to_read.add(file);
            }
            Ok(())
        })?;
        Ok(Plan { survey, to_read, parent })
    })
    .await
}
