//! Telling the sweeper, before anything else, what a backup may come to need.

use std::time::Duration;

use jiff::Timestamp;
use tracing::warn;

use super::base::{Base, Scope};
use super::source::Source;
use super::{Target, host};
use crate::container::ObjectKind;
use crate::error::{Error, Result};
use crate::postgres::SegmentName;
use crate::repository::{
    BackupId, Created, FORMAT, Intent, MANIFEST_BYTES, ManifestDocument, ObjectName, Repository,
    Tombstone, VoidManifest, WalArchive,
};

/// Attempts to announce a backup before a sweep that is just condemning what it needs.
const ATTEMPTS: u32 = 3;

/// Chooses what a new backup builds on, puts its intent, and makes sure that no sweeper had decided otherwise before it
/// was there.
pub(super) async fn announce(
    source: &mut Source,
    repository: &Repository,
    scope: Scope,
    full_every: Duration,
) -> Result<(Target, Base)> {
    let mut objection = String::new();
    for _ in 0..ATTEMPTS {
        let cluster = source.control.system_identifier;
        let base = Base::choose(repository, cluster, scope, full_every).await?;
        let target = new_target(source, repository)?;
        let intent = intent(source, &target, &base);
        let name = ObjectName::Intent(target.backup.clone());
        if repository.put_control(&name, &intent).await? == Created::Existed {
            return Err(Error::bug(format!("the new backup id `{}` was taken", target.backup)));
        }
        match condemned(&target, &intent).await? {
            None => return Ok((target, base)),
            Some(reason) => objection = reason,
        }
        warn!(backup = %target.backup, objection, "a sweep was faster; beginning again");
        void(&target).await?;
        source.refresh().await?;
    }
    Err(Error::unavailable("a sweep keeps condemning what this backup needs")
        .because(objection)
        .hint("try again when the sweep has ended"))
}

fn new_target(source: &Source, repository: &Repository) -> Result<Target> {
    let cluster = source.control.system_identifier;
    repository.authorise(cluster)?;
    let backup = BackupId::generate(Timestamp::now())?;
    Ok(Target { repository: repository.clone(), cluster, backup })
}

fn intent(source: &Source, target: &Target, base: &Base) -> Intent {
    let (parents, dead) = base.named();
    let control = &source.control;
    let (redo, timeline) = (control.checkpoint_redo, control.checkpoint_timeline);
    Intent {
        backup_id: target.backup.clone(),
        created: Timestamp::now(),
        system_identifier: target.cluster,
        parents,
        dead,
        floor: SegmentName::containing(redo, timeline, control.segment_size),
        host: host::name(),
        process: std::process::id(),
    }
}

/// Why the sweeper would delete something that the intent names; read after the intent was put.
async fn condemned(target: &Target, intent: &Intent) -> Result<Option<String>> {
    for backup in intent.parents.iter().chain(&intent.dead) {
        let name = ObjectName::Tombstone(backup.clone());
        if target.repository.read_control::<Tombstone>(&name).await?.is_some() {
            return Ok(Some(format!("backup `{backup}` is condemned")));
        }
    }
    // A dead backup is condemned by a void manifest; one that has become a real backup meanwhile is as good as before.
    for backup in &intent.dead {
        if is_void(target, backup).await? {
            return Ok(Some(format!("the interrupted backup `{backup}` is condemned")));
        }
    }
    let archive = WalArchive::of(&target.repository, target.cluster)?;
    let horizon = archive.horizon(intent.floor.timeline()).await?;
    let swept = horizon.filter(|horizon| intent.floor < *horizon);
    Ok(swept.map(|horizon| format!("WAL below `{horizon}` is swept, `{}` is needed", intent.floor)))
}

async fn is_void(target: &Target, backup: &BackupId) -> Result<bool> {
    let name = ObjectName::Manifest(backup.clone());
    let (kind, cluster) = (ObjectKind::Manifest, target.cluster);
    let json = target.repository.read_object(&name, kind, cluster, MANIFEST_BYTES).await?;
    let document = json.map(|json| ManifestDocument::from_json(&json, backup)).transpose()?;
    Ok(matches!(document, Some(ManifestDocument::Void(_))))
}

/// Fences a backup, so that it can never become visible.
async fn void(target: &Target) -> Result<()> {
    let backup_id = target.backup.clone();
    let name = ObjectName::Manifest(backup_id.clone());
    let void = VoidManifest { format: FORMAT, backup_id, created: Timestamp::now() };
    let json = ManifestDocument::Void(void).to_json()?;
    let put =
        target.repository.put_object(&name, ObjectKind::Manifest, target.cluster, json.into());
    // A sweeper that voided it first meant the same.
    put.await.map(drop)
}
