//! The number that tells one cluster from another.

use std::fmt;
use std::str::FromStr;

use super::text::{Malformed, is_decimal, serde_as_text};

/// The system identifier that `initdb` gives a cluster; its standbys and restored copies share it.
///
/// Displayed and serialised as decimal text, because JSON readers round numbers of 64 bits;
/// [`SystemIdentifier::hex`] is the form in object names.
/// Source: `system_identifier` in `catalog/pg_control.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemIdentifier(u64);

impl SystemIdentifier {
    /// The identifier `number`.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Sixteen lower-case hexadecimal digits.
    pub fn hex(self) -> String {
        format!("{:016x}", self.0)
    }

    /// The identifier written as exactly sixteen lower-case hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, Malformed> {
        let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let valid = text.len() == 16 && text.bytes().all(lower);
        let number = if valid { u64::from_str_radix(text, 16).ok() } else { None };
        number.map(Self).ok_or_else(|| {
            Malformed::new(text, "a system identifier of 16 lower-case hexadecimal digits")
        })
    }
}

impl fmt::Display for SystemIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SystemIdentifier {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let number = if is_decimal(text) { text.parse().ok() } else { None };
        number.map(Self).ok_or_else(|| {
            Malformed::new(text, "a system identifier as `pg_controldata` prints it")
        })
    }
}

serde_as_text!(SystemIdentifier);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_written_forms_are_read_back() {
        let identifier = SystemIdentifier::new(7_625_123_456_789_012_345);
        assert_eq!(identifier.to_string().parse(), Ok(identifier));
        assert_eq!(SystemIdentifier::from_hex(&identifier.hex()), Ok(identifier));
        assert_eq!(identifier.hex().len(), 16);
    }

    #[test]
    fn an_identifier_is_json_text() {
        let json = serde_json::to_string(&SystemIdentifier::new(u64::MAX)).unwrap();
        assert_eq!(json, "\"18446744073709551615\"");
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "-1", "+1", "18446744073709551616", "69d3"] {
            assert!(text.parse::<SystemIdentifier>().is_err(), "`{text}` was taken for a number");
        }
        for text in ["", "69D300000000000F", "69d3", "69d300000000000f0", "+9d300000000000f"] {
            assert!(SystemIdentifier::from_hex(text).is_err(), "`{text}` was taken for 16 digits");
        }
    }
}
