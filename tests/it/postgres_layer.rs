//! What `src/postgres` knows about files, held against what real servers write.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use walrs::postgres::{
    BlockNumber, ControlFile, DatabaseState, EntryKind, FileContent, MajorVersion, PageState,
    Place, PostmasterPid, SegmentDefect, SegmentName, Tablespace, TimelineHistory, TimelineId,
    UnloggedRelations, Verdict, VersionDirectory, WalFileName, check_every_page, check_segment,
    filenode_map_is_intact, page_lsn, verify_page,
};

use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::postmaster::Stop;
use crate::support::program::Finished;
use crate::support::standby::Feed;

/// A cluster with some data, whose files change only when a test changes them.
fn cluster(major: Major) -> Cluster {
    let cluster = Cluster::builder(major).setting("autovacuum", "off").start();
    cluster
        .psql("create table rows as select i, repeat('x', 100) from generate_series(1, 20000) i");
    cluster.psql("create unlogged table fleeting as select i from generate_series(1, 1000) i");
    cluster.psql("vacuum rows; checkpoint");
    cluster
}

fn controldata(cluster: &Cluster) -> BTreeMap<String, String> {
    let mut command = cluster.client("pg_controldata");
    let output = Finished::run(command.arg("-D").arg(cluster.data())).expect_success().stdout;
    let pairs = output.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// Reads both on a server at rest and compares every field that walrs has.
fn assert_control_file_agrees(cluster: &Cluster) -> ControlFile {
    let control = ControlFile::read(cluster.data()).unwrap();
    let printed = controldata(cluster);
    let lsn = |lsn: Option<_>| lsn.map_or_else(|| "0/0".to_owned(), |lsn| format!("{lsn}"));
    let tli = control.min_recovery_timeline.map_or(0, TimelineId::get);
    for (name, ours) in [
        ("pg_control version number", control.control_version.to_string()),
        ("Catalog version number", control.catalog_version.to_string()),
        ("Database system identifier", control.system_identifier.to_string()),
        ("Database cluster state", control.state.to_string()),
        ("Latest checkpoint location", control.checkpoint.to_string()),
        ("Latest checkpoint's REDO location", control.checkpoint_redo.to_string()),
        ("Latest checkpoint's TimeLineID", control.checkpoint_timeline.to_string()),
        ("Minimum recovery ending location", lsn(control.min_recovery_point)),
        ("Min recovery ending loc's timeline", tli.to_string()),
        ("Backup start location", lsn(control.backup_start_point)),
        ("wal_level setting", control.wal_level.to_string()),
        ("Database block size", control.block_size.to_string()),
        ("Blocks per segment of large relation", control.relation_segment_blocks.to_string()),
        ("WAL block size", control.wal_block_size.to_string()),
        ("Bytes per WAL segment", control.segment_size.bytes().to_string()),
    ] {
        assert_eq!(Some(&ours), printed.get(name), "{name}");
    }
    control
}

fn pg_control_is_read_as_pg_controldata_prints_it(major: Major) {
    let mut cluster = cluster(major);
    let running = assert_control_file_agrees(&cluster);
    assert_eq!(running.state, DatabaseState::InProduction);
    cluster.stop(Stop::Fast);
    assert_eq!(assert_control_file_agrees(&cluster).state, DatabaseState::ShutDown);
}

#[test]
fn pg_control_of_13_is_read_as_pg_controldata_prints_it() {
    pg_control_is_read_as_pg_controldata_prints_it(Major::V13);
}

#[test]
fn pg_control_of_15_is_read_as_pg_controldata_prints_it() {
    pg_control_is_read_as_pg_controldata_prints_it(Major::V15);
}

#[test]
fn pg_control_of_17_is_read_as_pg_controldata_prints_it() {
    pg_control_is_read_as_pg_controldata_prints_it(Major::V17);
}

#[test]
fn pg_control_of_a_standby_names_its_minimum_recovery_point() {
    let mut primary =
        Cluster::builder(Major::V15).segment_megabytes(64).setting("wal_level", "logical").start();
    let mut standby = primary.standby("standby", Feed::Streaming);
    primary.psql("create table rows as select i from generate_series(1, 10000) i");
    standby.wait_caught_up(&primary);
    standby.stop(Stop::Fast);
    let control = assert_control_file_agrees(&standby);
    assert_eq!(control.state, DatabaseState::ShutDownInRecovery);
    assert!(control.min_recovery_point.is_some());
}

/// Every entry that a backup copies, with what it holds; directories too.
fn copied(cluster: &Cluster) -> BTreeMap<PathBuf, Option<FileContent>> {
    let control = ControlFile::read(cluster.data()).unwrap();
    let major = MajorVersion::read(cluster.data()).unwrap().expect("a data directory");
    let version = VersionDirectory { major, catalog_version: control.catalog_version };
    let mut found = BTreeMap::new();
    walk(cluster.data(), Path::new(""), Place::Root, version, &mut found);
    found
}

fn walk(
    root: &Path,
    directory: &Path,
    place: Place,
    version: VersionDirectory,
    found: &mut BTreeMap<PathBuf, Option<FileContent>>,
) {
    let names: Vec<OsString> = fs::read_dir(root.join(directory))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    let unlogged = UnloggedRelations::among(names.iter().map(|name| name.as_bytes()));
    for name in &names {
        let path = directory.join(name);
        match place.judge(name.as_bytes(), kind(&root.join(&path)), &unlogged, version) {
            Verdict::Copy(content) => drop(found.insert(path, Some(content))),
            Verdict::Enter(inner) => {
                found.insert(path.clone(), None);
                walk(root, &path, inner, version, found);
            }
            Verdict::TablespaceLink(_) => walk(root, &path, Place::Tablespace, version, found),
            Verdict::Empty(directories) => {
                found.extend(directories.iter().map(|name| (path.join(name), None)));
                found.insert(path, None);
            }
            Verdict::ForeignLink => panic!("a link at {}", path.display()),
            Verdict::Skip(_) => {}
        }
    }
}

fn kind(path: &Path) -> EntryKind {
    let kind = fs::symlink_metadata(path).unwrap().file_type();
    match (kind.is_file(), kind.is_dir(), kind.is_symlink()) {
        (true, ..) => EntryKind::File,
        (_, true, _) => EntryKind::Directory,
        (.., true) => EntryKind::Link,
        _ => EntryKind::Special,
    }
}

fn every_page_is_valid(major: Major) {
    let mut cluster = cluster(major);
    let end = cluster.current_lsn().parse().unwrap();
    cluster.stop(Stop::Fast);
    let control = ControlFile::read(cluster.data()).unwrap();
    let mut valid = 0;
    for (path, content) in copied(&cluster) {
        let Some(FileContent::Relation(file)) = content else { continue };
        let first = file.first_block(control.relation_segment_blocks).unwrap();
        let bytes = fs::read(cluster.data().join(&path)).unwrap();
        for (index, page) in (0..).zip(bytes.chunks(control.block_size as usize)) {
            let state = verify_page(page, BlockNumber(first.0 + index));
            assert_ne!(state, PageState::Bad, "page {index} of {}", path.display());
            assert!(page_lsn(page) <= end, "page {index} of {}", path.display());
            valid += usize::from(state == PageState::Valid);
        }
    }
    assert!(valid > 1000, "{valid} pages only");
}

#[test]
fn every_page_of_13_has_the_checksum_that_walrs_computes() {
    every_page_is_valid(Major::V13);
}

#[test]
fn every_page_of_15_has_the_checksum_that_walrs_computes() {
    every_page_is_valid(Major::V15);
}

#[test]
fn every_page_of_17_has_the_checksum_that_walrs_computes() {
    every_page_is_valid(Major::V17);
}

/// B8
#[test]
fn every_filenode_map_of_a_running_server_is_intact() {
    for major in Major::ALL {
        let cluster = Cluster::builder(major).start();
        cluster.psql("vacuum full pg_class");
        let maps = copied(&cluster).into_iter();
        let maps = maps.filter(|(_, content)| *content == Some(FileContent::FilenodeMap));
        let intact =
            |(path, _)| filenode_map_is_intact(&fs::read(cluster.data().join(path)).unwrap());
        let results: Vec<bool> = maps.map(intact).collect();
        assert!(
            results.len() >= 4 && results.iter().all(|intact| *intact),
            "{major:?}: {results:?}"
        );
    }
}

/// `pg_basebackup` of the running server into a sibling directory.
fn base_backup(cluster: &Cluster, mappings: &[(PathBuf, PathBuf)]) -> PathBuf {
    let target = cluster.scratch().join("base-backup");
    let mut command = cluster.client("pg_basebackup");
    command.args(["--wal-method=none", "--checkpoint=fast", "--pgdata"]).arg(&target);
    for (from, to) in mappings {
        command.arg(format!("--tablespace-mapping={}={}", from.display(), to.display()));
    }
    Finished::run(&mut command).expect_success();
    target
}

fn tree(root: &Path, directory: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(root.join(directory)).unwrap() {
        let path = directory.join(entry.unwrap().file_name());
        let is_directory = fs::metadata(root.join(&path)).unwrap().is_dir();
        if kind(&root.join(&path)) != EntryKind::Link {
            found.insert(path.clone());
        }
        if is_directory {
            tree(root, &path, found);
        }
    }
}

#[test]
fn what_is_copied_is_what_pg_basebackup_copies() {
    let cluster = cluster(Major::V15);
    let location = cluster.create_tablespace("elsewhere");
    cluster.psql("create table there tablespace elsewhere as select 1 as a");
    cluster.psql("create unlogged table there_too (a int primary key) tablespace elsewhere");
    cluster.psql("set allow_in_place_tablespaces = on; create tablespace inside location ''");
    cluster.psql("create table in_place tablespace inside as select 1 as a; checkpoint");
    fs::create_dir(location.join("PG_14_202107181")).unwrap();
    fs::write(cluster.data().join("walrs-spool-witness-0a"), "ours").unwrap();
    fs::write(cluster.data().join("base/pgsql_tmp4711.0"), "temporary").unwrap();
    fs::write(cluster.data().join("base/5/t3_16384_fsm"), "temporary").unwrap();
    let mapping = [(location, cluster.scratch().join("mapped"))];
    let mut theirs = BTreeSet::new();
    tree(&base_backup(&cluster, &mapping), Path::new(""), &mut theirs);
    for name in ["backup_label", "backup_manifest", "tablespace_map", "walrs-spool-witness-0a"] {
        theirs.remove(Path::new(name));
    }
    let ours: BTreeSet<PathBuf> = copied(&cluster).into_keys().collect();
    let difference: Vec<_> = ours.symmetric_difference(&theirs).collect();
    assert!(difference.is_empty(), "in one of the two only: {difference:?}");
    assert!(ours.iter().any(|path| path.starts_with("pg_tblspc")));
}

#[test]
fn the_tablespaces_of_a_real_cluster_are_listed() {
    let cluster = Cluster::builder(Major::V15).start();
    let location = cluster.create_tablespace("elsewhere");
    let listed = Tablespace::list(cluster.data()).unwrap();
    let oid = cluster.psql("select oid from pg_tablespace where spcname = 'elsewhere'");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].id.to_string(), oid);
    assert_eq!(fs::read_link(cluster.data().join(listed[0].path())).unwrap(), location);
}

