//! The seam to the server: HTTP/2 with the node's certificate, or a server in memory.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use schemas::node::{
    Frame, Heartbeat, Identity, Missing, PodReport, Position, Registered, Registration, SessionRequest, Stats, Told,
};

/// Why the server could not be told or asked something.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ControlError {
    #[error("the server at {server} cannot be reached: {message}")]
    Unreachable { server: String, message: String },
    /// The server answered, and said no; asking again as it is will not help.
    #[error("the server refused {what} with {status}: {message}")]
    Refused {
        what: &'static str,
        status: u16,
        message: String,
    },
    #[error("the server sent something that is not valid: {0}")]
    Malformed(String),
}

/// From where a node stream goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    pub at: Position,
    /// Everything is wanted anew: something before that position may be lost.
    pub whole: bool,
}

/// Why a session has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRefusal {
    /// As an HTTP status: 400 or 404.
    pub status: u16,
    pub message: String,
}

/// The answer to a session: a stream of bytes, or why there is none.
pub type SessionAnswer = Result<BoxStream<'static, Bytes>, SessionRefusal>;

/// The server, as one agent sees it. Calls may overlap.
#[async_trait]
pub trait ControlPlane: Send + Sync + 'static {
    /// Asks, before anything else, which id an agent that has none yet shall have: the one that it
    /// proposes, or that of an agent that is gone and whose containers it takes over.
    async fn identify(&self, proposed: &Identity) -> Result<Identity, ControlError>;
    async fn register(&self, registration: &Registration) -> Result<Registered, ControlError>;
    /// Opens the node stream. It begins with a snapshot, or with what came after `resume`.
    async fn stream(
        &self,
        resume: Option<Resume>,
    ) -> Result<BoxStream<'static, Result<Frame, ControlError>>, ControlError>;
    async fn report(&self, reports: &[PodReport]) -> Result<(), ControlError>;
    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), ControlError>;
    /// Tells what the node and its containers use.
    async fn stats(&self, stats: &Stats) -> Result<(), ControlError>;
    /// Asks what became of pods that a snapshot lacks.
    async fn fates(&self, missing: &[Missing]) -> Result<Vec<Told>, ControlError>;
    /// Opens the second connection, on which the server asks for logs and the like.
    async fn sessions(&self) -> Result<BoxStream<'static, Result<SessionRequest, ControlError>>, ControlError>;
    /// Answers one session; returns when all of it was sent, or the server no longer wants it.
    async fn answer(&self, id: &str, answer: SessionAnswer) -> Result<(), ControlError>;
}
