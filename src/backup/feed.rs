//! What earlier backups hold, told in the order of the walk: the parent's file list, and the packs of interrupted
//! backups by what their indexes say.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::warn;

use super::known::Layer;
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{CONTROL_FILE, SystemIdentifier};
use crate::repository::{
    Entry, Extent, ExtentSource, FileEntry, FileListPart, ListedPath, Manifest, PackIndex,
    PackReference, Repository, read_index,
};
use crate::task;

/// Batches that wait for the walk.
const BATCHES_WAITING: usize = 2;
/// A batch holds at most this many files, and ends with the one that brings it to as many extents.
const BATCH_FILES: usize = 512;
const BATCH_EXTENTS: usize = 4096;

/// What one earlier backup holds of a file.
#[derive(Debug)]
pub(super) struct FedFile {
    /// The file.
    pub(super) path: ListedPath,
    /// Where its blocks lie.
    pub(super) extents: Layer,
    /// The parent's line without its extents; interrupted backups have none.
    pub(super) entry: Option<Box<FileEntry>>,
}

/// What a feed says: its end is a message, so that one that broke off is never taken for a short one.
enum Said {
    Files(Vec<FedFile>),
    End,
}

/// The files of one earlier backup, in the order of their paths.
pub(super) struct Feed {
    receiver: mpsc::Receiver<Result<Said>>,
    waiting: VecDeque<FedFile>,
    is_over: bool,
}

/// The tasks behind the feeds; dropping this ends them.
#[derive(Default)]
pub(super) struct Feeders(JoinSet<()>);

/// Packs of one interrupted backup, in the order of their numbers.
#[derive(Debug, Clone)]
pub(super) struct DeadPacks {
    pub(super) cluster: SystemIdentifier,
    /// With the index of each in the table of known packs.
    pub(super) packs: Vec<(u32, PackReference)>,
}

impl Feeders {
    /// The files of the parent.
    pub(super) fn parent(&mut self, repository: &Repository, manifest: &Arc<Manifest>) -> Feed {
        let (repository, manifest) = (repository.clone(), Arc::clone(manifest));
        self.feed(|sender| async move { feed_list(&repository, &manifest, &sender).await })
    }

    /// The files of an interrupted backup, as far as they lie in its packs.
    pub(super) fn dead(
        &mut self,
        repository: &Repository,
        dead: DeadPacks,
        budget: Budget,
    ) -> Feed {
        let repository = repository.clone();
        self.feed(|sender| async move { feed_packs(&repository, &dead, &budget, &sender).await })
    }

    fn feed<F>(&mut self, work: impl FnOnce(Sender) -> F) -> Feed
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(BATCHES_WAITING);
        let work = work(sender.clone());
        self.0.spawn(async move {
            let said = work.await.map(|()| Said::End);
            // Nobody listens any more when the walk needs nothing further.
            let _ = sender.send(said).await;
        });
        Feed { receiver, waiting: VecDeque::new(), is_over: false }
    }
}

