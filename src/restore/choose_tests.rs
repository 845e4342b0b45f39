//! One promotion at 0/5000000 (timeline 2), and one branch out of timeline 1 at 0/3000000 (timeline 3).

use super::*;
use crate::postgres::Lsn;
use crate::restore::{Edge, Role, TargetAction};

const HISTORIES: [(u32, &str); 2] = [(2, "1\t0/5000000\tx\n"), (3, "1\t0/3000000\tx\n")];

fn timeline(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

fn timelines() -> Timelines {
    let history = |(number, text): (u32, &str)| {
        TimelineHistory::parse(timeline(number), text.as_bytes()).unwrap()
    };
    Timelines::new(HISTORIES.map(history))
}

/// The backup `name` on a timeline, from one position to another, ended so many minutes after noon.
fn backup(name: char, number: u32, lsns: [u64; 2], minute: u8) -> Manifest {
    let id = format!("20261120T12{minute:02}00Z-{}", String::from(name).repeat(6));
    let timeline = timeline(number);
    let segment = |lsn| {
        let size = crate::postgres::SegmentSize::DEFAULT;
        crate::postgres::SegmentName::containing(Lsn::new(lsn), timeline, size)
    };
    let id: crate::repository::BackupId = id.parse().unwrap();
    Manifest {
        backup_id: id.clone(),
        last_full: id,
        start_timeline: timeline,
        timeline,
        start_lsn: Lsn::new(lsns[0]),
        stop_lsn: Lsn::new(lsns[1]),
        first_segment: segment(lsns[0]),
        last_segment: segment(lsns[1]),
        stop_time: format!("2026-11-20T12:{minute:02}:00Z").parse().unwrap(),
        ..crate::repository::example_manifest()
    }
}

/// On timeline 1 before both forks (a), between them (b), and after both (c); on timeline 2 (d), and 3 (e).
fn backups() -> Vec<Manifest> {
    vec![
        backup('a', 1, [0x100_0000, 0x200_0000], 1),
        backup('b', 1, [0x400_0000, 0x480_0000], 2),
        backup('c', 1, [0x500_0000, 0x600_0000], 3),
        backup('d', 2, [0x580_0000, 0x700_0000], 4),
        backup('e', 3, [0x400_0000, 0x500_0000], 5),
    ]
}

fn goal(target: Target, choice: Option<TimelineChoice>) -> Goal {
    let (edge, action, role) = (Edge::Inclusive, TargetAction::Promote, Role::Primary);
    Goal { target, edge, timeline: choice, action, role }
}

/// The first letter of the chosen backup's random part, or the report of the refusal.
fn chosen(target: Target, choice: Option<TimelineChoice>) -> String {
    let backups = backups();
    let backups: Vec<_> = backups.iter().collect();
    match choose(&backups, Selection::Any, &timelines(), &goal(target, choice)) {
        Ok(chosen) => chosen.manifest.backup_id.as_str()[17..18].to_owned(),
        Err(error) => error.report(),
    }
}

fn at(minute: u8) -> Target {
    Target::Time(format!("2026-11-20T12:{minute:02}:30Z").parse().unwrap())
}

fn lsn(position: u64) -> Target {
    Target::Lsn(Lsn::new(position))
}

#[expect(clippy::unnecessary_wraps, reason = "as the choice is passed")]
fn number(number: u32) -> Option<TimelineChoice> {
    Some(TimelineChoice::Number(timeline(number)))
}

/// T3
#[test]
fn the_newest_backup_on_the_line_that_ended_before_the_target_is_chosen() {
    let latest = None;
    assert_eq!(chosen(Target::EndOfWal, latest), "e");
    assert_eq!(chosen(at(5), latest), "e");
    assert_eq!(chosen(at(4), latest), "a", "b ends after the fork to timeline 3");
    assert_eq!(chosen(Target::EndOfWal, number(2)), "d");
    assert_eq!(chosen(at(3), number(2)), "b", "c ends after the fork to timeline 2");
    assert_eq!(chosen(Target::EndOfWal, number(1)), "c");
    assert_eq!(chosen(lsn(0x500_0000), number(1)), "b");
    assert_eq!(chosen(lsn(0x6FF_FFFF), number(2)), "b");
    assert_eq!(chosen(lsn(0x700_0000), number(2)), "d");
    assert_eq!(chosen(at(4), Some(TimelineChoice::Current)), "d");
    assert_eq!(chosen(Target::Immediate, None), "e");
}

/// T3
#[test]
fn a_target_before_every_backup_is_refused_with_the_reason() {
    assert!(chosen(at(0), None).contains("ended at 2026-11-20T12:01:00Z, after the target"));
    assert!(chosen(lsn(0x1FF_FFFF), number(1)).contains("it ends at 0/2000000, after the target"));
    let unknown = chosen(Target::EndOfWal, number(4));
    assert!(unknown.contains("no timeline 4") && unknown.contains("1, 2, 3"), "{unknown}");
}

/// T3
#[test]
fn a_named_backup_off_the_line_is_refused_with_the_fork() {
    let backups = backups();
    let refused = |index: usize, choice| {
        let goal = goal(Target::EndOfWal, choice);
        choose(&[&backups[index]], Selection::Named, &timelines(), &goal).unwrap_err().report()
    };
    assert!(refused(2, number(2)).contains("timeline 2 left timeline 1 at 0/5000000"));
    assert!(refused(3, number(3)).contains("its timeline 2 is no ancestor of timeline 3"));
    assert!(refused(3, None).contains("--timeline N"));
}

#[test]
fn a_name_or_transaction_needs_a_backup_when_several_may_be_meant() {
    let several = chosen(Target::Xid(7), number(1));
    assert!(several.contains("--backup") && several.contains("12:01:00Z"), "{several}");
    let backups = backups();
    let named =
        choose(&[&backups[1]], Selection::Named, &timelines(), &goal(Target::Xid(7), number(1)));
    assert_eq!(named.unwrap().manifest.backup_id, backups[1].backup_id);
}

#[test]
fn without_any_backup_nothing_matches() {
    let error =
        choose(&[], Selection::Any, &timelines(), &goal(Target::EndOfWal, None)).unwrap_err();
    assert_eq!(error.kind(), crate::error::ErrorKind::NothingMatched);
}
