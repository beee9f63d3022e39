//! The copy in memory: every object once, in the order of keys, with the indexes that reads need.
//!
//! Pure: it holds what was committed and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rustc_hash::FxHashMap;
use schemas::{Key, Kind, Object, Uid, kind::KINDS};

use crate::{
    judge::Row,
    quota::{Ledger, Ledgers, is_of_quota},
};

/// An object and the id of its row in the log: the version at which it was created.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) object: Arc<Object>,
}

/// All objects as of one version.
#[derive(Debug)]
pub(crate) struct Objects {
    version: u64,
    kinds: Vec<BTreeMap<Key, Entry>>,
    uids: FxHashMap<Uid, Key>,
    owned: FxHashMap<Uid, BTreeSet<Key>>,
    nodes: FxHashMap<Arc<str>, BTreeSet<Key>>,
    ledgers: Ledgers,
}

impl Default for Objects {
    fn default() -> Self {
        Self {
            version: 0,
            kinds: KINDS.iter().map(|_| BTreeMap::new()).collect(),
            uids: FxHashMap::default(),
            owned: FxHashMap::default(),
            nodes: FxHashMap::default(),
            ledgers: Ledgers::default(),
        }
    }
}

impl Objects {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn set_version(&mut self, version: u64) {
        self.version = version;
    }

    pub(crate) fn entry(&self, key: &Key) -> Option<&Entry> {
        self.kinds[key.kind as usize].get(key)
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.entry(key).map(|entry| &entry.object)
    }

    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.kinds[kind as usize].len()
    }

    /// Objects of a kind in the order of their keys, in one namespace or in all, after `after`.
    pub(crate) fn list<'s>(
        &'s self,
        kind: Kind,
        namespace: Option<&str>,
        after: Option<&Key>,
    ) -> impl Iterator<Item = &'s Arc<Object>> + Clone + use<'s> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let first = |namespace: String| Key {
            kind,
            namespace: Some(namespace.into()),
            name: "".into(),
        };
        // No text lies between a name and the same name with a zero byte appended.
        let end = namespace.map(|namespace| first(format!("{namespace}\0")));
        let start = namespace.map(|namespace| first(namespace.to_owned()));
        let start = match (after, start) {
            (Some(after), Some(start)) if *after < start => Included(start),
            (Some(after), _) => Excluded(after.clone()),
            (None, Some(start)) => Included(start),
            (None, None) => Unbounded,
        };
        let end = end.map_or(Unbounded, Excluded);
        // A range that ends before it starts would panic.
        let empty = match (&start, &end) {
            (Included(start) | Excluded(start), Excluded(end)) => start >= end,
            _ => false,
        };
        let range = (!empty).then(|| self.kinds[kind as usize].range((start, end)));
        range.into_iter().flatten().map(|(_, entry)| &entry.object)
    }

    pub(crate) fn by_uid(&self, uid: &Uid) -> Option<&Arc<Object>> {
        self.get(self.uids.get(uid)?)
    }

    pub(crate) fn has_uid(&self, uid: &Uid) -> bool {
        self.uids.contains_key(uid)
    }

    pub(crate) fn owned_by<'s>(&'s self, owner: &Uid) -> impl Iterator<Item = &'s Arc<Object>> + use<'s> {
        self.resolve(self.owned.get(owner))
    }

    pub(crate) fn on_node<'s>(&'s self, node: &str) -> impl Iterator<Item = &'s Arc<Object>> + use<'s> {
        self.resolve(self.nodes.get(node))
    }

    fn resolve<'s>(&'s self, keys: Option<&'s BTreeSet<Key>>) -> impl Iterator<Item = &'s Arc<Object>> {
        keys.into_iter().flatten().filter_map(|key| self.get(key))
    }

    /// What the quotas of a namespace have counted; none where there are none.
    pub(crate) fn ledger(&self, namespace: &str) -> Option<&Ledger> {
        self.ledgers.of(namespace)
    }

    /// All objects of a namespace.
    pub(crate) fn in_namespace<'s>(&'s self, namespace: &'s str) -> impl Iterator<Item = &'s Arc<Object>> + Clone {
        let kinds = KINDS.iter().filter(|info| info.namespaced);
        kinds.flat_map(move |info| self.list(info.kind, Some(namespace), None))
    }

    /// Counts what all quotas have used: once, after a load.
    pub(crate) fn count_quotas(&mut self) {
        let quotas = self.kinds[Kind::ResourceQuota as usize].keys();
        let spaces: BTreeSet<Arc<str>> = quotas.filter_map(|key| key.namespace.clone()).collect();
        spaces.into_iter().for_each(|space| self.count_quotas_of(space));
    }

    fn count_quotas_of(&mut self, namespace: Arc<str>) {
        let ledger = Ledger::count(self.in_namespace(&namespace));
        self.ledgers.put(namespace, ledger);
    }

    pub(crate) fn insert(&mut self, key: Key, id: u64, object: Arc<Object>) {
        self.unindex(&key);
        self.uids.insert(object.uid(), key.clone());
        for owner in object.meta.owner_references.iter().flatten() {
            self.owned
                .entry(owner.uid.as_str().into())
                .or_default()
                .insert(key.clone());
        }
        if let Some(node) = &object.node {
            self.nodes.entry(node.clone()).or_default().insert(key.clone());
        }
        self.kinds[key.kind as usize].insert(key, Entry { id, object });
    }

    fn remove(&mut self, key: &Key) {
        self.unindex(key);
        self.kinds[key.kind as usize].remove(key);
    }

    /// Takes a row that was committed.
    pub(crate) fn apply(&mut self, row: &Row) {
        match (&row.old, &row.new) {
            // What changed is not in an index: the common case of a status write.
            (Some(old), Some(new)) if old.node == new.node && !row.touched.meta => {
                if let Some(entry) = self.kinds[row.key.kind as usize].get_mut(&row.key) {
                    entry.object = new.clone();
                }
            }
            (_, Some(new)) => self.insert(row.key.clone(), row.id, new.clone()),
            (_, None) => self.remove(&row.key),
        }
        self.version = row.version;
        let (old, new) = (row.old.as_deref(), row.new.as_deref());
        let Some(space) = &row.key.namespace else { return };
        if is_of_quota(row.key.kind, old, new) {
            self.count_quotas_of(space.clone());
        } else if let Some(ledger) = self.ledgers.of_mut(space) {
            ledger.charge(old, new);
        }
    }

    fn unindex(&mut self, key: &Key) {
        let Some(entry) = self.kinds[key.kind as usize].get(key) else {
            return;
        };
        let object = entry.object.clone();
        let uid = object.uid();
        self.uids.remove(&uid);
        for owner in object.meta.owner_references.iter().flatten() {
            let owner: Uid = owner.uid.as_str().into();
            if let Some(keys) = self.owned.get_mut(&owner) {
                keys.remove(key);
                if keys.is_empty() {
                    self.owned.remove(&owner);
                }
            }
        }
        if let Some(node) = &object.node
            && let Some(keys) = self.nodes.get_mut(node)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.nodes.remove(node);
            }
        }
    }
}
