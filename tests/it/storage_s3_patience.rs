//! How long the S3 driver tries, and what it never tries again: S10 on a server that misbehaves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use walrs::deadline::Deadline;
use walrs::storage::{ByteRange, ConnectOptions, Storage, StorageErrorKind, connect};

use crate::support::s3_server::{Effect, Fault, S3Server};
use crate::support::stored::{get, key, pattern, put};

async fn start() -> (S3Server, Arc<dyn Storage>) {
    let server = S3Server::start();
    let storage = connect(&server.options("faults")).await.expect("usable options");
    (server, storage)
}

async fn impatient(options: &mut ConnectOptions, total: Duration) -> Arc<dyn Storage> {
    options.s3.idle_timeout = Duration::from_millis(300);
    options.deadline = Deadline::after(total);
    connect(options).await.expect("usable options")
}

/// S10
#[tokio::test(flavor = "multi_thread")]
async fn what_may_get_better_is_tried_again() {
    let (server, storage) = start().await;
    for status in [408, 429, 500, 502, 503, 504] {
        let name = format!("a{status}");
        server.inject(Fault::once("PUT", &name, Effect::Refuse { status, code: "Whatever" }));
        server.inject(Fault::once("GET", &name, Effect::Page { status }));
        put(&storage, &name, b"content").await.expect("stored at the second attempt");
        get(&storage, &name, ByteRange::Full).await.expect("read at the second attempt");
        assert_eq!((server.count("PUT", &name), server.count("GET", &name)), (2, 2), "{status}");
    }
}

/// S10
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_get_better_is_asked_once() {
    let (server, storage) = start().await;
    put(&storage, "a", b"content").await.expect("stored");
    for status in [400, 401, 403, 404, 412, 501] {
        let before = server.requests().len();
        server.inject(Fault::once("*", "a", Effect::Refuse { status, code: "Whatever" }));
        get(&storage, "a", ByteRange::Full).await.expect_err("an error answer");
        server.inject(Fault::once("*", "a", Effect::Refuse { status, code: "Whatever" }));
        put(&storage, "a", b"content").await.expect_err("an error answer");
        assert_eq!(server.requests().len() - before, 2, "{status}");
    }
}

/// S10
#[tokio::test(flavor = "multi_thread")]
async fn expired_credentials_are_refreshed_once() {
    let (server, storage) = start().await;
    put(&storage, "a", b"content").await.expect("stored");
    let expired = Effect::Refuse { status: 400, code: "ExpiredToken" };
    server.inject(Fault::once("GET", "a", expired.clone()));
    get(&storage, "a", ByteRange::Full).await.expect("read with new credentials");

    server.inject(Fault::always("GET", "a", expired));
    let error = get(&storage, "a", ByteRange::Full).await.expect_err("they stay expired");
    assert_eq!(error.kind(), StorageErrorKind::Denied, "{error}");
    assert_eq!(server.count("GET", "a"), 4);
}

/// S10
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_the_store_asks_for_is_kept() {
    let (server, storage) = start().await;
    put(&storage, "a", b"content").await.expect("stored");
    server.inject(Fault::once("GET", "a", Effect::Throttle { seconds: 2 }));
    let begin = Instant::now();
    get(&storage, "a", ByteRange::Full).await.expect("read after the pause");
    assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
}

/// S10
#[tokio::test(flavor = "multi_thread")]
async fn silence_counts_as_a_broken_connection() {
    let server = S3Server::start();
    let storage = impatient(&mut server.options("faults"), Duration::from_mins(1)).await;
    server.inject(Fault::once("PUT", "a", Effect::Stall));
    put(&storage, "a", b"content").await.expect("stored at the second attempt");
    server.inject(Fault::once("GET", "a", Effect::Stall));
    get(&storage, "a", ByteRange::Full).await.expect("read at the second attempt");
    server.inject(Fault::once("HEAD", "a", Effect::Stall));
    storage.head(&key("a")).await.expect("answered at the second attempt");
}

