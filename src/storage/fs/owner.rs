//! Whose the files are: root runs `init` and backups, PostgreSQL's user archives, and each must read what the other made.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, openat};

/// A user and a group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    user: u32,
    group: u32,
}

impl Owner {
    /// The owner of an open file or directory.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { user: metadata.uid(), group: metadata.gid() })
    }

    /// Gives to this owner what root has made: every directory of `path` below `top`, which root may not own in a
    /// repository of somebody else. Anybody but root has nothing to give.
    ///
    /// No link is followed: in a directory of another user, names may lead anywhere.
    pub(super) fn take_directories(self, top: &File, path: &Path) -> io::Result<()> {
        if !self.takes_from_caller() {
            return Ok(());
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut directory = top.try_clone()?;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            directory = File::from(openat(&directory, name, flags, Mode::empty())?);
            self.take(&directory)?;
        }
        Ok(())
    }

    /// Gives to this owner a file or directory that belongs to root.
    pub(super) fn take(self, file: &File) -> io::Result<()> {
        if !self.takes_from_caller() || file.metadata()?.uid() != 0 {
            return Ok(());
        }
        match fchown(file, Some(self.user), Some(self.group)) {
            // Root of a container or of a network client may have no right to give files away: they stay as they are.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::InvalidInput
                ) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    fn takes_from_caller(self) -> bool {
        self.user != 0 && rustix::process::geteuid().is_root()
    }
}
