//! Reading files without pushing the server's pages out of the page cache.

use std::fs::File;
use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;

use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};

/// Reads into `buffer` from `offset` until it is full or the file ends; the number of bytes read.
///
/// What was in the page cache stays there; what this read had to fetch from disk is dropped again, so that the
/// cache belongs to the server after a backup as before it.
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let cached = read_cached(file, buffer, offset)?;
    let fetched = read_rest(file, &mut buffer[cached.length..], offset + cached.length as u64)?;
    if let (true, Some(length)) = (cached.is_known, NonZeroU64::new(fetched as u64)) {
        // Advice: where it is not taken, nothing is lost.
        let start = offset + cached.length as u64;
        let _ = rustix::fs::fadvise(file, start, Some(length), Advice::DontNeed);
    }
    Ok(cached.length + fetched)
}

struct Cached {
    length: usize,
    /// Whether the file system tells what is cached.
    is_known: bool,
}

fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<Cached> {
    let flags = ReadWriteFlags::NOWAIT;
    match rustix::io::preadv2(file, &mut [IoSliceMut::new(buffer)], offset, flags) {
        Ok(length) => Ok(Cached { length, is_known: true }),
        Err(Errno::AGAIN) => Ok(Cached { length: 0, is_known: true }),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::INTR) => {
            Ok(Cached { length: 0, is_known: false })
        }
        Err(error) => Err(error.into()),
    }
}

fn read_rest(file: &File, mut buffer: &mut [u8], mut offset: u64) -> std::io::Result<usize> {
    let wanted = buffer.len();
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => break,
            Ok(length) => {
                buffer = &mut buffer[length..];
                offset += length as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(wanted - buffer.len())
}

/// Tells the system that a large file is read in ranges of our own choice: its read-ahead would make fetched pages
/// look like cached ones.
pub(super) fn announce_ranges(file: &File) {
    // Advice: where it is not taken, nothing is lost.
    let _ = rustix::fs::fadvise(file, 0, None, Advice::Random);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_ends_at_the_end_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, [7; 10_000]).unwrap();
        let file = File::open(&path).unwrap();
        let mut buffer = [0; 8192];
        assert_eq!(read_at(&file, &mut buffer, 0).unwrap(), 8192);
        assert_eq!(read_at(&file, &mut buffer, 8192).unwrap(), 10_000 - 8192);
        assert_eq!(read_at(&file, &mut buffer, 20_000).unwrap(), 0);
        assert_eq!(buffer, [7; 8192]);
    }
}
