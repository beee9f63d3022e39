//! Writes, their preconditions and their answers.

use std::sync::Arc;

use jiff::Timestamp;
use schemas::{Key, Object, Packed, Uid};

/// Who writes. When writes wait, users and git go before controllers, and these before status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    User,
    Git,
    Controller,
    Status,
}

/// What a write does. Uids, times and names are the caller's: the store makes none up.
#[derive(Clone, Debug)]
pub enum Op {
    /// Makes a new object, with its uid, creation time and status; generation becomes 1 for kinds
    /// that count it.
    Create(Object),
    /// Replaces metadata and body of an existing object. Status and node stay; generation rises when
    /// the body changes; uid and creation time cannot change. Removing the last finalizer of an
    /// object with a deletion timestamp removes it.
    Replace(Object),
    /// Replaces metadata, body and status in one step: what marks an object for deletion says why in
    /// the same breath.
    Retire { object: Object, status: Packed },
    /// Replaces the status alone.
    Status { key: Key, status: Packed },
    /// Binds a pod to a node; a pod that has one is a conflict.
    Bind {
        key: Key,
        node: Arc<str>,
        status: Option<Packed>,
    },
    /// Removes the object for good; its finalizers must be empty. Graceful deletion is a `Replace`
    /// that sets a deletion timestamp, decided above the store.
    Remove { key: Key },
}

/// One write, and what must hold for it.
#[derive(Clone, Debug)]
pub struct Write {
    pub op: Op,
    /// The object's uid must be this.
    pub uid: Option<Uid>,
    /// The object's version must be this.
    pub version: Option<u64>,
}

impl Write {
    #[must_use]
    pub fn new(op: Op) -> Self {
        Self {
            op,
            uid: None,
            version: None,
        }
    }

    #[must_use]
    pub fn uid(mut self, uid: Uid) -> Self {
        self.uid = Some(uid);
        self
    }

    #[must_use]
    pub fn version(mut self, version: u64) -> Self {
        self.version = Some(version);
        self
    }
}

/// Why a write did not happen.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    #[error("{0} already exists")]
    AlreadyExists(Key),
    #[error("{0} is not there")]
    NotFound(Key),
    #[error("{key} has changed: {reason}")]
    Conflict { key: Key, reason: String },
    #[error("{key} is not valid: {reason}")]
    Invalid { key: Key, reason: String },
    /// A rule of its namespace speaks against it, such as a quota.
    #[error("{} {:?} is forbidden: {reason}", key.kind.info().resource(), key.name)]
    Forbidden { key: Key, reason: String },
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The log is away, or this server no longer leads. Nothing was written, unless the text says that
/// the outcome is not known.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store cannot write now: {0}")]
pub struct Unavailable(pub String);

/// One line of the audit: who did what.
#[derive(Clone, Debug)]
pub struct AuditLine {
    pub at: Timestamp,
    pub user: String,
    pub verb: String,
    pub resource: String,
    pub code: u16,
    pub detail: String,
}
