//! What happened to a revision: the outcome of each unit and of each declared object.

mod objects;

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Commit, Key, Unit, shared::SharedMap};

pub use objects::Objects;

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

impl Outcome {
    /// From best to worst.
    pub const ALL: [Self; 5] = [
        Self::Converged,
        Self::Superseded,
        Self::Progressing,
        Self::Held,
        Self::Failed,
    ];
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
    /// So many problems are not told one by one, and this one stands for them; 0 for all others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub untold: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// How many problems of a severity there are, those that are not told one by one included.
#[must_use]
pub fn count(problems: &[Problem], severity: Severity) -> usize {
    let counted = problems.iter().filter(|problem| problem.severity == severity);
    counted.map(|problem| problem.untold.max(1)).sum()
}

/// What ends a list of which only a part is shown: `and 37 more (137 in all)`.
#[must_use]
pub fn rest(shown: usize, all: usize) -> Option<String> {
    (all > shown).then(|| format!("and {} more ({all} in all)", all - shown))
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
    /// It waits for a gate: for others to have been healthy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gated: bool,
}

/// One unit in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitReport {
    /// The commit that the unit is at.
    pub commit: Commit,
    pub outcome: Outcome,
    pub reason: String,
    pub objects: Objects,
    /// Objects that are not declared any more and go, until they and what they own are gone. Those
    /// whose deletion is held are not among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removing: Vec<Key>,
}

impl Report {
    /// How many declared objects have come how far, from worst to best; those that none has are left out.
    #[must_use]
    pub fn totals(&self) -> Vec<(Outcome, usize)> {
        let count = |outcome| self.units.values().map(|unit| unit.objects.count(outcome)).sum();
        let all = Outcome::ALL.into_iter().rev().map(|outcome| (outcome, count(outcome)));
        all.filter(|(_, count)| *count > 0).collect()
    }
}

/// The whole cluster's report on the newest revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The newest commit that was looked at.
    pub commit: Option<Commit>,
    /// The revision of the desired state that was looked at: one commit can have several.
    #[serde(default)]
    pub revision: u64,
    /// How many confirmations of deletions were known when these were judged.
    #[serde(default)]
    pub confirmations: usize,
    pub outcome: Outcome,
    pub units: BTreeMap<Unit, UnitReport>,
    pub nodes: SharedMap<Arc<str>, Arc<ObjectReport>>,
    pub problems: Vec<Problem>,
    /// Deletions that wait for a confirmation.
    pub held_deletions: Option<Arc<HeldDeletions>>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_list_says_how_long_it_is() {
        assert_eq!(rest(100, 137).as_deref(), Some("and 37 more (137 in all)"));
        assert_eq!(rest(2, 2), None);
    }

    #[test]
    fn problems_that_are_not_told_are_counted() {
        let problem = |severity, untold| Problem {
            severity,
            position: None,
            object: None,
            message: String::new(),
            untold,
        };
        let all = [
            problem(Severity::Error, 0),
            problem(Severity::Error, 36),
            problem(Severity::Warning, 0),
        ];
        assert_eq!(count(&all, Severity::Error), 37);
        assert_eq!(count(&all, Severity::Warning), 1);
    }
}
