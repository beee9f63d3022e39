//! What a node's object and status become when its agent registers or beats: pure.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemas::{
    Body, Kind, Meta, Now, Object, Shared,
    labels::{self, AGENT, MACHINE},
    node::{Identity, Registration, UNCLAIMED, Unclaimed},
    report,
};
use serde_json::{Map, Value, json};

use crate::authority::NODE_SILENCE;

/// At most this many unclaimed pods are named; the rest is counted.
const NAMED: usize = 10;

/// Whether an agent may have a node's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Free,
    /// Another machine holds it and is alive.
    OtherMachine,
    /// Another agent of the same machine holds it and is alive.
    OtherAgent,
}

/// Judges by the server's own time of receipt how alive the holder is. `agent` is none for a request
/// that does not say which agent it is for.
pub(crate) fn claim(existing: Option<&Object>, machine: &str, agent: Option<&str>, silence: Duration) -> Claim {
    let Some(node) = existing.filter(|_| silence < NODE_SILENCE) else {
        return Claim::Free;
    };
    let differs = |name: &str, asked: &str| node.annotation(name).is_some_and(|holder| holder != asked);
    if differs(MACHINE, machine) {
        Claim::OtherMachine
    } else if agent.is_some_and(|agent| differs(AGENT, agent)) {
        Claim::OtherAgent
    } else {
        Claim::Free
    }
}

/// The id for an agent that has lost its own, or never had one: that of the agent whose place it takes,
/// so that it finds the containers that this machine has of it.
pub(crate) fn identity(existing: Option<&Object>, proposed: Identity) -> Identity {
    let same_machine = |node: &&Object| node.annotation(MACHINE) == Some(&*proposed.machine_id);
    match existing.filter(same_machine).and_then(|node| node.annotation(AGENT)) {
        Some(agent) => Identity {
            agent: agent.into(),
            ..proposed
        },
        None => proposed,
    }
}

/// The Node object as the registration wants it. What others set (taints, cordons, further labels)
/// stays.
pub(crate) fn node(existing: Option<&Object>, asked: &Registration, now: Now, uid: &str) -> Object {
    let mut object = existing.cloned().unwrap_or_else(|| Object {
        kind: Kind::Node,
        meta: Shared::new(Meta {
            name: Some(asked.name.clone()),
            uid: Some(uid.into()),
            creation_timestamp: Some(Time(now.wall)),
            ..Meta::default()
        }),
        body: Body::new(Map::new()),
        node: None,
        status: None,
        version: 0,
    });
    let wanted = object.meta.labels.get_or_insert_default();
    wanted
        .entry(labels::HOSTNAME.to_owned())
        .or_insert_with(|| asked.name.to_string());
    wanted.extend(asked.labels.clone());
    let annotations = object.meta.annotations.get_or_insert_default();
    annotations.insert(MACHINE.to_owned(), asked.machine_id.clone());
    if !asked.agent.is_empty() {
        annotations.insert(AGENT.to_owned(), asked.agent.to_string());
    }
    let mut body = object.body.value();
    let spec = body.entry("spec").or_insert_with(|| json!({}));
    if !asked.pod_range.is_empty() {
        spec["podCIDR"] = asked.pod_range.as_str().into();
        spec["podCIDRs"] = json!([asked.pod_range]);
    }
    object.body = Body::new(body);
    object
}

/// Whether a registration leaves an object as it is.
pub(crate) fn is_same(existing: &Object, wanted: &Object) -> bool {
    existing.meta == wanted.meta && existing.body.hash() == wanted.body.hash()
}

