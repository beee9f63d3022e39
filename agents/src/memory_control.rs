//! A server in memory, for tests of the agent and for simulation: it hands out frames that are put in
//! by hand and keeps what agents report.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use schemas::{
    Object, Uid,
    node::{Frame, Gone, Heartbeat, Incarnation, PodReport, Registered, Registration, SessionRequest},
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::control::{ControlError, ControlPlane, Resume, SessionAnswer, SessionRefusal};

type Lines<T> = mpsc::UnboundedSender<Result<T, ControlError>>;

/// A server for one node, in memory.
pub struct MemoryControl {
    cluster: Arc<str>,
    away: AtomicBool,
    inner: Mutex<Inner>,
    changed: Notify,
}

struct Inner {
    incarnation: Incarnation,
    version: u64,
    objects: BTreeMap<Uid, Object>,
    streams: Vec<Lines<Frame>>,
    sessions: Vec<Lines<SessionRequest>>,
    reports: Vec<PodReport>,
    latest: HashMap<Uid, PodReport>,
    heartbeat: Option<Heartbeat>,
    registration: Option<Registration>,
    answers: HashMap<String, oneshot::Sender<Result<Vec<u8>, SessionRefusal>>>,
}

impl MemoryControl {
    #[must_use]
    pub fn new(cluster: &str) -> Arc<Self> {
        Arc::new(Self {
            cluster: cluster.into(),
            away: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                incarnation: Incarnation("first".into()),
                version: 1,
                objects: BTreeMap::new(),
                streams: Vec::new(),
                sessions: Vec::new(),
                reports: Vec::new(),
                latest: HashMap::new(),
                heartbeat: None,
                registration: None,
                answers: HashMap::new(),
            }),
            changed: Notify::new(),
        })
    }

    /// Puts objects in, or new states of them.
    pub fn put(&self, objects: Vec<Object>) {
        let mut inner = self.inner.lock();
        inner.version += 1;
        for object in &objects {
            inner.objects.insert(object.uid(), object.clone());
        }
        let version = inner.version;
        inner.send(Frame::Delta {
            version,
            put: objects,
            gone: Vec::new(),
        });
    }

    /// Removes objects.
    pub fn remove(&self, uids: &[Uid]) {
        let mut inner = self.inner.lock();
        inner.version += 1;
        let mut gone = Vec::new();
        for uid in uids {
            if let Some(object) = inner.objects.remove(uid) {
                gone.push(Gone {
                    key: object.key(),
                    uid: uid.clone(),
                });
            }
        }
        let version = inner.version;
        inner.send(Frame::Delta {
            version,
            put: Vec::new(),
            gone,
        });
    }

    /// The server forgets objects without a word, as a restored database does.
    pub fn forget(&self, uids: &[Uid], incarnation: &str, version: u64) {
        let mut inner = self.inner.lock();
        for uid in uids {
            inner.objects.remove(uid);
        }
        inner.incarnation = Incarnation(incarnation.into());
        inner.version = version;
        inner.streams.clear();
    }

    /// The server goes away or comes back.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
        if away {
            let mut inner = self.inner.lock();
            inner.streams.clear();
            inner.sessions.clear();
        }
    }

    /// Waits until `check` holds of the newest report of each pod; gives up with the last state.
    ///
    /// # Panics
    /// When it does not come to hold within two minutes. Only tests use this.
    pub async fn until(&self, what: &str, check: impl Fn(&HashMap<Uid, PodReport>) -> bool) {
        let wait = async {
            loop {
                let notified = self.changed.notified();
                if check(&self.inner.lock().latest) {
                    return;
                }
                notified.await;
            }
        };
        if tokio::time::timeout(std::time::Duration::from_secs(120), wait)
            .await
            .is_err()
        {
            let latest = format!("{:#?}", self.inner.lock().latest);
            assert!(
                check(&self.inner.lock().latest),
                "not seen: {what}; the last reports are {latest}"
            );
        }
    }

    #[must_use]
    pub fn report(&self, uid: &str) -> Option<PodReport> {
        self.inner.lock().latest.get(&Uid::from(uid)).cloned()
    }

    #[must_use]
    pub fn reports(&self) -> Vec<PodReport> {
        self.inner.lock().reports.clone()
    }

    #[must_use]
    pub fn heartbeat_seen(&self) -> Option<Heartbeat> {
        self.inner.lock().heartbeat.clone()
    }

    #[must_use]
    pub fn registration(&self) -> Option<Registration> {
        self.inner.lock().registration.clone()
    }

    /// Asks the agent and waits for its whole answer. `None` when no agent listens.
    pub async fn ask(&self, id: &str, request: SessionRequest) -> Option<Result<Vec<u8>, SessionRefusal>> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut inner = self.inner.lock();
            inner.answers.insert(id.to_owned(), sender);
            let sent = inner
                .sessions
                .last()
                .is_some_and(|session| session.send(Ok(request)).is_ok());
            if !sent {
                return None;
            }
        }
        receiver.await.ok()
    }

    fn there(&self) -> Result<(), ControlError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(ControlError::Unreachable {
                server: "memory".to_owned(),
                message: "the server is away".to_owned(),
            });
        }
        Ok(())
    }
}

