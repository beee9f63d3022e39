//! Watches: what they see, how they wait and how they are woken.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use schemas::{Kind, Object, kind::KINDS};
use tokio::sync::Notify;

use crate::shared::Shared;

/// How many changes one call of [`Watch::next`] returns at most.
const AT_ONCE: usize = 1000;

/// What a watch sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Empty: every kind.
    pub kinds: Vec<Kind>,
    /// None: every namespace.
    pub namespace: Option<Arc<str>>,
    /// Only what is bound to this node (pods). Such a watch is woken by nothing else.
    pub node: Option<Arc<str>>,
}

impl Scope {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn kinds(kinds: &[Kind]) -> Self {
        Self {
            kinds: kinds.to_vec(),
            ..Self::default()
        }
    }

    /// The pods of one node.
    #[must_use]
    pub fn node(node: &str) -> Self {
        Self {
            kinds: vec![Kind::Pod],
            node: Some(node.into()),
            ..Self::default()
        }
    }

    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    pub(crate) fn sees(&self, change: &Change) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&change.kind()))
            && self
                .namespace
                .as_deref()
                .is_none_or(|namespace| change.namespace() == Some(namespace))
            && self
                .node
                .as_deref()
                .is_none_or(|node| change.nodes().any(|bound| bound == node))
    }
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
pub struct Watch {
    shared: Arc<Shared>,
    scope: Scope,
    /// Which life of the copy this watch began in.
    life: u64,
    seen: u64,
    id: u64,
    wake: Arc<Notify>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Watch({:?}, seen {})", self.scope, self.seen)
    }
}

impl Watch {
    pub(crate) fn start(shared: Arc<Shared>, scope: Scope, after: Option<u64>) -> Result<Self, Gone> {
        let (id, wake) = shared.wakes.register(&scope);
        let (life, seen) = {
            let state = shared.read();
            let newest = state.objects.version();
            let oldest = state.ring.oldest();
            let asked = after.unwrap_or(newest);
            if asked < oldest || asked > newest {
                shared.wakes.forget(&scope, id);
                return Err(Gone { asked, oldest, newest });
            }
            (state.life, asked)
        };
        Ok(Self {
            shared,
            scope,
            life,
            seen,
            id,
            wake,
        })
    }

    /// The next changes, at least one; waits for them. `None` when the watcher fell too far behind
    /// or the store took a new incarnation: list again.
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Vec<Change>> {
        loop {
            let changes = self.ready()?;
            if !changes.is_empty() {
                return Some(changes);
            }
            self.wake.notified().await;
        }
    }

    /// What is there already, perhaps nothing. `None` as for [`Watch::next`].
    pub fn ready(&mut self) -> Option<Vec<Change>> {
        let state = self.shared.read();
        if state.life != self.life {
            return None;
        }
        let (changes, seen) = state.ring.read(&self.scope, self.seen, AT_ONCE).ok()?;
        self.seen = seen;
        Some(changes)
    }

    /// The version up to which this watch has returned everything: what a bookmark may say.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.wakes.forget(&self.scope, self.id);
    }
}

/// Who is woken by what.
#[derive(Default)]
pub(crate) struct Wakes {
    ids: AtomicU64,
    lists: Mutex<Lists>,
}

type Woken = FxHashMap<u64, Arc<Notify>>;

struct Lists {
    all: Woken,
    kinds: Vec<Woken>,
    spaces: Vec<FxHashMap<Arc<str>, Woken>>,
    nodes: FxHashMap<Arc<str>, Woken>,
}

impl Default for Lists {
    fn default() -> Self {
        Self {
            all: Woken::default(),
            kinds: KINDS.iter().map(|_| Woken::default()).collect(),
            spaces: KINDS.iter().map(|_| FxHashMap::default()).collect(),
            nodes: FxHashMap::default(),
        }
    }
}

impl Wakes {
    fn register(&self, scope: &Scope) -> (u64, Arc<Notify>) {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let wake = Arc::new(Notify::new());
        let mut lists = self.lists.lock();
        if let Some(node) = &scope.node {
            lists.nodes.entry(node.clone()).or_default().insert(id, wake.clone());
        } else if scope.kinds.is_empty() {
            lists.all.insert(id, wake.clone());
        } else {
            for kind in &scope.kinds {
                let kind = *kind as usize;
                match &scope.namespace {
                    Some(namespace) => lists.spaces[kind].entry(namespace.clone()).or_default(),
                    None => &mut lists.kinds[kind],
                }
                .insert(id, wake.clone());
            }
        }
        (id, wake)
    }

    fn forget(&self, scope: &Scope, id: u64) {
        let drop_from = |lists: &mut FxHashMap<Arc<str>, Woken>, name: &Arc<str>| {
            if let Some(woken) = lists.get_mut(name) {
                woken.remove(&id);
                if woken.is_empty() {
                    lists.remove(name);
                }
            }
        };
        let mut lists = self.lists.lock();
        if let Some(node) = &scope.node {
            drop_from(&mut lists.nodes, node);
        } else if scope.kinds.is_empty() {
            lists.all.remove(&id);
        } else {
            for kind in &scope.kinds {
                let kind = *kind as usize;
                match &scope.namespace {
                    Some(namespace) => drop_from(&mut lists.spaces[kind], namespace),
                    None => {
                        lists.kinds[kind].remove(&id);
                    }
                }
            }
        }
    }

    /// Wakes those who see one of these changes; each list once, however many changes there are.
    pub(crate) fn wake(&self, changes: &[Change]) {
        let mut kinds = FxHashSet::default();
        let mut spaces = FxHashSet::default();
        let mut nodes = FxHashSet::default();
        for change in changes {
            kinds.insert(change.kind() as usize);
            if let Some(namespace) = change.namespace() {
                spaces.insert((change.kind() as usize, namespace));
            }
            nodes.extend(change.nodes());
        }
        let lists = self.lists.lock();
        let kinds = kinds.into_iter().map(|kind| &lists.kinds[kind]);
        let spaces = spaces
            .into_iter()
            .filter_map(|(kind, space)| lists.spaces[kind].get(space));
        let nodes = nodes.into_iter().filter_map(|node| lists.nodes.get(node));
        for woken in kinds.chain(spaces).chain(nodes).chain([&lists.all]) {
            woken.values().for_each(|wake| wake.notify_one());
        }
    }

    /// Wakes everyone: the copy began a new life.
    pub(crate) fn wake_all(&self) {
        let lists = self.lists.lock();
        let spaces = lists.spaces.iter().flat_map(FxHashMap::values);
        for woken in lists
            .kinds
            .iter()
            .chain(spaces)
            .chain(lists.nodes.values())
            .chain([&lists.all])
        {
            woken.values().for_each(|wake| wake.notify_one());
        }
    }
}
