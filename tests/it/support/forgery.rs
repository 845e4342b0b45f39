//! Repositories that say something else than what was stored: a file list and its manifest, written anew.

use std::fs;

use walrs::container::{ContentDigest, ObjectKind};
use walrs::repository::{
    BackupId, Catalog, Entry, FileEntry, FileListPart, Manifest, ManifestDocument, ObjectName,
    Repository,
};

use super::repository::TestRepository;
use super::stored_backup::open;

/// Changes the lines of a backup's files; everything is sealed as if the backup had been taken like this.
pub(crate) async fn forge_files(
    location: &TestRepository,
    backup: &str,
    change: impl Fn(&mut FileEntry),
) {
    let repository = open(location).await;
    let backup: BackupId = backup.parse().unwrap();
    let catalog = Catalog::load(&repository).await.unwrap();
    let mut manifest =
        catalog.visible().find(|manifest| manifest.backup_id == backup).unwrap().clone();
    for index in 0..manifest.parts.len() {
        let mut lines = Vec::new();
        let part = &manifest.parts[index];
        for entry in FileListPart::read(&repository, &manifest, part).await.unwrap() {
            let mut entry = entry.unwrap();
            if let Entry::File(file) = &mut entry {
                change(file);
            }
            lines.extend(entry.to_line().unwrap());
        }
        manifest.parts[index].digest = ContentDigest::of(&lines);
        let name = ObjectName::FileList(backup.clone(), manifest.parts[index].number);
        let size = replace(location, &repository, &manifest, (&name, ObjectKind::FileList), lines);
        manifest.parts[index].size = size.await;
    }
    let json = ManifestDocument::Backup(Box::new(manifest.clone())).to_json().unwrap();
    let name = ObjectName::Manifest(backup);
    replace(location, &repository, &manifest, (&name, ObjectKind::Manifest), json).await;
}

async fn replace(
    location: &TestRepository,
    repository: &Repository,
    manifest: &Manifest,
    (name, kind): (&ObjectName, ObjectKind),
    content: Vec<u8>,
) -> u64 {
    let path = location.object(&name.key().to_string());
    fs::remove_file(&path).unwrap();
    let cluster = manifest.system_identifier;
    repository.put_object(name, kind, cluster, content.into()).await.unwrap();
    super::user::ServerUser::get().own(&path);
    path.metadata().unwrap().len()
}
