//! A backup's file list in windows: as many files at a time as may be in memory and in flight.

use std::sync::Arc;

use crate::error::Result;
use crate::repository::{Entry, FileEntry, FileListPart, Manifest, Repository};
use crate::task;

/// A window holds at most this many bytes of files, or one file that is larger.
pub(super) const WINDOW_BYTES: u64 = 1 << 30;
/// A window holds at most this many files.
pub(super) const WINDOW_FILES: usize = 8192;
/// A window holds files of at most this many extents, or one file that has more: deltas scatter files over many packs.
pub(super) const WINDOW_EXTENTS: usize = 128 << 10;

/// The lines of a backup's file list, in order.
pub(super) struct Listing {
    repository: Repository,
    manifest: Arc<Manifest>,
    next_part: usize,
    part: FileListPart,
}

impl Listing {
    /// The whole list of the backup `manifest`, from its beginning.
    pub(super) fn new(repository: &Repository, manifest: &Arc<Manifest>) -> Self {
        let (repository, manifest) = (repository.clone(), Arc::clone(manifest));
        Self { repository, manifest, next_part: 0, part: FileListPart::default() }
    }

    /// The next lines, as many as `enough` lets be taken (at least one); empty at the end of the list.
    async fn take(
        &mut self,
        mut enough: impl FnMut(&Entry) -> bool + Send + 'static,
    ) -> Result<Vec<Entry>> {
        while self.part.is_over() {
            let Some(part) = self.manifest.parts.get(self.next_part) else { return Ok(Vec::new()) };
            self.part = FileListPart::read(&self.repository, &self.manifest, part).await?;
            self.next_part += 1;
        }
        let mut part = std::mem::take(&mut self.part);
        let (part, entries) = task::blocking(move || {
            let mut entries = Vec::new();
            while let Some(entry) = part.next().transpose()? {
                let last = enough(&entry);
                entries.push(entry);
                if last {
                    break;
                }
            }
            Ok((part, entries))
        })
        .await?;
        self.part = part;
        Ok(entries)
    }

    /// The next few thousand lines; empty at the end of the list.
    pub(super) async fn next_entries(&mut self) -> Result<Vec<Entry>> {
        let mut count = 0;
        self.take(move |_| {
            count += 1;
            count == WINDOW_FILES
        })
        .await
    }

    /// The files of the next window; `None` at the end of the list.
    ///
    /// A window goes on over the ends of parts: files of different parts may share a chunk, which is read once for each
    /// window.
    pub(super) async fn next_window(&mut self) -> Result<Option<Vec<FileEntry>>> {
        let (mut files, mut size) = (Vec::new(), WindowSize::default());
        while !size.is_full() {
            let mut reached = size;
            let enough = move |entry: &Entry| {
                reached.add(entry);
                reached.is_full()
            };
            let entries = self.take(enough).await?;
            if entries.is_empty() {
                break;
            }
            for entry in &entries {
                size.add(entry);
            }
            files.extend(entries.into_iter().filter_map(into_file));
        }
        Ok(Some(files).filter(|files| !files.is_empty()))
    }
}

/// How much a window holds.
#[derive(Debug, Clone, Copy, Default)]
struct WindowSize {
    bytes: u64,
    files: usize,
    extents: usize,
}

impl WindowSize {
    fn add(&mut self, entry: &Entry) {
        let Entry::File(file) = entry else { return };
        self.bytes = self.bytes.saturating_add(file.size);
        self.files += 1;
        self.extents += file.extents.len();
    }

    fn is_full(&self) -> bool {
        self.bytes >= WINDOW_BYTES || self.files >= WINDOW_FILES || self.extents >= WINDOW_EXTENTS
    }
}

fn into_file(entry: Entry) -> Option<FileEntry> {
    match entry {
        Entry::File(file) => Some(file),
        Entry::Directory(_) | Entry::Tablespace(_) => None,
    }
}
