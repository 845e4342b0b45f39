//! Files that are in the place of a listed one already, and may be changed where they differ.

use std::io;
use std::path::Path;

use rustix::fs::{
    self, AtFlags, FallocateFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps,
};
use rustix::io::Errno;

use super::beneath::{Beneath, Syncing, permissions};
use super::local;

impl Beneath {
    /// Takes a file over in `size` bytes, and returns the bytes it had; none when it had to be made anew.
    ///
    /// What may not be changed is removed first: a file with a second name (the other name keeps the bytes), one of
    /// another owner, one that its owner may not write, and whatever is no file.
    pub(super) fn adopt_file(&self, path: &Path, size: u64) -> io::Result<Option<u64>> {
        match self.open_file(path, OFlags::RDWR | OFlags::NONBLOCK) {
            Ok(file) => {
                let found = fs::fstat(&file)?;
                if is_adoptable(&found) {
                    self.give_found(&file, &found)?;
                    if bytes_of(&found) != size {
                        fs::ftruncate(&file, size)?;
                    }
                    return Ok(Some(bytes_of(&found)));
                }
                self.remove(path)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => self.remove(path)?,
        }
        self.create_file(path, size)?;
        Ok(None)
    }

    /// The bytes of the file that [`Beneath::adopt_file`] would take over; changes nothing.
    pub(super) fn adoptable_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        let found = match self.open_file(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => fs::fstat(&file)?,
            // Whatever keeps it from being read, it will be made anew.
            Err(_) => return Ok(None),
        };
        Ok(is_adoptable(&found).then(|| bytes_of(&found)))
    }

    fn leads_to(&self, link: &Path, target: &Path) -> io::Result<bool> {
        let (parent, name) = self.parent(link)?;
        match fs::readlinkat(&*parent, name, Vec::new()) {
            Ok(found) => Ok(found.as_bytes() == target.as_os_str().as_encoded_bytes()),
            Err(Errno::INVAL) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes an entry with all that is in it.
    fn remove(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let found = fs::statat(&*parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let name = std::ffi::CString::new(name.as_encoded_bytes()).map_err(io::Error::other)?;
        local::remove_entry(&parent, &name, FileType::from_raw_mode(found.st_mode))
    }

    /// Gives a file whose bytes are right its mode and its modification time where they differ.
    ///
    /// It must be synced, too: its bytes may have been written by anybody a moment ago.
    pub(super) fn settle_unchanged(
        &self,
        path: &Path,
        mode: u32,
        modified: (i64, i64),
        syncing: Syncing,
    ) -> io::Result<()> {
        let file = self.open_file(path, OFlags::RDONLY)?;
        let found = fs::fstat(&file)?;
        let wanted = permissions(mode);
        if Mode::from_raw_mode(found.st_mode) != wanted {
            fs::fchmod(&file, wanted)?;
        }
        if (found.st_mtime, found.st_mtime_nsec.cast_signed()) != modified {
            let time = Timespec { tv_sec: modified.0, tv_nsec: modified.1 };
            fs::futimens(&file, &Timestamps { last_access: time, last_modification: time })?;
        }
        match syncing {
            Syncing::Each => Ok(fs::fsync(&file)?),
            Syncing::Together => Ok(()),
        }
    }

    /// Syncs everything in the file system; returns the errors of whatever was written since the directory was opened.
    pub(super) fn sync_file_system(&self) -> io::Result<()> {
        Ok(fs::syncfs(self.root())?)
    }

    /// Makes a link, in place of another that leads elsewhere.
    pub(super) fn set_link(&self, path: &Path, target: &Path) -> io::Result<()> {
        match self.create_link(path, target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if self.leads_to(path, target)? {
                    return Ok(());
                }
                self.remove(path)?;
                self.create_link(path, target)
            }
            other => other,
        }
    }
}

/// Whether a file may be changed where it lies.
fn is_adoptable(found: &Stat) -> bool {
    let process = rustix::process::geteuid();
    let ours = process.is_root() || found.st_uid == process.as_raw();
    let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
    is_file && found.st_nlink == 1 && ours
}

fn bytes_of(found: &Stat) -> u64 {
    found.st_size.cast_unsigned()
}

/// Makes `length` bytes of a file zero.
pub(super) fn write_zeros(file: &std::fs::File, offset: u64, length: u64) -> io::Result<()> {
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match fs::fallocate(file, hole, offset, length) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            fill_with_zeros(file, offset, length)
        }
        other => Ok(other?),
    }
}

