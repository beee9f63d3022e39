use serde_json::{Value, json};

use super::*;

fn object(kind: Kind, spec: Value, status: Value) -> Object {
    let info = kind.info();
    Object::from_value(json!({
        "apiVersion": info.api_version(), "kind": info.name,
        "metadata": {"name": "a", "namespace": "b", "generation": 2},
        "spec": spec, "status": status,
    }))
    .expect("it is valid")
}

fn of(object: &Object) -> (Outcome, String) {
    let health = object_health(object, Related::default());
    (health.outcome, health.reason)
}

#[test]
fn a_deployment_converges_when_all_is_new_and_available() {
    let spec = json!({"replicas": 3, "selector": {}, "template": {}});
    let exceeded = json!([{
        "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too slow",
    }]);
    for (status, outcome, reason) in [
        (
            json!(null),
            Outcome::Progressing,
            "generation 2 is yet to be observed by its controller",
        ),
        (
            json!({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}),
            Outcome::Progressing,
            "generation 2 is yet to be observed by its controller",
        ),
        (
            json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1, "availableReplicas": 3}),
            Outcome::Progressing,
            "1 of 3 replicas are updated",
        ),
        (
            json!({"observedGeneration": 2, "replicas": 4, "updatedReplicas": 3, "availableReplicas": 4}),
            Outcome::Progressing,
            "1 old replicas are still to be removed",
        ),
        (
            json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 2}),
            Outcome::Progressing,
            "2 of 3 updated replicas are available",
        ),
        (
            json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}),
            Outcome::Converged,
            "3 of 3 replicas are available",
        ),
        (
            json!({"observedGeneration": 2, "replicas": 4, "updatedReplicas": 1, "availableReplicas": 3, "conditions": exceeded}),
            Outcome::Failed,
            "ProgressDeadlineExceeded: too slow",
        ),
        (
            json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3, "conditions": exceeded}),
            Outcome::Converged,
            "3 of 3 replicas are available",
        ),
        (json!({"observedGeneration": "x"}), Outcome::Progressing, ""),
    ] {
        let (found, why) = of(&object(Kind::Deployment, spec.clone(), status.clone()));
        assert_eq!(found, outcome, "{status}");
        assert!(why.contains(reason), "{status}: {why}");
    }
    let none = json!({"observedGeneration": 2});
    assert_eq!(
        of(&object(
            Kind::Deployment,
            json!({"replicas": 0, "selector": {}, "template": {}}),
            none
        ))
        .0,
        Outcome::Converged
    );
}

#[test]
fn a_workload_is_stalled_by_its_pods_and_by_its_replica_failure() {
    let spec = json!({"replicas": 1, "selector": {}, "template": {}});
    let status = json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "conditions": [
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"},
    ]});
    let health = object_health(&object(Kind::Deployment, spec.clone(), status), Related::default());
    assert_eq!(health.outcome, Outcome::Progressing);
    assert_eq!(health.reason, "FailedCreate: quota");

    let pod = waiting("ImagePullBackOff", 0);
    let status = json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1});
    let deployment = object(Kind::Deployment, spec, status);
    let health = object_health(&deployment, Related { pods: &[&pod] });
    assert_eq!(health.outcome, Outcome::Progressing);
    assert_eq!(
        health.stalled.map(|stalled| stalled.reason).as_deref(),
        Some("ImagePullBackOff")
    );
}

fn waiting(reason: &str, restarts: i32) -> Object {
    object(
        Kind::Pod,
        json!({"containers": []}),
        json!({"phase": "Pending", "containerStatuses": [{
            "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": restarts,
            "state": {"waiting": {"reason": reason}},
        }]}),
    )
}

#[test]
fn pods_stall_for_known_reasons_only() {
    for (reason, restarts, stalled) in [
        ("ImagePullBackOff", 0, true),
        ("ErrImagePull", 0, true),
        ("InvalidImageName", 0, true),
        ("CreateContainerConfigError", 0, true),
        ("CreateContainerError", 0, true),
        ("CrashLoopBackOff", 2, false),
        ("CrashLoopBackOff", 3, true),
        ("ContainerCreating", 9, false),
        ("PodInitializing", 0, false),
    ] {
        let found = stalled_reason(&waiting(reason, restarts));
        assert_eq!(found.is_some(), stalled, "{reason} after {restarts}");
    }
    let unschedulable = object(
        Kind::Pod,
        json!({}),
        json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"},
        ]}),
    );
    let health = object_health(&unschedulable, Related::default());
    assert_eq!(health.outcome, Outcome::Progressing);
    assert_eq!(health.reason, "Unschedulable: 0/1 nodes are available");
}

