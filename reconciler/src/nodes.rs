//! The life of nodes: silence makes one unknown and taints it; taints evict pods, paced.
//!
//! Silence is counted by this server's own clock, from the later of the last sign of life and taking
//! office. When every node is silent the fault is ours, and nothing is evicted.
//!
//! <https://kubernetes.io/docs/concepts/architecture/nodes/>

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{NodeSpec, PodSpec, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};
use rustc_hash::FxHashMap;
use schemas::{
    Body, Now, Object,
    labels::{
        TAINT_DISK_PRESSURE, TAINT_MEMORY_PRESSURE, TAINT_NOT_READY, TAINT_PID_PRESSURE, TAINT_UNREACHABLE,
        TAINT_UNSCHEDULABLE,
    },
};
use serde_json::{Value, json};
use store::{Class, Write};

use crate::{
    owners,
    plan::{Plan, replace_of, status_of},
    pods::{condition, disrupted, is_disrupted, is_finished, set_condition, stamp},
    scheduler::filter,
};

/// A node that was not heard of for this long is unknown.
pub const SILENCE: Duration = Duration::from_secs(50);
/// One node is given up in this time, or a tenth of it when most are unhealthy.
const PACE: Duration = Duration::from_secs(10);
const SLOW_PACE: Duration = Duration::from_secs(100);
/// From this part of unhealthy nodes on (in percent) evictions are slow, and stop in small clusters.
const UNHEALTHY_PERCENT: usize = 55;
const SMALL: usize = 50;
/// How soon a silent node's return is looked for.
const RETURN: Duration = Duration::from_secs(1);
/// At most so many pods are evicted in one look.
const AT_ONCE: usize = 500;

const SOURCE: &str = "node-controller";
const SILENT: &str = "NodeStatusUnknown";
const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// Conditions that keep new pods away while they are true, and the taints that do so.
const PRESSURES: [(&str, &str); 3] = [
    ("MemoryPressure", TAINT_MEMORY_PRESSURE),
    ("DiskPressure", TAINT_DISK_PRESSURE),
    ("PIDPressure", TAINT_PID_PRESSURE),
];

/// A taint of a node, as the time since when it is seen is kept.
pub type Seen = FxHashMap<(Arc<str>, String), Duration>;

/// One node.
#[derive(Clone, Debug)]
pub struct Seat {
    pub node: Arc<Object>,
    pub silence: Duration,
    /// Its pods, where they matter: on nodes that are silent, came back, or evict.
    pub pods: Vec<Arc<Object>>,
}

#[derive(Clone, Debug, Default)]
pub struct World {
    pub nodes: Vec<Seat>,
    /// Since when (monotonic) each NoExecute taint is seen, by node and key of the taint.
    pub seen: Seen,
}

/// Whether the pods of this node matter to [`plan`].
#[must_use]
pub fn needs_pods(node: &Object, silence: Duration) -> bool {
    silence >= SILENCE || is_unknown(node) || taints(node).iter().any(|taint| taint.effect == "NoExecute")
}

#[must_use]
pub fn plan(world: &World, now: Now) -> Plan {
    let mut plan = Plan::default();
    let silent = world.nodes.iter().filter(|seat| seat.silence >= SILENCE).count();
    let ours = silent == world.nodes.len();
    let mut statuses = Vec::new();
    for seat in &world.nodes {
        let said = status(&mut plan, seat, now);
        statuses.extend(said);
        if seat.silence < SILENCE {
            plan.look_again(SILENCE - seat.silence);
        } else {
            plan.look_again(RETURN);
        }
    }
    plan.writes(Class::Controller, "telling which nodes are heard of", statuses);
    if !plan.steps.is_empty() {
        // Taints follow from the conditions: they come with the next look.
        return plan;
    }
    taint(&mut plan, world, ours, now);
    if !ours {
        evict(&mut plan, world, now);
    }
    plan
}

fn is_unknown(node: &Object) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready["status"] == "Unknown" && ready["reason"] == SILENT)
}

