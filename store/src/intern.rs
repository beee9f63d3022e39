//! Shares what many objects have in common: bodies by content, names of namespaces and nodes.

use std::sync::{Arc, Weak};

use rustc_hash::{FxHashMap, FxHashSet};
use schemas::{Body, ContentHash, Key, Object};

/// Tables of what is in memory already. Bodies are held weakly.
#[derive(Default)]
pub(crate) struct Interner {
    bodies: FxHashMap<ContentHash, Weak<Body>>,
    names: FxHashSet<Arc<str>>,
    sweep_at: usize,
}

impl Interner {
    pub(crate) fn body(&mut self, body: Arc<Body>) -> Arc<Body> {
        if let Some(known) = self.bodies.get(&body.hash()).and_then(Weak::upgrade) {
            return known;
        }
        if self.bodies.len() >= self.sweep_at {
            self.bodies.retain(|_, body| body.strong_count() > 0);
            self.sweep_at = (self.bodies.len() * 2).max(1024);
        }
        self.bodies.insert(body.hash(), Arc::downgrade(&body));
        body
    }

    pub(crate) fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.names.insert(name.clone());
        name
    }

    /// The key of an object, with its namespace shared.
    pub(crate) fn key(&mut self, object: &Object) -> Key {
        Key {
            kind: object.kind,
            namespace: object.meta.namespace.as_deref().map(|namespace| self.name(namespace)),
            name: object.name().into(),
        }
    }

    /// Shares an object's body and node.
    pub(crate) fn object(&mut self, object: &mut Object) {
        object.body = self.body(object.body.clone());
        if let Some(node) = &object.node {
            object.node = Some(self.name(node));
        }
    }
}
