//! The S3 driver's options, as far as a server can tell that they arrived.

use std::sync::Arc;

use walrs::error::ErrorKind;
use walrs::storage::{
    ByteRange, ConnectOptions, StaticCredentials, Storage, StorageErrorKind, connect,
};

use crate::support::s3_server::S3Server;
use crate::support::scratch::Scratch;
use crate::support::stored::{get, put};
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
