//! The declared objects of a unit in a report, and at hand which of them have not converged.

use std::{cmp::Reverse, ops::Index, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ObjectReport, Outcome};
use crate::{
    Key,
    shared::{Difference, SharedMap},
};

/// Reports by object. A copy shares what did not change; sums cost nothing.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    all: SharedMap<Key, Arc<ObjectReport>>,
    /// Those that have not converged, the worst first.
    unsettled: SharedMap<(Reverse<Outcome>, Key), ()>,
    counts: [usize; Outcome::ALL.len()],
    /// How many wait for a gate.
    gated: usize,
}

impl Objects {
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Arc<ObjectReport>> {
        self.all.get(key)
    }

    pub fn insert(&mut self, key: Key, report: impl Into<Arc<ObjectReport>>) -> Option<Arc<ObjectReport>> {
        let report = report.into();
        let old = self.remove(&key);
        self.counts[report.outcome as usize] += 1;
        self.gated += usize::from(report.gated);
        if report.outcome != Outcome::Converged {
            self.unsettled.insert((Reverse(report.outcome), key.clone()), ());
        }
        self.all.insert(key, report);
        old
    }

    pub fn remove(&mut self, key: &Key) -> Option<Arc<ObjectReport>> {
        let old = self.all.remove(key)?;
        self.counts[old.outcome as usize] -= 1;
        self.gated -= usize::from(old.gated);
        self.unsettled.remove(&(Reverse(old.outcome), key.clone()));
        Some(old)
    }

    /// In the order of keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Key, &Arc<ObjectReport>)> {
        self.all.iter()
    }

    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Arc<ObjectReport>> {
        self.all.values()
    }

    /// How many have come this far and no further.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.counts[outcome as usize]
    }

    /// How many wait for a gate, and for nothing else.
    #[must_use]
    pub fn gated(&self) -> usize {
        self.gated
    }

    /// Those that have not converged, the worst first, and within an outcome in the order of keys.
    pub fn unsettled(&self) -> impl Iterator<Item = (&Key, &Arc<ObjectReport>)> {
        let keys = self.unsettled.keys().map(|(_, key)| key);
        keys.filter_map(|key| Some((key, self.all.get(key)?)))
    }

    /// What must change in `self` to become `other`.
    pub fn differences<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Difference<'a, Key, Arc<ObjectReport>>> {
        self.all.differences(&other.all)
    }
}

impl PartialEq for Objects {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Eq for Objects {}

impl FromIterator<(Key, ObjectReport)> for Objects {
    fn from_iter<T: IntoIterator<Item = (Key, ObjectReport)>>(entries: T) -> Self {
        let mut objects = Self::default();
        for (key, report) in entries {
            objects.insert(key, report);
        }
        objects
    }
}

impl Index<&Key> for Objects {
    type Output = ObjectReport;

    /// For tests, and where the object is known to be there.
    fn index(&self, key: &Key) -> &ObjectReport {
        &self.all[key]
    }
}

// JSON wants strings as the keys of a map: objects go as a list that names each one's key.

#[derive(Serialize)]
struct Entry<'a> {
    key: &'a Key,
    #[serde(flatten)]
    report: &'a ObjectReport,
}

#[derive(Deserialize)]
struct Owned {
    key: Key,
    #[serde(flatten)]
    report: ObjectReport,
}

impl Serialize for Objects {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|(key, report)| Entry { key, report }))
    }
}

impl<'de> Deserialize<'de> for Objects {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = Vec::<Owned>::deserialize(deserializer)?;
        Ok(entries.into_iter().map(|entry| (entry.key, entry.report)).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::Kind;

    fn key(name: &str) -> Key {
        Key::namespaced(Kind::ConfigMap, "a", name)
    }

    fn report(outcome: Outcome) -> ObjectReport {
        ObjectReport {
            outcome,
            reason: String::new(),
            position: None,
            status: Value::Null,
            stale: false,
            gated: false,
        }
    }

    #[test]
    fn counts_and_what_is_unsettled_follow_each_change() {
        let mut objects = Objects::default();
        for (name, outcome) in [
            ("a", Outcome::Progressing),
            ("b", Outcome::Converged),
            ("c", Outcome::Failed),
            ("d", Outcome::Progressing),
        ] {
            objects.insert(key(name), report(outcome));
        }
        let names =
            |objects: &Objects| -> Vec<String> { objects.unsettled().map(|(key, _)| key.name.to_string()).collect() };
        assert_eq!(names(&objects), ["c", "a", "d"]);
        objects.insert(key("c"), report(Outcome::Converged));
        objects.insert(key("d"), report(Outcome::Held));
        objects.remove(&key("a"));
        assert_eq!(names(&objects), ["d"]);
        let counts = Outcome::ALL.map(|outcome| objects.count(outcome));
        assert_eq!(counts, [2, 0, 0, 1, 0]);
        let text = serde_json::to_string(&objects).expect("it is data");
        assert_eq!(serde_json::from_str::<Objects>(&text).expect("it is the same"), objects);
    }
}
