//! Logs and the like over the connection that the agent opened: the server never dials a node.
//!
//! An agent keeps one `GET …/sessions` open and reads requests from it; it answers each with a
//! `POST …/sessions/ID`. The body of that request becomes the body of the reader's answer without a
//! buffer in between, so a slow reader slows the agent, and a reader who leaves ends the request.
//!
//! An agent that cannot answer says so with the query `?status=CODE`; the body is the reason then.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::StatusCode;
use parking_lot::Mutex;
use schemas::{
    Key, Uid,
    node::{LogOptions, Order, SessionRequest},
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    control::Front,
    exchange::{self, ByteStream, Call, Response},
    status::ApiError,
};

/// The longest reason of an agent that has no answer.
const MAX_REASON: usize = 4096;

/// How long an agent may take to begin its answer.
const BEGIN: Duration = Duration::from_secs(15);

/// The agents' session streams, and the readers who wait for an answer.
#[derive(Clone, Default)]
pub struct Sessions {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    next: AtomicU64,
    agents: Mutex<HashMap<Arc<str>, Agent>>,
    waiting: Mutex<HashMap<String, Waiting>>,
}

struct Agent {
    connection: u64,
    requests: mpsc::Sender<SessionRequest>,
}

struct Waiting {
    node: Arc<str>,
    answer: oneshot::Sender<Result<Answered, Refusal>>,
}

/// The body of an agent's answer; the agent's request ends when this is dropped.
struct Answered {
    body: ByteStream,
    _done: oneshot::Sender<()>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error(
        "node {node} is not connected, so nothing of its containers can be read now; it is asked again when its agent is back"
    )]
    NotConnected { node: Arc<str> },
    #[error("node {node} has not answered within {} s", BEGIN.as_secs())]
    Silent { node: Arc<str> },
    #[error("node {node} answers too slowly: too many requests wait for it")]
    Busy { node: Arc<str> },
    /// What the agent says.
    #[error("{}", .0.message)]
    Refused(Refusal),
}

/// Why an agent has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: StatusCode,
    pub message: String,
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        let message = error.to_string();
        match error {
            SessionError::NotConnected { .. } => Self::unavailable(message),
            SessionError::Silent { .. } => Self::timeout(message),
            SessionError::Busy { .. } => Self::too_many_requests(message).retry_after(1),
            SessionError::Refused(Refusal {
                code: StatusCode::NOT_FOUND,
                ..
            }) => Self::new(StatusCode::NOT_FOUND, "NotFound", message),
            SessionError::Refused(_) => Self::bad_request(message),
        }
    }
}

impl Stream for Answered {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.body.poll_next_unpin(context)
    }
}

/// Takes a waiting reader's place back when the reader leaves.
struct Place<'a> {
    sessions: &'a Sessions,
    id: String,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.sessions.inner.waiting.lock().remove(&self.id);
    }
}

impl Sessions {
    /// Asks a node for the log of a container. The stream ends with the log, or with the
    /// connection.
    ///
    /// # Errors
    /// When the node is not connected, does not begin to answer in time, or says that it cannot.
    pub async fn logs(&self, node: &str, pod: Key, uid: Uid, options: LogOptions) -> Result<ByteStream, SessionError> {
        self.ask(node, |id| SessionRequest::Logs { id, pod, uid, options })
            .await
    }

    /// Hands a person's order about an unclaimed pod to a node's agent, and waits for its answer.
    ///
    /// # Errors
    /// When the node is not connected, does not begin to answer in time, or says that it cannot.
    pub(crate) async fn settle(&self, node: &str, uid: Uid, order: Order) -> Result<ByteStream, SessionError> {
        self.ask(node, |id| SessionRequest::Settle { id, uid, order }).await
    }

