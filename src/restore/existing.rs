//! The data directory that a restore in place takes over: looked at, and refused, before anything changes (R6).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::beneath::Owner;
use super::destination::{
    failed, inspect_tablespace, names_in, owner_of_everything, refuse_overlap, require_parent,
    resolve,
};
use super::marker::{self, Into, Marker};
use crate::error::{Error, Result};
use crate::postgres::{
    CONTROL_FILE, ControlFile, POSTMASTER_PID, PostmasterPid, SystemIdentifier, TABLESPACE_LINKS,
};
use crate::repository::TablespaceEntry;

/// The directory of the write-ahead log, which may be a link.
pub(super) const WAL_DIRECTORY: &str = "pg_wal";

/// A data directory in which no server runs, with the places its links lead to.
#[derive(Debug)]
pub(super) struct ExistingData {
    pub(super) data: PathBuf,
    pub(super) owner: Owner,
    pub(super) proof: Proof,
    /// Where `pg_wal` leads, when it is a link.
    pub(super) wal: Option<PathBuf>,
    /// What the links of the backup's tablespaces say, or are to say, by number.
    pub(super) links: BTreeMap<u32, PathBuf>,
    /// The same places, resolved.
    pub(super) tablespaces: BTreeMap<u32, PathBuf>,
    /// Places that mapped tablespaces leave, with all that is in them.
    pub(super) abandoned: BTreeMap<u32, PathBuf>,
}

/// What says which cluster a data directory is.
#[derive(Debug)]
pub(super) enum Proof {
    /// Its own control file.
    Control(Box<ControlFile>),
    /// The marker of a restore in place that was interrupted after the control file was gone.
    Interrupted(Marker),
}

impl Proof {
    /// Looks at the data directory `data`, in which no server may run.
    pub(super) fn of(data: &Path) -> Result<Self> {
        if names_in(data)?.is_none() {
            return Err(no_cluster(data).because("it does not exist"));
        }
        refuse_server(data)?;
        if marker::exists(&data.join(CONTROL_FILE))? {
            let control = ControlFile::read(data).map_err(|error| no_cluster(data).because(error));
            return control.map(|control| Self::Control(Box::new(control)));
        }
        match Marker::read(data)? {
            Some(marker) if marker.into == Into::Existing => Ok(Self::Interrupted(marker)),
            Some(_) => Err(no_cluster(data)
                .because("it holds what an interrupted restore into a new directory left")
                .hint("run that restore again, without `--in-place`")),
            None => Err(no_cluster(data).because(format!(
                "it has no `{CONTROL_FILE}`, so nothing says which cluster it is"
            ))),
        }
    }

    /// The cluster.
    pub(super) fn cluster(&self) -> SystemIdentifier {
        match self {
            Self::Control(control) => control.system_identifier,
            Self::Interrupted(marker) => marker.system_identifier,
        }
    }

    /// The marker of the interrupted restore in place.
    pub(super) fn interrupted(&self) -> Option<&Marker> {
        match self {
            Self::Control(_) => None,
            Self::Interrupted(marker) => Some(marker),
        }
    }
}

/// The cluster of the data directory that a restore in place is to take over.
///
/// Refuses one in which a server runs, and one that nothing proves to be of any cluster.
pub fn cluster_in_place(data: &Path) -> Result<SystemIdentifier> {
    Ok(Proof::of(&resolve(data)?)?.cluster())
}

/// Refuses while the lock file of a server exists, dead or alive: after a crash, commits may live in the WAL alone.
pub(super) fn refuse_server(data: &Path) -> Result<()> {
    let Some(server) = PostmasterPid::read(data)? else { return Ok(()) };
    let refused = Error::refused(format!("`{}` is in use", data.display()));
    Err(if server.is_alive() {
        refused.because("a PostgreSQL server runs in it").hint("stop it cleanly first")
    } else {
        refused
            .because(format!("`{POSTMASTER_PID}` is there: the server was not stopped cleanly, or runs elsewhere"))
            .hint("start and stop it cleanly; if it cannot start, remove the file when no server runs")
    })
}

