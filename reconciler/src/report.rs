//! The report: how far every declared object and every unit has come.
//!
//! The tracker keeps the last report and looks again only at what may have changed. It is memory that
//! can be rebuilt: a fresh one, shown every object once, comes to the same report.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;
use schemas::{
    Commit, ContentHash, Key, Kind, Now, Object, Unit,
    health::{self, Related},
    report::{HeldDeletions, ObjectReport, Outcome, Position, Report, UnitReport},
};
use serde_json::{Value, json};
use store::{Desired, DesiredRow};

use crate::{
    finished::Finished,
    plan::{Plan, Reason, Step},
    pods,
};

/// Something that stalls an object for this long fails it.
const STALL: Duration = Duration::from_secs(30);
/// A stall that pauses for less than this goes on.
const PAUSE: Duration = Duration::from_secs(15);
/// Publishing costs something for each declared object: that much is left between two reports.
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
    /// The content that was released last.
    pub released: Option<ContentHash>,
    /// Why the release did not go through.
    pub trouble: Option<Reason>,
    /// Its current content has run to its end, and the object is not kept.
    pub finished: Option<Finished>,
    /// Its current content was healthy once.
    pub was_healthy: bool,
}

/// What is looked at in one go.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub desired: Arc<Desired>,
    pub objects: Vec<Seen>,
    /// Nodes that changed; none: removed.
    pub nodes: Vec<(Arc<str>, Option<Arc<Object>>)>,
    pub held: Option<HeldDeletions>,
    /// What is being removed, until it is gone.
    pub removing: BTreeMap<Unit, Vec<Key>>,
}

/// The newest report, and how long things have stalled.
#[derive(Debug)]
pub struct Tracker {
    report: Report,
    stalls: FxHashMap<Key, Stall>,
    objects: usize,
    /// When the next report may be published.
    next: Duration,
    changed: bool,
}

#[derive(Clone, Debug)]
struct Stall {
    content: ContentHash,
    since: Duration,
    last: Duration,
    /// It failed; only success or another content ends that.
    failed: bool,
}

