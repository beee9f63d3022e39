//! Namespaces, nodes, events, configuration and access.

use jiff::Timestamp;
use schemas::labels::NODE_ROLE_PREFIX;
use serde_json::Value;

use super::{
    AGE, Column, Holds, NAME,
    access::{Shown, age_of, body, condition, count, each, joined, number as int, status, text as string, time},
    cells::row,
    number, switch, text, wide,
};
use crate::age;

pub(super) const NAMESPACE: &[Column] = &[NAME, text("Status", "Active, or Terminating."), AGE];
pub(super) const NODE: &[Column] = &[
    NAME,
    text("Status", "Whether the node is ready and takes pods."),
    text("Roles", "What the node is for."),
    AGE,
    text("Version", "The version of its agent."),
    wide("Internal-IP", "Its address in the cluster."),
    wide("External-IP", "Its address from outside."),
    wide("OS-Image", "Its operating system."),
    wide("Kernel-Version", "Its kernel."),
    wide("Container-Runtime", "What runs its containers."),
];
pub(super) const EVENT: &[Column] = &[
    text("Last Seen", "How long ago it last happened."),
    text("Type", "Normal, or Warning."),
    text("Reason", "Why, in one word."),
    text("Object", "What it happened to."),
    wide("Subobject", "The part of it."),
    wide("Source", "Who reports it."),
    text("Message", "What happened."),
    wide("First Seen", "How long ago it first happened."),
    Column {
        name: "Count",
        holds: Holds::Number,
        wide: true,
        description: "How often it happened.",
    },
    wide("Name", "The event's own name."),
];
pub(super) const CONFIG_MAP: &[Column] = &[NAME, number("Data", "How many entries it has."), AGE];
pub(super) const SECRET: &[Column] = &[
    NAME,
    text("Type", "What it is for."),
    number("Data", "How many entries it has."),
    AGE,
];
pub(super) const SERVICE_ACCOUNT: &[Column] = &[NAME, number("Secrets", "How many secrets it lists."), AGE];
pub(super) const LEASE: &[Column] = &[NAME, text("Holder", "Who holds it."), AGE];
pub(super) const PRIORITY_CLASS: &[Column] = &[
    NAME,
    number("Value", "The priority of its pods."),
    switch("Global-Default", "Whether pods without a class are of this one."),
    AGE,
    text("PreemptionPolicy", "Whether its pods push others away."),
];
pub(super) const BINDING: &[Column] = &[
    NAME,
    text("Role", "What is granted."),
    AGE,
    wide("Users", "The users it is granted to."),
    wide("Groups", "The groups it is granted to."),
    wide("ServiceAccounts", "The service accounts it is granted to."),
];
pub(super) const CREATED_AT: &[Column] = &[NAME, text("Created At", "When the object was made.")];

pub(super) fn namespace(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let phase = if object.is_deleting() {
        "Terminating"
    } else {
        string(status(object, "/phase")).unwrap_or("Active")
    };
    row![object.name(), phase, age_of(object, now)]
}

