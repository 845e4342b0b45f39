//! The walk of a data directory, in the order of the file list, one directory in memory per level.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Stat};
use tracing::{debug, warn};

use super::listing::{FileStatus, Listing, cannot, kind_of};
use crate::config::LinkPolicy;
use crate::error::{Error, Result};
use crate::postgres::{
    ControlFile, EntryKind, FileContent, MajorVersion, Place, SkipReason, Tablespace, TablespaceId,
    UnloggedRelations, Verdict, VersionDirectory,
};
use crate::repository::ListedPath;

/// How often, and at what intervals, the link of a tablespace without directory is looked for.
const DROP_ATTEMPTS: u32 = 50;
const DROP_PAUSE: Duration = Duration::from_millis(10);

/// A data directory as a walk needs to know it.
#[derive(Debug, Clone)]
pub(super) struct DataDirectory {
    root: PathBuf,
    version: VersionDirectory,
    links: LinkPolicy,
    /// Directories below the root that are walrs's own, wherever the configuration put them.
    own: BTreeSet<PathBuf>,
}

/// What a walk meets and a backup records.
#[derive(Debug)]
pub(super) enum Found {
    /// A directory, before everything in it.
    Directory {
        /// Where.
        path: ListedPath,
        /// Permission bits.
        mode: u32,
    },
    /// A link to a tablespace, before everything in it.
    Tablespace {
        /// `pg_tblspc/<oid>`.
        path: ListedPath,
        /// What the link says.
        target: PathBuf,
        /// Permission bits of the directory it leads to.
        mode: u32,
    },
    /// A regular file.
    File(FoundFile),
}

/// A file that is to be copied.
#[derive(Debug, Clone)]
pub(super) struct FoundFile {
    /// Where.
    pub(super) path: ListedPath,
    /// What it holds.
    pub(super) content: FileContent,
    /// When the walk met it.
    pub(super) status: FileStatus,
}

type Visit<'a> = dyn FnMut(Found) -> Result<()> + 'a;

impl DataDirectory {
    /// The data directory at `root`, whose `pg_control` is given.
    pub(super) fn new(root: PathBuf, control: &ControlFile, links: LinkPolicy) -> Result<Self> {
        let major = MajorVersion::read(&root)?.ok_or_else(|| {
            Error::usage(format!("`{}` is no data directory", root.display()))
                .because("it has no `PG_VERSION`")
        })?;
        let version = VersionDirectory { major, catalog_version: control.catalog_version };
        Ok(Self { root, version, links, own: BTreeSet::new() })
    }

    /// Leaves walrs's own `directory` out when it lies in the data directory.
    pub(super) fn leave_out(mut self, directory: Option<&Path>) -> Self {
        let Some(directory) = directory else { return self };
        let physical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let (directory, root) = (physical(directory), physical(&self.root));
        self.own.extend(directory.strip_prefix(root).ok().map(Path::to_owned));
        self
    }

    /// The directory itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The local path of a listed one; a tablespace is reached through its link.
    pub(super) fn local(&self, path: &ListedPath) -> PathBuf {
        self.root.join(path.to_relative())
    }

    /// Tells `visit` everything that is copied, in the order of the file list, until it fails.
    pub(super) fn walk(&self, visit: &mut Visit<'_>) -> Result<()> {
        let inside = tablespaces_inside(&self.root)?;
        let mut walk = Walk { data: self, inside, ancestors: Vec::new(), visit };
        if walk.directory(&ListedPath::root(), Place::Root, Record::Directory)? == Seen::Vanished {
            let what = format!("the data directory `{}` vanished", self.root.display());
            return Err(Error::unavailable(what));
        }
        Ok(())
    }
}

/// How a directory is recorded before it is entered.
enum Record {
    Directory,
    Tablespace(PathBuf),
}

#[derive(PartialEq, Eq)]
enum Seen {
    Whole,
    Vanished,
}

