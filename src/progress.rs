//! What long work tells whoever watches: how much there is, and how much is done.

/// Receives the progress of one piece of work. Called from many threads; must not block.
pub trait Progress: Send + Sync {
    /// Work on `total` bytes begins; the total may still grow.
    fn begin(&self, what: &'static str, total: u64);

    /// `bytes` more are done.
    fn advance(&self, bytes: u64);

    /// The work is over, done or not.
    fn end(&self);
}

/// Nobody watches.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _what: &'static str, _total: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn end(&self) {}
}
