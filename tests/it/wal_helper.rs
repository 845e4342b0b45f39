//! The helper that fetches ahead while a real server recovers: it never disturbs the server, and ends by itself.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Signal, geteuid};

use crate::support::cluster::Cluster;
use crate::support::cluster_builder::touch;
use crate::support::installation::Major;
use crate::support::oracle;
use crate::support::postmaster::{Stop, send, wait_until};
use crate::support::program::Finished;
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::{Place, Sealing, TestRepository};
use crate::support::s3_server::{Effect, Fault};
use crate::support::standby::Feed;
use crate::support::user::ServerUser;
use crate::support::wal::{FIRST, names_in};

const SEGMENTS: u32 = 12;

/// A source that archived some segments of rows, and a stopped copy from before that is to recover from them.
fn story(place: Place) -> (TestRepository, Cluster, Cluster) {
    let repository = TestRepository::new(place, Sealing::Encrypted);
    let mut source = Cluster::builder(Major::V15).archiving_to(&repository).create();
    repository.init(source.data()).expect_success();
    source.start();
    source.psql("create table rows (i int)");
    source.archive_all();
    let mut copy = source.cold_copy("copy");
    copy.environment_mut().insert("WALRS_LOG".to_owned(), "info".to_owned());
    recover_from_archive(&copy);
    for number in 1..=SEGMENTS {
        source.psql(&format!("insert into rows values ({number})"));
        source.archive_all();
    }
    (repository, source, copy)
}

fn recover_from_archive(copy: &Cluster) {
    copy.set("restore_command", &Cluster::restore_command());
    copy.set("archive_mode", "off");
    touch(&copy.data().join("recovery.signal"));
}

/// How many segments came out of the spool, as the log tells.
fn hits(cluster: &Cluster) -> usize {
    cluster.log().matches("was fetched ahead").count()
}

/// The helpers that fetch for this data directory.
fn helpers(cluster: &Cluster) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        words.iter().any(|word| word == "fill")
            && words.iter().any(|word| word == cluster.data_argument())
    })
    .collect()
}

#[track_caller]
fn assert_undisturbed(cluster: &Cluster) {
    let log = cluster.log();
    for trouble in ["reinitializing", "terminating any other active", "was terminated by signal"] {
        assert!(!log.contains(trouble), "{log}");
    }
}

/// The complete segments on this cluster's place in the spool; other clusters share the spool.
fn left_in_spool(cluster: &Cluster) -> Vec<PathBuf> {
    let listed = Command::new("find")
        .arg(cluster.scratch().join("walrs-spool"))
        .args(["-name", "*.????????????????????????????????????????????????????????????????"])
        .output()
        .unwrap();
    String::from_utf8(listed.stdout).unwrap().lines().map(PathBuf::from).collect()
}

/// P1, F3
#[test]
fn a_recovery_gets_its_segments_out_of_the_spool_and_leaves_nothing_there() {
    for place in Place::ALL {
        let (_repository, source, mut copy) = story(place);
        copy.recover_to(RecoveryEnd::Promoted);
        oracle::assert_same_rows(&source, &copy);
        assert_undisturbed(&copy);
        assert!(hits(&copy) > 0, "{}", copy.log());
        copy.stop(Stop::Fast);
        wait_until("the helper ends with its server", || helpers(&copy).is_empty());
        assert_eq!(left_in_spool(&copy), Vec::<PathBuf>::new());
    }
}

/// F3
#[test]
fn a_helper_that_is_killed_at_any_step_harms_nothing() {
    for step in ["begun=kill:2", "written=kill", "complete=kill:3"] {
        let (_repository, source, mut copy) = story(Place::Directory);
        let point = ("WALRS_FAILPOINT".to_owned(), format!("prefetch:{step}"));
        copy.environment_mut().extend([point]);
        copy.recover_to(RecoveryEnd::Promoted);
        oracle::assert_same_rows(&source, &copy);
        assert_undisturbed(&copy);
    }
}

