//! `wal-push`: one file of `pg_wal` into the repository, and success only when exactly its bytes are durable there.
//!
//! Owns the order: check, mark, seal, put, acknowledge; what must be stored before a file of another timeline (W12, and
//! the ancestors' segments before a history); what is stored ahead; and when a first push may make a repository. Nothing
//! here writes to `pg_wal` or `archive_status` (W3).

mod ahead;
mod ancestors;
mod creation;
mod mark;
mod timeline;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tokio::sync::watch;

use self::ahead::LookAhead;
use self::mark::Marks;
use super::local_file::{CheckedFile, LocalFile};
use super::place::Place;
use super::spool::{Binding, Meant};
use crate::budget::{Budget, Reservation};
use crate::config::{EncryptionSettings, Settings};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::postgres::{ControlFile, ExpectedCluster, TimelineId, WalFileName};
use crate::repository::{Creation, Repository, SealedWal, Site, WalArchive};
use crate::step;

/// What the files that are sealed and sent at the same time may take in memory, in bytes.
const MEMORY_BYTES: u32 = 32 << 20;

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

/// What is known of a file before its repository is opened.
#[derive(Debug)]
pub enum Examined {
    /// An earlier call stored exactly this file, and left a mark (W11).
    StoredAhead,
    /// It is to be archived.
    ToArchive(Box<Candidate>),
}

impl Candidate {
    /// Opens and checks the file at `path`, PostgreSQL's `%p`, without asking the network for anything (W7), and looks
    /// whether it was stored ahead; blocking.
    pub fn examine(path: &Path, meant: Meant<'_>) -> Result<Examined> {
        let settings = meant.settings;
        refuse_passphrase(&settings.encryption)?;
        step::reached("wal-push:check");
        let place = Place::around(path, settings.pgdata.as_deref(), settings.spool.as_deref())?;
        let file = LocalFile::open(path)?;
        let cannot = |error: Error| error.context(cannot_archive(file.name()));
        let identity = identify(&file, &place).map_err(cannot)?;
        let checked = file.clone().check(&identity.cluster()).map_err(cannot)?;
        let candidate = Self { file: checked, place, identity };
        step::reached("wal-push:checked");
        match candidate.was_stored_ahead(meant) {
            true => Ok(Examined::StoredAhead),
            false => Ok(Examined::ToArchive(Box::new(candidate))),
        }
    }

    /// A mark is used once: it goes before success is told. Whatever keeps a mark from being read only costs a put.
    fn was_stored_ahead(&self, meant: Meant<'_>) -> bool {
        let used = self.use_mark(meant).unwrap_or_else(|error| {
            tracing::debug!(%error, "the marks of files stored ahead cannot be used");
            false
        });
        if used {
            tracing::info!(file = %self.file.name(), "was stored ahead");
            step::reached("wal-push:mark-used");
        }
        used
    }

    fn use_mark(&self, meant: Meant<'_>) -> Result<bool> {
        let Some(site) = self.place.site() else { return Ok(false) };
        let cluster = self.identity.cluster().system_identifier;
        let Some(binding) = Binding::by_witness(site, meant, cluster)? else { return Ok(false) };
        let Some(marks) = Marks::of(site, binding) else { return Ok(false) };
        let proven = marks.prove(&self.file)?;
        if proven {
            marks.remove(self.file.name())?;
        }
        Ok(proven)
    }

    /// The local places of the file's data directory.
    pub fn site(&self) -> Option<&Site> {
        self.place.site()
    }

    /// Whether this push may make a repository where there is none.
    pub fn creation(&self) -> Creation {
        creation::decide(&self.file, &self.identity, self.place.site())
    }

    /// Archives the file, and what PostgreSQL will ask for next beside it; `opening` opens its repository.
    ///
    /// Gives up at `deadline` (W8). Only the file that was asked for decides the result.
    pub async fn archive(
        &self,
        opening: impl Future<Output = Result<Repository>>,
        settings: &Settings,
        deadline: Deadline,
    ) -> Result<()> {
        let ended = self.archive_in_time(opening, settings, deadline).await;
        ended.map_err(|error| error.context(cannot_archive(self.file.name())))?;
        step::reached("wal-push:acknowledged");
        Ok(())
    }

    async fn archive_in_time(
        &self,
        opening: impl Future<Output = Result<Repository>>,
        settings: &Settings,
        deadline: Deadline,
    ) -> Result<()> {
        let repository = in_time(deadline, opening).await?;
        let directory = self.file.local().directory();
        let archiver = Archiver::new(&repository, &self.identity.cluster(), directory)?;
        // Taken before anything else can hold memory while it waits for this file.
        let allowance = archiver.allowance(&self.file).await;
        let asked = in_time(deadline, archiver.archive(&self.file, allowance));
        match LookAhead::beside(&self.file, &archiver, self.place.site(), settings)? {
            Some(ahead) => ahead.accompany(asked, deadline).await,
            None => asked.await,
        }
    }
}

