//! What an error of the operating system means for a stored object.

use std::fmt::Display;
use std::io::{self, ErrorKind};

use super::{StorageError, StorageErrorKind};

/// A failure to do `what` to `object`.
pub(super) fn of(what: &str, object: impl Display, error: io::Error) -> StorageError {
    let failure = StorageError::new(meaning(&error), format!("{what} `{object}`"));
    let failure = match remedy(&error) {
        Some(hint) => failure.hint(hint),
        None => failure,
    };
    failure.because(error)
}

/// Whether the error says that no object has the name.
pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory)
}

fn meaning(error: &io::Error) -> StorageErrorKind {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StorageErrorKind::Denied,
        ErrorKind::AlreadyExists => StorageErrorKind::AlreadyExists,
        ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::InvalidFilename
        | ErrorKind::FileTooLarge
        | ErrorKind::UnexpectedEof => StorageErrorKind::Invalid,
        // `ELOOP` has no kind of its own in stable Rust.
        _ if is_link(error) => StorageErrorKind::Invalid,
        // A full disk, an I/O error, a stale network handle: somebody may mend it while PostgreSQL keeps asking.
        _ => StorageErrorKind::Unavailable,
    }
}

fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

fn remedy(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::StorageFull => Some("the file system of the repository is full"),
        ErrorKind::QuotaExceeded => Some("the disk quota on the repository is used up"),
        ErrorKind::ReadOnlyFilesystem => Some("the file system of the repository is read-only"),
        ErrorKind::PermissionDenied => {
            Some("the user who runs walrs needs access to the repository")
        }
        _ if is_link(error) => Some("a repository holds no symbolic links"),
        _ => None,
    }
}
