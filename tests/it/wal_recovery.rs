//! walrs as the `restore_command` of real recoveries: what ends them, and what must stop the server instead.

use std::fs;

use crate::support::cluster::Cluster;
use crate::support::cluster_builder::touch;
use crate::support::installation::Major;
use crate::support::oracle;
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::s3_server::{Effect, Fault};
use crate::support::user::ServerUser;
use crate::support::wal::{history, move_away};

/// A source that archived three segments of rows, and a stopped copy from before.
struct Story {
    repository: TestRepository,
    source: Cluster,
    copy: Cluster,
    segments: Vec<String>,
}

impl Story {
    fn new(major: Major, place: Place, sealing: Sealing) -> Self {
        let repository = TestRepository::new(place, sealing);
        let mut source = Cluster::builder(major).archiving_to(&repository).create();
        repository.init(source.data()).expect_success();
        source.start();
        source.psql("create table rows (i int)");
        source.archive_all();
        let copy = source.cold_copy("copy");
        prepare(&copy);
        let segments = (1..=3).map(|number| one_more(&source, number)).collect();
        Self { repository, source, copy, segments }
    }

    fn plain() -> Self {
        Self::new(Major::V15, Place::Directory, Sealing::Plain)
    }

    /// The file of a segment's object.
    fn object(&self, segment: &str) -> std::path::PathBuf {
        let keys = self.repository.keys_with(segment);
        assert_eq!(keys.len(), 1, "{segment}");
        self.repository.object(&keys[0])
    }

    fn rows_of_copy(&self) -> String {
        self.copy.psql("select string_agg(i::text, ' ' order by i) from rows")
    }
}

/// Makes a copy recover from the archive without archiving itself.
fn prepare(copy: &Cluster) {
    copy.set("restore_command", &Cluster::restore_command());
    copy.set("archive_mode", "off");
    touch(&copy.data().join("recovery.signal"));
}

/// Writes one row and archives its segment.
fn one_more(cluster: &Cluster, number: u32) -> String {
    cluster.psql(&format!("insert into rows values ({number})"));
    cluster.archive_all()
}

fn a_recovery_reads_every_archived_row_and_promotes(major: Major, place: Place, sealing: Sealing) {
    let mut story = Story::new(major, place, sealing);
    story.copy.recover_to(RecoveryEnd::Promoted);
    assert_eq!(story.rows_of_copy(), "1 2 3");
    oracle::assert_same_rows(&story.source, &story.copy);
}

/// F2
#[test]
fn a_recovery_reads_every_archived_row_and_then_promotes() {
    for major in Major::ALL {
        a_recovery_reads_every_archived_row_and_promotes(major, Place::Directory, Sealing::Plain);
    }
}

/// F2
#[test]
fn a_recovery_from_encrypted_s3_reads_every_archived_row_and_then_promotes() {
    a_recovery_reads_every_archived_row_and_promotes(Major::V15, Place::Bucket, Sealing::Encrypted);
}

/// F7
#[test]
fn a_hole_stops_the_server_and_once_filled_the_recovery_is_complete() {
    let mut story = Story::plain();
    let hole = story.object(&story.segments[1]);
    let kept = fs::read(&hole).unwrap();
    fs::remove_file(&hole).unwrap();
    story.copy.recover_to(RecoveryEnd::Failed);
    assert!(story.copy.log().contains("is missing in the repository"), "{}", story.copy.log());
    fs::write(&hole, kept).unwrap();
    ServerUser::get().own(&hole);
    story.copy.recover_to(RecoveryEnd::Promoted);
    assert_eq!(story.rows_of_copy(), "1 2 3");
}

/// F7
#[test]
fn a_recovery_ends_at_a_gap_that_the_operator_allows() {
    let mut story = Story::plain();
    fs::remove_file(story.object(&story.segments[1])).unwrap();
    let gap = story.segments[1].clone();
    story.copy.environment_mut().insert("WALRS_WAL_ALLOW_GAP_AT".to_owned(), gap);
    story.copy.recover_to(RecoveryEnd::Promoted);
    assert_eq!(story.rows_of_copy(), "1");
}

/// F1, F2
#[test]
fn a_damaged_segment_stops_the_server() {
    let mut story = Story::plain();
    let object = story.object(&story.segments[1]);
    let mut stored = fs::read(&object).unwrap();
    let middle = stored.len() / 2;
    stored[middle] ^= 1;
    fs::write(&object, &stored).unwrap();
    story.copy.recover_to(RecoveryEnd::Failed);
    stored[middle] ^= 1;
    fs::write(&object, &stored).unwrap();
    story.copy.recover_to(RecoveryEnd::Promoted);
    assert_eq!(story.rows_of_copy(), "1 2 3");
}

