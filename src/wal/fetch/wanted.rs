//! The name that was asked for: one of PostgreSQL's, or one version of a `.partial`.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::postgres::WalFileName;
use crate::repository::{PartialDigest, WalArchive, WalObject};

/// A file to fetch; `X.partial/DIGEST` names one of several versions of `X.partial`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    file: WalFileName,
    version: Option<PartialDigest>,
}

impl Wanted {
    /// The file's name in `pg_wal`.
    pub(super) fn file(self) -> WalFileName {
        self.file
    }

    /// The object that holds it; `None` for a `.partial` of which there is none.
    ///
    /// Several versions of a `.partial` are refused and listed (W5): only people ask for one, and they must choose.
    pub(super) async fn object(self, archive: &WalArchive) -> Result<Option<WalObject>> {
        let WalFileName::Partial(segment) = self.file else { return Ok(archive.object(self.file)) };
        if let Some(version) = self.version {
            return Ok(Some(archive.partial_object(segment, version)));
        }
        let versions = archive.partials(segment).await?;
        match versions.as_slice() {
            [] => Ok(None),
            [only] => Ok(Some(archive.partial_object(segment, *only))),
            several => Err(ambiguous(self.file, several)),
        }
    }
}

fn ambiguous(file: WalFileName, versions: &[PartialDigest]) -> Error {
    let names: Vec<_> = versions.iter().map(|version| format!("`{file}/{version}`")).collect();
    Error::refused(format!("the repository holds {} versions of `{file}`", versions.len()))
        .because(names.join(", "))
        .hint("ask for one of them by this name")
}

impl FromStr for Wanted {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || {
            Error::usage(format!("`{text}` is no file of `pg_wal`"))
                .hint("PostgreSQL passes it as `%f`: restore_command = 'walrs wal-fetch %f %p'")
        };
        let (name, version) = match text.split_once('/') {
            Some((name, version)) => (name, Some(version.parse()?)),
            None => (text, None),
        };
        let file: WalFileName = name.parse().map_err(|malformed| unknown().because(malformed))?;
        if version.is_some() && !matches!(file, WalFileName::Partial(_)) {
            return Err(unknown());
        }
        Ok(Self { file, version })
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}/{version}", self.file),
            None => self.file.fmt(f),
        }
    }
}
