//! Shares what many objects have in common: bodies by content, names of namespaces and nodes, labels
//! and owners of replicas.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hash},
    sync::{Arc, Weak},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use schemas::{Body, ContentHash, Key, Meta, Object, Shared};

/// Tables of what is in memory already. What nobody else holds any more is forgotten in time.
#[derive(Default)]
pub(crate) struct Interner {
    bodies: FxHashMap<ContentHash, Weak<Body>>,
    bodies_sweep: Sweep,
    names: FxHashSet<Arc<str>>,
    names_sweep: Sweep,
    maps: Table<BTreeMap<String, String>>,
    owners: Table<Vec<OwnerReference>>,
    lists: Table<Vec<String>>,
}

/// When a table is looked through next: once it has doubled since the last time.
struct Sweep(usize);

impl Default for Sweep {
    fn default() -> Self {
        Self(1024)
    }
}

impl Sweep {
    fn due(&self, length: usize) -> bool {
        length >= self.0
    }

    fn done(&mut self, length: usize) {
        self.0 = (length * 2).max(1024);
    }
}

/// Values by their hash. Two that collide are not shared; nothing else comes of it.
struct Table<T> {
    known: FxHashMap<u64, Weak<T>>,
    sweep: Sweep,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            known: FxHashMap::default(),
            sweep: Sweep::default(),
        }
    }
}

impl<T: PartialEq> Table<T> {
    fn share(&mut self, value: &mut Option<Shared<T>>, hash: impl FnOnce(&T) -> u64) {
        let Some(value) = value else { return };
        let hash = hash(value);
        if let Some(known) = self.known.get(&hash).and_then(Weak::upgrade) {
            let known = Shared::from(known);
            if *value == known {
                *value = known;
            }
            return;
        }
        if self.sweep.due(self.known.len()) {
            self.known.retain(|_, value| value.strong_count() > 0);
            self.sweep.done(self.known.len());
        }
        self.known.insert(hash, Arc::downgrade(value.arc()));
    }
}

impl Interner {
    pub(crate) fn body(&mut self, body: Arc<Body>) -> Arc<Body> {
        if let Some(known) = self.bodies.get(&body.hash()).and_then(Weak::upgrade) {
            return known;
        }
        if self.bodies_sweep.due(self.bodies.len()) {
            self.bodies.retain(|_, body| body.strong_count() > 0);
            self.bodies_sweep.done(self.bodies.len());
        }
        self.bodies.insert(body.hash(), Arc::downgrade(&body));
        body
    }

    pub(crate) fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        if self.names_sweep.due(self.names.len()) {
            self.names.retain(|name| Arc::strong_count(name) > 1);
            self.names_sweep.done(self.names.len());
        }
        let name: Arc<str> = name.into();
        self.names.insert(name.clone());
        name
    }

    /// The key of an object, with its namespace shared.
    pub(crate) fn key(&mut self, object: &Object) -> Key {
        Key {
            namespace: object.meta.namespace.as_deref().map(|namespace| self.name(namespace)),
            ..object.key()
        }
    }

    /// Shares an object's parts with those that are in memory already.
    pub(crate) fn object(&mut self, object: &mut Object) {
        object.body = self.body(object.body.clone());
        if let Some(node) = &object.node {
            object.node = Some(self.name(node));
        }
        self.meta(&mut object.meta);
    }

    pub(crate) fn meta(&mut self, meta: &mut Meta) {
        if let Some(namespace) = &meta.namespace {
            meta.namespace = Some(self.name(namespace));
        }
        // Names that are made for replicas repeat in all of them.
        if let Some(base) = &meta.generate_name {
            meta.generate_name = Some(self.name(base));
        }
        self.maps.share(&mut meta.labels, hash_of);
        self.maps.share(&mut meta.annotations, hash_of);
        self.lists.share(&mut meta.finalizers, hash_of);
        self.owners.share(&mut meta.owner_references, |owners| {
            hash_of(&owners.iter().map(|owner| owner.uid.as_str()).collect::<Vec<_>>())
        });
    }
}

fn hash_of<T: Hash>(value: &T) -> u64 {
    FxBuildHasher.hash_one(value)
}
