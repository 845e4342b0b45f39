//! One connection: requests in, answers out, and what a fault makes of both.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::answers;
use super::fault::Effect;
use super::gateway::{Condition, Gateway};

type Outgoing = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// Serves one connection until either side ends it.
pub(super) async fn serve<S>(socket: TokioIo<S>, gateway: Arc<Gateway>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |request| handle(request, Arc::clone(&gateway)));
    // A client that goes away is part of many tests.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(socket, service).await;
}

/// An error here breaks the connection without an answer.
async fn handle(request: Request<Incoming>, gateway: Arc<Gateway>) -> io::Result<Outgoing> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let request = Request::from_parts(head, body);
    let effect = gateway.note(&request);
    if let Some(effect) = &effect
        && let Some(answer) = instead(effect).await?
    {
        return Ok(whole(answer));
    }
    let condition = match effect {
        Some(Effect::IgnoreCondition) => Condition::Ignored,
        _ => Condition::Honoured,
    };
    let answer = gateway.answer(request, condition).await;
    match effect {
        Some(effect) => changed(answer, effect),
        None => Ok(whole(answer)),
    }
}

/// The answer to a request that the store does not see.
async fn instead(effect: &Effect) -> io::Result<Option<Response<Bytes>>> {
    Ok(Some(match effect {
        Effect::Refuse { status, code } => answers::error(*status, code),
        Effect::Throttle { seconds } => answers::throttle(*seconds),
        Effect::Page { status } => answers::page(*status),
        Effect::ErrorInSuccess { code } => answers::error(200, code),
        Effect::EmptySuccess => answers::empty(),
        Effect::BreakBefore => return Err(io::ErrorKind::ConnectionReset.into()),
        Effect::Stall => std::future::pending().await,
        Effect::Delay(pause) => {
            tokio::time::sleep(*pause).await;
            return Ok(None);
        }
        _ => return Ok(None),
    }))
}

/// The store's answer as it reaches the client.
fn changed(answer: Response<Bytes>, effect: Effect) -> io::Result<Outgoing> {
    Ok(match effect {
        Effect::LoseAnswer => return Err(io::ErrorKind::ConnectionReset.into()),
        Effect::Rewrite(rewrite) => whole(rewrite(answer)),
        Effect::Flip { position } => whole(flipped(answer, position)),
        Effect::Shorten { to } => whole(with_length(answer.map(|body| body.slice(..to)))),
        Effect::BreakBody { after } => cut(answer, after, broken()),
        Effect::StallBody { after } => cut(answer, after, futures::stream::pending().boxed()),
        Effect::Overlong { by } => overlong(answer, by),
        _ => whole(answer),
    })
}

fn whole(answer: Response<Bytes>) -> Outgoing {
    answer.map(|body| Full::new(body).map_err(|never| match never {}).boxed_unsync())
}

fn with_length(mut answer: Response<Bytes>) -> Response<Bytes> {
    let length = answer.body().len();
    answer.headers_mut().insert(CONTENT_LENGTH, length.into());
    answer
}

fn flipped(answer: Response<Bytes>, position: usize) -> Response<Bytes> {
    answer.map(|body| {
        let mut bytes = body.to_vec();
        bytes[position] ^= 1;
        Bytes::from(bytes)
    })
}

type Pieces = BoxStream<'static, io::Result<Bytes>>;

fn broken() -> Pieces {
    futures::stream::once(async { Err(io::ErrorKind::ConnectionReset.into()) }).boxed()
}

/// The first bytes under the length of all, then what `rest` does.
fn cut(answer: Response<Bytes>, after: usize, rest: Pieces) -> Outgoing {
    with_length(answer).map(|body| {
        // In two pieces, so that the first is on its way before the connection breaks.
        let first = body.slice(..after.min(body.len()));
        streamed(futures::stream::once(async { Ok(first) }).chain(pause()).chain(rest).boxed())
    })
}

/// Long enough for what was written before to be sent; nothing depends on it but which fault is seen.
fn pause() -> Pieces {
    let sleep = tokio::time::sleep(std::time::Duration::from_millis(20));
    futures::stream::once(sleep).filter_map(|()| async { None }).boxed()
}

fn overlong(mut answer: Response<Bytes>, by: usize) -> Outgoing {
    answer.headers_mut().remove(CONTENT_LENGTH);
    answer.map(|body| {
        let more = Bytes::from(vec![0; by]);
        streamed(futures::stream::iter([Ok(body), Ok(more)]).boxed())
    })
}

fn streamed(pieces: Pieces) -> UnsyncBoxBody<Bytes, io::Error> {
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}
