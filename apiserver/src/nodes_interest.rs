//! Which nodes need which ConfigMaps and Secrets, so that a change of one wakes those nodes alone.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use schemas::{Key, Kind};
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
}

/// One node stream's part in the index; it leaves when dropped.
pub(crate) struct Membership {
    interest: Arc<Interest>,
    id: u64,
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
            if let Ok(mut watch) = store.watch(Scope::kinds(&[Kind::ConfigMap, Kind::Secret]), None) {
                self.wake_all();
                while let Some(changes) = watch.next().await {
                    self.wake(&changes);
                }
            } else {
                tokio::task::yield_now().await;
            }
        }
    }

    fn wake(&self, changes: &[Change]) {
        let members = self.members.lock();
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

    pub(crate) fn join(self: &Arc<Self>) -> Membership {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let wake = Arc::new(Notify::new());
        self.members.lock().all.insert(id, wake.clone());
        Membership {
            interest: self.clone(),
            id,
            wake,
            keys: BTreeSet::new(),
        }
    }
}

impl Members {
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
        for key in &self.keys {
            members.leave(key, self.id);
        }
    }
}
