//! The store: durable state behind one batching writer, served from a copy in memory.
//!
//! A pure core ([`copy`]) judges writes, assigns versions and feeds watches; a [`log::Log`] makes
//! batches durable. Postgres is one log, memory is the other; above that seam the code is the same.

pub mod desired;
pub mod log;
pub mod write;

use std::sync::Arc;

use schemas::{Key, Kind, Object, Uid, node::Incarnation, report::Report};

pub use desired::{Desired, DesiredRow, RevisionWrite};
pub use write::{Class, Op, Unavailable, Write, WriteError};

/// A handle to the store; clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {}

/// A list and the version at which it was complete.
#[derive(Clone, Debug)]
pub struct List {
    pub version: u64,
    /// In the order of their keys.
    pub items: Vec<Arc<Object>>,
}

/// What a watch sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Empty: every kind.
    pub kinds: Vec<Kind>,
    /// None: every namespace.
    pub namespace: Option<Arc<str>>,
}

/// One committed change. Changes of a watch come in the order of their versions, none left out.
#[derive(Clone, Debug)]
pub struct Change {
    pub version: u64,
    pub old: Option<Arc<Object>>,
    /// None: the object was removed.
    pub new: Option<Arc<Object>>,
}

/// The version asked for is older than the change log, newer than the store, or of another
/// incarnation: list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("version {asked} is gone (the oldest kept is {oldest}, the newest {newest}); list again")]
pub struct Gone {
    pub asked: u64,
    pub oldest: u64,
    pub newest: u64,
}

/// A stream of changes. Dropping it ends the watch.
pub struct Watch {}

impl Watch {
    /// The next changes, at least one; waits for them. `None` when the watcher fell too far behind
    /// or the store took a new incarnation: list again.
    pub async fn next(&mut self) -> Option<Vec<Change>> {
        unimplemented!()
    }
}

/// A consistent look at the copy. Cheap, and holds a read lock: never keep one across an await.
pub struct View<'a> {
    _guard: std::marker::PhantomData<&'a ()>,
}

impl View<'_> {
    #[must_use]
    pub fn version(&self) -> u64 {
        unimplemented!()
    }

    #[must_use]
    pub fn get(&self, _key: &Key) -> Option<&Arc<Object>> {
        unimplemented!()
    }

    /// Objects of a kind, of one namespace or of all, in the order of their keys.
    pub fn list<'s>(&'s self, _kind: Kind, _namespace: Option<&str>) -> impl Iterator<Item = &'s Arc<Object>> {
        std::iter::empty()
    }

    /// Objects with an owner reference to this uid, controller or not.
    pub fn owned_by<'s>(&'s self, _owner: &Uid) -> impl Iterator<Item = &'s Arc<Object>> {
        std::iter::empty()
    }

    /// Pods bound to a node.
    pub fn on_node<'s>(&'s self, _node: &str) -> impl Iterator<Item = &'s Arc<Object>> {
        std::iter::empty()
    }

    #[must_use]
    pub fn by_uid(&self, _uid: &Uid) -> Option<&Arc<Object>> {
        unimplemented!()
    }
}

impl Store {
    /// Loads what the log holds and starts the writer.
    pub async fn open(_log: Arc<dyn log::Log>) -> Result<Self, log::LogError> {
        unimplemented!()
    }

    #[must_use]
    pub fn view(&self) -> View<'_> {
        unimplemented!()
    }

    #[must_use]
    pub fn version(&self) -> u64 {
        self.view().version()
    }

    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        unimplemented!()
    }

    /// The cluster's id, made once with the database.
    #[must_use]
    pub fn cluster(&self) -> Arc<str> {
        unimplemented!()
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
    pub fn watch(&self, _scope: Scope, _after: Option<u64>) -> Result<Watch, Gone> {
        unimplemented!()
    }

    /// Writes several objects in one go. Each write succeeds or fails by itself; the answers come in
    /// order, after the commit.
    pub async fn write(&self, _class: Class, _writes: Vec<Write>) -> Vec<Result<Arc<Object>, WriteError>> {
        unimplemented!()
    }

    /// Writes one object.
    pub async fn write_one(&self, class: Class, write: Write) -> Result<Arc<Object>, WriteError> {
        match self.write(class, vec![write]).await.pop() {
            Some(answer) => answer,
            None => Err(WriteError::Unavailable(Unavailable("the writer is gone".into()))),
        }
    }

    /// Records a revision: bodies first, then the rows that changed, in one transaction.
    pub async fn record(&self, _revision: RevisionWrite) -> Result<Arc<Desired>, Unavailable> {
        unimplemented!()
    }

    /// The newest desired state.
    #[must_use]
    pub fn desired(&self) -> Arc<Desired> {
        unimplemented!()
    }

    /// Wakes when a revision was recorded; the value is its number. "Look again", nothing more.
    #[must_use]
    pub fn desired_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        unimplemented!()
    }

    /// Recorded revisions, newest first.
    pub async fn revisions(&self, _limit: usize) -> Result<Vec<desired::Revision>, Unavailable> {
        unimplemented!()
    }

    /// The latest report of the reconcilers; rebuilt after a start.
    #[must_use]
    pub fn reports(&self) -> tokio::sync::watch::Receiver<Option<Arc<Report>>> {
        unimplemented!()
    }

    pub fn publish_report(&self, _report: Arc<Report>) {
        unimplemented!()
    }

    /// Notes that objects have been healthy with their current content, once and for all.
    pub async fn mark_healthy(&self, _keys: Vec<(Key, schemas::ContentHash)>) -> Result<(), Unavailable> {
        unimplemented!()
    }

    #[must_use]
    pub fn was_healthy(&self, _key: &Key, _content: schemas::ContentHash) -> bool {
        unimplemented!()
    }

    /// Confirms a set of deletions by its digest.
    pub async fn confirm_deletes(&self, _confirmation: desired::Confirmation) -> Result<(), Unavailable> {
        unimplemented!()
    }

    /// Every confirmation that is kept; a set is confirmed when one of them contains it.
    #[must_use]
    pub fn confirmations(&self) -> Vec<desired::Confirmation> {
        unimplemented!()
    }

    /// A small secret (keys, the certificate authority), encrypted at rest.
    pub async fn secret(&self, _name: &str) -> Result<Option<Vec<u8>>, Unavailable> {
        unimplemented!()
    }

    /// Keeps a small secret unless one of that name is there; returns the one that is kept.
    pub async fn secret_or(&self, _name: &str, _value: Vec<u8>) -> Result<Vec<u8>, Unavailable> {
        unimplemented!()
    }

    /// Remembers a webhook delivery; false if it was known already.
    pub async fn first_delivery(&self, _source: &str, _id: &str) -> Result<bool, Unavailable> {
        unimplemented!()
    }

    /// Appends audit lines.
    pub async fn audit(&self, _lines: Vec<write::AuditLine>) -> Result<(), Unavailable> {
        unimplemented!()
    }

    /// Whether writes are possible now: false while the log is away.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        unimplemented!()
    }
}