    async fn ask(
        &self,
        node: &str,
        request: impl FnOnce(String) -> SessionRequest,
    ) -> Result<ByteStream, SessionError> {
        let (node, requests) = {
            let agents = self.inner.agents.lock();
            let found = agents.get_key_value(node);
            let (node, agent) = found.ok_or_else(|| SessionError::NotConnected { node: node.into() })?;
            (node.clone(), agent.requests.clone())
        };
        // Unguessable is not needed: an answer must come with the certificate of the node asked.
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed).to_string();
        let (answer, answered) = oneshot::channel();
        self.inner.waiting.lock().insert(
            id.clone(),
            Waiting {
                node: node.clone(),
                answer,
            },
        );
        let _place = Place {
            sessions: self,
            id: id.clone(),
        };
        requests.try_send(request(id)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SessionError::Busy { node: node.clone() },
            mpsc::error::TrySendError::Closed(_) => SessionError::NotConnected { node: node.clone() },
        })?;
        match tokio::time::timeout(BEGIN, answered).await {
            Err(_) => Err(SessionError::Silent { node }),
            // The agent's connection ended, and its waiting readers with it.
            Ok(Err(_)) => Err(SessionError::NotConnected { node }),
            Ok(Ok(Err(said))) => Err(SessionError::Refused(said)),
            Ok(Ok(Ok(body))) => Ok(body.boxed()),
        }
    }

    fn connect(&self, node: &str) -> (u64, mpsc::Receiver<SessionRequest>) {
        let connection = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let (requests, receiver) = mpsc::channel(64);
        // A newer connection takes the place of an older one, whose stream ends with its sender.
        self.inner
            .agents
            .lock()
            .insert(node.into(), Agent { connection, requests });
        (connection, receiver)
    }

    fn disconnect(&self, node: &str, connection: u64) {
        let mut agents = self.inner.agents.lock();
        if agents.get(node).is_some_and(|agent| agent.connection == connection) {
            agents.remove(node);
            drop(agents);
            self.inner.waiting.lock().retain(|_, waiting| &*waiting.node != node);
        }
    }
}

/// Ends an agent's registration when its stream is dropped.
struct Connected {
    sessions: Sessions,
    node: Arc<str>,
    connection: u64,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.sessions.disconnect(&self.node, self.connection);
    }
}

/// The requests for a node's agent, one JSON document a line.
pub(crate) fn listen(front: &Front, node: &str) -> Response {
    let (connection, requests) = front.sessions.connect(node);
    let connected = Connected {
        sessions: front.sessions.clone(),
        node: node.into(),
        connection,
    };
    let lines = ReceiverStream::new(requests).map(move |request| {
        // Held by the stream, so that it is dropped with it.
        let _ = &connected;
        let mut line = serde_json::to_vec(&request).map_err(io::Error::other)?;
        line.push(b'\n');
        Ok(Bytes::from(line))
    });
    let lines = lines.take_until(front.shutdown.clone().cancelled_owned());
    exchange::stream("application/x-ndjson", lines.boxed())
}

/// Hands an agent's answer to the reader who waits for it, and returns when the reader is done.
pub(crate) async fn answer(front: &Front, node: &str, id: &str, mut call: Call) -> Result<Response, ApiError> {
    let waiting = {
        let mut all = front.sessions.inner.waiting.lock();
        match all.get(id) {
            Some(waiting) if &*waiting.node == node => all.remove(id),
            _ => None,
        }
    };
    let gone = || {
        ApiError::new(
            StatusCode::GONE,
            "Expired",
            format!("nobody waits for the answer {id} any more"),
        )
    };
    let waiting = waiting.ok_or_else(gone)?;
    let (done, finished) = oneshot::channel();
    let answer = match call.query.parsed::<u16>("status")? {
        Some(code) => {
            let reason = call.take_body(MAX_REASON).await?;
            drop(done);
            Err(Refusal {
                code: StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST),
                message: String::from_utf8_lossy(&reason).trim().to_owned(),
            })
        }
        None => Ok(Answered {
            body: call.body,
            _done: done,
        }),
    };
    waiting.answer.send(answer).map_err(|_| gone())?;
    // Answering earlier would end the stream of the body while it is still read.
    let _ = finished.await;
    Ok(exchange::json(StatusCode::OK, &json!({})))
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
