//! Claims about what of a data directory is copied.

use super::EntryKind::{Directory, File, Link, Special};
use super::*;
use crate::postgres::relation_name::Fork;
use crate::postgres::version::MajorVersion;

fn version(major: u32) -> VersionDirectory {
    VersionDirectory { major: MajorVersion::new(major), catalog_version: 202_209_061 }
}

fn judge(place: Place, name: &str, kind: EntryKind) -> Verdict {
    place.judge(name.as_bytes(), kind, &UnloggedRelations::default(), version(15))
}

fn assert_skipped(place: Place, names: &[&str], reason: SkipReason) {
    for name in names {
        assert_eq!(judge(place, name, File), Verdict::Skip(reason), "`{name}` in {place:?}");
    }
}

fn assert_plain(place: Place, names: &[&str]) {
    for name in names {
        let verdict = judge(place, name, File);
        assert_eq!(verdict, Verdict::Copy(FileContent::Other), "`{name}` in {place:?}");
    }
}

#[test]
fn files_of_the_running_server_and_of_earlier_backups_are_left_out() {
    let running =
        ["postmaster.pid", "postmaster.opts", "postgresql.auto.conf.tmp", "current_logfiles.tmp"];
    assert_skipped(Place::Root, &running, SkipReason::RunningServer);
    let earlier = ["backup_label", "tablespace_map", "backup_manifest"];
    assert_skipped(Place::Root, &earlier, SkipReason::EarlierBackup);
    let signals = ["recovery.signal", "standby.signal"];
    assert_skipped(Place::Root, &signals, SkipReason::RecoverySignal);
}

#[test]
fn the_same_names_elsewhere_are_somebodys_files() {
    let names = ["postmaster.pid", "backup_label", "walrs-spool", "recovery.signal"];
    assert_plain(Place::Other, &names);
    assert_plain(Place::Base, &names);
}

#[test]
fn names_that_only_begin_or_end_like_one_left_out_are_copied() {
    assert_plain(
        Place::Root,
        &[
            "postmaster.pid.old",
            "backup_label.old",
            "my_backup_label",
            "current_logfiles",
            "postgresql.auto.conf",
            "recovery.done",
            "walrs-spool2",
            "pgsql_tmp_notes.txt",
            "t3_16384",
            "pg_internal.init",
        ],
    );
}

#[test]
fn directories_that_the_server_fills_anew_stay_and_are_empty() {
    let names = [
        "pg_replslot",
        "pg_dynshmem",
        "pg_notify",
        "pg_serial",
        "pg_snapshots",
        "pg_stat_tmp",
        "pg_subtrans",
    ];
    for name in names {
        assert_eq!(judge(Place::Root, name, Directory), Verdict::Empty(&[]), "`{name}`");
        assert_eq!(judge(Place::Other, name, Directory), Verdict::Enter(Place::Other), "`{name}`");
    }
    for name in ["pg_xact", "pg_multixact", "pg_stat", "pg_logical", "pg_twophase", "log"] {
        assert_eq!(judge(Place::Root, name, Directory), Verdict::Enter(Place::Other), "`{name}`");
    }
}

#[test]
fn pg_wal_becomes_an_empty_directory_even_where_it_is_a_link() {
    let unlogged = UnloggedRelations::default();
    let wal = |major, kind| Place::Root.judge(b"pg_wal", kind, &unlogged, version(major));
    assert_eq!(wal(15, Directory), Verdict::Empty(&["archive_status"]));
    assert_eq!(wal(16, Link), Verdict::Empty(&["archive_status"]));
    assert_eq!(wal(17, Directory), Verdict::Empty(&["archive_status", "summaries"]));
}

#[test]
fn what_walrs_itself_makes_is_left_out() {
    let spool = judge(Place::Root, "walrs-spool", Directory);
    assert_eq!(spool, Verdict::Skip(SkipReason::Walrs));
    assert_skipped(Place::Root, &["walrs-spool-witness-0a1b"], SkipReason::Walrs);
    for place in [Place::Root, Place::Global, Place::Database, Place::Tablespaces, Place::Other] {
        assert_skipped(place, &[".walrs-tmp-17-0-00"], SkipReason::Walrs);
    }
}

#[test]
fn relation_files_are_told_in_the_directories_of_relations_only() {
    let copied = |place, name| judge(place, name, File);
    for place in [Place::Global, Place::Database] {
        let Verdict::Copy(FileContent::Relation(file)) = copied(place, "16384_vm.3") else {
            panic!("no relation file in {place:?}");
        };
        assert_eq!((file.number.0, file.fork, file.segment), (16384, Fork::VisibilityMap, 3));
    }
    // Segments of pg_xact and pg_multixact look alike and carry no checksums.
    assert_plain(Place::Other, &["16384", "1000"]);
    assert_plain(Place::Database, &["PG_VERSION", "16384_old", "16384.sql"]);
}

