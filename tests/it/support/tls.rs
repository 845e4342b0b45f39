//! TLS in front of a server that speaks plain HTTP, with a certificate that only its own file vouches for.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::program::Finished;
use super::scratch::Scratch;

/// An endpoint with TLS; dropped, it stops.
pub(crate) struct TlsFront {
    endpoint: String,
    certificate: PathBuf,
    _scratch: Scratch,
    _connections: JoinSet<()>,
}

impl TlsFront {
    /// Takes connections on a random loopback port and passes what they say to `endpoint` (`http://…`).
    pub(crate) async fn before(endpoint: &str) -> Self {
        let scratch = Scratch::new();
        let (certificate, key) = (scratch.join("certificate.pem"), scratch.join("key.pem"));
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ]);
        command.args([
            "-subj",
            "/CN=walrs test",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-days",
            "2",
        ]);
        command.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        Finished::run(&mut command).expect_success();

        let chain = vec![CertificateDer::from_pem_file(&certificate).expect("openssl wrote it")];
        let key = PrivateKeyDer::from_pem_file(&key).expect("openssl wrote it");
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
            .expect("a usable certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
        let address = listener.local_addr().expect("it is bound");
        let behind = endpoint.trim_start_matches("http://").to_owned();
        let mut connections = JoinSet::new();
        connections.spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), behind));
        let endpoint = format!("https://{address}");
        Self { endpoint, certificate, _scratch: scratch, _connections: connections }
    }

    /// `https://127.0.0.1:PORT`.
    pub(crate) fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// The certificate to trust.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.certificate.clone()
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, behind: String) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let (acceptor, behind) = (acceptor.clone(), behind.clone());
        connections.spawn(async move {
            // A client that refuses the certificate ends the handshake.
            let Ok(mut outside) = acceptor.accept(socket).await else { return };
            let mut inside = TcpStream::connect(behind).await.expect("the server listens");
            let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
        });
    }
}
