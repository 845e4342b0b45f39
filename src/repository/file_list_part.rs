//! Reading a file list back, part by part: each is verified whole before a line of it is believed.

use bytes::{Buf, Bytes};

use super::Repository;
use super::file_list::{Entry, LINE_BYTES, PART_BYTES};
use super::layout::ObjectName;
use super::manifest::{Manifest, PartReference};
use crate::container::{ContentDigest, ObjectKind};
use crate::error::{Error, Result};

/// A part ends with the line that takes it over its size; compression rarely adds bytes, and never many.
const PART_STORED_BYTES: usize = PART_BYTES as usize + LINE_BYTES + (1 << 20);

/// What has not been parsed yet of a part of a file list; the default is nothing.
#[derive(Debug, Default)]
pub struct FileListPart(Bytes);

impl FileListPart {
    /// Reads a part that the manifest names; a part that is absent or another one is damage.
    pub async fn read(
        repository: &Repository,
        manifest: &Manifest,
        part: &PartReference,
    ) -> Result<Self> {
        let name = ObjectName::FileList(manifest.backup_id.clone(), part.number);
        let (kind, cluster) = (ObjectKind::FileList, manifest.system_identifier);
        let read = repository.read_object(&name, kind, cluster, PART_STORED_BYTES).await?;
        let content = read.ok_or_else(|| Error::damaged(format!("`{}` is missing", name.key())))?;
        if ContentDigest::of(&content) != part.digest {
            let what = format!("`{}` is not the part that its manifest names", name.key());
            return Err(Error::damaged(what));
        }
        Ok(Self(content.into()))
    }

    /// Whether every line has been taken.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn next_entry(&mut self) -> Result<Option<Entry>> {
        if self.is_over() {
            return Ok(None);
        }
        let end = self.0.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| Error::damaged("a file list ends within a line"))?;
        let entry = Entry::from_line(&self.0[..end])?;
        self.0.advance(end + 1);
        Ok(Some(entry))
    }
}

/// The lines, parsed and checked, in the order of their paths. After an error the same one comes again.
impl Iterator for FileListPart {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        self.next_entry().transpose()
    }
}