impl Feed {
    /// What the earlier backup holds of `path`; the paths of successive calls must ascend. Blocking.
    pub(super) fn take(&mut self, path: &ListedPath) -> Result<Option<FedFile>> {
        loop {
            while let Some(next) = self.waiting.front() {
                match next.path.cmp(path) {
                    std::cmp::Ordering::Less => drop(self.waiting.pop_front()),
                    std::cmp::Ordering::Equal => return Ok(self.waiting.pop_front()),
                    std::cmp::Ordering::Greater => return Ok(None),
                }
            }
            if self.is_over {
                return Ok(None);
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> Result<()> {
        match self.receiver.blocking_recv() {
            Some(Ok(Said::Files(files))) => self.waiting.extend(files),
            Some(Ok(Said::End)) => self.is_over = true,
            Some(Err(error)) => return Err(error.context("cannot read an earlier backup")),
            None => return Err(Error::bug("the list of an earlier backup broke off")),
        }
        Ok(())
    }
}

type Sender = mpsc::Sender<Result<Said>>;

async fn send(sender: &Sender, files: Vec<FedFile>) -> Result<()> {
    let gone = |_| Error::unavailable("the backup was given up");
    if files.is_empty() { Ok(()) } else { sender.send(Ok(Said::Files(files))).await.map_err(gone) }
}

async fn feed_list(repository: &Repository, manifest: &Manifest, sender: &Sender) -> Result<()> {
    for part in &manifest.parts {
        let mut lines = FileListPart::read(repository, manifest, part).await?;
        while !lines.is_over() {
            let batch;
            (lines, batch) = task::blocking(move || {
                let batch = next_batch(&mut lines)?;
                Ok((lines, batch))
            })
            .await?;
            send(sender, batch).await?;
        }
    }
    Ok(())
}

fn next_batch(lines: &mut FileListPart) -> Result<Vec<FedFile>> {
    let (mut files, mut extents) = (Vec::new(), 0);
    while files.len() < BATCH_FILES && extents < BATCH_EXTENTS {
        let Some(entry) = lines.next().transpose()? else { break };
        let Entry::File(mut file) = entry else { continue };
        let layer: Layer = std::mem::take(&mut file.extents).into();
        extents += layer.len();
        let path = file.path.clone();
        files.push(FedFile { path, extents: layer, entry: Some(Box::new(file)) });
    }
    Ok(files)
}

/// A file may go on in the next pack, so the last one of each is kept back.
async fn feed_packs(
    repository: &Repository,
    dead: &DeadPacks,
    budget: &Budget,
    sender: &Sender,
) -> Result<()> {
    let mut last: Option<(ListedPath, Vec<Extent>)> = None;
    for (number, pack) in &dead.packs {
        let Some(extents) = extents_in(repository, dead.cluster, (*number, pack), budget).await?
        else {
            continue;
        };
        let files;
        (last, files) = task::blocking(move || {
            let mut files = Vec::new();
            for (path, extent) in extents {
                match &mut last {
                    Some((open, extents)) if *open == path => go_on(extents, extent),
                    _ => files.extend(last.replace((path, vec![extent])).map(fed)),
                }
            }
            Ok((last, files))
        })
        .await?;
        send(sender, files).await?;
    }
    send(sender, last.map(fed).into_iter().collect()).await
}

/// What a pack holds; none when it is damaged, for which no backup has to fail.
async fn extents_in(
    repository: &Repository,
    cluster: SystemIdentifier,
    (number, pack): (u32, &PackReference),
    budget: &Budget,
) -> Result<Option<Vec<(ListedPath, Extent)>>> {
    let read = async {
        let (_, index) = read_index(repository, cluster, pack, budget).await?;
        task::blocking(move || extents_of(&index, number)).await
    };
    match read.await {
        Err(error) if error.kind() == ErrorKind::Damaged => {
            warn!(why = error.chain(), "a pack of an interrupted backup is left out");
            Ok(None)
        }
        extents => extents.map(Some),
    }
}

/// The next extent of a file. A run that began anew, because identities of files lied, has stored the file twice: what
/// it stored last counts.
fn go_on(extents: &mut Vec<Extent>, next: Extent) {
    let reached = extents.last().map_or(0, |last| last.offset + last.length);
    if next.offset < reached {
        extents.clear();
    }
    extents.push(next);
}

fn fed((path, extents): (ListedPath, Vec<Extent>)) -> FedFile {
    FedFile { path, extents: extents.into(), entry: None }
}

/// What a pack holds, in the order of the walk: `pg_control`, which was read last, is left out.
fn extents_of(index: &[u8], pack: u32) -> Result<Vec<(ListedPath, Extent)>> {
    let extents = PackIndex::decode(index)?.extents.into_iter();
    let extents = extents.filter(|extent| extent.path != CONTROL_FILE.as_bytes());
    extents
        .map(|extent| {
            let (chunk, offset) = (extent.chunk, extent.offset);
            let source = ExtentSource::Pack { pack, chunk, offset };
            let path = ListedPath::new(extent.path)?;
            Ok((path, Extent { offset: extent.file_offset, length: extent.length, source }))
        })
        .collect()
}
