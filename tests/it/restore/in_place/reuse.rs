//! Only what differs is read from the repository, and a plan says beforehand how much that is.

use std::fs;

use super::{archiving, back_up, number, plan, relation, try_in_place};
use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::oracle;
use crate::support::postmaster::Stop;
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::TestRepository;

/// Some 60 MB in a table, and everything archived; the cluster is stopped.
fn stopped_with_a_table(repository: &TestRepository) -> (Cluster, std::path::PathBuf) {
    let mut source = archiving(Major::V15, repository);
    // Several packs for so little data.
    source.environment_mut().insert("WALRS_COMPRESSION_METHOD".to_owned(), "none".to_owned());
    source.psql("create table wide as select i, md5(i::text) || repeat('x', 400) from generate_series(1, 120000) i");
    source.psql("vacuum analyze wide; checkpoint");
    let table = relation(&source, "wide");
    back_up(&source);
    source.archive_all();
    source.stop(Stop::Fast);
    (source, table)
}

fn flip(path: &std::path::Path, positions: &[usize]) {
    let mut content = fs::read(path).unwrap();
    for position in positions {
        content[*position] ^= 1;
    }
    fs::write(path, content).unwrap();
}

/// R6
#[test]
fn a_plan_counts_what_differs_and_changes_nothing() {
    let repository = TestRepository::plain_directory();
    let (source, table) = stopped_with_a_table(&repository);
    let untouched = plan(&source, &[]);
    flip(&table, &[8192 * 100, 8192 * 2000 + 17, 8192 * 4000, 8192 * 4001]);
    let keys = repository.keys();
    let digests = oracle::file_digests(source.data());
    let changed = plan(&source, &[]);
    let more = |member| number(&changed, member) - number(&untouched, member);
    assert_eq!(
        (more("changed_files"), more("fetch_blocks"), more("write_bytes")),
        (1, 4, 4 * 8192)
    );
    assert!((1..4 << 20).contains(&more("fetch_bytes")), "{changed}");
    assert_eq!(more("read_bytes"), 0);
    assert!(number(&changed, "read_bytes") > number(&changed, "bytes") * 9 / 10, "{changed}");
    assert!(number(&changed, "blocks") >= number(&changed, "bytes") / 8192);
    assert_eq!(oracle::file_digests(source.data()), digests);
    assert_eq!(repository.keys(), keys);
}

/// R6
#[test]
fn what_a_plan_says_is_what_a_restore_does() {
    let repository = TestRepository::plain_directory();
    let (source, table) = stopped_with_a_table(&repository);
    flip(&table, &[8192 * 100, 8192 * 3000]);
    fs::remove_file(source.data().join("base/1/1259")).unwrap();
    let planned = plan(&source, &[]);
    let done = try_in_place(&source, &["--json"]).expect_success();
    let done: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(done, planned);
    assert!(number(&done, "fetch_blocks") > 2, "{done}");
}

/// What a new directory needs is told as well.
#[test]
fn a_plan_for_a_new_directory_counts_everything() {
    let repository = TestRepository::plain_directory();
    let (source, _) = stopped_with_a_table(&repository);
    let copy = source.sibling("copy");
    let planned = source.walrs(&["restore", copy.data_argument(), "--plan", "--json"]);
    let planned: serde_json::Value =
        serde_json::from_str(&planned.expect_success().stdout).unwrap();
    let of = |member| number(&planned, member);
    assert_eq!((of("changed_files"), of("read_bytes")), (of("files"), 0));
    assert!(of("fetch_blocks") <= of("blocks") && of("write_bytes") <= of("bytes"), "{planned}");
    assert!(of("write_bytes") > 60 << 20, "{planned}");
    assert!((1..=of("stored_bytes")).contains(&of("fetch_bytes")), "{planned}");
}

/// R6
#[test]
fn packs_of_blocks_that_are_right_are_never_read() {
    let repository = TestRepository::plain_directory();
    let (mut source, table) = stopped_with_a_table(&repository);
    // Files that differ after a stop lie at the beginning and the end of the list; the table is by itself between.
    let packs = repository.keys_with("/packs/");
    let untouched: Vec<_> =
        packs.iter().filter(|pack| is_not_needed(&source, &repository, pack)).collect();
    assert!(!untouched.is_empty(), "all of {packs:?} are needed");
    for pack in untouched {
        fs::remove_file(repository.object(pack)).unwrap();
    }
    try_in_place(&source, &[]).expect_success();
    source.recover_to(RecoveryEnd::Promoted);
    assert_eq!(source.psql("select count(*) from wide"), "120000");
    assert!(table.exists());
}

/// Whether a restore could be planned without the pack.
fn is_not_needed(source: &Cluster, repository: &TestRepository, pack: &str) -> bool {
    let path = repository.object(pack);
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let planned = try_in_place(source, &["--plan"]);
    fs::write(&path, bytes).unwrap();
    assert!(planned.status == 0 || planned.status == 5, "{planned}");
    planned.status == 0
}
