//! Listing in byte order of whole keys, one directory per level in memory.
//!
//! Within a directory, a subdirectory sorts as its name with `/` behind it: `a-b` comes before `a/b`, because `-` is
//! less than `/`. With that, depth first is byte order.

use std::fs::{self, DirEntry};
use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt};

use super::root::Root;
use super::{ObjectInfo, ObjectKey, ObjectPrefix, StorageError, StorageErrorKind, failure};
use crate::task;

/// Objects read by one turn on a blocking thread.
const BATCH: usize = 1000;

type Listed = Result<ObjectInfo, StorageError>;

/// Every object under `prefix` behind `after`.
pub(super) fn list(
    root: Arc<Root>,
    prefix: &ObjectPrefix,
    after: Option<ObjectKey>,
) -> impl Stream<Item = Listed> + use<> {
    let walk = Walk::new(root, prefix, after);
    futures::stream::unfold(walk, |mut walk| async move {
        let (batch, walk) = task::unblock(move || (walk.next_batch(), walk)).await;
        (!batch.is_empty()).then(|| (futures::stream::iter(batch), walk))
    })
    .flatten()
}

struct Walk {
    root: Arc<Root>,
    after: Option<ObjectKey>,
    /// What is left of each directory on the way down, next entry last.
    levels: Vec<Vec<Entry>>,
    over: bool,
}

/// A name below the root; a directory's ends in `/`, save the root's own, which is empty.
struct Entry {
    name: String,
    kind: EntryKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EntryKind {
    Directory,
    Object,
}

impl Walk {
    fn new(root: Arc<Root>, prefix: &ObjectPrefix, after: Option<ObjectKey>) -> Self {
        let top = Entry { name: prefix.as_str().to_owned(), kind: EntryKind::Directory };
        Self { root, after, levels: vec![vec![top]], over: false }
    }

    /// The next objects; none at the end. An error is the last item.
    fn next_batch(&mut self) -> Vec<Listed> {
        let mut batch = Vec::new();
        while batch.len() < BATCH && !self.over {
            match self.next_object() {
                Ok(Some(info)) => batch.push(Ok(info)),
                Ok(None) => self.over = true,
                Err(error) => {
                    self.over = true;
                    batch.push(Err(error));
                }
            }
        }
        batch
    }

    fn next_object(&mut self) -> Result<Option<ObjectInfo>, StorageError> {
        while let Some(level) = self.levels.last_mut() {
            let Some(entry) = level.pop() else {
                self.levels.pop();
                continue;
            };
            if entry.kind == EntryKind::Directory {
                let entries = self.entries_below(&entry.name)?;
                self.levels.push(entries);
            } else if let Some(info) = self.inspect(entry.name)? {
                return Ok(Some(info));
            }
        }
        // Directories read as absent may have been unmounted: only a root that is still there ends a listing.
        self.root.check()?;
        Ok(None)
    }

    /// What a directory holds behind `after`, last first. A directory that is gone holds nothing.
    fn entries_below(&self, directory: &str) -> Result<Vec<Entry>, StorageError> {
        let path = self.root.check()?.join(directory);
        let found = match fs::read_dir(path) {
            Err(error) if failure::is_absence(&error) => return Ok(Vec::new()),
            other => other.map_err(|error| self.cannot_list(directory, error))?,
        };
        let mut entries = Vec::new();
        for entry in found {
            let entry = entry.map_err(|error| self.cannot_list(directory, error))?;
            entries.extend(self.interpret(directory, &entry)?);
        }
        entries.retain(|entry| self.is_wanted(entry));
        entries.sort_unstable_by(|left, right| right.name.cmp(&left.name));
        Ok(entries)
    }

    fn interpret(&self, directory: &str, entry: &DirEntry) -> Result<Option<Entry>, StorageError> {
        let name = entry.file_name();
        // No object has such a name: `lost+found`, our own temporary files.
        let Some(name) = name.to_str().filter(|name| ObjectKey::parse(*name).is_ok()) else {
            return Ok(None);
        };
        let name = format!("{directory}{name}");
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => {
                Ok(Some(Entry { name: name + "/", kind: EntryKind::Directory }))
            }
            Ok(kind) if kind.is_file() => Ok(Some(Entry { name, kind: EntryKind::Object })),
            Ok(_) => Err(self.foreign(&name)),
            Err(error) if failure::is_absence(&error) => Ok(None),
            Err(error) => Err(self.cannot_list(&name, error)),
        }
    }

    /// Whether the object, or any object below the directory, comes behind `after`.
    fn is_wanted(&self, Entry { name, .. }: &Entry) -> bool {
        self.after.as_ref().is_none_or(|after| {
            let after = after.as_str();
            name.as_str() > after || (name.ends_with('/') && after.starts_with(name.as_str()))
        })
    }

    /// Size and age; nothing when the object was deleted since its directory was read.
    fn inspect(&self, name: String) -> Result<Option<ObjectInfo>, StorageError> {
        let Ok(key) = ObjectKey::parse(name) else { return Ok(None) };
        let found = fs::symlink_metadata(self.root.path_of(&key))
            .and_then(|metadata| Ok((metadata.len(), metadata.modified()?)));
        match found {
            Ok((size, modified)) => Ok(Some(ObjectInfo { key, size, modified })),
            Err(error) if failure::is_absence(&error) => Ok(None),
            Err(error) => Err(self.cannot_list(key.as_str(), error)),
        }
    }

    fn cannot_list(&self, name: &str, error: io::Error) -> StorageError {
        failure::of("cannot list", format!("{}/{name}", self.root), error)
    }

    /// A link to another disk would be read through by name and missed by a listing, so it is refused.
    fn foreign(&self, name: &str) -> StorageError {
        let what = format!("`{}/{name}` is neither a file nor a directory", self.root);
        StorageError::new(StorageErrorKind::Invalid, what)
            .hint("a repository holds no symbolic links; mount the other disk instead")
    }
}
