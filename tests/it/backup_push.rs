//! `backup-push` against real servers: what makes a backup visible, and what it says of itself.

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::postmaster::Stop;
use crate::support::repository::TestRepository;

/// A running cluster that archives into `repository`.
fn archiving(repository: &TestRepository) -> Cluster {
    Cluster::builder(Major::V15).archiving_to(repository).start()
}

fn list(cluster: &Cluster) -> Vec<Value> {
    let listed = cluster.walrs(&["backup-list", "--json"]).expect_success();
    serde_json::from_str::<Value>(&listed.stdout).unwrap().as_array().unwrap().clone()
}

/// B1, B5
#[test]
fn a_backup_is_listed_when_all_of_its_wal_is_in_the_repository() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    let pushed = cluster.walrs(&["backup-push", "--label", "first"]).expect_success();
    let backups = list(&cluster);
    assert_eq!(backups.len(), 1);
    let backup = &backups[0];
    assert_eq!(pushed.stdout.trim_end(), backup["id"]);
    let shown = cluster.walrs(&["backup-show", "LATEST", "--json"]).expect_success();
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    for name in ["first_segment", "last_segment"] {
        let segment = shown[name].as_str().unwrap();
        let key = format!("/{segment}");
        assert!(repository.keys().iter().any(|stored| stored.ends_with(&key)), "{segment}");
    }
    assert_eq!(backup["system_identifier"], cluster.system_identifier());
}

#[test]
fn the_server_hears_a_goodbye_and_logs_no_failure() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving(&repository);
    cluster.walrs(&["backup-push"]).expect_success();
    // Whether the server is about to answer when a connection is just dropped is a matter of chance.
    for _ in 0..20 {
        cluster.walrs(&["check"]);
    }
    // The log is whole then.
    cluster.stop(Stop::Fast);
    for line in
        ["could not receive data from client", "could not send data to client", "client lost"]
    {
        assert!(!cluster.log().contains(line), "{}", cluster.log());
    }
}

/// The fields that `docs/json.md` promises.
#[test]
fn a_listed_backup_has_every_promised_field() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    cluster.walrs(&["backup-push"]).expect_success();
    let backup = &list(&cluster)[0];
    assert_eq!(backup["kind"], "full");
    assert_eq!((&backup["parent"], &backup["label"]), (&Value::Null, &Value::Null));
    assert_eq!((&backup["timeline"], &backup["bad_pages"]), (&1.into(), &0.into()));
    assert_eq!(backup["permanent"], false);
    for number in ["files", "bytes", "new_bytes", "stored_bytes"] {
        assert!(backup[number].as_u64().unwrap() > 0, "{number}");
    }
    for time in ["start_time", "stop_time"] {
        assert!(backup[time].as_str().unwrap().ends_with('Z'), "{time}");
    }
    let lsn = |name: &str| backup[name].as_str().unwrap().split_once('/').is_some();
    assert!(lsn("start_lsn") && lsn("stop_lsn"));
}

/// B1
#[test]
fn a_server_that_archives_nothing_is_refused_before_anything_is_stored() {
    let repository = TestRepository::plain_directory();
    let cluster = Cluster::builder(Major::V15).using(&repository).start();
    let refused = cluster.walrs(&["backup-push"]).expect_status(3);
    refused.expect_message("archive_mode");
    assert_eq!(repository.keys(), [""; 0]);
}

#[test]
fn a_permanent_backup_is_marked_before_it_is_visible() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    cluster.walrs_killed_at("backup-push:before-manifest", &["backup-push", "--permanent"]);
    assert_eq!(repository.keys_with("marks/").len(), 1);
    assert!(list(&cluster).is_empty());
    cluster.walrs(&["backup-push", "--permanent"]).expect_success();
    assert_eq!(list(&cluster)[0]["permanent"], true);
}

#[test]
fn a_mark_can_be_changed_and_the_last_one_counts() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    cluster.walrs(&["backup-push"]).expect_success();
    for (flag, permanent) in
        [("--permanent", true), ("--impermanent", false), ("--permanent", true)]
    {
        cluster.walrs(&["backup-mark", "LATEST", flag]).expect_success();
        assert_eq!(list(&cluster)[0]["permanent"], permanent);
    }
    cluster.walrs(&["backup-mark", "LATEST"]).expect_status(2);
    cluster.walrs(&["backup-mark", "2026", "--permanent"]).expect_success();
    cluster.walrs(&["backup-mark", "20250101T000000Z-aaaaaa", "--permanent"]).expect_status(1);
}

#[test]
fn a_plan_tells_what_would_be_read_and_stores_nothing() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    cluster.archive_all();
    let before = repository.keys();
    let planned = cluster.walrs(&["backup-push", "--plan", "--json"]).expect_success();
    let plan: Value = serde_json::from_str(&planned.stdout).unwrap();
    assert_eq!(repository.keys(), before);
    cluster.walrs(&["backup-push"]).expect_success();
    let backup = &list(&cluster)[0];
    // `pg_internal.init` and the like come and go between two looks.
    let close = |name: &str| {
        let (planned, taken) = (plan[name].as_u64().unwrap(), backup[name].as_u64().unwrap());
        planned.abs_diff(taken) * 20 < taken
    };
    assert!(close("files") && close("bytes"), "{plan} {backup}");
}

#[test]
fn tables_for_people_fit_a_terminal() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    cluster.walrs(&["backup-push", "--permanent"]).expect_success();
    for arguments in [&["backup-list"][..], &["backup-show", "LATEST"]] {
        let shown = cluster.walrs(arguments).expect_success();
        assert!(shown.stdout.lines().all(|line| line.len() <= 80), "{shown}");
        assert!(shown.stdout.contains("permanent"), "{shown}");
    }
}

#[test]
fn an_empty_catalogue_is_an_empty_list() {
    let repository = TestRepository::plain_directory();
    let cluster = archiving(&repository);
    cluster.archive_all();
    assert!(list(&cluster).is_empty());
    cluster.walrs(&["backup-list"]).expect_success().expect_message("backup-push");
    cluster.walrs(&["backup-show", "LATEST"]).expect_status(1);
}
