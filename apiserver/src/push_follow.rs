//! What a rollout has come to, told as it changes: a pure step from the newest state to new lines.

use std::collections::{BTreeMap, BTreeSet};

use schemas::{
    Commit, Key, Kind, Unit,
    report::{ObjectReport, Outcome, Report, UnitReport},
};
use store::Desired;

/// At most this many lines about objects in one step: a person reads them.
const LINES: usize = 20;

/// How following ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Reached(Outcome),
    /// A newer commit was recorded.
    Superseded(Commit),
    /// The time was up.
    Waiting,
}

/// Follows one commit.
#[derive(Debug)]
pub(crate) struct Follower {
    commit: Commit,
    /// What stood before the commit was looked at.
    before: Before,
    /// Every unit counts, not only those that the commit changed.
    whole: bool,
    recorded: Option<Recorded>,
    source_error: Option<String>,
    /// What was last said of each subject.
    said: BTreeMap<String, String>,
}

/// The newest revision and its commit at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Before {
    revision: u64,
    commit: Option<Commit>,
}

impl Before {
    pub(crate) fn of(desired: &Desired) -> Self {
        Self {
            revision: desired.revision,
            commit: desired.commit.clone(),
        }
    }
}

/// What the commit changed, read once when it was recorded.
#[derive(Debug)]
struct Recorded {
    revision: u64,
    units: BTreeSet<Unit>,
    objects: Vec<Key>,
}

impl Follower {
    /// Follows a push: the units that it changed count.
    pub(crate) fn of_push(commit: Commit, before: Before) -> Self {
        Self {
            commit,
            before,
            whole: false,
            recorded: None,
            source_error: None,
            said: BTreeMap::new(),
        }
    }

    /// Follows a sync: every unit counts.
    pub(crate) fn of_sync(commit: Commit, before: Before) -> Self {
        Self {
            whole: true,
            ..Self::of_push(commit, before)
        }
    }

    /// What is new since the last look, and the end if it is reached. `replicas` tells how many
    /// replicas an object asks for.
    pub(crate) fn look(
        &mut self,
        desired: &Desired,
        report: Option<&Report>,
        replicas: impl Fn(&Key) -> Option<i64>,
    ) -> (Vec<String>, Option<End>) {
        let mut lines = Vec::new();
        if desired.source_error != self.source_error {
            self.source_error.clone_from(&desired.source_error);
            if let Some(error) = &self.source_error {
                lines.push(format!("the source cannot be read: {error}"));
            }
        }
        let newer = match &self.recorded {
            Some(recorded) => desired.revision > recorded.revision,
            // A revision that only tells of a broken source has the commit of the one before it.
            None => desired.revision > self.before.revision && desired.commit != self.before.commit,
        };
        if desired.commit.as_ref() != Some(&self.commit) {
            return match &desired.commit {
                Some(commit) if newer => (lines, Some(End::Superseded(commit.clone()))),
                _ => (lines, None),
            };
        }
        if self
            .recorded
            .as_ref()
            .is_none_or(|recorded| recorded.revision != desired.revision)
        {
            let first = self.recorded.is_none();
            let recorded = Recorded::of(desired, &self.commit);
            if first {
                lines.push(recorded.line(&self.commit));
            }
            self.recorded = Some(recorded);
        }
        let (Some(recorded), Some(report)) = (&self.recorded, report) else {
            return (lines, None);
        };
        if report.commit.as_ref() != Some(&self.commit) {
            return (lines, None);
        }
        let mut said = Vec::new();
        for key in &recorded.objects {
            let found = report.units.get(&Unit::of(key)).and_then(|unit| unit.objects.get(key));
            if let Some(object) = found {
                said.push((name(key), sentence(key, object, replicas(key))));
            }
        }
        let counted: Vec<(&Unit, &UnitReport)> = report
            .units
            .iter()
            .filter(|(unit, _)| self.whole || recorded.units.is_empty() || recorded.units.contains(unit))
            .collect();
        for (unit, report) in &counted {
            let worth_telling = match report.outcome {
                Outcome::Held | Outcome::Failed => true,
                Outcome::Converged => recorded.units.contains(unit),
                _ => false,
            };
            if worth_telling {
                said.push((
                    format!("unit {unit}"),
                    outcome_and_reason(report.outcome, &report.reason),
                ));
            }
        }
        let held = report.held_deletions.as_ref().filter(|held| held.commit == self.commit);
        if let Some(held) = held {
            said.push((
                "deletions".to_owned(),
                format!(
                    "{} objects wait to be deleted ({}): confirm with `towline sync --confirm-deletes {}`",
                    held.objects.len(),
                    held.reason,
                    held.commit.short()
                ),
            ));
        }
        let mut news = Vec::new();
        for (subject, sentence) in said {
            if self.said.get(&subject) != Some(&sentence) {
                news.push(format!("{subject}: {sentence}"));
                self.said.insert(subject, sentence);
            }
        }
        let more = news.len().saturating_sub(LINES);
        news.truncate(LINES);
        if more > 0 {
            news.push(format!("… and {more} more"));
        }
        lines.append(&mut news);

        let worst = counted
            .iter()
            .map(|(_, unit)| unit.outcome)
            .max()
            .unwrap_or(Outcome::Converged);
        let moving = counted.iter().any(|(_, unit)| {
            unit.outcome == Outcome::Progressing
                || unit
                    .objects
                    .values()
                    .any(|object| object.outcome == Outcome::Progressing)
        });
        if moving {
            return (lines, None);
        }
        let worst = if held.is_some() {
            worst.max(Outcome::Held)
        } else {
            worst
        };
        (lines, Some(End::Reached(worst)))
    }
}