pub(super) fn node(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    // A silent node was ready once; one without the condition has never said anything.
    let mut state = match condition(object, "Ready") {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if body(object, "/spec/unschedulable").and_then(Value::as_bool) == Some(true) {
        state.push_str(",SchedulingDisabled");
    }
    let roles = object.meta.labels.iter().flatten().filter_map(|(name, value)| {
        if let Some(role) = name.strip_prefix(NODE_ROLE_PREFIX) {
            return Some(role);
        }
        (name == "kubernetes.io/role").then_some(value.as_str())
    });
    let address = |kind: &str| {
        each(status(object, "/addresses"))
            .find(|address| string(address.get("type")) == Some(kind))
            .and_then(|address| string(address.get("address")))
            .unwrap_or("<none>")
    };
    let info = |field: &str| {
        status(object, "/nodeInfo")
            .and_then(|info| string(info.get(field)))
            .unwrap_or("<unknown>")
    };
    row![
        object.name(),
        state,
        joined(roles.filter(|role| !role.is_empty())),
        age_of(object, now),
        info("kubeletVersion"),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

pub(super) fn event(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let at = |path: &str| time(body(object, path));
    let first = at("/firstTimestamp").or_else(|| at("/eventTime"));
    let last = at("/series/lastObservedTime")
        .or_else(|| at("/lastTimestamp"))
        .or(first);
    let about = |field: &str| {
        body(object, "/involvedObject")
            .and_then(|about| string(about.get(field)))
            .unwrap_or("")
    };
    let source = match (
        string(body(object, "/source/component")).or_else(|| string(body(object, "/reportingComponent"))),
        string(body(object, "/source/host")).or_else(|| string(body(object, "/reportingInstance"))),
    ) {
        (Some(component), Some(host)) => format!("{component}, {host}"),
        (Some(component), None) => component.to_owned(),
        (None, _) => String::new(),
    };
    let times = int(body(object, "/series/count").or_else(|| body(object, "/count"))).max(1);
    row![
        age::since(last, now),
        string(body(object, "/type")).unwrap_or(""),
        string(body(object, "/reason")).unwrap_or(""),
        format!("{}/{}", about("kind").to_lowercase(), about("name")),
        about("fieldPath"),
        source,
        string(body(object, "/message")).unwrap_or("").trim(),
        age::since(first, now),
        times,
        object.name(),
    ]
}

pub(super) fn config_map(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let entries = count(body(object, "/data")) + count(body(object, "/binaryData"));
    row![object.name(), entries, age_of(object, now)]
}

pub(super) fn secret(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    row![
        object.name(),
        string(body(object, "/type")).unwrap_or("Opaque"),
        count(body(object, "/data")),
        age_of(object, now),
    ]
}

pub(super) fn service_account(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    row![object.name(), count(body(object, "/secrets")), age_of(object, now)]
}

pub(super) fn lease(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    row![
        object.name(),
        string(body(object, "/spec/holderIdentity")).unwrap_or(""),
        age_of(object, now),
    ]
}

pub(super) fn priority_class(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    row![
        object.name(),
        int(body(object, "/value")),
        body(object, "/globalDefault").and_then(Value::as_bool) == Some(true),
        age_of(object, now),
        string(body(object, "/preemptionPolicy")).unwrap_or("PreemptLowerPriority"),
    ]
}

pub(super) fn binding(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let role = |field: &str| {
        body(object, "/roleRef")
            .and_then(|role| string(role.get(field)))
            .unwrap_or("")
    };
    let subjects = |kind: &str| {
        each(body(object, "/subjects"))
            .filter(|subject| string(subject.get("kind")) == Some(kind))
            .map(|subject| {
                let name = string(subject.get("name")).unwrap_or("");
                match string(subject.get("namespace")) {
                    Some(namespace) => format!("{namespace}/{name}"),
                    None => name.to_owned(),
                }
            })
            .collect::<Vec<_>>()
            .join(", ")
    };
    row![
        object.name(),
        format!("{}/{}", role("kind"), role("name")),
        age_of(object, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

pub(super) fn created_at(object: &Shown<'_>) -> Vec<Value> {
    let created = object
        .meta
        .creation_timestamp
        .as_ref()
        .map_or_else(String::new, |time| time.0.to_string());
    row![object.name(), created]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_shows_its_state_and_roles() {
        for (ready, unschedulable, state) in [
            (Some("True"), false, "Ready"),
            (Some("True"), true, "Ready,SchedulingDisabled"),
            (Some("False"), false, "NotReady"),
            (Some("Unknown"), false, "NotReady"),
            (None, false, "Unknown"),
        ] {
            let conditions: Vec<Value> = ready
                .iter()
                .map(|ready| json!({"type": "Ready", "status": ready}))
                .collect();
            let object = schemas::Object::from_value(json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": ""}},
                "spec": {"unschedulable": unschedulable},
                "status": {"conditions": conditions, "addresses": [{"type": "InternalIP", "address": "10.0.0.5"}]},
            }))
            .expect("a node");
            let cells = node(&Shown::from(&object), Timestamp::UNIX_EPOCH);
            assert_eq!(cells[1], state);
            assert_eq!(cells[2], "worker");
            assert_eq!(cells[5], "10.0.0.5");
        }
    }

    #[test]
    fn an_event_of_either_form_is_shown() {
        let now = "2026-01-01T00:01:00Z".parse().expect("a time");
        for (times, last, count) in [
            (json!({"lastTimestamp": "2026-01-01T00:00:30Z", "count": 4}), "30s", 4),
            (json!({"eventTime": "2026-01-01T00:00:50.000000Z"}), "10s", 1),
        ] {
            let mut value = json!({
                "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "a"},
                "involvedObject": {"kind": "Pod", "name": "p"}, "reason": "Pulled", "message": " done\n",
            });
            for (name, time) in times.as_object().into_iter().flatten() {
                value[name] = time.clone();
            }
            let object = schemas::Object::from_value(value).expect("an event");
            let cells = event(&Shown::from(&object), now);
            assert_eq!(cells[0], last);
            assert_eq!(cells[3], "pod/p");
            assert_eq!(cells[6], "done");
            assert_eq!(cells[8], count);
        }
    }
}
