//! How PostgreSQL's values appear as text: the error of a failed parse, and serde through `Display` and `FromStr`.

use thiserror::Error;

/// Text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not {expected}")]
pub struct Malformed {
    text: String,
    expected: &'static str,
}

impl Malformed {
    /// `text` is not `expected`, a noun phrase with an example: ``an LSN like `16/B374D848` ``.
    pub fn new(text: impl Into<String>, expected: &'static str) -> Self {
        Self { text: text.into(), expected }
    }
}

/// Whether `text` is `digits` upper-case hexadecimal digits and nothing else.
pub(super) fn is_upper_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'))
}

/// The value of exactly 8 upper-case hexadecimal digits, as PostgreSQL writes numbers into file names.
pub(super) fn upper_hex_u32(text: &str) -> Option<u32> {
    if !is_upper_hex(text, 8) {
        return None;
    }
    u32::from_str_radix(text, 16).ok()
}

/// Whether `text` is one or more decimal digits and nothing else: no sign, no space.
pub(super) fn is_decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Implements `Serialize` and `Deserialize` as the text of `Display` and `FromStr`.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text: std::borrow::Cow<'de, str> =
                    serde::Deserialize::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(super) use serde_as_text;