/// S10, W8
#[tokio::test(flavor = "multi_thread")]
async fn one_deadline_ends_everything() {
    for effect in [
        Effect::Stall,
        Effect::BreakBefore,
        Effect::Refuse { status: 503, code: "SlowDown" },
        Effect::Throttle { seconds: 3600 },
    ] {
        let server = S3Server::start();
        server.inject(Fault::always("*", "", effect));
        let storage = impatient(&mut server.options("faults"), Duration::from_secs(1)).await;
        // The reads begin when the deadline has long passed, and are still answered with an error.
        let failed = put(&storage, "a", b"content").await.expect_err("no answer in time");
        assert_eq!(failed.kind(), StorageErrorKind::Unavailable, "{failed}");
        let failed = get(&storage, "a", ByteRange::Full).await.expect_err("no answer in time");
        assert_eq!(failed.kind(), StorageErrorKind::Unavailable, "{failed}");
    }
}

/// S10, W8
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_never_goes_on_ends_at_the_deadline() {
    let server = S3Server::start();
    let patient = connect(&server.options("faults")).await.expect("usable options");
    put(&patient, "a", &pattern(3_000_000)).await.expect("stored");
    let storage = impatient(&mut server.options("faults"), Duration::from_secs(2)).await;
    server.inject(Fault::always("GET", "a", Effect::StallBody { after: 0 }));
    let failed = get(&storage, "a", ByteRange::Full).await.expect_err("no byte in time");
    assert_eq!(failed.kind(), StorageErrorKind::Unavailable, "{failed}");
}

/// S10
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_unavailable() {
    let server = S3Server::start();
    let mut options = server.options("faults");
    drop(server);
    let storage = impatient(&mut options, Duration::from_secs(1)).await;
    let failed = get(&storage, "a", ByteRange::Full).await.expect_err("nobody listens");
    assert_eq!(failed.kind(), StorageErrorKind::Unavailable, "{failed}");
}

/// S10: a slow upload moves, so it is not silence, however long the whole takes.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_slow_but_moves_is_waited_for() {
    let listener = tokio::net::TcpSocket::new_v4().expect("sockets can be made");
    listener.set_recv_buffer_size(64 << 10).expect("a small buffer, so that the sender waits");
    listener.bind("127.0.0.1:0".parse().expect("an address")).expect("loopback is there");
    let listener = listener.listen(8).expect("loopback is there");
    let address = listener.local_addr().expect("it is bound");
    let server = S3Server::start();
    let mut options = server.options("faults");
    options.s3.endpoint = Some(format!("http://{address}"));
    options.s3.idle_timeout = Duration::from_secs(2);
    let storage = connect(&options).await.expect("usable options");

    let body = pattern(16 << 20);
    let (stored, ()) = tokio::join!(put(&storage, "a", &body), refuse_slowly(listener, body.len()));
    let answer = stored.expect_err("the answer is a refusal");
    assert_eq!(answer.kind(), StorageErrorKind::Denied, "it was heard: {answer:?}");
}

/// Takes one request, over more than the client's patience with silence, and refuses it at the end.
async fn refuse_slowly(listener: tokio::net::TcpListener, body_bytes: usize) {
    let (mut socket, _) = listener.accept().await.expect("a client comes");
    let (mut taken, mut buffer) = (0, vec![0; 64 << 10]);
    while taken < body_bytes {
        taken += socket.read(&mut buffer).await.expect("the client sends");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    socket.write_all(refusal.as_bytes()).await.expect("the client waits");
}

/// K2
#[tokio::test(flavor = "multi_thread")]
async fn no_text_about_a_store_holds_its_secret() {
    let (server, storage) = start().await;
    server.inject(Fault::always(
        "*",
        "",
        Effect::Refuse { status: 403, code: "SignatureDoesNotMatch" },
    ));
    let error = get(&storage, "a", ByteRange::Full).await.expect_err("refused");
    let texts = [
        format!("{:?}", server.options("faults")),
        format!("{storage} {storage:?}"),
        format!("{error:?}"),
        walrs::error::Error::from(error).report(),
    ];
    assert!(texts.iter().all(|text| !text.contains(server.secret_key)), "{texts:?}");
}
