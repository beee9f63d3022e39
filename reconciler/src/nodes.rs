//! The life of nodes: silence makes one unknown and taints it, and nodes are given up one by one.
//!
//! Silence is counted by this server's own clock, from the later of the last sign of life and taking
//! office. Where most of a zone is in trouble nodes are given up slowly or not at all; when every node
//! is, the fault is ours, and none is. What becomes of the pods is in [`crate::evictions`].
//!
//! <https://kubernetes.io/docs/concepts/architecture/nodes/>

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{NodeSpec, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};
use rustc_hash::FxHashMap;
use schemas::{
    Body, Now, Object,
    labels::{
        self, TAINT_DISK_PRESSURE, TAINT_MEMORY_PRESSURE, TAINT_NETWORK_UNAVAILABLE, TAINT_NOT_READY,
        TAINT_PID_PRESSURE, TAINT_UNREACHABLE, TAINT_UNSCHEDULABLE,
    },
};
use serde_json::{Value, json};
use store::{Class, Write};

use crate::{
    plan::{Plan, replace_of, status_of},
    pods::{condition, set_condition, stamp},
};

/// A node that was not heard of for this long is unknown.
pub const SILENCE: Duration = Duration::from_secs(50);
/// One node of a zone is given up in this time, or a tenth of it when most are unhealthy.
const PACE: Duration = Duration::from_secs(10);
const SLOW_PACE: Duration = Duration::from_secs(100);
/// From this part of unhealthy nodes on (in percent) a zone is slow, and a small one stops.
const UNHEALTHY_PERCENT: usize = 55;
const SMALL: usize = 50;
/// How soon a silent node's return is looked for.
const RETURN: Duration = Duration::from_secs(1);

const SOURCE: &str = "node-controller";
pub(crate) const SILENT: &str = "NodeStatusUnknown";
const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// Conditions that keep new pods away, with the taints that do.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", TAINT_MEMORY_PRESSURE),
    ("DiskPressure", TAINT_DISK_PRESSURE),
    ("PIDPressure", TAINT_PID_PRESSURE),
    ("NetworkUnavailable", TAINT_NETWORK_UNAVAILABLE),
];
/// Every taint that this controller puts and takes off.
const OURS: [&str; 7] = [
    TAINT_UNREACHABLE,
    TAINT_NOT_READY,
    TAINT_UNSCHEDULABLE,
    TAINT_MEMORY_PRESSURE,
    TAINT_DISK_PRESSURE,
    TAINT_PID_PRESSURE,
    TAINT_NETWORK_UNAVAILABLE,
];

/// Since when (monotonic) each NoExecute taint is seen, by node and by key of the taint.
pub type Seen = FxHashMap<Arc<str>, FxHashMap<String, Duration>>;

/// One node.
#[derive(Clone, Debug)]
pub struct Seat {
    pub node: Arc<Object>,
    pub silence: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct World {
    pub nodes: Vec<Seat>,
    pub seen: Seen,
}

/// Nodes that share power and network, as their labels say.
type Zone = (String, String);

/// How a zone is doing.
#[derive(Default)]
struct State {
    nodes: usize,
    unhealthy: usize,
    /// When (monotonic) one of its nodes was last given up.
    last: Option<Duration>,
}

impl State {
    /// In which time one node may be given up; none: not at all.
    fn pace(&self) -> Option<Duration> {
        if self.unhealthy == self.nodes {
            // Others are well, so it is this zone, and not us.
            return Some(PACE);
        }
        if self.unhealthy > 2 && self.unhealthy * 100 >= self.nodes * UNHEALTHY_PERCENT {
            return (self.nodes > SMALL).then_some(SLOW_PACE);
        }
        Some(PACE)
    }
}

#[must_use]
pub fn plan(world: &World, now: Now) -> Plan {
    let mut plan = Plan::default();
    let mut statuses = Vec::new();
    for seat in &world.nodes {
        statuses.extend(status(&mut plan, seat, now));
        if seat.silence < SILENCE {
            plan.look_again(SILENCE - seat.silence);
        } else {
            plan.look_again(RETURN);
        }
    }
    plan.writes(Class::Controller, "telling which nodes are heard of", statuses);
    if plan.is_empty() {
        // Taints follow from the conditions: they come with the next look.
        taint(&mut plan, world, now);
    }
    plan
}

/// Whether a node is not heard of.
pub(crate) fn is_unknown(node: &Object) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready["status"] == "Unknown" && ready["reason"] == SILENT)
}

