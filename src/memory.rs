//! How the allocator keeps memory that was given back.
//!
//! glibc gives every thread an arena of its own and, once a large block was freed, keeps blocks of that size in the
//! arenas. A `wal-push` that seals nine segments on a few threads so held three times what it used.

#![expect(unsafe_code, reason = "glibc's allocator has no other interface")]

/// The size from which a block is the kernel's again as soon as it is freed, in bytes.
const RETURNED_AT_ONCE_BYTES: i32 = 4 << 20;

/// How much free memory at the end of the heap stays the process's, in bytes. With glibc's 128 KiB, which setting the
/// bound above makes final, every chunk is given back and faulted in again (decision 0042).
const KEPT_BYTES: i32 = 4 << 20;

/// Makes the process hold little more than it uses, at the price of threads that wait for each other to allocate.
///
/// To be called before the process has a second thread. Does nothing with other libraries than glibc.
#[cfg(target_env = "gnu")]
pub fn hold_little() {
    // SAFETY: the calls only change parameters of the allocator, and no other thread exists yet. Refused values leave
    // the defaults, which are harmless.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, RETURNED_AT_ONCE_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    }
}

/// Does nothing: only glibc's allocator is known to need it.
#[cfg(not(target_env = "gnu"))]
pub fn hold_little() {}
