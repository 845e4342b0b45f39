//! Many deltas, of which some are deleted: there is no chain.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use walrs::repository::{BackupId, Catalog, Manifest, ObjectName};
use walrs::storage::ObjectKey;

use super::super::{assert_equal_digests, compared_digests};
use super::{archiving_as, assert_skipping_delta_is_right, push, recovered, without_checksums};
use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::oracle;
use crate::support::repository::TestRepository;
use crate::support::stored_backup::open;

const DELTAS: usize = 12;
/// Of the full backup and the deltas after it.
const KEPT: [usize; 4] = [0, 4, 9, DELTAS];

type Digests = BTreeMap<String, String>;

/// A full backup and deltas, each with what the directory was.
fn take_all(cluster: &Cluster) -> Vec<(String, Digests)> {
    let take = |round: usize| {
        cluster.psql(&format!(
            "update t set filler = filler || '{round}' where i % 200 = {round}; \
             create table made_{round} as select i from generate_series(1, 2000) i; \
             drop table if exists made_{}; checkpoint",
            round.wrapping_sub(3)
        ));
        let id = push(cluster, &[])["id"].as_str().unwrap().to_owned();
        (id, compared_digests(cluster.data()))
    };
    (0..=DELTAS).map(take).collect()
}

/// Deletes backups as a sweeper may: their manifests, then the packs that no remaining manifest names, then the rest.
async fn sweep(repository: &TestRepository, dropped: &[BackupId]) {
    let remove =
        |name: &ObjectName| fs::remove_file(repository.object(name.key().as_str())).unwrap();
    for id in dropped {
        remove(&ObjectName::Manifest(id.clone()));
    }
    let catalog = Catalog::load(&open(repository).await).await.unwrap();
    let named = |manifest: &Manifest| -> Vec<_> {
        manifest.packs.iter().map(|pack| (pack.backup.clone(), pack.number)).collect()
    };
    let named: BTreeSet<_> = catalog.visible().flat_map(named).collect();
    for id in dropped {
        for key in repository.keys_with(&format!("backups/{id}/")) {
            let name = ObjectName::parse(&ObjectKey::parse(key).unwrap()).unwrap();
            if !matches!(&name, ObjectName::Pack(id, number) if named.contains(&(id.clone(), *number)))
            {
                remove(&name);
            }
        }
    }
}

fn assert_restores(cluster: &Cluster, name: &str, (id, expected): &(String, Digests)) {
    let copy = cluster.sibling(name);
    cluster.walrs(&["backup-fetch", copy.data_argument(), id]).expect_success();
    assert_equal_digests(expected, &compared_digests(copy.data()));
}

/// D4
#[tokio::test]
async fn deltas_whose_neighbours_were_deleted_restore_and_go_on() {
    let repository = TestRepository::plain_directory();
    let mut cluster = archiving_as(without_checksums(Major::V15), &repository);
    cluster.psql(
        "create table t (i int, filler text) with (fillfactor = 60); \
         insert into t select i, md5(i::text) from generate_series(1, 20000) i; create index on t (i)",
    );
    std::thread::sleep(super::SETTLING);
    let backups = take_all(&cluster);
    let packs = repository.keys_with("/packs/").len();
    let is_kept = |(index, _): &(usize, &(String, Digests))| KEPT.contains(index);
    let dropped = backups.iter().enumerate().filter(|backup| !is_kept(backup));
    let dropped: Vec<BackupId> = dropped.map(|(_, (id, _))| id.parse().unwrap()).collect();
    sweep(&repository, &dropped).await;
    assert!(repository.keys_with("/packs/").len() < packs);
    for index in KEPT {
        assert_restores(&cluster, &format!("kept-{index}"), &backups[index]);
    }
    let oldest = recovered(&cluster, "oldest", &backups[0].0);
    oracle::assert_same_rows(&cluster, &oldest);
    let next = assert_skipping_delta_is_right(&mut cluster, "next");
    assert_eq!(next.shown["parent"], backups[DELTAS].0.as_str());
}
