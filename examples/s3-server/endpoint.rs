//! The store over TLS, on a loopback port.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::Outcome;
use crate::connection;
use crate::gateway::Gateway;

const ACCESS_KEY: &str = "AKWALRSBENCH";
const SECRET_KEY: &str = "not-much-of-a-secret";

/// A bound endpoint.
pub(crate) struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    gateway: Arc<Gateway>,
}

impl Endpoint {
    /// Binds a free port for the buckets in `directory`.
    pub(crate) async fn bind(directory: &Path, certificate: &Path, key: &Path) -> Outcome<Self> {
        let store = s3s_fs::FileSystem::new(directory).map_err(|error| format!("{error:?}"))?;
        let mut service = S3ServiceBuilder::new(store);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let gateway = Arc::new(Gateway::new(service.build(), directory.join("bench")));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, acceptor) = (listener.local_addr()?, acceptor(certificate, key)?);
        Ok(Self { listener, address, acceptor, gateway })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves connections until the listener fails.
    pub(crate) async fn serve(self) -> Outcome<()> {
        let mut connections = JoinSet::new();
        loop {
            let (socket, _) = self.listener.accept().await?;
            socket.set_nodelay(true)?;
            let (acceptor, gateway) = (self.acceptor.clone(), Arc::clone(&self.gateway));
            connections.spawn(serve_one(socket, acceptor, gateway));
            while connections.try_join_next().is_some() {}
        }
    }
}

/// A client that breaks off its handshake is its own affair.
async fn serve_one(socket: TcpStream, acceptor: TlsAcceptor, gateway: Arc<Gateway>) {
    if let Ok(stream) = acceptor.accept(socket).await {
        connection::serve(TokioIo::new(stream), gateway).await;
    }
}

fn acceptor(certificate: &Path, key: &Path) -> Outcome<TlsAcceptor> {
    let chain = vec![CertificateDer::from_pem_file(certificate)?];
    let key = PrivateKeyDer::from_pem_file(key)?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
