//! TLS as libpq's `sslmode` means it, by rustls.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::settings::{ConnectionSettings, RootCertificates, SslMode};
use crate::error::{Error, Result};
use crate::task;

/// What the server's certificate must prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// Nothing: TLS against listeners only.
    None,
    /// That a trusted authority issued it.
    Authority,
    /// That a trusted authority issued it for the host's name.
    HostName,
}

/// The connector for `settings`; used only where its mode allows TLS.
pub(super) async fn connector(settings: &ConnectionSettings) -> Result<MakeRustlsConnect> {
    let proof = proof(settings)?;
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match (proof, &settings.root_certificates) {
        (Proof::None, _) => Arc::new(Unverified { provider: Arc::clone(&provider) }),
        (_, None) => return Err(no_root_certificates(settings.ssl_mode)),
        (proof, Some(roots)) => {
            let roots = load_roots(roots).await?;
            Arc::new(Verified::new(roots, proof, Arc::clone(&provider))?)
        }
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn proof(settings: &ConnectionSettings) -> Result<Proof> {
    let mode = settings.ssl_mode;
    if settings.root_certificates == Some(RootCertificates::System) && mode != SslMode::VerifyFull {
        let what = format!("`sslrootcert=system` cannot be used with `sslmode={mode}`");
        return Err(Error::usage(what).hint("set `sslmode` to `verify-full`"));
    }
    Ok(match mode {
        SslMode::Disable | SslMode::Allow | SslMode::Prefer => Proof::None,
        SslMode::Require if settings.root_certificates.is_none() => Proof::None,
        SslMode::Require | SslMode::VerifyCa => Proof::Authority,
        SslMode::VerifyFull => Proof::HostName,
    })
}

fn no_root_certificates(mode: SslMode) -> Error {
    Error::usage(format!("`sslmode={mode}` needs root certificates, and none are given"))
        .hint("name a PEM file in `PGSSLROOTCERT`, or say `system` there")
}

async fn load_roots(source: &RootCertificates) -> Result<Vec<CertificateDer<'static>>> {
    match source {
        RootCertificates::File(path) => read_roots(path).await,
        RootCertificates::System => {
            let load = || Ok(rustls_native_certs::load_native_certs().certs);
            task::blocking(load).await
        }
    }
}

async fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let what = || format!("cannot use the root certificates in `{}`", path.display());
    let content = tokio::fs::read(path)
        .await
        .map_err(|error| Error::usage(what()).because(error).hint(NO_FILE_HINT))?;
    let roots: Vec<_> = CertificateDer::pem_slice_iter(&content)
        .collect::<Result<_, _>>()
        .map_err(|error| Error::usage(what()).because(error))?;
    if roots.is_empty() {
        return Err(Error::usage(what()).because("no certificate is in it"));
    }
    Ok(roots)
}

const NO_FILE_HINT: &str = "provide the file, say `system` in `PGSSLROOTCERT`, or change `sslmode`";

/// Accepts every certificate, as libpq does below `verify-ca`; the handshake itself is still checked.
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Accepts certificates of trusted authorities, and a trusted certificate itself.
#[derive(Debug)]
struct Verified {
    authorities: Arc<WebPkiServerVerifier>,
    roots: Vec<CertificateDer<'static>>,
    proof: Proof,
}

impl Verified {
    fn new(
        roots: Vec<CertificateDer<'static>>,
        proof: Proof,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
            .build()
            .map_err(|error| Error::usage("cannot use the root certificates").because(error))?;
        Ok(Self { authorities, roots, proof })
    }

    /// The self-signed certificate of PostgreSQL's manual, copied to its clients as the root, is an authority's;
    /// OpenSSL trusts it as a server's too, webpki refuses just that, after it has checked the validity.
    fn is_trusted_itself(&self, certificate: &CertificateDer<'_>, error: &rustls::Error) -> bool {
        let is_role = matches!(
            error,
            rustls::Error::InvalidCertificate(
                CertificateError::Other(_) | CertificateError::UnknownIssuer
            )
        );
        is_role && self.roots.iter().any(|root| root == certificate)
    }

    fn check_name(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.proof == Proof::HostName {
            let certificate = ParsedCertificate::try_from(certificate)?;
            rustls::client::verify_server_name(&certificate, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for Verified {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authorities = &self.authorities;
        match authorities.verify_server_cert(certificate, intermediates, name, ocsp_response, now) {
            // The name is checked last, so everything else has been proven.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.proof == Proof::Authority => Ok(ServerCertVerified::assertion()),
            Err(error) if self.is_trusted_itself(certificate, &error) => {
                self.check_name(certificate, name)
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}
