//! Answers whether two clusters hold the same rows, and whether one is sound: SQL digests by every access path,
//! `amcheck`, visibility maps, and plain file digests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::cluster::Cluster;
use super::installation::Major;
use super::program::Finished;

/// Rows and content of one table.
pub(crate) type TableDigests = BTreeMap<String, String>;

const NO_INDEX: &str = "set enable_indexscan = off; set enable_indexonlyscan = off; \
                        set enable_bitmapscan = off; set max_parallel_workers_per_gather = 0;";
const ONLY_INDEX: &str = "set enable_seqscan = off; set enable_indexonlyscan = off; \
                          set enable_bitmapscan = off; set enable_sort = off; \
                          set enable_incremental_sort = off; set max_parallel_workers_per_gather = 0;";

const INDEX_ALONE: &str = "set enable_seqscan = off; set enable_indexscan = off; \
                           set enable_bitmapscan = off; set enable_sort = off; \
                           set max_parallel_workers_per_gather = 0;";

/// Row count and md5 over the sorted rows of every user table, by sequential scan: `schema.table` → `count:md5`.
#[track_caller]
pub(crate) fn table_digests(cluster: &Cluster) -> TableDigests {
    table_digests_in(cluster, "postgres")
}

/// As [`table_digests`], in another database.
#[track_caller]
pub(crate) fn table_digests_in(cluster: &Cluster, database: &str) -> TableDigests {
    let tables = lines(cluster, database, USER_TABLES);
    let digest = |table: String| {
        let sql = format!("{NO_INDEX} {}", digest_query(&format!("{table} as r")));
        (table, cluster.psql_in(database, &sql))
    };
    tables.into_iter().map(digest).collect()
}

/// Asserts that every complete btree index leads to the same rows as the sequential scan.
#[track_caller]
pub(crate) fn assert_indexes_agree(cluster: &Cluster, database: &str) {
    let by_scan = table_digests_in(cluster, database);
    for Index { table, columns, .. } in &complete_btree_indexes(cluster, database) {
        let ordered = format!("(select * from {table} order by {columns}) as r");
        let plan =
            cluster.psql_in(database, &format!("{ONLY_INDEX} explain select * from {ordered}"));
        assert!(plan.contains("Index Scan using"), "no index scan over {columns}:\n{plan}");
        let sql = format!("{ONLY_INDEX} {}", digest_query(&ordered));
        let by_index = cluster.psql_in(database, &sql);
        assert_eq!(&by_scan[table], &by_index, "index on ({columns}) of {table} leads elsewhere");
    }
}

/// Asserts that what a btree index says alone, where the visibility map lets it, is what the heap says.
#[track_caller]
pub(crate) fn assert_indexes_alone_agree(cluster: &Cluster, database: &str) {
    let mut indexes = complete_btree_indexes(cluster, database);
    indexes.retain(|index| !index.has_expressions);
    for Index { table, columns, .. } in &indexes {
        let rows = format!("(select {columns} from {table} order by {columns}) as r");
        let plan =
            cluster.psql_in(database, &format!("{INDEX_ALONE} explain select * from {rows}"));
        assert!(plan.contains("Index Only Scan using"), "no index-only scan:\n{plan}");
        let by = |access| cluster.psql_in(database, &format!("{access} {}", digest_query(&rows)));
        let (heap, index) = (by(NO_INDEX), by(INDEX_ALONE));
        assert_eq!(heap, index, "index on ({columns}) of {table} alone says otherwise");
    }
}

/// A btree index that has an entry for every row.
struct Index {
    table: String,
    columns: String,
    has_expressions: bool,
}

fn complete_btree_indexes(cluster: &Cluster, database: &str) -> Vec<Index> {
    let index = |line: &String| {
        let (place, expressions) = line.rsplit_once('|').expect("three columns");
        let (table, columns) = place.split_once('|').expect("three columns");
        let (table, columns) = (table.to_owned(), columns.to_owned());
        Index { table, columns, has_expressions: expressions == "t" }
    };
    lines(cluster, database, COMPLETE_BTREE_INDEXES).iter().map(index).collect()
}

/// Asserts that heaps, btrees and visibility maps of every database are sound.
///
/// Creates `amcheck` and `pg_visibility`, so the server must be out of recovery.
#[track_caller]
pub(crate) fn assert_sound(cluster: &Cluster) {
    for database in databases(cluster) {
        assert_indexes_agree(cluster, &database);
        assert_indexes_alone_agree(cluster, &database);
        assert_visibility_maps(cluster, &database);
        if cluster.major() == Major::V13 {
            assert_btrees(cluster, &database);
        }
    }
    if cluster.major() != Major::V13 {
        assert_amcheck(cluster);
    }
}

