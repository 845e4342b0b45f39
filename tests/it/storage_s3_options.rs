//! The S3 driver's options, as far as a server can tell that they arrived.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use walrs::error::ErrorKind;
use walrs::storage::{
    Body, ByteRange, ConnectOptions, PutMode, StaticCredentials, Storage, StorageErrorKind, connect,
};

use crate::support::s3_server::S3Server;
use crate::support::scratch::Scratch;
use crate::support::stored::{get, key, pattern, put};
use crate::support::tls::TlsFront;

async fn connected(options: &ConnectOptions) -> Arc<dyn Storage> {
    connect(options).await.expect("usable options")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_trusted_by_the_certificate_file_alone() {
    let server = S3Server::start();
    let front = TlsFront::before(server.endpoint()).await;
    let mut options = server.options("tls");
    options.s3.endpoint = Some(front.endpoint());
    let error = put(&connected(&options).await, "a", b"content").await.expect_err("unknown");
    assert_eq!(error.kind(), StorageErrorKind::Invalid, "{error:?}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("s3.ca_file")), "{error:?}");

    options.s3.ca_file = Some(front.certificate());
    let storage = connected(&options).await;
    put(&storage, "a", b"content").await.expect("stored");
    assert_eq!(get(&storage, "a", ByteRange::Full).await.expect("there"), "content");

    let large = pattern(20 << 20);
    let streamed = Bytes::from(large.clone());
    let body = Body::source(move || futures::stream::iter([Ok(streamed.clone())]).boxed());
    storage.put(&key("b"), body, PutMode::Create).await.expect("stored in parts");
    assert!(get(&storage, "b", ByteRange::Full).await.expect("there") == large);
    let puts: Vec<_> =
        server.requests().into_iter().filter(|seen| seen.is("PUT", "tls/")).collect();
    assert!(puts.len() > 2, "one object and the parts of another");
    for put in puts {
        assert_eq!(put.header("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"));
        assert!(put.header("x-amz-checksum-crc32c").is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_objects_get_the_storage_class_and_the_encryption_that_are_asked_for() {
    let server = S3Server::start();
    let mut options = server.options("class");
    options.s3.storage_class = Some("REDUCED_REDUNDANCY".to_owned());
    options.s3.encryption = Some("aws:kms".parse().expect("a known method"));
    options.s3.kms_key_id = Some("key-1".to_owned());
    let storage = connected(&options).await;
    put(&storage, "a", b"content").await.expect("stored");
    let body = Body::source(|| futures::stream::iter([Ok(Bytes::from(vec![7; 20 << 20]))]).boxed());
    storage.put(&key("b"), body, PutMode::Create).await.expect("stored in parts");
    let creations = [("PUT", "class/a"), ("POST", "uploads")];
    for (method, part) in creations {
        let seen = server.requests().into_iter().find(|seen| seen.is(method, part)).expect(part);
        assert_eq!(seen.header("x-amz-storage-class"), Some("REDUCED_REDUNDANCY"));
        assert_eq!(seen.header("x-amz-server-side-encryption"), Some("aws:kms"));
        assert_eq!(seen.header("x-amz-server-side-encryption-aws-kms-key-id"), Some("key-1"));
    }
}

#[tokio::test]
async fn a_certificate_file_without_certificate_is_a_usage_error() {
    let (server, scratch) = (S3Server::start(), Scratch::new());
    let empty = scratch.write("empty.pem", "");
    let broken = scratch
        .write("broken.pem", "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n");
    for file in [empty, broken, scratch.join("absent.pem")] {
        let mut options = server.options("tls");
        options.s3.ca_file = Some(file.clone());
        let error = connect(&options).await.expect_err("unusable");
        assert_eq!(error.kind(), ErrorKind::Usage, "{error:?}");
        assert!(error.to_string().contains("s3.ca_file"), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_denied_at_once() {
    let server = S3Server::start();
    let mut options = server.options("denied");
    for credentials in [
        StaticCredentials::new(server.access_key, "another secret"),
        StaticCredentials::new("AKUNKNOWN", server.secret_key),
    ] {
        options.s3.credentials = Some(credentials);
        let before = server.requests().len();
        let error = put(&connected(&options).await, "a", b"content").await.expect_err("denied");
        assert_eq!(error.kind(), StorageErrorKind::Denied, "{error:?}");
        assert!(error.hint_text().is_some(), "{error:?}");
        assert_eq!(server.requests().len() - before, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_may_be_the_whole_bucket() {
    let server = S3Server::start();
    let mut options = server.options("");
    options.url = format!("s3://{}", server.bucket).parse().expect("a valid URL");
    let storage = connected(&options).await;
    put(&storage, "wal/a", b"content").await.expect("stored");
    assert!(server.object("wal/a").is_file());
    assert_eq!(crate::support::stored::keys(&storage, "", None).await, ["wal/a"]);
}
