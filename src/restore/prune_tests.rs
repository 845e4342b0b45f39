//! What is removed and what stays, against a model of both trees.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;
use crate::repository::{DirectoryEntry, TablespaceEntry};

fn version() -> VersionDirectory {
    VersionDirectory { major: MajorVersion::new(15), catalog_version: 202_209_061 }
}

fn directory(path: &str) -> Entry {
    Entry::Directory(DirectoryEntry { path: ListedPath::new(path).unwrap(), mode: 0o700 })
}

fn file(path: &str) -> Entry {
    let line = format!(
        r#"{{"type":"file","path":"{path}","mode":384,"size":0,"mtime":[0,0],"identity":[0,0,0,0],"digest":"{}","extents":[]}}"#,
        "0".repeat(64)
    );
    Entry::from_line(line.as_bytes()).unwrap()
}

fn tablespace(number: u32) -> Entry {
    let path = ListedPath::new(format!("pg_tblspc/{number}")).unwrap();
    Entry::Tablespace(TablespaceEntry { path, target: "/srv/space".to_owned(), mode: 0o700 })
}

/// Makes files (and the directories they lie in); a name that ends with `/` is a directory.
fn make(root: &Path, paths: &[&str]) {
    for path in paths {
        let place = root.join(path);
        if path.ends_with('/') {
            fs::create_dir_all(place).unwrap();
        } else {
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, "").unwrap();
        }
    }
}

/// Everything below a directory, links not followed; directories end with `/`.
fn tree_of(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let is_directory = path.is_dir() && !path.is_symlink();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.insert(if is_directory { format!("{name}/") } else { name });
            if is_directory {
                pending.push(path);
            }
        }
    }
    found
}

fn prune(tree: Tree, own: Vec<PathBuf>, listed: &[Entry]) -> u64 {
    let mut prune = Prune::new(Arc::new(tree), version(), own).unwrap();
    prune.visit(&directory(".")).unwrap();
    listed.iter().try_for_each(|entry| prune.visit(entry)).unwrap();
    prune.finish().unwrap()
}

fn open(path: &Path) -> Beneath {
    Beneath::open(&path.canonicalize().unwrap(), None).unwrap()
}

fn only_data(data: &Path) -> Tree {
    Tree::new(open(data), BTreeMap::new())
}

/// R6
#[test]
fn what_belongs_to_walrs_and_to_the_file_system_stays() {
    let data = tempfile::tempdir().unwrap();
    let kept = [
        ".walrs-restore-in-progress",
        ".walrs-former-pg_control",
        "lost+found/",
        "mine/spool/",
        "mine/spool/mark",
        "mine/spool-witness-00.json",
        "walrs-spool/",
        "walrs-spool/mark",
        "walrs-spool-witness-00.json",
    ];
    make(data.path(), &kept);
    make(
        data.path(),
        &[".walrs-tmp-1", "global/.walrs-tmp-pg_control", "base/lost+found/x", "mine/x"],
    );
    let own = vec![data.path().join("mine/spool")];
    prune(only_data(data.path()), own, &[directory("base"), directory("global")]);
    let mut expected: BTreeSet<_> = kept.map(str::to_owned).into();
    expected.extend(["base/", "global/", "mine/"].map(str::to_owned));
    assert_eq!(tree_of(data.path()), expected);
}

/// R6
#[test]
fn of_a_tablespace_only_the_own_version_directory_is_looked_at() {
    let (data, listed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dropped = tempfile::tempdir().unwrap();
    for (number, place) in [(1, &listed), (2, &dropped)] {
        make(
            place.path(),
            &["PG_15_202209061/5/1", "PG_15_202209061/5/2", "PG_13_202007201/5/1", "x"],
        );
        fs::create_dir_all(data.path().join("pg_tblspc")).unwrap();
        symlink(place.path(), data.path().join(format!("pg_tblspc/{number}"))).unwrap();
    }
    let tree = Tree::new(open(data.path()), BTreeMap::from([(1, open(listed.path()))]));
    let version = "pg_tblspc/1/PG_15_202209061";
    let entries = [
        directory("pg_tblspc"),
        tablespace(1),
        directory(version),
        directory(&format!("{version}/5")),
        file(&format!("{version}/5/1")),
    ];
    prune(tree, Vec::new(), &entries);
    assert_eq!(tree_of(data.path()), ["pg_tblspc/", "pg_tblspc/1"].map(str::to_owned).into());
    let others = ["PG_13_202007201/", "PG_13_202007201/5/", "PG_13_202007201/5/1", "x"];
    assert_eq!(tree_of(dropped.path()), others.map(str::to_owned).into());
    let own = ["PG_15_202209061/", "PG_15_202209061/5/", "PG_15_202209061/5/1"];
    assert_eq!(tree_of(listed.path()), others.into_iter().chain(own).map(str::to_owned).collect());
}

/// What a tree holds: directories and files by their paths.
type Model = BTreeMap<String, bool>;

/// Names that sort around `/`, so that the order of paths is not that of their bytes.
fn names() -> impl Strategy<Value = Vec<(Vec<&'static str>, bool)>> {
    let name = prop::sample::select(vec!["a", "a.", "a!", "a1", "b"]);
    prop::collection::vec((prop::collection::vec(name, 1..4), any::<bool>()), 0..25)
}

/// The tree that the drawn paths make, the first of two that contradict each other winning.
fn model(drawn: &[(Vec<&'static str>, bool)]) -> Model {
    let mut model = Model::new();
    for (path, is_directory) in drawn {
        let above = (1..path.len()).map(|depth| path[..depth].join("/"));
        let above: Vec<_> = above.collect();
        if above.iter().all(|directory| *model.get(directory).unwrap_or(&true)) {
            model.extend(above.into_iter().map(|directory| (directory, true)));
            model.entry(path.join("/")).or_insert(*is_directory);
        }
    }
    model
}

fn entries(model: &Model) -> Vec<Entry> {
    let entry = |(path, is_directory): (&String, &bool)| match is_directory {
        true => directory(path),
        false => file(path),
    };
    let mut entries: Vec<_> = model.iter().map(entry).collect();
    entries.sort_by(|left, right| left.path().cmp(right.path()));
    entries
}

fn with_slashes(model: &Model) -> BTreeSet<String> {
    let named = |(path, is_directory): (&String, &bool)| match is_directory {
        true => format!("{path}/"),
        false => path.clone(),
    };
    model.iter().map(named).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// R6, D4
    #[test]
    fn exactly_what_is_listed_in_its_kind_stays(local in names(), listed in names()) {
        let data = tempfile::tempdir().unwrap();
        let (local, listed) = (model(&local), model(&listed));
        let paths = with_slashes(&local);
        make(data.path(), &paths.iter().map(String::as_str).collect::<Vec<_>>());
        prune(only_data(data.path()), Vec::new(), &entries(&listed));
        // What lies below something that is listed as another kind goes with it.
        let stays = |path: &String| with_slashes(&listed).contains(path);
        let expected: BTreeSet<_> = paths.into_iter().filter(stays).collect();
        prop_assert_eq!(tree_of(data.path()), expected);
    }
}
