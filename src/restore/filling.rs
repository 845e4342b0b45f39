//! Filling a directory, in the order that keeps a killed restore from being started (R3): marker, directories, files
//! (each synced), links, labels, settings and signal file, all directories synced, and the control file renamed into
//! place last. Without `global/pg_control` no server starts.
//!
//! In place, what `takeover.rs` and `prune.rs` do comes before the directories.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::beneath::Syncing;
use super::destination::{Destination, Prepared};
use super::fetch::Found;
use super::marker::Subject;
use super::settings::{RecoverySettings, SETTINGS_FILE};
use super::survey::Survey;
use super::tree::{Tree, former_control_file, pending_control_file};
use super::{local, marker};
use crate::durable::{self, Existing};
use crate::error::{Error, Result};
use crate::postgres::{CONTROL_FILE, ControlFile};
use crate::repository::{ListedPath, Manifest};
use crate::step;

/// What makes a server replay from the start of a backup.
pub(super) const BACKUP_LABEL: &str = "backup_label";
/// Where a server finds the tablespaces of a backup.
pub(super) const TABLESPACE_MAP: &str = "tablespace_map";

const SETTINGS_BYTES: u64 = 64 << 20;
const CONTROL_FILE_BYTES: u64 = 64 << 10;

/// What is put into the directories, besides the content of files.
pub(super) struct Contents {
    pub(super) survey: Survey,
    pub(super) manifest: Arc<Manifest>,
    /// Where the tablespaces lie, by number.
    pub(super) locations: BTreeMap<u32, PathBuf>,
    pub(super) map: MapFile,
    pub(super) recovery: Option<RecoverySettings>,
    pub(super) found: Found,
}

/// Whether `tablespace_map` is true of the restored tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MapFile {
    /// As PostgreSQL returned it.
    Written,
    /// It says nothing that the links do not, and with it the server would put back links that lead elsewhere now.
    LeftOut,
}

/// Directories between their marker and their control file.
pub(super) struct Filling {
    prepared: Prepared,
    contents: Contents,
}

impl Filling {
    /// Makes empty directories ready, and those in them.
    pub(super) fn begin(destination: Destination, contents: Contents) -> Result<Self> {
        let prepared = destination.prepare(Subject::from(&*contents.manifest))?;
        step::reached("restore:marker");
        Self::in_prepared(prepared, contents)
    }

    /// Makes the directories in those that are ready.
    pub(super) fn in_prepared(prepared: Prepared, contents: Contents) -> Result<Self> {
        let filling = Self { prepared, contents };
        let directories = &filling.contents.survey.directories;
        directories.iter().try_for_each(|entry| filling.tree().create_directory(entry))?;
        step::reached("restore:tree");
        Ok(filling)
    }

    /// Where the files go.
    pub(super) fn tree(&self) -> &Arc<Tree> {
        &self.prepared.tree
    }

    /// Everything after the files; returns the complete data directory.
    pub(super) fn complete(self) -> Result<PathBuf> {
        self.make_links()?;
        step::reached("restore:links");
        self.write_labels()?;
        step::reached("restore:labels");
        self.write_settings()?;
        step::reached("restore:settings");
        self.settle_directories()?;
        step::reached("restore:directories");
        self.publish_control_file()?;
        step::reached("restore:control");
        self.remove_markers()?;
        step::reached("restore:done");
        Ok(self.tree().data().path().to_owned())
    }

    fn make_links(&self) -> Result<()> {
        let data = self.tree().data();
        for entry in &self.contents.survey.tablespaces {
            let (path, target) =
                (entry.path.to_relative(), &self.contents.locations[&entry.oid()?]);
            data.set_link(path, target).map_err(|error| {
                Error::io(
                    format!("cannot create the link `{}`", data.path().join(path).display()),
                    error,
                )
            })?;
        }
        Ok(())
    }

    /// The label makes the server replay from the backup's start.
    fn write_labels(&self) -> Result<()> {
        self.write(BACKUP_LABEL, &self.contents.manifest.backup_label)?;
        match self.contents.map {
            MapFile::Written => self.write(TABLESPACE_MAP, &self.contents.manifest.tablespace_map),
            MapFile::LeftOut => Ok(()),
        }
    }

    fn write_settings(&self) -> Result<()> {
        let Some(recovery) = &self.contents.recovery else { return Ok(()) };
        let path = self.tree().data().path().join(SETTINGS_FILE);
        let existing = match local::read_small(&path, SETTINGS_BYTES) {
            Ok(existing) => existing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                return Err(Error::io(format!("cannot read `{}`", path.display()), error));
            }
        };
        let (data, mode) = (self.tree().data(), self.file_mode());
        local::write(
            data,
            SETTINGS_FILE,
            &recovery.applied_to(&existing),
            mode,
            Existing::Replace,
        )?;
        self.write(recovery.signal_file(), b"")
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        local::write(self.tree().data(), name, bytes, self.file_mode(), Existing::Keep)
    }

    /// Readable for the group where the data directory is, as the server does it.
    fn file_mode(&self) -> u32 {
        let root =
            self.contents.survey.directories.iter().find(|entry| entry.path == ListedPath::root());
        if root.is_some_and(|root| root.mode & 0o040 != 0) { 0o640 } else { 0o600 }
    }

    fn settle_directories(&self) -> Result<()> {
        let (tree, survey) = (self.tree(), &self.contents.survey);
        let syncing = match self.contents.found {
            Found::Nothing => Syncing::Each,
            Found::Reused => Syncing::in_place(),
        };
        let mut directories = survey.directories.iter();
        directories.try_for_each(|entry| tree.settle_directory(entry, syncing))?;
        let mut tablespaces = survey.tablespaces.iter();
        tablespaces.try_for_each(|entry| tree.settle_tablespace(entry, syncing))?;
        match syncing {
            Syncing::Each => Ok(()),
            Syncing::Together => tree.sync_file_systems(),
        }
    }

    fn publish_control_file(&self) -> Result<()> {
        let data = self.tree().data().path();
        let (pending, control) = (data.join(pending_control_file()), data.join(CONTROL_FILE));
        let failed =
            |error| Error::io(format!("cannot put `{}` in its place", control.display()), error);
        self.check_control_file(&local::read_small(&pending, CONTROL_FILE_BYTES).map_err(failed)?)?;
        durable::rename(&pending, &control, Existing::Keep).map_err(failed)?;
        durable::sync_parent(&control).map_err(failed)
    }

    fn check_control_file(&self, bytes: &[u8]) -> Result<()> {
        let malformed =
            || Error::damaged(format!("the restored `{CONTROL_FILE}` is not the backup's"));
        let control = ControlFile::parse(bytes).map_err(|defect| malformed().because(defect))?;
        if control.system_identifier == self.contents.manifest.system_identifier {
            return Ok(());
        }
        Err(malformed().because(format!("it is of cluster {}", control.system_identifier)))
    }

    fn remove_markers(&self) -> Result<()> {
        let former = self.tree().data().path().join(former_control_file());
        if self.contents.found == Found::Reused && marker::exists(&former)? {
            remove(&former)?;
        }
        let tablespaces = self.tree().tablespaces().map(|(_, directory)| directory);
        // The data directory's goes last: it is what makes the others count.
        for directory in tablespaces.chain([self.tree().data()]) {
            remove(&marker::path_in(directory.path()))?;
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<()> {
    let removed = std::fs::remove_file(path).and_then(|()| durable::sync_parent(path));
    removed.map_err(|error| Error::io(format!("cannot remove `{}`", path.display()), error))
}