struct Walk<'a, 'v> {
    data: &'a DataDirectory,
    /// Tablespaces whose files lie in the data directory; they are met through their links.
    inside: BTreeSet<PathBuf>,
    /// Device and inode of every directory from the root to here: a followed link must not lead back.
    ancestors: Vec<(u64, u64)>,
    visit: &'a mut Visit<'v>,
}

impl Walk<'_, '_> {
    fn directory(&mut self, path: &ListedPath, place: Place, record: Record) -> Result<Seen> {
        let local = self.data.local(path);
        let Some(listing) = Listing::read(&local)? else { return Ok(Seen::Vanished) };
        let identity = (listing.status.st_dev, listing.status.st_ino);
        if self.ancestors.contains(&identity) {
            let what = format!("the link `{}` leads back to where it lies", local.display());
            return Err(Error::refused(what));
        }
        self.record(path, FileStatus::from(&listing.status).mode, record)?;
        self.ancestors.push(identity);
        let entered = self.entries(path, place, &listing)?;
        self.ancestors.pop();
        if place == Place::Tablespace && !entered {
            self.require_gone(path)?;
        }
        Ok(Seen::Whole)
    }

    fn record(&mut self, path: &ListedPath, mode: u32, record: Record) -> Result<()> {
        let path = path.clone();
        (self.visit)(match record {
            Record::Directory => Found::Directory { path, mode },
            Record::Tablespace(target) => Found::Tablespace { path, target, mode },
        })
    }

    /// Whether any directory among the entries was entered.
    fn entries(&mut self, path: &ListedPath, place: Place, listing: &Listing) -> Result<bool> {
        let unlogged = match place {
            Place::Global | Place::Database => {
                UnloggedRelations::among(listing.entries().map(|(name, _)| name))
            }
            _ => UnloggedRelations::default(),
        };
        let mut entered = false;
        for (name, kind) in listing.entries() {
            let entry = Entry { listing, name, path: join(path, name)?, place };
            let verdict = place.judge(name, kind, &unlogged, self.data.version);
            entered |= matches!(verdict, Verdict::Enter(_));
            self.obey(&entry, verdict, &unlogged)?;
        }
        Ok(entered)
    }

    fn obey(&mut self, entry: &Entry<'_>, verdict: Verdict, un: &UnloggedRelations) -> Result<()> {
        match verdict {
            Verdict::Copy(content) => self.file(entry, content),
            Verdict::Enter(place) => self.enter(entry, place),
            Verdict::Empty(subdirectories) => self.empty(entry, subdirectories),
            Verdict::TablespaceLink(id) => self.tablespace(entry, id),
            Verdict::ForeignLink => self.link(entry, un),
            Verdict::Skip(reason) => {
                skip(entry, reason);
                Ok(())
            }
        }
    }

    fn file(&mut self, entry: &Entry<'_>, content: FileContent) -> Result<()> {
        let Some(stat) = self.status_behind(entry)? else { return Ok(()) };
        if kind_of(FileType::from_raw_mode(stat.st_mode)) != EntryKind::File {
            // Replaced by something else since it was listed; what it was is gone.
            debug!(path = %entry.path, "is no file any more");
            return Ok(());
        }
        let (path, status) = (entry.path.clone(), FileStatus::from(&stat));
        (self.visit)(Found::File(FoundFile { path, content, status }))
    }

    fn enter(&mut self, entry: &Entry<'_>, place: Place) -> Result<()> {
        if self.inside.contains(entry.path.to_relative()) {
            debug!(path = %entry.path, "is the place of a tablespace, copied through its link");
            return Ok(());
        }
        if self.data.own.contains(entry.path.to_relative()) {
            skip(entry, SkipReason::Walrs);
            return Ok(());
        }
        self.directory(&entry.path, place, Record::Directory).map(drop)
    }

