//! Which backup leads to a target. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::goal::{Goal, Target, TimelineChoice};
use crate::error::{Error, Result};
use crate::postgres::{TimelineHistory, TimelineId};
use crate::repository::Manifest;

/// Backups that an error names, newest first.
const NAMED_IN_ERRORS: usize = 5;

/// The histories of a cluster's timelines.
#[derive(Debug, Default)]
pub(super) struct Timelines(BTreeMap<TimelineId, TimelineHistory>);

/// A backup, and the line that recovery follows from it.
#[derive(Debug)]
pub(super) struct Chosen<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) line: TimelineHistory,
}

/// How the backup was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection {
    /// `--backup` named it.
    Named,
    /// It is to be chosen among all.
    Any,
}

impl Timelines {
    /// The timelines that have a history.
    pub(super) fn new(histories: impl IntoIterator<Item = TimelineHistory>) -> Self {
        Self(histories.into_iter().map(|history| (history.timeline(), history)).collect())
    }

    /// Whether the timeline has a history, without which PostgreSQL cannot be told to follow it (but for the first).
    pub(super) fn has_history(&self, timeline: TimelineId) -> bool {
        timeline == TimelineId::FIRST || self.0.contains_key(&timeline)
    }

    fn line(&self, timeline: TimelineId) -> TimelineHistory {
        let known = self.0.get(&timeline).cloned();
        known.unwrap_or_else(|| TimelineHistory::without_ancestors(timeline))
    }

    fn known(&self, backups: &[&Manifest]) -> BTreeSet<TimelineId> {
        let of_backups = backups.iter().map(|manifest| manifest.timeline);
        self.0.keys().copied().chain(of_backups).chain([TimelineId::FIRST]).collect()
    }

    /// The line that recovery from `manifest` follows.
    fn chosen_line(
        &self,
        choice: TimelineChoice,
        manifest: &Manifest,
        newest: TimelineId,
    ) -> TimelineHistory {
        self.line(match choice {
            TimelineChoice::Latest => newest,
            TimelineChoice::Current => manifest.timeline,
            TimelineChoice::Number(number) => number,
        })
    }
}

/// Chooses among `backups`, all of one cluster, the newest that leads to the goal.
pub(super) fn choose<'a>(
    backups: &[&'a Manifest],
    selection: Selection,
    timelines: &Timelines,
    goal: &Goal,
) -> Result<Chosen<'a>> {
    let known = timelines.known(backups);
    let choice = goal.timeline_choice();
    if let TimelineChoice::Number(number) = choice
        && !known.contains(&number)
    {
        return Err(no_such_timeline(number, &known));
    }
    let newest = *known.last().expect("the first timeline is always known");
    let mut suitable = Vec::new();
    let mut objections = Vec::new();
    for manifest in newest_first(backups) {
        let line = timelines.chosen_line(choice, manifest, newest);
        match objection(manifest, &line, &goal.target) {
            None => suitable.push(Chosen { manifest, line }),
            Some(objection) => objections.push((manifest, objection)),
        }
    }
    let only_one_may_be_meant = matches!(goal.target, Target::Name(_) | Target::Xid(_));
    if suitable.len() > 1 && only_one_may_be_meant && selection == Selection::Any {
        return Err(several(&suitable, &goal.target));
    }
    suitable.into_iter().next().ok_or_else(|| none(&objections, goal, &known))
}

fn newest_first<'a>(backups: &[&'a Manifest]) -> Vec<&'a Manifest> {
    let mut sorted = backups.to_vec();
    sorted.sort_by_key(|manifest| (manifest.stop_time, manifest.backup_id.clone()));
    sorted.reverse();
    sorted
}

/// Why recovery from a backup along a line cannot end at the target, if it cannot.
fn objection(manifest: &Manifest, line: &TimelineHistory, target: &Target) -> Option<String> {
    let (timeline, stop_lsn) = (manifest.timeline, manifest.stop_lsn);
    if timeline != line.timeline() {
        match line.switch_point(timeline) {
            None => {
                return Some(format!(
                    "its timeline {timeline} is no ancestor of timeline {}",
                    line.timeline()
                ));
            }
            Some(switch) if switch < stop_lsn => {
                return Some(format!(
                    "it ends at {stop_lsn}, and timeline {} left timeline {timeline} at {switch}",
                    line.timeline()
                ));
            }
            Some(_) => {}
        }
    }
    match target {
        Target::Time(time) if *time < manifest.stop_time => {
            Some(format!("it ended at {}, after the target", manifest.stop_time))
        }
        Target::Lsn(lsn) if *lsn < stop_lsn => {
            Some(format!("it ends at {stop_lsn}, after the target"))
        }
        _ => None,
    }
}

fn no_such_timeline(number: TimelineId, known: &BTreeSet<TimelineId>) -> Error {
    let known: Vec<_> = known.iter().map(TimelineId::to_string).collect();
    Error::nothing_matched(format!("there is no timeline {number}"))
        .because(format!("the repository knows {}", known.join(", ")))
}

fn several(suitable: &[Chosen<'_>], target: &Target) -> Error {
    let described: Vec<_> = suitable.iter().map(|chosen| described(chosen.manifest)).collect();
    Error::usage(format!("several backups may lead to {target}"))
        .because(described.join(", "))
        .hint("name one that ended before it with `--backup`")
}

fn described(manifest: &Manifest) -> String {
    format!("`{}` ended at {} ({})", manifest.backup_id, manifest.stop_time, manifest.stop_lsn)
}

fn none(objections: &[(&Manifest, String)], goal: &Goal, known: &BTreeSet<TimelineId>) -> Error {
    if objections.is_empty() {
        return Error::nothing_matched("there is no backup").hint("`walrs backup-push` takes one");
    }
    let named = objections.iter().take(NAMED_IN_ERRORS);
    let named: Vec<_> =
        named.map(|(manifest, why)| format!("`{}`: {why}", manifest.backup_id)).collect();
    let refused =
        Error::refused(format!("no backup leads to {}", goal.target)).because(named.join("; "));
    match goal.timeline_choice() {
        TimelineChoice::Latest if known.len() > 1 => {
            refused.hint("another line of timelines is chosen with `--timeline N`")
        }
        _ => refused,
    }
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