fn fill_with_zeros(file: &std::fs::File, mut offset: u64, length: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let end = offset + length;
    while offset < end {
        let part = (ZEROS.len() as u64).min(end - offset);
        file.write_all_at(&ZEROS[..part as usize], offset)?;
        offset += part;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn beneath(files: &[&str]) -> (tempfile::TempDir, Beneath) {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::write(directory.path().join(file), [7; 10_000]).unwrap();
        }
        let beneath = Beneath::open(directory.path(), None).unwrap();
        (directory, beneath)
    }

    fn adopted(beneath: &Beneath, name: &str) -> Option<u64> {
        let path = Path::new(name);
        let expected = beneath.adoptable_bytes(path).unwrap();
        let found = beneath.adopt_file(path, 20_000).unwrap();
        assert_eq!(found, expected, "the plan says otherwise of {name}");
        found
    }

    /// R6
    #[test]
    fn a_file_keeps_its_bytes_and_gets_its_size() {
        let (directory, beneath) = beneath(&["longer", "shorter"]);
        assert_eq!(adopted(&beneath, "shorter"), Some(10_000));
        assert_eq!(beneath.adopt_file(Path::new("longer"), 5000).unwrap(), Some(10_000));
        let read = |name| std::fs::read(directory.path().join(name)).unwrap();
        assert_eq!(read("longer"), [7; 5000]);
        assert_eq!(
            (read("shorter").len(), read("shorter")[9999], read("shorter")[10_000]),
            (20_000, 7, 0)
        );
    }

    /// R6
    #[test]
    fn a_file_with_a_second_name_keeps_its_bytes_there() {
        let (directory, beneath) = beneath(&["file"]);
        let other = directory.path().join("other");
        std::fs::hard_link(directory.path().join("file"), &other).unwrap();
        assert_eq!(adopted(&beneath, "file"), None);
        assert_eq!(std::fs::read(&other).unwrap(), [7; 10_000]);
        assert_eq!(directory.path().join("file").metadata().unwrap().nlink(), 1);
    }

    /// R6, R4
    #[test]
    fn what_is_no_file_makes_room_and_no_link_is_followed() {
        let (directory, beneath) = beneath(&["elsewhere"]);
        std::fs::create_dir_all(directory.path().join("directory/below")).unwrap();
        symlink(directory.path().join("elsewhere"), directory.path().join("link")).unwrap();
        for name in ["directory", "link", "absent"] {
            assert_eq!(adopted(&beneath, name), None, "{name}");
            assert_eq!(
                std::fs::read(directory.path().join(name)).unwrap(),
                vec![0; 20_000],
                "{name}"
            );
        }
        assert_eq!(std::fs::read(directory.path().join("elsewhere")).unwrap(), [7; 10_000]);
    }

    #[test]
    fn a_mode_that_forbids_writing_is_no_hindrance() {
        let (directory, beneath) = beneath(&["file"]);
        let path = directory.path().join("file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        beneath.adopt_file(Path::new("file"), 10).unwrap();
        let time = (1_000_000_000, 7);
        beneath.settle_unchanged(Path::new("file"), 0o640, time, Syncing::Each).unwrap();
        beneath.sync_file_system().unwrap();
        let found = path.metadata().unwrap();
        assert_eq!(found.mode() & 0o777, 0o640);
        assert_eq!((found.len(), found.mtime(), found.mtime_nsec()), (10, 1_000_000_000, 7));
    }

    /// R6
    #[test]
    fn a_link_that_leads_elsewhere_is_replaced() {
        let (directory, beneath) = beneath(&[]);
        for target in ["/srv/one", "/srv/one", "/srv/two"] {
            beneath.set_link(Path::new("link"), Path::new(target)).unwrap();
            let found = std::fs::read_link(directory.path().join("link")).unwrap();
            assert_eq!(found, Path::new(target));
        }
    }

    #[test]
    fn zeros_are_written_where_holes_cannot_be_made() {
        let (directory, _) = beneath(&["a", "b"]);
        let open = |name| {
            let path = directory.path().join(name);
            std::fs::File::options().write(true).open(path).unwrap()
        };
        write_zeros(&open("a"), 1000, 2000).unwrap();
        fill_with_zeros(&open("b"), 1000, 2000).unwrap();
        for name in ["a", "b"] {
            let bytes = std::fs::read(directory.path().join(name)).unwrap();
            let expected = [vec![7; 1000], vec![0; 2000], vec![7; 7000]].concat();
            assert_eq!(bytes, expected, "{name}");
        }
    }
}
