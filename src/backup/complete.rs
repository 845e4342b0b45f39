//! The end of a backup: everything it needs is there, so it may begin to exist.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use jiff::Timestamp;

use super::assemble::Stored;
use super::base::{Base, require_packs};
use super::copy::Identities;
use super::mark::{Permanence, mark};
use super::push::Request;
use super::source::Source;
use super::wal_range::{Ends, NeededWal};
use super::{Target, host};
use crate::container::ObjectKind;
use crate::error::{Error, Result};
use crate::postgres::{ControlFile, DataChecksums, StoppedBackup};
use crate::repository::{
    Created, FORMAT, MANIFEST_BYTES, Manifest, ManifestDocument, ObjectName, prefix,
};

/// Everything that is known of a backup when its last byte is stored.
pub(super) struct Taken<'a> {
    pub(super) source: &'a Source,
    pub(super) target: &'a Target,
    pub(super) base: &'a Base,
    pub(super) request: &'a Request,
    pub(super) start_requested: Timestamp,
    pub(super) stop_time: Timestamp,
    pub(super) stop: StoppedBackup,
    pub(super) ends: Ends,
    pub(super) wal: NeededWal,
    pub(super) stored: Stored,
    pub(super) stored_bytes: u64,
    /// `pg_control` as it was copied.
    pub(super) control: ControlFile,
    pub(super) identities: Identities,
}

/// An error unless every pack, also of earlier backups, and every part of the file list is in the repository with its
/// size.
pub(super) async fn require_stored(target: &Target, stored: &Stored) -> Result<()> {
    require_packs(&target.repository, &stored.packs).await?;
    let mut sizes = BTreeMap::new();
    let prefix = prefix::backup(&target.backup);
    let mut listing = target.repository.storage().list(&prefix, None);
    while let Some(info) = listing.try_next().await? {
        sizes.insert(info.key, info.size);
    }
    let part = |number| ObjectName::FileList(target.backup.clone(), number);
    let parts = stored.parts.iter().map(|reference| (part(reference.number), reference.size));
    for (name, size) in parts {
        match sizes.get(&name.key()) {
            Some(found) if *found == size => {}
            Some(found) => {
                let what = format!("`{}` has {found} bytes, {size} were stored", name.key());
                return Err(Error::damaged(what));
            }
            None => return Err(Error::damaged(format!("`{}` vanished", name.key()))),
        }
    }
    Ok(())
}

/// Puts the manifest: with it the backup exists.
pub(super) async fn put_manifest(target: &Target, manifest: Manifest) -> Result<Manifest> {
    let document = ManifestDocument::Backup(Box::new(manifest.clone()));
    let name = ObjectName::Manifest(target.backup.clone());
    let json = document.to_json()?;
    let put =
        target.repository.put_object(&name, ObjectKind::Manifest, target.cluster, json.into());
    match put.await? {
        Created::New => Ok(manifest),
        Created::Existed if stored_manifest(target, &name).await? == document => Ok(manifest),
        Created::Existed => Err(Error::unavailable(format!(
            "backup `{}` was voided",
            target.backup
        ))
        .because(
            "a sweep took it for dead: it gave no sign of life for longer than `retention.lease`",
        )
        .hint("take the backup again; a longer `retention.lease` forgives longer outages")),
    }
}

/// The mark of a permanent backup goes first: no sweep may see the backup without it.
pub(super) async fn mark_permanent(target: &Target, permanence: Permanence) -> Result<()> {
    match permanence {
        Permanence::Permanent => mark(&target.repository, &target.backup, permanence).await,
        Permanence::Ordinary => Ok(()),
    }
}

async fn stored_manifest(target: &Target, name: &ObjectName) -> Result<ManifestDocument> {
    let kind = ObjectKind::Manifest;
    let json = target.repository.read_object(name, kind, target.cluster, MANIFEST_BYTES).await?;
    let vanished = || Error::damaged(format!("`{}` vanished", name.key()));
    ManifestDocument::from_json(&json.ok_or_else(vanished)?, &target.backup)
}

impl Taken<'_> {
    /// The manifest of the backup.
    pub(super) fn manifest(self) -> Manifest {
        let (control, totals) = (&self.control, self.stored.totals);
        let (started, parent) = (self.start_requested, self.base.manifest());
        let (machine_id, boot_id) = match self.identities {
            Identities::Trusted => (host::machine_id(), host::boot_id()),
            Identities::Refuted => Default::default(),
        };
        Manifest {
            format: FORMAT,
            backup_id: self.target.backup.clone(),
            parent_id: parent.map(|parent| parent.backup_id.clone()),
            last_full: parent.map_or(&self.target.backup, |parent| &parent.last_full).clone(),
            system_identifier: self.target.cluster,
            postgres_version: self.source.session.server_version_num(),
            control_version: control.control_version,
            catalog_version: control.catalog_version,
            walrs_version: env!("CARGO_PKG_VERSION").to_owned(),
            block_size: control.block_size,
            wal_block_size: control.wal_block_size,
            segment_size: control.segment_size,
            relation_segment_blocks: control.relation_segment_blocks,
            start_timeline: self.ends.start_timeline,
            timeline: self.wal.timeline(),
            start_lsn: self.ends.start,
            stop_lsn: self.ends.stop,
            first_segment: self.wal.first_segment,
            last_segment: self.wal.last_segment,
            start_requested: (started.as_second(), started.subsec_nanosecond().unsigned_abs()),
            start_time: started,
            stop_time: self.stop_time,
            machine_id,
            boot_id,
            from_standby: self.source.role.in_recovery,
            backup_label: self.stop.backup_label,
            tablespace_map: self.stop.tablespace_map.unwrap_or_default(),
            data_checksums: checksum_version(control.data_checksums),
            label: self.request.label.clone(),
            files: totals.files,
            bytes: totals.bytes,
            new_bytes: totals.new_bytes,
            stored_bytes: self.stored_bytes,
            bad_pages: totals.bad_pages,
            sample: self.base.sample(),
            packs: self.stored.packs,
            parts: self.stored.parts,
        }
    }
}

fn checksum_version(checksums: DataChecksums) -> u32 {
    match checksums {
        DataChecksums::Off => 0,
        DataChecksums::On => 1,
        DataChecksums::Changing(version) => version,
    }
}