#[test]
fn files_that_are_read_with_care_are_named() {
    let content = |place, name| judge(place, name, File);
    assert_eq!(content(Place::Global, "pg_control"), Verdict::Copy(FileContent::ControlFile));
    assert_eq!(content(Place::Global, "pg_filenode.map"), Verdict::Copy(FileContent::FilenodeMap));
    assert_eq!(
        content(Place::Database, "pg_filenode.map"),
        Verdict::Copy(FileContent::FilenodeMap)
    );
    assert_plain(Place::Root, &["pg_control"]);
}

#[test]
fn temporary_files_and_relations_are_left_out_where_the_server_makes_them() {
    for place in [Place::Base, Place::TablespaceVersion] {
        let verdict = judge(place, "pgsql_tmp", Directory);
        assert_eq!(verdict, Verdict::Skip(SkipReason::TemporaryFile));
    }
    assert_skipped(Place::Base, &["pgsql_tmp4711.0"], SkipReason::TemporaryFile);
    let relations = ["t3_16384", "t3_16384_fsm", "t3_16384.1"];
    assert_skipped(Place::Database, &relations, SkipReason::TemporaryRelation);
    let caches = ["pg_internal.init", "pg_internal.init.4711"];
    assert_skipped(Place::Database, &caches, SkipReason::RelationCache);
    assert_skipped(Place::Global, &caches, SkipReason::RelationCache);
}

#[test]
fn of_an_unlogged_relation_only_the_init_forks_are_copied() {
    let names: [&[u8]; 5] = [b"16384", b"16384.1", b"16384_vm", b"16384_init", b"16385"];
    let unlogged = UnloggedRelations::among(names);
    let copied = |name: &&&[u8]| {
        let verdict = Place::Database.judge(name, File, &unlogged, version(15));
        verdict != Verdict::Skip(SkipReason::UnloggedRelation)
    };
    let copied: Vec<&[u8]> = names.iter().filter(copied).copied().collect();
    assert_eq!(copied, [b"16384_init".as_slice(), b"16385"]);
}

#[test]
fn the_path_to_relations_leads_through_base_global_and_tablespaces() {
    let enter = |place, name| judge(place, name, Directory);
    assert_eq!(enter(Place::Root, "base"), Verdict::Enter(Place::Base));
    assert_eq!(enter(Place::Base, "5"), Verdict::Enter(Place::Database));
    assert_eq!(enter(Place::Base, "5x"), Verdict::Enter(Place::Other));
    assert_eq!(enter(Place::Root, "global"), Verdict::Enter(Place::Global));
    assert_eq!(enter(Place::Root, "pg_tblspc"), Verdict::Enter(Place::Tablespaces));
    assert_eq!(enter(Place::Tablespaces, "16400"), Verdict::Enter(Place::Tablespace));
    let version = version(15).to_string();
    assert_eq!(enter(Place::Tablespace, &version), Verdict::Enter(Place::TablespaceVersion));
    assert_eq!(enter(Place::TablespaceVersion, "5"), Verdict::Enter(Place::Database));
    assert_eq!(enter(Place::Database, "5"), Verdict::Enter(Place::Other));
}

#[test]
fn of_a_tablespace_only_this_versions_directory_is_copied() {
    for name in ["PG_14_202107181", "PG_15_202209060", "lost+found", "PG_15_2022090611"] {
        for kind in [File, Directory, Link] {
            let verdict = judge(Place::Tablespace, name, kind);
            assert_eq!(verdict, Verdict::Skip(SkipReason::OtherVersion), "`{name}`");
        }
    }
}

#[test]
fn links_are_tablespaces_or_foreign() {
    let link = |place, name| judge(place, name, Link);
    assert_eq!(link(Place::Tablespaces, "16400"), Verdict::TablespaceLink(TablespaceId(16400)));
    assert_eq!(link(Place::Tablespaces, "old"), Verdict::ForeignLink);
    assert_eq!(link(Place::Root, "postgresql.conf"), Verdict::ForeignLink);
    assert_eq!(link(Place::Root, "base"), Verdict::ForeignLink);
    assert_eq!(link(Place::Base, "5"), Verdict::ForeignLink);
    assert_eq!(link(Place::Root, "postmaster.pid"), Verdict::Skip(SkipReason::RunningServer));
}

#[test]
fn sockets_and_fifos_are_left_out() {
    let verdict = judge(Place::Root, ".s.PGSQL.5432", Special);
    assert_eq!(verdict, Verdict::Skip(SkipReason::SpecialFile));
}