impl Default for Tracker {
    fn default() -> Self {
        Self {
            report: Report {
                commit: None,
                outcome: Outcome::Progressing,
                units: BTreeMap::new(),
                nodes: BTreeMap::new(),
                problems: Vec::new(),
                held_deletions: None,
                source_error: None,
            },
            stalls: FxHashMap::default(),
            objects: 0,
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
        for seen in &world.objects {
            self.look_at(seen, now, &mut plan, &mut healthy);
        }
        if !healthy.is_empty() {
            plan.steps.push(Step::MarkHealthy(healthy));
        }
        for (name, node) in &world.nodes {
            let new = node.as_deref().map(node_report);
            if self.report.nodes.get(name) != new.as_ref() {
                self.changed = true;
                match new {
                    Some(new) => drop(self.report.nodes.insert(name.clone(), new)),
                    None => drop(self.report.nodes.remove(name)),
                }
            }
        }
        self.take_desired(world);
        if self.changed {
            if now.monotonic < self.next {
                plan.look_again(self.next - now.monotonic);
            } else {
                self.changed = false;
                let leaving: usize = world.removing.values().map(Vec::len).sum();
                let objects = u32::try_from(self.objects + leaving).unwrap_or(u32::MAX);
                self.next = now.monotonic + COST.saturating_mul(objects);
                plan.steps.push(Step::Publish(Arc::new(self.report.clone())));
            }
        }
        plan
    }

    fn look_at(&mut self, seen: &Seen, now: Now, plan: &mut Plan, healthy: &mut Vec<(Key, ContentHash)>) {
        let unit = Unit::of(&seen.key);
        let Some(row) = &seen.row else {
            self.stalls.remove(&seen.key);
            if let Some(unit) = self.report.units.get_mut(&unit)
                && unit.objects.remove(&seen.key).is_some()
            {
                self.objects -= 1;
                self.changed = true;
            }
            return;
        };
        let new = self.judge(seen, row, now, plan);
        if new.outcome == Outcome::Converged && !seen.was_healthy {
            healthy.push((seen.key.clone(), row.hash));
        }
        let commit = row.commit.clone();
        let unit = self.report.units.entry(unit).or_insert_with(|| UnitReport {
            commit,
            outcome: Outcome::Progressing,
            reason: String::new(),
            objects: BTreeMap::new(),
            removing: Vec::new(),
        });
        match unit.objects.get_mut(&seen.key) {
            Some(old) if *old == new => {}
            Some(old) => {
                *old = new;
                self.changed = true;
            }
            None => {
                unit.objects.insert(seen.key.clone(), new);
                self.objects += 1;
                self.changed = true;
            }
        }
    }

    /// How far one object has come.
    fn judge(&mut self, seen: &Seen, row: &DesiredRow, now: Now, plan: &mut Plan) -> ObjectReport {
        let position = Position {
            file: row.file.clone(),
            line: row.line,
            column: 1,
        };
        let status = seen
            .live
            .as_deref()
            .map_or(Value::Null, |live| shown_status(live, &seen.pods));
        if let Some(finished) = &seen.finished {
            self.stalls.remove(&seen.key);
            return ObjectReport {
                outcome: if finished.succeeded {
                    Outcome::Converged
                } else {
                    Outcome::Failed
                },
                reason: format!("{}; it is not kept any longer", finished.reason),
                position: Some(position),
                status: Value::Null,
                stale: false,
            };
        }
        let (mut outcome, reason, stalled) = match (&seen.trouble, &seen.live) {
            (Some(trouble), _) => {
                let waits = matches!(
                    trouble.word,
                    "Wave" | "Terminating" | "NamespaceTerminating" | "Replaced"
                );
                (Outcome::Progressing, trouble.to_string(), !waits)
            }
            (None, None) => (
                Outcome::Progressing,
                "Pending: it is about to be made".to_owned(),
                false,
            ),
            (None, Some(_)) if seen.released != Some(row.hash) => (
                Outcome::Progressing,
                "Pending: its newest content is about to be applied".to_owned(),
                false,
            ),
            (None, Some(live)) => {
                let pods: Vec<&Object> = seen.pods.iter().map(|pod| &**pod).collect();
                let health = health::object_health(live, Related { pods: &pods });
                match seen.settles.filter(|at| *at > now.monotonic) {
                    Some(at) if health.outcome == Outcome::Converged => {
                        plan.revisit.push((seen.key.clone(), at - now.monotonic));
                        (Outcome::Progressing, SETTLING.to_owned(), false)
                    }
                    _ => (health.outcome, health.reason, health.stalled.is_some()),
                }
            }
        };
        if self.fails(seen, row, outcome, stalled, now, plan) {
            outcome = Outcome::Failed;
        }
        let observed = seen.live.as_deref().is_none_or(is_observed);
        ObjectReport {
            outcome,
            reason,
            position: Some(position),
            status,
            stale: seen.released != Some(row.hash) || !observed,
        }
    }

    /// Whether an object has stalled for so long that it counts as failed.
    fn fails(
        &mut self,
        seen: &Seen,
        row: &DesiredRow,
        outcome: Outcome,
        stalled: bool,
        now: Now,
        plan: &mut Plan,
    ) -> bool {
        if outcome == Outcome::Converged {
            self.stalls.remove(&seen.key);
            return false;
        }
        if outcome != Outcome::Progressing {
            return false;
        }
        if self
            .stalls
            .get(&seen.key)
            .is_some_and(|stall| stall.content != row.hash)
        {
            self.stalls.remove(&seen.key);
        }
        if !stalled {
            let over = |stall: &Stall| !stall.failed && now.monotonic.saturating_sub(stall.last) > PAUSE;
            if self.stalls.get(&seen.key).is_some_and(over) {
                self.stalls.remove(&seen.key);
            }
            return self.stalls.get(&seen.key).is_some_and(|stall| stall.failed);
        }
        let fresh = Stall {
            content: row.hash,
            since: now.monotonic,
            last: now.monotonic,
            failed: false,
        };
        let stall = self.stalls.entry(seen.key.clone()).or_insert(fresh);
        if now.monotonic.saturating_sub(stall.last) > PAUSE && !stall.failed && stall.last > stall.since {
            // It went on for a while in between and nobody looked: count from now.
            let looked = now.monotonic.saturating_sub(stall.since) <= STALL + PAUSE;
            if !looked {
                stall.since = now.monotonic;
            }
        }
        stall.last = now.monotonic;
        let waited = now.monotonic.saturating_sub(stall.since);
        stall.failed |= waited >= STALL;
        if !stall.failed {
            plan.revisit.push((seen.key.clone(), STALL - waited));
        }
        stall.failed
    }

    /// Takes over what the revision says of units and problems, and sums up.
    fn take_desired(&mut self, world: &World) {
        let desired = &world.desired;
        let mut held = world.held.clone();
        if let (Some(new), Some(old)) = (&mut held, &self.report.held_deletions)
            && new.objects == old.objects
        {
            new.since = old.since;
        }
        let report = &mut self.report;
        let before = (report.commit.clone(), report.outcome);
        self.changed |= report.problems != desired.problems
            || report.held_deletions != held
            || report.source_error != desired.source_error;
        report.commit.clone_from(&desired.commit);
        if report.problems != desired.problems {
            report.problems.clone_from(&desired.problems);
        }
        report.source_error.clone_from(&desired.source_error);
        report.units.retain(|name, unit| {
            let stays = desired.units.contains_key(name)
                || !unit.objects.is_empty()
                || (world.removing.contains_key(name) && desired.commit.is_some());
            self.changed |= !stays;
            stays
        });
        let declared = desired
            .units
            .iter()
            .map(|(name, at)| (name, Some(&at.commit), at.held.as_deref()));
        // A unit of which nothing is declared any more stays until nothing of it is left.
        let leaving = world.removing.keys().filter(|name| !desired.units.contains_key(*name));
        let leaving = leaving.map(|name| (name, desired.commit.as_ref(), None));
        for (name, commit, why_held) in declared.chain(leaving) {
            let Some(commit) = commit else { continue };
            let unit = report.units.entry(name.clone()).or_insert_with(|| UnitReport {
                commit: commit.clone(),
                outcome: Outcome::Converged,
                reason: String::new(),
                objects: BTreeMap::new(),
                removing: Vec::new(),
            });
            let removing = world.removing.get(name).map_or(&[][..], Vec::as_slice);
            if unit.removing != removing {
                unit.removing = removing.to_vec();
                self.changed = true;
            }
            let (outcome, reason) = sum(
                unit,
                why_held,
                held.as_ref()
                    .filter(|held| held.objects.iter().any(|key| Unit::of(key) == *name)),
            );
            self.changed |= unit.outcome != outcome || unit.reason != reason || unit.commit != *commit;
            unit.commit = commit.clone();
            unit.outcome = outcome;
            unit.reason = reason;
        }
        let worst = report
            .units
            .values()
            .map(|unit| unit.outcome)
            .max()
            .unwrap_or(Outcome::Converged);
        let stopped = held.is_some() || report.source_error.is_some();
        report.outcome = if stopped { worst.max(Outcome::Held) } else { worst };
        report.held_deletions = held;
        self.changed |= before != (report.commit.clone(), report.outcome);
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

/// The outcome of a unit: the worst of its objects, on the way while something of it goes, or held.
fn sum(unit: &UnitReport, held: Option<&str>, deletions: Option<&HeldDeletions>) -> (Outcome, String) {
    let mut outcome = Outcome::Converged;
    let mut first = None;
    let mut count = 0;
    for (key, object) in &unit.objects {
        if object.outcome > outcome {
            outcome = object.outcome;
            first = Some((key, object));
            count = 0;
        }
        count += usize::from(object.outcome == outcome && outcome != Outcome::Converged);
    }
    let mut reason = match first {
        None => format!("{} objects are as declared", unit.objects.len()),
        Some((key, object)) if count == 1 => format!("{key}: {}", object.reason),
        Some((key, object)) => format!("{key} and {} more: {}", count - 1, object.reason),
    };
    if outcome < Outcome::Progressing && !unit.removing.is_empty() {
        outcome = Outcome::Progressing;
        reason = match unit.removing.len() {
            1 => "1 object is being removed".to_owned(),
            several => format!("{several} objects are being removed"),
        };
    }
    for why in [held, deletions.map(|held| held.reason.as_str())].into_iter().flatten() {
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
    }
}

#[cfg(test)]
mod tests;
