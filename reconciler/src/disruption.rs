//! PodDisruptionBudgets: how many of a set of pods may be evicted now.
//!
//! The status is all that evictions ask: the API takes one disruption off it, under the version that
//! it read, before it deletes a pod. Here it is counted anew after every change.
//!
//! <https://kubernetes.io/docs/concepts/workloads/pods/disruptions/>

pub(crate) mod members;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::{PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use rustc_hash::FxHashMap;
use schemas::{Now, Object, Uid};
use serde_json::{Value, json};
use store::Class;

use crate::{
    plan::{Plan, status_of},
    pods::{blank, condition_in, is_finished, is_ready, set_condition, stamp},
    share::{self, Round},
};

/// What is looked at for one budget.
#[derive(Clone, Debug)]
pub struct World {
    pub budget: Arc<Object>,
    /// Pods that its selector matches.
    pub pods: Vec<Arc<Object>>,
    /// By the uid of what controls a pod: what says how many such pods there shall be.
    pub scales: FxHashMap<Uid, Scale>,
}

/// How many pods there shall be, by whoever says so in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scale {
    /// The uid of that object, and its number.
    Wanted(Uid, i32),
    /// An object of this name has no such number.
    None(String),
}

/// An eviction that is not seen to delete its pod in this time does not count any more.
const CONFIRM: Duration = Duration::from_secs(120);
const SOURCE: &str = "controllermanager";

/// Counts what a budget allows.
#[must_use]
pub fn plan(world: &World, now: Now) -> Plan {
    let mut plan = Plan::default();
    let budget = &*world.budget;
    if budget.is_deleting() {
        return plan;
    }
    let spec = match budget.spec::<PodDisruptionBudgetSpec>() {
        Ok(spec) => spec,
        Err(error) => {
            plan.wait(budget.key(), "InvalidSpec", error.to_string());
            return plan;
        }
    };
    let old: PodDisruptionBudgetStatus = budget.status().unwrap_or_default();
    let pods: Vec<&Arc<Object>> = world.pods.iter().filter(|pod| !is_finished(pod)).collect();
    let said = old.disrupted_pods.unwrap_or_default();
    let said: BTreeMap<String, Timestamp> = said.into_iter().map(|(name, time)| (name, time.0)).collect();
    let (disrupted, late) = disrupted(&pods, said, &mut plan, now);
    let counted = numbers(world, &spec, &pods);
    let (expected, desired) = counted.clone().unwrap_or((0, 0));
    let healthy = pods
        .iter()
        .filter(|pod| !pod.is_deleting() && is_ready(pod) && !disrupted.contains_key(pod.name()))
        .count();
    let healthy = i32::try_from(healthy).unwrap_or(i32::MAX);
    let allowed = match expected {
        1.. => (healthy - desired).max(0),
        _ => 0,
    };
    let mut status = blank(budget.status.as_ref());
    status["observedGeneration"] = budget.meta.generation.unwrap_or(1).into();
    if counted.is_ok() {
        for (field, count) in [
            ("currentHealthy", healthy),
            ("desiredHealthy", desired),
            ("expectedPods", expected),
        ] {
            status[field] = count.into();
        }
    }
    status["disruptionsAllowed"] = allowed.into();
    if let Some(status) = status.as_object_mut() {
        status.remove("disruptedPods");
        if !disrupted.is_empty() {
            let times = disrupted.iter().map(|(name, time)| (name.clone(), stamp(*time).into()));
            status.insert("disruptedPods".to_owned(), Value::Object(times.collect()));
        }
    }
    conclude(&mut status, budget, counted.as_ref().err(), allowed, now);
    if budget.status != Some((&status).into()) {
        plan.write(
            Class::Status,
            "counting what a budget allows",
            status_of(budget, status),
        );
        tell(&mut plan, world, &pods, counted.err());
    }
    for pod in late {
        plan.warn(
            SOURCE,
            pod,
            "NotDeleted",
            format!(
                "its eviction under the budget {} did not delete it; it counts again",
                budget.name()
            ),
        );
    }
    plan
}

