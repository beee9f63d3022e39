//! What happened to a revision: the outcome of each unit and of each declared object.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Commit, Key, Unit};

/// How far a unit or an object has come. Orders from best to worst, so that the worst of several is
/// their maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Observed by its controller and ready by its kind's own condition.
    Converged,
    /// A newer commit has taken its place.
    Superseded,
    Progressing,
    /// Deletions over the budget wait for a confirmation, or the unit's source is broken.
    Held,
    /// A deadline passed, or it stalled for 30 s. It may still converge.
    Failed,
}

/// A place in the repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The path from the root of the repository.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Warning,
    Error,
}

/// Something wrong, or worth a warning, in the repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    pub severity: Severity,
    pub position: Option<Position>,
    /// The object it is about, where one could be read.
    pub object: Option<Key>,
    /// What is wrong and what to do, in one sentence or two.
    pub message: String,
}

/// One declared object in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectReport {
    pub outcome: Outcome,
    /// Why, in the words that events and `kubectl describe` use.
    pub reason: String,
    /// Where it is declared; none for nodes.
    pub position: Option<Position>,
    /// The status that the status branch shows: pods are summed in their owner.
    pub status: serde_json::Value,
    /// The status still tells of an older content: the newest is not applied, or its controller has
    /// not observed it yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// One unit in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitReport {
    /// The commit that the unit is at.
    pub commit: Commit,
    pub outcome: Outcome,
    pub reason: String,
    #[serde(with = "by_key")]
    pub objects: BTreeMap<Key, ObjectReport>,
    /// Objects that are not declared any more and go, until they and what they own are gone. Those
    /// whose deletion is held are not among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removing: Vec<Key>,
}

/// The whole cluster's report on the newest revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The newest commit that was looked at.
    pub commit: Option<Commit>,
    pub outcome: Outcome,
    pub units: BTreeMap<Unit, UnitReport>,
    pub nodes: BTreeMap<Arc<str>, ObjectReport>,
    pub problems: Vec<Problem>,
    /// Deletions that wait for a confirmation.
    pub held_deletions: Option<HeldDeletions>,
    /// What is wrong with the source itself: unreachable, its branch or folder gone.
    pub source_error: Option<String>,
}

/// Deletions over the budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldDeletions {
    pub commit: Commit,
    pub objects: Vec<Key>,
    pub since: Timestamp,
    pub reason: String,
}

/// JSON wants strings as the keys of a map: objects go as a list that names each one's key.
mod by_key {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::ObjectReport;
    use crate::Key;

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

    pub(super) fn serialize<S: Serializer>(
        objects: &BTreeMap<Key, ObjectReport>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(objects.iter().map(|(key, report)| Entry { key, report }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Key, ObjectReport>, D::Error> {
        let entries = Vec::<Owned>::deserialize(deserializer)?;
        Ok(entries.into_iter().map(|entry| (entry.key, entry.report)).collect())
    }
}
