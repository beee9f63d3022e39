//! Reports of pods: what an agent says of its own pods becomes their status, their events, or their
//! end.

use std::sync::Arc;

use http::StatusCode;
use schemas::{
    Key, Kind, Object,
    event::{self, EventSpec},
    node::PodReport,
};
use serde_json::{Value, json};
use store::{Class, Op, Write, WriteError};
use uuid::Uuid;

use crate::{
    control::Front,
    exchange::{self, Response},
    status::ApiError,
};

/// Who tells the events of an agent.
const COMPONENT: &str = "towline-agent";

/// Why a report was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Dropped {
    #[error("it is no pod")]
    NotAPod,
    #[error("it is not there any more")]
    Gone,
    #[error("another pod has its name now")]
    OtherUid,
    #[error("it is not on this node")]
    OtherNode,
}

/// What a report leads to.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Status(Value),
    /// Every container is gone and nothing else holds the object.
    Remove,
    /// The status is stored already.
    Nothing,
}

/// Judges one report against the stored pod: an agent writes to the pods of its own node, and to the
/// very pod that it saw.
pub(crate) fn judge(pod: Option<&Object>, report: &PodReport, node: &str) -> Result<Step, Dropped> {
    if report.key.kind != Kind::Pod {
        return Err(Dropped::NotAPod);
    }
    let pod = pod.ok_or(Dropped::Gone)?;
    if pod.uid() != report.uid {
        return Err(Dropped::OtherUid);
    }
    if pod.node.as_deref() != Some(node) {
        return Err(Dropped::OtherNode);
    }
    let unheld = pod.meta.finalizers.as_ref().is_none_or(Vec::is_empty);
    if report.terminated && pod.is_deleting() && unheld {
        return Ok(Step::Remove);
    }
    let status = merged(pod.status.as_deref(), &report.status);
    Ok(match &pod.status {
        Some(stored) if **stored == status => Step::Nothing,
        _ => Step::Status(status),
    })
}

/// The reported status, with the conditions of others (the scheduler's, a disruption's) kept.
fn merged(stored: Option<&Value>, reported: &Value) -> Value {
    let mut status = if reported.is_object() {
        reported.clone()
    } else {
        json!({})
    };
    let kept: Vec<Value> = {
        let conditions = |status: &Value| status["conditions"].as_array().cloned().unwrap_or_default();
        let ours = conditions(&status);
        stored
            .map(conditions)
            .unwrap_or_default()
            .into_iter()
            .filter(|condition| !ours.iter().any(|one| one["type"] == condition["type"]))
            .collect()
    };
    if !kept.is_empty() {
        match status.get_mut("conditions").and_then(Value::as_array_mut) {
            Some(conditions) => conditions.extend(kept),
            None => status["conditions"] = kept.into(),
        }
    }
    status
}

/// Takes a batch. The answer names what was dropped and why; it comes after the rest is durable.
pub(crate) async fn take(front: &Front, node: &str, batch: Vec<PodReport>) -> Result<Response, ApiError> {
    let mut writes = Vec::new();
    let mut dropped: Vec<(Key, String)> = Vec::new();
    let mut events = Vec::new();
    {
        let view = front.store.view();
        for report in &batch {
            match judge(view.get(&report.key).map(Arc::as_ref), report, node) {
                Err(reason) => {
                    dropped.push((report.key.clone(), reason.to_string()));
                    continue;
                }
                Ok(Step::Nothing) => {}
                Ok(Step::Status(status)) => {
                    let op = Op::Status {
                        key: report.key.clone(),
                        status: Arc::new(status),
                    };
                    writes.push(Write::new(op).uid(report.uid.clone()));
                }
                Ok(Step::Remove) => {
                    let op = Op::Remove {
                        key: report.key.clone(),
                    };
                    writes.push(Write::new(op).uid(report.uid.clone()));
                }
            }
            events.extend(report.events.iter().map(|event| EventSpec {
                involved: report.key.clone(),
                involved_uid: report.uid.clone(),
                field_path: event.field_path.clone(),
                warning: event.warning,
                reason: event.reason.clone(),
                message: event.message.clone(),
                component: COMPONENT.to_owned(),
                host: Some(node.to_owned()),
            }));
        }
    }
    let keys: Vec<Key> = writes.iter().map(key_of).collect();
    let (written, ()) = tokio::join!(write(front, writes), record(front, events));
    for (key, written) in keys.into_iter().zip(written) {
        match written {
            Ok(_) => {}
            Err(WriteError::Unavailable(error)) => return Err(error.into()),
            Err(error) => dropped.push((key, error.to_string())),
        }
    }
    for (key, reason) in &dropped {
        tracing::debug!(node, namespace = key.ns(), name = %key.name, "a report was dropped: {reason}");
    }
    let dropped: Vec<Value> = dropped
        .into_iter()
        .map(|(key, reason)| json!({"key": key, "reason": reason}))
        .collect();
    Ok(exchange::json(StatusCode::OK, &json!({"dropped": dropped})))
}

