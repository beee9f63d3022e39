//! What a rollout has come to, told as it changes: a pure step from the newest state to new lines.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use schemas::{
    Commit, Key, Kind, Object, Part, Unit,
    report::{self, ObjectReport, Outcome, Report, UnitReport},
};
use store::Desired;

/// At most this many lines about objects in one step: a person reads them.
const LINES: usize = 20;

/// So many pushes are judged at most before one of them is followed.
const JUDGED: usize = 8;

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
    /// The report must have been made with so many confirmations of deletions.
    confirmations: usize,
    /// Every unit counts, not only those that the commit changed.
    whole: bool,
    recorded: Option<Recorded>,
    /// Objects of earlier commits that a sync has found on their way.
    unsettled: BTreeSet<Key>,
    source_error: Option<String>,
    /// What was last said of each subject.
    said: BTreeMap<String, String>,
}

/// The newest revision at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Before {
    newest: Arc<Desired>,
    /// What the commit is compared with.
    base: Arc<Desired>,
}

impl Before {
    pub(crate) fn of(desired: Arc<Desired>) -> Self {
        Self {
            base: desired.clone(),
            newest: desired,
        }
    }

    /// Compares the commit with what was declared at an earlier moment.
    pub(crate) fn since(self, base: Option<Arc<Desired>>) -> Self {
        Self {
            base: base.unwrap_or(self.base),
            newest: self.newest,
        }
    }
}

/// What was declared when each of the last pushes was judged. A push may be recorded before anyone
/// asks to follow it, and then nothing else tells what it removes.
#[derive(Debug, Default)]
pub(crate) struct Judged(Mutex<VecDeque<(Commit, Arc<Desired>)>>);

impl Judged {
    pub(crate) fn note(&self, commit: Commit, desired: Arc<Desired>) {
        let mut judged = self.0.lock();
        judged.retain(|(other, _)| *other != commit);
        judged.push_back((commit, desired));
        if judged.len() > JUDGED {
            judged.pop_front();
        }
    }

    pub(crate) fn take(&self, commit: &Commit) -> Option<Arc<Desired>> {
        let mut judged = self.0.lock();
        let at = judged.iter().position(|(other, _)| other == commit)?;
        judged.remove(at).map(|(_, desired)| desired)
    }
}

/// What the commit changed, read once when it was recorded.
#[derive(Debug)]
struct Recorded {
    revision: u64,
    units: BTreeSet<Unit>,
    objects: BTreeSet<Key>,
    /// What was declared before and is not any more, by unit.
    removed: BTreeMap<Unit, Vec<Key>>,
}

impl Follower {
    /// Follows a push: the units that it changed count.
    pub(crate) fn of_push(commit: Commit, before: Before) -> Self {
        Self {
            commit,
            before,
            confirmations: 0,
            whole: false,
            recorded: None,
            unsettled: BTreeSet::new(),
            source_error: None,
            said: BTreeMap::new(),
        }
    }

    /// Follows a sync: every unit counts. What is told takes as many confirmations of deletions into
    /// account as there were when it was asked for.
    pub(crate) fn of_sync(commit: Commit, before: Before, confirmations: usize) -> Self {
        Self {
            confirmations,
            whole: true,
            ..Self::of_push(commit, before)
        }
    }

