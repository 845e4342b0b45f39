//! Whether the WAL that leads from a backup to its target is there (T3): asked before anything is downloaded.

use futures::TryStreamExt;
use jiff::Timestamp;

use super::choose::Chosen;
use super::goal::{Goal, Role, Target, TimelineChoice};
use crate::error::{Error, Result};
use crate::postgres::{SegmentName, SegmentNumber, TimelineHistory};
use crate::repository::WalArchive;
use crate::storage::Storage;

/// What lies between a backup and its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// The first segment that is missing although later WAL of the line exists.
    pub(super) hole: Option<SegmentName>,
    /// What the operator should know, although recovery may succeed.
    pub(super) warning: Option<String>,
}

/// The way from the chosen backup along its line.
struct Survey<'a> {
    archive: &'a WalArchive,
    chosen: &'a Chosen<'a>,
    goal: &'a Goal,
    /// Up to here, every segment from the backup's first is there.
    reached: SegmentNumber,
    hole: Option<SegmentName>,
    /// Whether the sweeper removed it.
    swept: bool,
}

/// Refuses a target that the archived WAL cannot reach.
///
/// `allow_gap_at` names a segment at which recovery may end although later WAL exists.
pub(super) async fn check(
    archive: &WalArchive,
    chosen: &Chosen<'_>,
    goal: &Goal,
    allow_gap_at: Option<&str>,
) -> Result<Route> {
    refuse_empty_latest(archive, &chosen.line, goal).await?;
    let survey = Survey::of(archive, chosen, goal).await?;
    let warning = match &goal.target {
        Target::Immediate => None,
        Target::Lsn(_) => survey.check_position()?,
        Target::EndOfWal => survey.check_end(allow_gap_at)?,
        Target::Time(_) | Target::Xid(_) | Target::Name(_) => survey.check_unknown_place()?,
    };
    Ok(Route { hole: survey.hole, warning })
}

/// Refuses a time to come: PostgreSQL would replay everything, and stop at the end for not having met its target.
///
/// A standby keeps asking for WAL, and may well meet it later. Where this host's clock is behind, the store's counts.
pub(super) async fn refuse_future(storage: &dyn Storage, goal: &Goal) -> Result<()> {
    let Target::Time(time) = goal.target else { return Ok(()) };
    let here = Timestamp::now();
    if time <= here || goal.role == Role::Standby {
        return Ok(());
    }
    let there = storage.now().await.ok().and_then(|now| Timestamp::try_from(now).ok());
    let now = there.map_or(here, |there| there.max(here));
    if time <= now {
        return Ok(());
    }
    Err(Error::refused(format!("time {time} lies in the future"))
        .because(format!("it is {now} now"))
        .hint("without `--to-time` recovery goes to the end of the archived WAL"))
}

/// After a recovery whose new timeline has a history and no WAL yet, `latest` would undo nothing and replay the
/// abandoned part of the parent.
async fn refuse_empty_latest(
    archive: &WalArchive,
    line: &TimelineHistory,
    goal: &Goal,
) -> Result<()> {
    let Some(parent) = line.parent() else { return Ok(()) };
    if goal.timeline_choice() != TimelineChoice::Latest
        || archive.segments(line.timeline(), None).try_next().await?.is_some()
    {
        return Ok(());
    }
    let size = archive.segment_size();
    let fork = SegmentName::containing(parent.switch_lsn, parent.timeline, size);
    if archive.segments(parent.timeline, fork.previous(size)).try_next().await?.is_none() {
        return Ok(());
    }
    let (newest, parent_timeline) = (line.timeline(), parent.timeline);
    Err(Error::refused(format!("timeline {newest}, the latest, has no WAL yet"))
        .because(format!("timeline {parent_timeline} goes on past {}, where {newest} left it", parent.switch_lsn))
        .hint(format!(
            "choose with `--timeline {parent_timeline}` (what was done on it after the fork), or wait until the server \
             on timeline {newest} has archived a segment"
        )))
}

impl<'a> Survey<'a> {
    async fn of(archive: &'a WalArchive, chosen: &'a Chosen<'a>, goal: &'a Goal) -> Result<Self> {
        let (manifest, line, size) = (chosen.manifest, &chosen.line, archive.segment_size());
        let (first, last) =
            (manifest.first_segment.number(size), manifest.last_segment.number(size));
        let reached = archive.contiguous_to(line, first, None).await?;
        let Some(reached) = reached.filter(|reached| *reached >= last) else {
            let missing = reached.map_or(first, |reached| SegmentNumber::new(reached.get() + 1));
            return Err(incomplete(chosen, archive.on_line(line, missing)));
        };
        let mut survey = Self { archive, chosen, goal, reached, hole: None, swept: false };
        survey.look_for_hole().await?;
        Ok(survey)
    }