fn key_of(write: &Write) -> Key {
    match &write.op {
        Op::Create(object) | Op::Replace(object) | Op::Retire { object, .. } => object.key(),
        Op::Status { key, .. } | Op::Bind { key, .. } | Op::Remove { key } => key.clone(),
    }
}

async fn write(front: &Front, writes: Vec<Write>) -> Vec<Result<Arc<Object>, WriteError>> {
    if writes.is_empty() {
        return Vec::new();
    }
    front.store.write(Class::Status, writes).await
}

/// Records events. They are told as well as can be: one that cannot be written is lost, and logged.
async fn record(front: &Front, mut events: Vec<EventSpec>) {
    // An event that happened twice in one batch, or that someone else writes at the same moment,
    // takes another turn.
    for _ in 0..3 {
        if events.is_empty() {
            return;
        }
        let now = front.clock.now();
        let mut again = Vec::new();
        let mut turn = Vec::new();
        let mut writes: Vec<Write> = Vec::new();
        let mut taken = std::collections::BTreeSet::new();
        for spec in events {
            let key = spec.key();
            if !taken.insert(key.clone()) {
                again.push(spec);
                continue;
            }
            let existing = front.store.get(&key);
            let uid = Uuid::new_v4().to_string().as_str().into();
            let object = event::record(existing.as_deref(), &spec, now, &uid);
            writes.push(match existing {
                None => Write::new(Op::Create(object)),
                Some(existing) => Write::new(Op::Replace(object)).version(existing.version),
            });
            turn.push(spec);
        }
        for (spec, written) in turn.into_iter().zip(write(front, writes).await) {
            match written {
                Ok(_) => {}
                Err(WriteError::Conflict { .. } | WriteError::AlreadyExists(_) | WriteError::NotFound(_)) => {
                    again.push(spec);
                }
                Err(error) => tracing::warn!(reason = spec.reason, "an event is lost: {error}"),
            }
        }
        events = again;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(value: Value) -> Object {
        let mut whole = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": [], "nodeName": "a"},
        });
        json_patch::merge(&mut whole, &value);
        Object::from_value(whole).expect("a pod")
    }

    fn report(value: Value) -> PodReport {
        let mut whole = json!({
            "key": {"kind": "Pod", "namespace": "n", "name": "p"}, "uid": "u",
            "status": {"phase": "Running"}, "events": [],
        });
        json_patch::merge(&mut whole, &value);
        serde_json::from_value(whole).expect("a report")
    }

    #[test]
    fn an_agent_writes_to_the_very_pods_of_its_own_node() {
        let deleting = json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}});
        let held = json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z", "finalizers": ["f"]}});
        let running = json!({"status": {"phase": "Running"}});
        let elsewhere = json!({"spec": {"nodeName": "b"}});
        let end = json!({"terminated": true});
        for (name, pod, report, expected) in [
            ("its own", Some(pod(json!({}))), report(json!({})), "Status"),
            (
                "the same again",
                Some(pod(running.clone())),
                report(json!({})),
                "Nothing",
            ),
            ("gone", None, report(json!({})), "Gone"),
            (
                "another uid",
                Some(pod(json!({}))),
                report(json!({"uid": "v"})),
                "OtherUid",
            ),
            ("another node", Some(pod(elsewhere)), report(json!({})), "OtherNode"),
            (
                "no pod",
                Some(pod(json!({}))),
                report(json!({"key": {"kind": "Secret"}})),
                "NotAPod",
            ),
            ("stopped", Some(pod(deleting)), report(end.clone()), "Remove"),
            ("stopped, but held", Some(pod(held)), report(end.clone()), "Status"),
            ("stopped, not deleted", Some(pod(running)), report(end), "Nothing"),
        ] {
            let found = match judge(pod.as_ref(), &report, "a") {
                Ok(step) => format!("{step:?}"),
                Err(dropped) => format!("{dropped:?}"),
            };
            assert!(found.starts_with(expected), "{name}: {found}");
        }
    }

    #[test]
    fn conditions_of_others_are_kept() {
        let stored = json!({"conditions": [
            {"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"},
        ]});
        let reported = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(
            merged(Some(&stored), &reported),
            json!({"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"},
            ]})
        );
    }
}
