//! The S3 driver when reading and listing goes wrong: S6 to S8 on a server that misbehaves.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use walrs::storage::{ByteRange, PutMode, Storage, StorageError, StorageErrorKind, connect};

use crate::support::s3_server::{Effect, Fault, S3Server};
use crate::support::stored::{get, key, keys, pattern, prefix, put};

async fn start() -> (S3Server, Arc<dyn Storage>) {
    let server = S3Server::start();
    let mut options = server.options("faults");
    options.s3.idle_timeout = Duration::from_millis(500);
    let storage = connect(&options).await.expect("usable options");
    (server, storage)
}

/// S6, S10
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_breaks_or_stalls_goes_on_where_it_stopped() {
    let (server, storage) = start().await;
    let content = pattern(3_000_000);
    put(&storage, "a", &content).await.expect("stored");
    for range in [ByteRange::Full, ByteRange::Span { offset: 0, length: 3_000_000 }] {
        server.inject(Fault::once("GET", "a", Effect::BreakBody { after: 1_000_000 }));
        server.inject(Fault::once("GET", "a", Effect::StallBody { after: 500_000 }));
        server.inject(Fault::once("GET", "a", Effect::Refuse { status: 503, code: "SlowDown" }));
        let before = server.count("GET", "a");
        let read = get(&storage, "a", range).await.expect("resumed");
        assert!(read == content, "the pieces do not fit");
        assert_eq!(server.count("GET", "a") - before, 4);
    }
}

/// S6
#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_read_never_mixes_two_objects() {
    let (server, storage) = start().await;
    put(&storage, "a", &pattern(3_000_000)).await.expect("stored");
    server.inject(Fault::once("GET", "a", Effect::BreakBody { after: 1_000_000 }));
    let mut stream = storage.get(&key("a"), ByteRange::Full).await.expect("opened");
    stream.next().await.expect("it begins").expect("with its first bytes");
    let other = Bytes::from(vec![7; 3_000_000]);
    storage.put(&key("a"), other.into(), PutMode::Overwrite).await.expect("replaced");
    let error = stream.try_collect::<Vec<_>>().await.expect_err("it is another object now");
    assert_eq!(error.kind(), StorageErrorKind::Damaged, "{error}");
}

/// S6
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_another_length_than_the_object_is_an_error() {
    let (server, storage) = start().await;
    put(&storage, "a", &pattern(100_000)).await.expect("stored");
    let span = ByteRange::Span { offset: 10, length: 50_000 };
    for (range, effect) in [
        (ByteRange::Full, Effect::Shorten { to: 99_999 }),
        (ByteRange::Full, Effect::Shorten { to: 0 }),
        (ByteRange::Full, Effect::Overlong { by: 1 }),
        (span, Effect::Shorten { to: 49_999 }),
        (span, Effect::Overlong { by: 1 }),
        (span, Effect::without_header("content-range")),
        (span, Effect::with_header("content-range", "bytes 0-49999/100000")),
        (span, Effect::with_header("content-range", "bytes 10-49999/49999")),
    ] {
        server.inject(Fault::once("GET", "a", effect));
        let error = get(&storage, "a", range).await.expect_err("it is not what was asked for");
        let lies = [StorageErrorKind::Damaged, StorageErrorKind::Invalid];
        assert!(lies.contains(&error.kind()), "{range:?}: {error:?}");
    }
    get(&storage, "a", span).await.expect("it was only the answers");
}

/// S6
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_of_a_whole_object_is_damage() {
    let (server, storage) = start().await;
    put(&storage, "a", &pattern(100_000)).await.expect("stored");
    for position in [0, 50_000, 99_999] {
        server.inject(Fault::once("GET", "a", Effect::Flip { position }));
        let error = get(&storage, "a", ByteRange::Full).await.expect_err("one bit differs");
        assert_eq!(error.kind(), StorageErrorKind::Damaged, "{error}");
    }
}

/// S7
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_breaks_goes_on_without_gap_or_repetition() {
    let (server, storage) = start().await;
    let names: Vec<_> = (0..1_100).map(|number| format!("n/{number:08}")).collect();
    let puts = names.iter().map(|name| put(&storage, name, b"x"));
    futures::stream::iter(puts).buffer_unordered(16).try_collect::<Vec<_>>().await.expect("stored");
    let failing = Effect::Refuse { status: 500, code: "InternalError" };
    server.inject(Fault::always("GET", "list-type", failing).sparing(1).times(1));
    server.inject(Fault::once("GET", "list-type", Effect::BreakBody { after: 1_000 }));
    server.inject(Fault::once("GET", "list-type", Effect::with_body("<ListBucketRe")));
    assert_eq!(keys(&storage, "n/", None).await, names);
}

