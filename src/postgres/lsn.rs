//! Positions in the write-ahead log.

use std::fmt;
use std::str::FromStr;

use super::text::{Malformed, serde_as_text};

const EXPECTED: &str = "an LSN like `16/B374D848`";

/// A log sequence number: a byte position in the write-ahead log of a cluster.
///
/// Written as PostgreSQL up to 18 does, `16/B374D848`; read with or without leading zeros, in either case.
/// Serialised as that text. Source: `XLogRecPtr` in `access/xlogdefs.h`, `pg_lsn_in`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// Zero, PostgreSQL's `InvalidXLogRecPtr`: no position at all.
    pub const INVALID: Self = Self(0);

    /// The position `position` bytes after the beginning of the log.
    pub const fn new(position: u64) -> Self {
        Self(position)
    }

    /// The number of bytes before this position.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// This position, or `None` for [`Lsn::INVALID`], where PostgreSQL uses zero for "not set".
    pub fn valid(self) -> Option<Self> {
        (self != Self::INVALID).then_some(self)
    }

    /// The position `bytes` later, unless the log ends before it.
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }

    /// The position `bytes` earlier, unless the log begins after it.
    pub fn checked_sub(self, bytes: u64) -> Option<Self> {
        self.0.checked_sub(bytes).map(Self)
    }

    /// The bytes from `earlier` to here, or `None` when `earlier` is the later one.
    pub fn bytes_since(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let halves = text.split_once('/').and_then(|(high, low)| Some((half(high)?, half(low)?)));
        let (high, low) = halves.ok_or_else(|| Malformed::new(text, EXPECTED))?;
        Ok(Self(u64::from(high) << 32 | u64::from(low)))
    }
}

/// One to eight hexadecimal digits; `from_str_radix` alone would also take a sign.
fn half(digits: &str) -> Option<u32> {
    let valid = digits.len() <= 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    valid.then(|| u32::from_str_radix(digits, 16).ok())?
}

serde_as_text!(Lsn);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_lsn_is_written_as_postgresql_prints_it() {
        assert_eq!(Lsn::new(0x16_B374_D848).to_string(), "16/B374D848");
        assert_eq!(Lsn::new(0x0100_0028).to_string(), "0/1000028");
    }

    #[test]
    fn text_that_is_no_lsn_is_refused() {
        for text in
            ["", "0", "/", "0/", "/0", "0/+1", "-1/0", "0/123456789", "0/G", "0/0/0", " 0/0"]
        {
            assert!(text.parse::<Lsn>().is_err(), "`{text}` was taken for an LSN");
        }
    }

    #[test]
    fn an_lsn_is_json_text() {
        let lsn = Lsn::new(0x2_0000_0028);
        let json = serde_json::to_string(&lsn).unwrap();
        assert_eq!(json, "\"2/28\"");
        assert_eq!(serde_json::from_str::<Lsn>(&json).unwrap(), lsn);
    }

    #[test]
    fn arithmetic_stops_at_both_ends_of_the_log() {
        assert_eq!(Lsn::INVALID.checked_sub(1), None);
        assert_eq!(Lsn::new(u64::MAX).checked_add(1), None);
        assert_eq!(Lsn::new(5).bytes_since(Lsn::new(7)), None);
        assert_eq!(Lsn::INVALID.valid(), None);
    }

    proptest! {
        #[test]
        fn every_lsn_survives_its_text(position: u64) {
            let lsn = Lsn::new(position);
            prop_assert_eq!(lsn.to_string().parse::<Lsn>().unwrap(), lsn);
            prop_assert_eq!(lsn.to_string().to_lowercase().parse::<Lsn>().unwrap(), lsn);
        }
    }
}
