//! Gates: objects of a later wave wait until those of earlier waves have been healthy once, and an
//! object until those that it depends on have been.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use schemas::{Key, rollout};
use store::DesiredRow;

/// The word of the reason why an object of a later wave waits.
pub(crate) const WAVE: &str = "Wave";
/// The word of the reason why an object waits for another that it depends on.
pub(crate) const DEPENDS_ON: &str = "DependsOn";

/// What later waves wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// This wave and earlier ones go on.
    pub wave: i64,
    /// An object whose current content has never yet been healthy.
    pub waits_for: Key,
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "waits for {} of wave {}, which has not been healthy yet",
            self.waits_for, self.wave
        )
    }
}

/// Declared objects whose current content has never been healthy, by wave, kept up change by change.
#[derive(Debug, Default)]
pub(crate) struct Unproven {
    waves: BTreeMap<i64, BTreeSet<Key>>,
    gate: Option<Gate>,
}

impl Unproven {
    /// Takes a declaration's change over. `proven`: the new content has been healthy once.
    pub(crate) fn declare(&mut self, old: Option<&DesiredRow>, new: Option<&DesiredRow>, proven: bool) {
        if let Some(old) = old {
            self.remove(rollout::wave(&old.content), &old.key);
        }
        if let Some(new) = new.filter(|_| !proven) {
            self.waves
                .entry(rollout::wave(&new.content))
                .or_default()
                .insert(new.key.clone());
        }
    }

    /// The current content of a row was healthy.
    pub(crate) fn prove(&mut self, row: &DesiredRow) {
        self.remove(rollout::wave(&row.content), &row.key);
    }

    /// The first object that a row depends on and whose current content has never been healthy.
    /// `declared` finds the row of an object; one that is not declared holds nobody up.
    pub(crate) fn blocker<'a>(
        &self,
        row: &DesiredRow,
        declared: impl Fn(&Key) -> Option<&'a Arc<DesiredRow>>,
    ) -> Option<Key> {
        let waits = |target: &Key| declared(target).is_some_and(|target| self.contains(target));
        rollout::depends_on(&row.key, &row.content).into_iter().find(waits)
    }

    fn contains(&self, row: &DesiredRow) -> bool {
        let wave = self.waves.get(&rollout::wave(&row.content));
        wave.is_some_and(|keys| keys.contains(&row.key))
    }

    fn remove(&mut self, wave: i64, key: &Key) {
        if let Some(keys) = self.waves.get_mut(&wave) {
            keys.remove(key);
            if keys.is_empty() {
                self.waves.remove(&wave);
            }
        }
    }

    /// The earliest wave with an object that has never been healthy. The object that is named stays
    /// the same as long as it can: those who wait are told each time that it changes.
    pub(crate) fn gate(&mut self) -> Option<&Gate> {
        let first = self.waves.first_key_value();
        let stays =
            |gate: &Gate| first.is_some_and(|(wave, keys)| *wave == gate.wave && keys.contains(&gate.waits_for));
        if !self.gate.as_ref().is_some_and(stays) {
            self.gate = first.and_then(|(wave, keys)| {
                // Whatever comes last in the order of names: in that order most become healthy.
                let waits_for = keys.last()?.clone();
                Some(Gate { wave: *wave, waits_for })
            });
        }
        self.gate.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use schemas::{Commit, ContentHash, Kind, Unit, labels};
    use serde_json::json;

    use super::*;

    fn row(name: &str, wave: &str) -> DesiredRow {
        DesiredRow {
            unit: Unit("a".into()),
            key: Key::namespaced(Kind::ConfigMap, "a", name),
            hash: ContentHash([0; 32]),
            content: Arc::new(json!({"metadata": {"annotations": {labels::WAVE: wave}}})),
            file: "f".into(),
            line: 1,
            commit: Commit::from("c"),
        }
    }

    #[test]
    fn a_row_is_blocked_by_what_it_depends_on_while_that_was_never_healthy() {
        let mut web = row("web", "0");
        web.content =
            Arc::new(json!({"metadata": {"annotations": {labels::DEPENDS_ON: "ConfigMap/db,ConfigMap/gone"}}}));
        let db = Arc::new(row("db", "-1"));
        let declared = |key: &Key| (*key == db.key).then_some(&db);
        let mut unproven = Unproven::default();
        assert_eq!(unproven.blocker(&web, declared), None, "it was healthy");
        unproven.declare(None, Some(&db), false);
        assert_eq!(unproven.blocker(&web, declared), Some(db.key.clone()));
        assert_eq!(unproven.blocker(&web, |_| None), None, "it is not declared any more");
        unproven.prove(&db);
        assert_eq!(unproven.blocker(&web, declared), None);
    }

    #[test]
    fn the_gate_stands_at_the_earliest_wave_and_names_the_same_object_while_it_can() {
        let mut unproven = Unproven::default();
        assert_eq!(unproven.gate(), None);
        let named = |unproven: &mut Unproven| unproven.gate().map(|gate| (gate.wave, gate.waits_for.name.to_string()));
        unproven.declare(None, Some(&row("late", " 2 ")), false);
        assert_eq!(named(&mut unproven), Some((2, "late".to_owned())));
        for name in ["a", "b", "c"] {
            unproven.declare(None, Some(&row(name, "-1")), false);
        }
        assert_eq!(named(&mut unproven), Some((-1, "c".to_owned())));
        unproven.declare(None, Some(&row("d", "-1")), false);
        unproven.prove(&row("a", "-1"));
        assert_eq!(named(&mut unproven), Some((-1, "c".to_owned())), "it stays");
        unproven.declare(Some(&row("c", "-1")), Some(&row("c", "3")), false);
        unproven.declare(Some(&row("b", "-1")), Some(&row("b", "-1")), true);
        assert_eq!(named(&mut unproven), Some((-1, "d".to_owned())));
        unproven.declare(Some(&row("d", "-1")), None, false);
        assert_eq!(named(&mut unproven), Some((2, "late".to_owned())));
    }
}
