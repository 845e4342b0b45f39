//! The SQL session with real servers: questions, backups, and how a lost connection shows.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use walrs::error::ErrorKind;
use walrs::postgres::{
    ConnectionSettings, ControlFile, Lsn, SegmentName, Session, SslMode, TablespaceId, TimelineId,
};
use walrs::secret::Secret;

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::standby::Feed;
use crate::support::user::ServerUser;

pub(crate) fn settings(cluster: &Cluster) -> ConnectionSettings {
    ConnectionSettings {
        host: cluster.sockets().to_str().map(str::to_owned),
        port: Some(cluster.port()),
        user: Some("postgres".to_owned()),
        application_name: "walrs test".to_owned(),
        ..ConnectionSettings::default()
    }
}

async fn connect(cluster: &Cluster) -> Session {
    Session::connect(&settings(cluster)).await.unwrap()
}

async fn a_server_answers_every_question(major: Major) {
    let cluster = Cluster::builder(major).segment_megabytes(1).start();
    let session = connect(&cluster).await;
    assert_eq!(session.major_version().get(), major.number());
    assert_eq!(session.data_directory().await.unwrap(), cluster.data());
    let identifier = session.system_identifier().await.unwrap();
    assert_eq!(identifier, ControlFile::read(cluster.data()).unwrap().system_identifier);
    assert!(!session.in_recovery().await.unwrap());
    assert_eq!(session.timeline().await.unwrap(), TimelineId::FIRST);
    let before = session.current_insert_lsn().await.unwrap();
    cluster.psql("create table rows as select 1 as a");
    let switched = session.switch_wal().await.unwrap();
    assert!(before < switched && switched <= session.current_insert_lsn().await.unwrap());
    assert_eq!(session.setting("wal_level").await.unwrap().as_deref(), Some("replica"));
    assert_eq!(session.setting("no_such_setting").await.unwrap(), None);
    let started = session.postmaster_start_time().await.unwrap();
    assert!(started.as_second() > 0 && started < jiff::Timestamp::now());
}

#[tokio::test]
async fn a_server_of_13_answers_every_question() {
    a_server_answers_every_question(Major::V13).await;
}

#[tokio::test]
async fn a_server_of_15_answers_every_question() {
    a_server_answers_every_question(Major::V15).await;
}

#[tokio::test]
async fn a_server_of_17_answers_every_question() {
    a_server_answers_every_question(Major::V17).await;
}

/// B4
async fn a_backup_starts_and_stops(major: Major) {
    let cluster = Cluster::builder(major).start();
    let location = cluster.create_tablespace("elsewhere");
    let session = connect(&cluster).await;
    let started = session.start_backup(r"a \ label").await.unwrap();
    cluster.psql("create table rows as select i from generate_series(1, 1000) i");
    let stopped = session.stop_backup().await.unwrap();
    assert!(started.lsn < stopped.lsn);
    let label = String::from_utf8(stopped.backup_label).unwrap();
    assert!(label.starts_with(&format!("START WAL LOCATION: {} (file ", started.lsn)), "{label}");
    assert!(label.contains("\nLABEL: a \\ label\n"), "{label}");
    let oid = session.tablespaces().await.unwrap()[0].id;
    let map = format!("{oid} {}\n", location.display());
    assert_eq!(stopped.tablespace_map, Some(map.into_bytes()));
}

/// B4
#[tokio::test]
async fn a_backup_of_13_starts_and_stops() {
    a_backup_starts_and_stops(Major::V13).await;
}

/// B4
#[tokio::test]
async fn a_backup_of_15_starts_and_stops() {
    a_backup_starts_and_stops(Major::V15).await;
}

/// B4
#[tokio::test]
async fn a_backup_of_17_starts_and_stops() {
    a_backup_starts_and_stops(Major::V17).await;
}

#[tokio::test]
async fn without_tablespaces_there_is_no_map() {
    for major in Major::ALL {
        let cluster = Cluster::builder(major).start();
        let session = connect(&cluster).await;
        session.start_backup("walrs").await.unwrap();
        assert_eq!(session.stop_backup().await.unwrap().tablespace_map, None, "{major:?}");
        assert!(session.tablespaces().await.unwrap().is_empty());
    }
}