impl ExistingData {
    /// Looks at the data directory `data` for a backup with the tablespaces `listed`; changes nothing.
    pub(super) fn inspect(
        data: &Path,
        listed: &[TablespaceEntry],
        mapping: &BTreeMap<u32, PathBuf>,
    ) -> Result<Self> {
        let data = resolve(data)?;
        let proof = Proof::of(&data)?;
        let owner = owner_of_everything(&data)?;
        let wal = wal_link(&data)?;
        let (links, tablespaces, abandoned) = <_>::default();
        let mut existing = Self { data, owner, proof, wal, links, tablespaces, abandoned };
        for entry in listed {
            let number = entry.oid()?;
            existing.place_tablespace(entry, mapping.get(&number))?;
        }
        Ok(existing)
    }

    /// Existing links stay unless mapped; a tablespace without one goes where it was at the backup.
    fn place_tablespace(
        &mut self,
        entry: &TablespaceEntry,
        mapped: Option<&PathBuf>,
    ) -> Result<()> {
        let number = entry.oid()?;
        let present = link_of(&self.data, &Path::new(TABLESPACE_LINKS).join(number.to_string()))?;
        let stays = match (&present, mapped) {
            (Some(present), Some(mapped)) => resolve(present)? == resolve(mapped)?,
            (present, _) => present.is_some(),
        };
        let link = match (mapped, &present) {
            (Some(mapped), _) if !stays => mapped.clone(),
            (_, Some(present)) => present.clone(),
            _ => entry.target_path()?,
        };
        let directory = resolve(&link)?;
        refuse_overlap(number, &directory, &self.data, &self.tablespaces)?;
        if stays {
            require_place(number, &directory)?;
        } else {
            let interrupted = self.proof.interrupted();
            inspect_tablespace(number, &directory, &self.data, interrupted)?;
            self.abandoned.extend(present.map(|place| (number, place)));
        }
        self.links.insert(number, link);
        self.tablespaces.insert(number, directory);
        Ok(())
    }
}

/// The directory of a tablespace that stays may be missing, but not what holds it: that would be a disk.
fn require_place(number: u32, directory: &Path) -> Result<()> {
    match names_in(directory)? {
        Some(_) => Ok(()),
        None => require_parent(directory).map_err(|error| {
            error.hint(format!(
                "is the disk of tablespace {number} mounted? it may go elsewhere with `--tablespace {number}=DIR`"
            ))
        }),
    }
}

/// Where `pg_wal` leads, when it is a link: the link stays, and the directory is emptied.
fn wal_link(data: &Path) -> Result<Option<PathBuf>> {
    let Some(link) = link_of(data, Path::new(WAL_DIRECTORY))? else { return Ok(None) };
    let place = resolve(&link)?;
    let what = format!("`{}` cannot be used", data.join(WAL_DIRECTORY).display());
    let refused = || Error::refused(what).hint("make it a directory, or a link to one elsewhere");
    if names_in(&place)?.is_none() {
        let why = format!("its link leads to `{}`, which does not exist", link.display());
        return Err(refused().because(why).hint("is the disk mounted?"));
    }
    if place.starts_with(data) || data.starts_with(&place) {
        let why = format!("its link leads to `{}`, which holds more than WAL", link.display());
        return Err(refused().because(why));
    }
    Ok(Some(place))
}

/// What the link `path` in the data directory leads to, in absolute terms; none when it is missing or no link.
pub(super) fn link_of(data: &Path, path: &Path) -> Result<Option<PathBuf>> {
    let link = data.join(path);
    match std::fs::read_link(&link) {
        Ok(target) => Ok(Some(link.parent().unwrap_or(data).join(target))),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(failed("look at", &link, error)),
    }
}

fn no_cluster(data: &Path) -> Error {
    Error::refused(format!("`{}` cannot be restored in place", data.display()))
        .hint("restore into a new or empty directory, without `--in-place`")
}

#[cfg(test)]
#[path = "existing_tests.rs"]
mod tests;