impl Recorded {
    fn of(desired: &Desired, commit: &Commit) -> Self {
        let objects: Vec<Key> = desired
            .rows
            .values()
            .filter(|row| row.commit == *commit)
            .map(|row| row.key.clone())
            .collect();
        Self {
            revision: desired.revision,
            units: objects.iter().map(Unit::of).collect(),
            objects,
        }
    }

    fn line(&self, commit: &Commit) -> String {
        let count = |number: usize, word: &str| match number {
            1 => format!("1 {word}"),
            _ => format!("{number} {word}s"),
        };
        match self.objects.len() {
            0 => format!("{} is recorded and sets nothing new", commit.short()),
            objects => format!(
                "{} is recorded: {} in {}",
                commit.short(),
                count(objects, "object"),
                count(self.units.len(), "unit")
            ),
        }
    }
}

/// `shop/web`, or `Namespace shop`: a workload is named as people name it.
fn name(key: &Key) -> String {
    match (&key.namespace, key.kind) {
        (Some(namespace), Kind::Deployment) => format!("{namespace}/{}", key.name),
        (Some(namespace), kind) => format!("{namespace}/{} {}", kind.info().singular(), key.name),
        (None, kind) => format!("{} {}", kind.info().singular(), key.name),
    }
}

fn outcome_and_reason(outcome: Outcome, reason: &str) -> String {
    let word = match outcome {
        Outcome::Converged => "converged",
        Outcome::Superseded => "superseded",
        Outcome::Progressing => "progressing",
        Outcome::Held => "held",
        Outcome::Failed => "failed",
    };
    match reason {
        "" => word.to_owned(),
        reason => format!("{word}: {reason}"),
    }
}

fn sentence(key: &Key, object: &ObjectReport, replicas: Option<i64>) -> String {
    let count = |field: &str| {
        object
            .status
            .get(field)
            .and_then(serde_json::Value::as_i64)
            .unwrap_or(0)
    };
    match (key.kind, object.outcome) {
        (Kind::Deployment, Outcome::Progressing) => format!(
            "{}/{} updated, {} available",
            count("updatedReplicas"),
            // Kubernetes' default, where the field is not set.
            replicas.unwrap_or(1),
            count("availableReplicas")
        ),
        (Kind::Deployment, Outcome::Converged) => format!("converged, {} available", count("availableReplicas")),
        _ => outcome_and_reason(object.outcome, &object.reason),
    }
}

#[cfg(test)]
#[path = "push_follow_tests.rs"]
mod tests;
