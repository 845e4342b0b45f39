//! What an answer of the store means: by its code where it has one, else by its status.

use std::error::Error as StdError;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{BoxError, ConnectorError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

use crate::storage::{StorageError, StorageErrorKind};

/// A failure to do `what`, which names the operation and the object.
pub(super) fn of<E>(what: String, error: SdkError<E, HttpResponse>) -> StorageError
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    match Answer::read(&error) {
        Some(answer) => answer.into_failure(what),
        None => unanswered(what, error),
    }
}

/// Whether the answer says that the credentials have run out, so that new ones may help.
pub(super) fn says_expired<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    matches!(code, Some("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired"))
}

/// An error answer of the store, or of something in between that took its place.
struct Answer {
    status: u16,
    code: Option<String>,
    message: Option<String>,
    retry_after: Option<Duration>,
    /// The region in which the bucket lies, when the request went to another one.
    region: Option<String>,
}

impl Answer {
    fn read<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<Self> {
        let raw = error.raw_response()?;
        let described = error.as_service_error().map(ProvideErrorMetadata::meta);
        let text = |text: &str| text.to_owned();
        Some(Self {
            status: raw.status().as_u16(),
            code: described.and_then(|described| described.code()).map(text),
            message: described.and_then(|described| described.message()).map(text),
            retry_after: raw.headers().get("retry-after").and_then(pause),
            region: raw.headers().get("x-amz-bucket-region").map(text),
        })
    }

    fn into_failure(self, what: String) -> StorageError {
        let mut failure = StorageError::new(self.meaning(), what).because(self.said());
        if let Some(hint) = self.remedy() {
            failure = failure.hint(hint);
        }
        match self.retry_after {
            Some(pause) => failure.retry_after(pause),
            None => failure,
        }
    }

    fn meaning(&self) -> StorageErrorKind {
        let by_code = self.code.as_deref().and_then(|code| by_code(code, self.status));
        by_code.unwrap_or(match self.status {
            401 | 403 => StorageErrorKind::Denied,
            412 => StorageErrorKind::AlreadyExists,
            501 | 505 => StorageErrorKind::Invalid,
            // With a success status: a body that is cut, an error of its own, or no answer to this request at all.
            200..=299 | 408 | 409 | 429 | 500..=599 => StorageErrorKind::Unavailable,
            // Also a 404 that names no key: a proxy's page is no proof of absence.
            _ => StorageErrorKind::Invalid,
        })
    }

    fn said(&self) -> String {
        let status = self.status;
        match (&self.code, &self.message) {
            (Some(code), Some(message)) => format!("HTTP {status}, {code}: {message}"),
            (Some(code), None) => format!("HTTP {status}, {code}"),
            (None, _) => format!("HTTP {status} without an S3 error code"),
        }
    }

    fn remedy(&self) -> Option<String> {
        if let (Some(region), 300..=400) = (&self.region, self.status) {
            return Some(format!("the bucket lies in region `{region}`: set `s3.region`"));
        }
        let hint = match (self.code.as_deref(), self.status) {
            (Some("AuthorizationHeaderMalformed" | "PermanentRedirect"), _) | (_, 301) => {
                "the bucket lies in another region: set `s3.region`"
            }
            (Some("InvalidAccessKeyId" | "SignatureDoesNotMatch"), _) => {
                "check the credentials of the standard AWS chain"
            }
            (Some("RequestTimeTooSkewed"), _) => "the clock of this host is wrong",
            (Some("InvalidObjectState"), _) => "the object is archived: bring it back first",
            (Some("NoSuchBucket"), _) => "create the bucket, or correct `repository`",
            (_, 401 | 403) => {
                "check the permissions; S3 also answers 403 for an absent object when \
                 `s3:ListBucket` is not granted"
            }
            (None, 404) => "did a proxy or another server answer? check `s3.endpoint`",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// What the store's own words mean, whatever the status: some errors come with 200.
fn by_code(code: &str, status: u16) -> Option<StorageErrorKind> {
    Some(match code {
        "NoSuchKey" if status == 404 => StorageErrorKind::NotFound,
        "PreconditionFailed" => StorageErrorKind::AlreadyExists,
        "AccessDenied"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "RequestTimeTooSkewed"
        | "AllAccessDisabled" => StorageErrorKind::Denied,
        "NoSuchBucket" | "NotImplemented" => StorageErrorKind::Invalid,
        // `RequestTimeout` is a 400 by its number, but about a connection that hung.
        "RequestTimeout"
        | "ConditionalRequestConflict"
        | "OperationAborted"
        | "SlowDown"
        | "InternalError"
        | "ServiceUnavailable" => StorageErrorKind::Unavailable,
        _ => return None,
    })
}

/// Nobody answered: no credentials to ask with, a request that cannot be built, or a connection that failed.
fn unanswered<E>(what: String, error: SdkError<E, HttpResponse>) -> StorageError
where
    E: StdError + Send + Sync + 'static,
{
    let (kind, hint) = match &error {
        error if credentials_missing(error) == Some(true) => {
            (StorageErrorKind::Denied, Some(CHAIN))
        }
        error if credentials_missing(error) == Some(false) => {
            (StorageErrorKind::Unavailable, Some(CHAIN))
        }
        error if certificate_refused(error) => (StorageErrorKind::Invalid, Some(AUTHORITY)),
        SdkError::ConstructionFailure(_) => (StorageErrorKind::Invalid, None),
        SdkError::DispatchFailure(failure) if failure.is_user() => {
            (StorageErrorKind::Invalid, None)
        }
        _ => (StorageErrorKind::Unavailable, None),
    };
    let failure = StorageError::new(kind, what).because(innermost(error));
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

const CHAIN: &str = "credentials come from the environment, the profile, a web identity, the container or the instance";
const AUTHORITY: &str =
    "set `s3.ca_file` when the server's certificate comes from an authority of your own";

/// The cause without the SDK's wrapping, which says no more than "other" or "io error".
fn innermost<E>(error: SdkError<E, HttpResponse>) -> BoxError
where
    E: StdError + Send + Sync + 'static,
{
    let cause = error.into_source().unwrap_or_else(|error| Box::new(error));
    match cause.downcast::<ConnectorError>() {
        Ok(connector) => connector.into_source(),
        Err(cause) => cause,
    }
}

/// Whether the server showed a certificate that we do not trust.
fn certificate_refused(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|cause| matches!(in_io(cause), Some(rustls::Error::InvalidCertificate(_))))
}

/// The TLS error within I/O errors, whose contents do not count as their causes.
fn in_io<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let inner = error.downcast_ref::<std::io::Error>()?.get_ref()?;
    inner.downcast_ref::<rustls::Error>().or_else(|| in_io(inner))
}

/// An error and everything behind it.
fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Whether credentials are the trouble: `true` when there are none, `false` when their source did not answer.
fn credentials_missing(error: &(dyn StdError + 'static)) -> Option<bool> {
    let found = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>())?;
    Some(!matches!(
        found,
        CredentialsError::ProviderTimedOut(_) | CredentialsError::ProviderError(_)
    ))
}

/// The pause of a `Retry-After`: seconds, or a date.
fn pause(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::from_str(text.trim(), DateTimeFormat::HttpDate).ok()?;
    SystemTime::try_from(date).ok()?.duration_since(SystemTime::now()).ok()
}