    async fn look_for_hole(&mut self) -> Result<()> {
        let (archive, line) = (self.archive, &self.chosen.line);
        let Some(missing) = archive.on_line(line, SegmentNumber::new(self.reached.get() + 1))
        else {
            return Ok(());
        };
        if self.goes_on_after(missing).await? {
            self.hole = Some(missing);
            let horizon = archive.horizon(missing.timeline()).await?;
            self.swept = horizon.is_some_and(|horizon| missing < horizon);
        }
        Ok(())
    }

    /// Whether the line has any segment after `missing`.
    async fn goes_on_after(&self, missing: SegmentName) -> Result<bool> {
        let (line, size) = (&self.chosen.line, self.archive.segment_size());
        let ancestors = line.ancestors().iter().map(|ancestor| ancestor.timeline);
        let later =
            ancestors.chain([line.timeline()]).filter(|timeline| *timeline >= missing.timeline());
        for timeline in later {
            let after = missing.on_timeline(timeline);
            let mut segments = self.archive.segments(timeline, Some(after));
            while let Some(segment) = segments.try_next().await? {
                match self.archive.on_line(line, segment.number(size)) {
                    Some(holder) if holder == segment => return Ok(true),
                    // Past the fork: the rest of this timeline was abandoned.
                    Some(holder) if holder.timeline() > timeline => break,
                    _ => {}
                }
            }
        }
        Ok(false)
    }

    fn check_position(&self) -> Result<Option<String>> {
        let Target::Lsn(lsn) = self.goal.target else { return Ok(None) };
        let size = self.archive.segment_size();
        if SegmentNumber::containing(lsn, size) <= self.reached {
            return Ok(None);
        }
        if let Some(hole) = self.hole {
            return Err(self.stopped_by(hole));
        }
        let end = SegmentNumber::new(self.reached.get() + 1).start(size).unwrap_or(lsn);
        Err(self.unreachable().because(format!("the archived WAL of its line ends at {end}")))
    }

    fn check_end(&self, allow_gap_at: Option<&str>) -> Result<Option<String>> {
        match self.hole {
            Some(hole) if allow_gap_at == Some(hole.to_string().as_str()) => {
                Ok(Some(format!("recovery ends before `{hole}`, as `wal.allow_gap_at` allows")))
            }
            Some(hole) => Err(self.stopped_by(hole)),
            None => Ok(None),
        }
    }

    /// Where a moment, a transaction or a restore point lies in the WAL is not known in advance.
    fn check_unknown_place(&self) -> Result<Option<String>> {
        match self.hole {
            Some(hole) if self.swept => Err(self.stopped_by(hole)),
            Some(hole) => Ok(Some(format!(
                "`{hole}` is missing although later WAL exists: recovery fails unless the target lies before it"
            ))),
            None => Ok(None),
        }
    }

    fn stopped_by(&self, hole: SegmentName) -> Error {
        let refused = self.unreachable();
        if self.swept {
            return refused
                .because(format!(
                    "the WAL after backup `{}` was swept, from `{hole}` on",
                    self.chosen.manifest.backup_id
                ))
                .hint("of this backup, only the state at its end can be restored: `--immediate`");
        }
        refused.because(format!("`{hole}` is missing although later WAL exists")).hint(format!(
            "the last moment before it is reached with `wal.allow_gap_at = \"{hole}\"`"
        ))
    }

    fn unreachable(&self) -> Error {
        let backup = &self.chosen.manifest.backup_id;
        Error::refused(format!("{} cannot be reached from backup `{backup}`", self.goal.target))
    }
}

fn incomplete(chosen: &Chosen<'_>, missing: Option<SegmentName>) -> Error {
    let backup = &chosen.manifest.backup_id;
    let missing = missing.map_or_else(|| "a segment".to_owned(), |name| format!("`{name}`"));
    Error::refused(format!("backup `{backup}` cannot be made consistent"))
        .because(format!("{missing} is missing, which it needs"))
        .hint("choose another backup with `--backup`")
}
