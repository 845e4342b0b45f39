//! Reading a file list back, part by part, chunk by chunk: every chunk is authenticated before a line in it is parsed.

use bytes::{Buf, Bytes, BytesMut};

use super::Repository;
use super::file_list::{Entry, LINE_BYTES, PART_BYTES};
use super::layout::ObjectName;
use super::manifest::{Manifest, PartReference};
use crate::container::{CHUNK_SIZE, ContentDigest, ObjectKind, StreamDecoder};
use crate::error::{Error, Result};

/// A part ends with the line that takes it over its size; compression rarely adds bytes, and never many.
const PART_STORED_BYTES: usize = PART_BYTES as usize + LINE_BYTES + (1 << 20);

/// A part of a file list, of which lines may still come; the default is one that is over.
///
/// Takes its stored bytes, about a chunk, and the line that is being read. That the part is whole, and the one that its
/// manifest names, is known with its last line: until then an error may still come.
#[derive(Default)]
pub struct FileListPart {
    /// None when all of the content is in `lines`.
    rest: Option<Rest>,
    lines: BytesMut,
}

/// What has not been decoded yet.
struct Rest {
    key: String,
    stored: Bytes,
    decoder: StreamDecoder,
    expected: ContentDigest,
}

impl FileListPart {
    /// Reads a part that the manifest names; a part that is absent is damage.
    pub async fn read(
        repository: &Repository,
        manifest: &Manifest,
        part: &PartReference,
    ) -> Result<Self> {
        let name = ObjectName::FileList(manifest.backup_id.clone(), part.number);
        let key = name.key().to_string();
        let stored = repository.read_stored(&name, PART_STORED_BYTES).await?;
        let stored = stored.ok_or_else(|| Error::damaged(format!("`{key}` is missing")))?;
        let cluster = manifest.system_identifier;
        let identity = repository.object_identity(&name, ObjectKind::FileList, cluster);
        let decoder = StreamDecoder::new(repository.sealing(), identity);
        let rest = Rest { key, stored, decoder, expected: part.digest };
        let mut part = Self { rest: Some(rest), lines: BytesMut::new() };
        part = crate::task::blocking(move || {
            part.fill()?;
            Ok(part)
        })
        .await?;
        Ok(part)
    }

    /// Whether every line has been taken.
    pub fn is_over(&self) -> bool {
        self.rest.is_none() && self.lines.is_empty()
    }

    /// Decodes until there is something to read, or all has been read.
    fn fill(&mut self) -> Result<()> {
        while self.lines.is_empty() && self.rest.is_some() {
            self.decode_chunk()?;
        }
        Ok(())
    }

    fn decode_chunk(&mut self) -> Result<()> {
        let Some(mut rest) = self.rest.take() else { return Ok(()) };
        let cannot = |error: Error| error.context(format!("cannot read `{}`", rest.key));
        match rest.decoder.next_chunk().map_err(cannot)? {
            Some(chunk) => self.lines.extend_from_slice(chunk),
            None if !rest.stored.is_empty() => {
                let piece = rest.stored.split_to(rest.stored.len().min(CHUNK_SIZE));
                rest.decoder.feed(&piece);
            }
            None => return rest.finish(),
        }
        self.rest = Some(rest);
        Ok(())
    }

    fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut searched = 0;
        let end = loop {
            if let Some(end) = self.lines[searched..].iter().position(|byte| *byte == b'\n') {
                break searched + end;
            }
            searched = self.lines.len();
            match self.rest {
                Some(_) => self.decode_chunk()?,
                None if self.lines.is_empty() => return Ok(None),
                None => return Err(Error::damaged("a file list ends within a line")),
            }
        };
        let entry = Entry::from_line(&self.lines[..end])?;
        self.lines.advance(end + 1);
        self.fill()?;
        Ok(Some(entry))
    }
}

impl Rest {
    fn finish(self) -> Result<()> {
        let cannot = |error: Error| error.context(format!("cannot read `{}`", self.key));
        let decoded = self.decoder.finish().map_err(cannot)?;
        if decoded.content.digest == self.expected {
            return Ok(());
        }
        Err(Error::damaged(format!("`{}` is not the part that its manifest names", self.key)))
    }
}

/// The lines, parsed and checked, in the order of their paths. After an error nothing more that comes is to be believed.
impl Iterator for FileListPart {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        self.next_entry().transpose()
    }
}