impl Inner {
    fn send(&mut self, frame: Frame) {
        self.streams.retain(|stream| stream.send(Ok(frame.clone())).is_ok());
    }
}

#[async_trait]
impl ControlPlane for MemoryControl {
    async fn register(&self, registration: &Registration) -> Result<Registered, ControlError> {
        self.there()?;
        let mut inner = self.inner.lock();
        inner.registration = Some(registration.clone());
        Ok(Registered {
            cluster: self.cluster.clone(),
            uid: "node".into(),
            incarnation: inner.incarnation.clone(),
        })
    }

    async fn stream(
        &self,
        resume: Option<Resume>,
    ) -> Result<BoxStream<'static, Result<Frame, ControlError>>, ControlError> {
        self.there()?;
        let mut inner = self.inner.lock();
        let (sender, receiver) = mpsc::unbounded_channel();
        let current =
            resume.is_some_and(|resume| resume.incarnation == inner.incarnation && resume.version == inner.version);
        let first = if current {
            Frame::Bookmark { version: inner.version }
        } else {
            Frame::Snapshot {
                cluster: self.cluster.clone(),
                incarnation: inner.incarnation.clone(),
                version: inner.version,
                objects: inner.objects.values().cloned().collect(),
            }
        };
        let _ = sender.send(Ok(first));
        inner.streams.push(sender);
        Ok(UnboundedReceiverStream::new(receiver).boxed())
    }

    async fn report(&self, reports: &[PodReport]) -> Result<(), ControlError> {
        self.there()?;
        {
            let mut inner = self.inner.lock();
            for report in reports {
                inner.reports.push(report.clone());
                inner.latest.insert(report.uid.clone(), report.clone());
            }
        }
        self.changed.notify_waiters();
        Ok(())
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), ControlError> {
        self.there()?;
        self.inner.lock().heartbeat = Some(heartbeat.clone());
        self.changed.notify_waiters();
        Ok(())
    }

    async fn sessions(&self) -> Result<BoxStream<'static, Result<SessionRequest, ControlError>>, ControlError> {
        self.there()?;
        let (sender, receiver) = mpsc::unbounded_channel();
        self.inner.lock().sessions.push(sender);
        self.changed.notify_waiters();
        Ok(UnboundedReceiverStream::new(receiver).boxed())
    }

    async fn answer(&self, id: &str, answer: SessionAnswer) -> Result<(), ControlError> {
        let whole = match answer {
            Ok(stream) => Ok(stream.collect::<Vec<Bytes>>().await.concat()),
            Err(refusal) => Err(refusal),
        };
        if let Some(waiting) = self.inner.lock().answers.remove(id) {
            let _ = waiting.send(whole);
        }
        Ok(())
    }
}