/// S7
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_is_not_complete_and_in_order_is_an_error() {
    for (page, reason) in [
        (listing(&["faults/a"], "<IsTruncated>true</IsTruncated>"), "not how to get it"),
        (listing(&["faults/b", "faults/a"], ""), "out of order"),
        (listing(&["faults/a", "faults/a"], ""), "out of order"),
        (listing(&["fault"], ""), "outside"),
        (listing(&["faults/a"], "<KeyCount>2</KeyCount>"), "number of objects"),
    ] {
        let (server, storage) = start().await;
        server.inject(Fault::once("GET", "list-type", Effect::with_body(&page)));
        let error = list(&storage).await.expect_err(reason);
        assert_eq!(error.kind(), StorageErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

/// S3, S7: an answer that says nothing does not say that there is nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_does_not_state_its_end_is_not_the_end() {
    let (server, storage) = start().await;
    put(&storage, "a", b"content").await.expect("stored");
    server.inject(Fault::once("GET", "list-type", Effect::EmptySuccess));
    server.inject(Fault::once("GET", "list-type", Effect::ErrorInSuccess { code: "SlowDown" }));
    server.inject(Fault::once("GET", "list-type", Effect::Page { status: 200 }));
    assert_eq!(keys(&storage, "", None).await, ["a"]);
    server.inject(Fault::once("GET", "list-type", Effect::with_body(&listing(&[], ""))));
    let error = list(&storage).await.expect_err("it is not said to be complete");
    assert_eq!(error.kind(), StorageErrorKind::Invalid, "{error}");
}

/// S7
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_continuation_token_is_an_error() {
    let (server, storage) = start().await;
    let more =
        "<IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken>";
    server.inject(Fault::always("GET", "list-type", Effect::with_body(&listing(&[], more))));
    let error = list(&storage).await.expect_err("it would never end");
    assert_eq!(error.kind(), StorageErrorKind::Invalid, "{error}");
    assert_eq!(server.count("GET", "list-type"), 2);
}

/// S8
#[tokio::test(flavor = "multi_thread")]
async fn only_the_stores_own_word_is_absence() {
    let (server, storage) = start().await;
    for (effect, kind) in [
        (Effect::Page { status: 404 }, StorageErrorKind::Invalid),
        (Effect::Refuse { status: 404, code: "NoSuchBucket" }, StorageErrorKind::Invalid),
        (Effect::Refuse { status: 404, code: "NotFound" }, StorageErrorKind::Invalid),
        (Effect::Refuse { status: 403, code: "AccessDenied" }, StorageErrorKind::Denied),
        (Effect::Refuse { status: 401, code: "Unauthorized" }, StorageErrorKind::Denied),
        (Effect::Refuse { status: 404, code: "NoSuchKey" }, StorageErrorKind::NotFound),
    ] {
        server.forgive();
        server.inject(Fault::always("*", "", effect));
        let read = get(&storage, "a", ByteRange::Full).await.expect_err("an error answer");
        assert_eq!(read.kind(), kind, "{read}");
        let asked = storage.head(&key("a")).await.expect_err("an error answer");
        assert_eq!(asked.kind(), kind, "{asked}");
    }
}

/// S8
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_is_an_error_for_every_operation() {
    let server = S3Server::start();
    let mut options = server.options("faults");
    options.url = "s3://no-such-bucket/faults".parse().expect("a valid URL");
    let storage = connect(&options).await.expect("usable options");
    let errors = [
        get(&storage, "a", ByteRange::Full).await.expect_err("no bucket"),
        storage.head(&key("a")).await.expect_err("no bucket"),
        list(&storage).await.expect_err("no bucket"),
        put(&storage, "a", b"x").await.expect_err("no bucket"),
        storage.delete(&[key("a")]).await.expect_err("no bucket"),
        storage.now().await.expect_err("no bucket"),
    ];
    for error in errors {
        assert_eq!(error.kind(), StorageErrorKind::Invalid, "{error:?}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("bucket")), "{error:?}");
    }
}

/// S8
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_answers_a_head_request_proves_nothing() {
    let (server, storage) = start().await;
    put(&storage, "a", b"content").await.expect("stored");
    server.inject(Fault::once("HEAD", "a", Effect::Page { status: 404 }));
    assert_eq!(storage.head(&key("a")).await.expect("it is there").size, 7);
}

/// S8
#[tokio::test(flavor = "multi_thread")]
async fn an_error_answer_names_the_object_the_code_and_what_to_do() {
    let (server, storage) = start().await;
    server.inject(Fault::once("GET", "a", Effect::Refuse { status: 403, code: "AccessDenied" }));
    let error = get(&storage, "a", ByteRange::Full).await.expect_err("denied");
    let report = walrs::error::Error::from(error).report();
    for part in ["`s3://walrs-test/faults/a`", "AccessDenied", "HTTP 403", "s3:ListBucket"] {
        assert!(report.contains(part), "`{part}` in {report}");
    }
}

async fn list(storage: &Arc<dyn Storage>) -> Result<usize, StorageError> {
    Ok(storage.list(&prefix(""), None).try_collect::<Vec<_>>().await?.len())
}

fn listing(names: &[&str], more: &str) -> String {
    let mut document = "<ListBucketResult><Name>walrs-test</Name>".to_owned();
    for name in names {
        write!(
            document,
            "<Contents><Key>{name}</Key><Size>1</Size>\
             <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        )
        .expect("a string takes everything");
    }
    document + more + "</ListBucketResult>"
}
