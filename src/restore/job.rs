//! From a backup and a place to a complete data directory: what `restore` and `backup-fetch` have in common.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::destination::Destination;
use super::existing::{ExistingData, Proof};
use super::fetch::{Fetch, Found};
use super::filling::{Contents, Filling, MapFile};
use super::lease::Leases;
use super::marker::Subject;
use super::needs::Amounts;
use super::settings::RecoverySettings;
use super::survey::{self, Survey};
use super::unarchived::{self, UnarchivedWal};
use super::{fetch, prune};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::repository::{Manifest, Repository, TablespaceEntry, WalArchive};
use crate::{step, task};

/// A backup, and where its files go.
pub struct Job<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// The backup.
    pub manifest: Arc<Manifest>,
    /// The data directory.
    pub destination: &'a Path,
    /// What the data directory is before.
    pub onto: Onto,
    /// Where tablespaces go that are not to go where they were (in place: where they are), by number.
    pub tablespaces: &'a BTreeMap<u32, PathBuf>,
    /// How long after its condemnation a backup is deleted at the earliest.
    pub grace: Duration,
}

/// What a restore finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Onto {
    /// Nothing: the data directory is new, empty, or left by an interrupted restore.
    Nothing,
    /// A data directory of the same cluster, of which is used what is right (R6).
    Existing {
        /// What to do with WAL that was not archived.
        unarchived: UnarchivedWal,
        /// Directories that belong to walrs by configuration, wherever they lie.
        own: Vec<PathBuf>,
    },
}

/// A job whose file list is sound and whose directories may be filled. Nothing has been changed yet.
pub struct Ready<'a> {
    job: Job<'a>,
    survey: Survey,
    place: Place,
    /// By number; only those that links lead to.
    locations: BTreeMap<u32, PathBuf>,
}

/// Where the files go.
enum Place {
    New(Destination),
    Existing(Box<ExistingData>),
}

/// A complete data directory.
#[derive(Debug)]
pub struct Filled {
    /// The data directory.
    pub data: PathBuf,
    /// The directories of its tablespaces, by number.
    pub tablespaces: BTreeMap<u32, PathBuf>,
    /// What was read and written for it.
    pub amounts: Amounts,
}

impl<'a> Job<'a> {
    /// Reads the whole file list, and looks at the directories (R2, R6).
    pub async fn inspect(self) -> Result<Ready<'a>> {
        let survey = survey::survey(self.repository, &self.manifest).await?;
        let places = locations(&survey.tablespaces, self.tablespaces)?;
        let (place, locations) = match self.onto.clone() {
            Onto::Nothing => {
                let (data, locations) = (self.destination.to_owned(), places.clone());
                let found = task::blocking(move || Destination::inspect(&data, &places)).await?;
                (Place::New(found), locations)
            }
            Onto::Existing { unarchived, .. } => {
                let existing = self.inspect_existing(&survey, unarchived).await?;
                let locations = existing.links.clone();
                (Place::Existing(Box::new(existing)), locations)
            }
        };
        Ok(Ready { job: self, survey, place, locations })
    }

    async fn inspect_existing(
        &self,
        survey: &Survey,
        unarchived: UnarchivedWal,
    ) -> Result<ExistingData> {
        let (data, mapping) = (self.destination.to_owned(), self.tablespaces.clone());
        let listed = survey.tablespaces.clone();
        let existing =
            task::blocking(move || ExistingData::inspect(&data, &listed, &mapping)).await?;
        existing.require_cluster(&Subject::from(&*self.manifest))?;
        // Where the control file is gone, the restore that was interrupted has asked already.
        if let (Proof::Control(control), UnarchivedWal::Kept) = (&existing.proof, unarchived) {
            let archive = WalArchive::of(self.repository, control.system_identifier)?;
            unarchived::refuse(&existing.data, control, &archive).await?;
        }
        Ok(existing)
    }

    /// The map of the tablespaces is true only where all of them are links to where they were.
    fn map_file(&self, survey: &Survey, locations: &BTreeMap<u32, PathBuf>) -> Result<MapFile> {
        let map = &self.manifest.tablespace_map;
        if map.is_empty() || names_in_place(map) {
            return Ok(MapFile::LeftOut);
        }
        for entry in &survey.tablespaces {
            if locations.get(&entry.oid()?) != Some(&entry.target_path()?) {
                return Ok(MapFile::LeftOut);
            }
        }
        Ok(MapFile::Written)
    }
}

