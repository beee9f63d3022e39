//! The report: how far every declared object and every unit has come.
//!
//! The tracker keeps the last report and looks again only at what may have changed; a look costs what
//! it is shown, however much is declared. It is memory that can be rebuilt: a fresh one, shown every
//! object once, comes to the same report.

mod stalls;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use rustc_hash::FxHashSet;
use schemas::{
    Commit, ContentHash, Key, Kind, Now, Object, Unit,
    health::{self, Related},
    report::{HeldDeletions, ObjectReport, Objects, Outcome, Position, Report, UnitReport},
    restore::BadContent,
    shared::{Difference, SharedMap},
};
use serde_json::{Value, json};
use store::{Desired, DesiredRow, Mark};

use crate::{
    distrust, faults,
    finished::Finished,
    plan::{Plan, Reason, Step},
    pods,
    release::waves,
};
use stalls::{Stalls, Verdict, Words};

/// Publishing costs something for each unit and for each object that goes: that much is left between
/// two reports.
const COST: Duration = Duration::from_micros(20);

/// Why an object that is as declared is not told as converged yet.
const SETTLING: &str = "Settling: its containers have just started";

/// What is looked at for one declared object (or one that was).
#[derive(Clone, Debug)]
pub struct Seen {
    pub key: Key,
    /// None: it is not declared any more.
    pub row: Option<Arc<DesiredRow>>,
    pub live: Option<Arc<Object>>,
    /// The pods of its current content.
    pub pods: Vec<Arc<Object>>,
    /// When (monotonic) the last of its ready pods has settled.
    pub settles: Option<Duration>,
    /// Its content is kept as one with which a rollout failed.
    pub bad: Option<Arc<BadContent>>,
    /// A failed rollout of its content is to be reverted, and can be.
    pub revertible: bool,
    /// The content that was released last.
    pub released: Option<ContentHash>,
    /// Why the release did not go through.
    pub trouble: Option<Reason>,
    /// Its current content has run to its end, and the object is not kept.
    pub finished: Option<Finished>,
    /// Its current content is noted as the newest that was healthy.
    pub marked: bool,
}

/// What is looked at in one go.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub desired: Arc<Desired>,
    pub objects: Vec<Seen>,
    /// Nodes that changed; none: removed.
    pub nodes: Vec<(Arc<str>, Option<Arc<Object>>)>,
    pub deletions: Arc<Deletions>,
}

/// What is not declared any more and is not gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deletions {
    pub held: Option<Arc<HeldDeletions>>,
    /// What is being removed, until it is gone.
    pub removing: BTreeMap<Unit, Vec<Key>>,
    /// A declared object that is not released, for which all that is to be removed waits.
    pub waits_for: Option<Key>,
    /// How many confirmations this takes into account.
    pub confirmations: usize,
}

/// The newest report, and how long things have stalled.
#[derive(Debug)]
pub struct Tracker {
    report: Report,
    stalls: Stalls,
    /// What the report was last summed up from.
    desired: Arc<Desired>,
    deletions: Arc<Deletions>,
    /// Rows that the newest revision brought or changed and that were not looked at since.
    unseen: FxHashSet<Key>,
    held_units: BTreeMap<Unit, usize>,
    /// How many units have come how far.
    units: [usize; Outcome::ALL.len()],
    /// When the next report may be published.
    next: Duration,
    changed: bool,
}

impl Default for Tracker {
    fn default() -> Self {
        Self {
            report: Report {
                commit: None,
                revision: 0,
                confirmations: 0,
                outcome: Outcome::Progressing,
                units: BTreeMap::new(),
                nodes: SharedMap::new(),
                problems: Vec::new(),
                held_deletions: None,
                source_error: None,
            },
            stalls: Stalls::default(),
            desired: Arc::default(),
            deletions: Arc::default(),
            unseen: FxHashSet::default(),
            held_units: BTreeMap::new(),
            units: [0; Outcome::ALL.len()],
            next: Duration::ZERO,
            changed: true,
        }
    }
}

