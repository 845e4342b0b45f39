//! What can be set about an S3-protocol store.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use aws_sdk_s3::types;

use crate::error::{Error, Result};

/// Settings of an S3-protocol store; the default is AWS with its standard credential chain.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// Address of a server other than AWS, `http://` or `https://`.
    pub endpoint: Option<String>,
    /// The region; without one, `AWS_REGION`, then the profile, then `us-east-1`. An instance's metadata service is
    /// never asked for it: where none answers, that alone takes seconds.
    pub region: Option<String>,
    /// Where the bucket's name goes; without a choice, into the path when `endpoint` is set (few servers other than
    /// AWS have a name for every bucket), else into the host name.
    pub addressing: Option<Addressing>,
    /// Storage class of new objects, as the store names it.
    pub storage_class: Option<String>,
    /// Server-side encryption of new objects.
    pub encryption: Option<ServerSideEncryption>,
    /// The KMS key for `aws:kms` encryption.
    pub kms_key_id: Option<String>,
    /// Certificates (PEM) to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Keys instead of the standard credential chain, which is then not asked at all.
    pub credentials: Option<StaticCredentials>,
    /// Silence after which a request or a stream counts as broken.
    pub idle_timeout: Duration,
}

/// Silence after which a connection counts as broken, unless the options say otherwise.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

impl Default for S3Options {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            addressing: None,
            storage_class: None,
            encryption: None,
            kms_key_id: None,
            ca_file: None,
            credentials: None,
            idle_timeout: IDLE_TIMEOUT,
        }
    }
}

/// Where a request names its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// `https://server/bucket/key`.
    Path,
    /// `https://bucket.server/key`.
    VirtualHost,
}

/// Server-side encryption of new objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerSideEncryption {
    /// `AES256`: keys kept by the store.
    StoreKeys,
    /// `aws:kms`: a key in the key management service.
    Kms,
    /// `aws:kms:dsse`: the same in two layers.
    KmsTwoLayers,
}

impl From<ServerSideEncryption> for types::ServerSideEncryption {
    fn from(encryption: ServerSideEncryption) -> Self {
        match encryption {
            ServerSideEncryption::StoreKeys => Self::Aes256,
            ServerSideEncryption::Kms => Self::AwsKms,
            ServerSideEncryption::KmsTwoLayers => Self::AwsKmsDsse,
        }
    }
}

impl FromStr for ServerSideEncryption {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "AES256" => Ok(Self::StoreKeys),
            "aws:kms" => Ok(Self::Kms),
            "aws:kms:dsse" => Ok(Self::KmsTwoLayers),
            _ => Err(Error::usage(format!("`{text}` is no server-side encryption"))
                .hint("`s3.sse` is `AES256`, `aws:kms` or `aws:kms:dsse`")),
        }
    }
}

/// An access key given explicitly; its secret half is never printed.
#[derive(Clone)]
pub struct StaticCredentials {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
}

impl StaticCredentials {
    /// A pair of keys.
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Self {
        Self { access_key_id: access_key_id.into(), secret_access_key: secret_access_key.into() }
    }
}

impl fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StaticCredentials({}, redacted)", self.access_key_id)
    }
}