/// R2
#[test]
fn a_running_server_is_told_from_a_killed_one() {
    let mut cluster = Cluster::builder(Major::V15).start();
    let lock = PostmasterPid::read(cluster.data()).unwrap().expect("a lock file");
    assert_eq!(lock.process(), Some(cluster.postmaster_pid()));
    assert!(lock.is_alive());
    cluster.stop(Stop::Kill);
    let left_over = PostmasterPid::read(cluster.data()).unwrap().expect("a lock file");
    assert!(!left_over.is_alive());
}

fn read_segment(cluster: &Cluster, name: SegmentName) -> Vec<u8> {
    fs::read(cluster.data().join("pg_wal").join(name.to_string())).unwrap()
}

/// W7
fn real_segments_pass_their_checks(major: Major, segment_megabytes: u32) {
    let cluster = Cluster::builder(major)
        .segment_megabytes(segment_megabytes)
        .setting("wal_keep_size", "1GB")
        .start();
    let first: SegmentName = cluster.switch_wal().parse().unwrap();
    cluster
        .psql("create table rows as select i, repeat('x', 100) from generate_series(1, 20000) i");
    let last: SegmentName = cluster.switch_wal().parse().unwrap();
    let expected = ControlFile::read(cluster.data()).unwrap().cluster();
    assert_eq!(expected.segment_size.bytes(), u64::from(segment_megabytes) << 20);
    let mut name = first;
    while name <= last {
        let bytes = read_segment(&cluster, name);
        let header =
            check_every_page(name, &bytes, &expected).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(header.page.magic.major_version(), Some(major.number()));
        name = name.next(expected.segment_size).unwrap();
    }
    let wrong = check_segment(
        name,
        expected.segment_size.bytes(),
        &read_segment(&cluster, last),
        &expected,
    );
    assert!(matches!(wrong, Err(SegmentDefect::WrongAddress { .. })), "{wrong:?}");
}

