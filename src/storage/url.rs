//! Where a repository lies, as text that a person writes and as a value.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result};

/// The location of a repository: a directory, or a prefix of a bucket.
///
/// Its text is canonical: two spellings of one location print the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RepositoryUrl {
    /// `file:///dir`, or a bare absolute path. The path is taken literally: no `%` escapes.
    Directory(PathBuf),
    /// `s3://bucket/prefix`.
    S3(BucketLocation),
    /// `gs://bucket/prefix`.
    Gcs(BucketLocation),
}

/// A bucket and the prefix of a repository in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BucketLocation {
    /// The bucket's name.
    pub bucket: String,
    /// What comes before every key: empty, or without a `/` at either end.
    pub prefix: String,
}

const FORMS: &str = "write `file:///directory` or `s3://bucket/prefix`";

impl FromStr for RepositoryUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with('/') {
            return directory(text);
        }
        // What stands before `://` is all that a message may repeat: the rest may hold somebody's password.
        match text.split_once("://") {
            Some(("file", path)) => directory(path.strip_prefix("localhost").unwrap_or(path)),
            Some(("s3", rest)) => BucketLocation::parse(rest).map(Self::S3),
            Some(("gs", rest)) => BucketLocation::parse(rest).map(Self::Gcs),
            Some((scheme, _)) => {
                Err(Error::usage(format!("walrs knows no storage named `{scheme}`")).hint(FORMS))
            }
            None => Err(Error::usage(format!("`{text}` is no repository URL")).hint(FORMS)),
        }
    }
}

fn directory(path: &str) -> Result<RepositoryUrl> {
    let normal: PathBuf = Path::new(path).components().collect();
    if !normal.is_absolute() || path.contains('\0') {
        let what = format!("the repository directory `{path}` is not an absolute path");
        return Err(Error::usage(what).hint("write `file:///directory`, with three slashes"));
    }
    if normal.components().any(|part| part == Component::ParentDir) {
        let what = format!("the repository directory `{path}` contains `..`");
        return Err(Error::usage(what).hint("write the directory's own path"));
    }
    Ok(RepositoryUrl::Directory(normal))
}

impl BucketLocation {
    fn parse(text: &str) -> Result<Self> {
        let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
        if bucket.contains(['@', ':']) {
            return Err(Error::usage("a repository URL must not contain credentials or a port")
                .hint("credentials come from the standard chain, the server from `s3.endpoint`"));
        }
        if !is_bucket_name(bucket) {
            return Err(Error::usage(format!("`{bucket}` is no bucket name")).hint(FORMS));
        }
        let prefix = prefix.trim_matches('/');
        if !prefix.is_empty() && !prefix.split('/').all(is_prefix_component) {
            return Err(Error::usage(format!("`{prefix}` is no prefix of object names"))
                .hint("`//`, `.`, `..`, `?`, `#` and control characters are not allowed"));
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// The full name of an object in the bucket.
    pub fn name_of(&self, key: impl fmt::Display) -> String {
        match self.prefix.as_str() {
            "" => key.to_string(),
            prefix => format!("{prefix}/{key}"),
        }
    }
}

fn is_bucket_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (3..=255).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_prefix_component(text: &str) -> bool {
    let forbidden = |character: char| character.is_control() || matches!(character, '?' | '#');
    !text.is_empty() && text != "." && text != ".." && !text.contains(forbidden)
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "file://{}", path.display()),
            Self::S3(location) => write!(f, "s3://{location}"),
            Self::Gcs(location) => write!(f, "gs://{location}"),
        }
    }
}

impl fmt::Display for BucketLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix.as_str() {
            "" => f.write_str(&self.bucket),
            prefix => write!(f, "{}/{prefix}", self.bucket),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn spellings_of_one_location_are_one_url() {
        for (text, canonical) in [
            ("/backup", "file:///backup"),
            ("/backup//main/./", "file:///backup/main"),
            ("file:///backup/main/", "file:///backup/main"),
            ("file://localhost/backup", "file:///backup"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("gs://bucket/a", "gs://bucket/a"),
        ] {
            let url: RepositoryUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), canonical);
            assert_eq!(canonical.parse::<RepositoryUrl>().expect(canonical), url);
        }
    }

    #[test]
    fn a_location_that_is_none_is_a_usage_error() {
        for text in [
            "",
            "backup",
            "./backup",
            "file://backup",
            "file://",
            "/a/../b",
            "http://x/y",
            "s3:bucket",
            "s3://",
            "s3:///prefix",
            "s3://bucket/a//b",
            "s3://bucket/../b",
            "s3://bucket/a?b=c",
            "s3://b u/c",
        ] {
            let error = text.parse::<RepositoryUrl>().expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Usage, "{text}");
            assert!(error.hint_text().is_some(), "{text}");
        }
    }

    /// K2
    #[test]
    fn credentials_in_a_url_are_refused_and_not_repeated() {
        for text in ["s3://AKIA:geheim@bucket/prefix", "ftp://user:geheim@host/x"] {
            let error = text.parse::<RepositoryUrl>().expect_err("refused");
            assert!(!error.report().contains("geheim"), "{}", error.report());
        }
    }
}