    fn empty(&mut self, entry: &Entry<'_>, subdirectories: &[&str]) -> Result<()> {
        let Some(stat) = self.status_behind(entry)? else { return Ok(()) };
        let mode = FileStatus::from(&stat).mode;
        self.record(&entry.path, mode, Record::Directory)?;
        for name in subdirectories {
            self.record(&join(&entry.path, name.as_bytes())?, mode, Record::Directory)?;
        }
        Ok(())
    }

    fn tablespace(&mut self, entry: &Entry<'_>, id: TablespaceId) -> Result<()> {
        let local = self.data.local(&entry.path);
        let target = match std::fs::read_link(&local) {
            Ok(target) => target,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io(format!("cannot read tablespace `{id}`"), error)),
        };
        let record = Record::Tablespace(target);
        match self.directory(&entry.path, Place::Tablespace, record)? {
            Seen::Whole => Ok(()),
            Seen::Vanished => self.require_gone(&entry.path),
        }
    }

    /// A dropped tablespace loses its link too, a moment after its directory; one that keeps it has lost its files.
    fn require_gone(&self, path: &ListedPath) -> Result<()> {
        let local = self.data.local(path);
        for _ in 0..DROP_ATTEMPTS {
            match local.symlink_metadata() {
                Ok(_) => std::thread::sleep(DROP_PAUSE),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(error) => {
                    return Err(Error::io(format!("cannot look at tablespace `{path}`"), error));
                }
            }
        }
        let what = format!("the tablespace `{}` has no directory `{}`", path, self.data.version);
        Err(Error::unavailable(what).hint("is its file system mounted?"))
    }

    fn link(&mut self, entry: &Entry<'_>, unlogged: &UnloggedRelations) -> Result<()> {
        let local = self.data.local(&entry.path);
        match self.data.links {
            LinkPolicy::Skip => {
                warn!(path = %entry.path, "symbolic link left out of the backup");
                Ok(())
            }
            LinkPolicy::Follow => {
                let Some(stat) = self.status_behind(entry)? else {
                    warn!(path = %entry.path, "symbolic link leads nowhere, left out");
                    return Ok(());
                };
                let kind = kind_of(FileType::from_raw_mode(stat.st_mode));
                let verdict = entry.place.judge(entry.name, kind, unlogged, self.data.version);
                self.obey(entry, verdict, unlogged)
            }
            LinkPolicy::Error => Err(Error::refused(format!(
                "`{}` is a symbolic link that PostgreSQL knows nothing of",
                local.display()
            ))
            .hint("set `backup.links` to `follow` (copy what it points to) or `skip`")),
        }
    }

    fn status_behind(&self, entry: &Entry<'_>) -> Result<Option<Stat>> {
        let status = entry.listing.status_behind(entry.name);
        status.map_err(|errno| cannot("look at", &self.data.local(&entry.path), errno))
    }
}

struct Entry<'a> {
    listing: &'a Listing,
    name: &'a [u8],
    path: ListedPath,
    place: Place,
}

fn skip(entry: &Entry<'_>, reason: SkipReason) {
    if reason == SkipReason::SpecialFile {
        warn!(path = %entry.path, "left out: it {reason}");
    } else {
        debug!(path = %entry.path, "left out: it {reason}");
    }
}

fn join(directory: &ListedPath, name: &[u8]) -> Result<ListedPath> {
    let mut path = Vec::with_capacity(directory.as_bytes().len() + 1 + name.len());
    if *directory != ListedPath::root() {
        path.extend_from_slice(directory.as_bytes());
        path.push(b'/');
    }
    path.extend_from_slice(name);
    ListedPath::new(path)
}

fn tablespaces_inside(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut inside = BTreeSet::new();
    for tablespace in Tablespace::list(root)? {
        match tablespace.physical_path_inside(root) {
            Ok(path) => inside.extend(path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let what = format!("cannot find the tablespace `{}`", tablespace.id);
                return Err(Error::io(what, error));
            }
        }
    }
    Ok(inside)
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
