//! What a put sends: bytes in memory, or a source that can be opened again for every attempt.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

type Stream = BoxStream<'static, std::io::Result<Bytes>>;

/// The content of an object to be stored. Cloning is cheap; every attempt of a put opens it anew.
#[derive(Clone)]
pub struct Body(Inner);

#[derive(Clone)]
enum Inner {
    Bytes(Bytes),
    Source(Arc<dyn Fn() -> Stream + Send + Sync>),
}

impl Body {
    /// A body that is produced anew for every attempt, for objects too large for memory.
    ///
    /// A source that encrypts takes a fresh salt each time it is opened, so two openings may differ.
    pub fn source(open: impl Fn() -> Stream + Send + Sync + 'static) -> Self {
        Self(Inner::Source(Arc::new(open)))
    }

    /// The bytes, when they are in memory.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match &self.0 {
            Inner::Bytes(bytes) => Some(bytes),
            Inner::Source(_) => None,
        }
    }

    /// Opens the content from its beginning.
    pub fn open(&self) -> Stream {
        match &self.0 {
            Inner::Bytes(bytes) => {
                let bytes = bytes.clone();
                futures::stream::once(async move { Ok(bytes) }).boxed()
            }
            Inner::Source(open) => open(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Inner::Bytes(bytes))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Inner::Bytes(bytes.into()))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Bytes(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Inner::Source(_) => f.write_str("Body(source)"),
        }
    }
}
