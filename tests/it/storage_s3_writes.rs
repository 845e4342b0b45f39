//! The S3 driver when storing goes wrong: S2 to S5 and S9 on a server that misbehaves.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use walrs::storage::{Body, ByteRange, PutMode, SingleWriter, Storage, StorageErrorKind, connect};

use crate::support::s3_server::{Effect, Fault, S3Server};
use crate::support::stored::{get, key, keys, pattern, put};

async fn start() -> (S3Server, Arc<dyn Storage>) {
    let server = S3Server::start();
    let storage = connect(&server.options("faults")).await.expect("usable options");
    (server, storage)
}

/// A body that arrives in pieces and needs three parts.
fn streamed(content: &[u8]) -> Body {
    let content = Bytes::copy_from_slice(content);
    Body::source(move || {
        let pieces: Vec<_> = content.chunks(1_000_000).map(Bytes::copy_from_slice).collect();
        futures::stream::iter(pieces.into_iter().map(Ok)).boxed()
    })
}

const THREE_PARTS: usize = (12 << 20) + 1000;

/// S2
#[tokio::test(flavor = "multi_thread")]
async fn a_success_without_proof_is_confirmed_by_size() {
    let (server, storage) = start().await;
    server.inject(Fault::once("PUT", "a", Effect::without_header("x-amz-checksum-crc32c")));
    put(&storage, "a", b"content").await.expect("stored");
    assert_eq!((server.count("PUT", "a"), server.count("HEAD", "a")), (1, 1));
}

/// S2
#[tokio::test(flavor = "multi_thread")]
async fn a_success_that_proves_itself_needs_one_request() {
    let (server, storage) = start().await;
    put(&storage, "a", b"content").await.expect("stored");
    assert_eq!(server.requests().len(), 1, "{:?}", server.requests());
}

/// S2
#[tokio::test(flavor = "multi_thread")]
async fn a_success_with_another_checksum_is_an_error() {
    let (server, storage) = start().await;
    server.inject(Fault::once(
        "PUT",
        "a",
        Effect::with_header("x-amz-checksum-crc32c", "AAAAAA=="),
    ));
    let error = put(&storage, "a", b"content").await.expect_err("something else was stored");
    assert_eq!(error.kind(), StorageErrorKind::Damaged, "{error}");
}

/// S2
#[tokio::test(flavor = "multi_thread")]
async fn a_success_after_which_nothing_is_there_is_tried_again() {
    let (server, storage) = start().await;
    server.inject(Fault::once("PUT", "a", Effect::EmptySuccess));
    put(&storage, "a", b"content").await.expect("stored at the second attempt");
    assert_eq!(get(&storage, "a", ByteRange::Full).await.expect("there"), "content");
}

/// S3
#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_a_success_is_an_error() {
    let (server, storage) = start().await;
    server.inject(Fault::once("PUT", "faults/a", Effect::ErrorInSuccess { code: "InternalError" }));
    put(&storage, "a", b"content").await.expect("stored at the second attempt");

    server.inject(Fault::once("POST", "delete", Effect::ErrorInSuccess { code: "InternalError" }));
    storage.delete(&[key("a")]).await.expect("deleted at the second attempt");
    assert_eq!(keys(&storage, "", None).await, [""; 0]);

    server.inject(Fault::once("POST", "delete", Effect::ErrorInSuccess { code: "AccessDenied" }));
    let denied = storage.delete(&[key("a")]).await.expect_err("refused");
    assert_eq!(denied.kind(), StorageErrorKind::Denied, "{denied}");
}

/// S3
#[tokio::test(flavor = "multi_thread")]
async fn the_last_request_of_an_upload_must_really_succeed() {
    for effect in [Effect::ErrorInSuccess { code: "InternalError" }, Effect::EmptySuccess] {
        let (server, storage) = start().await;
        server.inject(Fault::once("POST", "uploadId=", effect));
        let content = pattern(THREE_PARTS);
        storage.put(&key("a"), streamed(&content), PutMode::Create).await.expect("stored");
        assert_eq!(server.count("POST", "uploadId="), 2);
        assert!(get(&storage, "a", ByteRange::Full).await.expect("there") == content);
    }
}

