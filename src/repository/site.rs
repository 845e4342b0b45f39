//! The local places that belong to one data directory: its spool and its witness.
//!
//! The witness remembers which repository this data directory uses, so that an unmounted disk or a typo in the URL is
//! never taken for a new or an empty repository.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::container::RepositoryId;
use crate::durable::{self, Existing};
use crate::error::{Error, Result};
use crate::postgres::SPOOL_DIRECTORY;

// Not a secret, and read by whichever user runs the next command.
const WITNESS_MODE: u32 = 0o644;

/// It holds WAL, so nobody else may look into it.
const SPOOL_MODE: u32 = 0o700;

/// Where a data directory keeps its spool and its witness.
#[derive(Debug, Clone)]
pub struct Site {
    pgdata: PathBuf,
    spools: Vec<PathBuf>,
    /// Beside which a witness may lie: the spools, and the default ones, which may have been in use before.
    witness_places: Vec<PathBuf>,
}

/// What a data directory remembers of its repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// The URL at the time.
    pub url: String,
    /// The repository.
    pub repository_id: RepositoryId,
}

impl Site {
    /// The site of `pgdata`: the configured spool, else `walrs-spool` beside it, else inside it.
    pub fn locate(pgdata: &Path, configured: Option<&Path>) -> Result<Self> {
        let canonical = pgdata.canonicalize().map_err(|source| {
            Error::usage(format!("cannot find the data directory `{}`", pgdata.display()))
                .because(source)
        })?;
        let spools = match configured {
            Some(spool) => vec![checked_spool(spool, &canonical)?],
            None => default_spools(&canonical),
        };
        let mut witness_places = spools.clone();
        if configured.is_some() {
            witness_places.extend(default_spools(&canonical));
        }
        Ok(Self { pgdata: canonical, spools, witness_places })
    }

    /// The data directory, canonical.
    pub fn pgdata(&self) -> &Path {
        &self.pgdata
    }

    /// The spool directory (perhaps not yet created); none when no place is writable.
    pub fn spool(&self) -> Option<&Path> {
        self.spools.iter().map(PathBuf::as_path).find(|spool| is_usable(spool))
    }

    /// The directory `name` in the spool, made when it is not there; none when no place is writable.
    pub fn make_spool_directory(&self, name: &str) -> std::io::Result<Option<PathBuf>> {
        use std::os::unix::fs::DirBuilderExt;
        let Some(spool) = self.spool() else { return Ok(None) };
        let directory = spool.join(name);
        std::fs::DirBuilder::new().recursive(true).mode(SPOOL_MODE).create(&directory)?;
        Ok(Some(directory))
    }

    /// 16 digits that stand for the data directory in names beside or in a spool, which several may share.
    pub fn tag(&self) -> String {
        use std::os::unix::ffi::OsStrExt;
        let hash = blake3::hash(self.pgdata.as_os_str().as_bytes()).to_hex();
        hash[..16].to_owned()
    }

    /// Whether a witness can be kept.
    pub fn can_keep_witness(&self) -> bool {
        self.witness_to_write().is_some()
    }

    /// The witness, if one was left.
    pub fn witness(&self) -> Result<Option<Witness>> {
        for path in self.witness_paths() {
            match std::fs::read(&path) {
                Ok(bytes) => return parse_witness(&path, &bytes).map(Some),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Error::io(
                        format!("cannot read the witness `{}`", path.display()),
                        error,
                    ));
                }
            }
        }
        Ok(None)
    }

    /// Leaves the witness of `repository`, replacing another; does nothing where none can be kept.
    pub fn leave_witness(&self, witness: &Witness) -> Result<()> {
        let Some(path) = self.witness_to_write() else { return Ok(()) };
        let json = serde_json::to_vec(witness)
            .map_err(|source| Error::bug("cannot write a witness as JSON").because(source))?;
        durable::write(&path, &json, WITNESS_MODE, Existing::Replace).map_err(|source| {
            Error::io(format!("cannot write the witness `{}`", path.display()), source)
        })?;
        self.remove_other_witnesses(&path)
    }

    fn remove_other_witnesses(&self, kept: &Path) -> Result<()> {
        for path in self.witness_paths().filter(|path| path != kept) {
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    let what = format!("cannot remove the old witness `{}`", path.display());
                    return Err(Error::io(what, error));
                }
            }
        }
        Ok(())
    }

    fn witness_paths(&self) -> impl Iterator<Item = PathBuf> {
        self.witness_places.iter().map(|spool| self.witness_beside(spool))
    }

    fn witness_to_write(&self) -> Option<PathBuf> {
        let mut places = self.witness_places.iter();
        let spool = places.find(|spool| spool.parent().is_some_and(is_writable))?;
        Some(self.witness_beside(spool))
    }

    /// Beside the spool, so that emptying the spool does not lose it; one for every data directory that shares the spool.
    fn witness_beside(&self, spool: &Path) -> PathBuf {
        let mut name = spool.as_os_str().to_owned();
        name.push(format!("-witness-{}.json", self.tag()));
        PathBuf::from(name)
    }
}

fn parse_witness(path: &Path, bytes: &[u8]) -> Result<Witness> {
    serde_json::from_slice(bytes).map_err(|source| {
        Error::refused(format!("the witness `{}` is malformed", path.display()))
            .because(source)
            .hint("`walrs init` replaces it")
    })
}

fn checked_spool(spool: &Path, pgdata: &Path) -> Result<PathBuf> {
    let wrong = |why: &str| Error::usage(format!("the spool `{}` {why}", spool.display()));
    if !spool.is_absolute() {
        return Err(wrong("is no absolute path"));
    }
    let resolved = spool.canonicalize().unwrap_or_else(|_| spool.to_owned());
    let wal = pgdata.join("pg_wal");
    let wal = wal.canonicalize().unwrap_or(wal);
    if resolved.starts_with(&wal) {
        return Err(
            wrong("lies inside `pg_wal`").hint("PostgreSQL removes what it does not know there")
        );
    }
    Ok(spool.to_owned())
}

fn default_spools(pgdata: &Path) -> Vec<PathBuf> {
    let beside = pgdata.parent().map(|parent| parent.join(SPOOL_DIRECTORY));
    beside.into_iter().chain([pgdata.join(SPOOL_DIRECTORY)]).collect()
}

fn is_usable(spool: &Path) -> bool {
    if spool.exists() { is_writable(spool) } else { spool.parent().is_some_and(is_writable) }
}

fn is_writable(directory: &Path) -> bool {
    use rustix::fs::{Access, access};
    directory.is_dir() && access(directory, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}