/// W7, T1
#[test]
fn segments_of_13_pass_their_checks() {
    real_segments_pass_their_checks(Major::V13, 16);
}

/// W7, T1
#[test]
fn segments_of_15_pass_their_checks_at_the_smallest_size() {
    real_segments_pass_their_checks(Major::V15, 1);
}

/// W7, T1
#[test]
fn segments_of_17_pass_their_checks_at_64_mib() {
    real_segments_pass_their_checks(Major::V17, 64);
}

/// W7: after a promotion the first segment of the new timeline begins with the old one's pages.
#[test]
fn segments_of_a_promoted_standby_pass_their_checks() {
    let mut primary = Cluster::builder(Major::V15).start();
    let standby = primary.standby("standby", Feed::Streaming);
    primary.psql("create table rows as select i from generate_series(1, 10000) i");
    standby.wait_caught_up(&primary);
    primary.stop(Stop::Immediate);
    standby.promote();
    let name: SegmentName = standby.switch_wal().parse().unwrap();
    let expected = ControlFile::read(standby.data()).unwrap().cluster();
    let header = check_every_page(name, &read_segment(&standby, name), &expected).unwrap();
    assert_eq!((name.timeline().get(), header.page.timeline.get()), (2, 1));
    let file: WalFileName = "00000002.history".parse().unwrap();
    let content = fs::read(standby.data().join("pg_wal").join(file.to_string())).unwrap();
    let history = TimelineHistory::parse(file.timeline(), &content).unwrap();
    assert_eq!(history.parent().unwrap().timeline, TimelineId::FIRST);
    // What the standby received of the parent's last segment ends in zeros.
    let parent = name.on_timeline(TimelineId::FIRST);
    let defect = check_every_page(parent, &read_segment(&standby, parent), &expected).unwrap_err();
    assert!(matches!(defect, SegmentDefect::ZeroPage { .. }), "{defect}");
}