/// B4: the connection speaks UTF-8, the files of the server are in its database's encoding.
#[tokio::test]
async fn the_tablespace_map_keeps_the_bytes_of_a_path_that_is_not_utf8() {
    let cluster = Cluster::builder(Major::V15).start();
    cluster.psql("create database old encoding 'LATIN1' template template0 locale 'C'");
    let location = cluster.scratch().join(OsStr::from_bytes(b"caf\xE9"));
    fs::create_dir(&location).unwrap();
    ServerUser::get().own(&location);
    let sql = format!("create tablespace t location '{}/café'", cluster.scratch().path().display());
    cluster.psql_in("old", &format!("set client_encoding = 'UTF8'; {sql}"));
    for database in ["old", "postgres"] {
        let settings =
            ConnectionSettings { database: Some(database.to_owned()), ..settings(&cluster) };
        let session = Session::connect(&settings).await.unwrap();
        session.start_backup("walrs").await.unwrap();
        let map = session.stop_backup().await.unwrap().tablespace_map.unwrap();
        assert!(map.ends_with(b"/caf\xE9\n"), "{database}: {}", String::from_utf8_lossy(&map));
    }
}

#[tokio::test]
async fn the_servers_timeouts_do_not_end_a_backup() {
    let mut cluster = Cluster::builder(Major::V17);
    for name in ["statement_timeout", "lock_timeout", "transaction_timeout"] {
        cluster = cluster.setting(name, "5s");
    }
    for name in ["idle_in_transaction_session_timeout", "idle_session_timeout"] {
        cluster = cluster.setting(name, "5s");
    }
    let cluster = cluster.setting("search_path", "evil, pg_catalog").start();
    let session = connect(&cluster).await;
    for name in [
        "statement_timeout",
        "lock_timeout",
        "transaction_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
    ] {
        assert_eq!(session.setting(name).await.unwrap().as_deref(), Some("0"), "{name}");
    }
    let path = session.setting("search_path").await.unwrap();
    assert_eq!(path.as_deref(), Some("pg_catalog"));
    assert_eq!(session.setting("application_name").await.unwrap().as_deref(), Some("walrs test"));
}

/// B2
#[tokio::test]
async fn a_restart_of_the_server_shows_as_a_lost_connection() {
    let mut cluster = Cluster::builder(Major::V15).start();
    let session = connect(&cluster).await;
    session.start_backup("walrs").await.unwrap();
    cluster.restart();
    let error = session.stop_backup().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.report().contains("the connection to PostgreSQL was lost"), "{error:?}");
    assert_eq!(session.lost().await.kind(), ErrorKind::Unavailable);
}

/// B2
#[tokio::test]
async fn a_lost_connection_is_noticed_without_asking() {
    let cluster = Cluster::builder(Major::V15).start();
    let session = connect(&cluster).await;
    let waiting = tokio::time::timeout(Duration::from_millis(200), session.lost()).await;
    assert!(waiting.is_err(), "lost while it holds: {waiting:?}");
    let terminate = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'walrs test'";
    assert_eq!(cluster.psql(terminate), "t");
    let error = session.lost().await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.report().contains("terminating connection"), "{error:?}");
}

/// B2
#[tokio::test]
async fn a_promotion_shows_in_role_and_timeline_of_the_same_session() {
    let mut primary = Cluster::builder(Major::V15).start();
    let standby = primary.standby("standby", Feed::Streaming);
    let session = connect(&standby).await;
    standby.wait_caught_up(&primary);
    assert!(session.in_recovery().await.unwrap());
    assert_eq!(session.timeline().await.unwrap(), TimelineId::FIRST);
    assert!(session.current_insert_lsn().await.unwrap() > Lsn::INVALID);
    standby.promote();
    assert!(!session.in_recovery().await.unwrap());
    assert_eq!(session.timeline().await.unwrap(), TimelineId::new(2).unwrap());
}

/// B2
#[tokio::test]
async fn a_backup_can_be_taken_from_a_standby() {
    let mut primary = Cluster::builder(Major::V15).start();
    let standby = primary.standby("standby", Feed::Streaming);
    standby.wait_caught_up(&primary);
    let session = connect(&standby).await;
    let started = session.start_backup("walrs").await.unwrap();
    let stopped = session.stop_backup().await.unwrap();
    assert!(started.lsn <= stopped.lsn);
    let label = String::from_utf8_lossy(&stopped.backup_label).into_owned();
    assert!(label.contains("BACKUP FROM: standby\n"), "{label}");
}

