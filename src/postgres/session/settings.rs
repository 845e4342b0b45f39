//! How to reach a server, in libpq's terms.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::postgres::text::Malformed;
use crate::secret::Secret;

/// Where libpq looks for a server's socket when no host is given: Debian's place, then PostgreSQL's own.
pub(super) const DEFAULT_SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// The port that a server listens on unless told otherwise.
pub(super) const DEFAULT_PORT: u16 = 5432;

/// How long one attempt to connect may take unless told otherwise.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How to connect; every field has libpq's meaning.
#[derive(Debug, Default)]
pub struct ConnectionSettings {
    /// Names, addresses or socket directories (beginning with `/`), separated by commas and tried in turn; the
    /// usual socket directories when absent.
    pub host: Option<String>,
    /// 5432 when absent.
    pub port: Option<u16>,
    /// The operating system's name of the effective user when absent.
    pub user: Option<String>,
    /// The password; the password file is asked when absent.
    pub password: Option<Secret<String>>,
    /// The user's name when absent.
    pub database: Option<String>,
    /// The password file (`~/.pgpass`); it need not exist.
    pub password_file: Option<PathBuf>,
    /// Whether TLS is used and what it proves; sockets never use it.
    pub ssl_mode: SslMode,
    /// Whom to trust with the server's certificate.
    pub root_certificates: Option<RootCertificates>,
    /// How long one attempt may take; 30 s when absent.
    pub connect_timeout: Option<Duration>,
    /// What `pg_stat_activity` shows: `walrs backup-push`.
    pub application_name: String,
}

/// Whether TLS is used, and what it proves about the server; libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Only when the server refuses to talk without.
    Allow,
    /// When the server offers it; proves nothing.
    #[default]
    Prefer,
    /// Always; proves nothing, unless root certificates are given: then like [`SslMode::VerifyCa`].
    Require,
    /// Always, with a certificate of a trusted authority.
    VerifyCa,
    /// Always, with a certificate of a trusted authority for the host's name.
    VerifyFull,
}

impl SslMode {
    const NAMES: [(&'static str, Self); 6] = [
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, mode)| mode == self).map(|(name, _)| *name);
        f.write_str(name.expect("every mode has a name"))
    }
}

impl FromStr for SslMode {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mode = Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, mode)| *mode);
        let expected = "one of `disable`, `allow`, `prefer`, `require`, `verify-ca`, `verify-full`";
        mode.ok_or_else(|| Malformed::new(text, expected))
    }
}

/// The authorities whose certificates are trusted; libpq's `sslrootcert`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootCertificates {
    /// Those in a PEM file.
    File(PathBuf),
    /// Those that the operating system trusts; needs [`SslMode::VerifyFull`], because anyone can have a certificate
    /// from one of them.
    System,
}

impl From<PathBuf> for RootCertificates {
    /// As libpq reads `sslrootcert`: the word `system`, or a file.
    fn from(path: PathBuf) -> Self {
        if path.as_os_str() == "system" { Self::System } else { Self::File(path) }
    }
}

/// One place to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// The directory of a unix socket.
    Socket(PathBuf),
    /// A host name or an address.
    Network(String),
}

impl Address {
    /// The name under which a password file knows the place: libpq says `localhost` for the default sockets.
    pub(super) fn password_host(&self) -> &str {
        match self {
            Self::Network(host) => host,
            Self::Socket(directory) => {
                let text = directory.to_str().unwrap_or_default();
                if DEFAULT_SOCKET_DIRECTORIES.contains(&text) { "localhost" } else { text }
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(directory) => write!(f, "{}", directory.display()),
            Self::Network(host) => f.write_str(host),
        }
    }
}

impl ConnectionSettings {
    /// The places to try, in order.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let hosts = self.host.as_deref().unwrap_or_default().split(',').map(str::trim);
        hosts.flat_map(addresses_of).collect()
    }

    pub(super) fn port(&self) -> u16 {
        self.port.unwrap_or(DEFAULT_PORT)
    }
}

fn addresses_of(host: &str) -> Vec<Address> {
    if host.is_empty() {
        return DEFAULT_SOCKET_DIRECTORIES.map(|path| Address::Socket(path.into())).into();
    }
    if host.starts_with('/') {
        return vec![Address::Socket(host.into())];
    }
    vec![Address::Network(host.to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(host: Option<&str>) -> Vec<String> {
        let settings =
            ConnectionSettings { host: host.map(str::to_owned), ..ConnectionSettings::default() };
        settings.addresses().iter().map(Address::to_string).collect()
    }

    #[test]
    fn without_a_host_the_usual_sockets_are_tried() {
        assert_eq!(addresses(None), ["/var/run/postgresql", "/tmp"]);
        assert_eq!(addresses(Some("")), ["/var/run/postgresql", "/tmp"]);
    }

    #[test]
    fn several_hosts_are_tried_in_turn() {
        assert_eq!(addresses(Some("db1, /run/pg,::1")), ["db1", "/run/pg", "::1"]);
    }

    #[test]
    fn every_ssl_mode_survives_its_text() {
        for (name, mode) in SslMode::NAMES {
            assert_eq!(name.parse(), Ok(mode));
            assert_eq!(mode.to_string(), name);
        }
        assert!("Require".parse::<SslMode>().is_err());
    }

    #[test]
    fn a_password_file_knows_the_usual_sockets_as_localhost() {
        let host = |path: &str| Address::Socket(path.into()).password_host().to_owned();
        assert_eq!(host("/var/run/postgresql"), "localhost");
        assert_eq!(host("/srv/sockets"), "/srv/sockets");
    }
}
