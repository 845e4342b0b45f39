//! Taking a data directory over, in the order of R6: marker, control file aside, labels and signal files, WAL. From
//! the second step on, no server starts from it until the restore has ended.

use std::io;
use std::path::Path;

use super::beneath::Beneath;
use super::destination::{Prepared, failed, lock_all, open_owned, open_tablespaces};
use super::existing::{ExistingData, Proof, WAL_DIRECTORY, refuse_server};
use super::filling::{BACKUP_LABEL, TABLESPACE_MAP};
use super::local;
use super::marker::{Into, Marker, Subject, exists};
use super::tree::{Tree, former_control_file};
use crate::durable::{self, Existing};
use crate::error::{Error, Result};
use crate::postgres::CONTROL_FILE;
use crate::step;

/// What would make a server begin a recovery of another kind, or from elsewhere.
const LABELS_AND_SIGNALS: [&str; 4] =
    [BACKUP_LABEL, TABLESPACE_MAP, "recovery.signal", "standby.signal"];

/// What a file system keeps for itself where it is mounted.
pub(super) const LOST_AND_FOUND: &str = "lost+found";

impl ExistingData {
    /// Makes the directory one from which no server starts, and one without WAL; every step is durable before the next.
    pub(super) fn take_over(self, subject: Subject) -> Result<Prepared> {
        let locks = lock_all(&self.data, &self.tablespaces)?;
        // The directory may have changed until it was locked.
        let proof = Proof::of(&self.data)?;
        self.require_unchanged(&proof)?;
        require_cluster(&proof, &subject)?;
        let data = open_owned(&self.data, self.owner)?;
        let marker = Marker::new(subject, Into::Existing)?.resuming(proof.interrupted());
        marker.leave(&data, Existing::Replace)?;
        step::reached("restore:marker");
        put_control_file_aside(&self.data)?;
        step::reached("restore:control-aside");
        remove_labels(&data)?;
        step::reached("restore:labels-removed");
        let wal = self.wal.as_deref().map(|wal| open_owned(wal, self.owner)).transpose()?;
        empty_wal(&data, wal.as_ref())?;
        step::reached("restore:wal-emptied");
        let tablespaces = open_tablespaces(&self.data, &self.tablespaces, self.owner, &marker)?;
        Ok(Prepared::new(Tree::new(data, tablespaces).with_wal(wal), locks))
    }

    /// A server that ran since the directory was looked at may have left WAL that nobody has asked about.
    fn require_unchanged(&self, found: &Proof) -> Result<()> {
        match (&self.proof, found) {
            (Proof::Control(before), Proof::Control(now)) if before == now => Ok(()),
            (Proof::Interrupted(_), Proof::Interrupted(_)) => Ok(()),
            _ => Err(Error::refused(format!("`{}` has changed meanwhile", self.data.display()))
                .because("a server ran in it, or another restore")
                .hint("run the restore again")),
        }
    }

    /// Refuses a data directory of another cluster.
    pub(super) fn require_cluster(&self, subject: &Subject) -> Result<()> {
        require_cluster(&self.proof, subject)
    }

    /// The directories as they are, to look at; nothing is changed.
    pub(super) fn look(&self) -> Result<Tree> {
        let open = |directory: &Path| {
            Beneath::open(directory, self.owner).map_err(|error| failed("open", directory, error))
        };
        let present = self.tablespaces.iter().filter(|(_, directory)| directory.is_dir());
        let tablespaces = present.map(|(number, directory)| Ok((*number, open(directory)?)));
        Ok(Tree::new(open(&self.data)?, tablespaces.collect::<Result<_>>()?))
    }
}

fn require_cluster(proof: &Proof, subject: &Subject) -> Result<()> {
    let (found, wanted) = (proof.cluster(), subject.system_identifier);
    if found == wanted {
        return Ok(());
    }
    let backup = &subject.backup_id;
    Err(Error::refused(format!("backup `{backup}` is of cluster {wanted}"))
        .because(format!("the data directory is of cluster {found}"))
        .hint("choose a backup of this cluster, or restore into another directory"))
}

/// A server that was started a moment ago may have read the control file: then it is put back.
fn put_control_file_aside(data: &Path) -> Result<()> {
    let (control, former) = (data.join(CONTROL_FILE), data.join(former_control_file()));
    if !exists(&control)? {
        return Ok(());
    }
    let moved = |from: &Path, to: &Path, existing| {
        durable::rename(from, to, existing)
            .and_then(|()| durable::sync_parent(from))
            .and_then(|()| durable::sync_parent(to))
            .map_err(|error| Error::io(format!("cannot move `{}`", from.display()), error))
    };
    moved(&control, &former, Existing::Replace)?;
    if let Err(refused) = refuse_server(data) {
        moved(&former, &control, Existing::Keep)?;
        return Err(refused);
    }
    Ok(())
}

fn remove_labels(data: &Beneath) -> Result<()> {
    let failed = |error: io::Error| {
        Error::io(format!("cannot remove the labels in `{}`", data.path().display()), error)
    };
    for (name, kind) in local::entries(data.root()).map_err(failed)? {
        if LABELS_AND_SIGNALS.iter().any(|label| label.as_bytes() == name.as_bytes()) {
            local::remove_entry(data.root(), &name, kind).map_err(failed)?;
        }
    }
    durable::sync_directory(data.path()).map_err(failed)
}

/// Empties `pg_wal`, or where it leads; what is there under that name and is no directory goes with the unlisted files.
fn empty_wal(data: &Beneath, linked: Option<&Beneath>) -> Result<()> {
    let opened;
    let wal = match linked {
        Some(wal) => wal,
        None => match data.open_below(Path::new(WAL_DIRECTORY)) {
            Ok(wal) => {
                opened = wal;
                &opened
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(failed("open", &data.path().join(WAL_DIRECTORY), error)),
        },
    };
    local::clear(wal, &[LOST_AND_FOUND])?;
    durable::sync_directory(wal.path()).map_err(|error| failed("sync", wal.path(), error))
}
