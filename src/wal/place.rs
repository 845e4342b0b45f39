//! Which data directory a WAL command works for, and what is kept beside it.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::postgres::{CONTROL_FILE, ControlFile};
use crate::repository::Site;

/// The data directory around a file of `pg_wal`, as far as it can be told.
#[derive(Debug)]
pub(super) struct Place {
    data_directory: Option<PathBuf>,
    certainty: Certainty,
    site: Option<Site>,
}

/// How sure it is that the file belongs to the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certainty {
    /// The file lies in it, or the command runs in it.
    Seen,
    /// It is only what the configuration names.
    Assumed,
}

impl Place {
    /// The place of `file`: the data directory it lies in, else the working directory, else the configured one.
    ///
    /// What lies closest to the file wins: PostgreSQL runs its commands in its data directory, while a variable may
    /// have been left over from another cluster.
    pub(super) fn around(
        file: &Path,
        configured: Option<&Path>,
        spool: Option<&Path>,
    ) -> Result<Self> {
        let mut seen = directories_above(file);
        seen.push(PathBuf::from("."));
        let data_directory = seen.into_iter().find(|path| path.join(CONTROL_FILE).exists());
        let certainty = if data_directory.is_some() { Certainty::Seen } else { Certainty::Assumed };
        // A configured directory is where the witness lies even when its `pg_control` cannot be seen.
        let configured = configured.filter(|path| path.is_dir()).map(Path::to_owned);
        let named = configured.clone().filter(|path| path.join(CONTROL_FILE).exists());
        let data_directory = data_directory.or(named);
        let site = match data_directory.clone().or(configured) {
            Some(directory) => Some(Site::locate(&directory, spool)?),
            None => None,
        };
        Ok(Self { data_directory, certainty, site })
    }

    /// The local places of the data directory.
    pub(super) fn site(&self) -> Option<&Site> {
        self.site.as_ref()
    }

    /// How sure it is that the file belongs to the data directory.
    pub(super) fn certainty(&self) -> Certainty {
        self.certainty
    }

    /// What its `pg_control` says; `None` where there is none.
    pub(super) fn control(&self) -> Result<Option<ControlFile>> {
        self.data_directory.as_deref().map(ControlFile::read).transpose()
    }
}

/// The directories that hold the file's directory, by the path as given and by where links lead.
fn directories_above(file: &Path) -> Vec<PathBuf> {
    let directory = directory_of(file);
    let given = directory.parent().map(|parent| match parent.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => parent.to_owned(),
    });
    let real = directory.canonicalize().ok().and_then(|real| real.parent().map(Path::to_owned));
    given.into_iter().chain(real).collect()
}

/// The directory in which a file lies.
pub(super) fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