/// The writes that turn a silent node unknown, or one that is heard of again ready.
fn status(plan: &mut Plan, seat: &Seat, now: Now) -> Vec<Write> {
    let node = &*seat.node;
    let silent = seat.silence >= SILENCE;
    if silent == is_unknown(node) {
        return Vec::new();
    }
    let mut status = node.status.as_deref().cloned().unwrap_or_else(|| json!({}));
    for kind in CONDITIONS {
        let (value, reason, message) = match (silent, kind) {
            (true, _) => ("Unknown", SILENT, "the node's agent has not been heard of"),
            (false, "Ready") => ("True", "AgentReady", "the node's agent is heard of again"),
            (false, _) => ("False", "AgentReady", "the node's agent is heard of again"),
        };
        let condition = json!({
            "type": kind, "status": value, "reason": reason, "message": message,
            "lastHeartbeatTime": stamp(now.wall), "lastTransitionTime": stamp(now.wall),
        });
        set_condition(&mut status, condition);
    }
    if silent {
        plan.warn(
            SOURCE,
            node,
            "NodeNotReady",
            format!("node {} has not been heard of for {} s", node.name(), SILENCE.as_secs()),
        );
    } else {
        plan.note(
            SOURCE,
            node,
            "NodeReady",
            format!("node {} is heard of again", node.name()),
        );
    }
    let mut writes = vec![status_of(node, status)];
    // A pod on a node that is not heard of serves nobody for sure.
    for pod in seat.pods.iter().filter(|pod| !is_finished(pod)) {
        let ready = condition(pod, "Ready");
        let was = ready.is_some_and(|it| it["status"] == "True");
        let ours = ready.is_some_and(|it| it["reason"] == SILENT);
        let containers = condition(pod, "ContainersReady").is_some_and(|it| it["status"] == "True");
        let value = match silent {
            true if was => "False",
            false if ours && containers => "True",
            _ => continue,
        };
        let mut status = pod.status.as_deref().cloned().unwrap_or_else(|| json!({}));
        let mut condition = json!({"type": "Ready", "status": value, "lastTransitionTime": stamp(now.wall)});
        if silent {
            condition["reason"] = SILENT.into();
        }
        set_condition(&mut status, condition);
        writes.push(status_of(pod, status));
    }
    writes
}

fn taints(node: &Object) -> Vec<Taint> {
    node.spec::<NodeSpec>()
        .ok()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default()
}

/// Brings the taints that follow from conditions and cordons into line.
fn taint(plan: &mut Plan, world: &World, ours: bool, now: Now) {
    let ready = |node: &Object| condition(node, "Ready").is_some_and(|it| it["status"] == "True");
    let unhealthy = world.nodes.iter().filter(|seat| !ready(&seat.node)).count();
    let all = world.nodes.len();
    let mut pace = Some(PACE);
    if unhealthy > 2 && unhealthy * 100 >= all * UNHEALTHY_PERCENT {
        pace = (all > SMALL).then_some(SLOW_PACE);
    }
    let last = world
        .seen
        .iter()
        .filter(|((_, key), _)| key == TAINT_UNREACHABLE || key == TAINT_NOT_READY)
        .map(|(_, since)| *since)
        .max();
    let mut may_give_up = match (pace, last) {
        _ if ours => false,
        (None, _) => false,
        (Some(_), None) => true,
        (Some(pace), Some(last)) => {
            let passed = now.monotonic.saturating_sub(last);
            if passed < pace && unhealthy > 0 {
                plan.look_again(pace - passed);
            }
            passed >= pace
        }
    };
    let mut writes = Vec::new();
    for seat in &world.nodes {
        let node = &*seat.node;
        let old = taints(node);
        let wrong = match condition(node, "Ready").map(|it| &it["status"]) {
            Some(status) if status == "True" => None,
            Some(status) if status == "Unknown" => Some(TAINT_UNREACHABLE),
            _ => Some(TAINT_NOT_READY),
        };
        let cordoned = node
            .spec::<NodeSpec>()
            .is_ok_and(|spec| spec.unschedulable == Some(true));
        let ours_now = |taint: &Taint| {
            let key = taint.key.as_str();
            [TAINT_UNREACHABLE, TAINT_NOT_READY, TAINT_UNSCHEDULABLE].contains(&key)
                || PRESSURES.iter().any(|(_, pressure)| *pressure == key)
        };
        let mut new: Vec<Taint> = old.iter().filter(|taint| !ours_now(taint)).cloned().collect();
        let mut put = |key: &str, effect: &str| {
            let kept = old.iter().find(|taint| taint.key == key && taint.effect == effect);
            new.push(kept.cloned().unwrap_or_else(|| Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(Time(now.wall)),
            }));
        };
        if let Some(key) = wrong {
            put(key, "NoSchedule");
            let has = old.iter().any(|taint| taint.key == key && taint.effect == "NoExecute");
            let other = old.iter().any(|taint| {
                taint.effect == "NoExecute" && [TAINT_UNREACHABLE, TAINT_NOT_READY].contains(&taint.key.as_str())
            });
            let never_ready = condition(node, "Ready").is_none();
            let spared = never_ready || (ours && key == TAINT_UNREACHABLE);
            if !spared && (has || other || may_give_up) {
                if !has && !other {
                    may_give_up = false;
                    plan.look_again(PACE);
                }
                put(key, "NoExecute");
            }
        }
        if cordoned {
            put(TAINT_UNSCHEDULABLE, "NoSchedule");
        }
        for (kind, key) in PRESSURES {
            if condition(node, kind).is_some_and(|it| it["status"] == "True") {
                put(key, "NoSchedule");
            }
        }
        let same = new.len() == old.len() && new.iter().all(|taint| old.contains(taint));
        if !same {
            writes.push(with_taints(node, &new));
        }
    }
    plan.writes(Class::Controller, "tainting nodes by their condition", writes);
}

