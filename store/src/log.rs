//! The seam under the store: what makes a batch durable.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use schemas::{Key, Object, node::Incarnation};

use crate::{
    desired::{Desired, DesiredRow, Revision},
    judge::Row,
    notes::{Note, Notes},
    watch::Change,
    write::AuditLine,
};

pub use crate::{
    memory::{Fault, MemoryLog},
    staging::Stage,
};

/// Why the log could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    #[error("another server leads (epoch {found}, ours was {ours})")]
    Fenced { ours: u64, found: u64 },
    /// The batch may or may not be durable: reconnect, check the epoch and read the change log.
    #[error("the outcome of a commit is unknown: {0}")]
    Unknown(String),
    #[error("the database cannot be reached: {0}")]
    Away(String),
    /// The database is there and took nothing of this batch.
    #[error("the database refused: {0}")]
    Refused(String),
    #[error("the database holds something this version cannot read: {0}")]
    Foreign(String),
}

/// What one transaction makes durable: all of it or nothing.
#[derive(Clone)]
pub struct Batch {
    /// Batches count up by one, so that after a lost connection the last number tells whether a
    /// batch was committed.
    pub number: u64,
    /// The store's version after this batch.
    pub version: u64,
    pub at: Timestamp,
    /// In the order of their versions, which are consecutive.
    pub rows: Vec<Row>,
    pub notes: Vec<Note>,
}

/// Everything that the log holds, as of one batch.
pub struct Loaded {
    pub cluster: Arc<str>,
    pub incarnation: Incarnation,
    pub epoch: u64,
    pub batch: u64,
    pub version: u64,
    /// Each with the id of its row.
    pub objects: Vec<(u64, Object)>,
    /// The newest changes, oldest first, with the time of their commit; versions are consecutive and
    /// end at `version`.
    pub changes: Vec<(Timestamp, Change)>,
    pub notes: Notes,
}

/// Where the database stands, after a connection was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Our new epoch: a transaction of the lost connection can no longer commit.
    pub epoch: u64,
    pub cluster: Arc<str>,
    pub incarnation: Incarnation,
    pub batch: u64,
    pub version: u64,
}

/// What is too old to keep. The log removes at most `limit` rows of each sort in one step.
#[derive(Clone, Debug)]
pub struct Tidy {
    /// Changes before this time go, but the newest `keep_changes` stay.
    pub changes_before: Timestamp,
    pub keep_changes: u64,
    /// Revisions before this time go, but the newest `keep_revisions` stay.
    pub revisions_before: Timestamp,
    pub keep_revisions: u64,
    pub audit_before: Timestamp,
    pub deliveries_before: Timestamp,
    pub limit: u32,
}

/// A durable log of batches. Only the writer's task calls what changes it.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Raises the epoch, so that whoever led before can commit nothing more, and then loads.
    async fn take_office(&self, max_changes: usize) -> Result<Loaded, LogError>;

    /// Makes a batch durable, if `epoch` is still the newest.
    async fn commit(&self, epoch: u64, batch: &Batch) -> Result<(), LogError>;

    /// Asks whether `epoch` is still the newest. Writes nothing.
    async fn renew(&self, epoch: u64) -> Result<(), LogError>;

    /// Connects anew, takes the epoch after ours unless another server took it, and says where the
    /// database stands.
    async fn recover(&self, epoch: u64) -> Result<Standing, LogError>;

    /// The database is not the one that the copy was made from: takes a new incarnation and loads.
    async fn reload(&self, epoch: u64, max_changes: usize) -> Result<Loaded, LogError>;

    /// Writes a part of a revision ahead of it: bodies and rows that no reader sees before the batch
    /// with the revision is committed.
    async fn stage(&self, epoch: u64, stage: &Stage) -> Result<(), LogError>;

    /// One step of removing what was staged for revisions that never came. True: there is more.
    async fn unstage(&self, epoch: u64) -> Result<bool, LogError>;

    /// One step of removing what is too old. True: there is more.
    async fn tidy(&self, epoch: u64, tidy: &Tidy) -> Result<bool, LogError>;

    /// Recorded revisions, newest first.
    async fn revisions(&self, limit: usize) -> Result<Vec<Revision>, LogError>;

    /// The desired state as of a revision, if it is still kept.
    async fn desired_at(&self, revision: u64) -> Result<Option<Desired>, LogError>;

    /// What an object was declared as, newest first, as far as revisions are kept.
    async fn declarations(&self, key: &Key, limit: usize) -> Result<Vec<DesiredRow>, LogError>;

    /// Audit lines, newest first.
    async fn audited(&self, limit: usize) -> Result<Vec<AuditLine>, LogError>;
}
