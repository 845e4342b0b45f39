//! From a backup and a place to a complete data directory: what `restore` and `backup-fetch` have in common.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::destination::Destination;
use super::fetch::Fetch;
use super::filling::{Contents, Filling, MapFile};
use super::lease::Leases;
use super::settings::RecoverySettings;
use super::survey::{self, Survey};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::repository::{Manifest, Repository, TablespaceEntry};
use crate::{step, task};

/// A backup, and where its files go.
pub struct Job<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// The backup.
    pub manifest: Arc<Manifest>,
    /// The data directory to make; new, empty, or left by an interrupted restore.
    pub destination: &'a Path,
    /// Where tablespaces go that are not to go where they were, by number.
    pub tablespaces: &'a BTreeMap<u32, PathBuf>,
    /// How long after its condemnation a backup is deleted at the earliest.
    pub grace: Duration,
}

/// A job whose file list is sound and whose directories may be filled. Nothing has been changed yet.
pub struct Ready<'a> {
    job: Job<'a>,
    survey: Survey,
    destination: Destination,
    /// By number; only those that links lead to.
    locations: BTreeMap<u32, PathBuf>,
}

/// A complete data directory.
#[derive(Debug)]
pub struct Filled {
    /// The data directory.
    pub data: PathBuf,
    /// The directories of its tablespaces, by number.
    pub tablespaces: BTreeMap<u32, PathBuf>,
}

impl<'a> Job<'a> {
    /// Reads the whole file list, and looks at the directories (R2).
    pub async fn inspect(self) -> Result<Ready<'a>> {
        let survey = survey::survey(self.repository, &self.manifest).await?;
        let locations = locations(&survey.tablespaces, self.tablespaces)?;
        let (data, places) = (self.destination.to_owned(), locations.clone());
        let destination = task::blocking(move || Destination::inspect(&data, &places)).await?;
        Ok(Ready { job: self, survey, destination, locations })
    }

    /// The map of the tablespaces is true only where all of them are links to where they were.
    fn map_file(&self) -> MapFile {
        let map = &self.manifest.tablespace_map;
        if map.is_empty() || !self.tablespaces.is_empty() || names_in_place(map) {
            MapFile::LeftOut
        } else {
            MapFile::Written
        }
    }
}

impl Ready<'_> {
    /// Where the data directory will be.
    pub fn data(&self) -> &Path {
        self.destination.data()
    }

    /// Where the tablespaces will be, by number.
    pub fn tablespaces(&self) -> &BTreeMap<u32, PathBuf> {
        &self.locations
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
        let contents = Contents {
            survey: self.survey,
            manifest: Arc::clone(manifest),
            locations: self.locations.clone(),
            map: self.job.map_file(),
            recovery,
        };
        let destination = self.destination;
        let filling = task::blocking(move || Filling::begin(destination, contents)).await?;
        progress.begin("restoring", manifest.bytes);
        let fetch = Fetch::new(repository, manifest, filling.tree(), progress);
        let fetched = tokio::select! {
            fetched = fetch.run() => fetched,
            () = leases.keep() => Err(Error::bug("a lease was renewed for the last time")),
        };
        progress.end();
        fetched?;
        step::reached("restore:files");
        let data = task::blocking(move || filling.complete()).await?;
        Ok(Filled { data, tablespaces: self.locations })
    }
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
