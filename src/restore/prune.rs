//! Removing what a backup does not list from a data directory and its tablespaces (R6, D4).
//!
//! The directories are walked in the order of the file list, and both are merged as streams: in memory are the names
//! of the directories that lead to the place of the walk. No link is followed but those of the tablespaces and of
//! `pg_wal`, and in a tablespace nothing but the cluster's own version directory is looked at.

use std::cmp::Ordering;
use std::ffi::{CString, OsStr};
use std::io;
use std::iter::Peekable;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec::IntoIter;

use rustix::fs::FileType;

use super::beneath::{Beneath, open_writable_directory};
use super::existing::{WAL_DIRECTORY, link_of};
use super::listing::Listing;
use super::marker::MARKER_NAME;
use super::takeover::LOST_AND_FOUND;
use super::tree::{Tree, former_control_file};
use super::{destination, local};
use crate::error::{Error, Result};
use crate::postgres::{
    MajorVersion, SPOOL_DIRECTORY, TABLESPACE_LINKS, VersionDirectory, WITNESS_PREFIX,
};
use crate::repository::{Entry, ListedPath, Manifest, Repository};
use crate::task;

/// Removes everything that the file list of `manifest` does not have from `tree`; returns how much that was.
///
/// `own` is what belongs to walrs by configuration, as absolute paths. Entries of another kind than listed go too.
pub(super) async fn remove_unlisted(
    repository: &Repository,
    manifest: &Arc<Manifest>,
    tree: &Arc<Tree>,
    own: Vec<PathBuf>,
) -> Result<u64> {
    let mut prune = Prune::new(Arc::clone(tree), version_directory(manifest), own)?;
    let mut listing = Listing::new(repository, manifest);
    loop {
        let entries = listing.next_entries().await?;
        if entries.is_empty() {
            return task::blocking(move || prune.finish()).await;
        }
        prune = task::blocking(move || {
            entries.iter().try_for_each(|entry| prune.visit(entry))?;
            Ok(prune)
        })
        .await?;
    }
}

fn version_directory(manifest: &Manifest) -> VersionDirectory {
    let major = MajorVersion::of_server(manifest.postgres_version);
    VersionDirectory { major, catalog_version: manifest.catalog_version }
}

/// A walk that removes what nobody lists.
struct Prune {
    tree: Arc<Tree>,
    version: String,
    kept: Kept,
    levels: Vec<Level>,
    removed: u64,
}

/// A directory on the way to the place of the walk, with those of its entries that are still to come.
struct Level {
    directory: OwnedFd,
    /// As listed; empty for the data directory.
    path: Vec<u8>,
    entries: Peekable<IntoIter<(CString, FileType)>>,
}

/// What stays although no backup lists it, relative to the data directory.
struct Kept {
    whole: Vec<PathBuf>,
    /// Paths that begin with these bytes.
    prefixes: Vec<Vec<u8>>,
}

impl Kept {
    fn of(tree: &Tree, own: Vec<PathBuf>) -> Self {
        let data = tree.data().path();
        let resolved = |path: PathBuf| path.canonicalize().unwrap_or(path);
        let own: Vec<_> = own.into_iter().map(resolved).collect();
        let inside = |path: &Path| path.strip_prefix(data).ok().map(Path::to_owned);
        let names = [SPOOL_DIRECTORY, MARKER_NAME, LOST_AND_FOUND].map(PathBuf::from);
        let mut whole = names.to_vec();
        whole.push(Path::new(WAL_DIRECTORY).join(LOST_AND_FOUND));
        whole.push(former_control_file());
        whole.extend(own.iter().filter_map(|path| inside(path)));
        // Their files are listed below their links.
        whole.extend(tree.tablespaces().filter_map(|(_, tablespace)| inside(tablespace.path())));
        let mut prefixes = vec![WITNESS_PREFIX.as_bytes().to_vec()];
        // A witness lies beside its spool.
        let beside = |path: PathBuf| [path.as_os_str().as_bytes(), b"-witness-"].concat();
        prefixes.extend(own.iter().filter_map(|path| inside(path)).map(beside));
        Self { whole, prefixes }
    }

