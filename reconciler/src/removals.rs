//! What is on its way out: objects that git declares no longer, each until it and all that it owns
//! is gone.
//!
//! Deleting an object takes what it owns along later, and a pod only once its containers have stopped.
//! Each change is looked up by uid here, so that following a removal costs what belongs to it.

use std::{collections::BTreeMap, sync::Arc};

use rustc_hash::{FxHashMap, FxHashSet};
use schemas::{Key, Object, Uid};
use store::View;

#[derive(Debug, Default)]
pub(crate) struct Removals {
    roots: BTreeMap<Key, Removal>,
    /// Everything that belongs to a removal, the part that is gone included: what comes late may name
    /// an owner that is gone.
    parts: FxHashMap<Uid, Key>,
}

#[derive(Debug)]
struct Removal {
    uid: Uid,
    live: FxHashSet<Uid>,
    all: Vec<Uid>,
}

impl Removals {
    /// Objects that go and are not wholly gone.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.roots.keys()
    }

    /// Follows an object and what it owns; true if that is new.
    pub(crate) fn add(&mut self, view: &View<'_>, object: &Object) -> bool {
        let (key, uid) = (object.key(), object.uid());
        if self.roots.get(&key).is_some_and(|removal| removal.uid == uid) {
            return false;
        }
        self.forget(&key);
        let removal = Removal {
            uid: uid.clone(),
            live: FxHashSet::default(),
            all: Vec::new(),
        };
        self.roots.insert(key.clone(), removal);
        self.join(view, &key, uid);
        true
    }

    /// Follows an object no longer: it is declared again, or all of it is gone.
    pub(crate) fn forget(&mut self, key: &Key) {
        if let Some(removal) = self.roots.remove(key) {
            for uid in removal.all {
                if self.parts.get(&uid) == Some(key) {
                    self.parts.remove(&uid);
                }
            }
        }
    }

    /// Takes one change in; true if a removal has come to its end.
    pub(crate) fn take(&mut self, view: &View<'_>, old: Option<&Arc<Object>>, new: Option<&Arc<Object>>) -> bool {
        if self.roots.is_empty() {
            return false;
        }
        let mut ended = false;
        if let Some(old) = old.filter(|old| new.is_none_or(|new| new.uid() != old.uid())) {
            ended |= self.gone(view, old);
        }
        if let Some(new) = new {
            let uid = new.uid();
            match (self.parts.get(&uid).cloned(), self.root_of_owners(new)) {
                (None, Some(root)) => self.join(view, &root, uid),
                (Some(root), None) if self.roots.get(&root).is_some_and(|removal| removal.uid != uid) => {
                    ended |= self.orphaned(view, &root, uid);
                }
                _ => {}
            }
        }
        ended
    }

    fn root_of_owners(&self, object: &Object) -> Option<Key> {
        let mut owners = object.meta.owner_references.iter().flatten();
        owners.find_map(|owner| self.parts.get(&Uid::from(owner.uid.as_str())).cloned())
    }

    /// An object is gone. The view may be ahead of the changes: what it owned is looked for now, and
    /// not only when it came.
    fn gone(&mut self, view: &View<'_>, object: &Object) -> bool {
        let uid = object.uid();
        let known = self.parts.get(&uid).cloned();
        let Some(root) = known.or_else(|| self.root_of_owners(object)) else {
            return false;
        };
        let dependents: Vec<Uid> = view.owned_by(&uid).map(|dependent| dependent.uid()).collect();
        if !self.parts.contains_key(&uid) {
            self.parts.insert(uid.clone(), root.clone());
            if let Some(removal) = self.roots.get_mut(&root) {
                removal.all.push(uid.clone());
            }
        }
        for dependent in dependents {
            self.join(view, &root, dependent);
        }
        self.leave(&root, &uid)
    }

    /// An object has lost its owners in good time: it stays, with what it owns.
    fn orphaned(&mut self, view: &View<'_>, root: &Key, uid: Uid) -> bool {
        let mut ended = false;
        let mut open = vec![uid];
        while let Some(uid) = open.pop() {
            if self.parts.get(&uid) == Some(root) {
                self.parts.remove(&uid);
                open.extend(view.owned_by(&uid).map(|dependent| dependent.uid()));
                ended |= self.leave(root, &uid);
            }
        }
        ended
    }

    fn join(&mut self, view: &View<'_>, root: &Key, uid: Uid) {
        let Some(removal) = self.roots.get_mut(root) else {
            return;
        };
        let mut open = vec![uid];
        while let Some(uid) = open.pop() {
            if self.parts.contains_key(&uid) {
                continue;
            }
            open.extend(view.owned_by(&uid).map(|dependent| dependent.uid()));
            self.parts.insert(uid.clone(), root.clone());
            removal.live.insert(uid.clone());
            removal.all.push(uid);
        }
    }

    fn leave(&mut self, root: &Key, uid: &Uid) -> bool {
        let Some(removal) = self.roots.get_mut(root) else {
            return false;
        };
        removal.live.remove(uid);
        let ended = removal.live.is_empty();
        if ended {
            self.forget(root);
        }
        ended
    }
}

#[cfg(test)]
mod tests;
