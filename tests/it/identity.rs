//! Which repository a data directory uses, and which clusters a repository is for (S8, C1, format section 1).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::program::Finished;
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::user::ServerUser;
use crate::support::wal::FIRST;

fn data_directory(repository: &TestRepository) -> Cluster {
    Cluster::builder(Major::V15).using(repository).create()
}

fn empty(repository: &TestRepository) {
    fs::remove_dir_all(repository.path()).unwrap();
    fs::create_dir(repository.path()).unwrap();
    ServerUser::get().own(repository.path());
}

/// The line that `walrs check` prints for `name`, whatever else it finds.
fn finding(cluster: &Cluster, name: &str) -> String {
    let checked = cluster.walrs(&["check", "--json"]);
    let findings: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
    let found = findings.as_array().unwrap().iter().find(|finding| finding["check"] == name);
    let found = found.unwrap_or_else(|| panic!("no finding `{name}` in\n{checked}"));
    format!("{} {}", found["state"].as_str().unwrap(), found["detail"].as_str().unwrap())
}

#[test]
fn init_makes_a_repository_once_and_is_then_already_so() {
    let repository = TestRepository::plain_directory();
    let cluster = data_directory(&repository);
    cluster.walrs(&["init"]).expect_success().expect_message("made repository");
    let made = repository.keys();
    assert_eq!(made, ["epochs/00000001.json", "repository.json"]);
    cluster.walrs(&["init"]).expect_success().expect_message("exists at");
    assert_eq!(repository.keys(), made);
}

/// S8
#[test]
fn an_emptied_or_unmounted_repository_is_refused_until_init_replaces_the_witness() {
    let repository = TestRepository::plain_directory();
    let cluster = data_directory(&repository);
    cluster.walrs(&["init"]).expect_success();
    empty(&repository);
    assert!(finding(&cluster, "repository").contains("there is no repository"));
    cluster.walrs(&["check"]).expect_status(3);
    assert_eq!(repository.keys(), [""; 0]);
    cluster.walrs(&["init"]).expect_success();
    assert!(finding(&cluster, "repository").starts_with("ok"));
}

/// S8
#[test]
fn init_says_which_repository_a_new_one_ends() {
    let (old, new) = (TestRepository::plain_directory(), TestRepository::plain_directory());
    let cluster = data_directory(&old);
    let first = old.init(cluster.data()).expect_success();
    assert!(!first.stderr.contains("until now"), "{first}");
    let second = new.init(cluster.data()).expect_success();
    assert!(second.stderr.contains("until now"), "{second}");
    assert!(second.stderr.contains(old.url()), "{second}");
    cluster.push(FIRST).expect_status(3);
    old.init(cluster.data()).expect_success();
    cluster.push(FIRST).expect_success();
}

/// S8
#[test]
fn another_repository_under_the_same_url_is_refused() {
    let repository = TestRepository::plain_directory();
    let (cluster, other) = (data_directory(&repository), data_directory(&repository));
    cluster.walrs(&["init"]).expect_success();
    empty(&repository);
    other.walrs(&["init"]).expect_success();
    assert!(finding(&cluster, "repository").contains("this data directory uses repository"));
    cluster.walrs(&["check"]).expect_status(3);
}

/// S8
#[test]
fn the_repository_id_that_a_command_demands_is_compared() {
    let repository = TestRepository::plain_directory();
    let cluster = data_directory(&repository);
    cluster.walrs(&["init"]).expect_success();
    let foreign = "0".repeat(32);
    let checked = cluster.walrs(&["check", "--repository-id", &foreign]).expect_status(3);
    assert!(checked.stdout.contains("expected here"), "{checked}");
}

/// S8, C1
#[test]
fn a_look_at_a_foreign_repository_binds_a_data_directory_to_nothing() {
    let (foreign, own) = (TestRepository::plain_directory(), TestRepository::plain_directory());
    let (other, cluster) = (data_directory(&foreign), data_directory(&own));
    other.walrs(&["init"]).expect_success();
    let looked = cluster.walrs(&["check", "--repository", foreign.url()]);
    assert!(looked.stdout.contains("does not belong"), "{looked}");
    let segment = cluster.data().join("pg_wal/000000010000000000000001");
    cluster.walrs(&["wal-push", segment.to_str().unwrap()]).expect_success();
}