/// P1
#[test]
fn a_helper_holds_nothing_of_the_server() {
    let (_repository, _source, mut copy) = story(Place::Bucket);
    fs::remove_file(copy.data().join("recovery.signal")).unwrap();
    copy.signal("standby.signal");
    copy.start();
    wait_until("a helper has fetched", || helpers(&copy).len() == 1 && hits(&copy) > 0);
    let helper = PathBuf::from(format!("/proc/{}", helpers(&copy)[0]));
    let has_settled = || fs::read_link(helper.join("cwd")).is_ok_and(|cwd| cwd.as_os_str() == "/");
    wait_until("the helper has left the data directory", has_settled);
    for entry in fs::read_dir(helper.join("fd")).unwrap() {
        let Ok(target) = fs::read_link(entry.unwrap().path()) else { continue };
        assert!(!target.starts_with(copy.data()), "{}", target.display());
        assert!(!target.to_string_lossy().starts_with("pipe:"), "{}", target.display());
    }
    let stat = fs::read_to_string(helper.join("stat")).unwrap();
    let session = stat.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap();
    assert_eq!(session, helpers(&copy)[0].to_string(), "a session of its own");
    // Whoever asks again finds it there.
    copy.stop(Stop::Immediate);
    wait_until("the helper ends with its server", || helpers(&copy).is_empty());
}

/// P1
#[test]
fn a_server_does_not_notice_that_its_helper_is_killed() {
    let (_repository, source, mut copy) = story(Place::Bucket);
    fs::remove_file(copy.data().join("recovery.signal")).unwrap();
    copy.signal("standby.signal");
    copy.start();
    wait_until("there is a helper", || !helpers(&copy).is_empty());
    for helper in helpers(&copy) {
        send(helper, Signal::KILL);
    }
    wait_until("the rows are there", || {
        copy.try_psql("postgres", "select max(i) from rows").stdout.trim() == SEGMENTS.to_string()
    });
    copy.promote();
    oracle::assert_same_rows(&source, &copy);
    assert_undisturbed(&copy);
}

/// A copy that knows its repository, and a store that treats whoever asks for `objects` as `effect` says.
fn before_a_store_that(effect: Effect, objects: &str) -> (TestRepository, Cluster, Cluster) {
    let (repository, source, copy) = story(Place::Bucket);
    copy.fetch(FIRST).expect_success();
    repository.server().inject(Fault::always("GET", objects, effect));
    (repository, source, copy)
}

/// P1
#[test]
fn a_recovery_starts_its_helper_before_it_has_the_first_segment() {
    let (_repository, _source, mut copy) = before_a_store_that(Effect::Stall, "/wal/");
    copy.launch();
    wait_until("there is a helper, and no segment", || helpers(&copy).len() == 1);
    copy.stop(Stop::Immediate);
    wait_until("the helper ends with its server", || helpers(&copy).is_empty());
}

/// P1
#[test]
fn a_helper_that_waits_for_a_silent_store_ends_with_its_server() {
    let (_repository, mut source, copy) = before_a_store_that(Effect::Stall, "");
    // Nobody knows the repository's identity any more, so the helper has to ask for it.
    let spool = copy.scratch().join("walrs-spool");
    for name in names_in(&spool).into_iter().filter(|name| name.starts_with("identity-")) {
        fs::remove_dir_all(spool.join(name)).unwrap();
    }
    let mut helper = helper_by_hand(&source, &copy).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(helper.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "filling\n");
    source.stop(Stop::Immediate);
    wait_until("the helper ends", || helper.try_wait().unwrap().is_some());
}

/// P2
#[test]
fn a_standby_starts_no_helper_for_what_it_does_not_get() {
    let refused = Effect::Refuse { status: 403, code: "AccessDenied" };
    let (repository, _source, mut copy) = before_a_store_that(refused, "/wal/");
    fs::remove_file(copy.data().join("recovery.signal")).unwrap();
    copy.signal("standby.signal");
    let before = repository.server().count("GET", "/wal/");
    copy.launch();
    wait_until("it asks again", || repository.server().count("GET", "/wal/") > before + 2);
    assert_eq!(helpers(&copy), Vec::<u32>::new());
    copy.stop(Stop::Immediate);
}

