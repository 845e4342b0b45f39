//! One request and its answer, watched for silence.
//!
//! The SDK has no timeout for a server that accepts a request and says nothing, and its stalled-stream protection
//! takes a body in memory for sent at once. So the body is handed over in small frames and every frame that goes out
//! is a sign of life.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat, SdkBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

/// How much of a request's body is handed to the connection at once.
const FRAME_BYTES: usize = 64 * 1024;

/// What the kernel takes at most before it waits for the network (`net.ipv4.tcp_wmem` as Linux ships it).
const KERNEL_BUFFER_BYTES: u64 = 4 << 20;

/// The slowest network that can be used. What the kernel has taken may still be on its way for as long as this says.
const SLOWEST_BYTES_PER_SECOND: u64 = 128 << 10;

tokio::task_local! {
    static EXCHANGE: Exchange;
}

/// What is known about a request on its way.
#[derive(Clone)]
pub(super) struct Exchange(Arc<Mutex<State>>);

struct State {
    last_sign_of_life: Instant,
    answered_at: Option<SystemTime>,
}

/// The other side has said nothing for so long.
#[derive(Debug, thiserror::Error)]
#[error("no sign of life for {} s", .0.as_secs_f32())]
pub(super) struct Silence(Duration);

impl Exchange {
    pub(super) fn new() -> Self {
        let state = State { last_sign_of_life: Instant::now(), answered_at: None };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Runs `request` until its answer is complete or nothing has moved for `patience`.
    pub(super) async fn watch<T>(
        &self,
        patience: Duration,
        request: impl Future<Output = T>,
    ) -> Result<T, Silence> {
        let mut request = pin!(EXCHANGE.scope(self.clone(), request));
        loop {
            let limit = self.last_sign_of_life() + patience;
            if let Ok(answer) = tokio::time::timeout_at(limit, &mut request).await {
                return Ok(answer);
            }
            if self.last_sign_of_life() + patience <= Instant::now() {
                return Err(Silence(patience));
            }
        }
    }

    /// The server's clock when it answered, to the second.
    pub(super) fn answered_at(&self) -> Option<SystemTime> {
        self.0.lock().expect("no panic while held").answered_at
    }

    fn last_sign_of_life(&self) -> Instant {
        self.0.lock().expect("no panic while held").last_sign_of_life
    }

    fn note_life(&self) {
        self.0.lock().expect("no panic while held").last_sign_of_life = Instant::now();
    }

    /// The last of `length` bytes was handed to the kernel, which sends unseen.
    fn note_handed_over(&self, length: u64) {
        let unseen = length.min(KERNEL_BUFFER_BYTES) / SLOWEST_BYTES_PER_SECOND;
        let mut state = self.0.lock().expect("no panic while held");
        state.last_sign_of_life = Instant::now() + Duration::from_secs(unseen);
    }

    fn note_answer(&self, date: Option<&str>) {
        let parsed = date.and_then(|text| DateTime::from_str(text, DateTimeFormat::HttpDate).ok());
        let mut state = self.0.lock().expect("no panic while held");
        state.last_sign_of_life = Instant::now();
        state.answered_at = parsed.and_then(|date| SystemTime::try_from(date).ok());
    }
}

/// Gives the running [`Exchange`] its signs of life.
#[derive(Debug)]
pub(super) struct Watch;

impl Intercept for Watch {
    fn name(&self) -> &'static str {
        "walrs watch"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Ok(exchange) = EXCHANGE.try_with(Exchange::clone) else { return Ok(()) };
        exchange.note_life();
        let body = context.request_mut().body_mut();
        if body.content_length().is_some_and(|length| length > FRAME_BYTES as u64) {
            let source = std::mem::replace(body, SdkBody::taken());
            let watched = Watched { source, rest: Bytes::new(), given: 0, exchange };
            *body = SdkBody::from_body_1_x(watched);
        }
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        // Outside of an exchange nobody asks.
        let _ = EXCHANGE.try_with(|exchange| exchange.note_answer(date));
        Ok(())
    }
}

/// A body that says when the connection took some of it.
struct Watched {
    source: SdkBody,
    /// What the source has given and the connection has not taken yet.
    rest: Bytes,
    /// How much the connection has taken.
    given: u64,
    exchange: Exchange,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.source).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return Poll::Ready(other),
            }
        }
        let length = self.rest.len().min(FRAME_BYTES);
        let frame = self.rest.split_to(length);
        self.given += length as u64;
        match self.is_end_stream() {
            true => self.exchange.note_handed_over(self.given),
            false => self.exchange.note_life(),
        }
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.source.size_hint().exact() {
            Some(coming) => SizeHint::with_exact(coming + self.rest.len() as u64),
            None => SizeHint::default(),
        }
    }
}
