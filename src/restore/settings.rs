//! The settings of a recovery: a marked block at the end of `postgresql.auto.conf`, which the next restore replaces.
//!
//! The last line of a setting wins, so ours do. Targets that the source's own configuration carries are set to the
//! empty string first: PostgreSQL refuses to start with two of them.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::goal::{Archiving, Edge, Goal, Role, Target};
use crate::postgres::{MajorVersion, TimelineId};

/// The file with the settings of `ALTER SYSTEM`, read after all others.
pub(super) const SETTINGS_FILE: &str = "postgresql.auto.conf";

const BEGIN: &str = "# begin of the settings of walrs restore; the next restore replaces them";
const END: &str = "# end of the settings of walrs restore";

const TARGETS: [&str; 5] = [
    "recovery_target",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
    "recovery_target_lsn",
];

/// The version that began to read WAL ahead of replay.
const PREFETCH_SINCE: MajorVersion = MajorVersion::new(15);

/// Everything that decides the settings.
#[derive(Debug)]
pub struct RecoverySettings {
    /// What the recovery is for.
    pub(super) goal: Goal,
    /// The line to follow.
    pub(super) timeline: TimelineSetting,
    /// Whether the copy archives.
    pub(super) archiving: Archiving,
    /// The value of `restore_command`.
    pub(super) restore_command: String,
    /// Whether WAL that may be read ahead is contiguous.
    pub(super) ahead: ReadAhead,
    /// The server's version.
    pub(super) version: MajorVersion,
}

/// The value of `recovery_target_timeline`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimelineSetting {
    /// The newest, looked for again and again.
    Latest,
    /// The backup's own.
    Current,
    /// This one, which has a history.
    Number(TimelineId),
}

/// Whether the server may read WAL ahead of replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadAhead {
    /// It may.
    Allowed,
    /// It would run into a hole.
    Off,
}

impl RecoverySettings {
    /// The signal file that makes the server use the settings.
    pub(super) fn signal_file(&self) -> &'static str {
        match self.goal.role {
            Role::Primary => "recovery.signal",
            Role::Standby => "standby.signal",
        }
    }

    /// The content of the settings file, out of the source's.
    pub(super) fn applied_to(&self, existing: &[u8]) -> Vec<u8> {
        let mut content = without_block(existing);
        if content.last().is_some_and(|byte| *byte != b'\n') {
            content.push(b'\n');
        }
        content.extend_from_slice(self.block().as_bytes());
        content
    }

    fn block(&self) -> String {
        let mut block = format!("{BEGIN}\n");
        for (name, value) in self.lines() {
            writeln!(block, "{name} = {}", quoted(&value)).expect("a string takes everything");
        }
        block.push_str(END);
        block.push('\n');
        block
    }

    /// The settings, in the order in which PostgreSQL must see them.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![("restore_command", self.restore_command.clone())];
        let target = self.target();
        let cleared =
            TARGETS.iter().filter(|name| target.as_ref().is_none_or(|(own, _)| own != *name));
        lines.extend(cleared.map(|name| (*name, String::new())));
        lines.extend(target);
        lines.push(("recovery_target_inclusive", self.inclusive().to_owned()));
        lines.push(("recovery_target_timeline", self.timeline.to_text()));
        lines.push(("recovery_target_action", self.goal.action.to_string()));
        if self.goal.role == Role::Primary {
            // Of a source that was a standby: they would delay this recovery, or remove WAL of others.
            lines.push(("recovery_min_apply_delay", "0".to_owned()));
            lines.push(("archive_cleanup_command", String::new()));
            lines.push(("recovery_end_command", String::new()));
        }
        if self.ahead == ReadAhead::Off && self.version >= PREFETCH_SINCE {
            lines.push(("recovery_prefetch", "off".to_owned()));
        }
        if self.archiving == Archiving::Off {
            lines.push(("archive_mode", "off".to_owned()));
        }
        lines
    }

    fn target(&self) -> Option<(&'static str, String)> {
        match &self.goal.target {
            Target::EndOfWal => None,
            Target::Immediate => Some(("recovery_target", "immediate".to_owned())),
            Target::Name(name) => Some(("recovery_target_name", name.to_string())),
            Target::Time(time) => {
                Some(("recovery_target_time", postgres_time(*time, self.goal.edge)))
            }
            Target::Xid(xid) => Some(("recovery_target_xid", xid.to_string())),
            Target::Lsn(lsn) => Some(("recovery_target_lsn", lsn.to_string())),
        }
    }

    fn inclusive(&self) -> &'static str {
        match self.goal.edge {
            Edge::Inclusive => "on",
            Edge::Exclusive => "off",
        }
    }
}

