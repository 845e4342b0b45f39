//! Text → value, with an error that says which key, which text, from where, and what was expected.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{Config, Value};
use crate::error::{Error, Result};

/// Typed access to a configuration; `None` where a key has no value.
pub(super) struct Parser<'a>(pub &'a Config);

impl Parser<'_> {
    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.0.value(key).map(|value| value.text.clone())
    }

    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        self.0.value(key).map(|value| PathBuf::from(&value.text))
    }

    pub(super) fn duration(&self, key: &str) -> Result<Option<Duration>> {
        self.with(key, "a duration such as `5m` or `14d`", |text| {
            humantime::parse_duration(text).ok()
        })
    }

    pub(super) fn size(&self, key: &str) -> Result<Option<u64>> {
        self.with(key, "a size such as `64MiB`", |text| {
            bytesize::ByteSize::from_str(text).ok().map(|size| size.as_u64())
        })
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.with(key, "`true` or `false`", |text| text.parse().ok())
    }

    pub(super) fn number<T: FromStr>(&self, key: &str, expected: &str) -> Result<Option<T>> {
        self.with(key, expected, |text| text.parse().ok())
    }

    pub(super) fn count(&self, key: &str) -> Result<Option<NonZeroU32>> {
        self.number(key, "a whole number of at least 1")
    }

    pub(super) fn parallelism(&self, key: &str) -> Result<Option<NonZeroUsize>> {
        self.with(key, "a whole number from 1 to 256", |text| {
            text.parse().ok().filter(|count: &NonZeroUsize| count.get() <= 256)
        })
    }

    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>> {
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
        let find =
            |text: &str| choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
        self.with(key, &format!("one of {}", names.join(", ")), find)
    }

    fn with<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.0.value(key) {
            None => Ok(None),
            Some(value) => {
                parse(value.text.trim()).map(Some).ok_or_else(|| malformed(key, value, expected))
            }
        }
    }
}

fn malformed(key: &str, value: &Value, expected: &str) -> Error {
    Error::usage(format!("`{key}` is `{}` ({})", value.text, value.origin))
        .hint(format!("write {expected}"))
}

/// A value whose key has a default.
pub(super) fn defaulted<T>(value: Option<T>) -> T {
    value.expect("the key has a default")
}