/// The new status of a node, or none if it stays. `reported` is what the agent sent, if it sent one;
/// `unclaimed` none where it said nothing of containers.
///
/// Conditions that the agent does not report belong to others and stay. A node that speaks is ready
/// unless its agent says otherwise.
pub(crate) fn status(
    stored: Option<&Value>,
    reported: Option<Value>,
    unclaimed: Option<&[Unclaimed]>,
    now: Now,
) -> Option<Value> {
    let nothing = json!({});
    let stored = stored.unwrap_or(&nothing);
    let says_ready = reported
        .as_ref()
        .is_some_and(|reported| conditions(reported).iter().any(|one| kind_of(one) == "Ready"));
    let mut status = reported.unwrap_or_else(|| stored.clone());
    if !status.is_object() {
        status = json!({});
    }
    let mut wanted: Vec<Value> = conditions(&status).to_vec();
    for condition in conditions(stored) {
        if !wanted.iter().any(|one| kind_of(one) == kind_of(condition)) {
            wanted.push(condition.clone());
        }
    }
    if !says_ready {
        let ready = wanted.iter().find(|one| kind_of(one) == "Ready");
        // "False" is the agent's own word, from an earlier report; "Unknown" is the controller's,
        // and what is heard of is not unknown.
        if ready.is_none_or(|ready| ready["status"] == "Unknown") {
            let ready = json!({
                "type": "Ready",
                "status": "True",
                "reason": "AgentReady",
                "message": "the node's agent reports",
            });
            put(&mut wanted, ready);
        }
    }
    if let Some(unclaimed) = unclaimed {
        let known = wanted.iter().any(|one| kind_of(one) == UNCLAIMED);
        if known || !unclaimed.is_empty() {
            put(&mut wanted, unclaimed_condition(unclaimed));
        }
    }
    stamp(&mut wanted, conditions(stored), now);
    status["conditions"] = wanted.into();
    (status != *stored).then_some(status)
}

/// True while a person has to decide about one.
fn unclaimed_condition(unclaimed: &[Unclaimed]) -> Value {
    let (kept, open): (Vec<&Unclaimed>, Vec<&Unclaimed>) = unclaimed.iter().partition(|pod| pod.kept);
    let list = |pods: &[&Unclaimed]| {
        let named: Vec<String> = pods
            .iter()
            .take(NAMED)
            .map(|pod| format!("{}/{} ({})", pod.key.ns(), pod.key.name, pod.uid))
            .collect();
        let rest = report::rest(named.len(), pods.len());
        let rest = rest.map(|rest| format!(" {rest}")).unwrap_or_default();
        format!("{}{rest}", named.join(", "))
    };
    let (status, reason, message) = match (open.is_empty(), kept.is_empty()) {
        (true, true) => (
            "False",
            "AllClaimed",
            "every container of this cluster belongs to a pod".to_owned(),
        ),
        (true, false) => (
            "False",
            "Kept",
            format!("kept by a person, without a pod: {}", list(&kept)),
        ),
        (false, _) => (
            "True",
            "NoPodClaims",
            format!(
                "pods that the server does not have keep running: {}; `towline unclaimed` lists them and takes orders",
                list(&open)
            ),
        ),
    };
    json!({"type": UNCLAIMED, "status": status, "reason": reason, "message": message})
}

fn conditions(status: &Value) -> &[Value] {
    status["conditions"].as_array().map_or(&[], Vec::as_slice)
}

fn kind_of(condition: &Value) -> &str {
    condition["type"].as_str().unwrap_or("")
}

fn put(conditions: &mut Vec<Value>, condition: Value) {
    match conditions.iter_mut().find(|one| kind_of(one) == kind_of(&condition)) {
        Some(one) => *one = condition,
        None => conditions.push(condition),
    }
}

/// Sets the times of conditions by the server's clock: a transition is a change of `status`, and a
/// condition that stays as it is keeps both of its times, so that a heartbeat writes nothing.
fn stamp(wanted: &mut [Value], stored: &[Value], now: Now) {
    let at: Value = now.wall.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
    for condition in wanted {
        let before = stored.iter().find(|one| kind_of(one) == kind_of(condition));
        let same = |field: &str| before.is_some_and(|before| before[field] == condition[field]);
        let (status, whole) = (same("status"), same("status") && same("reason") && same("message"));
        let keep = |field: &str| before.map(|before| before[field].clone()).filter(Value::is_string);
        let transition = keep("lastTransitionTime").filter(|_| status);
        let heard = keep("lastHeartbeatTime").filter(|_| whole);
        condition["lastTransitionTime"] = transition.unwrap_or_else(|| at.clone());
        condition["lastHeartbeatTime"] = heard.unwrap_or_else(|| at.clone());
    }
}

#[cfg(test)]
#[path = "nodes_registration_tests.rs"]
mod tests;
