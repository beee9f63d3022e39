//! Reports of pods: what an agent says of its own pods becomes their status, their events, or their
//! end.

use std::sync::Arc;

use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemas::{
    Key, Kind, Now, Object, Packed, Part, Uid,
    event::{self, EventSpec},
    node::PodReport,
    storage,
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
    #[error("it is neither a pod nor a volume")]
    NotItsOwn,
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
    Status(Packed),
    /// Every container is gone and nothing else holds the object.
    Remove,
    /// Every container is gone, and finalizers hold the object: its status, if it says something new.
    /// From now on it waits for nothing but them.
    Held(Option<Packed>),
    /// The volume is held by nothing of its node any more.
    Release(Box<Object>),
    /// The status is stored already.
    Nothing,
}

/// Judges one report against the stored pod: an agent writes to the pods of its own node, and to the
/// very pod that it saw.
pub(crate) fn judge(pod: Option<&Object>, report: &PodReport, node: &str, now: Now) -> Result<Step, Dropped> {
    if report.key.kind == Kind::PersistentVolume {
        return of_volume(pod, report, node);
    }
    if report.key.kind != Kind::Pod {
        return Err(Dropped::NotItsOwn);
    }
    let pod = pod.ok_or(Dropped::Gone)?;
    if pod.uid() != report.uid {
        return Err(Dropped::OtherUid);
    }
    if pod.node.as_deref() != Some(node) {
        return Err(Dropped::OtherNode);
    }
    let unheld = pod.meta.finalizers.as_ref().is_none_or(|names| names.is_empty());
    if report.terminated && pod.is_deleting() && unheld {
        return Ok(Step::Remove);
    }
    let status = Packed::from(merged(pod.status.as_ref(), &report.status, now));
    let status = Some(status).filter(|status| pod.status.as_ref() != Some(status));
    if report.terminated && pod.is_deleting() && pod.meta.deletion_grace_period_seconds != Some(0) {
        return Ok(Step::Held(status));
    }
    Ok(status.map_or(Step::Nothing, Step::Status))
}

/// What a node says of a volume on it: what was behind it is gone, or is not yet.
fn of_volume(volume: Option<&Object>, report: &PodReport, node: &str) -> Result<Step, Dropped> {
    let volume = volume.ok_or(Dropped::Gone)?;
    if volume.uid() != report.uid {
        return Err(Dropped::OtherUid);
    }
    if storage::docker_volume(volume).is_none_or(|docker| *docker.node != *node) {
        return Err(Dropped::OtherNode);
    }
    if !report.terminated || !volume.is_deleting() {
        return Ok(Step::Nothing);
    }
    let mut left = volume.clone();
    let mut finalizers = left.meta.finalizers.take().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != storage::DOCKER_VOLUME);
    left.meta.finalizers = (!finalizers.is_empty()).then_some(finalizers);
    Ok(Step::Release(Box::new(left)))
}