/// Asserts that `copy` has the rows of `source` in every database, and is sound.
#[track_caller]
pub(crate) fn assert_same_rows(source: &Cluster, copy: &Cluster) {
    assert_eq!(databases(source), databases(copy), "the databases differ");
    for database in databases(source) {
        let (expected, found) =
            (table_digests_in(source, &database), table_digests_in(copy, &database));
        assert_eq!(expected, found, "tables of `{database}` differ");
    }
    assert_sound(copy);
}

/// Databases that accept connections, sorted.
pub(crate) fn databases(cluster: &Cluster) -> Vec<String> {
    lines(cluster, "postgres", "select datname from pg_database where datallowconn order by 1")
}

/// BLAKE3 of every file below `directory`, by path relative to it; directories are listed with an empty digest,
/// links with their target.
pub(crate) fn file_digests(directory: &Path) -> BTreeMap<String, String> {
    let mut digests = BTreeMap::new();
    digest_files(directory, directory, &mut digests);
    digests
}

fn digest_files(root: &Path, directory: &Path, digests: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).expect("a directory of the test can be read") {
        let path = entry.expect("a directory of the test can be read").path();
        let name = path.strip_prefix(root).expect("found below the root").display().to_string();
        if path.is_symlink() {
            let target = fs::read_link(&path).expect("a link has a target");
            digests.insert(name, format!("-> {}", target.display()));
        } else if path.is_dir() {
            digests.insert(name, String::new());
            digest_files(root, &path, digests);
        } else {
            let bytes = fs::read(&path).expect("a file of the test can be read");
            digests.insert(name, blake3::hash(&bytes).to_hex().to_string());
        }
    }
}

const USER_TABLES: &str = "select format('%I.%I', n.nspname, c.relname) from pg_class c \
    join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'm') \
    and c.relpersistence = 'p' and n.nspname not in ('pg_catalog', 'information_schema') \
    and n.nspname not like 'pg\\_toast%' order by 1";

const COMPLETE_BTREE_INDEXES: &str = "select format('%I.%I|%s|%s', n.nspname, c.relname, \
    (select string_agg(pg_get_indexdef(i.indexrelid, k, true), ', ' order by k) \
     from generate_series(1, i.indnkeyatts) k), 0 = any(i.indkey)) from pg_index i \
    join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace \
    join pg_class x on x.oid = i.indexrelid join pg_am a on a.oid = x.relam \
    where a.amname = 'btree' and i.indisvalid and i.indpred is null and c.relkind in ('r', 'm') \
    and c.relpersistence = 'p' and 0 = all(i.indoption) \
    and n.nspname not in ('pg_catalog', 'information_schema') \
    and n.nspname not like 'pg\\_toast%' order by 1";

fn digest_query(rows: &str) -> String {
    format!(
        "select count(*) || ':' || coalesce(md5(string_agg(h, '' order by h)), '') \
         from (select md5(r::text) as h from {rows} offset 0) hashes"
    )
}

#[track_caller]
fn lines(cluster: &Cluster, database: &str, sql: &str) -> Vec<String> {
    cluster.psql_in(database, sql).lines().map(str::to_owned).collect()
}

#[track_caller]
fn assert_visibility_maps(cluster: &Cluster, database: &str) {
    let sql = "set client_min_messages = warning; \
               create extension if not exists pg_visibility; \
               select c.oid::regclass, t.* from pg_class c, lateral ( \
                 select 'visible' as map, x from pg_check_visible(c.oid) as x \
                 union all select 'frozen', x from pg_check_frozen(c.oid) as x) t \
               where c.relkind in ('r', 'm', 't')";
    let wrong = cluster.psql_in(database, sql);
    assert_eq!(wrong, "", "visibility maps of `{database}` lie about tuples");
}

#[track_caller]
fn assert_btrees(cluster: &Cluster, database: &str) {
    let sql = "set client_min_messages = warning; create extension if not exists amcheck; \
               select count(bt_index_parent_check(i.indexrelid, true)::text) from pg_index i \
               join pg_class x on x.oid = i.indexrelid join pg_am a on a.oid = x.relam \
               where a.amname = 'btree' and i.indisvalid and x.relpersistence <> 't'";
    cluster.psql_in(database, sql);
}

#[track_caller]
fn assert_amcheck(cluster: &Cluster) {
    let mut command = cluster.client("pg_amcheck");
    command.args(["--all", "--install-missing", "--heapallindexed", "--parent-check"]);
    let finished = Finished::run(&mut command).expect_success();
    assert_eq!(finished.stdout, "", "{finished}");
}