/// C1
#[test]
fn a_foreign_cluster_is_refused_until_it_is_added() {
    let repository = TestRepository::plain_directory();
    let (cluster, foreign) = (data_directory(&repository), data_directory(&repository));
    cluster.walrs(&["init"]).expect_success();
    foreign.walrs(&["init"]).expect_status(3).expect_message("does not belong");
    foreign.walrs(&["init", "--add-cluster"]).expect_success().expect_message("now belongs");
    foreign.walrs(&["init", "--add-cluster"]).expect_success().expect_message("already belongs");
    assert!(finding(&foreign, "cluster").starts_with("ok"));
}

#[test]
fn a_location_that_holds_something_else_is_refused() {
    let repository = TestRepository::plain_directory();
    let cluster = data_directory(&repository);
    fs::write(repository.path().join("somebody-elses.dump"), b"precious").unwrap();
    cluster.walrs(&["init"]).expect_status(3).expect_message("is not empty");
}

#[test]
fn init_that_was_killed_after_any_step_succeeds_when_run_again() {
    for step in ["init:slot", "init:epoch"] {
        let repository = TestRepository::new(Place::Directory, Sealing::Encrypted);
        let cluster = data_directory(&repository);
        let init = |step: &str| {
            let mut command = repository.walrs_command(cluster.data());
            command.args(["init", "--encrypt", "--new-key-file"]).arg(repository.key_file());
            command.env_remove("WALRS_ENCRYPTION_KEY_FILE");
            Finished::run(command.env("WALRS_FAILPOINT", format!("{step}=kill")))
        };
        init(step).expect_status(128 + 9);
        assert!(!repository.keys().contains(&"repository.json".to_owned()), "{step}");
        fs::remove_file(repository.key_file()).unwrap();
        init("none").expect_success();
        assert!(finding(&cluster, "repository").starts_with("ok"), "{step}");
    }
}

