//! The store: durable state behind one batching writer, served from a copy in memory.
//!
//! A pure core judges writes ([`judge`]), assigns versions, keeps the copy and feeds watches; a
//! [`log::Log`] makes batches durable. Postgres is one log, memory is the other; above that seam the
//! code is the same.

mod ask;
mod clock;
mod copy;
pub mod desired;
pub mod heartbeat;
mod intern;
pub mod judge;
pub mod log;
mod memory;
#[cfg(test)]
mod model_tests;
pub mod notes;
mod office;
pub mod postgres;
pub mod private;
mod queue;
mod retention;
mod ring;
mod shared;
mod state;
pub mod usage;
mod watch;
mod watermark;
pub mod write;
mod writer;

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use schemas::{Key, Kind, Object, node::Incarnation, now::Clock, report::Report};
use serde_json::Value;
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

pub use clock::SystemClock;
pub use desired::{Confirmation, Desired, DesiredRow, Mark, Revision, RevisionWrite, UnitAt};
pub use heartbeat::Heartbeats;
pub use memory::{Fault, MemoryLog};
pub use office::{Office, Pace};
pub use postgres::{MasterKey, PostgresLog};
pub use private::{DataDirLock, PrivateError, PrivateOptions, PrivatePostgres};
pub use queue::BatchLimits;
pub use retention::Retention;
pub use ring::RingLimits;
pub use shared::View;
pub use watch::{Change, Gone, Scope, Watch};
pub use write::{AuditLine, Class, Op, Unavailable, Write, WriteError};

use ask::{Ask, Told};
use intern::Interner;
use notes::Note;
use office::Standpoint;
use queue::{Answers, Job};
use shared::Shared;
use watermark::Watermark;
use writer::Writer;

/// A handle to the store; clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    shared: Arc<Shared>,
    standpoint: Arc<Standpoint>,
    queue: queue::Sender,
    log: Arc<dyn log::Log>,
    clock: Arc<dyn Clock>,
    pace: Pace,
    closing: CancellationToken,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// How a store is opened. The defaults are those of the design.
#[derive(Clone)]
pub struct Options {
    pub clock: Arc<dyn Clock>,
    pub pace: Pace,
    pub ring: RingLimits,
    pub retention: Retention,
    /// A file beside the database that says how far it had come: a database that was put back to an
    /// older state while no server ran is found out by it, and becomes a new incarnation.
    pub watermark: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock::default()),
            pace: Pace::default(),
            ring: RingLimits::default(),
            retention: Retention::default(),
            watermark: None,
        }
    }
}

/// The document that names the commit for which gates between waves do not count.
pub const SKIP_GATES: &str = "skip-gates";

/// A list and the version at which it was complete.
#[derive(Clone, Debug)]
pub struct List {
    pub version: u64,
    /// In the order of their keys.
    pub items: Vec<Arc<Object>>,
}

/// A call of [`Store::write`] with more writes than this is cut into parts, in order.
const PART: usize = 256;

impl Store {
    /// Loads what the log holds and starts the writer.
    pub async fn open(log: Arc<dyn log::Log>) -> Result<Self, log::LogError> {
        Self::open_with(log, Options::default()).await
    }

    /// Opens the store in a Postgres database: one of `--database-url` ([`postgres::Settings::from_url`])
    /// or the private one ([`PrivatePostgres::connection`]).
    pub async fn open_postgres(
        settings: postgres::Settings,
        key: &MasterKey,
        options: Options,
    ) -> Result<Self, log::LogError> {
        let log = PostgresLog::connect(settings, key).await?;
        Self::open_with(Arc::new(log), options).await
    }

