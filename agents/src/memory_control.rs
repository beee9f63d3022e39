//! A server in memory, for tests of the agent and for simulation: it hands out what is put in by hand,
//! with a change log and a history that can be put back, and keeps what agents report.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use schemas::{
    Kind, Object, Uid,
    node::{
        Fate, Frame, Gone, Heartbeat, History, Identity, Incarnation, Missing, PodReport, Registered, Registration,
        SessionRequest, Stats, Term, Told,
    },
};
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::control::{ControlError, ControlPlane, Resume, SessionAnswer, SessionRefusal};

type Lines<T> = mpsc::UnboundedSender<Result<T, ControlError>>;

/// A server for one node, in memory.
pub struct MemoryControl {
    cluster: Arc<str>,
    away: AtomicBool,
    mute: AtomicBool,
    questions: AtomicU64,
    inner: Mutex<Inner>,
    changed: Notify,
}

/// What a database holds.
#[derive(Clone)]
struct Database {
    history: History,
    version: u64,
    objects: BTreeMap<Uid, Object>,
    /// What changed with each version, as far back as it is kept.
    log: Vec<(u64, Uid, Option<Gone>)>,
    /// A stream can go on after this version or a later one.
    oldest: u64,
}

/// A copy of a server's database.
pub struct Backup(Database);

struct Inner {
    database: Database,
    terms: u64,
    agent: Option<Arc<str>>,
    registration_takes: Duration,
    streams: Vec<Lines<Frame>>,
    sessions: Vec<Lines<SessionRequest>>,
    reports: Vec<PodReport>,
    latest: HashMap<Uid, PodReport>,
    heartbeat: Option<Heartbeat>,
    registration: Option<Registration>,
    stats: Vec<Stats>,
    status: Option<Value>,
    /// What was asked of the server, in order, by its name.
    calls: Vec<&'static str>,
    answers: HashMap<String, oneshot::Sender<Result<Vec<u8>, SessionRefusal>>>,
}

impl MemoryControl {
    #[must_use]
    pub fn new(cluster: &str) -> Arc<Self> {
        let mut inner = Inner {
            database: Database {
                history: History {
                    incarnation: Incarnation("first".into()),
                    terms: Vec::new(),
                },
                version: 1,
                objects: BTreeMap::new(),
                log: Vec::new(),
                oldest: 1,
            },
            terms: 0,
            agent: None,
            registration_takes: Duration::ZERO,
            streams: Vec::new(),
            sessions: Vec::new(),
            reports: Vec::new(),
            latest: HashMap::new(),
            heartbeat: None,
            registration: None,
            stats: Vec::new(),
            status: None,
            calls: Vec::new(),
            answers: HashMap::new(),
        };
        inner.take_office();
        Arc::new(Self {
            cluster: cluster.into(),
            away: AtomicBool::new(false),
            mute: AtomicBool::new(false),
            questions: AtomicU64::new(0),
            inner: Mutex::new(inner),
            changed: Notify::new(),
        })
    }

    /// Puts objects in, or new states of them.
    pub fn put(&self, objects: Vec<Object>) {
        let mut inner = self.inner.lock();
        for object in &objects {
            inner.database.change(object.uid(), Some(object.clone()));
        }
        let frame = inner.database.delta(objects, Vec::new());
        inner.send(frame);
    }

    /// Deletes objects.
    pub fn remove(&self, uids: &[Uid]) {
        let mut inner = self.inner.lock();
        let gone = uids
            .iter()
            .filter_map(|uid| inner.database.change(uid.clone(), None))
            .collect();
        let frame = inner.database.delta(Vec::new(), gone);
        inner.send(frame);
    }

    #[must_use]
    pub fn has(&self, uid: &Uid) -> bool {
        self.inner.lock().database.objects.contains_key(uid)
    }

    #[must_use]
    pub fn backup(&self) -> Backup {
        Backup(self.inner.lock().database.clone())
    }

    /// The database is put back under a new server, which finds that out and takes a new incarnation,
    /// or does not.
    pub fn restore(&self, backup: &Backup, noticed: bool) {
        let mut inner = self.inner.lock();
        inner.database = backup.0.clone();
        if noticed {
            let life = inner.terms + 1;
            inner.database.history.incarnation = Incarnation(format!("life-{life}").into());
            inner.database.history.terms.clear();
        }
        inner.take_office();
    }

