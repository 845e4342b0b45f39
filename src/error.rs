//! The one error type of walrs: what failed, why, and what to do now.
//!
//! Owns the kinds of failure and their exit codes. Does not own wording: messages are written where the
//! failing object is known.

use std::error::Error as StdError;
use std::fmt;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What a caller can do about a failure; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nothing matched what was asked for (exit code 1).
    NothingMatched,
    /// The command line or the configuration is wrong (exit code 2).
    Usage,
    /// Going on would overwrite, destroy or mix clusters (exit code 3).
    Refused,
    /// Network, storage, local disk, database or deadline; trying again may help (exit code 4).
    Unavailable,
    /// Stored bytes are wrong or missing (exit code 5).
    Damaged,
    /// A defect of walrs (exit code 70).
    Bug,
}

impl ErrorKind {
    /// The exit code of every command but `wal-fetch`, which has statuses of its own.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::NothingMatched => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Unavailable => 4,
            Self::Damaged => 5,
            Self::Bug => 70,
        }
    }
}

/// A failure: what failed on which object, why (the sources), and what to do (the hint).
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    what: String,
    hint: Option<String>,
    source: Option<Source>,
}

impl Error {
    /// An error of `kind`; `what` names the failed action and its object, lower case, values in backticks.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, what: what.into(), hint: None, source: None }))
    }

    /// Nothing matched (exit code 1).
    pub fn nothing_matched(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::NothingMatched, what)
    }

    /// Wrong usage or configuration (exit code 2).
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, what)
    }

    /// Refused for safety (exit code 3).
    pub fn refused(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, what)
    }

    /// Unavailable, perhaps only now (exit code 4).
    pub fn unavailable(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, what)
    }

    /// Stored bytes are wrong or missing (exit code 5).
    pub fn damaged(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Damaged, what)
    }

    /// A defect of walrs (exit code 70).
    pub fn bug(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Bug, what)
    }

    /// A failed local file operation (exit code 4).
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::unavailable(what).because(source)
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds what the reader should do now; replaces an earlier hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Puts a new outermost message in front; kind and hint stay.
    #[must_use]
    pub fn context(mut self, what: impl Into<String>) -> Self {
        let (kind, hint) = (self.0.kind, self.0.hint.take());
        Self(Box::new(Inner { kind, what: what.into(), hint, source: Some(Box::new(self)) }))
    }

    /// The kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What the reader should do now, where walrs knows it.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The error and its causes in one line.
    pub fn chain(&self) -> String {
        chain(self)
    }

    /// The message for a terminal: the error, its causes one a line, and the hint.
    pub fn report(&self) -> String {
        let mut text = format!("error: {self}");
        let mut cause = self.source();
        while let Some(source) = cause {
            text.push_str("\n  caused by: ");
            text.push_str(&source.to_string());
            cause = source.source();
        }
        if let Some(hint) = self.hint_text() {
            text.push_str("\nhint: ");
            text.push_str(hint);
        }
        text
    }
}

/// Any error and its causes in one line.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.report())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