fn with_taints(node: &Object, taints: &[Taint]) -> Write {
    let mut object = node.clone();
    let mut body = object.body.value().clone();
    let spec = body.entry("spec").or_insert_with(|| json!({}));
    match serde_json::to_value(taints) {
        Ok(Value::Array(list)) if !list.is_empty() => spec["taints"] = Value::Array(list),
        _ => {
            if let Some(spec) = spec.as_object_mut() {
                spec.remove("taints");
            }
        }
    }
    object.body = Body::new(body);
    replace_of(node, object)
}

/// Pods that do not tolerate a NoExecute taint (any more) go.
fn evict(plan: &mut Plan, world: &World, now: Now) {
    let (mut told, mut writes) = (Vec::new(), Vec::new());
    for seat in &world.nodes {
        let taints: Vec<Taint> = taints(&seat.node)
            .into_iter()
            .filter(|taint| taint.effect == "NoExecute")
            .collect();
        if taints.is_empty() {
            continue;
        }
        for pod in seat.pods.iter().filter(|pod| !pod.is_deleting() && !is_finished(pod)) {
            let Ok(spec) = pod.spec::<PodSpec>() else { continue };
            let Some(at) = leaves_at(&spec, &taints, &seat.node, world, now) else {
                continue;
            };
            if at > now.monotonic {
                plan.look_again(at - now.monotonic);
                continue;
            }
            if writes.len() + told.len() >= AT_ONCE {
                plan.look_again(Duration::ZERO);
                break;
            }
            if !is_disrupted(pod) {
                // Why it goes is written first, for those who count its end.
                let status = disrupted(
                    pod,
                    "DeletionByTaintManager",
                    "Taint manager: deleting due to NoExecute taint",
                    now,
                );
                told.push(status_of(pod, status));
                plan.look_again(Duration::ZERO);
                continue;
            }
            writes.extend(owners::delete(pod, None, now));
            plan.note(
                SOURCE,
                pod,
                "TaintManagerEviction",
                format!(
                    "evicted from {}: it does not tolerate a taint of the node any longer",
                    seat.node.name()
                ),
            );
        }
    }
    plan.writes(Class::Status, "telling which pods are about to be evicted", told);
    plan.writes(Class::Controller, "evicting pods from tainted nodes", writes);
}

/// When (monotonic) a pod has to leave; never, if it tolerates all taints for good.
fn leaves_at(spec: &PodSpec, taints: &[Taint], node: &Object, world: &World, now: Now) -> Option<Duration> {
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let times = taints.iter().filter_map(|taint| {
        let name: Arc<str> = node.name().into();
        let since = world
            .seen
            .get(&(name, taint.key.clone()))
            .copied()
            .unwrap_or(now.monotonic);
        let matching: Vec<_> = tolerations
            .iter()
            .filter(|toleration| filter::matches(toleration, taint))
            .collect();
        if matching.is_empty() {
            return Some(now.monotonic);
        }
        let seconds = matching
            .iter()
            .filter_map(|toleration| toleration.toleration_seconds)
            .min()?;
        Some(since + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    });
    times.min()
}

#[cfg(test)]
mod tests;
