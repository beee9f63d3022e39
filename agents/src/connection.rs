//! The agent's connections to the server: the node stream, heartbeats, and sessions.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use parking_lot::Mutex;
use schemas::node::{Frame, Heartbeat, Position, Registration, Unclaimed};
use serde_json::Value;
use tokio::sync::{mpsc::UnboundedSender, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    agent::Message,
    chance,
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
        wait.mul_f64(0.5 + chance::part() / 2.0)
    }
}

/// What the heartbeat carries; the agent's own task keeps it current.
#[derive(Debug, Default)]
pub(crate) struct NodeFace {
    status: Mutex<(Value, bool)>,
    unclaimed: Mutex<Vec<Unclaimed>>,
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

    /// Notes the unclaimed pods; a change is sent with a heartbeat at once.
    pub(crate) fn set_unclaimed(&self, unclaimed: Vec<Unclaimed>) {
        let mut current = self.unclaimed.lock();
        if *current != unclaimed {
            *current = unclaimed;
            drop(current);
            self.wake.notify_one();
        }
    }

    fn heartbeat(&self) -> Heartbeat {
        let mut current = self.status.lock();
        let changed = std::mem::take(&mut current.1);
        Heartbeat {
            status: changed.then(|| current.0.clone()),
            unclaimed_pods: self.unclaimed.lock().clone(),
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

/// Whether the server has taken this agent for its node's. Nothing is told to it before.
#[derive(Clone, Debug)]
pub(crate) struct Admission(watch::Sender<bool>);

impl Default for Admission {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Admission {
    fn set(&self, admitted: bool) {
        self.0.send_replace(admitted);
    }

    pub(crate) fn is_given(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the agent is admitted.
    pub(crate) async fn given(&self) {
        // The sender is here, so the wait ends with the admission alone.
        let _ = self.0.subscribe().wait_for(|admitted| *admitted).await;
    }
}

pub(crate) struct Link {
    pub control: Arc<dyn ControlPlane>,
    pub tell: UnboundedSender<Message>,
    pub face: Arc<NodeFace>,
    pub registration: Registration,
    pub admission: Admission,
    /// One registration at a time, so that a second one finds the first one's.
    pub registering: tokio::sync::Mutex<()>,
    pub shutdown: CancellationToken,
}

impl Link {
    async fn register(&self) -> Result<(), ControlError> {
        let _turn = self.registering.lock().await;
        let mut registration = self.registration.clone();
        registration.status = self.face.registration_status();
        let registered = self.control.register(&registration).await;
        self.admission.set(registered.is_ok());
        registered.map(|_| ())
    }

    async fn pause(&self, wait: Duration) -> bool {
        tokio::select! {
            biased;
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
        let opened = async {
            self.register().await?;
            self.control.stream(resume.clone()).await
        };
        let mut frames = tokio::select! {
            biased;
            opened = opened => opened?,
            () = self.shutdown.cancelled() => return Ok(()),
        };
        tracing::info!(node = &*self.registration.name, "connected to the server");
        loop {
            let frame = tokio::select! {
                biased;
                frame = frames.next() => frame,
                () = self.shutdown.cancelled() => return Ok(()),
            };
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame?;
            jitter.reset();
            note(resume, &frame)?;
            if self.tell.send(Message::Frame(frame)).is_err() {
                return Ok(());
            }
        }
    }

    /// Beats every ten seconds, less up to a tenth, and at once when what it carries changed. The first
    /// beat follows the registration.
    pub(crate) async fn beat(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                () = self.admission.given() => {}
                () = self.shutdown.cancelled() => return,
            }
            let heartbeat = self.face.heartbeat();
            let had_status = heartbeat.status.is_some();
            let sent = tokio::select! {
                biased;
                sent = self.control.heartbeat(&heartbeat) => sent,
                () = self.shutdown.cancelled() => return,
            };
            let mut wait = HEARTBEAT.mul_f64(0.9 + chance::part() / 10.0);
            if let Err(error) = sent {
                tracing::debug!(%error, "a heartbeat did not arrive");
                match error {
                    // The Node object was deleted: the node makes itself known again.
                    ControlError::Refused { status: 404, .. } => {
                        if let Err(error) = self.register().await {
                            tracing::warn!(%error, "the node could not be registered again");
                        }
                    }
                    // Another agent has the name now. Its stream has ended this one's, which registers
                    // again as soon as it may.
                    ControlError::Refused { status: 409, .. } => self.admission.set(false),
                    _ => {}
                }
                if had_status {
                    self.face.again();
                }
                wait = Duration::from_secs(1).mul_f64(0.5 + chance::part());
            }
            tokio::select! {
                biased;
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
            tokio::select! {
                biased;
                () = self.admission.given() => {}
                () = self.shutdown.cancelled() => return,
            }
            let opened = tokio::select! {
                biased;
                opened = self.control.sessions() => opened,
                () = self.shutdown.cancelled() => return,
            };
            match opened {
                Ok(mut requests) => loop {
                    let request = tokio::select! {
                        biased;
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

/// Notes from where a stream that broke after this frame goes on.
fn note(resume: &mut Option<Resume>, frame: &Frame) -> Result<(), ControlError> {
    match (frame, resume.as_mut()) {
        (
            Frame::Snapshot {
                incarnation,
                term,
                version,
                ..
            },
            _,
        ) => {
            let at = Position {
                incarnation: incarnation.clone(),
                term: term.clone(),
                version: *version,
            };
            *resume = Some(Resume { at, whole: false });
        }
        (Frame::Delta { term, version, .. } | Frame::Bookmark { term, version }, Some(resume)) if !resume.whole => {
            resume.at.term = term.clone();
            resume.at.version = *version;
        }
        // A stream begins with a snapshot; without one there is nothing to add to.
        _ => {
            return Err(ControlError::Malformed(
                "the node stream does not begin with a snapshot".to_owned(),
            ));
        }
    }
    Ok(())
}