impl Tracker {
    /// Takes in what may have changed. The plan publishes a new report when it says something new.
    pub fn look(&mut self, world: &World, now: Now) -> Plan {
        let mut plan = Plan::default();
        let mut healthy = Vec::new();
        let mut touched = BTreeSet::new();
        self.take_desired(&world.desired, &mut touched);
        for seen in &world.objects {
            if self.look_at(seen, &world.desired, now, &mut plan, &mut healthy) {
                touched.insert(Unit::of(&seen.key));
            }
        }
        for (name, node) in &world.nodes {
            let new = node.as_deref().map(node_report);
            if self.report.nodes.get(name).map(|node| &**node) != new.as_ref() {
                self.changed = true;
                match new {
                    Some(new) => drop(self.report.nodes.insert(name.clone(), Arc::new(new))),
                    None => drop(self.report.nodes.remove(name)),
                }
            }
        }
        self.take_deletions(&world.deletions, &mut touched);
        self.sum_up(&touched);
        // A report on a revision of which only a part was seen would tell the old of the rest.
        if self.changed && self.unseen.is_empty() {
            if now.monotonic < self.next {
                plan.look_again(self.next - now.monotonic);
            } else {
                self.changed = false;
                let leaving: usize = self.deletions.removing.values().map(Vec::len).sum();
                let parts = u32::try_from(self.report.units.len() + leaving).unwrap_or(u32::MAX);
                self.next = now.monotonic + COST.saturating_mul(parts);
                plan.steps.push(Step::Publish(Arc::new(self.report.clone())));
            }
        }
        // After the report, which needs no database and cannot fail.
        if !healthy.is_empty() {
            plan.steps.push(Step::MarkHealthy(healthy));
        }
        plan
    }

    /// True when what its unit is summed up from has changed.
    fn look_at(
        &mut self,
        seen: &Seen,
        at: &Desired,
        now: Now,
        plan: &mut Plan,
        healthy: &mut Vec<(Key, Mark)>,
    ) -> bool {
        self.unseen.remove(&seen.key);
        let unit = Unit::of(&seen.key);
        let Some(row) = &seen.row else {
            self.stalls.forget(&seen.key);
            let unit = self.report.units.get_mut(&unit);
            let gone = unit.is_some_and(|unit| unit.objects.remove(&seen.key).is_some());
            self.changed |= gone;
            return gone;
        };
        let judged = catch_unwind(AssertUnwindSafe(|| self.judge(seen, row, now, plan)));
        let new = judged.unwrap_or_else(|panic| {
            // One object that cannot be read takes no other's report away.
            let message = faults::message(&*panic);
            tracing::error!(kind = %seen.key.kind, namespace = seen.key.ns(), name = %seen.key.name, "the report {message}");
            ObjectReport {
                outcome: Outcome::Failed,
                reason: format!("{}: the report {message}", faults::WORD),
                position: Some(position(row)),
                status: Value::Null,
                stale: true,
                gated: false,
            }
        });
        if seen.revertible && seen.bad.is_none() {
            let given_up = distrust::given_up(row, &new, now);
            plan.steps.extend(given_up.map(Step::Distrust));
        }
        if new.outcome == Outcome::Converged && !seen.marked {
            let mark = Mark {
                content: row.hash,
                commit: at.units.get(&unit).map_or(&row.commit, |at| &at.commit).clone(),
                file: row.file.clone(),
                line: row.line,
            };
            healthy.push((seen.key.clone(), mark));
        }
        let unit = match self.report.units.get_mut(&unit) {
            Some(unit) => unit,
            None => self.begin(unit, &row.commit),
        };
        if unit.objects.get(&seen.key).is_some_and(|old| **old == new) {
            return false;
        }
        unit.objects.insert(seen.key.clone(), new);
        self.changed = true;
        true
    }

    fn begin(&mut self, unit: Unit, commit: &Commit) -> &mut UnitReport {
        let fresh = || UnitReport {
            commit: commit.clone(),
            outcome: Outcome::Converged,
            reason: String::new(),
            objects: Objects::default(),
            removing: Vec::new(),
        };
        let units = &mut self.units;
        self.report.units.entry(unit).or_insert_with(|| {
            units[Outcome::Converged as usize] += 1;
            fresh()
        })
    }