/// F2, S8
#[test]
fn a_repository_that_is_not_mounted_stops_the_server() {
    let mut story = Story::plain();
    let away = story.repository.path().with_extension("away");
    move_away(story.repository.path(), &away);
    story.copy.recover_to(RecoveryEnd::Failed);
    fs::create_dir(story.repository.path()).unwrap();
    ServerUser::get().own(story.repository.path());
    story.copy.recover_to(RecoveryEnd::Failed);
    fs::remove_dir(story.repository.path()).unwrap();
    move_away(&away, story.repository.path());
    story.copy.recover_to(RecoveryEnd::Promoted);
    assert_eq!(story.rows_of_copy(), "1 2 3");
}

/// F2, S8
#[test]
fn refusals_and_failures_of_the_store_stop_the_server() {
    let mut story = Story::new(Major::V15, Place::Bucket, Sealing::Plain);
    story.copy.environment_mut().insert("WALRS_WAL_FETCH_TIMEOUT".to_owned(), "2s".to_owned());
    let effects = [
        Effect::Refuse { status: 403, code: "AccessDenied" },
        Effect::Refuse { status: 503, code: "SlowDown" },
        Effect::Page { status: 404 },
    ];
    for effect in effects {
        let segment = story.segments[1].clone();
        story.repository.server().inject(Fault::always("GET", &segment, effect));
        story.copy.recover_to(RecoveryEnd::Failed);
        story.repository.server().forgive();
    }
    story.copy.recover_to(RecoveryEnd::Promoted);
    assert_eq!(story.rows_of_copy(), "1 2 3");
}

/// F2
#[test]
fn a_mistake_in_the_configuration_stops_the_server() {
    let mut story = Story::plain();
    let variables = [("WALRS_WAL_FETCH_TIMEOUT", "soon"), ("WALRS_CONFIG", "/nonexistent")];
    for (name, value) in variables {
        story.copy.environment_mut().insert(name.to_owned(), value.to_owned());
        story.copy.recover_to(RecoveryEnd::Failed);
        story.copy.environment_mut().remove(name);
    }
    story
        .copy
        .set("restore_command", &Cluster::restore_command().replace("wal-fetch", "wal-fetsh"));
    story.copy.recover_to(RecoveryEnd::Failed);
    story.copy.set("restore_command", &Cluster::restore_command());
    story.copy.recover_to(RecoveryEnd::Promoted);
}

/// F5
#[test]
fn a_missing_history_of_a_timeline_with_wal_stops_the_server() {
    let mut story = Story::plain();
    let mut second = story.copy.stopped_copy("second");
    story.copy.set("archive_mode", "on");
    story.copy.recover_to(RecoveryEnd::Promoted);
    story.copy.psql("insert into rows values (4)");
    story.copy.archive_all();
    let key = story.repository.keys_with(&history(2)).remove(0);
    let kept = fs::read(story.repository.object(&key)).unwrap();
    fs::remove_file(story.repository.object(&key)).unwrap();
    second.recover_to(RecoveryEnd::Failed);
    assert!(second.log().contains("holds WAL of timeline 2"), "{}", second.log());
    fs::write(story.repository.object(&key), kept).unwrap();
    ServerUser::get().own(&story.repository.object(&key));
    second.recover_to(RecoveryEnd::Promoted);
    assert_eq!(second.timeline(), 3);
    assert_eq!(second.psql("select max(i) from rows"), "4");
}

/// F8
#[test]
fn a_second_recovery_does_not_replay_what_a_first_one_undid() {
    let mut story = Story::plain();
    let mut second = story.copy.stopped_copy("second");
    story.source.psql("select pg_create_restore_point('early')");
    let undone = one_more(&story.source, 4);
    // The first recovery undoes row 4; it archives its history and no segment.
    story.copy.set("recovery_target_name", "early");
    story.copy.set("recovery_target_action", "promote");
    story.copy.set("archive_mode", "on");
    story.copy.recover_to(RecoveryEnd::Promoted);
    story.copy.wait_archived(&history(2));
    assert_eq!(story.rows_of_copy(), "1 2 3");
    second.recover_to(RecoveryEnd::Failed);
    assert!(second.log().contains(&format!("cannot fetch `{undone}`")), "{}", second.log());
    assert!(second.log().contains("abandoned branch"), "{}", second.log());
    // Once the new timeline has a segment, the second recovery follows it.
    story.copy.psql("insert into rows values (5)");
    story.copy.archive_all();
    second.recover_to(RecoveryEnd::Promoted);
    assert_eq!(second.psql("select string_agg(i::text, ' ' order by i) from rows"), "1 2 3 5");
}
