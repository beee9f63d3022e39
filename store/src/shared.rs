//! What the writer changes and everyone reads.

use std::{cell::Cell, ops::Deref, sync::Arc};

use parking_lot::{RwLock, RwLockReadGuard};
use schemas::{Key, Kind, Object, Uid, node::Incarnation, report::Report};
use tokio::sync::watch;

use crate::{
    copy::Objects,
    heartbeat::Heartbeats,
    notes::{Note, Notes},
    quota::Counted,
    ring::Ring,
    usage::Usages,
    watch::Wakes,
};

/// The copy and the recent past, changed together.
pub(crate) struct State {
    pub(crate) objects: Objects,
    pub(crate) ring: Ring,
    /// Rises when the copy is loaded anew; every watch ends then.
    pub(crate) life: u64,
    pub(crate) incarnation: Incarnation,
    pub(crate) cluster: Arc<str>,
}

pub(crate) struct Shared {
    state: RwLock<State>,
    pub(crate) notes: RwLock<Notes>,
    pub(crate) wakes: Wakes,
    pub(crate) heartbeats: Heartbeats,
    pub(crate) usages: Usages,
    pub(crate) revision: watch::Sender<u64>,
    /// How many confirmations are kept.
    pub(crate) confirmations: watch::Sender<usize>,
    /// Counts changes of documents.
    pub(crate) documents: watch::Sender<u64>,
    pub(crate) reports: watch::Sender<Option<Arc<Report>>>,
}

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// A read lock that the same thread may take again while it holds one, even if a writer waits.
pub(crate) struct Reading<'a> {
    guard: RwLockReadGuard<'a, State>,
}

impl Deref for Reading<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.guard
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get().saturating_sub(1));
    }
}

impl Shared {
    pub(crate) fn new(state: State, notes: Notes, heartbeats: Heartbeats) -> Self {
        Self {
            revision: watch::Sender::new(notes.desired.revision),
            confirmations: watch::Sender::new(notes.confirmations.len()),
            state: RwLock::new(state),
            notes: RwLock::new(notes),
            wakes: Wakes::default(),
            heartbeats,
            documents: watch::Sender::new(0),
            usages: Usages::default(),
            reports: watch::Sender::new(None),
        }
    }

    pub(crate) fn read(&self) -> Reading<'_> {
        let depth = DEPTH.get();
        // A thread that reads already must not queue behind a waiting writer, which waits for it;
        // one that does not must, or readers could starve the writer.
        let guard = if depth == 0 {
            self.state.read()
        } else {
            self.state.read_recursive()
        };
        DEPTH.set(depth + 1);
        Reading { guard }
    }

    /// Takes notes that were committed, and wakes who waits for them.
    pub(crate) fn take_notes(&self, committed: &[Note]) {
        if committed.is_empty() {
            return;
        }
        let (revision, confirmations) = {
            let mut notes = self.notes.write();
            committed.iter().for_each(|note| notes.apply(note));
            (notes.desired.revision, notes.confirmations.len())
        };
        self.revision
            .send_if_modified(|seen| std::mem::replace(seen, revision) != revision);
        self.confirmations
            .send_if_modified(|seen| std::mem::replace(seen, confirmations) != confirmations);
        if committed.iter().any(|note| matches!(note, Note::Document { .. })) {
            self.documents.send_modify(|count| *count += 1);
        }
    }

    /// Takes all notes anew.
    pub(crate) fn replace_notes(&self, notes: Notes) {
        let (revision, confirmations) = (notes.desired.revision, notes.confirmations.len());
        *self.notes.write() = notes;
        self.revision.send_replace(revision);
        self.confirmations.send_replace(confirmations);
        self.documents.send_modify(|count| *count += 1);
    }

    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.write())
    }
}

/// A consistent look at the copy. Cheap, and holds a read lock: never keep one across an await.
pub struct View<'a> {
    pub(crate) state: Reading<'a>,
}

impl View<'_> {
    #[must_use]
    pub fn version(&self) -> u64 {
        self.state.objects.version()
    }

    /// The life of the store that this look is of.
    #[must_use]
    pub fn incarnation(&self) -> &Incarnation {
        &self.state.incarnation
    }

    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.state.objects.get(key)
    }

    /// Objects of a kind, of one namespace or of all, in the order of their keys.
    pub fn list<'s>(&'s self, kind: Kind, namespace: Option<&str>) -> impl Iterator<Item = &'s Arc<Object>> + use<'s> {
        self.state.objects.list(kind, namespace, None)
    }

    /// As [`View::list`], from behind a key on: the next page of a list.
    pub fn list_after<'s>(
        &'s self,
        kind: Kind,
        namespace: Option<&str>,
        after: &Key,
    ) -> impl Iterator<Item = &'s Arc<Object>> + use<'s> {
        self.state.objects.list(kind, namespace, Some(after))
    }

    /// How many objects of a kind there are.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.state.objects.count(kind)
    }

    /// Objects with an owner reference to this uid, controller or not.
    pub fn owned_by<'s>(&'s self, owner: &Uid) -> impl Iterator<Item = &'s Arc<Object>> + use<'s> {
        self.state.objects.owned_by(owner)
    }

    /// What a ResourceQuota has counted.
    #[must_use]
    pub fn counted(&self, quota: &Key) -> Option<Counted> {
        self.state.objects.ledger(quota.ns())?.counted(&quota.name)
    }

    /// Whether a namespace has quotas.
    #[must_use]
    pub fn has_quotas(&self, namespace: &str) -> bool {
        self.state.objects.ledger(namespace).is_some()
    }

    /// Pods bound to a node.
    pub fn on_node<'s>(&'s self, node: &str) -> impl Iterator<Item = &'s Arc<Object>> + use<'s> {
        self.state.objects.on_node(node)
    }

    #[must_use]
    pub fn by_uid(&self, uid: &Uid) -> Option<&Arc<Object>> {
        self.state.objects.by_uid(uid)
    }
}
