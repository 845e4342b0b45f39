//! `wal-push`: one file of `pg_wal` into the repository, and success only when exactly its bytes are durable there.
//!
//! Owns the order: check, seal, put, acknowledge; what must be stored before a file of another timeline (W12, and the
//! ancestors' segments before a history); and when a first push may make a repository. Nothing here writes to `pg_wal`
//! or `archive_status` (W3).

mod ancestors;
mod creation;
mod timeline;

use std::future::Future;
use std::path::{Path, PathBuf};

use super::local_file::{CheckedFile, LocalFile};
use super::place::Place;
use crate::config::{EncryptionSettings, Settings};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::postgres::{ControlFile, ExpectedCluster, TimelineId, WalFileName};
use crate::repository::{Creation, Repository, Site, Storing, WalArchive};
use crate::{step, task};

/// A file that PostgreSQL asked to archive, checked as far as this host can tell.
#[derive(Debug)]
pub struct Candidate {
    file: CheckedFile,
    place: Place,
    identity: Identity,
}

/// How the cluster of the file is known.
#[derive(Debug)]
enum Identity {
    /// From its `pg_control`.
    Control(ControlFile),
    /// From the segment's own header, which is good enough only for a cluster that the repository knows already.
    Header(ExpectedCluster),
}

impl Identity {
    fn cluster(&self) -> ExpectedCluster {
        match self {
            Self::Control(control) => control.cluster(),
            Self::Header(cluster) => *cluster,
        }
    }
}

impl Candidate {
    /// Opens and checks the file at `path`, PostgreSQL's `%p`, without asking the network for anything (W7).
    ///
    /// Gives up at `deadline`, even on a disk that does not answer (W8).
    pub async fn examine(path: PathBuf, settings: &Settings, deadline: Deadline) -> Result<Self> {
        refuse_passphrase(&settings.encryption)?;
        step::reached("wal-push:check");
        let (pgdata, spool) = (settings.pgdata.clone(), settings.spool.clone());
        let examined = task::blocking(move || {
            let place = Place::around(&path, pgdata.as_deref(), spool.as_deref())?;
            Self::examine_now(&path, place)
        });
        let candidate = deadline.bound(examined).await.unwrap_or_else(|passed| {
            Err(Error::unavailable("the local disk did not answer in time").because(passed))
        })?;
        step::reached("wal-push:checked");
        Ok(candidate)
    }

    fn examine_now(path: &Path, place: Place) -> Result<Self> {
        let file = LocalFile::open(path)?;
        let cannot = |error: Error| error.context(cannot_archive(file.name()));
        let identity = identify(&file, &place).map_err(cannot)?;
        let checked = file.clone().check(&identity.cluster()).map_err(cannot)?;
        Ok(Self { file: checked, place, identity })
    }

    /// The local places of the file's data directory.
    pub fn site(&self) -> Option<&Site> {
        self.place.site()
    }

    /// Whether this push may make a repository where there is none.
    pub fn creation(&self) -> Creation {
        creation::decide(&self.file, &self.identity, self.place.site())
    }

    /// Archives the file; `opening` opens its repository. Gives up at `deadline` (W8).
    pub async fn archive(
        &self,
        opening: impl Future<Output = Result<Repository>>,
        deadline: Deadline,
    ) -> Result<()> {
        let work = async {
            let repository = opening.await?;
            Archiver::new(&repository, &self.identity.cluster(), self.file.local().directory())?
                .archive(&self.file)
                .await
        };
        let ended = deadline.bound(work).await.unwrap_or_else(|passed| {
            Err(Error::unavailable("the store did not take it in time").because(passed).hint(
                "PostgreSQL keeps the file and asks again; `wal.push_timeout` is the deadline",
            ))
        });
        ended.map_err(|error| error.context(cannot_archive(self.file.name())))?;
        step::reached("wal-push:acknowledged");
        Ok(())
    }
}

/// Stores files of one `pg_wal` in one repository.
struct Archiver {
    archive: WalArchive,
    directory: PathBuf,
}

impl Archiver {
    /// Refuses a cluster that the repository does not know, or knows with other segments (C1).
    fn new(repository: &Repository, cluster: &ExpectedCluster, directory: &Path) -> Result<Self> {
        let archive = WalArchive::of(repository, cluster.system_identifier)?;
        if archive.expected() == *cluster {
            return Ok(Self { archive, directory: directory.to_owned() });
        }
        let (known, found) = (archive.segment_size(), cluster.segment_size);
        Err(Error::refused(format!(
            "the repository knows the cluster `{}` with segments of {known}, not of {found}",
            cluster.system_identifier
        ))
        .hint("after `pg_resetwal --wal-segsize` its WAL goes into a new repository"))
    }

    /// Archives a file and, first, what must be in the repository before it.
    async fn archive(&self, file: &CheckedFile) -> Result<()> {
        match file.name() {
            WalFileName::History(timeline) => self.archive_history(timeline, file).await,
            name => {
                if name.timeline() != TimelineId::FIRST {
                    self.require_history(name.timeline()).await?;
                }
                self.archive_one(file).await.map(drop)
            }
        }
    }

    /// Stores one file, create-only; durable on return (W1, W4). Neighbours of the asked file may go the same way.
    async fn archive_one(&self, file: &CheckedFile) -> Result<Storing> {
        let sealed = self.archive.seal(file.name(), file.content().await?).await?;
        // What was read is sealed now: the file must not have changed under the reading.
        file.ensure_unchanged().await?;
        step::reached("wal-push:hashed");
        let storing = self.archive.put(&sealed).await?;
        step::reached("wal-push:stored");
        let bytes = sealed.content().raw_length;
        tracing::info!(file = %file.name(), bytes, ?storing, "archived");
        Ok(storing)
    }
}

fn identify(file: &LocalFile, place: &Place) -> Result<Identity> {
    let read = place.control();
    if let Ok(Some(control)) = read {
        return Ok(Identity::Control(control));
    }
    if let Err(error) = &read {
        tracing::warn!(%error, "the cluster is told by the segment's own header");
    }
    match file.name() {
        WalFileName::Segment(_) | WalFileName::Partial(_) => {
            Ok(Identity::Header(file.long_header()?.cluster()))
        }
        WalFileName::History(_) | WalFileName::BackupLabel { .. } => {
            let unknown = Error::usage("the cluster that it belongs to cannot be told")
                .hint("set `PGDATA` to the data directory, or run in it as PostgreSQL does");
            Err(match read {
                Err(error) => unknown.because(error),
                Ok(_) => unknown,
            })
        }
    }
}

/// A passphrase is slow on purpose, and PostgreSQL starts one process per segment.
fn refuse_passphrase(encryption: &EncryptionSettings) -> Result<()> {
    let EncryptionSettings { key_file, key_command, passphrase_file } = encryption;
    if passphrase_file.is_none() || key_file.is_some() || key_command.is_some() {
        return Ok(());
    }
    Err(Error::usage("only a passphrase is configured, which is too slow for archiving")
        .hint("set `encryption.key_file`; `walrs key add --new-key-file FILE` makes one"))
}

fn cannot_archive(name: WalFileName) -> String {
    format!("cannot archive `{name}`")
}
