//! The parsed configuration: one typed value for every key.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use super::parse::{Parser, defaulted};
use super::{Config, Environment};
use crate::error::Result;
use crate::secret::Secret;

/// Every setting, parsed.
#[derive(Debug)]
pub struct Settings {
    /// The repository's URL.
    pub repository: Option<String>,
    /// The data directory.
    pub pgdata: Option<PathBuf>,
    /// Local directory for caches and marks.
    pub spool: Option<PathBuf>,
    /// Accept a store without conditional create.
    pub single_writer: bool,
    /// `s3.*`.
    pub s3: S3Settings,
    /// `compression.*`.
    pub compression: CompressionSettings,
    /// `encryption.*`.
    pub encryption: EncryptionSettings,
    /// `wal.*`.
    pub wal: WalSettings,
    /// `backup.*`.
    pub backup: BackupSettings,
    /// `retention.*`.
    pub retention: RetentionSettings,
    /// `postgres.*`.
    pub postgres: PostgresSettings,
}

/// `s3.*`.
#[derive(Debug, Clone)]
pub struct S3Settings {
    /// URL of an S3-compatible server.
    pub endpoint: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Bucket in the path instead of the host name.
    pub path_style: Option<bool>,
    /// Storage class of new objects.
    pub storage_class: Option<String>,
    /// Server-side encryption.
    pub sse: Option<String>,
    /// Key of `aws:kms`.
    pub sse_kms_key_id: Option<String>,
    /// Further certificate authorities.
    pub ca_file: Option<PathBuf>,
}

/// How chunks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionMethod {
    /// Zstandard.
    Zstd,
    /// LZ4.
    Lz4,
    /// Not at all.
    None,
}

/// `compression.*`.
#[derive(Debug, Clone, Copy)]
pub struct CompressionSettings {
    /// The method.
    pub method: CompressionMethod,
    /// Its level, where one was given.
    pub level: Option<i32>,
}

/// `encryption.*`.
#[derive(Debug, Clone)]
pub struct EncryptionSettings {
    /// File with a key.
    pub key_file: Option<PathBuf>,
    /// Command that prints a key.
    pub key_command: Option<String>,
    /// File with a passphrase.
    pub passphrase_file: Option<PathBuf>,
}

/// `wal.*`.
#[derive(Debug, Clone)]
pub struct WalSettings {
    /// Further ready segments stored beside the asked one.
    pub push_ahead: u32,
    /// Segments fetched ahead.
    pub fetch_ahead: u32,
    /// Bound of the segments fetched ahead, in bytes.
    pub fetch_ahead_bytes: u64,
    /// Deadline of one `wal-push`.
    pub push_timeout: Duration,
    /// Deadline of one `wal-fetch`.
    pub fetch_timeout: Duration,
    /// Deadline of one `wal-fetch` on a standby.
    pub standby_fetch_timeout: Duration,
    /// Exit status of a failed `wal-fetch` on a standby.
    pub standby_error_exit: u8,
    /// How long a `wal-fetch` waits for the segments after its own.
    pub fetch_ahead_wait: Duration,
    /// Name of a file at which recovery may end although later WAL exists.
    pub allow_gap_at: Option<String>,
}

/// What to do with symbolic links in the data directory besides `pg_wal` and tablespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkPolicy {
    /// Fail, naming the link.
    Error,
    /// Back up what it points to, as if it stood there.
    Follow,
    /// Leave it out, with a warning.
    Skip,
}

/// Which files a delta reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rescan {
    /// Those whose identity changed.
    Changed,
    /// All.
    Always,
}

/// `backup.*`.
#[derive(Debug, Clone)]
pub struct BackupSettings {
    /// Parallel readers and compressors; the cores when not given.
    pub workers: Option<NonZeroUsize>,
    /// Objects in flight.
    pub uploads: NonZeroUsize,
    /// Links besides `pg_wal` and tablespaces.
    pub links: LinkPolicy,
    /// Bytes per second read from the data directory.
    pub rate_limit: Option<u64>,
    /// How long a backup waits for its last WAL segment.
    pub wal_timeout: Duration,
    /// After this long a backup stores everything again.
    pub full_every: Duration,
    /// Which files a delta reads.
    pub rescan: Rescan,
}

/// `retention.*`.
#[derive(Debug, Clone)]
pub struct RetentionSettings {
    /// The newest N.
    pub keep_last: Option<NonZeroU32>,
    /// Everything younger than this.
    pub keep_within: Option<Duration>,
    /// The newest of each of the last N days.
    pub keep_daily: Option<NonZeroU32>,
    /// The newest of each of the last N weeks.
    pub keep_weekly: Option<NonZeroU32>,
    /// The newest of each of the last N months.
    pub keep_monthly: Option<NonZeroU32>,
    /// The newest of each of the last N years.
    pub keep_yearly: Option<NonZeroU32>,
    /// WAL to reach any moment of this long.
    pub pitr_window: Option<Duration>,
    /// Time between condemning and deleting.
    pub grace: Duration,
    /// Silence after which a writer counts as dead.
    pub lease: Duration,
}

/// `postgres.*`, with libpq's environment as a further source.
#[derive(Debug)]
pub struct PostgresSettings {
    /// Host name, address, or directory of the socket.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// User; the operating system's name for this user when not given.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret<String>>,
    /// Database.
    pub database: Option<String>,
    /// Password file; `~/.pgpass` when not given.
    pub passfile: Option<PathBuf>,
    /// TLS mode as libpq spells it.
    pub sslmode: Option<String>,
    /// Certificate authorities.
    pub sslrootcert: Option<PathBuf>,
}

