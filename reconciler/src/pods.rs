//! What controllers read from pods: phase, readiness, restarts and why a pod does not run.
//!
//! These read the status as it lies, without parsing all of it: a ReplicaSet of thousands looks at
//! every pod it has.

use std::time::Duration;

use schemas::{Now, Object, Packed, Part};
use serde_json::{Value, json};

/// Set on pods that are about to be removed for a reason of the cluster's.
const DISRUPTION_TARGET: &str = "DisruptionTarget";

#[must_use]
pub fn phase(pod: &Object) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.word("phase"))
        .unwrap_or("Pending")
}

/// Succeeded or failed: it will never run again.
#[must_use]
pub fn is_finished(pod: &Object) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Counts as a replica: neither finished nor being deleted.
#[must_use]
pub fn is_active(pod: &Object) -> bool {
    !pod.is_deleting() && !is_finished(pod)
}

/// A condition of an object's status.
#[must_use]
pub fn condition(object: &Object, kind: &str) -> Option<Value> {
    condition_part(object, kind).map(Part::value)
}

fn condition_part<'a>(object: &'a Object, kind: &str) -> Option<Part<'a>> {
    let conditions = object.status.as_ref()?.at("conditions")?;
    conditions.items().find(|condition| condition.has("type", kind))
}

#[must_use]
pub fn condition_in<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == kind)
}

#[must_use]
pub fn is_ready(pod: &Object) -> bool {
    condition_part(pod, "Ready").is_some_and(|ready| ready.has("status", "True"))
}

/// How long until a pod counts as available: none if it is not ready, zero if it is available now.
/// `since` is when (monotonic) it was first seen ready.
#[must_use]
pub fn ripens(pod: &Object, since: Option<Duration>, min_ready: Duration, now: Now) -> Option<Duration> {
    is_ready(pod).then(|| (since.unwrap_or(now.monotonic) + min_ready).saturating_sub(now.monotonic))
}

/// The sum of the containers' restarts.
#[must_use]
pub fn restarts(pod: &Object) -> i64 {
    containers(pod)
        .filter_map(|container| container.get("restartCount")?.int())
        .sum()
}

fn containers(pod: &Object) -> impl Iterator<Item = Part<'_>> {
    pod.status
        .iter()
        .flat_map(|status| ["initContainerStatuses", "containerStatuses"].map(|list| status.at(list)))
        .flatten()
        .flat_map(Part::items)
}

/// Puts a condition into a status, in the place of one of the same type. The time of transition
/// stays when the condition's value does.
pub fn set_condition(status: &mut Value, mut condition: Value) {
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(list) = status["conditions"].as_array_mut() else {
        return;
    };
    match list.iter_mut().find(|old| old["type"] == condition["type"]) {
        Some(old) => {
            if old["status"] == condition["status"] && old.get("lastTransitionTime").is_some() {
                condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            if let Some(probe) = old.get("lastProbeTime")
                && condition.get("lastProbeTime").is_none()
            {
                condition["lastProbeTime"] = probe.clone();
            }
            *old = condition;
        }
        None => list.push(condition),
    }
}

/// A status to fill in: a copy of what is there, or an empty one.
#[must_use]
pub fn blank(status: Option<&Packed>) -> Value {
    let status = status.map(Packed::value);
    status.filter(Value::is_object).unwrap_or_else(|| json!({}))
}

/// Sets a count of a status; one of zero is left out, as the API does.
pub fn count(status: &mut Value, field: &str, count: i64) {
    match status.as_object_mut() {
        Some(status) if count == 0 => drop(status.remove(field)),
        Some(status) => drop(status.insert(field.to_owned(), count.into())),
        None => {}
    }
}

/// A pod's status with the condition that tells why it is about to be removed. Failure policies of Jobs
/// go by it.
#[must_use]
pub fn disrupted(pod: &Object, reason: &str, message: &str, now: Now) -> Value {
    let mut status = pod.status_value().unwrap_or_else(|| json!({}));
    let condition = json!({
        "type": DISRUPTION_TARGET, "status": "True", "reason": reason, "message": message,
        "lastTransitionTime": stamp(now.wall),
    });
    set_condition(&mut status, condition);
    status
}

/// Whether it was said already that a pod is about to be removed.
#[must_use]
pub fn is_disrupted(pod: &Object) -> bool {
    condition(pod, DISRUPTION_TARGET).is_some_and(|condition| condition["status"] == "True")
}

/// A pod's status as people see it in a list: `Running`, `CrashLoopBackOff`, `Terminating`.
#[must_use]
pub fn shown(pod: &Object) -> String {
    if pod.is_deleting() {
        return "Terminating".to_owned();
    }
    let reason = containers(pod).find_map(|container| {
        let state = container.get("state")?;
        let reason = |of: &str| state.get(of)?.get("reason")?.word();
        let waiting = reason("waiting");
        let ended = reason("terminated").filter(|reason| *reason != "Completed");
        waiting.or(ended)
    });
    let own = pod.status.as_ref().and_then(|status| status.word("reason"));
    reason.or(own).unwrap_or_else(|| phase(pod)).to_owned()
}

/// The time as the API writes it, in whole seconds.
#[must_use]
pub fn stamp(at: jiff::Timestamp) -> String {
    at.round(jiff::Unit::Second).unwrap_or(at).to_string()
}
