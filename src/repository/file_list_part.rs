//! Reading a file list back, part by part.

use super::Repository;
use super::file_list::Entry;
use super::layout::ObjectName;
use super::manifest::{Manifest, PartReference};
use crate::container::{ContentDigest, ObjectKind};
use crate::error::{Error, Result};

/// The content of a part of a file list, verified against its manifest.
#[derive(Debug)]
pub struct FileListPart(Vec<u8>);

impl FileListPart {
    /// Reads a part that the manifest names; a part that is absent or another one is damage.
    pub async fn read(
        repository: &Repository,
        manifest: &Manifest,
        part: &PartReference,
    ) -> Result<Self> {
        let name = ObjectName::FileList(manifest.backup_id.clone(), part.number);
        let (kind, cluster) = (ObjectKind::FileList, manifest.system_identifier);
        let read = repository.read_object(&name, kind, cluster, part.size as usize).await?;
        let content = read.ok_or_else(|| Error::damaged(format!("`{}` is missing", name.key())))?;
        if ContentDigest::of(&content) != part.digest {
            let what = format!("`{}` is not the part that its manifest names", name.key());
            return Err(Error::damaged(what));
        }
        Ok(Self(content))
    }

    /// The lines, parsed and checked, in the order of their paths.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry>> {
        let lines = self.0.split_inclusive(|byte| *byte == b'\n');
        lines.map(|line| {
            let whole = line.strip_suffix(b"\n");
            Entry::from_line(whole.ok_or_else(|| Error::damaged("a file list ends in a line"))?)
        })
    }
}