    /// How far one object has come.
    fn judge(&mut self, seen: &Seen, row: &DesiredRow, now: Now, plan: &mut Plan) -> ObjectReport {
        let status = seen
            .live
            .as_deref()
            .map_or(Value::Null, |live| shown_status(live, &seen.pods));
        if let Some(finished) = &seen.finished {
            self.stalls.forget(&seen.key);
            return ObjectReport {
                outcome: if finished.succeeded {
                    Outcome::Converged
                } else {
                    Outcome::Failed
                },
                reason: format!("{}; it is not kept any longer", finished.reason),
                position: Some(position(row)),
                status: Value::Null,
                stale: false,
                gated: false,
            };
        }
        let (mut outcome, mut reason, cause) = match (&seen.trouble, &seen.live) {
            (Some(trouble), _) if trouble.word == distrust::BAD => (Outcome::Held, trouble.to_string(), None),
            (Some(trouble), _) => {
                let waits = matches!(
                    trouble.word,
                    waves::WAVE | waves::DEPENDS_ON | "Terminating" | "NamespaceTerminating" | "Replaced"
                );
                (
                    Outcome::Progressing,
                    trouble.to_string(),
                    (!waits).then(|| trouble.word.to_owned()),
                )
            }
            (None, None) => (Outcome::Progressing, "Pending: it is about to be made".to_owned(), None),
            (None, Some(_)) if seen.released != Some(row.hash) => (
                Outcome::Progressing,
                "Pending: its newest content is about to be applied".to_owned(),
                None,
            ),
            (None, Some(live)) => {
                let pods: Vec<&Object> = seen.pods.iter().map(|pod| &**pod).collect();
                let health = health::object_health(live, Related { pods: &pods });
                match seen.settles.filter(|at| *at > now.monotonic) {
                    Some(at) if health.outcome == Outcome::Converged => {
                        plan.revisit.push((seen.key.clone(), at - now.monotonic));
                        (Outcome::Progressing, SETTLING.to_owned(), None)
                    }
                    // Its status is a moment behind its pods: what it counts as available has ended.
                    _ if health.outcome == Outcome::Converged && is_behind(live, &pods) => {
                        (Outcome::Progressing, SETTLING.to_owned(), None)
                    }
                    _ if health.outcome == Outcome::Failed => {
                        let word = health.reason.split(':').next().map(str::to_owned);
                        (health.outcome, health.reason, word)
                    }
                    _ => (
                        health.outcome,
                        health.reason,
                        health.stalled.map(|stalled| stalled.reason),
                    ),
                }
            }
        };
        match self.stalls.judge(&seen.key, row.hash, outcome, cause.is_some(), now) {
            Verdict::Goes => {}
            Verdict::FailsIn(left) => plan.revisit.push((seen.key.clone(), left)),
            Verdict::Failed => outcome = Outcome::Failed,
        }
        let mut status = status;
        if outcome == Outcome::Failed {
            let words = Words { cause, reason, status };
            let (told, again) = self.stalls.tell(&seen.key, words, &seen.pods, now);
            plan.revisit.extend(again.map(|after| (seen.key.clone(), after)));
            (reason, status) = (told.reason, told.status);
        }
        if let Some(bad) = seen.bad.as_ref().filter(|_| outcome == Outcome::Failed) {
            reason.push_str(&bad.outcome());
        }
        let observed = seen.live.as_deref().is_none_or(is_observed);
        ObjectReport {
            outcome,
            reason,
            position: Some(position(row)),
            status,
            stale: seen.released != Some(row.hash) || !observed,
            gated: outcome == Outcome::Progressing
                && seen
                    .trouble
                    .as_ref()
                    .is_some_and(|trouble| matches!(trouble.word, waves::WAVE | waves::DEPENDS_ON)),
        }
    }

    /// Takes over what a new revision says of units and problems.
    fn take_desired(&mut self, desired: &Arc<Desired>, touched: &mut BTreeSet<Unit>) {
        if Arc::ptr_eq(&self.desired, desired) {
            return;
        }
        let old = std::mem::replace(&mut self.desired, desired.clone());
        let report = &mut self.report;
        self.changed |= report.revision != desired.revision
            || report.commit != desired.commit
            || report.problems != desired.problems
            || report.source_error != desired.source_error;
        report.revision = desired.revision;
        report.commit.clone_from(&desired.commit);
        report.problems.clone_from(&desired.problems);
        report.source_error.clone_from(&desired.source_error);
        for difference in old.rows.differences(&desired.rows) {
            match difference {
                Difference::Added(key, _) | Difference::Changed(key, ..) => {
                    self.unseen.insert(key.clone());
                }
                Difference::Removed(key, _) => {
                    self.unseen.remove(key);
                    self.stalls.forget(key);
                    let unit = report.units.get_mut(&Unit::of(key));
                    if unit.is_some_and(|unit| unit.objects.remove(key).is_some()) {
                        self.changed = true;
                        touched.insert(Unit::of(key));
                    }
                }
            }
        }
        let changed = desired
            .units
            .iter()
            .filter(|(name, at)| old.units.get(*name) != Some(*at));
        touched.extend(changed.map(|(name, _)| name.clone()));
        let gone = old.units.keys().filter(|name| !desired.units.contains_key(*name));
        touched.extend(gone.cloned());
        if old.commit != desired.commit {
            // Units of which nothing is declared any more go by the newest commit.
            touched.extend(self.deletions.removing.keys().cloned());
        }
    }

