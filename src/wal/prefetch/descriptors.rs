//! What a helper must not inherit.
//!
//! PostgreSQL before 16 leaves its files, its sockets and the pipe to its log collector open in the commands that it
//! starts. A helper that kept one would keep the server's log collector from ending, or a removed file's space in use.

#![expect(
    unsafe_code,
    reason = "a descriptor that somebody else opened is known by its number only"
)]

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::{Errno, FdFlags, fcntl_setfd};

/// Makes every descriptor but the standard ones close when the next program is executed.
///
/// To be called before anything else has opened a descriptor that is to be inherited.
pub(super) fn keep_from_children() -> io::Result<()> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // SAFETY: the descriptor is only marked, never read, written or closed; if it is closed by now (the listing
        // itself was one), the call answers EBADF.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        match fcntl_setfd(descriptor, FdFlags::CLOEXEC) {
            Ok(()) | Err(Errno::BADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