    fn keeps(&self, path: &Path) -> bool {
        let bytes = path.as_os_str().as_bytes();
        self.whole.iter().any(|kept| kept == path)
            || self.prefixes.iter().any(|prefix| bytes.starts_with(prefix))
    }

    fn keeps_below(&self, path: &Path) -> bool {
        self.whole.iter().any(|kept| kept.starts_with(path))
    }
}

impl Prune {
    fn new(tree: Arc<Tree>, version: VersionDirectory, own: Vec<PathBuf>) -> Result<Self> {
        let kept = Kept::of(&tree, own);
        let (levels, version) = (Vec::new(), version.to_string());
        let mut prune = Self { tree, version, kept, levels, removed: 0 };
        let root = prune.tree.data().root().try_clone();
        root.and_then(|root| prune.enter(root, Vec::new(), |_| true))
            .map_err(|error| destination::failed("look into", prune.tree.data().path(), error))?;
        Ok(prune)
    }

    /// Takes the next line of the file list, and removes what lies before it.
    fn visit(&mut self, entry: &Entry) -> Result<()> {
        if *entry.path() == ListedPath::root() {
            return Ok(());
        }
        let is_there = self.advance_to(entry.path())?;
        let done = match entry {
            Entry::Directory(_) if is_there && self.is_linked_wal(entry) => self.enter_wal(),
            Entry::Tablespace(tablespace) => self.enter_tablespace(tablespace.oid()?, is_there),
            Entry::Directory(_) if is_there => self.enter_directory(),
            Entry::File(_) if is_there => self.keep(FileType::RegularFile),
            _ => Ok(()),
        };
        done.map_err(|error| self.failed(entry.path(), error))
    }

    /// Removes what is left, and returns how much was removed in all.
    fn finish(mut self) -> Result<u64> {
        while let Some(path) = self.next_path()? {
            self.remove_next().map_err(|error| self.failed(&path, error))?;
        }
        Ok(self.removed)
    }

    /// Removes everything before `listed`; whether that is there itself.
    fn advance_to(&mut self, listed: &ListedPath) -> Result<bool> {
        while let Some(path) = self.next_path()? {
            match path.cmp(listed) {
                Ordering::Less => {
                    self.remove_next().map_err(|error| self.failed(&path, error))?;
                }
                Ordering::Equal => return Ok(true),
                Ordering::Greater => return Ok(false),
            }
        }
        Ok(false)
    }

    /// The path of the next entry of the walk.
    fn next_path(&mut self) -> Result<Option<ListedPath>> {
        while let Some(level) = self.levels.last_mut() {
            match level.entries.peek() {
                Some((name, _)) => return ListedPath::new(join(&level.path, name)).map(Some),
                None => drop(self.levels.pop()),
            }
        }
        Ok(None)
    }

    fn take_next(&mut self) -> (&Level, CString, FileType) {
        let level = self.levels.last_mut().expect("the walk has a next entry");
        let (name, kind) = level.entries.next().expect("the walk has a next entry");
        (level, name, kind)
    }

    fn next_is(&mut self, kind: FileType) -> bool {
        let next = self.levels.last_mut().and_then(|level| level.entries.peek());
        next.is_some_and(|(_, found)| *found == kind)
    }

    /// Passes an entry of the kind that is listed; removes one of another kind.
    fn keep(&mut self, listed: FileType) -> io::Result<()> {
        if !self.next_is(listed) {
            return self.remove_next();
        }
        self.take_next();
        Ok(())
    }

