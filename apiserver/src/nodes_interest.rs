//! Which nodes need which ConfigMaps, Secrets, claims and volumes, so that a change of one wakes those
//! nodes alone.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use schemas::{Key, Kind, Object, storage};
use store::{Change, Scope, Store};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// One index for all node streams, fed by one watch.
#[derive(Default)]
pub(crate) struct Interest {
    ids: AtomicU64,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    by_key: std::collections::HashMap<Key, Vec<(u64, Arc<Notify>)>>,
    all: std::collections::HashMap<u64, Arc<Notify>>,
    by_node: std::collections::HashMap<Arc<str>, Vec<(u64, Arc<Notify>)>>,
    /// Volumes in deletion that a node is to remove, by node.
    doomed: std::collections::HashMap<Arc<str>, BTreeSet<Key>>,
}

/// What pods need beside themselves.
const NEEDED: [Kind; 4] = [
    Kind::ConfigMap,
    Kind::Secret,
    Kind::PersistentVolumeClaim,
    Kind::PersistentVolume,
];

/// One node stream's part in the index; it leaves when dropped.
pub(crate) struct Membership {
    interest: Arc<Interest>,
    id: u64,
    node: Arc<str>,
    wake: Arc<Notify>,
    keys: BTreeSet<Key>,
}

impl Interest {
    /// Starts the one watch that feeds the index.
    pub(crate) fn start(store: Store, shutdown: CancellationToken) -> Arc<Self> {
        let interest = Arc::new(Self::default());
        let fed = interest.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = fed.feed(&store) => {}
                () = shutdown.cancelled() => {}
            }
        });
        interest
    }

    async fn feed(&self, store: &Store) {
        loop {
            // A watch from now on always begins.
            if let Ok(mut watch) = store.watch(Scope::kinds(&NEEDED), None) {
                self.find_doomed(store);
                self.wake_all();
                while let Some(changes) = watch.next().await {
                    self.wake(&changes);
                }
            } else {
                tokio::task::yield_now().await;
            }
        }
    }

    fn find_doomed(&self, store: &Store) {
        let view = store.view();
        let mut members = self.members.lock();
        members.doomed.clear();
        for volume in view.list(Kind::PersistentVolume, None) {
            members.take_volume(None, Some(volume));
        }
    }

    fn wake(&self, changes: &[Change]) {
        let mut members = self.members.lock();
        for change in changes {
            let is_volume = |object: &Arc<Object>| object.kind == Kind::PersistentVolume;
            let (old, new) = (change.old.as_ref(), change.new.as_ref());
            if old.or(new).is_some_and(is_volume) {
                members.take_volume(old.map(|old| &**old), new.map(|new| &**new));
            }
        }
        for object in changes
            .iter()
            .filter_map(|change| change.new.as_ref().or(change.old.as_ref()))
        {
            for (_, wake) in members.by_key.get(&object.key()).into_iter().flatten() {
                wake.notify_one();
            }
        }
    }

    fn wake_all(&self) {
        self.members.lock().all.values().for_each(|wake| wake.notify_one());
    }

    pub(crate) fn join(self: &Arc<Self>, node: &Arc<str>) -> Membership {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let wake = Arc::new(Notify::new());
        let mut members = self.members.lock();
        members.all.insert(id, wake.clone());
        members
            .by_node
            .entry(node.clone())
            .or_default()
            .push((id, wake.clone()));
        drop(members);
        Membership {
            interest: self.clone(),
            id,
            node: node.clone(),
            wake,
            keys: BTreeSet::new(),
        }
    }
}

/// The node that is to remove what is behind a volume in deletion.
fn remover(volume: &Object) -> Option<Arc<str>> {
    let held = volume
        .meta
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == storage::DOCKER_VOLUME);
    let goes = volume.is_deleting() && held && storage::is_deleted_with(volume);
    goes.then(|| storage::docker_volume(volume))
        .flatten()
        .map(|docker| docker.node)
}

impl Members {
    fn take_volume(&mut self, old: Option<&Object>, new: Option<&Object>) {
        if let Some((old, node)) = old.and_then(|old| Some((old, remover(old)?)))
            && let Some(doomed) = self.doomed.get_mut(&node)
        {
            doomed.remove(&old.key());
            if doomed.is_empty() {
                self.doomed.remove(&node);
            }
        }
        if let Some((new, node)) = new.and_then(|new| Some((new, remover(new)?))) {
            for (_, wake) in self.by_node.get(&node).into_iter().flatten() {
                wake.notify_one();
            }
            self.doomed.entry(node).or_default().insert(new.key());
        }
    }

    fn leave(&mut self, key: &Key, id: u64) {
        if let Some(members) = self.by_key.get_mut(key) {
            members.retain(|(member, _)| *member != id);
            if members.is_empty() {
                self.by_key.remove(key);
            }
        }
    }
}

impl Membership {
    /// Waits until something that this node needs may have changed.
    pub(crate) async fn changed(&self) {
        self.wake.notified().await;
    }

    /// Volumes that this node is to remove.
    pub(crate) fn doomed(&self) -> BTreeSet<Key> {
        let members = self.interest.members.lock();
        members.doomed.get(&self.node).cloned().unwrap_or_default()
    }

    /// Sets what the node needs. True if there is something new in it: what was read before that may
    /// be out of date.
    pub(crate) fn set(&mut self, keys: BTreeSet<Key>) -> bool {
        if keys == self.keys {
            return false;
        }
        let mut members = self.interest.members.lock();
        for key in self.keys.difference(&keys) {
            members.leave(key, self.id);
        }
        let mut grown = false;
        for key in keys.difference(&self.keys) {
            let wake = (self.id, self.wake.clone());
            members.by_key.entry(key.clone()).or_default().push(wake);
            grown = true;
        }
        drop(members);
        self.keys = keys;
        grown
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut members = self.interest.members.lock();
        members.all.remove(&self.id);
        if let Some(streams) = members.by_node.get_mut(&self.node) {
            streams.retain(|(id, _)| *id != self.id);
            if streams.is_empty() {
                members.by_node.remove(&self.node);
            }
        }
        for key in &self.keys {
            members.leave(key, self.id);
        }
    }
}
