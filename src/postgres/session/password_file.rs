//! libpq's password file: lines of `host:port:database:user:password`.

use std::io::ErrorKind as IoErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tracing::warn;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Result};
use crate::secret::Secret;

/// Bits that a password file must not have: anything for group or others.
const FORBIDDEN_MODE: u32 = 0o077;

/// What a password is looked up for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Login<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The password for `login` in the file at `path`, from its first matching line.
///
/// As libpq does, an absent file has none, and one that others can read (or that is no file) is passed over with a
/// warning. Source: `passwordFromFile` in `interfaces/libpq/fe-connect.c`.
pub(super) async fn find(path: &Path, login: Login<'_>) -> Result<Option<Secret<String>>> {
    let unreadable =
        |error| Error::io(format!("cannot read the password file `{}`", path.display()), error);
    let metadata = match tokio::fs::metadata(path).await {
        Err(error) if is_absence(error.kind()) => return Ok(None),
        other => other.map_err(unreadable)?,
    };
    if !metadata.is_file() {
        warn!(file = %path.display(), "password file passed over: it is no plain file");
        return Ok(None);
    }
    if metadata.permissions().mode() & FORBIDDEN_MODE != 0 {
        warn!(file = %path.display(), "password file passed over: it has group or world access, it must be 0600");
        return Ok(None);
    }
    let content = Zeroizing::new(tokio::fs::read(path).await.map_err(unreadable)?);
    Ok(password_in(&content, login))
}

fn is_absence(kind: IoErrorKind) -> bool {
    matches!(kind, IoErrorKind::NotFound | IoErrorKind::NotADirectory)
}

fn password_in(content: &[u8], login: Login<'_>) -> Option<Secret<String>> {
    let lines =
        content.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    lines
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .find_map(|line| password_of(line, login))
}

fn password_of(line: &str, login: Login<'_>) -> Option<Secret<String>> {
    if line.starts_with('#') {
        return None;
    }
    let port = login.port.to_string();
    let mut rest = line;
    for wanted in [login.host, &port, login.database, login.user] {
        let (field, after) = split_field(rest)?;
        if !matches(field, wanted) {
            return None;
        }
        rest = after;
    }
    // An empty password means that there is none.
    (!rest.is_empty()).then(|| Secret::new(unescaped(rest)))
}

/// The text up to the first `:` that no backslash escapes, and what follows it.
fn split_field(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (position, character) in text.char_indices() {
        match character {
            ':' if !escaped => return Some((&text[..position], &text[position + 1..])),
            _ => escaped = character == '\\' && !escaped,
        }
    }
    None
}

fn matches(field: &str, wanted: &str) -> bool {
    if field == "*" {
        return true;
    }
    let mut plain = unescaped(field);
    let equal = plain == wanted;
    plain.zeroize();
    equal
}

fn unescaped(field: &str) -> String {
    // No growing: that would leave pieces of a password behind in memory.
    let mut plain = String::with_capacity(field.len());
    let mut characters = field.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => characters.next().unwrap_or('\\'),
            other => other,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    const LOGIN: Login<'_> = Login { host: "db1", port: 5432, database: "postgres", user: "walrs" };

    fn password(content: &str) -> Option<String> {
        password_in(content.as_bytes(), LOGIN).map(|password| password.expose().clone())
    }

    #[test]
    fn the_first_matching_line_has_the_password() {
        let content =
            "# comment\nother:5432:postgres:walrs:no\n*:*:*:walrs:first\n*:*:*:*:second\n";
        assert_eq!(password(content).as_deref(), Some("first"));
    }

    #[test]
    fn colons_and_backslashes_are_escaped_by_backslashes() {
        assert_eq!(password("db1:5432:postgres:walrs:a\\:b\\\\c\r\n").as_deref(), Some("a:b\\c"));
        assert_eq!(password("db1:5432:postgres:walrs:a:b").as_deref(), Some("a:b"));
        assert_eq!(password("db\\1:5432:*:walrs:x").as_deref(), Some("x"));
    }

    #[test]
    fn lines_that_do_not_match_whole_have_none() {
        for content in
            ["", "db1:5432:postgres:walrs", "db1:5432:postgres:walrs:", "db:*:*:*:x", "*"]
        {
            assert_eq!(password(content), None, "{content}");
        }
    }

    #[tokio::test]
    async fn a_file_that_others_can_read_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pgpass");
        std::fs::write(&path, "*:*:*:*:secret\n").unwrap();
        for (mode, found) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(find(&path, LOGIN).await.unwrap().is_some(), found, "{mode:o}");
        }
    }

    #[tokio::test]
    async fn an_absent_file_has_no_password() {
        let directory = tempfile::tempdir().unwrap();
        assert!(find(&directory.path().join("pgpass"), LOGIN).await.unwrap().is_none());
        assert!(find(directory.path(), LOGIN).await.unwrap().is_none());
    }
}
