//! Processes by their number and the moment of their start, which together mean one process only.

use std::fs;

use serde::{Deserialize, Serialize};

/// Most generations between the postmaster and a command of its recovery: startup process, shell, wrappers, walrs.
const GENERATIONS: usize = 16;

/// One process, not to be taken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    /// Its number.
    pub(super) id: u32,
    /// When it started, in clock ticks since the system did.
    pub(super) started: u64,
}

impl Process {
    /// The process that now has the number `id`; `None` when there is none or the system does not tell.
    pub(super) fn of(id: u32) -> Option<Self> {
        stat(id).map(|(_, started)| Self { id, started })
    }

    /// The process `id`, if this process descends from it.
    pub(super) fn ancestor(id: u32) -> Option<Self> {
        let mut current = std::process::id();
        for _ in 0..GENERATIONS {
            let (parent, _) = stat(current)?;
            if parent == id {
                return Self::of(id);
            }
            current = parent;
        }
        None
    }
}

/// Parent and start time. Source: proc(5), `/proc/pid/stat`, fields 4 and 22.
fn stat(id: u32) -> Option<(u32, u64)> {
    let line = fs::read(format!("/proc/{id}/stat")).ok()?;
    let line = String::from_utf8_lossy(&line);
    // The second field, the program's name, may hold blanks and parentheses.
    let mut fields = line.rsplit_once(") ")?.1.split(' ');
    let parent = fields.nth(1)?.parse().ok()?;
    Some((parent, fields.nth(17)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_an_ancestor_and_a_child_is_none() {
        let parent = std::os::unix::process::parent_id();
        let found = Process::ancestor(parent).unwrap();
        assert_eq!(Some(found), Process::of(parent));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(Process::of(child.id()).is_some_and(|process| process.started > 0));
        assert_eq!(Process::ancestor(child.id()), None);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Process::of(child.id()), None);
    }
}
