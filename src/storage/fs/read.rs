//! Reading one object: opened once, read by position, a megabyte at a time and two reads ahead.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use rustix::fs::OFlags;

use super::root::Root;
use super::{ByteStream, ObjectInfo, ObjectKey, StorageError, StorageErrorKind, failure};
use crate::task;

const PART_BYTES: u64 = 1 << 20;
const PARTS_IN_FLIGHT: usize = 2;

/// An open object; it stays readable and unchanged even when it is deleted meanwhile.
pub(super) struct Object {
    file: Arc<File>,
    key: ObjectKey,
    location: String,
    size: u64,
    modified: io::Result<SystemTime>,
}

impl Object {
    /// Opens an object; anything but a regular file under the name is no object.
    pub(super) fn open(root: &Root, key: &ObjectKey) -> Result<Self, StorageError> {
        root.check()?;
        let location = format!("{root}/{key}");
        let opened = open_file(root, key).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = match opened {
            Ok((metadata, file)) if metadata.is_file() => (metadata, file),
            Ok(_) => return Err(absent(&location)),
            Err(error) if failure::is_absence(&error) => {
                // Unmounted since the first look, the directory would answer "absent" to everything.
                root.check()?;
                return Err(absent(&location));
            }
            Err(error) => return Err(failure::of("cannot read", location, error)),
        };
        let (size, modified) = (metadata.len(), metadata.modified());
        Ok(Self { file: Arc::new(file), key: key.clone(), location, size, modified })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn info(self) -> Result<ObjectInfo, StorageError> {
        let modified = self
            .modified
            .map_err(|error| failure::of("cannot tell the age of", &self.location, error))?;
        Ok(ObjectInfo { key: self.key, size: self.size, modified })
    }

    /// The bytes of `span`, which lies within the object.
    pub(super) fn stream(self, span: Range<u64>) -> ByteStream {
        let (file, location) = (self.file, Arc::<str>::from(self.location));
        futures::stream::iter(parts(span))
            .map(move |part| read_part(Arc::clone(&file), part, Arc::clone(&location)))
            .buffered(PARTS_IN_FLIGHT)
            // After a failed part no later one may follow.
            .scan(false, |failed, part| {
                let over = std::mem::replace(failed, part.is_err());
                std::future::ready((!over).then_some(part))
            })
            .into_stream()
            .boxed()
    }
}

/// `O_NONBLOCK` because opening somebody's FIFO would wait for its writer; it means nothing to a regular file.
fn open_file(root: &Root, key: &ObjectKey) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(root.path_of(key))
}

fn absent(location: &str) -> StorageError {
    StorageError::new(StorageErrorKind::NotFound, format!("there is no `{location}`"))
}

fn parts(span: Range<u64>) -> impl Iterator<Item = Range<u64>> + Send {
    let end = span.end;
    span.step_by(PART_BYTES as usize).map(move |start| start..(start + PART_BYTES).min(end))
}

/// A file that ends before the size it was opened with is an error: somebody cut it.
async fn read_part(
    file: Arc<File>,
    part: Range<u64>,
    location: Arc<str>,
) -> Result<Bytes, StorageError> {
    task::unblock(move || {
        let mut bytes = vec![0; (part.end - part.start) as usize];
        match file.read_exact_at(&mut bytes, part.start) {
            Ok(()) => Ok(Bytes::from(bytes)),
            Err(error) => Err(failure::of("cannot read", location, error)),
        }
    })
    .await
}