/// The reported status, with the conditions of others (the scheduler's, a disruption's) kept. When a
/// condition changed is the server's to say: what counts time by it must not depend on a node's clock.
fn merged(stored: Option<&Packed>, reported: &Value, now: Now) -> Value {
    let mut status = if reported.is_object() {
        reported.clone()
    } else {
        json!({})
    };
    let known: Vec<Value> = stored
        .and_then(|stored| stored.at("conditions"))
        .into_iter()
        .flat_map(Part::items)
        .map(Part::value)
        .collect();
    let reported = status.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in reported.into_iter().flatten() {
        let before = known.iter().find(|known| known["type"] == condition["type"]);
        let since = before
            .filter(|before| before["status"] == condition["status"])
            .and_then(|before| before.get("lastTransitionTime").cloned())
            .unwrap_or_else(|| json!(Time(now.wall)));
        condition["lastTransitionTime"] = since;
    }
    let ours = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let kept: Vec<Value> = known
        .into_iter()
        .filter(|condition| !ours.iter().any(|one| one["type"] == condition["type"]))
        .collect();
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
    let mut held = Vec::new();
    let mut dropped: Vec<(Key, String)> = Vec::new();
    let mut events = Vec::new();
    let now = front.clock.now();
    {
        let view = front.store.view();
        for report in &batch {
            match judge(view.get(&report.key).map(Arc::as_ref), report, node, now) {
                Err(reason) => {
                    dropped.push((report.key.clone(), reason.to_string()));
                    continue;
                }
                Ok(Step::Nothing) => {}
                Ok(Step::Held(status)) => {
                    held.push((report.key.clone(), report.uid.clone()));
                    if let Some(status) = status {
                        writes.push(status_of(report, status));
                    }
                }
                Ok(Step::Status(status)) => writes.push(status_of(report, status)),
                Ok(Step::Release(volume)) => {
                    let version = volume.version;
                    writes.push(
                        Write::new(Op::Replace(*volume))
                            .uid(report.uid.clone())
                            .version(version),
                    );
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
    for (key, uid) in held {
        stopped(front, &key, &uid).await?;
    }
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

fn status_of(report: &PodReport, status: Packed) -> Write {
    let op = Op::Status {
        key: report.key.clone(),
        status,
    };
    Write::new(op).uid(report.uid.clone())
}

/// Notes that the containers of a pod in deletion are gone: its grace period is over, so that it goes
/// with its last finalizer.
async fn stopped(front: &Front, key: &Key, uid: &Uid) -> Result<(), ApiError> {
    // Finalizers may come off at the same moment: then it is looked at again.
    for _ in 0..8 {
        let Some(pod) = front
            .store
            .get(key)
            .filter(|pod| pod.uid() == *uid && pod.is_deleting())
        else {
            return Ok(());
        };
        let op = if pod.meta.finalizers.as_ref().is_none_or(|names| names.is_empty()) {
            Op::Remove { key: key.clone() }
        } else {
            let mut stopped = Object::clone(&pod);
            stopped.meta.deletion_grace_period_seconds = Some(0);
            Op::Replace(stopped)
        };
        let write = Write::new(op).uid(uid.clone()).version(pod.version);
        match front.store.write_one(Class::Status, write).await {
            Err(WriteError::Unavailable(error)) => return Err(error.into()),
            Err(WriteError::Conflict { .. }) => {}
            Ok(_) | Err(_) => return Ok(()),
        }
    }
    Ok(())
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
        let mut told = held.clone();
        told["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        json_patch::merge(&mut told, &running);
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
                "NotItsOwn",
            ),
            ("stopped", Some(pod(deleting)), report(end.clone()), "Remove"),
            (
                "stopped, but held",
                Some(pod(held.clone())),
                report(end.clone()),
                "Held(Some",
            ),
            ("held, and told so", Some(pod(told)), report(end.clone()), "Nothing"),
            ("stopped, not deleted", Some(pod(running)), report(end), "Nothing"),
        ] {
            let found = match judge(pod.as_ref(), &report, "a", at("2024-01-01T00:00:00Z")) {
                Ok(step) => format!("{step:?}"),
                Err(dropped) => format!("{dropped:?}"),
            };
            assert!(found.starts_with(expected), "{name}: {found}");
        }
    }

    fn at(time: &str) -> Now {
        Now {
            wall: time.parse().expect("a time"),
            monotonic: std::time::Duration::ZERO,
        }
    }

    #[test]
    fn an_agent_lets_the_volumes_of_its_own_node_go_once_nothing_is_behind_them() {
        let docker = storage::DockerVolume {
            name: "towline-v".to_owned(),
            node: "a".into(),
        };
        let volume = |deleting: bool| {
            let mut value = json!({
                "apiVersion": "v1", "kind": "PersistentVolume",
                "metadata": {"name": "v", "uid": "u", "finalizers": ["other", storage::DOCKER_VOLUME]},
                "spec": {"csi": storage::source(&docker)},
            });
            if deleting {
                value["metadata"]["deletionTimestamp"] = "2024-01-01T00:00:00Z".into();
            }
            Object::from_value(value).expect("a volume")
        };
        let of = |more: Value| {
            let mut value = json!({"key": {"kind": "PersistentVolume", "namespace": null, "name": "v"}});
            json_patch::merge(&mut value, &more);
            report(value)
        };
        let end = json!({"terminated": true});
        for (name, volume, report, node, expected) in [
            ("removed", Some(volume(true)), of(end.clone()), "a", "Release"),
            ("not yet", Some(volume(true)), of(json!({})), "a", "Nothing"),
            (
                "nobody deleted it",
                Some(volume(false)),
                of(end.clone()),
                "a",
                "Nothing",
            ),
            ("another node", Some(volume(true)), of(end.clone()), "b", "OtherNode"),
            (
                "another uid",
                Some(volume(true)),
                of(json!({"terminated": true, "uid": "w"})),
                "a",
                "OtherUid",
            ),
            ("gone", None, of(end), "a", "Gone"),
        ] {
            let found = match judge(volume.as_ref(), &report, node, at("2024-01-01T00:00:00Z")) {
                Ok(Step::Release(left)) => {
                    assert_eq!(left.meta.finalizers.as_deref(), Some(&vec!["other".to_owned()]));
                    "Release".to_owned()
                }
                Ok(step) => format!("{step:?}"),
                Err(dropped) => format!("{dropped:?}"),
            };
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn conditions_of_others_are_kept_and_changes_get_the_servers_time() {
        let (first, second, theirs) = ("2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z", "2031-01-01T00:00:00Z");
        let stored = json!({"conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "False", "lastTransitionTime": first},
            {"type": "Initialized", "status": "True", "lastTransitionTime": first},
        ]});
        let reported = json!({"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": theirs},
            {"type": "Initialized", "status": "True", "lastTransitionTime": theirs},
        ]});
        let expected = json!({"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": second},
            {"type": "Initialized", "status": "True", "lastTransitionTime": first},
            {"type": "PodScheduled", "status": "True"},
        ]});
        assert_eq!(merged(Some(&stored.into()), &reported, at(second)), expected);
        let merged_again = merged(Some(&expected.clone().into()), &reported, at(theirs));
        assert_eq!(merged_again, expected, "nothing new");
    }
}