fn is_ready(node: &Object) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready["status"] == "True")
}

fn zone(node: &Object) -> Zone {
    let text = |label: &str| node.label(label).unwrap_or("").to_owned();
    (text(labels::REGION), text(labels::ZONE))
}

/// The write that turns a silent node unknown, or one that is heard of again ready.
fn status(plan: &mut Plan, seat: &Seat, now: Now) -> Option<Write> {
    let node = &*seat.node;
    let silent = seat.silence >= SILENCE;
    if silent == is_unknown(node) {
        return None;
    }
    let mut status = node.status_value().unwrap_or_else(|| json!({}));
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
    Some(status_of(node, status))
}

pub(crate) fn taints(node: &Object) -> Vec<Taint> {
    node.spec::<NodeSpec>()
        .ok()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default()
}

fn zones(world: &World) -> BTreeMap<Zone, State> {
    let mut zones: BTreeMap<Zone, State> = BTreeMap::new();
    for seat in &world.nodes {
        let state = zones.entry(zone(&seat.node)).or_default();
        state.nodes += 1;
        state.unhealthy += usize::from(!is_ready(&seat.node));
        let seen = world.seen.get(seat.node.name()).into_iter().flatten();
        let given_up = seen.filter(|(key, _)| *key == TAINT_UNREACHABLE || *key == TAINT_NOT_READY);
        state.last = given_up.map(|(_, since)| *since).chain(state.last).max();
    }
    zones
}

/// Brings the taints that follow from conditions and cordons into line.
fn taint(plan: &mut Plan, world: &World, now: Now) {
    let mut zones = zones(world);
    // Every node of every zone is in trouble: more likely it is us who hear nothing.
    let ours = zones.values().all(|state| state.unhealthy == state.nodes);
    let mut writes = Vec::new();
    for seat in &world.nodes {
        let node = &*seat.node;
        let old = taints(node);
        let mut new: Vec<Taint> = old
            .iter()
            .filter(|taint| !OURS.contains(&taint.key.as_str()))
            .cloned()
            .collect();
        let mut put = |key: &str, effect: &str| {
            let kept = old.iter().find(|taint| taint.key == key && taint.effect == effect);
            new.push(kept.cloned().unwrap_or_else(|| Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(Time(now.wall)),
            }));
        };
        if let Some(key) = trouble(node) {
            put(key, "NoSchedule");
            let state = zones.entry(zone(node)).or_default();
            if !ours && condition(node, "Ready").is_some() && gives_up(plan, &old, state, now) {
                put(key, "NoExecute");
            }
        }
        for (kind, key) in PRESSURES {
            if condition(node, kind).is_some_and(|it| it["status"] == "True") {
                put(key, "NoSchedule");
            }
        }
        let cordoned = node.spec::<NodeSpec>();
        if cordoned.is_ok_and(|spec| spec.unschedulable == Some(true)) {
            put(TAINT_UNSCHEDULABLE, "NoSchedule");
        }
        let same = new.len() == old.len() && new.iter().all(|taint| old.contains(taint));
        if !same {
            writes.push(with_taints(node, &new));
        }
    }
    plan.writes(Class::Controller, "tainting nodes by their condition", writes);
}

/// The taint that a node has for not being ready.
fn trouble(node: &Object) -> Option<&'static str> {
    match condition(node, "Ready") {
        Some(ready) if ready["status"] == "True" => None,
        Some(ready) if ready["status"] == "Unknown" => Some(TAINT_UNREACHABLE),
        _ => Some(TAINT_NOT_READY),
    }
}

/// Whether a node in trouble is given up now, or was before: its pods go, each when it does not
/// tolerate that any longer.
fn gives_up(plan: &mut Plan, taints: &[Taint], state: &mut State, now: Now) -> bool {
    let was = taints
        .iter()
        .any(|taint| taint.effect == "NoExecute" && [TAINT_UNREACHABLE, TAINT_NOT_READY].contains(&taint.key.as_str()));
    if was {
        return true;
    }
    let Some(pace) = state.pace() else {
        return false;
    };
    let passed = state.last.map(|last| now.monotonic.saturating_sub(last));
    match passed.filter(|passed| *passed < pace) {
        Some(passed) => {
            plan.look_again(pace - passed);
            false
        }
        None => {
            state.last = Some(now.monotonic);
            true
        }
    }
}

fn with_taints(node: &Object, taints: &[Taint]) -> Write {
    let mut object = node.clone();
    let mut body = object.body.value();
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

#[cfg(test)]
mod tests;