    fn enter_directory(&mut self) -> io::Result<()> {
        if !self.next_is(FileType::Directory) {
            return self.remove_next();
        }
        let (level, name, _) = self.take_next();
        let path = join(&level.path, &name);
        let below = open_writable_directory(&level.directory, OsStr::from_bytes(name.as_bytes()))?;
        self.enter(below, path, |_| true)
    }

    fn is_linked_wal(&self, entry: &Entry) -> bool {
        self.tree.wal().is_some() && entry.path().as_bytes() == WAL_DIRECTORY.as_bytes()
    }

    fn enter_wal(&mut self) -> io::Result<()> {
        self.take_next();
        let wal = self.tree.wal().expect("asked by the caller").root().try_clone()?;
        self.enter(wal, WAL_DIRECTORY.into(), |_| true)
    }

    fn enter_tablespace(&mut self, number: u32, is_there: bool) -> io::Result<()> {
        if is_there {
            self.keep(FileType::Symlink)?;
        }
        let tree = Arc::clone(&self.tree);
        let Some((_, place)) = tree.tablespaces().find(|(other, _)| *other == number) else {
            return Ok(());
        };
        let version = self.version.clone();
        let path = format!("{TABLESPACE_LINKS}/{number}").into_bytes();
        self.enter(place.root().try_clone()?, path, |name| name == version.as_bytes())
    }

    fn enter(
        &mut self,
        directory: OwnedFd,
        path: Vec<u8>,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> io::Result<()> {
        let mut entries = local::entries(&directory)?;
        entries.retain(|(name, _)| wanted(name.as_bytes()));
        entries.sort_by(|(left, _), (right, _)| left.cmp(right));
        self.levels.push(Level { directory, path, entries: entries.into_iter().peekable() });
        Ok(())
    }

    /// Removes the next entry, unless it is walrs's own; where something below is, it is entered instead.
    fn remove_next(&mut self) -> io::Result<()> {
        let (level, name, kind) = self.take_next();
        let path = PathBuf::from(OsStr::from_bytes(&join(&level.path, &name)));
        let parent = level.directory.try_clone()?;
        if self.kept.keeps(&path) {
            return Ok(());
        }
        if kind == FileType::Directory && self.kept.keeps_below(&path) {
            let below = open_writable_directory(&parent, OsStr::from_bytes(name.as_bytes()))?;
            return self.enter(below, path.into_os_string().into_encoded_bytes(), |_| true);
        }
        if kind == FileType::Symlink && path.parent() == Some(Path::new(TABLESPACE_LINKS)) {
            self.empty_tablespace(&path)?;
        }
        tracing::debug!(path = %path.display(), "not in the backup, removed");
        self.removed += 1;
        local::remove_entry(&parent, &name, kind)
    }

    /// Removes the cluster's own directory from a tablespace that the backup does not have.
    fn empty_tablespace(&self, link: &Path) -> io::Result<()> {
        let place = link_of(self.tree.data().path(), link).map_err(io::Error::other)?;
        let place = match place.map(|place| Beneath::open(&place, None)) {
            Some(Ok(place)) => place,
            Some(Err(error)) if !leads_nowhere(&error) => return Err(error),
            Some(Err(_)) | None => return Ok(()),
        };
        let is_own = |(name, _): &(CString, FileType)| name.as_bytes() == self.version.as_bytes();
        let found = local::entries(place.root())?.into_iter().find(is_own);
        found.map_or(Ok(()), |(name, kind)| local::remove_entry(place.root(), &name, kind))
    }

    fn failed(&self, path: &ListedPath, error: io::Error) -> Error {
        let local = self.tree.local_path(path);
        let what = format!("cannot remove what the backup does not have at `{}`", local.display());
        Error::io(what, error)
    }
}

fn leads_nowhere(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn join(directory: &[u8], name: &CString) -> Vec<u8> {
    match directory {
        [] => name.as_bytes().to_vec(),
        _ => [directory, b"/", name.as_bytes()].concat(),
    }
}

#[cfg(test)]
#[path = "prune_tests.rs"]
mod tests;
