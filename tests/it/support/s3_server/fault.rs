//! What can go wrong on the way to a store and back, as rules: which requests, how many, what happens.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::header::HeaderValue;

/// What happens to a request that a [`Fault`] matches.
#[derive(Clone)]
pub(crate) enum Effect {
    /// An S3 error answer; the store does not see the request.
    Refuse { status: u16, code: &'static str },
    /// 503 with `Retry-After` in seconds; the store does not see the request.
    Throttle { seconds: u64 },
    /// A proxy's HTML page; the store does not see the request.
    Page { status: u16 },
    /// 200 with an `<Error>` document; the store does not see the request.
    ErrorInSuccess { code: &'static str },
    /// 200 with nothing; the store does not see the request.
    EmptySuccess,
    /// The connection breaks before the store sees the request.
    BreakBefore,
    /// The store does what it was asked, and the connection breaks before its answer.
    LoseAnswer,
    /// The store does not see the request and no answer ever comes.
    Stall,
    /// The answer's body stops after so many bytes and the connection breaks.
    BreakBody { after: usize },
    /// The answer's body stops after so many bytes and the connection stays open.
    StallBody { after: usize },
    /// The answer claims to be complete with only so many bytes of its body.
    Shorten { to: usize },
    /// The answer brings more bytes than the object has and does not say how many.
    Overlong { by: usize },
    /// One bit of the answer's body at this position is flipped.
    Flip { position: usize },
    /// `If-None-Match` is ignored, as some stores do: the put overwrites.
    IgnoreCondition,
    /// The request is held back before the store sees it.
    Delay(Duration),
    /// The answer is changed as the function says.
    Rewrite(Rewrite),
}

impl Effect {
    /// The answer with another status.
    pub(crate) fn with_status(status: u16) -> Self {
        Self::rewrite(move |mut answer| {
            *answer.status_mut() = status.try_into().expect("a valid status");
            answer
        })
    }

    /// The answer with a header set.
    pub(crate) fn with_header(name: &'static str, value: &'static str) -> Self {
        Self::rewrite(move |mut answer| {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
            answer
        })
    }

    /// The answer without a header.
    pub(crate) fn without_header(name: &'static str) -> Self {
        Self::rewrite(move |mut answer| {
            answer.headers_mut().remove(name);
            answer
        })
    }

    /// 200 with this body, instead of the answer.
    pub(crate) fn with_body(body: &str) -> Self {
        let body = Bytes::copy_from_slice(body.as_bytes());
        Self::rewrite(move |answer| {
            let mut instead = Response::new(body.clone());
            for name in ["last-modified", "etag"] {
                if let Some(value) = answer.headers().get(name) {
                    instead.headers_mut().insert(name, value.clone());
                }
            }
            instead
        })
    }

    fn rewrite(
        change: impl Fn(Response<Bytes>) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        Self::Rewrite(Arc::new(change))
    }
}

/// A change of an answer.
pub(crate) type Rewrite = Arc<dyn Fn(Response<Bytes>) -> Response<Bytes> + Send + Sync>;

/// A rule: an effect on requests of a method whose target contains a text.
#[derive(Clone)]
pub(crate) struct Fault {
    method: &'static str,
    part: String,
    spare: u32,
    left: u32,
    effect: Effect,
}

impl Fault {
    /// `effect` on the next request of `method` (`*` is every one) whose path and query contain `part`.
    pub(crate) fn once(method: &'static str, part: &str, effect: Effect) -> Self {
        Self { method, part: part.to_owned(), spare: 0, left: 1, effect }
    }

    /// `effect` on every such request.
    pub(crate) fn always(method: &'static str, part: &str, effect: Effect) -> Self {
        Self { left: u32::MAX, ..Self::once(method, part, effect) }
    }

    /// On so many requests instead.
    pub(crate) fn times(self, left: u32) -> Self {
        Self { left, ..self }
    }

    /// Only after so many matching requests have passed unharmed.
    pub(crate) fn sparing(self, spare: u32) -> Self {
        Self { spare, ..self }
    }

    /// The effect on this request, when it is the rule's turn.
    pub(super) fn strike(&mut self, method: &str, target: &str) -> Option<Effect> {
        let matches = (self.method == "*" || self.method == method) && target.contains(&self.part);
        if !matches || self.left == 0 {
            return None;
        }
        if self.spare > 0 {
            self.spare -= 1;
            return None;
        }
        self.left -= 1;
        Some(self.effect.clone())
    }
}
