//! Whether a data directory holds WAL that nothing else holds (R6).
//!
//! A clean stop with archiving on ends the segment and begins the next with its checkpoint, so everything committed
//! lies in segments before that one. After an immediate stop, a commit can live in the current segment alone.

use std::io;
use std::path::Path;

use super::existing::WAL_DIRECTORY;
use super::filling::BACKUP_LABEL;
use super::marker;
use crate::error::{Error, Result};
use crate::postgres::{ControlFile, SegmentName, SegmentNumber};
use crate::repository::WalArchive;
use crate::task;

/// What to do with WAL that was not archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnarchivedWal {
    /// The restore is refused while there is any.
    Kept,
    /// It may be lost (`--discard-unarchived-wal`).
    Discarded,
}

/// Refuses a data directory unless all it has committed is proven to be in the repository.
pub(super) async fn refuse(data: &Path, control: &ControlFile, archive: &WalArchive) -> Result<()> {
    if !control.state.is_clean() && marker::exists(&data.join(BACKUP_LABEL))? {
        return Err(refused(data)
            .because("a backup was restored into it, and no server has recovered from that yet")
            .hint(hint("start the server, let it recover, and stop it cleanly")));
    }
    if !control.state.is_clean() {
        return Err(refused(data)
            .because(format!("its server was not shut down: it is `{}`", control.state))
            .hint(hint("start the server, let it archive, and stop it cleanly")));
    }
    let directory = data.join(WAL_DIRECTORY).join("archive_status");
    let waiting = task::blocking(move || waiting(&directory)).await?;
    if let Some(first) = waiting.first() {
        return Err(refused(data)
            .because(format!("{} of its files wait to be archived, `{first}` first", waiting.len()))
            .hint(hint("start the server, let it archive, and stop it cleanly")));
    }
    require_last_segment(data, control, archive).await
}

/// The segment before the one with the checkpoint must be in the repository.
async fn require_last_segment(
    data: &Path,
    control: &ControlFile,
    archive: &WalArchive,
) -> Result<()> {
    let size = archive.segment_size();
    let line = archive.line(control.checkpoint_timeline).await?;
    let number = SegmentNumber::containing(control.checkpoint, size).get().checked_sub(1);
    let last: Option<SegmentName> =
        number.and_then(|number| archive.on_line(&line, SegmentNumber::new(number)));
    let Some(last) = last else {
        return Err(refused(data)
            .because("it never finished a segment")
            .hint(hint("start the server, let it archive, and stop it cleanly")));
    };
    if archive.segment_exists(last).await? {
        return Ok(());
    }
    Err(refused(data)
        .because(format!(
            "`{last}`, the last segment before its shutdown, is not in the repository"
        ))
        .hint(hint(
            "check `archive_command`, start the server, let it archive, and stop it cleanly",
        )))
}

/// The files that `archive_status` says are to be archived, in order.
fn waiting(directory: &Path) -> Result<Vec<String>> {
    let unreadable =
        |error| Error::io(format!("cannot look into `{}`", directory.display()), error);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut waiting = Vec::new();
    for entry in entries {
        let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
        waiting.extend(name.strip_suffix(".ready").map(str::to_owned));
    }
    waiting.sort();
    Ok(waiting)
}

fn refused(data: &Path) -> Error {
    let data = data.display();
    Error::refused(format!("`{data}` may hold the only copy of what was committed last"))
}

fn hint(first: &str) -> String {
    format!("{first}; or give it up with `--discard-unarchived-wal`")
}
