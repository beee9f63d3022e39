//! Volumes by the claim that they are for: what a claim may take is found without a search.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;
use schemas::{Key, Object, storage};

use super::claim::holder;

/// Volumes that no claim has, and those that one is named in.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    free: BTreeSet<Key>,
    by_claim: FxHashMap<Key, BTreeSet<Key>>,
}

impl Shelf {
    /// Takes in a volume's change. True if it has become free, so that claims that wait may take it.
    pub(crate) fn take(&mut self, key: &Key, old: Option<&Object>, new: Option<&Object>) -> bool {
        if let Some(claim) = old.and_then(storage::claim_of)
            && let Some(volumes) = self.by_claim.get_mut(&claim)
        {
            volumes.remove(key);
            if volumes.is_empty() {
                self.by_claim.remove(&claim);
            }
        }
        let was_free = self.free.remove(key);
        let Some(new) = new else {
            return false;
        };
        let claim = storage::claim_of(new);
        if let Some(claim) = &claim {
            self.by_claim.entry(claim.clone()).or_default().insert(key.clone());
        }
        let is_free = claim.is_none() && holder(new).is_none() && !new.is_deleting();
        if is_free {
            self.free.insert(key.clone());
        }
        is_free && !was_free
    }

    /// The volumes that a claim may take.
    pub(crate) fn open_to(&self, claim: &Key) -> impl Iterator<Item = &Key> {
        self.by_claim.get(claim).into_iter().flatten().chain(&self.free)
    }
}
