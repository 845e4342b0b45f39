//! Look-ahead: what PostgreSQL will ask for next is stored beside the file that it asked for.
//!
//! PostgreSQL starts one process for every file and waits for it, so the time that one answer of a store takes bounds
//! the rate, unless a process stores several. Nothing here decides the result of the asked file, and nothing is put
//! before that file is stored: if it is refused, because another cluster archives here, what comes after it must not get
//! in that cluster's way.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::mark::Marks;
use super::{Archiver, Stage};
use crate::config::Settings;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::postgres::{ExpectedCluster, SegmentName, WalFileName};
use crate::repository::{IN_MEMORY_BYTES, Site};
use crate::step;
use crate::task;
use crate::wal::local_file::{CheckedFile, LocalFile};
use crate::wal::spool::Binding;

/// How long the neighbours may keep PostgreSQL waiting after its file is stored, if that file took less.
const LEAST_PATIENCE: Duration = Duration::from_secs(2);

/// The neighbours of one asked file.
pub(super) struct LookAhead<'a> {
    archiver: &'a Archiver,
    marks: Marks,
    site: &'a Site,
    asked: WalFileName,
    limit: usize,
    /// Held while a neighbour is sealed, on several cores: so the first is ready first.
    sealing: Mutex<()>,
}

/// The neighbours that are to be stored, in the order in which PostgreSQL will ask for them.
#[derive(Debug, Default)]
struct Plan {
    files: Vec<CheckedFile>,
    /// Those that are stored already.
    marked: BTreeSet<SegmentName>,
}

/// Whether one neighbour waits for the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Nothing lies behind the asked file: the neighbours may overtake each other.
    Any,
    /// Somebody has stored later WAL. If it is another server's, the first difference must end it, as it would end
    /// the calls of PostgreSQL.
    OneByOne,
}

impl<'a> LookAhead<'a> {
    /// What is stored beside `asked`; none when that is switched off, where no mark can be left, and where segments
    /// are so large that each of them goes alone.
    pub(super) fn beside(
        asked: &CheckedFile,
        archiver: &'a Archiver,
        site: Option<&'a Site>,
        settings: &Settings,
    ) -> Result<Option<Self>> {
        let limit = settings.wal.push_ahead as usize;
        let archive = &archiver.archive;
        let is_wanted = limit > 0 && archive.segment_size().bytes() <= IN_MEMORY_BYTES;
        let Some(site) = site.filter(|_| is_wanted) else { return Ok(None) };
        let binding = Binding::to(archive.repository().id(), settings, archive.cluster())?;
        let marks = binding.and_then(|binding| Marks::of(site, binding));
        let (asked, sealing) = (asked.name(), Mutex::new(()));
        Ok(marks.map(|marks| Self { archiver, marks, site, asked, limit, sealing }))
    }

    /// Waits for `asked`, whose result it returns, and stores the neighbours meanwhile and, with bounded patience,
    /// afterwards. Neighbours that are still under way then are dropped: their own calls store them.
    pub(super) async fn accompany(
        self,
        asked: impl Future<Output = Result<()>>,
        deadline: Deadline,
    ) -> Result<()> {
        let began = Instant::now();
        let (mut asked, mut ahead) = (pin!(asked), pin!(self.run()));
        let mut is_over = false;
        loop {
            tokio::select! {
                biased;
                stored = &mut asked => break stored?,
                () = &mut ahead, if !is_over => is_over = true,
            }
        }
        if is_over {
            return Ok(());
        }
        let patience = began.elapsed().max(LEAST_PATIENCE);
        if deadline.at_most(patience).bound(ahead).await.is_err() {
            tracing::debug!(?patience, "neighbours are left to their own calls");
        }
        Ok(())
    }

    async fn run(&self) {
        if let Err(error) = self.store_all().await {
            tracing::debug!(error = %error.chain(), "nothing more is stored ahead");
        }
    }

    async fn store_all(&self) -> Result<()> {
        let plan = self.plan().await?;
        step::reached("wal-push:ahead-planned");
        let order = self.order(&plan).await?;
        let histories = plan.files.iter().filter(|file| is_history(file.name()));
        for history in histories {
            self.store(history).await?;
        }
        let rest = plan.files.iter().filter(|file| !is_history(file.name()));
        match order {
            Order::Any => {
                let storing = futures::stream::iter(rest)
                    .for_each_concurrent(self.limit, |file| self.try_store(file));
                storing.await;
            }
            Order::OneByOne => {
                for file in rest {
                    self.store(file).await?;
                }
            }
        }
        Ok(())
    }