    fn take_deletions(&mut self, deletions: &Arc<Deletions>, touched: &mut BTreeSet<Unit>) {
        if Arc::ptr_eq(&self.deletions, deletions) {
            return;
        }
        let old = std::mem::replace(&mut self.deletions, deletions.clone());
        self.changed |= self.report.confirmations != deletions.confirmations;
        self.report.confirmations = deletions.confirmations;
        let waits = old.waits_for != deletions.waits_for;
        let changed = deletions.removing.iter();
        let changed = changed.filter(|(name, keys)| waits || old.removing.get(*name) != Some(*keys));
        touched.extend(changed.map(|(name, _)| name.clone()));
        let gone = old
            .removing
            .keys()
            .filter(|name| !deletions.removing.contains_key(*name));
        touched.extend(gone.cloned());
        if old.held == deletions.held {
            return;
        }
        let mut held = deletions.held.clone();
        if let (Some(new), Some(shown)) = (&held, &self.report.held_deletions)
            && new.objects == shown.objects
        {
            // The same set waits since the same time.
            held = Some(Arc::new(HeldDeletions {
                since: shown.since,
                ..HeldDeletions::clone(new)
            }));
        }
        self.changed |= self.report.held_deletions != held;
        let mut units: BTreeMap<Unit, usize> = BTreeMap::new();
        for key in held.iter().flat_map(|held| &held.objects) {
            *units.entry(Unit::of(key)).or_insert(0) += 1;
        }
        touched.extend(std::mem::replace(&mut self.held_units, units).into_keys());
        touched.extend(self.held_units.keys().cloned());
        self.report.held_deletions = held;
    }

    /// Sums up the units that were touched, and all of them.
    fn sum_up(&mut self, touched: &BTreeSet<Unit>) {
        for name in touched {
            let desired = self.desired.clone();
            let declared = desired.units.get(name);
            let removing = self.deletions.removing.get(name).map_or(&[][..], Vec::as_slice);
            // A unit of which nothing is declared any more stays until nothing of it is left.
            let leaves = !removing.is_empty() && desired.commit.is_some();
            if declared.is_none() && !leaves && self.report.units.get(name).is_none_or(|unit| unit.objects.is_empty()) {
                if let Some(unit) = self.report.units.remove(name) {
                    self.units[unit.outcome as usize] -= 1;
                    self.changed = true;
                }
                continue;
            }
            let removing = removing.to_vec();
            let commit = declared
                .map(|at| &at.commit)
                .or(desired.commit.as_ref().filter(|_| leaves));
            let deletions = self.report.held_deletions.clone();
            let own = self.held_units.get(name).copied().unwrap_or(0);
            let deletions = deletions.filter(|_| own > 0).map(|held| held_reason(&held, own));
            let waits_for = self.deletions.waits_for.clone();
            let known = self.report.units.contains_key(name);
            let unit = match (self.report.units.get_mut(name), commit) {
                (Some(unit), _) => unit,
                (None, Some(commit)) => self.begin(name.clone(), commit),
                (None, None) => continue,
            };
            let mut changed = !known || unit.removing != removing;
            unit.removing = removing;
            let why_held = declared.and_then(|at| at.held.as_deref());
            let (outcome, reason) = sum(unit, why_held, deletions.as_deref(), waits_for.as_ref());
            if let Some(commit) = commit.filter(|commit| unit.commit != **commit) {
                unit.commit = commit.clone();
                changed = true;
            }
            changed |= unit.outcome != outcome || unit.reason != reason;
            unit.reason = reason;
            let before = std::mem::replace(&mut unit.outcome, outcome);
            self.units[before as usize] -= 1;
            self.units[outcome as usize] += 1;
            self.changed |= changed;
        }
        let some = |outcome: &Outcome| self.units[*outcome as usize] > 0;
        let worst = Outcome::ALL.into_iter().rev().find(some).unwrap_or(Outcome::Converged);
        let stopped = self.report.held_deletions.is_some() || self.report.source_error.is_some();
        let outcome = if stopped { worst.max(Outcome::Held) } else { worst };
        self.changed |= self.report.outcome != outcome;
        self.report.outcome = outcome;
    }

    /// Looking at this object went wrong, and it is tried again: no other's report waits for it.
    pub(crate) fn pass_over(&mut self, key: &Key) {
        self.unseen.remove(key);
    }

    /// When (monotonic) it is worth looking again: reports cost something.
    #[must_use]
    pub fn next(&self) -> Duration {
        self.next
    }

    /// The report as it is now.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The commit that is reported on.
    #[must_use]
    pub fn commit(&self) -> Option<&Commit> {
        self.report.commit.as_ref()
    }
}

