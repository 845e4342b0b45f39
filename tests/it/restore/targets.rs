//! Every target lands on the exact last row.

use super::story::{Story, commit, prepare, rows};
use super::{archiving, back_up, restore, try_restore};
use crate::support::installation::Major;
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::TestRepository;

const TO_FOUR: &str = "0 1 2 3 4";
const TO_SEVEN: &str = "0 1 2 3 4 5 6 7";
const TO_EIGHT: &str = "0 1 2 3 4 5 6 7 8";

#[test]
fn every_target_lands_on_the_exact_last_row_over_a_promotion_and_a_branch() {
    let story = Story::tell(Major::V15);
    let ([first, second], two, seven) = (&story.backups, &story.two, &story.seven);
    let cases: &[(&[&str], &str)] = &[
        (&[], "0 1 2 102 103"),
        (&["--timeline", "latest"], "0 1 2 102 103"),
        (&["--timeline", "1"], TO_FOUR),
        (&["--timeline", "2"], TO_EIGHT),
        (&["--timeline", "2", "--backup", first], TO_EIGHT),
        (&["--timeline", "current"], TO_EIGHT),
        (&["--timeline", "current", "--backup", first], TO_FOUR),
        (&["--immediate"], "0 1 2 3 4 5 6"),
        (&["--immediate", "--backup", first], "0"),
        (&["--timeline", "1", "--to-time", &two.time], "0 1 2"),
        (&["--timeline", "1", "--to-time", &two.time, "--exclusive"], "0 1"),
        (&["--timeline", "1", "--to-lsn", &two.lsn], "0 1 2"),
        (&["--timeline", "1", "--to-lsn", &two.lsn, "--exclusive"], "0 1"),
        (&["--timeline", "1", "--to-xid", &two.xid], "0 1 2"),
        (&["--timeline", "1", "--to-xid", &two.xid, "--exclusive"], "0 1"),
        (&["--timeline", "1", "--to-name", "two"], "0 1 2"),
        (&["--timeline", "2", "--to-time", &seven.time], TO_SEVEN),
        (&["--timeline", "2", "--to-lsn", &seven.lsn, "--backup", first], TO_SEVEN),
        (&["--timeline", "2", "--to-xid", &seven.xid, "--backup", second], TO_SEVEN),
        (&["--timeline", "2", "--to-name", "seven", "--backup", second], TO_SEVEN),
        (&["--timeline", "3", "--to-xid", &story.branched.xid], "0 1 2 102"),
        (&["--to-lsn", &story.branched.lsn, "--exclusive"], "0 1 2"),
    ];
    for (number, (arguments, expected)) in cases.iter().enumerate() {
        let copy = restore(&story.source, &format!("copy{number}"), arguments);
        assert_eq!(rows(&copy), *expected, "{arguments:?}");
    }
}

#[test]
fn a_server_pauses_or_shuts_down_at_its_target_when_asked() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    prepare(&mut source);
    back_up(&source);
    let one = commit(&source, 1);
    commit(&source, 2);
    source.archive_all();
    let target = ["--to-xid", one.xid.as_str(), "--action"];
    let restored = |action, end| {
        let (mut copy, restored) = try_restore(&source, action, &[&target[..], &[action]].concat());
        restored.expect_success();
        copy.recover_to(end);
        copy
    };
    assert_eq!(rows(&restored("pause", RecoveryEnd::Paused)), "0 1");
    restored("shutdown", RecoveryEnd::ShutDown);
}

fn point_in_time(major: Major) {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(major, &repository);
    prepare(&mut source);
    back_up(&source);
    let one = commit(&source, 1);
    source.psql("select pg_create_restore_point('one')");
    commit(&source, 2);
    source.archive_all();
    for (number, (arguments, expected)) in [
        (&[][..], "0 1 2"),
        (&["--to-time", &one.time], "0 1"),
        (&["--to-time", &one.time, "--exclusive"], "0"),
        (&["--to-lsn", &one.lsn], "0 1"),
        (&["--to-xid", &one.xid, "--exclusive"], "0"),
        (&["--to-name", "one"], "0 1"),
        (&["--immediate"], "0"),
    ]
    .into_iter()
    .enumerate()
    {
        let copy = restore(&source, &format!("copy{number}"), arguments);
        assert_eq!(rows(&copy), expected, "{arguments:?}");
    }
}

#[test]
fn version_13_is_restored_to_a_point_in_time() {
    point_in_time(Major::V13);
}

#[test]
fn version_17_is_restored_to_a_point_in_time() {
    point_in_time(Major::V17);
}
