//! Between the wire and `s3s-fs`: one change of an object at a time, and what S3 has and `s3s-fs` has not.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE};
use hyper::{HeaderMap, Method, Request, Response};
use s3s::service::S3Service;
use walrs::task;

use super::answers::{self, Seen, Upload};
use super::fault::{Effect, Fault};

/// Objects of different names change side by side, unless their names share a lock. A deletion of several locks none of them.
const LOCKS: usize = 64;

/// The store and the rules that its clients meet.
pub(super) struct Gateway {
    store: S3Service,
    bucket: PathBuf,
    faults: Mutex<Vec<Fault>>,
    seen: Mutex<Vec<Seen>>,
    uploads: Mutex<Vec<Upload>>,
    /// One is held while an object changes, the same for the same name: it makes "create when absent" atomic.
    changing: [tokio::sync::Mutex<()>; LOCKS],
}

impl Gateway {
    pub(super) fn new(store: S3Service, bucket: PathBuf) -> Self {
        let (faults, seen, uploads) = (Mutex::default(), Mutex::default(), Mutex::default());
        let changing = std::array::from_fn(|_| tokio::sync::Mutex::default());
        Self { store, bucket, faults, seen, uploads, changing }
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.faults.lock().expect("no panic while held")
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().expect("no panic while held")
    }

    pub(super) fn uploads(&self) -> MutexGuard<'_, Vec<Upload>> {
        self.uploads.lock().expect("no panic while held")
    }

    /// Records a request and finds what shall happen to it.
    pub(super) fn note(&self, request: &Request<Bytes>) -> Option<Effect> {
        let (method, target) = (request.method().as_str(), target(request));
        let (method, bytes) = (method.to_owned(), request.body().len());
        let effect = self.faults().iter_mut().find_map(|fault| fault.strike(&method, &target));
        let headers = request.headers().clone();
        self.seen().push(Seen { method, target, bytes, headers });
        effect
    }

    /// The store's answer.
    pub(super) async fn answer(
        &self,
        request: Request<Bytes>,
        condition: Condition,
    ) -> Response<Bytes> {
        let _alone = match *request.method() {
            Method::GET | Method::HEAD => None,
            _ => Some(self.lock_of(&request).lock().await),
        };
        if !self.names_existing_bucket(&request) {
            return answers::error(404, "NoSuchBucket");
        }
        if self.names_directory(&request) {
            return answers::error(404, "NoSuchKey");
        }
        if !checksum_fits(&request) {
            return answers::error(400, "BadDigest");
        }
        if condition == Condition::Ignored {
            self.forget_object(&request);
        }
        let (asked, version) = (Asked::of(&request), header(&request, "if-match"));
        let answer = self.forward(request, &asked).await;
        self.keep_book(&asked, &answer);
        match asked.kind {
            Kind::ListUploads if answer.status() == 501 => {
                answers::uploads("walrs-test", &self.uploads())
            }
            Kind::Read if answer.status().is_success() && !is_version(&answer, version) => {
                answers::error(412, "PreconditionFailed")
            }
            _ => answer,
        }
    }

    fn lock_of(&self, request: &Request<Bytes>) -> &tokio::sync::Mutex<()> {
        let mut hasher = DefaultHasher::new();
        request.uri().path().hash(&mut hasher);
        &self.changing[hasher.finish() as usize % LOCKS]
    }

    async fn forward(&self, request: Request<Bytes>, asked: &Asked) -> Response<Bytes> {
        let answer = self.store.call(request.map(s3s::Body::from)).await;
        let (head, body) = answer.expect("s3s answers every request").into_parts();
        let content = match asked.kind {
            Kind::Read if head.status.is_success() => self.content(asked, &head.headers).await,
            _ => None,
        };
        let body = match content {
            Some(content) => content,
            None => promised(body, &head.headers).await,
        };
        Response::from_parts(head, body)
    }

    /// The bytes of an object that the headers of an answer promise, read at once; none when it is about something else.
    ///
    /// `s3s-fs` reads 4 KiB at a time and changes threads for each, which would be most of what this server does on the
    /// cores that it shares with those that are measured.
    async fn content(&self, asked: &Asked, headers: &HeaderMap) -> Option<Bytes> {
        let number = |text: &str| text.parse::<u64>().ok();
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let length = text(CONTENT_LENGTH).and_then(number)?;
        let start = match text(CONTENT_RANGE) {
            Some(range) => number(range.strip_prefix("bytes ")?.split('-').next()?)?,
            None => 0,
        };
        let path = self.bucket.join(&asked.name);
        let read = move || {
            let mut bytes = vec![0; usize::try_from(length).ok()?];
            File::open(path).and_then(|file| file.read_exact_at(&mut bytes, start)).ok()?;
            Some(Bytes::from(bytes))
        };
        task::unblock(read).await
    }

    fn names_existing_bucket(&self, request: &Request<Bytes>) -> bool {
        let named = request.uri().path().split('/').nth(1).unwrap_or_default();
        let data = self.bucket.parent().expect("the bucket lies in the data directory");
        !named.is_empty() && data.join(named).is_dir()
    }

    /// `s3s-fs` fails to read a directory as an object; in S3 there are none.
    fn names_directory(&self, request: &Request<Bytes>) -> bool {
        let name = request.uri().path().splitn(3, '/').nth(2).unwrap_or_default();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        reads && !name.is_empty() && self.bucket.join(name).is_dir()
    }

    /// The header that asks for creation is signed, so it cannot be taken away; what it looks for can.
    fn forget_object(&self, request: &Request<Bytes>) {
        let name = request.uri().path().splitn(3, '/').nth(2).unwrap_or_default();
        match std::fs::remove_file(self.bucket.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{name}: {error}"),
            _ => {}
        }
    }

    /// Keeps the list of unfinished uploads.
    fn keep_book(&self, asked: &Asked, answer: &Response<Bytes>) {
        if !answer.status().is_success() {
            return;
        }
        match &asked.kind {
            Kind::BeginUpload => {
                let text = String::from_utf8_lossy(answer.body()).into_owned();
                let id =
                    between(&text, "<UploadId>", "</UploadId>").expect("a begun upload has an id");
                self.uploads().push(Upload { name: asked.name.clone(), id: id.to_owned() });
            }
            Kind::EndUpload { id } => self.uploads().retain(|upload| upload.id != *id),
            _ => {}
        }
    }
}