/// Evictions that are under way, and pods whose eviction came to nothing.
fn disrupted<'a>(
    pods: &[&'a Arc<Object>],
    said: BTreeMap<String, Timestamp>,
    plan: &mut Plan,
    now: Now,
) -> (BTreeMap<String, Timestamp>, Vec<&'a Arc<Object>>) {
    let mut open = BTreeMap::new();
    let mut late = Vec::new();
    for (name, since) in said {
        // A pod that is being deleted counts as gone already.
        let Some(pod) = pods.iter().find(|pod| pod.name() == name && !pod.is_deleting()) else {
            continue;
        };
        let passed = Duration::try_from(now.wall.duration_since(since)).unwrap_or_default();
        if passed >= CONFIRM {
            late.push(*pod);
        } else {
            plan.look_again(CONFIRM - passed);
            open.insert(name, since);
        }
    }
    (open, late)
}

/// How many pods there shall be, and how many of them must stay healthy.
///
/// # Errors
/// When a share or `maxUnavailable` is asked for and nobody says how many pods there shall be.
fn numbers(world: &World, spec: &PodDisruptionBudgetSpec, pods: &[&Arc<Object>]) -> Result<(i32, i32), String> {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    let there = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let expected = scale(world, pods)?;
            Ok((expected, (expected - share::of(most, expected, Round::Up)).max(0)))
        }
        (None, Some(least @ IntOrString::Int(_))) => Ok((there, share::of(least, there, Round::Up))),
        (None, Some(least)) => {
            let expected = scale(world, pods)?;
            Ok((expected, share::of(least, expected, Round::Up)))
        }
        (None, None) => Ok((there, 0)),
    }
}

/// The sum of what all that control these pods say; each counts once.
fn scale(world: &World, pods: &[&Arc<Object>]) -> Result<i32, String> {
    let mut wanted: FxHashMap<&Uid, i32> = FxHashMap::default();
    for pod in pods {
        let Some(owner) = pod.controller() else { continue };
        match world.scales.get(&Uid::from(owner.uid.as_str())) {
            Some(Scale::Wanted(uid, replicas)) => drop(wanted.insert(uid, *replicas)),
            Some(Scale::None(name)) => return Err(format!("{name} has no scale")),
            // It is gone, and its pods will be.
            None => {}
        }
    }
    Ok(wanted.into_values().sum())
}

fn conclude(status: &mut Value, budget: &Object, failure: Option<&String>, allowed: i32, now: Now) {
    let (value, reason, message) = match failure {
        Some(why) => ("False", "SyncFailed", why.as_str()),
        None if allowed > 0 => ("True", "SufficientPods", ""),
        None => ("False", "InsufficientPods", ""),
    };
    let generation = budget.meta.generation.unwrap_or(1);
    let same = condition_in(status, "DisruptionAllowed").is_some_and(|said| {
        said["reason"] == reason && said["message"] == message && said["observedGeneration"] == generation
    });
    if !same {
        let condition = json!({
            "type": "DisruptionAllowed", "status": value, "reason": reason, "message": message,
            "observedGeneration": generation, "lastTransitionTime": stamp(now.wall),
        });
        set_condition(status, condition);
    }
}

fn tell(plan: &mut Plan, world: &World, pods: &[&Arc<Object>], failure: Option<String>) {
    let budget = &*world.budget;
    if pods.is_empty() {
        plan.note(SOURCE, budget, "NoPods", "its selector matches no pod");
    }
    if let Some(why) = failure {
        let message = format!("how many pods are expected cannot be said: {why}");
        plan.warn(SOURCE, budget, "CalculateExpectedPodCountFailed", message);
        return;
    }
    let numbered = budget
        .body
        .at("spec/minAvailable")
        .is_some_and(|least| least.int().is_some());
    let alone: Vec<&str> = pods
        .iter()
        .filter(|pod| pod.controller().is_none())
        .map(|pod| pod.name())
        .collect();
    if !alone.is_empty() && !numbered {
        let message = format!(
            "nothing controls the pods {}, so they do not count; give minAvailable as a number to count them",
            alone.join(", ")
        );
        plan.warn(SOURCE, budget, "UnmanagedPods", message);
    }
}

#[cfg(test)]
mod tests;