    /// A neighbour that fails is left to its own call, which reports it.
    async fn try_store(&self, file: &CheckedFile) {
        if let Err(error) = self.store(file).await {
            tracing::debug!(file = %file.name(), error = %error.chain(), "not stored ahead");
        }
    }

    /// Seals a neighbour when its turn comes, waits until the asked file is stored, and then does all that the neighbour's own call would.
    async fn store(&self, file: &CheckedFile) -> Result<()> {
        let alone = self.sealing.lock().await;
        self.wait_until(Stage::Sending).await;
        let mut allowance = self.archiver.allowance(file).await;
        let sealed = self.archiver.seal(file).await?;
        if let Some(held) = sealed.held_bytes() {
            allowance.shrink_to(held);
        }
        drop(alone);
        self.wait_until(Stage::Stored).await;
        self.archiver.archive_what_precedes(file).await?;
        self.archiver.put(file, &sealed).await?;
        step::reached("wal-push:stored-ahead");
        let (marks, file, digest) = (self.marks.clone(), file.clone(), sealed.content().digest);
        task::blocking(move || marks.leave(&file, digest)).await?;
        step::reached("wal-push:marked");
        Ok(())
    }

    /// Waits until the asked file has come so far.
    async fn wait_until(&self, stage: Stage) {
        let mut asked = self.archiver.stage_of_asked.subscribe();
        let reached = asked.wait_for(|reached| *reached >= stage).await;
        reached.expect("the archiver holds the sender");
    }

    async fn plan(&self) -> Result<Plan> {
        let (directory, cluster) =
            (self.archiver.directory.clone(), self.archiver.archive.expected());
        let (marks, site, asked, limit) =
            (self.marks.clone(), self.site.clone(), self.asked, self.limit);
        task::blocking(move || {
            let status = directory.join("archive_status");
            marks.clean(&status)?;
            let names = next_names(&status, asked, limit)?;
            if names.is_empty() || !Marks::prepare(&site)? {
                return Ok(Plan::default());
            }
            plan_of(&directory, names, &cluster, &marks)
        })
        .await
    }

    /// Whether the repository holds WAL behind the asked file that no mark accounts for.
    async fn order(&self, plan: &Plan) -> Result<Order> {
        let archive = &self.archiver.archive;
        let segments: BTreeSet<_> =
            plan.files.iter().filter_map(|file| segment_of(file.name())).collect();
        let mut next = segments.first().copied();
        while let Some(first) = next {
            let timeline = first.timeline();
            let mut behind = archive.segments(timeline, first.previous(archive.segment_size()));
            while let Some(found) = behind.try_next().await? {
                if segment_of(self.asked) != Some(found) && !plan.marked.contains(&found) {
                    return Ok(Order::OneByOne);
                }
            }
            next = segments.iter().find(|segment| segment.timeline() > timeline).copied();
        }
        Ok(Order::Any)
    }
}

/// The names of the next files that PostgreSQL will ask for: histories first, then the oldest.
///
/// Source: `ready_file_comparator` and `pgarch_readyXlog` in `postmaster/pgarch.c`.
fn next_names(status: &Path, asked: WalFileName, limit: usize) -> Result<Vec<WalFileName>> {
    let unreadable = |error| Error::io(format!("cannot read `{}`", status.display()), error);
    let entries = match std::fs::read_dir(status) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?.file_name();
        let ready = entry.to_str().and_then(|name| name.strip_suffix(".ready"));
        let Some(Ok(name)) = ready.map(str::parse::<WalFileName>) else { continue };
        if name != asked {
            names.push(name);
        }
    }
    names.sort_by_cached_key(|name| (Reverse(is_history(*name)), name.to_string()));
    names.truncate(limit);
    Ok(names)
}

/// Checks the neighbours as their own calls would (W7). One that is gone or unfit ends the plan: PostgreSQL will not
/// come past it.
fn plan_of(
    directory: &Path,
    names: Vec<WalFileName>,
    cluster: &ExpectedCluster,
    marks: &Marks,
) -> Result<Plan> {
    let mut plan = Plan::default();
    for name in names {
        let found = LocalFile::find(directory, name).and_then(|found| match found {
            Some(file) => file.check(cluster).map(Some),
            None => Ok(None),
        });
        match found {
            Ok(Some(file)) if marks.is_marked(&file)? => plan.marked.extend(segment_of(name)),
            Ok(Some(file)) => plan.files.push(file),
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(file = %name, error = %error.chain(), "not stored ahead");
                break;
            }
        }
    }
    Ok(plan)
}

fn is_history(name: WalFileName) -> bool {
    matches!(name, WalFileName::History(_))
}

fn segment_of(name: WalFileName) -> Option<SegmentName> {
    match name {
        WalFileName::Segment(segment) => Some(segment),
        _ => None,
    }
}
