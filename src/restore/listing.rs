//! Reading a backup's file list: part by part, each verified whole before a line of it is believed.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::container::{ContentDigest, ObjectKind};
use crate::error::{Error, Result};
use crate::repository::{
    Entry, FileEntry, LINE_BYTES, Manifest, ObjectName, PART_BYTES, PartReference, Repository,
};
use crate::task;

/// A window holds at most this many bytes of files, or one file that is larger.
pub(super) const WINDOW_BYTES: u64 = 1 << 30;
/// A window holds at most this many files.
pub(super) const WINDOW_FILES: usize = 8192;

/// A part ends with the line that takes it over its size; compression rarely adds bytes, and never many.
const PART_STORED_BYTES: usize = PART_BYTES as usize + LINE_BYTES + (1 << 20);

/// The lines of a backup's file list, in order.
pub(super) struct Listing {
    repository: Repository,
    manifest: Arc<Manifest>,
    next_part: usize,
    lines: Lines,
}

/// What has not been parsed yet of a part.
#[derive(Default)]
struct Lines(Bytes);

impl Listing {
    /// The whole list of the backup `manifest`, from its beginning.
    pub(super) fn new(repository: &Repository, manifest: &Arc<Manifest>) -> Self {
        let (repository, manifest) = (repository.clone(), Arc::clone(manifest));
        Self { repository, manifest, next_part: 0, lines: Lines::default() }
    }

    /// The next lines, as many as `enough` lets be taken (at least one); empty at the end of the list.
    async fn take(
        &mut self,
        mut enough: impl FnMut(&Entry) -> bool + Send + 'static,
    ) -> Result<Vec<Entry>> {
        while self.lines.0.is_empty() {
            let Some(part) = self.manifest.parts.get(self.next_part) else { return Ok(Vec::new()) };
            self.lines = Lines(read_part(&self.repository, &self.manifest, part).await?);
            self.next_part += 1;
        }
        let mut lines = std::mem::take(&mut self.lines);
        let (lines, entries) = task::blocking(move || {
            let mut entries = Vec::new();
            while let Some(entry) = lines.next()? {
                let last = enough(&entry);
                entries.push(entry);
                if last {
                    break;
                }
            }
            Ok((lines, entries))
        })
        .await?;
        self.lines = lines;
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
    pub(super) async fn next_window(&mut self) -> Result<Option<Vec<FileEntry>>> {
        loop {
            let (mut bytes, mut count) = (0_u64, 0);
            let enough = move |entry: &Entry| {
                let Entry::File(file) = entry else { return false };
                (bytes, count) = (bytes.saturating_add(file.size), count + 1);
                bytes >= WINDOW_BYTES || count == WINDOW_FILES
            };
            let entries = self.take(enough).await?;
            if entries.is_empty() {
                return Ok(None);
            }
            let files: Vec<_> = entries.into_iter().filter_map(into_file).collect();
            if !files.is_empty() {
                return Ok(Some(files));
            }
        }
    }
}

fn into_file(entry: Entry) -> Option<FileEntry> {
    match entry {
        Entry::File(file) => Some(file),
        Entry::Directory(_) | Entry::Tablespace(_) => None,
    }
}

impl Lines {
    fn next(&mut self) -> Result<Option<Entry>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let end = self.0.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| Error::damaged("a file list ends within a line"))?;
        let entry = Entry::from_line(&self.0[..end])?;
        self.0.advance(end + 1);
        Ok(Some(entry))
    }
}

async fn read_part(
    repository: &Repository,
    manifest: &Manifest,
    part: &PartReference,
) -> Result<Bytes> {
    let name = ObjectName::FileList(manifest.backup_id.clone(), part.number);
    let cluster = manifest.system_identifier;
    let kind = ObjectKind::FileList;
    let content = repository.read_object(&name, kind, cluster, PART_STORED_BYTES).await?;
    let content = content.ok_or_else(|| Error::damaged(format!("`{}` is missing", name.key())))?;
    if ContentDigest::of(&content) != part.digest {
        return Err(Error::damaged(format!(
            "`{}` is not the part that the manifest names",
            name.key()
        )));
    }
    Ok(content.into())
}