impl TimelineSetting {
    fn to_text(self) -> String {
        match self {
            Self::Latest => "latest".to_owned(),
            Self::Current => "current".to_owned(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// A moment as every version of PostgreSQL reads it, in microseconds: a finer one is moved to the side on which the
/// same transactions lie.
fn postgres_time(time: Timestamp, edge: Edge) -> String {
    let finer = time.subsec_nanosecond() % 1000 != 0;
    let micros = time.as_nanosecond().div_euclid(1000) as i64;
    let micros = if finer && edge == Edge::Exclusive { micros + 1 } else { micros };
    let rounded = Timestamp::from_microsecond(micros).unwrap_or(time);
    let civil = rounded.to_zoned(TimeZone::UTC).datetime();
    format!("{}+00", civil.strftime("%Y-%m-%d %H:%M:%S.%6f"))
}

/// A value of a configuration file. Source: `GUC_scanstr` in `utils/misc/guc-file.l`.
fn quoted(value: &str) -> String {
    let escaped = value.replace('\\', r"\\").replace('\'', "''").replace('\n', r"\n");
    format!("'{escaped}'")
}

/// The lines outside the block of an earlier restore. A block without end is only its first line.
fn without_block(content: &[u8]) -> Vec<u8> {
    let lines: Vec<&[u8]> = content.split_inclusive(|byte| *byte == b'\n').collect();
    let is = |line: &[u8], marker: &str| line.trim_ascii() == marker.as_bytes();
    let (mut kept, mut position) = (Vec::new(), 0);
    while let Some(line) = lines.get(position) {
        position += 1;
        if is(line, BEGIN) {
            let end = lines[position..].iter().position(|line| is(line, END));
            position += end.map_or(0, |end| end + 1);
        } else if !is(line, END) {
            kept.extend_from_slice(line);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::TargetAction;

    fn goal(target: Target) -> Goal {
        let (edge, action, role) = (Edge::Inclusive, TargetAction::Promote, Role::Primary);
        Goal { target, edge, timeline: None, action, role }
    }

    fn settings(goal: &Goal) -> RecoverySettings {
        RecoverySettings {
            goal: goal.clone(),
            timeline: TimelineSetting::Latest,
            archiving: Archiving::Off,
            restore_command: "walrs 'x'".to_owned(),
            ahead: ReadAhead::Allowed,
            version: MajorVersion::new(15),
        }
    }

    fn text(settings: &RecoverySettings, existing: &str) -> String {
        String::from_utf8(settings.applied_to(existing.as_bytes())).unwrap()
    }

    fn line<'a>(text: &'a str, name: &str) -> &'a str {
        let mut lines = text.lines().filter(|line| line.starts_with(&format!("{name} =")));
        lines.next_back().unwrap_or_default()
    }

    #[test]
    fn targets_of_the_source_are_cleared_before_ours_is_set() {
        let goal = goal(Target::Lsn("0/3000148".parse().unwrap()));
        let text = text(&settings(&goal), "recovery_target_time = '2020-01-01'\nwork_mem = '4MB'");
        assert_eq!(line(&text, "recovery_target_time"), "recovery_target_time = ''");
        assert_eq!(line(&text, "recovery_target_lsn"), "recovery_target_lsn = '0/3000148'");
        assert!(text.find("recovery_target_name = ''") < text.find("recovery_target_lsn = '0/3"));
        assert!(text.starts_with("recovery_target_time = '2020-01-01'\nwork_mem = '4MB'\n# begin"));
        assert_eq!(line(&text, "restore_command"), "restore_command = 'walrs ''x'''");
    }

    #[test]
    fn the_next_restore_replaces_the_block() {
        let (first, second) = (goal(Target::Immediate), goal(Target::EndOfWal));
        let once = text(&settings(&first), "# hand\n");
        let twice = text(&settings(&second), &format!("{once}work_mem = '1MB'\n"));
        assert_eq!(twice.matches(BEGIN).count(), 1);
        assert!(twice.starts_with("# hand\nwork_mem = '1MB'\n"));
        assert_eq!(line(&twice, "recovery_target"), "recovery_target = ''");
        assert!(
            text(&settings(&second), &format!("{BEGIN}\nwork_mem = '1MB'\n"))
                .starts_with("work_mem")
        );
    }

    /// R7
    #[test]
    fn a_copy_does_not_archive_unless_asked() {
        let goal = goal(Target::EndOfWal);
        let off = text(&settings(&goal), "");
        assert_eq!(line(&off, "archive_mode"), "archive_mode = 'off'");
        let kept = RecoverySettings { archiving: Archiving::Keep, ..settings(&goal) };
        assert_eq!(line(&text(&kept, ""), "archive_mode"), "");
    }

    #[test]
    fn read_ahead_is_turned_off_where_there_is_any() {
        let goal = goal(Target::Immediate);
        let with = |ahead, version| RecoverySettings {
            ahead,
            version: MajorVersion::new(version),
            ..settings(&goal)
        };
        let prefetch = |ahead, version| {
            let text = text(&with(ahead, version), "");
            line(&text, "recovery_prefetch").to_owned()
        };
        assert_eq!(prefetch(ReadAhead::Off, 15), "recovery_prefetch = 'off'");
        assert_eq!(prefetch(ReadAhead::Off, 14), "");
        assert_eq!(prefetch(ReadAhead::Allowed, 17), "");
    }

    #[test]
    fn times_are_written_in_utc_with_a_numeric_offset() {
        let written = |text: &str, edge| postgres_time(text.parse().unwrap(), edge);
        let time = "2026-11-20T10:15:00.5+01:00";
        assert_eq!(written(time, Edge::Inclusive), "2026-11-20 09:15:00.500000+00");
        let finer = "2026-11-20T09:15:00.1234567Z";
        assert_eq!(written(finer, Edge::Inclusive), "2026-11-20 09:15:00.123456+00");
        assert_eq!(written(finer, Edge::Exclusive), "2026-11-20 09:15:00.123457+00");
    }

    #[test]
    fn a_value_survives_the_quotes_of_the_file() {
        assert_eq!(quoted(r"it's a \ path"), r"'it''s a \\ path'");
    }
}
