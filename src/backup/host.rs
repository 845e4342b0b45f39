//! Which machine reads the files: what an identity of a file is worth in a later backup depends on it.

use std::fs::read_to_string;

/// Identifies the installation of the operating system; empty when unknown.
pub(super) fn machine_id() -> String {
    first_line("/etc/machine-id")
}

/// Identifies the present run of the kernel; empty when unknown.
pub(super) fn boot_id() -> String {
    first_line("/proc/sys/kernel/random/boot_id")
}

/// The host's name.
pub(super) fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn first_line(path: &str) -> String {
    // A host without it only reads more in its next backup.
    read_to_string(path).unwrap_or_default().trim_end().to_owned()
}
