//! What a recovery is asked for: the target, the timeline, and what happens there.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

use crate::error::{Error, Result};
use crate::postgres::{Lsn, TimelineId};

/// PostgreSQL's `MAXFNAMELEN` without the end: a longer name cannot be a restore point's.
const NAME_BYTES: usize = 63;

/// What to bring back, and what the server does then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goal {
    /// Where recovery ends.
    pub target: Target,
    /// Whether what happened exactly at the target belongs to it.
    pub edge: Edge,
    /// The line of timelines; the default depends on the target.
    pub timeline: Option<TimelineChoice>,
    /// What the server does at the target.
    pub action: TargetAction,
    /// What the server becomes.
    pub role: Role,
}

/// Where recovery ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// At the end of the archived WAL.
    EndOfWal,
    /// As soon as the backup is consistent.
    Immediate,
    /// At the last transaction up to a moment.
    Time(Timestamp),
    /// At a position.
    Lsn(Lsn),
    /// At the end of a transaction.
    Xid(u64),
    /// At a restore point.
    Name(RestorePoint),
}

/// The name of a restore point, as `pg_create_restore_point` takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePoint(String);

/// Whether what happened exactly at the target belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// It does.
    Inclusive,
    /// It does not.
    Exclusive,
}

/// Which line of timelines recovery follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimelineChoice {
    /// The newest timeline of the repository.
    Latest,
    /// The backup's own.
    Current,
    /// This one.
    Number(TimelineId),
}

/// What the server does at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetAction {
    /// Waits, readable, to be told to go on.
    Pause,
    /// Becomes a server of its own on a new timeline.
    Promote,
    /// Shuts down.
    Shutdown,
}

/// What the restored server becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A server of its own, after recovery.
    Primary,
    /// A standby that keeps asking for WAL.
    Standby,
}

/// Whether the restored server archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archiving {
    /// No: a copy must not archive into the repository of its source (R7).
    Off,
    /// As the configuration of the source says.
    Keep,
}

impl Goal {
    /// The line that is followed: the newest unless asked otherwise; to be consistent at once, the backup's own will do.
    pub fn timeline_choice(&self) -> TimelineChoice {
        match (self.timeline, &self.target) {
            (Some(choice), _) => choice,
            (None, Target::Immediate) => TimelineChoice::Current,
            (None, _) => TimelineChoice::Latest,
        }
    }

    /// Refuses combinations that mean nothing to PostgreSQL.
    pub fn check(&self) -> Result<()> {
        let has_edge = matches!(self.target, Target::Time(_) | Target::Lsn(_) | Target::Xid(_));
        if self.edge == Edge::Exclusive && !has_edge {
            return Err(Error::usage("`--exclusive` needs a target that can be left out")
                .hint("it goes with `--to-time`, `--to-lsn` and `--to-xid`"));
        }
        if self.target == Target::EndOfWal && self.action != TargetAction::Promote {
            return Err(Error::usage(format!("`--action {}` needs a target", self.action))
                .because("at the end of WAL PostgreSQL always promotes"));
        }
        Ok(())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndOfWal => f.write_str("the end of WAL"),
            Self::Immediate => f.write_str("the end of the backup"),
            Self::Time(time) => write!(f, "time {time}"),
            Self::Lsn(lsn) => write!(f, "LSN {lsn}"),
            Self::Xid(xid) => write!(f, "transaction {xid}"),
            Self::Name(name) => write!(f, "restore point `{name}`"),
        }
    }
}

impl fmt::Display for TargetAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pause => "pause",
            Self::Promote => "promote",
            Self::Shutdown => "shutdown",
        })
    }
}

impl fmt::Display for RestorePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RestorePoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() || text.len() > NAME_BYTES || text.contains('\0') {
            return Err(Error::usage(format!("`{text}` is no name of a restore point"))
                .hint(format!("a name has 1 to {NAME_BYTES} bytes")));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for TimelineChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "latest" => Ok(Self::Latest),
            "current" => Ok(Self::Current),
            number => number.parse().map(Self::Number).map_err(|_| {
                Error::usage(format!("`{text}` is no timeline"))
                    .hint("give `latest`, `current`, or a number")
            }),
        }
    }
}

