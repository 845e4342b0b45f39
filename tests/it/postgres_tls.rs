//! TLS to real servers in every `sslmode`, with certificates made by OpenSSL as administrators do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use walrs::postgres::{ConnectionSettings, RootCertificates, Session, SslMode};

use crate::postgres_session::settings;
use crate::support::cluster::Cluster;
use crate::support::installation::Major;
use crate::support::program::Finished;
use crate::support::user::ServerUser;

const TLS_ONLY: &str = "hostssl all all 127.0.0.1/32 trust\n";
const PLAIN_ONLY: &str = "hostnossl all all 127.0.0.1/32 trust\n";
const EITHER: &str = "host all all 127.0.0.1/32 trust\n";

/// Certificates in a directory: `root.crt` signed `server.crt` for `localhost` only; `other.crt` signed nothing.
struct Certificates(PathBuf);

impl Certificates {
    fn issue(cluster: &Cluster) -> Self {
        let directory = cluster.scratch().create_directory("certificates");
        for name in ["root", "other"] {
            let subject = format!("/CN={name}");
            openssl(
                &directory,
                &["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"],
                |command| {
                    command.args(["-subj", &subject, "-keyout", &format!("{name}.key")]);
                    command.args(["-out", &format!("{name}.crt")]);
                },
            );
        }
        openssl(&directory, &["req", "-new", "-newkey", "rsa:2048", "-nodes"], |command| {
            command.args(["-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr"]);
        });
        fs::write(directory.join("server.ext"), "subjectAltName = DNS:localhost\n").unwrap();
        openssl(&directory, &["x509", "-req", "-in", "server.csr", "-days", "2"], |command| {
            command.args(["-CA", "root.crt", "-CAkey", "root.key", "-CAcreateserial"]);
            command.args(["-extfile", "server.ext", "-out", "server.crt"]);
        });
        ServerUser::get().own_tree(&directory);
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

fn openssl(directory: &Path, arguments: &[&str], more: impl FnOnce(&mut Command)) {
    let mut command = Command::new("openssl");
    command.args(arguments).current_dir(directory);
    more(&mut command);
    Finished::run(&mut command).expect_success();
}

struct TlsServer {
    cluster: Cluster,
    certificates: Certificates,
}

impl TlsServer {
    /// A server with the certificate `name` (and its key) that lets TCP connections in by `rule`.
    fn start(name: &str, rule: &str) -> Self {
        let mut cluster = Cluster::builder(Major::V15).create();
        let certificates = Certificates::issue(&cluster);
        let path = |suffix| certificates.path(&format!("{name}.{suffix}")).display().to_string();
        cluster.set("ssl", "on");
        cluster.set("ssl_cert_file", &path("crt"));
        cluster.set("ssl_key_file", &path("key"));
        let rules = format!("local all all trust\n{rule}");
        fs::write(cluster.data().join("pg_hba.conf"), rules).unwrap();
        cluster.start();
        Self { cluster, certificates }
    }

    fn settings(&self, host: &str, ssl_mode: SslMode, roots: Option<&str>) -> ConnectionSettings {
        ConnectionSettings {
            host: Some(host.to_owned()),
            ssl_mode,
            root_certificates: roots
                .map(|name| RootCertificates::File(self.certificates.path(name))),
            ..settings(&self.cluster)
        }
    }

    /// Whether the connection that these settings make uses TLS, or why there is none.
    async fn uses_tls(&self, settings: &ConnectionSettings) -> Result<bool, String> {
        let session = Session::connect(settings).await.map_err(|error| error.report())?;
        let sql = "select ssl from pg_stat_ssl join pg_stat_activity using (pid) \
                   where application_name = 'walrs test'";
        let answer = self.cluster.psql(sql);
        drop(session);
        let gone = "select count(*) from pg_stat_activity where application_name = 'walrs test'";
        while self.cluster.psql(gone) != "0" {
            // The dropped session ends when the runtime gets to it.
            tokio::task::yield_now().await;
        }
        Ok(answer == "t")
    }

    async fn in_mode(&self, mode: SslMode) -> Result<bool, String> {
        self.uses_tls(&self.settings("127.0.0.1", mode, None)).await
    }
}

#[tokio::test]
async fn tls_is_used_when_the_mode_wants_it() {
    let server = TlsServer::start("server", EITHER);
    assert_eq!(server.in_mode(SslMode::Disable).await, Ok(false));
    assert_eq!(server.in_mode(SslMode::Allow).await, Ok(false));
    assert_eq!(server.in_mode(SslMode::Prefer).await, Ok(true));
    assert_eq!(server.in_mode(SslMode::Require).await, Ok(true));
}

#[tokio::test]
async fn a_server_that_insists_on_tls_gets_it() {
    let server = TlsServer::start("server", TLS_ONLY);
    assert!(server.in_mode(SslMode::Disable).await.unwrap_err().contains("no encryption"));
    assert_eq!(server.in_mode(SslMode::Allow).await, Ok(true));
    assert_eq!(server.in_mode(SslMode::Prefer).await, Ok(true));
}

#[tokio::test]
async fn a_server_that_refuses_tls_is_reached_without_unless_tls_is_required() {
    let server = TlsServer::start("server", PLAIN_ONLY);
    assert_eq!(server.in_mode(SslMode::Prefer).await, Ok(false));
    assert!(server.in_mode(SslMode::Require).await.is_err());
}

#[tokio::test]
async fn a_server_without_tls_is_refused_when_tls_is_required() {
    let cluster = Cluster::builder(Major::V15).start();
    let host = Some("127.0.0.1".to_owned());
    let with = |host, ssl_mode| ConnectionSettings { host, ssl_mode, ..settings(&cluster) };
    assert!(Session::connect(&with(host.clone(), SslMode::Require)).await.is_err());
    assert!(Session::connect(&with(host, SslMode::Prefer)).await.is_ok());
    // As in libpq, a socket never uses TLS and never misses it.
    let socket = cluster.sockets().to_str().map(str::to_owned);
    assert!(Session::connect(&with(socket, SslMode::Require)).await.is_ok());
}

#[tokio::test]
async fn the_authority_is_proven_from_verify_ca_on_and_the_name_by_verify_full() {
    let server = TlsServer::start("server", TLS_ONLY);
    let tls = |host, mode, roots| {
        let settings = server.settings(host, mode, roots);
        let server = &server;
        async move { server.uses_tls(&settings).await }
    };
    assert_eq!(tls("127.0.0.1", SslMode::VerifyCa, Some("root.crt")).await, Ok(true));
    assert_eq!(tls("localhost", SslMode::VerifyFull, Some("root.crt")).await, Ok(true));
    let wrong_name = tls("127.0.0.1", SslMode::VerifyFull, Some("root.crt")).await.unwrap_err();
    assert!(wrong_name.contains("not valid for name"), "{wrong_name}");
    for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        let foreign = tls("localhost", mode, Some("other.crt")).await.unwrap_err();
        assert!(foreign.contains("UnknownIssuer"), "{mode}: {foreign}");
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_by_those_who_have_it_as_root() {
    let server = TlsServer::start("root", TLS_ONLY);
    let trusted = server.settings("localhost", SslMode::VerifyCa, Some("root.crt"));
    assert_eq!(server.uses_tls(&trusted).await, Ok(true));
    let not_for_the_name = server.settings("localhost", SslMode::VerifyFull, Some("root.crt"));
    assert!(server.uses_tls(&not_for_the_name).await.is_err());
    let foreign = server.settings("localhost", SslMode::VerifyCa, Some("other.crt"));
    assert!(server.uses_tls(&foreign).await.is_err());
}

#[tokio::test]
async fn proofs_that_cannot_be_had_are_refused_before_connecting() {
    let cluster = Cluster::builder(Major::V15).create();
    let with = |ssl_mode, root_certificates| ConnectionSettings {
        ssl_mode,
        root_certificates,
        ..settings(&cluster)
    };
    let refused = |settings| async move { Session::connect(&settings).await.unwrap_err().report() };
    let without_roots = refused(with(SslMode::VerifyFull, None)).await;
    assert!(without_roots.contains("needs root certificates"), "{without_roots}");
    let weak = refused(with(SslMode::Require, Some(RootCertificates::System))).await;
    assert!(weak.contains("sslrootcert=system"), "{weak}");
    let absent = Some(RootCertificates::File(cluster.scratch().join("absent.crt")));
    let absent = refused(with(SslMode::VerifyCa, absent)).await;
    assert!(absent.contains("absent.crt"), "{absent}");
}