impl Settings {
    pub(super) fn parse(config: &Config) -> Result<Self> {
        let parser = Parser(config);
        Ok(Self {
            repository: parser.text("repository"),
            pgdata: parser.path("pgdata"),
            spool: parser.path("spool"),
            single_writer: defaulted(parser.flag("single_writer")?),
            s3: S3Settings::parse(&parser)?,
            compression: CompressionSettings::parse(&parser)?,
            encryption: EncryptionSettings::parse(&parser),
            wal: WalSettings::parse(&parser)?,
            backup: BackupSettings::parse(&parser)?,
            retention: RetentionSettings::parse(&parser)?,
            postgres: PostgresSettings::parse(&parser, config.environment())?,
        })
    }
}

impl S3Settings {
    fn parse(parser: &Parser<'_>) -> Result<Self> {
        Ok(Self {
            endpoint: parser.text("s3.endpoint"),
            region: parser.text("s3.region"),
            path_style: parser.flag("s3.path_style")?,
            storage_class: parser.text("s3.storage_class"),
            sse: parser.text("s3.sse"),
            sse_kms_key_id: parser.text("s3.sse_kms_key_id"),
            ca_file: parser.path("s3.ca_file"),
        })
    }
}

impl CompressionSettings {
    fn parse(parser: &Parser<'_>) -> Result<Self> {
        let methods = [
            ("zstd", CompressionMethod::Zstd),
            ("lz4", CompressionMethod::Lz4),
            ("none", CompressionMethod::None),
        ];
        let method = defaulted(parser.choice("compression.method", &methods)?);
        let level = parser.number("compression.level", "a whole number from -50 to 22")?;
        Ok(Self { method, level })
    }
}

impl EncryptionSettings {
    fn parse(parser: &Parser<'_>) -> Self {
        Self {
            key_file: parser.path("encryption.key_file"),
            key_command: parser.text("encryption.key_command"),
            passphrase_file: parser.path("encryption.passphrase_file"),
        }
    }
}

impl WalSettings {
    fn parse(parser: &Parser<'_>) -> Result<Self> {
        let whole = "a whole number of at least 0";
        Ok(Self {
            push_ahead: defaulted(parser.number("wal.push_ahead", whole)?),
            fetch_ahead: defaulted(parser.number("wal.fetch_ahead", whole)?),
            fetch_ahead_bytes: defaulted(parser.size("wal.fetch_ahead_bytes")?),
            push_timeout: defaulted(parser.duration("wal.push_timeout")?),
            fetch_timeout: defaulted(parser.duration("wal.fetch_timeout")?),
            standby_fetch_timeout: defaulted(parser.duration("wal.standby_fetch_timeout")?),
            standby_error_exit: defaulted(
                parser.choice("wal.standby_error_exit", &[("1", 1), ("255", 255)])?,
            ),
            fetch_ahead_wait: defaulted(parser.duration("wal.fetch_ahead_wait")?),
            allow_gap_at: parser.text("wal.allow_gap_at"),
        })
    }
}

impl BackupSettings {
    fn parse(parser: &Parser<'_>) -> Result<Self> {
        let links = [
            ("error", LinkPolicy::Error),
            ("follow", LinkPolicy::Follow),
            ("skip", LinkPolicy::Skip),
        ];
        let rescan = [("changed", Rescan::Changed), ("always", Rescan::Always)];
        Ok(Self {
            workers: parser.parallelism("backup.workers")?,
            uploads: defaulted(parser.parallelism("backup.uploads")?),
            links: defaulted(parser.choice("backup.links", &links)?),
            rate_limit: parser.size("backup.rate_limit")?,
            wal_timeout: defaulted(parser.duration("backup.wal_timeout")?),
            full_every: defaulted(parser.duration("backup.full_every")?),
            rescan: defaulted(parser.choice("backup.rescan", &rescan)?),
        })
    }
}

impl RetentionSettings {
    fn parse(parser: &Parser<'_>) -> Result<Self> {
        Ok(Self {
            keep_last: parser.count("retention.keep_last")?,
            keep_within: parser.duration("retention.keep_within")?,
            keep_daily: parser.count("retention.keep_daily")?,
            keep_weekly: parser.count("retention.keep_weekly")?,
            keep_monthly: parser.count("retention.keep_monthly")?,
            keep_yearly: parser.count("retention.keep_yearly")?,
            pitr_window: parser.duration("retention.pitr_window")?,
            grace: defaulted(parser.duration("retention.grace")?),
            lease: defaulted(parser.duration("retention.lease")?),
        })
    }
}

impl PostgresSettings {
    fn parse(parser: &Parser<'_>, environment: &Environment) -> Result<Self> {
        let home_passfile = || -> Result<Option<PathBuf>> {
            Ok(environment.text("HOME")?.map(|home| PathBuf::from(home).join(".pgpass")))
        };
        Ok(Self {
            host: parser.text("postgres.host"),
            port: parser.number("postgres.port", "a port number")?,
            user: parser.text("postgres.user"),
            password: parser.text("postgres.password").map(Secret::new),
            database: parser.text("postgres.database"),
            passfile: match parser.path("postgres.passfile") {
                Some(path) => Some(path),
                None => home_passfile()?,
            },
            sslmode: parser.text("postgres.sslmode"),
            sslrootcert: parser.path("postgres.sslrootcert"),
        })
    }
}
