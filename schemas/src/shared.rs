//! An ordered map whose copies share what they have in common.
//!
//! What is declared and what is reported is handed around as a whole, and changes a little at a time:
//! a copy costs nothing, a change a path of the tree, and a comparison what differs.

use std::{borrow::Borrow, fmt, ops::Index};

use imbl::{OrdMap, ordmap::DiffItem};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A map in the order of its keys.
pub struct SharedMap<K, V>(OrdMap<K, V>);

/// One difference between two maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference<'a, K, V> {
    Added(&'a K, &'a V),
    Changed(&'a K, &'a V, &'a V),
    Removed(&'a K, &'a V),
}

/// Counts entries that maps hand out, so that a test can tell what a look costs. In builds with debug
/// assertions only.
pub mod visits {
    #[cfg(debug_assertions)]
    thread_local! {
        static VISITS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }

    /// How many entries were handed out on this thread so far.
    #[cfg(debug_assertions)]
    #[must_use]
    pub fn count() -> u64 {
        VISITS.get()
    }

    #[inline]
    pub(super) fn add() {
        #[cfg(debug_assertions)]
        VISITS.set(VISITS.get() + 1);
    }
}

impl<K, V> SharedMap<K, V> {
    #[must_use]
    pub fn new() -> Self {
        Self(OrdMap::new())
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Ord, V> SharedMap<K, V> {
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        visits::add();
        self.0.get(key)
    }

    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        visits::add();
        self.0.contains_key(key)
    }

    /// Entries in the order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.0.iter().inspect(|_| visits::add())
    }

    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// What must change in `self` to become `other`. Costs what differs if one was made from the other.
    pub fn differences<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Difference<'a, K, V>>
    where
        V: PartialEq,
    {
        self.0.diff(&other.0).map(|item| {
            visits::add();
            match item {
                DiffItem::Add(key, new) => Difference::Added(key, new),
                DiffItem::Update {
                    old: (_, old),
                    new: (key, new),
                } => Difference::Changed(key, old, new),
                DiffItem::Remove(key, old) => Difference::Removed(key, old),
            }
        })
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        visits::add();
        self.0.insert(key, value)
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        visits::add();
        self.0.remove(key)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        visits::add();
        self.0.get_mut(key)
    }

    pub fn clear(&mut self) {
        self.0 = OrdMap::new();
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Ord + fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter()).finish()
    }
}

impl<K: Ord, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.differences(other).next().is_none()
    }
}

impl<K: Ord, V: Eq> Eq for SharedMap<K, V> {}

impl<K: Ord + Serialize, V: Serialize> Serialize for SharedMap<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter())
    }
}

impl<'de, K: Ord + Clone + Deserialize<'de>, V: Clone + Deserialize<'de>> Deserialize<'de> for SharedMap<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = std::collections::BTreeMap::<K, V>::deserialize(deserializer)?;
        Ok(entries.into_iter().collect())
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(entries: T) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl<K: Ord + Clone, V: Clone> Extend<(K, V)> for SharedMap<K, V> {
    fn extend<T: IntoIterator<Item = (K, V)>>(&mut self, entries: T) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Ord, V, Q: Borrow<K>> Index<Q> for SharedMap<K, V> {
    type Output = V;

    /// As a map of the standard library: for tests, and where the entry is known to be there.
    fn index(&self, key: Q) -> &V {
        &self.0[key.borrow()]
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// It says of two maps what a comparison of all entries says, and equals a map of the standard
        /// library all the time.
        #[test]
        fn differences_are_those_of_the_whole(
            first in prop::collection::btree_map(0u16..600, 0u8..4, 0..400),
            edits in prop::collection::vec((0u16..600, prop::option::of(0u8..4)), 0..40),
        ) {
            let before: SharedMap<u16, u8> = first.clone().into_iter().collect();
            let (mut after, mut plain) = (before.clone(), first.clone());
            for (key, value) in edits {
                match value {
                    Some(value) => prop_assert_eq!(after.insert(key, value), plain.insert(key, value)),
                    None => prop_assert_eq!(after.remove(&key), plain.remove(&key)),
                }
            }
            prop_assert!(after.iter().eq(plain.iter()));
            prop_assert_eq!(before == after, first == plain);
            let mut rebuilt: BTreeMap<u16, u8> = first.clone();
            for difference in before.differences(&after) {
                match difference {
                    Difference::Added(key, value) => prop_assert!(rebuilt.insert(*key, *value).is_none()),
                    Difference::Changed(key, old, new) => {
                        prop_assert_ne!(old, new);
                        prop_assert_eq!(rebuilt.insert(*key, *new), Some(*old));
                    }
                    Difference::Removed(key, old) => prop_assert_eq!(rebuilt.remove(key), Some(*old)),
                }
            }
            prop_assert_eq!(rebuilt, plain);
        }
    }

    #[derive(Clone)]
    struct Counted(Arc<std::sync::atomic::AtomicUsize>);

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Arc::ptr_eq(&self.0, &other.0)
        }
    }

    #[test]
    fn a_comparison_skips_what_is_shared() {
        let value = Counted(Arc::default());
        let before: SharedMap<u32, Counted> = (0..100_000).map(|key| (key, value.clone())).collect();
        let mut after = before.clone();
        after.insert(5_000, Counted(Arc::default()));
        after.remove(&70_000);
        assert_eq!(before.differences(&after).count(), 2);
        let compared = value.0.load(std::sync::atomic::Ordering::Relaxed);
        assert!(compared < 1_000, "{compared} of 100,000 entries were compared");
    }
}