async fn in_time<T>(deadline: Deadline, work: impl Future<Output = Result<T>>) -> Result<T> {
    deadline.bound(work).await.unwrap_or_else(|passed| {
        Err(Error::unavailable("the store did not take it in time")
            .because(passed)
            .hint("PostgreSQL keeps the file and asks again; `wal.push_timeout` is the deadline"))
    })
}

/// Stores files of one `pg_wal` in one repository.
struct Archiver {
    archive: WalArchive,
    directory: PathBuf,
    /// What the files that are being sealed and sent may take in memory.
    budget: Budget,
    /// Timelines whose history was found in the repository, and to be this server's.
    proven: Mutex<BTreeSet<TimelineId>>,
    /// How far the file is that PostgreSQL asked for.
    stage_of_asked: watch::Sender<Stage>,
}

/// How far the asked file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// It gets the cores.
    Sealing,
    /// Neighbours may be sealed.
    Sending,
    /// Neighbours may be sent.
    Stored,
}

impl Archiver {
    /// Refuses a cluster that the repository does not know, or knows with other segments (C1).
    fn new(repository: &Repository, cluster: &ExpectedCluster, directory: &Path) -> Result<Self> {
        let archive = WalArchive::of(repository, cluster.system_identifier)?;
        if archive.expected() == *cluster {
            let (directory, budget) = (directory.to_owned(), Budget::of(MEMORY_BYTES));
            let (proven, stage_of_asked) = (Mutex::default(), watch::Sender::new(Stage::Sealing));
            return Ok(Self { archive, directory, budget, proven, stage_of_asked });
        }
        let (known, found) = (archive.segment_size(), cluster.segment_size);
        Err(Error::refused(format!(
            "the repository knows the cluster `{}` with segments of {known}, not of {found}",
            cluster.system_identifier
        ))
        .hint("after `pg_resetwal --wal-segsize` its WAL goes into a new repository"))
    }

    /// Waits for the memory that archiving `file` may take.
    ///
    /// The object of a file is seldom larger than the file, and what is above [`IN_MEMORY_BYTES`] goes alone. A history
    /// may bring segments of its ancestors.
    async fn allowance(&self, file: &CheckedFile) -> Reservation {
        let bytes = match file.name() {
            WalFileName::History(_) => self.archive.segment_size().bytes(),
            _ => file.length(),
        };
        self.budget.reserve(bytes).await
    }

    /// Archives the asked file and, first, what must be in the repository before it.
    async fn archive(&self, file: &CheckedFile, mut allowance: Reservation) -> Result<()> {
        self.archive_what_precedes(file).await?;
        let sealed = self.seal(file).await?;
        if let Some(held) = sealed.held_bytes() {
            allowance.shrink_to(held);
        }
        self.stage_of_asked.send_replace(Stage::Sending);
        step::reached("wal-push:sealed");
        self.put(file, &sealed).await?;
        step::reached("wal-push:stored");
        self.stage_of_asked.send_replace(Stage::Stored);
        Ok(())
    }

    /// What must be in the repository before `file`: the ancestors' WAL before a history, a history before its WAL.
    async fn archive_what_precedes(&self, file: &CheckedFile) -> Result<()> {
        match file.name() {
            WalFileName::History(timeline) => self.archive_ancestors_of(timeline, file).await,
            name if name.timeline() == TimelineId::FIRST => Ok(()),
            name => self.require_history(name.timeline()).await,
        }
    }

    /// Stores one file that the asked one needs, create-only; durable on return (W1, W4).
    async fn archive_one(&self, file: &CheckedFile) -> Result<()> {
        let sealed = self.seal(file).await?;
        self.put(file, &sealed).await?;
        step::reached("wal-push:stored");
        Ok(())
    }

    async fn seal(&self, file: &CheckedFile) -> Result<SealedWal> {
        let sealed = self.archive.seal(file.name(), file.content()).await;
        // What was read is sealed now: the file must not have changed under the reading.
        file.ensure_unchanged().await?;
        sealed
    }

    async fn put(&self, file: &CheckedFile, sealed: &SealedWal) -> Result<()> {
        let storing = self.archive.put(sealed).await?;
        let bytes = sealed.content().raw_length;
        tracing::info!(file = %file.name(), bytes, ?storing, "archived");
        Ok(())
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
