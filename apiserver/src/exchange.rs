//! One request and its answer, as every part of this crate sees them.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream::BoxStream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use parking_lot::Mutex;
use serde::Serialize;
use warp::Reply;

use crate::{identity::Identity, query::Query, status::ApiError};

/// What a handler answers.
pub type Response = warp::reply::Response;

/// A body that is read or written piece by piece.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// The largest body of an API write.
pub const MAX_BODY: usize = 3 * 1024 * 1024;

/// How long a client may take to send a body that is taken whole.
pub(crate) const BODY_TIME: Duration = Duration::from_secs(60);

/// One request, with who sent it.
pub struct Call {
    pub method: Method,
    /// The path as it was sent, still percent-encoded.
    pub path: String,
    pub query: Query,
    pub headers: HeaderMap,
    pub body: ByteStream,
    pub peer: Option<SocketAddr>,
    /// None: the request carries neither a valid token nor a client certificate. Only mounts that
    /// are [`Mount::open`] see such requests.
    pub identity: Option<Identity>,
}

/// A part of the server that owns every path under a prefix.
#[async_trait]
pub trait Mount: Send + Sync + 'static {
    /// The first segment of the paths, without slashes: `webhooks`.
    fn prefix(&self) -> &str;

    /// Whether requests without an identity are let through, because the mount checks them itself.
    fn open(&self) -> bool {
        false
    }

    async fn handle(&self, call: Call) -> Response;
}

impl Call {
    /// A header's value, if it is there and is text.
    #[must_use]
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Takes the whole body, up to `limit` bytes.
    pub async fn take_body(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        let announced = self
            .header(header::CONTENT_LENGTH)
            .and_then(|length| length.parse::<usize>().ok())
            .unwrap_or(0);
        if announced > limit {
            return Err(ApiError::too_large(limit));
        }
        let mut body = std::mem::replace(&mut self.body, futures::stream::empty().boxed());
        let mut whole = BytesMut::with_capacity(announced);
        let deadline = tokio::time::Instant::now() + BODY_TIME;
        loop {
            let piece = tokio::time::timeout_at(deadline, body.next()).await.map_err(|_| {
                ApiError::bad_request(format!("the body did not arrive within {} s", BODY_TIME.as_secs()))
            })?;
            let Some(piece) = piece else { break };
            let piece = piece.map_err(|error| ApiError::bad_request(format!("the body could not be read: {error}")))?;
            if whole.len() + piece.len() > limit {
                return Err(ApiError::too_large(limit));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}

/// An answer of a media type.
#[must_use]
pub fn respond(code: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(body.into().into());
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// An answer in plain text.
#[must_use]
pub fn text(code: StatusCode, body: impl Into<Bytes>) -> Response {
    respond(code, "text/plain; charset=utf-8", body)
}

/// An answer in JSON.
#[must_use]
pub fn json(code: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => respond(code, "application/json", body),
        Err(error) => ApiError::internal(format!("an answer could not be encoded: {error}")).response(),
    }
}

/// An answer whose body comes piece by piece, flushed as it comes.
#[must_use]
pub fn stream(media_type: &'static str, pieces: ByteStream) -> Response {
    let mut response = warp::reply::stream(Shared(Mutex::new(pieces))).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// Makes a stream `Sync`, as warp wants it. Only the owner polls it, so the lock is never taken.
struct Shared(Mutex<ByteStream>);

impl Stream for Shared {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.get_mut().poll_next_unpin(context)
    }
}
