//! What was released of what is declared, and what holds up the rest.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::{FxHashMap, FxHashSet};
use schemas::{ContentHash, Key};
use store::DesiredRow;

use crate::{plan::Reason, release::waves};

/// Kept by the driver, change by change. It can be rebuilt: after a start everything is looked at once.
#[derive(Debug, Default)]
pub(crate) struct Released {
    contents: FxHashMap<Key, ContentHash>,
    troubles: BTreeMap<Key, Reason>,
    /// Declared objects whose newest content is not released. Deletions wait for them.
    behind: BTreeSet<Key>,
    /// Those of them that wait for an earlier wave.
    gated: BTreeSet<Key>,
    /// Those of them that wait for an object, by that object and by themselves.
    waiting: FxHashMap<Key, BTreeSet<Key>>,
    waits_for: FxHashMap<Key, Key>,
    gate: Option<waves::Gate>,
}

/// What deletions wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    pub first: Key,
    /// All of them, the first included.
    pub count: usize,
}

impl std::fmt::Display for Behind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.count {
            0 | 1 => write!(f, "{}", self.first),
            count => write!(f, "{} and {} more", self.first, count - 1),
        }
    }
}

impl Released {
    /// A declaration is new or has changed.
    pub(crate) fn declare(&mut self, row: &DesiredRow) {
        if self.contents.get(&row.key) == Some(&row.hash) {
            self.behind.remove(&row.key);
        } else {
            self.behind.insert(row.key.clone());
        }
    }

    /// An object is not declared any more.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.contents.remove(key);
        self.clear(key);
        self.behind.remove(key);
    }

    /// The object of a declaration is gone: it must be made again.
    pub(crate) fn lost(&mut self, key: &Key) {
        self.contents.remove(key);
        self.behind.insert(key.clone());
    }

    /// A content was released. `newest` is what is declared by now.
    pub(crate) fn done(&mut self, key: &Key, content: ContentHash, newest: ContentHash) {
        self.contents.insert(key.clone(), content);
        self.clear(key);
        if content == newest {
            self.behind.remove(key);
        }
    }

    /// A release did not go through, or waits.
    pub(crate) fn trouble(&mut self, key: &Key, reason: Reason) {
        self.contents.remove(key);
        self.clear(key);
        self.behind.insert(key.clone());
        if reason.word == waves::WAVE {
            self.gated.insert(key.clone());
        }
        self.troubles.insert(key.clone(), reason);
    }

    /// What waits in trouble waits for `target`.
    pub(crate) fn wait_for(&mut self, key: &Key, target: &Key) {
        self.waiting.entry(target.clone()).or_default().insert(key.clone());
        self.waits_for.insert(key.clone(), target.clone());
    }

    /// Who must be looked at because `target` has changed or become healthy.
    pub(crate) fn waiting_for(&self, target: &Key) -> impl Iterator<Item = &Key> {
        self.waiting.get(target).into_iter().flatten()
    }

    /// Everyone who waits at a gate or for an object.
    pub(crate) fn held_up(&self) -> Vec<Key> {
        self.gated.iter().chain(self.waits_for.keys()).cloned().collect()
    }

    fn clear(&mut self, key: &Key) {
        self.troubles.remove(key);
        self.gated.remove(key);
        if let Some(target) = self.waits_for.remove(key)
            && let Some(waiting) = self.waiting.get_mut(&target)
        {
            waiting.remove(key);
            if waiting.is_empty() {
                self.waiting.remove(&target);
            }
        }
    }

    pub(crate) fn content(&self, key: &Key) -> Option<ContentHash> {
        self.contents.get(key).copied()
    }

    pub(crate) fn reason(&self, key: &Key) -> Option<&Reason> {
        self.troubles.get(key)
    }

    /// The first of what cannot be released now.
    pub(crate) fn first_trouble(&self) -> Option<&Key> {
        self.troubles.keys().next()
    }

    /// What is not released yet, those that are about to be left out.
    pub(crate) fn behind(&self, but: &[Key]) -> Option<Behind> {
        let but: FxHashSet<&Key> = but.iter().filter(|key| self.behind.contains(*key)).collect();
        let count = self.behind.len() - but.len();
        if count == 0 {
            return None;
        }
        let first = self.behind.iter().find(|key| !but.contains(key))?.clone();
        Some(Behind { first, count })
    }

    /// Takes the gate as it is now, and tells who must be looked at because of it: all that wait at it,
    /// if it has changed.
    pub(crate) fn stand(&mut self, gate: Option<&waves::Gate>) -> Vec<Key> {
        if self.gate.as_ref() == gate {
            return Vec::new();
        }
        self.gate = gate.cloned();
        self.gated.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use schemas::{Commit, Kind, Unit};
    use serde_json::json;

    use super::*;

    fn row(name: &str, content: u8) -> DesiredRow {
        DesiredRow {
            unit: Unit("a".into()),
            key: Key::namespaced(Kind::ConfigMap, "a", name),
            hash: ContentHash([content; 32]),
            content: Arc::new(json!({"metadata": {"annotations": {schemas::labels::WAVE: "1"}}})),
            file: "f".into(),
            line: 1,
            commit: Commit::from("c"),
        }
    }

    #[test]
    fn what_is_declared_is_behind_until_that_very_content_is_released() {
        let mut released = Released::default();
        let (one, two) = (row("one", 1), row("two", 1));
        released.declare(&one);
        released.declare(&two);
        let behind = released.behind(std::slice::from_ref(&one.key)).expect("two is left");
        assert_eq!((&behind.first, behind.count), (&two.key, 1));
        // By the time that it was released, something newer is declared.
        released.done(&one.key, one.hash, row("one", 2).hash);
        assert_eq!(released.behind(&[]).map(|behind| behind.count), Some(2));
        released.done(&one.key, row("one", 2).hash, row("one", 2).hash);
        released.forget(&two.key);
        assert_eq!(released.behind(&[]), None);
        released.lost(&one.key);
        assert_eq!(released.behind(&[]).map(|behind| behind.first), Some(one.key.clone()));
        released.trouble(&one.key, Reason::new("Refused", "no"));
        released.declare(&one);
        assert_eq!(released.behind(&[]).map(|behind| behind.count), Some(1));
    }

    #[test]
    fn those_who_wait_for_a_wave_are_looked_at_when_the_gate_changes() {
        let mut released = Released::default();
        let (one, two) = (row("one", 1), row("two", 1));
        let gate = waves::Gate {
            wave: 0,
            waits_for: two.key.clone(),
        };
        released.trouble(&one.key, Reason::new(waves::WAVE, gate.to_string()));
        assert!(released.stand(Some(&gate)).iter().eq([&one.key]));
        assert!(released.stand(Some(&gate)).is_empty(), "it is as it was");
        assert!(released.stand(None).iter().eq([&one.key]));
        released.done(&one.key, one.hash, one.hash);
        assert!(released.stand(Some(&gate)).is_empty(), "nobody waits");
        released.trouble(&one.key, Reason::new(waves::DEPENDS_ON, "it waits"));
        released.wait_for(&one.key, &two.key);
        assert!(released.waiting_for(&two.key).eq([&one.key]));
        released.forget(&one.key);
        assert_eq!(released.waiting_for(&two.key).count(), 0);
    }
}