/// S3
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_the_answer_does_not_mention_did_not_happen() {
    let (server, storage) = start().await;
    put(&storage, "a", b"content").await.expect("stored");
    server.inject(Fault::once("POST", "delete", Effect::EmptySuccess));
    storage.delete(&[key("a"), key("b")]).await.expect("deleted at the second attempt");
    assert_eq!(server.count("POST", "delete"), 2);
    assert_eq!(keys(&storage, "", None).await, [""; 0]);
}

/// S3
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_a_batch_could_not_delete_is_an_error_that_names_it() {
    let (server, storage) = start().await;
    let answer = "<DeleteResult><Error><Key>faults/b</Key><Code>AccessDenied</Code>\
                  <Message>kept</Message></Error></DeleteResult>";
    server.inject(Fault::once("POST", "delete", Effect::with_body(answer)));
    let error = storage.delete(&[key("a"), key("b")]).await.expect_err("one is kept");
    assert_eq!(error.kind(), StorageErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("faults/b"), "{error}");
}

/// S4
#[tokio::test(flavor = "multi_thread")]
async fn a_taken_name_is_told_at_once_and_a_conflict_is_tried_again() {
    let (server, storage) = start().await;
    let conflict = Effect::Refuse { status: 409, code: "ConditionalRequestConflict" };
    server.inject(Fault::once("PUT", "a", conflict));
    put(&storage, "a", b"content").await.expect("stored at the second attempt");
    let refused = put(&storage, "a", b"content").await.expect_err("the name is taken");
    assert!(refused.is_already_exists(), "{refused}");
    assert_eq!((server.count("PUT", "a"), server.count("GET", "a")), (3, 0));
}

/// S4
#[tokio::test(flavor = "multi_thread")]
async fn a_single_writer_looks_first_and_reads_back_after() {
    let (server, inner) = start().await;
    server.inject(Fault::always("PUT", "", Effect::IgnoreCondition));
    let storage: Arc<dyn Storage> = Arc::new(SingleWriter::new(inner));
    put(&storage, "a", b"first").await.expect("stored");
    let refused = put(&storage, "a", b"second").await.expect_err("the name is taken");
    assert!(refused.is_already_exists(), "{refused}");
    assert_eq!(get(&storage, "a", ByteRange::Full).await.expect("there"), "first");

    // The first GET is for the reason why HEAD found nothing.
    let read_back = Fault::once("GET", "faults/b", Effect::with_body("of another writer"));
    server.inject(read_back.sparing(1));
    let error = put(&storage, "b", b"mine").await.expect_err("another writer came between");
    assert_eq!(error.kind(), StorageErrorKind::Damaged, "{error}");

    let content = pattern(THREE_PARTS);
    storage.put(&key("c"), streamed(&content), PutMode::Create).await.expect("streams too");
}

/// S5
#[tokio::test(flavor = "multi_thread")]
async fn a_creation_whose_answer_is_lost_is_recognised_as_ours() {
    let (server, storage) = start().await;
    server.inject(Fault::once("PUT", "a", Effect::LoseAnswer));
    put(&storage, "a", b"content").await.expect("it was stored by the first attempt");
    assert_eq!((server.count("PUT", "a"), server.count("GET", "a")), (2, 1));

    server.inject(Fault::once("PUT", "b", Effect::with_status(500)));
    put(&storage, "b", b"content").await.expect("an error may come after the deed");
}

/// S5
#[tokio::test(flavor = "multi_thread")]
async fn a_creation_in_doubt_does_not_adopt_somebody_elses_object() {
    let (server, storage) = start().await;
    put(&storage, "a", b"theirs").await.expect("stored");
    for mine in ["mine", "their", "theirs and more"] {
        server.inject(Fault::once("PUT", "a", Effect::BreakBefore));
        let refused = put(&storage, "a", mine.as_bytes()).await.expect_err("the name is taken");
        assert!(refused.is_already_exists(), "{refused}");
    }
    assert_eq!(get(&storage, "a", ByteRange::Full).await.expect("there"), "theirs");
}

