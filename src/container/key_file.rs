//! Key files and passphrase files: read with their permissions checked, created once.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::sealing::fill_random;
use crate::durable::{self, Existing};
use crate::error::{Error, Result};
use crate::secret::Secret;

const KEY_BYTES: usize = 32;
const KEY_FILE_MODE: u32 = 0o600;

/// Longer than any key or sensible passphrase; keeps a wrong path from filling the memory.
const SECRET_FILE_LIMIT_BYTES: u64 = 4096;

/// The key in a key file, or in what a key command printed: exactly 32 bytes in base64, white space around ignored.
///
/// The error says nothing of the text.
pub fn parse_key(text: &[u8]) -> Result<Secret<[u8; KEY_BYTES]>> {
    // One byte more than a key, so that a longer one is told from a whole one.
    let mut decoded = Zeroizing::new([0; KEY_BYTES + 4]);
    let length = STANDARD.decode_slice(text.trim_ascii(), decoded.as_mut_slice());
    if length != Ok(KEY_BYTES) {
        return Err(Error::usage("the key is not 32 bytes in base64")
            .hint("`walrs init --encrypt --new-key-file FILE` makes a valid one"));
    }
    Ok(Secret::filled(|key: &mut [u8; KEY_BYTES]| key.copy_from_slice(&decoded[..KEY_BYTES])))
}

/// Reads a key file, which must be a file of this user (or root) that nobody else may read.
pub fn read_key_file(path: &Path) -> Result<Secret<[u8; KEY_BYTES]>> {
    let text = read_secret_file(path)?;
    parse_key(text.expose())
        .map_err(|error| error.context(format!("cannot use key file `{}`", path.display())))
}

/// Reads a passphrase file, with the same checks as a key file.
pub fn read_passphrase_file(path: &Path) -> Result<Secret<Vec<u8>>> {
    read_secret_file(path)
}

/// Creates a key file with a new key; one that exists is never replaced.
pub fn generate_key_file(path: &Path) -> Result<Secret<[u8; KEY_BYTES]>> {
    let key = Secret::try_filled(|key: &mut [u8; KEY_BYTES]| fill_random(key))?;
    let mut text = Zeroizing::new(STANDARD.encode(key.expose()));
    text.push('\n');
    durable::write(path, text.as_bytes(), KEY_FILE_MODE, Existing::Keep)
        .map_err(|error| not_created(path, error))?;
    Ok(key)
}

fn not_created(path: &Path, error: io::Error) -> Error {
    let what = format!("cannot create key file `{}`", path.display());
    if error.kind() == io::ErrorKind::AlreadyExists {
        Error::refused(what).because(error).hint("a key file is never replaced; name another one")
    } else {
        Error::usage(what).because(error)
    }
}

fn read_secret_file(path: &Path) -> Result<Secret<Vec<u8>>> {
    let unreadable =
        |error| Error::usage(format!("cannot read `{}`", path.display())).because(error);
    let file = File::open(path).map_err(unreadable)?;
    ensure_private(path, &file.metadata().map_err(unreadable)?)?;
    // The whole capacity at once: growing would leave copies behind.
    let mut content = Secret::new(Vec::with_capacity(SECRET_FILE_LIMIT_BYTES as usize + 1));
    let read =
        content.change(|content| file.take(SECRET_FILE_LIMIT_BYTES + 1).read_to_end(content));
    if read.map_err(unreadable)? as u64 > SECRET_FILE_LIMIT_BYTES {
        return Err(Error::usage(format!("`{}` is above 4 KiB", path.display())));
    }
    Ok(content)
}

fn ensure_private(path: &Path, metadata: &Metadata) -> Result<()> {
    let refused = |why: String| Error::usage(format!("`{}` {why}", path.display()));
    if !metadata.is_file() {
        return Err(refused("is not a regular file".to_owned()));
    }
    if metadata.mode() & 0o077 != 0 {
        let mode = metadata.mode() & 0o7777;
        return Err(refused(format!("has mode {mode:04o}, so others can read the secret"))
            .hint(format!("chmod 0600 {}", path.display())));
    }
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if !may_own_secret_of(user, owner) {
        return Err(refused(format!("belongs to user {owner}, not to user {user}")));
    }
    Ok(())
}

/// Whether `user` may rely on a secret that `owner` can replace: root may on any, everyone on their own and on root's.
fn may_own_secret_of(user: u32, owner: u32) -> bool {
    const ROOT: u32 = 0;
    user == ROOT || owner == ROOT || owner == user
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_of_another_user_is_refused_except_by_root() {
        assert!(may_own_secret_of(1000, 1000) && may_own_secret_of(1000, 0));
        assert!(may_own_secret_of(0, 1000));
        assert!(!may_own_secret_of(1000, 1001));
    }
}