    /// Another server takes over; every stream ends.
    pub fn restart(&self) {
        self.inner.lock().take_office();
    }

    /// The connections break.
    pub fn cut(&self) {
        self.inner.lock().streams.clear();
    }

    /// The change log is forgotten: who comes back gets a snapshot.
    pub fn expire(&self) {
        let database = &mut self.inner.lock().database;
        database.version += 1;
        database.log.clear();
        database.oldest = database.version;
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

    /// The server does not answer questions about missing pods, or does again.
    pub fn set_mute(&self, mute: bool) {
        self.mute.store(mute, Ordering::SeqCst);
    }

    /// How many missing pods were asked about.
    #[must_use]
    pub fn questions(&self) -> u64 {
        self.questions.load(Ordering::SeqCst)
    }

    /// The id that an agent without one gets.
    pub fn set_agent(&self, agent: &str) {
        self.inner.lock().agent = Some(agent.into());
    }

    /// How long the server takes to register a node.
    pub fn set_registration_takes(&self, time: Duration) {
        self.inner.lock().registration_takes = time;
    }

    /// Waits until `check` holds of the newest report of each pod; gives up with the last state.
    ///
    /// # Panics
    /// When it does not come to hold within two minutes. Only tests use this.
    pub async fn until(&self, what: &str, check: impl Fn(&HashMap<Uid, PodReport>) -> bool) {
        self.wait(what, |inner| check(&inner.latest)).await;
    }

    /// Waits until `check` holds of any report that ever came; gives up with the last state.
    ///
    /// # Panics
    /// When it does not come to hold within two minutes. Only tests use this.
    pub async fn until_reported(&self, what: &str, check: impl Fn(&PodReport) -> bool) {
        self.wait(what, |inner| inner.reports.iter().any(&check)).await;
    }

    async fn wait(&self, what: &str, check: impl Fn(&Inner) -> bool) {
        let wait = async {
            loop {
                let notified = self.changed.notified();
                if check(&self.inner.lock()) {
                    return;
                }
                notified.await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(120), wait).await.is_err() {
            let inner = self.inner.lock();
            assert!(
                check(&inner),
                "not seen: {what}; the last reports are {:#?}",
                inner.latest
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

    /// The node's status, as it was told last.
    #[must_use]
    pub fn status_seen(&self) -> Option<Value> {
        self.inner.lock().status.clone()
    }

    /// The figures that were told, in order.
    #[must_use]
    pub fn stats_seen(&self) -> Vec<Stats> {
        self.inner.lock().stats.clone()
    }

    /// The names of the calls that came, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<&'static str> {
        self.inner.lock().calls.clone()
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

    fn enter(&self, call: &'static str) -> Result<parking_lot::MutexGuard<'_, Inner>, ControlError> {
        let mut inner = self.inner.lock();
        inner.calls.push(call);
        if self.away.load(Ordering::SeqCst) {
            return Err(ControlError::Unreachable {
                server: "memory".to_owned(),
                message: "the server is away".to_owned(),
            });
        }
        Ok(inner)
    }
}

impl Database {
    /// Puts or deletes one object, with a version of its own.
    fn change(&mut self, uid: Uid, object: Option<Object>) -> Option<Gone> {
        let gone = match object {
            Some(object) => {
                self.objects.insert(uid.clone(), object);
                None
            }
            None => Some(Gone {
                key: self.objects.remove(&uid)?.key(),
                uid: uid.clone(),
            }),
        };
        self.version += 1;
        self.log.push((self.version, uid, gone.clone()));
        gone
    }

    fn delta(&self, put: Vec<Object>, gone: Vec<Gone>) -> Frame {
        Frame::Delta {
            term: self.history.term(),
            version: self.version,
            put,
            gone,
        }
    }

    /// What happened after a version: the newest state of each object.
    fn since(&self, version: u64) -> Frame {
        let mut newest: BTreeMap<&Uid, Option<&Gone>> = BTreeMap::new();
        for (_, uid, gone) in self.log.iter().filter(|(at, ..)| *at > version) {
            newest.insert(uid, gone.as_ref());
        }
        let put = newest
            .iter()
            .filter(|(_, gone)| gone.is_none())
            .filter_map(|(uid, _)| self.objects.get(*uid).cloned())
            .collect();
        self.delta(put, newest.into_values().flatten().cloned().collect())
    }

    fn fate(&self, missing: &Missing) -> Fate {
        let removed = |(_, uid, gone): &(u64, Uid, Option<Gone>)| *uid == missing.uid && gone.is_some();
        let seen = missing.seen.as_ref();
        if self.objects.contains_key(&missing.uid) {
            Fate::Bound
        } else if self.log.iter().any(removed) || seen.is_some_and(|seen| self.history.holds(seen, self.version)) {
            Fate::Deleted
        } else {
            Fate::Unknown
        }
    }
}

impl Inner {
    fn take_office(&mut self) {
        self.terms += 1;
        let term = Term(format!("term-{}", self.terms).into());
        self.database.history.begin(term, self.database.version);
        self.streams.clear();
        self.sessions.clear();
    }

    fn send(&mut self, frame: Frame) {
        self.streams.retain(|stream| stream.send(Ok(frame.clone())).is_ok());
    }
}

#[async_trait]
impl ControlPlane for MemoryControl {
    async fn identify(&self, proposed: &Identity) -> Result<Identity, ControlError> {
        let inner = self.enter("identify")?;
        Ok(Identity {
            machine_id: proposed.machine_id.clone(),
            agent: inner.agent.clone().unwrap_or_else(|| proposed.agent.clone()),
        })
    }

    async fn register(&self, registration: &Registration) -> Result<Registered, ControlError> {
        let takes = self.enter("register asked")?.registration_takes;
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        let mut inner = self.enter("register")?;
        inner.registration = Some(registration.clone());
        inner.status = Some(registration.status.clone());
        Ok(Registered {
            cluster: self.cluster.clone(),
            uid: "node".into(),
            incarnation: inner.database.history.incarnation.clone(),
        })
    }

    async fn stream(
        &self,
        resume: Option<Resume>,
    ) -> Result<BoxStream<'static, Result<Frame, ControlError>>, ControlError> {
        let mut inner = self.enter("stream")?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let database = &inner.database;
        let held = resume.filter(|resume| database.history.holds(&resume.at, database.version));
        let first = match &held {
            Some(resume) if !resume.whole && resume.at.version >= database.oldest => database.since(resume.at.version),
            _ => Frame::Snapshot {
                cluster: self.cluster.clone(),
                incarnation: database.history.incarnation.clone(),
                term: database.history.term(),
                version: database.version,
                continues: held.is_some(),
                objects: database.objects.values().cloned().collect(),
            },
        };
        let _ = sender.send(Ok(first));
        inner.streams.push(sender);
        Ok(UnboundedReceiverStream::new(receiver).boxed())
    }

    async fn report(&self, reports: &[PodReport]) -> Result<(), ControlError> {
        {
            let mut inner = self.enter("report")?;
            for report in reports {
                inner.reports.push(report.clone());
                inner.latest.insert(report.uid.clone(), report.clone());
            }
        }
        self.changed.notify_waiters();
        Ok(())
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), ControlError> {
        {
            let mut inner = self.enter("heartbeat")?;
            if let Some(status) = &heartbeat.status {
                inner.status = Some(status.clone());
            }
            inner.heartbeat = Some(heartbeat.clone());
        }
        self.changed.notify_waiters();
        Ok(())
    }

    async fn stats(&self, stats: &Stats) -> Result<(), ControlError> {
        self.enter("stats")?.stats.push(stats.clone());
        Ok(())
    }

    async fn fates(&self, missing: &[Missing]) -> Result<Vec<Told>, ControlError> {
        let inner = self.enter("fates")?;
        if self.mute.load(Ordering::SeqCst) {
            return Err(ControlError::Unreachable {
                server: "memory".to_owned(),
                message: "the server cannot make sure that it leads".to_owned(),
            });
        }
        self.questions.fetch_add(missing.len() as u64, Ordering::SeqCst);
        debug_assert!(missing.iter().all(|missing| missing.key.kind == Kind::Pod));
        let told = missing.iter().map(|missing| Told {
            uid: missing.uid.clone(),
            fate: inner.database.fate(missing),
        });
        Ok(told.collect())
    }

    async fn sessions(&self) -> Result<BoxStream<'static, Result<SessionRequest, ControlError>>, ControlError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.enter("sessions")?.sessions.push(sender);
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