    /// As [`Store::open`], with a clock and limits of one's own.
    pub async fn open_with(log: Arc<dyn log::Log>, options: Options) -> Result<Self, log::LogError> {
        let Options {
            clock,
            pace,
            ring,
            retention,
            watermark,
        } = options;
        let now = clock.now();
        let mut loaded = log.take_office(ring.max_rows).await?;
        let watermark = match &watermark {
            Some(path) => Some(Watermark::read(path).await),
            None => None,
        };
        if watermark
            .as_ref()
            .is_some_and(|mark| mark.is_past(&loaded.incarnation.0, loaded.batch))
        {
            tracing::error!(
                version = loaded.version,
                "the database was put back to an older state; taking a new incarnation"
            );
            loaded = log.reload(loaded.epoch, ring.max_rows).await?;
        }
        let (epoch, batch) = (loaded.epoch, loaded.batch);
        let mut interner = Interner::default();
        let (state, notes) = state::state_of(loaded, &mut interner, ring, now);
        tracing::info!(epoch, version = state.objects.version(), "the store is open");
        let heartbeats = Heartbeats::default();
        heartbeats.take_office(clock.now().monotonic);
        let shared = Arc::new(Shared::new(state, notes, heartbeats));
        let standpoint = Arc::new(Standpoint::new(now));
        let closing = CancellationToken::new();
        let (sender, receiver) = queue::queue();
        let writer = Writer {
            log: log.clone(),
            clock: clock.clone(),
            shared: shared.clone(),
            standpoint: standpoint.clone(),
            interner,
            epoch,
            batch,
            pace,
            ring,
            watermark,
            closing: closing.clone(),
        };
        let writer = tokio::spawn(writer.run(receiver));
        let inner = Arc::new(Inner {
            shared,
            standpoint,
            queue: sender,
            log,
            clock,
            pace,
            closing: closing.clone(),
            writer: Mutex::new(Some(writer)),
        });
        tokio::spawn(retention::run(Arc::downgrade(&inner), retention, closing));
        Ok(Self { inner })
    }

    /// Writes what waits, then stops the writer. Reads go on; later writes fail.
    pub async fn close(&self) {
        self.inner.closing.cancel();
        let writer = self.inner.writer.lock().take();
        if let Some(writer) = writer
            && let Err(error) = writer.await
        {
            tracing::error!(%error, "the writer did not end well");
        }
    }