/// A helper for `copy` that watches the server of `source`: any that runs will do.
fn helper_by_hand(source: &Cluster, copy: &Cluster) -> Command {
    let server = source.postmaster_pid().to_string();
    fs::write(copy.data().join("postmaster.pid"), format!("{server}\n")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{server}/stat")).unwrap();
    let started = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap();
    let cluster = source.psql("select system_identifier from pg_control_system()");
    let mut command = copy.as_postgres(&["wal-prefetch", "fill", copy.data_argument()]);
    command.args(["--postmaster", &server, "--postmaster-started", started]);
    command.args(["--idle-seconds", "1", "--system-identifier", cluster.trim()]);
    command
}

/// P1
#[test]
fn a_helper_that_nobody_asks_anything_ends_and_keeps_only_what_a_recovery_may_want() {
    let (_repository, source, copy) = story(Place::Directory);
    // Without a server the asking process fills the window, once the first call has left a witness.
    copy.fetch(FIRST).expect_success();
    copy.fetch(FIRST).expect_success();
    let ahead = left_in_spool(&copy);
    assert!(!ahead.is_empty());
    let fill = || {
        let mut helper = helper_by_hand(&source, &copy);
        assert_eq!(Finished::run(&mut helper).expect_success().stdout, "filling\n");
    };
    fill();
    assert_eq!(left_in_spool(&copy), ahead);
    fs::remove_file(copy.data().join("recovery.signal")).unwrap();
    fill();
    assert_eq!(left_in_spool(&copy), Vec::<PathBuf>::new());
}

/// F4
#[test]
fn several_recoveries_on_one_host_do_not_get_in_each_others_way() {
    let (_repository, source, mut copy) = story(Place::Directory);
    let mut second = copy.stopped_copy("second");
    second.environment_mut().extend(copy.environment().clone());
    copy.launch();
    second.recover_to(RecoveryEnd::Promoted);
    wait_until("the first one is promoted", || {
        copy.is_ready()
            && copy.try_psql("postgres", "select pg_is_in_recovery()").stdout.trim() == "f"
    });
    for copy in [&copy, &second] {
        oracle::assert_same_rows(&source, copy);
        assert!(hits(copy) > 0, "{}", copy.log());
    }
}

/// P2
#[test]
fn a_standby_that_follows_the_archive_is_promoted_and_its_place_in_the_spool_is_emptied() {
    let repository = TestRepository::plain_directory();
    let mut primary = Cluster::builder(Major::V15).archiving_to(&repository).create();
    repository.init(primary.data()).expect_success();
    primary.start();
    primary.psql("create table rows (i int)");
    let mut standby = primary.standby("standby", Feed::Archive);
    for number in 1..=6 {
        primary.psql(&format!("insert into rows values ({number})"));
        primary.archive_all();
    }
    standby.wait_for("select count(*) = 6 from rows");
    standby.promote();
    standby.stop(Stop::Fast);
    wait_until("the helper ends with its server", || helpers(&standby).is_empty());
    assert_eq!(left_in_spool(&standby), Vec::<PathBuf>::new());
}

/// A server that is process 1 of its own process namespace, as in a container.
struct Contained(Child);

impl Contained {
    fn start(cluster: &Cluster, log: &std::path::Path) -> Self {
        let user = ServerUser::get();
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "setpriv"]);
        command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
        command.arg("--clear-groups").arg(cluster.major().server_program("postgres"));
        command.arg("-D").arg(cluster.data()).arg("-k").arg(cluster.sockets());
        command.args(["-c", "listen_addresses="]);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C");
        command.envs(cluster.environment()).current_dir(cluster.scratch().path());
        let file = fs::File::create(log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Self(command.spawn().unwrap())
    }

    /// What the server answers over its socket, at its default port.
    fn psql(cluster: &Cluster, sql: &str) -> String {
        let mut command = cluster.client("psql");
        Finished::run(command.args(["-X", "-A", "-t", "-c", sql]).env("PGPORT", "5432")).stdout
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        // The namespace goes with its process 1. `unshare --kill-child` cannot see to that: the kernel forgets the signal
        // when `setpriv` changes the user.
        let id = self.0.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            send(child.parse().expect("a number"), Signal::KILL);
        }
        self.0.wait().expect("it is our child");
    }
}

/// P1
#[test]
fn a_server_that_is_process_1_is_never_restarted_and_its_segments_are_fetched_ahead() {
    if !geteuid().is_root() {
        eprintln!(
            "NOT RUN: a process namespace needs root; nothing is known about P1 on this machine"
        );
        return;
    }
    let (_repository, source, copy) = story(Place::Bucket);
    let log = copy.scratch().join("contained.log");
    let contained = Contained::start(&copy, &log);
    let text = || fs::read_to_string(&log).unwrap();
    wait_until("recovery ends", || {
        text().contains("database system is ready to accept connections")
    });
    assert_eq!(
        fs::read_to_string(copy.data().join("postmaster.pid")).unwrap().lines().next(),
        Some("1")
    );
    assert!(text().contains("was fetched ahead"), "{}", text());
    for trouble in ["reinitializing", "terminating any other active", "was terminated by signal"] {
        assert!(!text().contains(trouble), "{}", text());
    }
    assert!(helpers(&copy).is_empty());
    let rows = "select string_agg(i::text, ' ' order by i) from rows";
    assert_eq!(Contained::psql(&copy, rows).trim(), source.psql(rows));
    drop(contained);
}