impl Ready<'_> {
    /// Where the data directory will be.
    pub fn data(&self) -> &Path {
        match &self.place {
            Place::New(destination) => destination.data(),
            Place::Existing(existing) => &existing.data,
        }
    }

    /// Where the tablespaces will be, by number.
    pub fn tablespaces(&self) -> &BTreeMap<u32, PathBuf> {
        &self.locations
    }

    /// Where tablespaces are now that go elsewhere, by number: nothing there is touched.
    pub fn abandoned_tablespaces(&self) -> BTreeMap<u32, PathBuf> {
        match &self.place {
            Place::New(_) => BTreeMap::new(),
            Place::Existing(existing) => existing.abandoned.clone(),
        }
    }

    /// What filling would read and write; in place, every block that is there is read for it. Changes nothing.
    pub async fn estimate(&self, progress: &dyn Progress) -> Result<Amounts> {
        let tree = match &self.place {
            Place::New(_) => None,
            Place::Existing(existing) => Some(Arc::new(existing.look()?)),
        };
        progress.begin("planning", self.job.manifest.bytes);
        let estimated =
            fetch::estimate(self.job.repository, &self.job.manifest, tree.as_ref(), progress).await;
        progress.end();
        estimated
    }

    /// Fills the directories, with the settings of a recovery when there are any.
    ///
    /// An error, a killed process or a dropped future leaves a directory that no server starts from and that the next
    /// run takes over.
    pub async fn fill(
        self,
        recovery: Option<RecoverySettings>,
        progress: &dyn Progress,
    ) -> Result<Filled> {
        step::reached("restore:chosen");
        let (repository, manifest) = (self.job.repository, &self.job.manifest);
        let leases = Leases::take(repository, manifest, self.job.grace).await?;
        step::reached("restore:begin");
        let found = match &self.place {
            Place::New(_) => Found::Nothing,
            Place::Existing(_) => Found::Reused,
        };
        let contents = Contents {
            map: self.job.map_file(&self.survey, &self.locations)?,
            survey: self.survey,
            manifest: Arc::clone(manifest),
            locations: self.locations.clone(),
            recovery,
            found,
        };
        let filling = begin(&self.job, self.place, contents).await?;
        progress.begin("restoring", manifest.bytes);
        let fetch = Fetch::new(repository, manifest, filling.tree(), found, progress);
        let fetched = tokio::select! {
            fetched = fetch.run() => fetched,
            () = leases.keep() => Err(Error::bug("a lease was renewed for the last time")),
        };
        progress.end();
        let amounts = fetched?;
        step::reached("restore:files");
        let data = task::blocking(move || filling.complete()).await?;
        Ok(Filled { data, tablespaces: self.locations, amounts })
    }
}

/// Makes the directories ready: after this they hold nothing that the backup does not have.
async fn begin(job: &Job<'_>, place: Place, contents: Contents) -> Result<Filling> {
    let existing = match place {
        Place::New(destination) => {
            return task::blocking(move || Filling::begin(destination, contents)).await;
        }
        Place::Existing(existing) => existing,
    };
    let subject = Subject::from(&*job.manifest);
    let prepared = task::blocking(move || existing.take_over(subject)).await?;
    let own = match &job.onto {
        Onto::Nothing => Vec::new(),
        Onto::Existing { own, .. } => own.clone(),
    };
    let removed =
        prune::remove_unlisted(job.repository, &job.manifest, &prepared.tree, own).await?;
    tracing::info!(removed, "removed what the backup does not have");
    step::reached("restore:unlisted-removed");
    task::blocking(move || Filling::in_prepared(prepared, contents)).await
}

/// Where every linked tablespace goes.
fn locations(
    listed: &[TablespaceEntry],
    mapping: &BTreeMap<u32, PathBuf>,
) -> Result<BTreeMap<u32, PathBuf>> {
    let mut locations = BTreeMap::new();
    for entry in listed {
        let number = entry.oid()?;
        let mapped = mapping.get(&number).cloned();
        locations.insert(number, mapped.map_or_else(|| entry.target_path(), Ok)?);
    }
    match mapping.keys().find(|number| !locations.contains_key(number)) {
        None => Ok(locations),
        Some(unknown) => Err(no_such_tablespace(*unknown, &locations)),
    }
}

fn no_such_tablespace(number: u32, locations: &BTreeMap<u32, PathBuf>) -> Error {
    let what = format!("the backup has no tablespace {number} outside its data directory");
    let known: Vec<_> = locations.keys().map(u32::to_string).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Error::usage(what).because(format!("it has: {known}"))
}

/// Whether the map names a tablespace inside `pg_tblspc`, which 16 and later write there and cannot read back.
fn names_in_place(map: &[u8]) -> bool {
    let lines = map.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut paths = lines.filter_map(|line| line.splitn(2, |byte| *byte == b' ').nth(1));
    paths.any(|path| !path.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_left_out_where_the_server_could_not_read_it() {
        assert!(!names_in_place(b"16384 /srv/fast disk\n16385 /srv/slow\n"));
        assert!(names_in_place(b"16384 /srv/fast\n16385 pg_tblspc/16385\n"));
    }
}