#[test]
fn a_new_key_file_is_private_and_never_overwrites() {
    let repository = TestRepository::new(Place::Directory, Sealing::Encrypted);
    let cluster = data_directory(&repository);
    repository
        .init(cluster.data())
        .expect_success()
        .expect_message("without it nothing can be restored");
    let mode = fs::metadata(repository.key_file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = fs::read(repository.key_file()).unwrap();
    empty(&repository);
    repository.init(cluster.data()).expect_status(3);
    assert_eq!(fs::read(repository.key_file()).unwrap(), key);
}

/// K1
#[test]
fn a_wrong_or_malformed_or_readable_or_missing_key_is_a_configuration_error() {
    let repository = TestRepository::new(Place::Directory, Sealing::Encrypted);
    let cluster = data_directory(&repository);
    repository.init(cluster.data()).expect_success();
    let list = |key: Option<&std::path::Path>| {
        let mut command = repository.walrs_command(cluster.data());
        command.args(["key", "list"]).env_remove("WALRS_ENCRYPTION_KEY_FILE");
        if let Some(path) = key {
            command.env("WALRS_ENCRYPTION_KEY_FILE", path);
        }
        Finished::run(&mut command)
    };
    let scratch = cluster.scratch();
    let other = scratch.write("other", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
    let short = scratch.write("short", "c2hvcnQ=");
    let open = scratch.write("open", fs::read(repository.key_file()).unwrap());
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    list(Some(&repository.key_file())).expect_success();
    list(Some(&other)).expect_status(2).expect_message("opens none");
    list(Some(&short)).expect_status(2).expect_message("32");
    list(Some(&open)).expect_status(2).expect_message("0600");
    list(None).expect_status(2).expect_message("no key is configured");
}

#[test]
fn key_slots_are_added_listed_and_removed_but_never_the_last() {
    let repository = TestRepository::new(Place::Directory, Sealing::Encrypted);
    let cluster = data_directory(&repository);
    repository.init(cluster.data()).expect_success();
    let first = slots(&cluster);
    cluster.walrs(&["key", "remove", &first[0]]).expect_status(3).expect_message("last key slot");
    let passphrase = cluster.scratch().write("passphrase", "correct horse battery staple\n");
    let path = passphrase.to_str().unwrap();
    cluster
        .walrs(&["key", "add", "--new-passphrase-file", path, "--label", "safe"])
        .expect_success();
    cluster.walrs(&["key", "remove", &first[0]]).expect_success();
    cluster.walrs(&["key", "list"]).expect_status(2).expect_message("opens none");
    let mut command = cluster.walrs_command(&["key", "list", "--json"]);
    command.env_remove("WALRS_ENCRYPTION_KEY_FILE").env("WALRS_ENCRYPTION_PASSPHRASE_FILE", path);
    let listed = Finished::run(&mut command).expect_success();
    assert!(listed.stdout.contains("\"safe\""), "{listed}");
}

fn slots(cluster: &Cluster) -> Vec<String> {
    let listed = cluster.walrs(&["key", "list", "--json"]).expect_success();
    let rows: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    rows.as_array().unwrap().iter().map(|row| row["slot_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_key_command_opens_the_repository_and_two_keys_are_one_too_many() {
    let repository = TestRepository::new(Place::Directory, Sealing::Encrypted);
    let cluster = data_directory(&repository);
    repository.init(cluster.data()).expect_success();
    let by_command = |keep_file: bool| {
        let mut command = cluster.walrs_command(&["key", "list"]);
        if !keep_file {
            command.env_remove("WALRS_ENCRYPTION_KEY_FILE");
        }
        let cat = format!("cat '{}'", repository.key_file().display());
        Finished::run(command.env("WALRS_ENCRYPTION_KEY_COMMAND", cat))
    };
    by_command(false).expect_success();
    by_command(true).expect_status(2).expect_message("more than one");
}

/// K2
#[test]
fn no_key_reaches_any_output_even_at_the_highest_log_level() {
    let repository = TestRepository::new(Place::Directory, Sealing::Encrypted);
    let cluster = data_directory(&repository);
    repository.init(cluster.data()).expect_success();
    let key = fs::read_to_string(repository.key_file()).unwrap();
    for arguments in [&["config"][..], &["check"], &["key", "list"]] {
        let mut command = cluster.walrs_command(arguments);
        command.env("WALRS_LOG", "trace").env("PGPASSWORD", "hunter2");
        let said = Finished::run(&mut command);
        for secret in [key.trim(), "hunter2"] {
            assert!(!format!("{}{}", said.stdout, said.stderr).contains(secret), "{said}");
        }
    }
}

#[test]
fn the_configuration_is_printed_with_origins_and_an_unknown_key_is_explained() {
    let repository = TestRepository::plain_directory();
    let cluster = data_directory(&repository);
    let file = cluster.scratch().write("walrs.toml", "[wal]\npush_timeout = \"1m\"\n");
    let wrong = cluster.scratch().write("wrong.toml", "[wal]\npush_timout = \"1m\"\n");
    let shown = cluster.walrs(&["config", "--config", file.to_str().unwrap()]).expect_success();
    let line = shown.stdout.lines().find(|line| line.starts_with("wal.push_timeout")).unwrap();
    assert!(line.contains("1m") && line.contains("walrs.toml"), "{line}");
    cluster
        .walrs(&["config", "--config", wrong.to_str().unwrap()])
        .expect_status(2)
        .expect_message("unknown key `wal.push_timout`")
        .expect_message("did you mean `wal.push_timeout`?");
}

/// P1
#[test]
fn nothing_of_a_key_command_outlives_the_command_that_ran_it() {
    let repository = TestRepository::new(Place::Directory, Sealing::Encrypted);
    let cluster = data_directory(&repository);
    repository.init(cluster.data()).expect_success();
    let segment = cluster.data().join("pg_wal/000000010000000000000001");
    let pid = cluster.scratch().join("pid");
    let run = |arguments: &[&str], then: &str| {
        let mut command = cluster.walrs_command(arguments);
        let line = format!("sleep 300 & echo $! > '{}'; {then}", pid.display());
        command.env_remove("WALRS_ENCRYPTION_KEY_FILE").env("WALRS_ENCRYPTION_KEY_COMMAND", line);
        Finished::run(command.env("WALRS_WAL_PUSH_TIMEOUT", "1s"))
    };
    let gone = || {
        let number = fs::read_to_string(&pid).unwrap();
        !std::path::Path::new(&format!("/proc/{}", number.trim())).exists()
    };
    run(&["key", "list"], &format!("cat '{}'", repository.key_file().display())).expect_success();
    assert!(gone(), "a child of a key command that succeeded is left");
    run(&["wal-push", segment.to_str().unwrap()], "wait").expect_status(4);
    assert!(gone(), "a child of a key command that was given up is left");
}
