//! Which pods use which claims.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;
use schemas::{Key, Object, storage};

/// Pods by the claims that their volumes name.
#[derive(Debug, Default)]
pub(crate) struct Users(FxHashMap<Key, BTreeSet<Key>>);

impl Users {
    /// Takes in a pod's change; returns the claims that must be looked at because of it.
    pub(crate) fn take(&mut self, pod: &Key, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let same = |old: &Object, new: &Object| old.node == new.node && old.uid() == new.uid();
        if let (Some(old), Some(new)) = (old, new)
            && same(old, new)
        {
            // A pod's volumes cannot change.
            return Vec::new();
        }
        let mut touched = BTreeSet::new();
        for claim in old.into_iter().flat_map(storage::claims) {
            if let Some(pods) = self.0.get_mut(&claim) {
                pods.remove(pod);
                if pods.is_empty() {
                    self.0.remove(&claim);
                }
            }
            touched.insert(claim);
        }
        for claim in new.into_iter().flat_map(storage::claims) {
            self.0.entry(claim.clone()).or_default().insert(pod.clone());
            touched.insert(claim);
        }
        touched.into_iter().collect()
    }

    /// The pods that name a claim.
    pub(crate) fn of(&self, claim: &Key) -> impl Iterator<Item = &Key> {
        self.0.get(claim).into_iter().flatten()
    }
}
