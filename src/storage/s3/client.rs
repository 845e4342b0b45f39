//! The SDK's client: credentials, region, TLS, and everything of its own that we switch off.

use std::path::Path;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{
    Builder, Credentials, IdentityCache, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::exchange::Watch;
use super::options::{Addressing, S3Options, StaticCredentials};
use crate::error::{Error, Result};

const FALLBACK_REGION: &str = "us-east-1";

/// A client with the settings of `options`; nothing is sent yet.
pub(super) async fn build(options: &S3Options) -> Result<Client> {
    let shared = shared(options).await?;
    let config = Builder::from(&shared)
        .force_path_style(addressing(options) == Addressing::Path)
        // Bodies lie in memory and carry our own CRC32C; streaming ones would be framed, which some servers store.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .interceptor(Watch);
    let config = match &options.endpoint {
        Some(endpoint) => config.endpoint_url(checked_endpoint(endpoint)?),
        None => config,
    };
    Ok(Client::from_conf(config.build()))
}

/// The same client with nothing remembered of its credentials.
pub(super) fn with_fresh_credentials(client: &Client) -> Client {
    let cache = IdentityCache::lazy().build();
    Client::from_conf(client.config().to_builder().identity_cache(cache).build())
}

async fn shared(options: &S3Options) -> Result<SdkConfig> {
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client(options.ca_file.as_deref())?)
        .region(region(options))
        // Retries, silence and deadlines are judged in one place, `storage/retry.rs` and `exchange.rs`; the SDK's
        // stalled-stream protection would also trip over a slow consumer of ours.
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(options.idle_timeout).build())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    let loader = match &options.credentials {
        Some(credentials) => loader.credentials_provider(provider(credentials)),
        None => loader,
    };
    Ok(loader.load().await)
}

/// Explicit, `AWS_REGION`, the profile, and then a default: asking an instance's metadata service for it costs
/// seconds where there is none.
fn region(options: &S3Options) -> RegionProviderChain {
    RegionProviderChain::first_try(options.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .or_else(Region::new(FALLBACK_REGION))
}

fn provider(credentials: &StaticCredentials) -> SharedCredentialsProvider {
    let StaticCredentials { access_key_id, secret_access_key } = credentials;
    let keys = Credentials::new(access_key_id, secret_access_key, None, None, "walrs options");
    SharedCredentialsProvider::new(keys)
}

fn addressing(options: &S3Options) -> Addressing {
    options.addressing.unwrap_or(match options.endpoint {
        Some(_) => Addressing::Path,
        None => Addressing::VirtualHost,
    })
}

fn checked_endpoint(endpoint: &str) -> Result<&str> {
    let server = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    match server {
        Some(server) if server.contains('@') => {
            Err(Error::usage("`s3.endpoint` must not contain credentials")
                .hint("credentials come from the standard chain"))
        }
        Some(server) if is_server(server) => Ok(endpoint.trim_end_matches('/')),
        _ => Err(Error::usage(format!("`s3.endpoint` is `{endpoint}`"))
            .hint("write `https://server` or `http://server:port`")),
    }
}

/// `host`, `host:port` or `[address]:port`, perhaps with a path behind it. The SDK would tell only when it sends.
fn is_server(text: &str) -> bool {
    let authority = text.split('/').next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, "443"),
    };
    let spelled = |byte: u8| byte.is_ascii_graphic() && !b"?#%\\\"<>{}|^`".contains(&byte);
    !host.is_empty() && text.bytes().all(spelled) && port.parse::<u16>().is_ok()
}

/// rustls with ring: from process start to the first byte it takes a sixth of what the SDK's default client does, and
/// one process starts per WAL segment.
fn http_client(ca_file: Option<&Path>) -> Result<SharedHttpClient> {
    let mut trusted = TrustStore::default();
    if let Some(file) = ca_file {
        trusted.add_pem_certificate(read_certificates(file)?);
    }
    let context = TlsContext::builder()
        .with_trust_store(trusted)
        .build()
        .map_err(|error| Error::usage("cannot set up TLS").because(error))?;
    let builder = aws_smithy_http_client::Builder::new();
    Ok(builder.tls_provider(Provider::rustls(CryptoMode::Ring)).tls_context(context).build_https())
}

/// The SDK takes a file without certificates for an empty list, and the failure shows only in a handshake.
fn read_certificates(file: &Path) -> Result<Vec<u8>> {
    let unusable = || format!("cannot use `s3.ca_file` `{}`", file.display());
    let pem = std::fs::read(file).map_err(|error| Error::usage(unusable()).because(error))?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() => Ok(pem),
        Ok(_) => Err(Error::usage(unusable()).hint("it holds no PEM certificate")),
        Err(error) => Err(Error::usage(unusable()).because(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_no_request_could_reach_is_a_usage_error() {
        for endpoint in [
            "https://s3.example.com",
            "http://127.0.0.1:9000/",
            "https://[::1]:443",
            "https://[::1]",
            "http://host/path",
        ] {
            checked_endpoint(endpoint).expect(endpoint);
        }
        for endpoint in [
            "",
            "s3.example.com",
            "ftp://host",
            "https://",
            "https://host:port",
            "https://a b",
            "http://k:s@host",
        ] {
            let error = checked_endpoint(endpoint).expect_err(endpoint);
            assert_eq!(error.kind(), crate::error::ErrorKind::Usage, "{endpoint}");
        }
    }
}