/// Whether `If-None-Match` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Honoured,
    Ignored,
}

/// What a request is about, as far as it matters here.
struct Asked {
    kind: Kind,
    name: String,
}

enum Kind {
    Read,
    BeginUpload,
    EndUpload { id: String },
    ListUploads,
    Other,
}

impl Asked {
    fn of(request: &Request<Bytes>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let has = |name: &str| query.split('&').any(|part| part.trim_end_matches('=') == name);
        let id = query.split('&').find_map(|part| part.strip_prefix("uploadId="));
        let kind = match (request.method(), id) {
            (&Method::GET, None) if has("uploads") => Kind::ListUploads,
            (&Method::GET, None) => Kind::Read,
            (&Method::POST, None) if has("uploads") => Kind::BeginUpload,
            (&Method::POST | &Method::DELETE, Some(id)) => Kind::EndUpload { id: id.to_owned() },
            _ => Kind::Other,
        };
        let name = request.uri().path().splitn(3, '/').nth(2).unwrap_or_default().to_owned();
        Self { kind, name }
    }
}

/// A body as far as its headers say that it goes: after a range `s3s-fs` reads on to the end of the file, for nothing.
async fn promised(mut body: s3s::Body, headers: &HeaderMap) -> Bytes {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut bytes = BytesMut::new();
    while length.is_none_or(|length: usize| bytes.len() < length) {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.expect("s3s-fs reads its files");
        bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    bytes.freeze()
}

/// Path and query of a request.
pub(super) fn target(request: &Request<Bytes>) -> String {
    request.uri().path_and_query().map(ToString::to_string).unwrap_or_default()
}

/// `s3s-fs` stores first and checks then, and does not check parts at all.
fn checksum_fits(request: &Request<Bytes>) -> bool {
    header(request, "x-amz-checksum-crc32c").is_none_or(|claimed| {
        let found = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, request.body());
        let found = u32::try_from(found).expect("a CRC32C has 32 bits");
        STANDARD.encode(found.to_be_bytes()) == claimed
    })
}

fn is_version(answer: &Response<Bytes>, wanted: Option<String>) -> bool {
    let found = answer.headers().get("etag").and_then(|value| value.to_str().ok());
    wanted.is_none_or(|wanted| found == Some(wanted.as_str()))
}

fn header(request: &Request<Bytes>, name: &str) -> Option<String> {
    request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}
