//! The agent's connections to the server: the node stream, heartbeats, and sessions.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use parking_lot::Mutex;
use schemas::node::{Frame, Heartbeat, Incarnation, Registration};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::{
    agent::Message,
    control::{ControlError, ControlPlane, Resume},
    sessions,
};

/// How often an agent shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Growing waits with a random part, so that agents that lost a server do not come back in step.
#[derive(Debug)]
pub(crate) struct Jitter {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Jitter {
    #[must_use]
    pub(crate) fn new(least: Duration, most: Duration) -> Self {
        Self {
            least,
            most,
            next: least,
        }
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.least;
    }

    /// Half of the wait is certain, half is chance.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (self.next * 2).min(self.most);
        wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }
}

/// What the heartbeat carries; the agent's own task keeps it current.
#[derive(Debug, Default)]
pub(crate) struct NodeFace {
    status: Mutex<(Value, bool)>,
    unclaimed: Mutex<Vec<String>>,
    wake: tokio::sync::Notify,
}

impl NodeFace {
    /// Notes a new status; it is sent with a heartbeat at once.
    pub(crate) fn set_status(&self, status: Value) {
        let mut current = self.status.lock();
        if current.0 != status {
            *current = (status, true);
            drop(current);
            self.wake.notify_one();
        }
    }

    pub(crate) fn set_unclaimed(&self, unclaimed: Vec<String>) {
        *self.unclaimed.lock() = unclaimed;
    }

    fn heartbeat(&self) -> Heartbeat {
        let mut current = self.status.lock();
        let changed = std::mem::take(&mut current.1);
        Heartbeat {
            status: changed.then(|| current.0.clone()),
            unclaimed: self.unclaimed.lock().clone(),
        }
    }

    /// The status did not arrive.
    fn again(&self) {
        self.status.lock().1 = true;
    }

    fn registration_status(&self) -> Value {
        self.status.lock().0.clone()
    }
}

pub(crate) struct Link {
    pub control: Arc<dyn ControlPlane>,
    pub tell: UnboundedSender<Message>,
    pub face: Arc<NodeFace>,
    pub registration: Registration,
    pub shutdown: CancellationToken,
}

impl Link {
    async fn pause(&self, wait: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            () = self.shutdown.cancelled() => false,
        }
    }

    /// Keeps the node stream open and passes its frames on, in order.
    pub(crate) async fn follow(self: Arc<Self>, head: Option<Resume>) {
        let mut resume = head;
        let mut jitter = Jitter::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut quiet = false;
        loop {
            let error = match self.once(&mut resume, &mut jitter).await {
                Ok(()) if self.shutdown.is_cancelled() => return,
                Ok(()) => None,
                Err(error) => Some(error),
            };
            match error {
                Some(error @ ControlError::Refused { .. }) => tracing::error!(%error, "the server refused this node"),
                Some(error) if !quiet => tracing::warn!(%error, "the server is away; pods go on as they are"),
                Some(error) => tracing::debug!(%error, "the server is still away"),
                None => tracing::debug!("the node stream ended"),
            }
            quiet = true;
            if jitter.next == jitter.least {
                quiet = false;
            }
            if !self.pause(jitter.next()).await {
                return;
            }
        }
    }

    async fn once(&self, resume: &mut Option<Resume>, jitter: &mut Jitter) -> Result<(), ControlError> {
        let mut registration = self.registration.clone();
        registration.status = self.face.registration_status();
        let opened = async {
            self.control.register(&registration).await?;
            self.control.stream(resume.clone()).await
        };
        let mut frames = tokio::select! {
            opened = opened => opened?,
            () = self.shutdown.cancelled() => return Ok(()),
        };
        tracing::info!(node = &*registration.name, "connected to the server");
        loop {
            let frame = tokio::select! {
                frame = frames.next() => frame,
                () = self.shutdown.cancelled() => return Ok(()),
            };
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame?;
            jitter.reset();
            match (&frame, resume.as_mut()) {
                (
                    Frame::Snapshot {
                        incarnation, version, ..
                    },
                    _,
                ) => {
                    *resume = Some(Resume {
                        incarnation: Incarnation(incarnation.0.clone()),
                        version: *version,
                    });
                }
                (Frame::Delta { version, .. } | Frame::Bookmark { version }, Some(resume)) => resume.version = *version,
                // A stream begins with a snapshot; without one there is nothing to add to.
                (_, None) => {
                    return Err(ControlError::Malformed(
                        "the node stream does not begin with a snapshot".to_owned(),
                    ));
                }
            }
            if self.tell.send(Message::Frame(frame)).is_err() {
                return Ok(());
            }
        }
    }

    /// Beats every ten seconds, less up to a tenth, and at once when the node's status changed.
    pub(crate) async fn beat(self: Arc<Self>) {
        loop {
            let heartbeat = self.face.heartbeat();
            let had_status = heartbeat.status.is_some();
            let sent = tokio::select! {
                sent = self.control.heartbeat(&heartbeat) => sent,
                () = self.shutdown.cancelled() => return,
            };
            let mut wait = HEARTBEAT.mul_f64(0.9 + rand::random::<f64>() / 10.0);
            if let Err(error) = sent {
                tracing::debug!(%error, "a heartbeat did not arrive");
                // The Node object was deleted: the node makes itself known again.
                if matches!(error, ControlError::Refused { status: 404, .. }) {
                    let mut registration = self.registration.clone();
                    registration.status = self.face.registration_status();
                    if let Err(error) = self.control.register(&registration).await {
                        tracing::warn!(%error, "the node could not be registered again");
                    }
                }
                if had_status {
                    self.face.again();
                }
                wait = Duration::from_secs(1).mul_f64(0.5 + rand::random::<f64>());
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.face.wake.notified() => {}
                () = self.shutdown.cancelled() => return,
            }
        }
    }

    /// Keeps the second connection open and answers each session on a task of its own.
    pub(crate) async fn serve(self: Arc<Self>, host: Arc<crate::host::Host>) {
        let mut jitter = Jitter::new(Duration::from_millis(500), Duration::from_secs(10));
        loop {
            let opened = tokio::select! {
                opened = self.control.sessions() => opened,
                () = self.shutdown.cancelled() => return,
            };
            match opened {
                Ok(mut requests) => loop {
                    let request = tokio::select! {
                        request = requests.next() => request,
                        () = self.shutdown.cancelled() => return,
                    };
                    match request {
                        Some(Ok(request)) => {
                            jitter.reset();
                            tokio::spawn(sessions::answer(self.clone(), host.clone(), request));
                        }
                        Some(Err(error)) => {
                            tracing::debug!(%error, "the session connection broke");
                            break;
                        }
                        None => break,
                    }
                },
                Err(error) => tracing::debug!(%error, "no session connection"),
            }
            if !self.pause(jitter.next()).await {
                return;
            }
        }
    }
}