/// S5, S9
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_last_answer_is_lost_is_recognised_as_ours() {
    let (server, storage) = start().await;
    server.inject(Fault::once("POST", "uploadId=", Effect::LoseAnswer));
    let content = pattern(THREE_PARTS);
    storage.put(&key("a"), streamed(&content), PutMode::Create).await.expect("it was completed");
    assert!(get(&storage, "a", ByteRange::Full).await.expect("there") == content);
    assert_eq!(server.count("POST", "uploads"), 1, "nothing was sent twice");
}

/// S4, S9
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_to_a_taken_name_is_refused_and_aborted() {
    let (server, storage) = start().await;
    put(&storage, "a", b"theirs").await.expect("stored");
    let body = streamed(&pattern(THREE_PARTS));
    let refused = storage.put(&key("a"), body, PutMode::Create).await.expect_err("taken");
    assert!(refused.is_already_exists(), "{refused}");
    assert_eq!(get(&storage, "a", ByteRange::Full).await.expect("there"), "theirs");
    assert_eq!(server.unfinished_uploads(), 0);
}

/// S9
#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_fails_for_a_moment_is_sent_again_alone() {
    let (server, storage) = start().await;
    server.inject(Fault::once("PUT", "partNumber=2", Effect::BreakBefore));
    let content = pattern(THREE_PARTS);
    storage.put(&key("a"), streamed(&content), PutMode::Create).await.expect("stored");
    assert!(get(&storage, "a", ByteRange::Full).await.expect("there") == content);
    assert_eq!(server.count("PUT", "partNumber="), 4);
}

/// S9
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_fails_is_aborted() {
    let (server, storage) = start().await;
    let denied = Effect::Refuse { status: 403, code: "AccessDenied" };
    server.inject(Fault::always("PUT", "partNumber=2", denied));
    let body = streamed(&pattern(THREE_PARTS));
    let error = storage.put(&key("a"), body, PutMode::Create).await.expect_err("refused");
    assert_eq!(error.kind(), StorageErrorKind::Denied, "{error}");
    assert_eq!((server.count("DELETE", "uploadId="), server.unfinished_uploads()), (1, 0));
}

/// S9
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_dropped_is_aborted() {
    let (server, storage) = start().await;
    server.inject(Fault::always("PUT", "partNumber=2", Effect::Stall));
    let (name, body) = (key("a"), streamed(&pattern(THREE_PARTS)));
    tokio::select! {
        _ = storage.put(&name, body, PutMode::Create) => panic!("a part stalls"),
        () = until(|| server.count("PUT", "partNumber=2") == 1) => {}
    }
    until(|| server.unfinished_uploads() == 0).await;
    assert_eq!(server.count("DELETE", "uploadId="), 1);
}

/// S9
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_could_not_be_aborted_is_found_later() {
    let (server, storage) = start().await;
    server.inject(Fault::always(
        "PUT",
        "partNumber=",
        Effect::Refuse { status: 403, code: "AccessDenied" },
    ));
    server.inject(Fault::always(
        "DELETE",
        "",
        Effect::Refuse { status: 403, code: "AccessDenied" },
    ));
    let body = streamed(&pattern(THREE_PARTS));
    storage.put(&key("a"), body, PutMode::Create).await.expect_err("refused");
    assert_eq!(server.unfinished_uploads(), 1);

    server.forgive();
    // The server says that every upload was begun on the first day of 2026.
    let decade = Duration::from_hours(24 * 3650);
    assert_eq!(storage.remove_leftovers(decade).await.expect("listed"), 0);
    assert_eq!(storage.remove_leftovers(Duration::from_hours(24)).await.expect("listed"), 1);
    assert_eq!(server.unfinished_uploads(), 0);
}

/// Waits for something that will happen; the test runner's patience is the limit.
async fn until(happened: impl Fn() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_mins(1);
    while !happened() {
        assert!(tokio::time::Instant::now() < limit, "it never happened");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
