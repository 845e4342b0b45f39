//! Joining what the readers yield into chunks, in the order of the file list.

use super::buffer::Buffer;
use super::read::{Content, Portion, ReadItem, RunSource};
use crate::container::CHUNK_SIZE;

/// Items without data must not pile up behind each other.
const CHUNK_ITEMS: usize = 4096;
const CHUNK_EXTENTS: usize = 4 * CHUNK_ITEMS;

/// The raw content of one chunk, in parts, and the items whose data it holds.
#[derive(Debug, Default)]
pub(super) struct RawChunk {
    /// The content; at most a chunk together, nothing when no item has data.
    pub(super) parts: Vec<Buffer>,
    /// In order; their data runs cover the content.
    pub(super) items: Vec<ReadItem>,
    length: usize,
    /// Of the files that are taken over.
    extents: usize,
}

/// Collects portions until they fill a chunk.
#[derive(Debug, Default)]
pub(super) struct Chunker {
    pending: RawChunk,
    /// The file that is being read ended before its last range: what was read behind its end does not exist.
    is_past_end: bool,
}

impl Chunker {
    /// Adds the next portion; a chunk when it does not fit into the present one.
    pub(super) fn add(&mut self, mut portion: Portion) -> Option<RawChunk> {
        self.drop_past_end(&mut portion);
        let fits = self.pending.length + portion.data.len() <= CHUNK_SIZE
            && self.pending.items.len() < CHUNK_ITEMS
            && self.pending.extents < CHUNK_EXTENTS;
        let full = if fits { None } else { self.finish() };
        self.pending.length += portion.data.len();
        self.pending.extents += portion.items.iter().map(taken_extents).sum::<usize>();
        self.pending.items.append(&mut portion.items);
        if !portion.data.is_empty() {
            self.pending.parts.push(portion.data);
        }
        full
    }

    /// What is left.
    pub(super) fn finish(&mut self) -> Option<RawChunk> {
        let chunk = std::mem::take(&mut self.pending);
        (!chunk.items.is_empty()).then_some(chunk)
    }

    /// B3: a file that shrank while it was read ends where it first ended, even if it grew again since.
    fn drop_past_end(&mut self, portion: &mut Portion) {
        let mut position = 0;
        let data = &mut portion.data;
        portion.items.retain(|item| {
            let ReadItem::Content(content) = item else {
                self.is_past_end &= !matches!(item, ReadItem::End);
                return true;
            };
            let length = data_length(content);
            if self.is_past_end {
                data.remove(position, length);
                return false;
            }
            position += length;
            self.is_past_end = content.ended_early;
            true
        });
    }
}

fn taken_extents(item: &ReadItem) -> usize {
    match item {
        ReadItem::Taken(_, extents) => extents.len(),
        _ => 0,
    }
}

fn data_length(content: &Content) -> usize {
    let data = content.runs.iter().filter(|run| run.source == RunSource::Data);
    data.map(|run| run.length).sum::<u64>() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::buffer::BufferPool;
    use crate::backup::read::Run;

    fn content(length: u64, ended_early: bool) -> ReadItem {
        let runs = vec![Run { length, source: RunSource::Data }];
        let (hashes, suspects) = (Vec::new(), Vec::new());
        ReadItem::Content(Content { length, ended_early, hashes, runs, suspects })
    }

    fn portion(items: Vec<ReadItem>, bytes: &[u8]) -> Portion {
        let mut data = BufferPool::default().take(bytes.len(), None);
        data.append(bytes);
        Portion { items, data }
    }

    /// B3
    #[test]
    fn what_was_read_behind_the_end_of_a_file_that_shrank_is_dropped() {
        let mut chunker = Chunker::default();
        assert!(chunker.add(portion(vec![content(3, true)], b"abc")).is_none());
        let items = vec![content(2, false), ReadItem::End, content(4, false), ReadItem::End];
        assert!(chunker.add(portion(items, b"xxnext")).is_none());
        let chunk = chunker.finish().unwrap();
        let bytes: Vec<u8> = chunk.parts.iter().flat_map(|part| part.to_vec()).collect();
        assert_eq!(bytes, b"abcnext");
        assert_eq!(chunk.items.len(), 4);
    }

    #[test]
    fn a_portion_that_does_not_fit_begins_a_chunk() {
        let mut chunker = Chunker::default();
        let half = vec![1; CHUNK_SIZE / 2];
        assert!(chunker.add(portion(vec![content(half.len() as u64, false)], &half)).is_none());
        assert!(chunker.add(portion(vec![content(half.len() as u64, false)], &half)).is_none());
        let full = chunker.add(portion(vec![content(1, false)], b"x")).unwrap();
        assert_eq!((full.length, full.items.len()), (CHUNK_SIZE, 2));
        assert_eq!(chunker.finish().unwrap().length, 1);
        assert!(chunker.finish().is_none());
    }
}
