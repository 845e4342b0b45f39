//! Every configuration key: name, default, meaning.

/// Whether a value may be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// May be printed.
    Public,
    /// Never printed, never accepted on the command line.
    Secret,
}

/// Whether a key has an effect in this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Used {
    /// It has.
    Now,
    /// Known, so that configuration files need not change; what it is for comes in a later version.
    Later,
}

/// One configuration key.
#[derive(Debug, Clone, Copy)]
pub struct KeySpec {
    /// `key` or `section.key`.
    pub name: &'static str,
    /// The default, as it would be written; none where absence means something.
    pub default: Option<&'static str>,
    /// Another environment variable that sets it, shared with libpq.
    pub alias: Option<&'static str>,
    /// Whether it may be printed.
    pub secret: Secrecy,
    /// Whether this version does anything with it.
    pub used: Used,
    /// One line of meaning.
    pub meaning: &'static str,
}

impl KeySpec {
    /// `WALRS_` + section + `_` + key in capitals.
    pub fn environment_name(&self) -> String {
        format!("WALRS_{}", self.name.replace('.', "_").to_uppercase())
    }
}

const fn key(name: &'static str, default: Option<&'static str>, meaning: &'static str) -> KeySpec {
    KeySpec { name, default, alias: None, secret: Secrecy::Public, used: Used::Now, meaning }
}

const fn later(
    name: &'static str,
    default: Option<&'static str>,
    meaning: &'static str,
) -> KeySpec {
    KeySpec { used: Used::Later, ..key(name, default, meaning) }
}

const fn shared(name: &'static str, alias: &'static str, meaning: &'static str) -> KeySpec {
    KeySpec {
        name,
        default: None,
        alias: Some(alias),
        secret: Secrecy::Public,
        used: Used::Now,
        meaning,
    }
}

const fn secret(name: &'static str, alias: &'static str, meaning: &'static str) -> KeySpec {
    KeySpec {
        name,
        default: None,
        alias: Some(alias),
        secret: Secrecy::Secret,
        used: Used::Now,
        meaning,
    }
}

/// All keys, in the order of the documentation.
pub const KEYS: &[KeySpec] = &[
    key("repository", None, "file:///dir, an absolute path, s3://bucket/prefix"),
    shared("pgdata", "PGDATA", "the data directory"),
    key("spool", None, "local directory for caches and marks (default: walrs-spool beside pgdata)"),
    key(
        "single_writer",
        Some("false"),
        "accept a store without conditional create; one writer only",
    ),
    key("s3.endpoint", None, "URL of an S3-compatible server"),
    key("s3.region", None, "region (default: the AWS chain, then us-east-1)"),
    key(
        "s3.path_style",
        None,
        "bucket in the path, not in the host name (default: with an endpoint)",
    ),
    key("s3.storage_class", None, "storage class of new objects"),
    key("s3.sse", None, "server-side encryption: AES256 or aws:kms"),
    key("s3.sse_kms_key_id", None, "key of aws:kms"),
    key("s3.ca_file", None, "PEM file of further certificate authorities"),
    later("gcs.endpoint", None, "URL of a GCS-compatible server"),
    later("gcs.credentials_file", None, "credentials (default: application default credentials)"),
    key("compression.method", Some("zstd"), "zstd, lz4 or none"),
    key("compression.level", None, "the method's own scale (default: 1 for zstd)"),
    key("encryption.key_file", None, "file with 32 random bytes in base64, mode 0600"),
    // A command line may carry a token.
    KeySpec {
        secret: Secrecy::Secret,
        ..key("encryption.key_command", None, "command that prints such a key")
    },
    key("encryption.passphrase_file", None, "file with a passphrase; not for archiving"),
    key("wal.push_ahead", Some("8"), "further ready segments stored beside the asked one"),
    key("wal.fetch_ahead", Some("8"), "segments fetched ahead of recovery"),
    key("wal.fetch_ahead_bytes", Some("256MiB"), "bound of the segments fetched ahead"),
    key("wal.push_timeout", Some("5m"), "deadline of one wal-push, retries included"),
    key("wal.fetch_timeout", Some("10m"), "deadline of one wal-fetch, retries included"),
    key("wal.standby_fetch_timeout", Some("15s"), "the same on a standby"),
    key(
        "wal.standby_error_exit",
        Some("1"),
        "exit status of a failed wal-fetch on a standby: 1 or 255",
    ),
    key(
        "wal.fetch_ahead_wait",
        Some("2s"),
        "how long a wal-fetch waits for the segments after its own",
    ),
    key(
        "wal.allow_gap_at",
        None,
        "one segment or history at which recovery may end although later WAL exists",
    ),
    key("backup.workers", None, "parallel readers and compressors (default: the cores)"),
    key("backup.uploads", Some("4"), "objects in flight"),
    key(
        "backup.links",
        Some("error"),
        "symbolic links besides pg_wal and tablespaces: error, follow or skip",
    ),
    key("backup.rate_limit", None, "bytes per second read from pgdata"),
    key("backup.wal_timeout", Some("60m"), "how long a backup waits for its last WAL segment"),
    key(
        "backup.full_every",
        Some("30d"),
        "after this long the next backup stores everything again",
    ),
    key("backup.rescan", Some("changed"), "changed: read changed files; always: read every file"),
    later("retention.keep_last", None, "keep the newest N backups"),
    later("retention.keep_within", None, "keep every backup younger than this"),
    later("retention.keep_daily", None, "keep the newest of each of the last N days"),
    later("retention.keep_weekly", None, "keep the newest of each of the last N weeks"),
    later("retention.keep_monthly", None, "keep the newest of each of the last N months"),
    later("retention.keep_yearly", None, "keep the newest of each of the last N years"),
    later("retention.pitr_window", None, "keep the WAL to reach any moment of this long"),
    key("retention.grace", Some("24h"), "time between condemning and deleting"),
    key("retention.lease", Some("1h"), "silence after which a writer counts as dead"),
    shared("postgres.host", "PGHOST", "host name, address, or directory of the socket"),
    shared("postgres.port", "PGPORT", "port"),
    shared("postgres.user", "PGUSER", "user"),
    secret("postgres.password", "PGPASSWORD", "password"),
    shared("postgres.database", "PGDATABASE", "database"),
    shared("postgres.passfile", "PGPASSFILE", "password file (default: ~/.pgpass)"),
    shared(
        "postgres.sslmode",
        "PGSSLMODE",
        "disable, allow, prefer, require, verify-ca or verify-full",
    ),
    shared("postgres.sslrootcert", "PGSSLROOTCERT", "PEM file of certificate authorities"),
];

/// The key of this name.
pub(super) fn find(name: &str) -> Option<&'static KeySpec> {
    KEYS.iter().find(|spec| spec.name == name)
}

/// The known key that `name` was most likely meant to be.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    const LIKELY: f64 = 0.7;
    let rated = KEYS.iter().map(|spec| (strsim::jaro_winkler(name, spec.name), spec.name));
    let best = rated.max_by(|left, right| left.0.total_cmp(&right.0))?;
    (best.0 >= LIKELY).then_some(best.1)
}
