//! A recovery as a plan: which backup, along which line, and whether the WAL is there.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use super::choose::{Selection, Timelines, choose};
use super::goal::{Archiving, Goal, Role, TimelineChoice};
use super::route;
use super::settings::{ReadAhead, RecoverySettings, TimelineSetting};
use crate::error::{Error, Result};
use crate::postgres::{MajorVersion, SystemIdentifier, TimelineId};
use crate::repository::{Catalog, Manifest, Repository, WalArchive};

const HISTORIES_IN_FLIGHT: usize = 8;

/// What leads to a goal.
#[derive(Debug)]
pub struct RecoveryPlan {
    /// What is to be reached.
    pub goal: Goal,
    /// The backup from which recovery starts.
    pub manifest: Arc<Manifest>,
    /// The timeline at the end of the line.
    pub timeline: TimelineId,
    /// What the operator should know, although recovery may succeed.
    pub warning: Option<String>,
    setting: TimelineSetting,
    ahead: ReadAhead,
}

/// What a plan is made for.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The cluster whose backups count.
    pub cluster: SystemIdentifier,
    /// The backup, when it is named: an id, its beginning, or `LATEST`.
    pub backup: Option<&'a str>,
    /// What is to be reached.
    pub goal: Goal,
    /// `wal.allow_gap_at`.
    pub allow_gap_at: Option<&'a str>,
}

impl RecoveryPlan {
    /// Chooses the backup and checks that the goal can be reached (T3). Nothing is changed.
    pub async fn make(repository: &Repository, wanted: Wanted<'_>) -> Result<Self> {
        let Wanted { goal, .. } = &wanted;
        goal.check()?;
        route::refuse_future(&**repository.storage(), goal).await?;
        let catalog = Catalog::load(repository).await?;
        let (backups, selection) = candidates(&catalog, &wanted)?;
        let cluster = backups.first().map_or(wanted.cluster, |manifest| manifest.system_identifier);
        let archive = WalArchive::of(repository, cluster)?;
        let timelines = histories(&archive).await?;
        let chosen = choose(&backups, selection, &timelines, goal)
            .map_err(|error| or_damage(error, &catalog, selection))?;
        let version = MajorVersion::of_server(chosen.manifest.postgres_version);
        if version < MajorVersion::OLDEST {
            return Err(Error::refused(format!(
                "PostgreSQL {version} has no recovery that walrs can set up"
            )));
        }
        let timeline = chosen.line.timeline();
        let setting = setting(goal, timeline, &timelines, chosen.manifest)?;
        let route = route::check(&archive, &chosen, goal, wanted.allow_gap_at).await?;
        let ahead = if route.hole.is_some() { ReadAhead::Off } else { ReadAhead::Allowed };
        let (manifest, warning) = (Arc::new(chosen.manifest.clone()), route.warning);
        Ok(Self { goal: wanted.goal, manifest, timeline, warning, setting, ahead })
    }

    /// The settings with which the restored server recovers.
    pub fn settings(&self, archiving: Archiving, restore_command: String) -> RecoverySettings {
        RecoverySettings {
            goal: self.goal.clone(),
            timeline: self.setting,
            archiving,
            restore_command,
            ahead: self.ahead,
            version: MajorVersion::of_server(self.manifest.postgres_version),
        }
    }
}

fn candidates<'a>(
    catalog: &'a Catalog,
    wanted: &Wanted<'_>,
) -> Result<(Vec<&'a Manifest>, Selection)> {
    if let Some(name) = wanted.backup {
        return Ok((vec![catalog.resolve(name, wanted.cluster)?], Selection::Named));
    }
    let of_cluster = |manifest: &&Manifest| manifest.system_identifier == wanted.cluster;
    Ok((catalog.visible().filter(of_cluster).collect(), Selection::Any))
}

/// Where no backup will do, one whose manifest is damaged might have done.
fn or_damage(error: Error, catalog: &Catalog, selection: Selection) -> Error {
    match (selection, catalog.ensure_readable()) {
        (Selection::Any, Err(damage)) => damage,
        _ => error,
    }
}

async fn histories(archive: &WalArchive) -> Result<Timelines> {
    let timelines = archive.histories().await?;
    let read = timelines.into_iter().map(|timeline| archive.line(timeline));
    let histories: Vec<_> =
        futures::stream::iter(read).buffered(HISTORIES_IN_FLIGHT).try_collect().await?;
    Ok(Timelines::new(histories))
}

/// A standby looks for newer timelines for ever. For everything else the line is named that was checked.
fn setting(
    goal: &Goal,
    timeline: TimelineId,
    timelines: &Timelines,
    manifest: &Manifest,
) -> Result<TimelineSetting> {
    match goal.timeline_choice() {
        TimelineChoice::Latest if goal.role == Role::Standby => Ok(TimelineSetting::Latest),
        TimelineChoice::Current => Ok(TimelineSetting::Current),
        _ if timelines.has_history(timeline) => Ok(TimelineSetting::Number(timeline)),
        _ if timeline == manifest.timeline => Ok(TimelineSetting::Current),
        _ => Err(Error::refused(format!("timeline {timeline} cannot be followed"))
            .because("its history is not in the repository")),
    }
}