#[test]
fn pods_follow_phase_and_readiness() {
    let ready =
        |status: &str| json!([{"type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    for (status, outcome) in [
        (json!(null), Outcome::Progressing),
        (json!({"phase": "Pending"}), Outcome::Progressing),
        (
            json!({"phase": "Running", "conditions": ready("False")}),
            Outcome::Progressing,
        ),
        (
            json!({"phase": "Running", "conditions": ready("True")}),
            Outcome::Converged,
        ),
        (
            json!({"phase": "Succeeded", "conditions": ready("False")}),
            Outcome::Converged,
        ),
        (json!({"phase": "Failed", "reason": "Evicted"}), Outcome::Failed),
    ] {
        let health = object_health(
            &object(Kind::Pod, json!({"containers": []}), status.clone()),
            Related::default(),
        );
        assert_eq!(health.outcome, outcome, "{status}");
        assert_eq!(health.since.is_some(), status.get("conditions").is_some());
    }
}

#[test]
fn other_workloads_by_their_own_rules() {
    let workload = json!({"replicas": 2, "selector": {}, "template": {}, "serviceName": ""});
    let job_condition =
        |kind: &str| json!({"conditions": [{"type": kind, "status": "True", "reason": "R", "message": "m"}]});
    for (health, outcome) in [
        (
            replica_set(&object(
                Kind::ReplicaSet,
                workload.clone(),
                json!({"observedGeneration": 2, "replicas": 2, "availableReplicas": 2}),
            )),
            Outcome::Converged,
        ),
        (
            replica_set(&object(
                Kind::ReplicaSet,
                workload.clone(),
                json!({"observedGeneration": 2, "replicas": 3, "availableReplicas": 3}),
            )),
            Outcome::Progressing,
        ),
        (
            stateful_set(&object(
                Kind::StatefulSet,
                workload.clone(),
                json!({"observedGeneration": 2, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 1, "currentRevision": "a", "updateRevision": "b"}),
            )),
            Outcome::Progressing,
        ),
        (
            stateful_set(&object(
                Kind::StatefulSet,
                workload,
                json!({"observedGeneration": 2, "replicas": 2, "readyReplicas": 2, "currentRevision": "b", "updateRevision": "b"}),
            )),
            Outcome::Converged,
        ),
        (
            daemon_set(&object(
                Kind::DaemonSet,
                json!({"selector": {}, "template": {}}),
                json!({"observedGeneration": 2, "currentNumberScheduled": 2, "desiredNumberScheduled": 2, "numberMisscheduled": 0, "numberReady": 2, "numberAvailable": 1, "updatedNumberScheduled": 2}),
            )),
            Outcome::Progressing,
        ),
        (
            job(&object(Kind::Job, json!({"template": {}}), job_condition("Complete"))),
            Outcome::Converged,
        ),
        (
            job(&object(Kind::Job, json!({"template": {}}), job_condition("Failed"))),
            Outcome::Failed,
        ),
        (
            job(&object(Kind::Job, json!({"template": {}}), json!({}))),
            Outcome::Progressing,
        ),
        (
            cron_job(&object(Kind::CronJob, cron(json!({})), json!({}))),
            Outcome::Converged,
        ),
        (
            cron_job(&object(
                Kind::CronJob,
                cron(json!({"schedule": "0 0 31 2 *"})),
                json!({}),
            )),
            Outcome::Failed,
        ),
        (
            cron_job(&object(Kind::CronJob, cron(json!({"timeZone": "No/Where"})), json!({}))),
            Outcome::Failed,
        ),
        (
            node(&object(
                Kind::Node,
                json!({}),
                json!({"conditions": [{"type": "Ready", "status": "Unknown"}]}),
            )),
            Outcome::Failed,
        ),
    ] {
        let health = health.expect("the status can be read");
        assert_eq!(health.outcome, outcome, "{}", health.reason);
    }
}

#[test]
fn an_object_that_is_being_deleted_has_not_converged() {
    let mut config = object(Kind::ConfigMap, json!({}), json!(null));
    assert_eq!(of(&config).0, Outcome::Converged);
    config.meta.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    assert_eq!(of(&config).0, Outcome::Progressing);
}

fn cron(more: serde_json::Value) -> serde_json::Value {
    let mut spec = json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": {}}}});
    json_patch::merge(&mut spec, &more);
    spec
}
