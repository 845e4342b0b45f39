//! Answers that the gateway gives itself, and the record of what was asked.

use std::fmt::Write;

use bytes::Bytes;
use hyper::{HeaderMap, Response};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Length of the request's body.
    pub(crate) bytes: usize,
    pub(crate) headers: HeaderMap,
}

impl Seen {
    /// Whether the method is this one and the target contains `part`.
    pub(crate) fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.target.contains(part)
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// An S3 error document.
pub(super) fn error(status: u16, code: &str) -> Response<Bytes> {
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>injected</Message></Error>"
    );
    typed(status, "application/xml", document)
}

/// What a proxy says when it does not find something.
pub(super) fn page(status: u16) -> Response<Bytes> {
    let page =
        "<html><head><title>Not here</title></head><body><h1>Not here</h1><hr></body></html>";
    typed(status, "text/html", page.to_owned())
}

/// 503 with a wish.
pub(super) fn throttle(seconds: u64) -> Response<Bytes> {
    let mut answer = error(503, "SlowDown");
    answer.headers_mut().insert("retry-after", seconds.into());
    answer
}

/// 200 with no body.
pub(super) fn empty() -> Response<Bytes> {
    Response::new(Bytes::new())
}

/// The list of unfinished uploads.
pub(super) fn uploads(bucket: &str, uploads: &[Upload]) -> Response<Bytes> {
    let mut described = String::new();
    for Upload { name, id } in uploads {
        write!(
            described,
            "<Upload><Key>{name}</Key><UploadId>{id}</UploadId>\
             <Initiated>2026-01-01T00:00:00.000Z</Initiated></Upload>"
        )
        .expect("a string takes everything");
    }
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListMultipartUploadsResult>\
         <Bucket>{bucket}</Bucket><IsTruncated>false</IsTruncated>{described}\
         </ListMultipartUploadsResult>"
    );
    typed(200, "application/xml", document)
}

/// An upload that was begun.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) name: String,
    pub(super) id: String,
}

fn typed(status: u16, kind: &'static str, body: String) -> Response<Bytes> {
    let answer = Response::builder().status(status).header("content-type", kind);
    answer.body(Bytes::from(body)).expect("a valid answer")
}
