//! Why bytes are not what they should be, before it is known which object they belong to.

use std::borrow::Cow;

use crate::error::Error;

/// A reason to refuse stored bytes; becomes an [`Error`] where the object's name is known.
#[derive(Debug)]
pub(super) struct Damage(Cow<'static, str>);

/// A result whose error is [`Damage`].
pub(super) type Checked<T> = std::result::Result<T, Damage>;

impl Damage {
    pub(super) fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self(what.into())
    }

    /// The error of kind `Damaged` about the object `name`.
    pub(super) fn of(self, name: &str) -> Error {
        Error::damaged(format!("`{name}` is damaged: {}", self.0))
    }
}

/// An error unless `holds`.
pub(super) fn ensure(holds: bool, otherwise: &'static str) -> Checked<()> {
    if holds { Ok(()) } else { Err(Damage::new(otherwise)) }
}
