//! Backups that share blocks with each other: from the state of any of them to the state of any other.

use super::{archiving, assert_same_content, back_up, number, plan, try_in_place};
use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::oracle;
use crate::support::postmaster::Stop;
use crate::support::recovery::RecoveryEnd;
use crate::support::repository::TestRepository;

/// Backups with scattered updates, new and dropped tables, and growth between them.
fn chain(source: &Cluster) -> Vec<String> {
    source.psql(
        "create table wide as select i, repeat('x', 300) as text from generate_series(1, 60000) i",
    );
    source.psql("create table grows as select 0 as round");
    let round = |round: u32| {
        source.psql(&format!("update wide set text = 'round {round}' where i % 97 = {round}"));
        source.psql(&format!("insert into grows select {round} from generate_series(1, 5000)"));
        source.psql(&format!("create table only_{round} as select {round} as id; vacuum wide"));
        source.psql(&format!("drop table if exists only_{}", round - 1));
        back_up(source)
    };
    let backups = (1..=5).map(round).collect();
    source.archive_all();
    backups
}

/// R6, D4
#[test]
fn any_backup_of_a_chain_is_reached_in_place_from_any_other() {
    let repository = TestRepository::plain_directory();
    let mut source = archiving(Major::V15, &repository);
    let backups = chain(&source);
    source.stop(Stop::Fast);
    for index in [3, 0, 4, 1] {
        let backup = &backups[index];
        let arguments = ["--backup", backup, "--immediate", "--discard-unarchived-wal"];
        let needed = plan(&source, &arguments);
        assert!(number(&needed, "fetch_blocks") * 2 < number(&needed, "blocks"), "{needed}");
        try_in_place(&source, &arguments).expect_success();
        let fresh = source.sibling(&format!("fresh-{index}"));
        let arguments = ["restore", fresh.data_argument(), "--archive", "keep"];
        source
            .walrs(&[&arguments[..], &["--backup", backup, "--immediate"]].concat())
            .expect_success();
        assert_same_content(fresh.data(), source.data(), |_| false);
    }
    source.recover_to(RecoveryEnd::Promoted);
    assert_eq!(source.psql("select max(round) from grows"), "2");
    assert_eq!(source.psql("select count(*) from wide where text = 'round 2'"), "619");
    oracle::assert_sound(&source);
}
