use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemas::{Kind, Object};
use serde_json::json;
use store::Op;

use super::{World, plan, rank};
use crate::{
    plan::Step,
    simulation::{Simulation, start},
};

fn set(replicas: i32) -> serde_json::Value {
    of_kind(Kind::ReplicaSet, replicas)
}

fn of_kind(kind: Kind, replicas: i32) -> serde_json::Value {
    let selector = match kind {
        Kind::ReplicationController => json!({"app": "x"}),
        _ => json!({"matchLabels": {"app": "x"}}),
    };
    json!({
        "apiVersion": kind.info().api_version(), "kind": kind.info().name, "metadata": {"name": "s", "namespace": "a"},
        "spec": {"replicas": replicas, "selector": selector, "template": {
            "metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    })
}

fn bare(name: &str, app: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a", "labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    })
}

#[test]
fn pods_are_made_in_growing_batches_that_share_one_body() {
    for kind in super::KINDS {
        made_in_batches(kind);
    }
}

fn made_in_batches(kind: Kind) {
    let mut sim = Simulation::new();
    sim.put(of_kind(kind, 10));
    let plan = sim.replica_set("s");
    let batches: Vec<usize> = plan
        .steps
        .iter()
        .map(|step| match step {
            Step::Write { writes, .. } => writes.iter().filter(|write| matches!(write.op, Op::Create(_))).count(),
            _ => 0,
        })
        .collect();
    assert_eq!(batches, [1, 2, 4, 3]);
    let pods = sim.all(Kind::Pod);
    assert!(pods.iter().all(|pod| Arc::ptr_eq(&pod.body, &pods[0].body)));
    assert_eq!(plan.notes.len(), 10);
    sim.replica_set("s");
    assert_eq!(sim.get(kind, "s").status_value().expect("there")["replicas"], 10);
    assert!(sim.replica_set("s").is_empty());
    for pod in sim.all(Kind::Pod) {
        assert_eq!(super::controller_of(&pod), Some(sim.get(kind, "s").key()));
    }
}

#[test]
fn matching_strays_are_adopted_and_what_stops_matching_is_released() {
    for kind in super::KINDS {
        adopted_and_released(kind);
    }
}

fn adopted_and_released(kind: Kind) {
    let mut sim = Simulation::new();
    sim.put(of_kind(kind, 1));
    sim.put(bare("mine", "x"));
    sim.put(bare("other", "y"));
    sim.replica_set("s");
    assert!(sim.get(Kind::Pod, "mine").controller().is_some());
    assert!(sim.get(Kind::Pod, "other").controller().is_none());
    sim.replica_set("s");
    assert_eq!(sim.all(Kind::Pod).len(), 2, "the adopted one is enough");

    let mut changed = Object::clone(&sim.get(Kind::Pod, "mine"));
    changed.meta.labels = Some([("app".to_owned(), "z".to_owned())].into());
    sim.objects.insert(changed.key(), Arc::new(changed));
    sim.replica_set("s");
    assert!(sim.get(Kind::Pod, "mine").controller().is_none());
    sim.replica_set("s");
    assert_eq!(sim.all(Kind::Pod).len(), 3, "another one is made for it");
}

#[test]
fn pods_go_in_the_documented_order() {
    let mut sim = Simulation::new();
    // From the first to go to the last; each is worse than the next by one rule.
    let names = [
        "unassigned",
        "pending",
        "unknown",
        "not-ready",
        "cheap",
        "crowded",
        "fresh",
        "restarted",
        "newer",
        "best",
    ];
    let mut pods = Vec::new();
    for name in names {
        let mut pod = Object::clone(&sim.put(bare(name, "x")));
        pod.node = Some(name.into());
        let mut status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"restartCount": 0}]});
        let mut created = start().wall;
        let mut ready = std::time::Duration::from_secs(10);
        match name {
            "unassigned" => pod.node = None,
            "pending" => status = json!({"phase": "Pending"}),
            "unknown" => status = json!({"phase": "Unknown"}),
            "not-ready" => status["conditions"][0]["status"] = "False".into(),
            "cheap" => {
                pod.meta.annotations = Some([(schemas::labels::POD_DELETION_COST.to_owned(), "-5".to_owned())].into());
            }
            "crowded" => pod.node = Some("full".into()),
            "fresh" => ready = std::time::Duration::from_secs(20),
            "restarted" => status["containerStatuses"][0]["restartCount"] = 3.into(),
            "newer" => created += std::time::Duration::from_secs(5),
            _ => {}
        }
        pod.status = Some(status.into());
        pod.meta.creation_timestamp = Some(Time(created));
        sim.ready_since.insert(pod.uid(), ready);
        pods.push(pod);
    }
    let world = World {
        set: sim.put(set(1)),
        pods: Vec::new(),
        strays: Vec::new(),
        ready_since: sim.ready_since.clone(),
        failure: None,
    };
    let on_node = [("full".into(), 2)].into_iter().collect();
    for pair in pods.windows(2) {
        assert!(
            rank(&pair[0], &on_node, &world) < rank(&pair[1], &on_node, &world),
            "{:?}",
            pair
        );
    }
}

#[test]
fn a_failure_is_told_and_taken_back() {
    let mut sim = Simulation::new();
    let object = sim.put(set(1));
    let mut world = World {
        set: object,
        pods: Vec::new(),
        strays: Vec::new(),
        ready_since: Default::default(),
        failure: Some("no".to_owned()),
    };
    let first = plan(&world, sim.now, &mut sim.ids);
    sim.apply(&first);
    let told = sim.get(Kind::ReplicaSet, "s");
    assert_eq!(
        crate::pods::condition(&told, "ReplicaFailure").expect("there")["reason"],
        "FailedCreate"
    );
    world.set = told;
    world.failure = None;
    world.pods = sim.all(Kind::Pod);
    let second = plan(&world, sim.now, &mut sim.ids);
    sim.apply(&second);
    assert!(crate::pods::condition(&sim.get(Kind::ReplicaSet, "s"), "ReplicaFailure").is_none());
}