/// A moment with an offset or `Z`; without one, a moment of the named time zone.
///
/// A time that a zone's clock skips or shows twice is refused.
pub fn parse_time(text: &str, zone: Option<&str>) -> Result<Timestamp> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp);
    }
    let malformed = |why: jiff::Error| {
        Error::usage(format!("`{text}` is no time"))
            .because(why)
            .hint("write it like `2026-11-20 10:15:00+01:00` or `2026-11-20T09:15:00Z`")
    };
    let local: civil::DateTime = text.parse().map_err(malformed)?;
    let Some(zone) = zone else {
        return Err(Error::usage(format!("`{text}` has no offset from UTC"))
            .hint("append `Z` or an offset like `+01:00`, or name a zone with `--time-zone`"));
    };
    let known = TimeZone::get(zone).map_err(|error| {
        Error::usage(format!("there is no time zone `{zone}`"))
            .because(error)
            .hint("name one like `Europe/Berlin`")
    })?;
    known.to_ambiguous_timestamp(local).unambiguous().map_err(|error| {
        Error::usage(format!("`{text}` is not one moment in `{zone}`"))
            .because(error)
            .hint("write it with an offset like `+01:00`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, zone: Option<&str>) -> String {
        parse_time(text, zone).map_or_else(|error| error.report(), |time| time.to_string())
    }

    #[test]
    fn a_time_is_read_as_administrators_and_psql_write_it() {
        for text in [
            "2026-11-20T09:15:00Z",
            "2026-11-20 09:15:00Z",
            "2026-11-20 10:15:00+01",
            "2026-11-20 10:15:00+01:00",
            "2026-11-20T10:15:00.000000+01:00",
            "2026-11-20 09:15Z",
        ] {
            assert_eq!(parsed(text, None), "2026-11-20T09:15:00Z", "{text}");
        }
        assert_eq!(parsed("2026-11-20 09:15:00.123456+00", None), "2026-11-20T09:15:00.123456Z");
    }

    #[test]
    fn a_time_without_offset_needs_a_zone() {
        assert!(parsed("2026-11-20 10:15:00", None).contains("no offset from UTC"));
        let berlin = Some("Europe/Berlin");
        assert_eq!(parsed("2026-11-20 10:15:00", berlin), "2026-11-20T09:15:00Z");
        assert_eq!(parsed("2026-11-20 10:15:00Z", berlin), "2026-11-20T10:15:00Z");
        assert!(parsed("2026-11-20 10:15:00", Some("Mars/Base")).contains("no time zone"));
    }

    #[test]
    fn a_time_that_a_clock_skips_or_shows_twice_is_refused() {
        let berlin = Some("Europe/Berlin");
        assert!(parsed("2026-10-25 02:30:00", berlin).contains("not one moment"));
        assert!(parsed("2026-03-29 02:30:00", berlin).contains("not one moment"));
    }

    #[test]
    fn text_that_is_no_time_is_refused() {
        for text in ["", "yesterday", "2026-13-01 00:00:00Z", "1763632761"] {
            assert!(parsed(text, Some("UTC")).contains("is no time"), "{text}");
        }
    }

    #[test]
    fn names_that_no_restore_point_can_have_are_refused() {
        assert!("".parse::<RestorePoint>().is_err());
        assert!("x".repeat(64).parse::<RestorePoint>().is_err());
        assert_eq!("it's".parse::<RestorePoint>().unwrap().to_string(), "it's");
    }

    #[test]
    fn combinations_without_meaning_are_refused() {
        let goal = |target, edge, action| {
            Goal { target, edge, timeline: None, action, role: Role::Primary }.check()
        };
        assert!(goal(Target::Immediate, Edge::Exclusive, TargetAction::Promote).is_err());
        assert!(goal(Target::EndOfWal, Edge::Inclusive, TargetAction::Pause).is_err());
        assert!(goal(Target::Lsn(Lsn::new(1)), Edge::Exclusive, TargetAction::Pause).is_ok());
    }
}
