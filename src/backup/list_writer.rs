//! The file list: lines in the order of their paths, cut into parts that are stored while the walk goes on.

use super::Target;
use super::pack_builder::Sealed;
use crate::container::{CHUNK_SIZE, ObjectKind, ObjectWriter, compress};
use crate::error::{Error, Result};
use crate::repository::{Entry, ObjectName, PART_BYTES, PartReference};

/// Writes the lines of one backup.
pub(super) struct ListWriter {
    target: Target,
    next_number: u32,
    part: Option<Part>,
    references: Vec<PartReference>,
    /// The number of the part that holds nothing but `global/pg_control`, which is read after everything else.
    reserved: Option<u32>,
}

struct Part {
    number: u32,
    first_path: String,
    writer: ObjectWriter,
    name: ObjectName,
    /// Less than a chunk between two lines.
    lines: Vec<u8>,
}

impl ListWriter {
    /// A list without lines, whose parts are numbered from `first_number` on.
    pub(super) fn new(target: Target, first_number: u32) -> Self {
        Self {
            target,
            next_number: first_number,
            part: None,
            references: Vec::new(),
            reserved: None,
        }
    }

    /// The number that no part has had so far.
    pub(super) fn next_number(&self) -> u32 {
        self.next_number
    }

    /// Appends a line; the part that it filled.
    pub(super) fn push(&mut self, entry: &Entry) -> Result<Option<Sealed>> {
        let mut part = match self.part.take() {
            Some(part) => part,
            None => self.begin(entry)?,
        };
        part.lines.extend_from_slice(&entry.to_line()?);
        part.compress_full_chunks(&self.target)?;
        if part.length() < PART_BYTES {
            self.part = Some(part);
            return Ok(None);
        }
        self.seal(part).map(Some)
    }

    /// Keeps a place for a line that is not known yet: it gets a part of its own. The part that ends before it.
    pub(super) fn reserve(&mut self) -> Result<Option<Sealed>> {
        if self.reserved.is_some() {
            return Err(Error::bug("a second line was to be kept out of the file list"));
        }
        let before = self.cut()?;
        self.reserved = Some(self.take_number());
        Ok(before)
    }

    /// Ends the present part.
    pub(super) fn cut(&mut self) -> Result<Option<Sealed>> {
        let part = self.part.take();
        part.map(|part| self.seal(part)).transpose()
    }

    /// Fills the reserved place.
    pub(super) fn fill_reserved(&mut self, entry: &Entry) -> Result<Sealed> {
        let missing = || Error::bug("no line was kept out of the file list");
        let number = self.reserved.take().ok_or_else(missing)?;
        let mut part = Part::begin(&self.target, number, entry)?;
        part.lines.extend_from_slice(&entry.to_line()?);
        self.seal(part)
    }

    /// What the manifest says of the parts, once all are sealed.
    pub(super) fn take_references(&mut self) -> Vec<PartReference> {
        let mut references = std::mem::take(&mut self.references);
        references.sort_by_key(|part| part.number);
        references
    }

    fn begin(&mut self, first: &Entry) -> Result<Part> {
        let number = self.take_number();
        Part::begin(&self.target, number, first)
    }

    fn take_number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number - 1
    }

    fn seal(&mut self, mut part: Part) -> Result<Sealed> {
        if !part.lines.is_empty() {
            let rest = std::mem::take(&mut part.lines);
            part.push_chunk(&self.target, &rest)?;
        }
        let finished = part.writer.finish()?;
        self.references.push(PartReference {
            number: part.number,
            first_path: part.first_path,
            size: finished.bytes.len() as u64,
            digest: finished.digest,
        });
        Ok(Sealed { name: part.name, bytes: finished.bytes })
    }
}

impl Part {
    fn begin(target: &Target, number: u32, first: &Entry) -> Result<Self> {
        let name = ObjectName::FileList(target.backup.clone(), number);
        let identity =
            target.repository.object_identity(&name, ObjectKind::FileList, target.cluster);
        let (sealing, codec) = (target.repository.sealing(), target.repository.codec());
        let writer = ObjectWriter::new(sealing, identity, codec)?;
        Ok(Self { number, first_path: first.path().encoded(), writer, name, lines: Vec::new() })
    }

    fn length(&self) -> u64 {
        self.writer.raw_length() + self.lines.len() as u64
    }

    fn compress_full_chunks(&mut self, target: &Target) -> Result<()> {
        if self.lines.len() < CHUNK_SIZE {
            return Ok(());
        }
        let lines = std::mem::take(&mut self.lines);
        let (chunks, rest) = lines.as_chunks::<CHUNK_SIZE>();
        for chunk in chunks {
            self.push_chunk(target, chunk)?;
        }
        self.lines = rest.to_vec();
        Ok(())
    }

    fn push_chunk(&mut self, target: &Target, raw: &[u8]) -> Result<()> {
        let chunk = compress(target.repository.codec(), raw)?;
        self.writer.push(chunk, raw)
    }
}
