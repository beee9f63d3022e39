//! The log in memory, with every commit looked at: the steps of a run.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use parking_lot::Mutex;
use schemas::Key;
use store::{
    AuditLine, Desired, DesiredRow, MemoryLog, Revision,
    log::{Batch, Loaded, Log, LogError, Stage, Standing, Tidy},
};
use tokio::sync::Notify;

use crate::invariants::Watcher;

/// What happened, in order.
#[derive(Default)]
pub(crate) struct Trace {
    hasher: DefaultHasher,
    pub(crate) lines: Vec<String>,
}

impl Trace {
    pub(crate) fn note(&mut self, line: String) {
        line.hash(&mut self.hasher);
        self.lines.push(line);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}

/// The log as one life of the server sees it.
pub(crate) struct Traced {
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) trace: Arc<Mutex<Trace>>,
    pub(crate) watcher: Arc<Mutex<Watcher>>,
    /// The server was killed: nothing that it asks is ever answered.
    pub(crate) dead: AtomicBool,
    /// The server dies right after the commit that this counts down to.
    pub(crate) dies_after: Mutex<Option<u32>>,
    pub(crate) died: Notify,
}

impl Traced {
    async fn alive(&self) {
        if self.dead.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    fn dies_now(&self) -> bool {
        let mut left = self.dies_after.lock();
        match left.as_mut() {
            Some(0) => {
                *left = None;
                true
            }
            Some(more) => {
                *more -= 1;
                false
            }
            None => false,
        }
    }
}

#[async_trait]
impl Log for Traced {
    async fn take_office(&self, max_changes: usize) -> Result<Loaded, LogError> {
        self.log.take_office(max_changes).await
    }

    async fn commit(&self, epoch: u64, batch: &Batch) -> Result<(), LogError> {
        self.alive().await;
        let before = format!("{:?}", self.log);
        let committed = self.log.commit(epoch, batch).await;
        // A connection that was lost after the commit says no, and the rows are there all the same.
        if before != format!("{:?}", self.log) {
            for row in &batch.rows {
                let new = row.new.as_ref().map(|new| new.to_value().to_string());
                self.trace
                    .lock()
                    .note(format!("{} {} {}", row.version, row.key, new.unwrap_or_default()));
            }
            self.watcher.lock().committed(batch);
        }
        if self.dies_now() {
            self.dead.store(true, Ordering::SeqCst);
            self.died.notify_one();
        }
        self.alive().await;
        committed
    }

    async fn renew(&self, epoch: u64) -> Result<(), LogError> {
        self.alive().await;
        self.log.renew(epoch).await
    }

    async fn recover(&self, epoch: u64) -> Result<Standing, LogError> {
        self.alive().await;
        self.log.recover(epoch).await
    }

    async fn reload(&self, epoch: u64, max_changes: usize) -> Result<Loaded, LogError> {
        self.alive().await;
        self.log.reload(epoch, max_changes).await
    }

    async fn stage(&self, epoch: u64, stage: &Stage) -> Result<(), LogError> {
        self.alive().await;
        self.log.stage(epoch, stage).await
    }

    async fn unstage(&self, epoch: u64) -> Result<bool, LogError> {
        self.alive().await;
        self.log.unstage(epoch).await
    }

    async fn tidy(&self, epoch: u64, tidy: &Tidy) -> Result<bool, LogError> {
        self.alive().await;
        self.log.tidy(epoch, tidy).await
    }

    async fn revisions(&self, limit: usize) -> Result<Vec<Revision>, LogError> {
        self.log.revisions(limit).await
    }

    async fn desired_at(&self, revision: u64) -> Result<Option<Desired>, LogError> {
        self.log.desired_at(revision).await
    }

    async fn declarations(&self, key: &Key, limit: usize) -> Result<Vec<DesiredRow>, LogError> {
        self.log.declarations(key, limit).await
    }

    async fn audited(&self, limit: usize) -> Result<Vec<AuditLine>, LogError> {
        self.log.audited(limit).await
    }
}
