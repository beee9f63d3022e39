use std::collections::BTreeMap;

use schemas::{ContentHash, labels, report::ObjectReport};
use serde_json::{Value, json};

use super::{changes::Effect, *};

const NOW: &str = "2026-01-01T00:10:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

fn object(value: Value) -> Arc<Object> {
    Arc::new(Object::from_value(value).expect("an object"))
}

fn pod(spec: Value, status: Value) -> Arc<Object> {
    object(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-1", "namespace": "shop", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec, "status": status,
    }))
}

/// Reason, end of the wait, and help, of each thing that a pod waits for.
fn of(pod: &Object, min_ready: i32) -> Vec<String> {
    let found = waiting::of_pod(pod, None, min_ready, now());
    let shown = found.iter().map(|waiting| {
        let until = waiting
            .until
            .as_ref()
            .map_or_else(String::new, |until| until.at.to_string());
        let container = waiting.container.as_deref().unwrap_or("-");
        format!("{container} {} [{until}] {}", waiting.reason, waiting.help)
    });
    shown.collect()
}

#[test]
fn a_pod_waits_for_a_reason_until_a_time_and_something_helps() {
    let spec = json!({"nodeName": "n", "containers": [{"name": "web", "image": "web:9",
        "readinessProbe": {"tcpSocket": {"port": 80}}}]});
    let started = "2026-01-01T00:09:00Z";
    let unbound = |message: &str| {
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": message, "lastTransitionTime": started}]})
    };
    let container = |state: Value, last: Value, restarts: i32| {
        json!({"phase": "Running", "containerStatuses": [{"name": "web", "image": "web:9", "imageID": "",
            "ready": false, "restartCount": restarts, "state": state, "lastState": last}]})
    };
    let waits = |reason: &str| json!({"waiting": {"reason": reason}});
    let ended = json!({"terminated": {"exitCode": 3, "finishedAt": started}});
    let ready = |since: &str| json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}]});
    for (spec, status, min_ready, reason, until, help) in [
        (json!({}), json!({}), 0, "- Pending", "", ""),
        (
            json!({}),
            unbound("0/2 nodes are available: 2 Insufficient cpu."),
            0,
            "- Unschedulable",
            "",
            "CPU requests",
        ),
        (
            json!({}),
            unbound("0/2 nodes are available: 1 Insufficient nvidia.com/gpu."),
            0,
            "- Unschedulable",
            "",
            "lower its requests",
        ),
        (
            json!({}),
            unbound("0/1 nodes are available: 1 node(s) had untolerated taint {a: b}."),
            0,
            "- Unschedulable",
            "",
            "tolerate",
        ),
        (
            json!({}),
            unbound("something new"),
            0,
            "- Unschedulable",
            "",
            "scheduler's message",
        ),
        (
            spec.clone(),
            container(waits("ImagePullBackOff"), json!(null), 0),
            0,
            "web ImagePullBackOff",
            "",
            "web:9 exists",
        ),
        // The third start waits for 20 s after the end of the second container.
        (
            spec.clone(),
            container(waits("CrashLoopBackOff"), ended.clone(), 2),
            0,
            "web CrashLoopBackOff",
            "2026-01-01T00:09:20Z",
            "--previous",
        ),
        (
            spec.clone(),
            container(waits("CrashLoopBackOff"), ended, 30),
            0,
            "web CrashLoopBackOff",
            "2026-01-01T00:14:00Z",
            "--previous",
        ),
        (
            spec.clone(),
            container(waits("CreateContainerConfigError"), json!(null), 0),
            0,
            "web CreateContainerConfigError",
            "",
            "declare",
        ),
        (
            spec.clone(),
            container(json!({"running": {"startedAt": started}}), json!(null), 0),
            0,
            "web NotReady",
            "",
            "probe",
        ),
        (
            spec.clone(),
            ready(started),
            90,
            "- MinReadySeconds",
            "2026-01-01T00:10:30Z",
            "",
        ),
        (spec.clone(), json!({"phase": "Pending"}), 0, "- Pending", "", ""),
    ] {
        let found = of(&pod(spec, status.clone()), min_ready);
        let [found] = found.as_slice() else {
            panic!("{status}: {found:?}")
        };
        assert!(found.starts_with(&format!("{reason} [{until}]")), "{found}\n{status}");
        assert!(found.contains(help), "{found}\n{status}");
    }
    for (status, min_ready) in [
        (ready(started), 0),
        (ready("2026-01-01T00:00:00Z"), 90),
        (json!({"phase": "Succeeded"}), 0),
    ] {
        assert_eq!(of(&pod(spec.clone(), status.clone()), min_ready), [""; 0], "{status}");
    }
}

