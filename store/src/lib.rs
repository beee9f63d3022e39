//! The store: durable state behind one batching writer, served from a copy in memory.
//!
//! A pure core judges writes ([`judge`]), assigns versions, keeps the copy and feeds watches; a
//! [`log::Log`] makes batches durable. Postgres is one log, memory is the other; above that seam the
//! code is the same.

mod admission;
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
mod quota;
mod records;
mod recovery;
mod retention;
mod ring;
mod shared;
mod staging;
mod state;
mod units;
pub mod usage;
mod watch;
mod watermark;
pub mod write;
mod writer;

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use schemas::{Key, Kind, Object, node::Incarnation, now::Clock};
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
pub use quota::Counted;
pub use retention::Retention;
pub use ring::RingLimits;
pub use shared::View;
pub use watch::{Change, Gone, Scope, Watch};
pub use write::{AuditLine, Class, Op, Unavailable, Write, WriteError};

use intern::Interner;
use office::Standpoint;
use queue::{Answers, Job};
use shared::Shared;
use staging::Staging;
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
    /// How many revisions were prepared; one at a time holds it.
    preparing: tokio::sync::Mutex<u64>,
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
    /// Holds new pods and claims to the accounts and the ranges of limits of their namespaces. Off where
    /// nothing makes the accounts.
    pub admission: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock::default()),
            pace: Pace::default(),
            ring: RingLimits::default(),
            retention: Retention::default(),
            watermark: None,
            admission: false,
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
            admission,
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
            admission: admission.then(Default::default),
            staging: Staging::default(),
            epoch,
            batch,
            pace,
            ring,
            watermark,
            closing: closing.clone(),
            gave_up: false,
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
            preparing: tokio::sync::Mutex::new(0),
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
