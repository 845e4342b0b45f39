//! When a first push may make a repository: only where nothing hints at a lost one.

use std::path::Path;

use super::Identity;
use crate::error::{Error, Result};
use crate::postgres::{TimelineId, WalFileName};
use crate::repository::{Creation, FirstCluster, Site};
use crate::wal::local_file::CheckedFile;

/// Decides whether the push of `file` may make a repository in an empty existing location.
pub(super) fn decide(file: &CheckedFile, identity: &Identity, site: Option<&Site>) -> Creation {
    match reason_against(file, identity, site) {
        Ok(None) => {
            let cluster = identity.cluster();
            Creation::By(FirstCluster {
                system_identifier: cluster.system_identifier,
                segment_size: cluster.segment_size,
            })
        }
        Ok(Some(reason)) => Creation::Refused(reason),
        Err(error) => Creation::Refused(error.to_string()),
    }
}

fn reason_against(
    file: &CheckedFile,
    identity: &Identity,
    site: Option<&Site>,
) -> Result<Option<String>> {
    let Identity::Control(control) = identity else {
        return Ok(Some("`pg_control` could not be read".to_owned()));
    };
    let name = file.name();
    let ordinary = matches!(name, WalFileName::Segment(_) | WalFileName::BackupLabel { .. });
    if !ordinary || name.timeline() != TimelineId::FIRST {
        return Ok(Some(format!("`{name}` is not what a new cluster archives first")));
    }
    if control.checkpoint_timeline != TimelineId::FIRST {
        let timeline = control.checkpoint_timeline;
        return Ok(Some(format!("the cluster is on timeline {timeline}, so it is not new")));
    }
    let directory = file.local().directory();
    if let Some(history) = first_ending(directory, ".history")? {
        return Ok(Some(format!("`{history}` in `pg_wal` says that the cluster is not new")));
    }
    if let Some(done) = first_ending(&directory.join("archive_status"), ".done")? {
        return Ok(Some(format!("`archive_status/{done}` says that WAL was archived before")));
    }
    if !site.is_some_and(Site::can_keep_witness) {
        return Ok(Some("no witness can be kept beside or inside the data directory".to_owned()));
    }
    Ok(None)
}

/// The name of some file of `directory` with this ending; a directory that does not exist has none.
fn first_ending(directory: &Path, ending: &str) -> Result<Option<String>> {
    let unreadable = |error| Error::io(format!("cannot read `{}`", directory.display()), error);
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(unreadable)?,
    };
    for entry in entries {
        let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(ending) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