#[test]
fn a_pod_of_a_lost_node_or_one_that_ends_says_so() {
    let node = object(
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "n"},
        "status": {"conditions": [{"type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-01-01T00:08:00Z"}]}}),
    );
    let lost = pod(
        json!({"nodeName": "n", "containers": [], "tolerations": [{"key": labels::TAINT_UNREACHABLE,
            "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]}),
        json!({"phase": "Running"}),
    );
    let found = waiting::of_pod(&lost, Some(&node), 0, now());
    assert_eq!((found.len(), found[0].reason.as_str()), (1, "NodeNotReady"));
    let until = found[0].until.as_ref().expect("an end");
    assert_eq!(until.at.to_string(), "2026-01-01T00:13:00Z");

    let mut ends = Object::clone(&lost);
    let mut value = ends.to_value();
    value["metadata"]["deletionTimestamp"] = "2026-01-01T00:10:20Z".into();
    value["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    value["metadata"]["finalizers"] = json!(["example.org/keep"]);
    ends = Object::from_value(value).expect("a pod");
    let found = waiting::of_pod(&ends, None, 0, now());
    assert_eq!(found[0].reason, "Terminating");
    assert!(found[0].message.contains("example.org/keep"), "{found:?}");
    assert_eq!(
        found[0].since.map(|at| at.to_string()).as_deref(),
        Some("2026-01-01T00:09:50Z")
    );
}

fn deployment(image: &str, replicas: u32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image}]}}}})
}

fn row(kind: Kind, content: Value, commit: &str) -> DesiredRow {
    DesiredRow {
        unit: Unit("shop".into()),
        key: Key::namespaced(kind, "shop", "web"),
        hash: ContentHash::of(&content),
        content: Arc::new(content),
        file: "web.yaml".into(),
        line: 1,
        commit: commit.into(),
    }
}

fn set(image: &str, hash: &str, revision: &str) -> Arc<Object> {
    let mut template = deployment(image, 1)["spec"]["template"].clone();
    template["metadata"]["labels"]["pod-template-hash"] = hash.into();
    object(json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": format!("web-{hash}"), "namespace": "shop", "uid": hash, "labels": {"pod-template-hash": hash},
            "annotations": {labels::REVISION: revision}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template}}))
}