    /// What is new since the last look, and the end if it is reached. `live` is an
    /// object as it is now.
    pub(crate) fn look(
        &mut self,
        desired: &Desired,
        report: Option<&Report>,
        live: impl Fn(&Key) -> Option<Arc<Object>>,
    ) -> (Vec<String>, Option<End>) {
        let mut lines = Vec::new();
        if desired.source_error != self.source_error {
            self.source_error.clone_from(&desired.source_error);
            if let Some(error) = &self.source_error {
                lines.push(format!("source: {error}"));
            }
        }
        let newer = match &self.recorded {
            Some(recorded) => desired.revision > recorded.revision,
            // A revision that only tells of a broken source has the commit of the one before it.
            None => desired.revision > self.before.newest.revision && desired.commit != self.before.newest.commit,
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
            let recorded = Recorded::of(desired, &self.before.base, &self.commit);
            if first {
                lines.push(recorded.line(&self.commit));
            }
            self.recorded = Some(recorded);
        }
        let (Some(recorded), Some(report)) = (&self.recorded, report) else {
            return (lines, None);
        };
        // A report may be a moment behind what it is asked about.
        if report.commit.as_ref() != Some(&self.commit)
            || report.revision < desired.revision
            || report.confirmations < self.confirmations
        {
            return (lines, None);
        }
        let mut said = Vec::new();
        for key in &recorded.objects {
            let found = report.units.get(&Unit::of(key)).and_then(|unit| unit.objects.get(key));
            if let Some(sentence) = found.and_then(|object| sentence(key, object, &live)) {
                said.push((name(key), sentence));
            }
        }
        if self.whole {
            // An earlier commit's objects count as well: those on their way, and then how that ended.
            for unit in report.units.values() {
                self.unsettled
                    .extend(unit.objects.unsettled().map(|(key, _)| key.clone()));
            }
            for key in self.unsettled.iter().filter(|key| !recorded.objects.contains(key)) {
                let found = report.units.get(&Unit::of(key)).and_then(|unit| unit.objects.get(key));
                if let Some(sentence) = found.and_then(|object| sentence(key, object, &live)) {
                    said.push((name(key), sentence));
                }
            }
        }
        for (unit, keys) in &recorded.removed {
            // An object that is gone may own some that are not.
            let removing = report.units.get(unit).map_or(&[][..], |unit| &unit.removing);
            let left = keys.iter().filter(|key| removing.contains(key) || live(key).is_some());
            let gone = keys.len() - left.count();
            if gone > 0 {
                said.push((unit.to_string(), format!("{gone} of {} removed", keys.len())));
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
                Outcome::Converged => recorded.units.contains(unit) || self.said.contains_key(&unit_name(unit)),
                // What an earlier commit removes is waited for as well.
                Outcome::Progressing => !report.removing.is_empty() && !recorded.removed.contains_key(unit),
                Outcome::Superseded => false,
            };
            if worth_telling {
                said.push((unit_name(unit), outcome_and_reason(report.outcome, &report.reason)));
            }
        }
        let held = report.held_deletions.as_ref().filter(|held| held.commit == self.commit);
        if let Some(held) = held {
            said.push((
                "deletions".to_owned(),
                format!(
                    "{} wait to be deleted: {}",
                    count(held.objects.len(), "object"),
                    held.reason
                ),
            ));
        }
        let mut news = Vec::new();
        for (subject, sentence) in said {
            let before = self.said.get(&subject);
            if before.is_none_or(|before| meaning(before) != meaning(&sentence)) {
                news.push(format!("{subject}: {sentence}"));
                self.said.insert(subject, sentence);
            }
        }
        let rest = report::rest(LINES, news.len());
        news.truncate(LINES);
        news.extend(rest.map(|rest| format!("… {rest}")));
        lines.append(&mut news);

        let worst = counted
            .iter()
            .map(|(_, unit)| unit.outcome)
            .max()
            .unwrap_or(Outcome::Converged);
        let moving = counted.iter().any(|(_, unit)| {
            unit.outcome == Outcome::Progressing
                || !unit.removing.is_empty()
                || unit.objects.count(Outcome::Progressing) > 0
        });
        // What waits for something that failed waits for a new commit.
        let gated: usize = counted.iter().map(|(_, unit)| unit.objects.gated()).sum();
        let progressing: usize = counted
            .iter()
            .map(|(_, unit)| unit.objects.count(Outcome::Progressing))
            .sum();
        let stuck = worst == Outcome::Failed && gated > 0 && gated == progressing;
        if moving && !stuck {
            return (lines, None);
        }
        // An unrelated history, or a source that broke meanwhile, holds what it would delete.
        let worst = if held.is_some() || desired.source_error.is_some() {
            worst.max(Outcome::Held)
        } else {
            worst
        };
        (lines, Some(End::Reached(worst)))
    }
}

impl Recorded {
    fn of(desired: &Desired, before: &Desired, commit: &Commit) -> Self {
        let objects: BTreeSet<Key> = desired
            .rows
            .values()
            .filter(|row| row.commit == *commit)
            .map(|row| row.key.clone())
            .collect();
        let mut removed: BTreeMap<Unit, Vec<Key>> = BTreeMap::new();
        // A Namespace that manifests still use stays.
        let stays = |key: &Key| key.kind == Kind::Namespace && desired.units.contains_key(&Unit::of(key));
        let gone = before.rows.keys().filter(|key| !desired.rows.contains_key(*key));
        for key in gone.filter(|key| !stays(key)) {
            removed.entry(Unit::of(key)).or_default().push(key.clone());
        }
        Self {
            revision: desired.revision,
            units: objects.iter().map(Unit::of).chain(removed.keys().cloned()).collect(),
            objects,
            removed,
        }
    }

    fn line(&self, commit: &Commit) -> String {
        let removed: usize = self.removed.values().map(Vec::len).sum();
        let units: BTreeSet<Unit> = self.objects.iter().map(Unit::of).collect();
        let set = (!units.is_empty()).then(|| {
            let objects = count(self.objects.len(), "object");
            format!("{objects} in {}", count(units.len(), "unit"))
        });
        let removed = (removed > 0).then(|| format!("{} to remove", count(removed, "object")));
        let parts: Vec<String> = set.into_iter().chain(removed).collect();
        if parts.is_empty() {
            return format!("{} is recorded and sets nothing new", commit.short());
        }
        format!("{} is recorded: {}", commit.short(), parts.join(", "))
    }
}

fn count(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// What a sentence comes to: one that failed stays so, whatever of its troubles is seen at the moment.
fn meaning(sentence: &str) -> &str {
    if sentence.starts_with("failed") {
        "failed"
    } else {
        sentence
    }
}

fn unit_name(unit: &Unit) -> String {
    format!("unit {unit}")
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

/// What to say of an object; nothing while its numbers are those of an older content.
fn sentence(key: &Key, object: &ObjectReport, live: impl Fn(&Key) -> Option<Arc<Object>>) -> Option<String> {
    let count = |field: &str| {
        object
            .status
            .get(field)
            .and_then(serde_json::Value::as_i64)
            .unwrap_or(0)
    };
    Some(match (key.kind, object.outcome) {
        (Kind::Deployment, Outcome::Progressing) => {
            let live = live(key)?;
            let generation = live.meta.generation.unwrap_or(0);
            // The report may be older than the object.
            if object.stale || count("observedGeneration") < generation {
                return None;
            }
            let replicas = live.body.at("spec/replicas").and_then(Part::int);
            format!(
                "{}/{} updated, {} available",
                count("updatedReplicas"),
                // Kubernetes' default, where the field is not set.
                replicas.unwrap_or(1),
                count("availableReplicas")
            )
        }
        (Kind::Deployment, Outcome::Converged) => format!("converged, {} available", count("availableReplicas")),
        _ => outcome_and_reason(object.outcome, &object.reason),
    })
}

#[cfg(test)]
#[path = "push_follow_tests.rs"]
mod tests;
