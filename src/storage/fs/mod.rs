//! The directory driver: an object is a file, written beside its final name and renamed without replacing.
//!
//! Owns durability and visibility of objects in a local or network file system (S1, S2). Does not own the decision
//! whether a directory is the right repository: an unmounted disk that leaves an empty mount point behind is noticed
//! by whoever reads `repository.json`.
//!
//! Directories are made with mode 0750 and files with 0640, less the umask, so that a group may be let in to read;
//! PostgreSQL's own umask makes them 0700 and 0600. What root makes belongs to the owner of the repository's directory.

mod delete;
mod failure;
mod owner;
mod read;
mod root;
mod walk;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;

use self::root::Root;
use super::{
    Body, ByteRange, ByteStream, ObjectInfo, ObjectKey, ObjectPrefix, PutMode, Storage,
    StorageError, StorageErrorKind,
};
use crate::task;

const DIRECTORY_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;

/// A repository in a directory.
#[derive(Clone)]
pub struct FsStorage {
    root: Arc<Root>,
}

impl FsStorage {
    /// The storage in `root`, an absolute path. Nothing is touched yet; every operation fails with `Invalid` while
    /// the directory is missing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: Arc::new(Root::new(root.into())) }
    }

    /// Makes the root directory and its missing parents, durably; an existing directory is fine.
    ///
    /// What root makes belongs to the owner of `data_directory`, whose server is to archive into it.
    /// Only `walrs init` does this: elsewhere a missing directory means a disk that is not mounted.
    pub async fn create_root(&self, data_directory: &Path) -> Result<(), StorageError> {
        let data_directory = data_directory.to_owned();
        self.on_root(move |root| root.create(&data_directory)).await
    }

    async fn on_root<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&Root) -> Result<T, StorageError> + Send + 'static,
    {
        let root = Arc::clone(&self.root);
        task::unblock(move || work(&root)).await
    }
}

#[async_trait]
impl Storage for FsStorage {
    async fn put(&self, key: &ObjectKey, body: Body, mode: PutMode) -> Result<(), StorageError> {
        write::put(&self.root, key, body, mode).await
    }

    async fn get(&self, key: &ObjectKey, range: ByteRange) -> Result<ByteStream, StorageError> {
        let wanted = key.clone();
        let object = self.on_root(move |root| read::Object::open(root, &wanted)).await?;
        let Some(span) = range.within(object.size()) else {
            let what = format!("`{key}` in `{self}` has {} bytes, not {range:?}", object.size());
            return Err(StorageError::new(StorageErrorKind::Invalid, what));
        };
        Ok(object.stream(span))
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StorageError> {
        let wanted = key.clone();
        self.on_root(move |root| read::Object::open(root, &wanted)?.info()).await
    }

    fn list(
        &self,
        prefix: &ObjectPrefix,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'_, Result<ObjectInfo, StorageError>> {
        walk::list(Arc::clone(&self.root), prefix, after.cloned()).boxed()
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StorageError> {
        let keys = keys.to_vec();
        self.on_root(move |root| delete::objects(root, &keys)).await
    }

    async fn now(&self) -> Result<SystemTime, StorageError> {
        self.on_root(write::moment).await
    }

    async fn remove_leftovers(&self, age: Duration) -> Result<u64, StorageError> {
        self.on_root(move |root| delete::leftovers(root, age)).await
    }
}

impl fmt::Display for FsStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl fmt::Debug for FsStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FsStorage({self})")
    }
}