    #[must_use]
    pub fn view(&self) -> View<'_> {
        View {
            state: self.inner.shared.read(),
        }
    }

    #[must_use]
    pub fn version(&self) -> u64 {
        self.view().version()
    }

    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.inner.shared.read().incarnation.clone()
    }

    /// The cluster's id, made once with the database.
    #[must_use]
    pub fn cluster(&self) -> Arc<str> {
        self.inner.shared.read().cluster.clone()
    }

    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.view().get(key).cloned()
    }

    #[must_use]
    pub fn list(&self, kind: Kind, namespace: Option<&str>) -> List {
        let view = self.view();
        List {
            version: view.version(),
            items: view.list(kind, namespace).cloned().collect(),
        }
    }

    /// Changes after version `after` (that of a list), or from now on.
    pub fn watch(&self, scope: Scope, after: Option<u64>) -> Result<Watch, Gone> {
        Watch::start(self.inner.shared.clone(), scope, after)
    }

    /// The oldest version that a watch can start after.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.inner.shared.read().ring.oldest()
    }

    /// Writes several objects in one go. Each write succeeds or fails by itself; the answers come in
    /// order, after the commit. A write that changes nothing gets the object as it is.
    ///
    /// When the log is away the answer is [`WriteError::Unavailable`] within five seconds.
    pub async fn write(&self, class: Class, writes: Vec<Write>) -> Answers {
        let mut parts = Vec::with_capacity(writes.len().div_ceil(PART));
        let total = writes.len();
        let mut writes = writes.into_iter().peekable();
        let mut answers: Answers = Vec::with_capacity(total);
        let asked = Instant::now();
        while writes.peek().is_some() {
            let part: Vec<Write> = writes.by_ref().take(PART).collect();
            let bytes = part.iter().map(queue::weight).sum();
            let count = part.len();
            let (reply, answer) = oneshot::channel();
            let job = Job::Objects {
                writes: part,
                bytes,
                reply,
            };
            let sent = self.in_time(asked, self.inner.queue.send(class, job)).await;
            parts.push((count, sent.and_then(|sent| sent).map(|()| answer)));
        }
        for (count, part) in parts {
            let part = match part {
                Ok(answer) => self
                    .in_time(asked, answer)
                    .await
                    .and_then(|part| part.map_err(|_| gone())),
                Err(why) => Err(why),
            };
            match part {
                Ok(part) => answers.extend(part),
                Err(why) => answers.extend((0..count).map(|_| Err(why.clone().into()))),
            }
        }
        answers
    }

    /// Writes one object.
    pub async fn write_one(&self, class: Class, write: Write) -> Result<Arc<Object>, WriteError> {
        match self.write(class, vec![write]).await.pop() {
            Some(answer) => answer,
            None => Err(gone().into()),
        }
    }

    /// Waits for something of the writer's as long as it makes progress, and a little longer.
    async fn in_time<T>(&self, asked: Instant, answer: impl Future<Output = T>) -> Result<T, Unavailable> {
        let standpoint = &self.inner.standpoint;
        let patience = self.inner.pace.answer;
        if standpoint.is_away_for(patience) {
            // A caller that tries again at once must not keep the runtime from everyone else.
            tokio::task::yield_now().await;
            return Err(Unavailable("the database is away; nothing was written".into()));
        }
        tokio::pin!(answer);
        loop {
            let deadline = standpoint.deadline(asked, patience);
            tokio::select! {
                biased;
                answer = &mut answer => return Ok(answer),
                () = tokio::time::sleep_until(deadline) => {
                    if standpoint.deadline(asked, patience) <= deadline {
                        return Err(Unavailable(format!(
                            "the database gave no answer in {patience:?}; whether it was written is not known"
                        )));
                    }
                }
            }
        }
    }

    async fn ask(&self, class: Class, ask: Ask) -> Result<Told, Unavailable> {
        let asked = Instant::now();
        let (reply, answer) = oneshot::channel();
        let job = Job::Note { ask, reply };
        self.in_time(asked, self.inner.queue.send(class, job)).await??;
        self.in_time(asked, answer).await?.map_err(|_| gone())?
    }

    async fn tidy_step(&self, tidy: log::Tidy) -> Result<bool, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Tidy { tidy, reply };
        self.inner.queue.send(Class::Status, job).await?;
        answer.await.map_err(|_| gone())?
    }

    /// Records a revision: bodies first, then the rows that changed, in one transaction.
    pub async fn record(&self, revision: RevisionWrite) -> Result<Arc<Desired>, Unavailable> {
        match self.ask(Class::Git, Ask::Revision(Arc::new(revision))).await? {
            Told::Revision(desired) => Ok(desired),
            _ => Err(gone()),
        }
    }

    /// The newest desired state.
    #[must_use]
    pub fn desired(&self) -> Arc<Desired> {
        self.inner.shared.notes.read().desired.clone()
    }

    /// Wakes when a revision was recorded; the value is its number. "Look again", nothing more.
    #[must_use]
    pub fn desired_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.shared.revision.subscribe()
    }

    /// The desired state as of an earlier revision, if it is still kept.
    pub async fn desired_at(&self, revision: u64) -> Result<Option<Desired>, Unavailable> {
        self.asking(self.inner.log.desired_at(revision)).await
    }

    /// Recorded revisions, newest first.
    pub async fn revisions(&self, limit: usize) -> Result<Vec<Revision>, Unavailable> {
        self.asking(self.inner.log.revisions(limit)).await
    }

    /// Audit lines, newest first.
    pub async fn audited(&self, limit: usize) -> Result<Vec<AuditLine>, Unavailable> {
        self.asking(self.inner.log.audited(limit)).await
    }

    async fn asking<T>(&self, answer: impl Future<Output = Result<T, log::LogError>>) -> Result<T, Unavailable> {
        match tokio::time::timeout(self.inner.pace.answer, answer).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(Unavailable(error.to_string())),
            Err(_) => Err(Unavailable("the database does not answer".into())),
        }
    }

    /// The latest report of the reconcilers; rebuilt after a start.
    #[must_use]
    pub fn reports(&self) -> tokio::sync::watch::Receiver<Option<Arc<Report>>> {
        self.inner.shared.reports.subscribe()
    }

    pub fn publish_report(&self, report: Arc<Report>) {
        self.inner.shared.reports.send_replace(Some(report));
    }

    /// Notes that these contents are the newest with which their objects have been healthy. Each object
    /// is named once at most. A few contents are remembered for each declared object.
    pub async fn mark_healthy(&self, mut marks: Vec<(Key, Mark)>) -> Result<(), Unavailable> {
        {
            let known = self.inner.shared.notes.read();
            let is_news = |key: &Key, mark: &Mark| {
                let newest = known.last_healthy(key);
                newest.is_none_or(|newest| newest.content != mark.content)
            };
            marks.retain(|(key, mark)| is_news(key, mark));
        }
        if marks.is_empty() {
            return Ok(());
        }
        self.ask(Class::Controller, Ask::Healthy(marks)).await.map(|_| ())
    }

    /// Whether an object has been healthy with this content, as far as that is remembered.
    #[must_use]
    pub fn was_healthy(&self, key: &Key, content: schemas::ContentHash) -> bool {
        self.inner.shared.notes.read().was_healthy(key, content)
    }

    /// The newest content with which an object was healthy.
    #[must_use]
    pub fn last_healthy(&self, key: &Key) -> Option<Mark> {
        self.inner.shared.notes.read().last_healthy(key).cloned()
    }

    /// The contents with which an object was healthy, the newest first.
    #[must_use]
    pub fn healthy(&self, key: &Key) -> Vec<Mark> {
        let notes = self.inner.shared.notes.read();
        let marks = notes.healthy.get(key);
        marks
            .map(|marks| marks.iter().rev().cloned().collect())
            .unwrap_or_default()
    }

    /// Confirms a set of deletions by its digest.
    pub async fn confirm_deletes(&self, confirmation: Confirmation) -> Result<(), Unavailable> {
        let notes = vec![Note::Confirmation(confirmation)];
        self.ask(Class::User, Ask::Notes(notes)).await.map(|_| ())
    }

    /// Every confirmation that is kept; a set is confirmed when one of them contains it.
    #[must_use]
    pub fn confirmations(&self) -> Vec<Confirmation> {
        self.inner.shared.notes.read().confirmations.clone()
    }

    /// Wakes when a set of deletions was confirmed; the value is how many confirmations are kept.
    #[must_use]
    pub fn confirmation_changes(&self) -> tokio::sync::watch::Receiver<usize> {
        self.inner.shared.confirmations.subscribe()
    }

    /// A small secret (keys, the certificate authority), encrypted at rest.
    pub async fn secret(&self, name: &str) -> Result<Option<Vec<u8>>, Unavailable> {
        Ok(self.inner.shared.notes.read().secrets.get(name).cloned())
    }

    /// Keeps a small secret unless one of that name is there; returns the one that is kept.
    pub async fn secret_or(&self, name: &str, value: Vec<u8>) -> Result<Vec<u8>, Unavailable> {
        let name = name.to_owned();
        match self.ask(Class::User, Ask::SecretOr { name, value }).await? {
            Told::Secret(kept) => Ok(kept),
            _ => Err(gone()),
        }
    }

    /// A small durable document of some part of Towline, by its name.
    #[must_use]
    pub fn document(&self, name: &str) -> Option<Value> {
        self.inner.shared.notes.read().documents.get(name).cloned()
    }

    /// Documents whose names begin so, by the rest of their names.
    #[must_use]
    pub fn documents(&self, prefix: &str) -> Vec<(String, Value)> {
        let notes = self.inner.shared.notes.read();
        let from = notes.documents.range(prefix.to_owned()..);
        from.map_while(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value.clone())))
            .collect()
    }

    /// Wakes when a document was put or removed.
    #[must_use]
    pub fn document_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.shared.documents.subscribe()
    }

    /// Replaces a document, or removes it. The last one to write wins.
    pub async fn put_document(&self, name: &str, value: Option<Value>) -> Result<(), Unavailable> {
        if self.document(name) == value {
            return Ok(());
        }
        let name = name.to_owned();
        let notes = vec![Note::Document { name, value }];
        self.ask(Class::Git, Ask::Notes(notes)).await.map(|_| ())
    }

    /// Remembers a webhook delivery; false if it was known already.
    pub async fn first_delivery(&self, source: &str, id: &str) -> Result<bool, Unavailable> {
        let delivery = Note::Delivery {
            source: source.to_owned(),
            id: id.to_owned(),
            at: self.inner.clock.now().wall,
        };
        match self.ask(Class::User, Ask::Delivery(delivery)).await? {
            Told::First(first) => Ok(first),
            _ => Err(gone()),
        }
    }

    /// Appends audit lines.
    pub async fn audit(&self, lines: Vec<AuditLine>) -> Result<(), Unavailable> {
        let notes = lines.into_iter().map(Note::Audit).collect();
        self.ask(Class::User, Ask::Notes(notes)).await.map(|_| ())
    }

    /// Signs of life of nodes.
    #[must_use]
    pub fn heartbeats(&self) -> Heartbeats {
        self.inner.shared.heartbeats.clone()
    }

    /// What nodes and their containers use.
    #[must_use]
    pub fn usages(&self) -> usage::Usages {
        self.inner.shared.usages.clone()
    }

    /// Whether writes are possible now: false while the log is away, and when this server could not
    /// make sure in time that it still leads.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        let standpoint = &self.inner.standpoint;
        let renewed = Duration::from_millis(standpoint.renewed.load(std::sync::atomic::Ordering::Relaxed));
        let now = self.inner.clock.now().monotonic;
        *standpoint.office.borrow() == Office::Leading && now.saturating_sub(renewed) < self.inner.pace.lease
    }

    /// Whether this server leads; a server that lost its office must start anew.
    #[must_use]
    pub fn office(&self) -> tokio::sync::watch::Receiver<Office> {
        self.inner.standpoint.office.subscribe()
    }
}

fn gone() -> Unavailable {
    Unavailable("the writer has stopped".into())
}