#[tokio::test]
async fn the_state_of_archiving_is_reported() {
    let archive = "test ! -f ../refuse && cp %p ../%f";
    let cluster = Cluster::builder(Major::V15).archive_command(archive).start();
    let session = connect(&cluster).await;
    let fresh = session.archiver_statistics().await.unwrap();
    assert_eq!((fresh.archived_count, fresh.last_archived), (0, None));
    let segment = cluster.archive_all();
    let archived = loop {
        let statistics = session.archiver_statistics().await.unwrap();
        // The statistics are sent after the file was marked as archived.
        if let Some(file) = statistics.last_archived {
            break file;
        }
    };
    assert_eq!(archived.name, segment);
    assert!(archived.name.parse::<SegmentName>().is_ok() && archived.time.as_second() > 0);
}

#[tokio::test]
async fn tablespaces_are_listed_with_their_places() {
    let cluster = Cluster::builder(Major::V15).start();
    let location = cluster.create_tablespace("elsewhere");
    cluster.psql("set allow_in_place_tablespaces = on; create tablespace inside location ''");
    let listed = connect(&cluster).await.tablespaces().await.unwrap();
    let oid = |name| {
        let sql = format!("select oid from pg_tablespace where spcname = '{name}'");
        TablespaceId(cluster.psql(&sql).parse().unwrap())
    };
    assert_eq!((listed[0].id, listed[0].name.as_str()), (oid("elsewhere"), "elsewhere"));
    assert_eq!(listed[0].location, location);
    assert_eq!(listed[1].location, std::path::Path::new(&format!("pg_tblspc/{}", oid("inside"))));
}

#[tokio::test]
async fn a_role_without_privileges_is_told_what_is_missing() {
    let cluster = Cluster::builder(Major::V15).start();
    cluster.psql("create role humble login");
    let database = Some("postgres".to_owned());
    let settings =
        ConnectionSettings { user: Some("humble".to_owned()), database, ..settings(&cluster) };
    let session = Session::connect(&settings).await.unwrap();
    let error = session.start_backup("walrs").await.unwrap_err().report();
    assert!(error.contains("cannot start a backup") && error.contains("42501"), "{error}");
    assert!(error.contains("hint: connect as a superuser"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable_and_the_hint_names_the_settings() {
    let cluster = Cluster::builder(Major::V15).create();
    let error = Session::connect(&settings(&cluster)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let report = error.report();
    assert!(report.contains(cluster.sockets().to_str().unwrap()), "{report}");
    assert!(report.contains("PGHOST"), "{report}");
}

#[tokio::test]
async fn the_first_host_that_answers_is_taken() {
    let cluster = Cluster::builder(Major::V15).start();
    let host = format!("/no/such/directory,{}", cluster.sockets().display());
    let settings = ConnectionSettings { host: Some(host), ..settings(&cluster) };
    assert!(Session::connect(&settings).await.is_ok());
}

/// Every connection over TCP needs the password; the socket does not.
fn cluster_with_password() -> Cluster {
    let cluster = Cluster::builder(Major::V15).start();
    cluster.psql("create role walrs superuser login password 'a:b\\c'");
    let rules = "local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    fs::write(cluster.data().join("pg_hba.conf"), rules).unwrap();
    cluster.reload();
    cluster
}

fn over_tcp(cluster: &Cluster) -> ConnectionSettings {
    ConnectionSettings {
        host: Some("127.0.0.1".to_owned()),
        user: Some("walrs".to_owned()),
        database: Some("postgres".to_owned()),
        ssl_mode: SslMode::Disable,
        ..settings(cluster)
    }
}

#[tokio::test]
async fn a_password_comes_from_the_settings_or_the_password_file() {
    let cluster = cluster_with_password();
    let given = Some(Secret::new("a:b\\c".to_owned()));
    let settings = ConnectionSettings { password: given, ..over_tcp(&cluster) };
    assert!(Session::connect(&settings).await.is_ok());
    let line = format!("127.0.0.1:{}:*:walrs:a\\:b\\\\c\n", cluster.port());
    let password_file = Some(cluster.scratch().write("pgpass", line));
    let settings = ConnectionSettings { password_file, ..over_tcp(&cluster) };
    assert!(Session::connect(&settings).await.is_ok());
}

/// K2
#[tokio::test]
async fn a_wrong_password_is_refused_and_not_repeated_in_the_error() {
    let cluster = cluster_with_password();
    let wrong = Some(Secret::new("swordfish".to_owned()));
    let settings = ConnectionSettings { password: wrong, ..over_tcp(&cluster) };
    let error = Session::connect(&settings).await.unwrap_err();
    let report = error.report();
    assert!(report.contains("28P01") && !report.contains("swordfish"), "{report}");
    assert!(!format!("{settings:?}").contains("swordfish"));
}