fn position(row: &DesiredRow) -> Position {
    Position {
        file: row.file.clone(),
        line: row.line,
        column: 1,
    }
}

/// Why a unit is held of which `own` objects are among the held deletions. The reason of these may name
/// another unit: which one is over the budget, all of them wait.
fn held_reason(held: &HeldDeletions, own: usize) -> String {
    let reason = &held.reason;
    match (own, held.objects.len().saturating_sub(own)) {
        (_, 0) => reason.clone(),
        (1, others) => format!("1 object of its own is held together with {others} of other units: {reason}"),
        (own, others) => format!("{own} objects of its own are held together with {others} of other units: {reason}"),
    }
}

/// The outcome of a unit: the worst of its objects, on the way while something of it goes, or held.
fn sum(unit: &UnitReport, held: Option<&str>, deletions: Option<&str>, waits_for: Option<&Key>) -> (Outcome, String) {
    let (mut outcome, mut reason) = match unit.objects.unsettled().next() {
        None => (
            Outcome::Converged,
            format!("{} objects are as declared", unit.objects.len()),
        ),
        Some((key, object)) => {
            let reason = match unit.objects.count(object.outcome) {
                0 | 1 => format!("{key}: {}", object.reason),
                count => format!("{key} and {} more: {}", count - 1, object.reason),
            };
            (object.outcome, reason)
        }
    };
    if outcome < Outcome::Progressing && !unit.removing.is_empty() {
        outcome = Outcome::Progressing;
        reason = match (unit.removing.len(), waits_for) {
            (1, None) => "1 object is being removed".to_owned(),
            (several, None) => format!("{several} objects are being removed"),
            (1, Some(key)) => format!("1 object waits to be removed until {key} is released"),
            (several, Some(key)) => format!("{several} objects wait to be removed until {key} is released"),
        };
    }
    for why in [held, deletions].into_iter().flatten() {
        if outcome < Outcome::Held {
            outcome = Outcome::Held;
            reason = why.to_owned();
        }
    }
    (outcome, reason)
}

/// The status of an object as the status branch shows it: without times, its pods summed.
fn shown_status(object: &Object, pods: &[Arc<Object>]) -> Value {
    let mut status = object.status_value().unwrap_or(Value::Null);
    drop_times(&mut status);
    if object.kind == Kind::CronJob
        && let Some(status) = status.as_object_mut()
    {
        // Which of its Jobs run is the clock's doing.
        status.remove("active");
    }
    if object.kind == Kind::HorizontalPodAutoscaler
        && let Some(status) = status.as_object_mut()
    {
        // What is measured changes all the time.
        status.remove("currentMetrics");
    }
    if !pods.is_empty()
        && let Some(status) = status.as_object_mut()
    {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for pod in pods {
            *counts.entry(pods::shown(pod)).or_insert(0) += 1;
        }
        status.insert("pods".to_owned(), json!(counts));
    }
    status
}

/// Takes out what changes although nothing happened: times and probes' stamps.
fn drop_times(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|field, _| {
                !(field.ends_with("Time") || field.ends_with("Timestamp") || field.ends_with("At") || field == "images")
            });
            map.values_mut().for_each(drop_times);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_times),
        _ => {}
    }
}

/// Whether one of the pods that a workload's status counts on is not ready itself: its status is a moment
/// behind. Pods that ended for good do not count, and a Job's come to their end.
fn is_behind(workload: &Object, pods: &[&Object]) -> bool {
    let counts = |pod: &Object| !pod.is_deleting() && !pods::is_ready(pod) && !pods::is_finished(pod);
    workload.kind != Kind::Job && pods.iter().any(|pod| counts(pod))
}

/// Whether the status is about the newest content, where the kind's status tells.
fn is_observed(live: &Object) -> bool {
    let tells = matches!(
        live.kind,
        Kind::Deployment | Kind::ReplicaSet | Kind::ReplicationController | Kind::DaemonSet | Kind::StatefulSet
    );
    let observed = live
        .status
        .as_ref()
        .and_then(|status| status.at("observedGeneration")?.int());
    !tells || observed.unwrap_or(0) >= live.meta.generation.unwrap_or(0)
}

fn node_report(node: &Object) -> ObjectReport {
    let health = health::object_health(node, Related::default());
    let mut status = node.status_value().unwrap_or(Value::Null);
    drop_times(&mut status);
    ObjectReport {
        outcome: health.outcome,
        reason: health.reason,
        position: None,
        status,
        stale: false,
        gated: false,
    }
}

#[cfg(test)]
mod tests;
