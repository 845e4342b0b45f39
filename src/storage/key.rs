//! Names of objects: parsed once, so that no driver has to defend itself against `..` or `//`.

use std::fmt;

use crate::durable::TEMPORARY_PREFIX;

/// The name of an object below the repository root: `/`-separated, non-empty components of
/// `[0-9A-Za-z._-]`, none of them `.` or `..` or beginning like walrs's temporary files; at most 512 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

/// A prefix of object keys that ends at a component boundary: empty, or ending in `/`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ObjectPrefix(String);

/// Why a text is no object key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no object key")]
pub struct InvalidKey(String);

const MAX_KEY_BYTES: usize = 512;

impl ObjectKey {
    /// Parses a key.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidKey> {
        let text = text.into();
        let valid = text.len() <= MAX_KEY_BYTES && text.split('/').all(is_component);
        if valid { Ok(Self(text)) } else { Err(InvalidKey(text)) }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the key lies under `prefix`.
    pub fn starts_with(&self, prefix: &ObjectPrefix) -> bool {
        self.0.starts_with(&prefix.0)
    }
}

impl ObjectPrefix {
    /// The prefix of every key.
    pub fn root() -> Self {
        Self(String::new())
    }

    /// Parses a prefix: empty, or a key followed by `/`.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidKey> {
        let text = text.into();
        let valid = text.is_empty()
            || text.strip_suffix('/').is_some_and(|key| key.split('/').all(is_component));
        if valid { Ok(Self(text)) } else { Err(InvalidKey(text)) }
    }

    /// The prefix of what lies below `key`.
    pub fn below(key: &ObjectKey) -> Self {
        Self(format!("{key}/"))
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_component(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let reserved = text == "." || text == ".." || text.starts_with(TEMPORARY_PREFIX);
    !text.is_empty() && !reserved && text.bytes().all(allowed)
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

impl fmt::Display for ObjectPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_leaves_the_repository_or_looks_like_a_temporary_file_is_refused() {
        for text in [
            "",
            "/a",
            "a/",
            "a//b",
            ".",
            "a/../b",
            "./a",
            "a b",
            "a%2f",
            ".walrs-tmp-1",
            "a/.walrs-tmp-1/b",
        ] {
            assert_eq!(ObjectKey::parse(text), Err(InvalidKey(text.to_owned())), "`{text}`");
        }
    }

    #[test]
    fn a_prefix_ends_at_a_component() {
        assert!(ObjectPrefix::parse("").is_ok() && ObjectPrefix::parse("a/b/").is_ok());
        assert!(ObjectPrefix::parse("a/b").is_err() && ObjectPrefix::parse("/").is_err());
    }
}
