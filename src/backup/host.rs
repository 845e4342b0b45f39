//! Which machine reads the files: what an identity of a file is worth in a later backup depends on it.

use std::fs::read_to_string;

/// The wall clock against one that nobody sets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    offset_seconds: i64,
}

impl Clocks {
    /// As they stand now.
    pub(super) fn now() -> Self {
        use rustix::time::{ClockId, clock_gettime};
        let (wall, boot) = (clock_gettime(ClockId::Realtime), clock_gettime(ClockId::Boottime));
        Self { offset_seconds: wall.tv_sec - boot.tv_sec }
    }

    /// Whether the wall clock was set since: times of change from before and after cannot be compared.
    pub(super) fn were_set_since(self, earlier: Self) -> bool {
        (self.offset_seconds - earlier.offset_seconds).abs() > 1
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_shows() {
        let now = Clocks::now();
        assert!(!Clocks::now().were_set_since(now));
        let set_back = Clocks { offset_seconds: now.offset_seconds - 2 };
        assert!(set_back.were_set_since(now) && now.were_set_since(set_back));
    }
}