#[test]
fn changes_are_told_with_their_effect_and_their_set() {
    let of = |kind: Kind, rows: Vec<Value>| {
        let rows: Vec<DesiredRow> = rows.into_iter().map(|content| row(kind, content, "c")).collect();
        changes::of_rows(kind, &rows, &[set("web:2", "b", "3"), set("web:1", "a", "1")])
    };
    let found = of(
        Kind::Deployment,
        vec![deployment("web:2", 3), deployment("web:2", 1), deployment("web:1", 1)],
    );
    let effects: Vec<Effect> = found.iter().map(|change| change.effect).collect();
    assert_eq!(effects, [Effect::InPlace, Effect::Replaced, Effect::Made]);
    assert_eq!(found[1].containers, ["web"]);
    assert_eq!(
        found[1].fields[0].change.path,
        "spec.template.spec.containers[web].image"
    );
    let sets: Vec<(String, i64)> = found
        .iter()
        .filter_map(|change| change.set.as_ref().map(|set| (set.name.to_string(), set.revision)))
        .collect();
    assert_eq!(sets, [("web-b".into(), 3), ("web-b".into(), 3), ("web-a".into(), 1)]);
    // Pods of a set that is declared itself go on; a CronJob's next Job has it.
    let bare = of(Kind::ReplicaSet, vec![deployment("web:2", 1), deployment("web:1", 1)]);
    assert_eq!(bare[0].effect, Effect::NewPods);
    let cron = |image: &str| {
        json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"schedule": "@daily", "jobTemplate":
            {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": image}]}}}}}})
    };
    assert_eq!(
        of(Kind::CronJob, vec![cron("a:2"), cron("a:1")])[0].effect,
        Effect::NextRun
    );

    // What git does not declare is told by the templates that it has had.
    let found = changes::of_sets(&[set("web:1", "a", "1"), set("web:2", "b", "3")]);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].effect, found[1].effect), (Effect::Replaced, Effect::Made));
    assert_eq!(found[0].fields.len(), 1, "{:?}", found[0].fields);
}

#[test]
fn a_workload_says_what_keeps_it_and_until_when() {
    let seen = |live: Arc<Object>| Seen {
        key: live.key(),
        root: Some(live.key()),
        root_live: Some(live.clone()),
        live: Some(live),
        sets: vec![set("web:1", "a", "1"), set("web:2", "b", "2")],
        pods: Vec::new(),
        nodes: BTreeMap::new(),
        warnings: Vec::new(),
    };
    let live = |paused: bool, reason: &str| {
        let mut value = deployment("web:2", 2);
        value["metadata"]["uid"] = "d".into();
        value["spec"]["paused"] = paused.into();
        value["spec"]["progressDeadlineSeconds"] = 60.into();
        value["status"] = json!({"replicas": 2, "updatedReplicas": 1, "availableReplicas": 2, "conditions": [
            {"type": "Progressing", "status": "True", "reason": reason,
             "lastUpdateTime": "2026-01-01T00:09:30Z", "lastTransitionTime": "2026-01-01T00:09:00Z"}]});
        object(value)
    };
    for (paused, reason, word, until) in [
        (true, "ReplicaSetUpdated", "Paused", None),
        (false, "ReplicaSetUpdated", "Progressing", Some("2026-01-01T00:10:30Z")),
        (false, "ProgressDeadlineExceeded", "ProgressDeadlineExceeded", None),
    ] {
        let found = waiting::all(&seen(live(paused, reason)), None, None, now());
        assert_eq!((found.len(), found[0].reason.as_str()), (1, word));
        let end = found[0].until.as_ref().map(|until| until.at.to_string());
        assert_eq!(end.as_deref(), until, "{word}");
    }
    let report = ObjectReport {
        outcome: Outcome::Progressing,
        reason: "Wave: waits for Deployment shop/db of wave 0, which has not been healthy yet".into(),
        position: None,
        status: Value::Null,
        stale: true,
        gated: false,
    };
    let found = waiting::all(&seen(live(true, "")), Some(&report), Some("a.yaml:1:1: no"), now());
    let words: Vec<&str> = found.iter().map(|waiting| waiting.reason.as_str()).collect();
    assert_eq!(words, ["Held", "Wave", "Paused"]);
    assert!(found[1].help.contains("--skip-gates"), "{found:?}");

    let mut seen = seen(live(false, ""));
    let of_set = |hash: &str| {
        object(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": hash, "namespace": "shop", "uid": hash,
            "labels": {"pod-template-hash": hash}}, "spec": {"containers": []}}),
        )
    };
    seen.pods = vec![of_set("a"), of_set("a"), of_set("b")];
    assert_eq!(waiting::count(&seen), Pods { new: 1, old: 2 });
}
