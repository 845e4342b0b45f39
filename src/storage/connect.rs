//! From a URL to a store: the table of schemes.

use std::sync::Arc;

use super::{FsStorage, RepositoryUrl, RetryPolicy, Retrying, S3Options, S3Storage, Storage};
use crate::deadline::Deadline;
use crate::error::{Error, Result};

/// Everything that decides which store is used and how.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Where the repository lies.
    pub url: RepositoryUrl,
    /// Settings for `s3://`.
    pub s3: S3Options,
    /// When the command gives up.
    pub deadline: Deadline,
}

/// The store behind a URL, with retries and timeouts where there is a network.
///
/// Nothing is asked of the store yet. Whether it honours conditional create is not known here; on one that does not,
/// wrap the result in [`super::SingleWriter`].
pub async fn connect(options: &ConnectOptions) -> Result<Arc<dyn Storage>> {
    match &options.url {
        RepositoryUrl::Directory(path) => Ok(Arc::new(FsStorage::new(path))),
        RepositoryUrl::S3(location) => {
            let policy = RetryPolicy::until(options.deadline);
            let driver = S3Storage::new(location.clone(), &options.s3, policy).await?;
            Ok(Arc::new(Retrying::new(Arc::new(driver), policy)))
        }
        RepositoryUrl::Gcs(_) => Err(Error::usage(format!(
            "cannot use `{}`: this version has no Google Cloud Storage driver",
            options.url
        ))
        .hint("use a directory or an S3-protocol store")),
    }
}
