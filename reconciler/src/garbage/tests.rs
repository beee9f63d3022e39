use schemas::{Key, Kind, deletion::DeleteOptions};
use serde_json::json;

use super::*;
use crate::simulation::{Simulation, start};

fn set(sim: &mut Simulation, name: &str) -> Arc<Object> {
    sim.put(json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name, "namespace": "a"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"x": "y"}}, "template": {"metadata": {"labels": {"x": "y"}}}},
    }))
}

/// A pod owned by all of `owners`, on a node.
fn pod(sim: &mut Simulation, name: &str, owners: &[&Object]) {
    let owners: Vec<_> = owners
        .iter()
        .map(|owner| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner.name(), "uid": owner.uid(), "blockOwnerDeletion": true}))
        .collect();
    sim.put(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a", "ownerReferences": owners},
        "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"},
    }));
}

fn look(sim: &mut Simulation, kind: Kind, name: &str) -> Plan {
    let Some(object) = sim.objects.get(&Key::namespaced(kind, "a", name)).cloned() else {
        return Plan::default();
    };
    let by_uid = |uid: &str| sim.objects.values().find(|object| *object.uid().0 == *uid).cloned();
    let owners = object
        .meta
        .owner_references
        .iter()
        .flatten()
        .map(|owner| (owner.clone(), by_uid(&owner.uid)))
        .collect();
    let uid = object.uid();
    let dependents = sim.objects.values().filter(|other| {
        other
            .meta
            .owner_references
            .iter()
            .flatten()
            .any(|owner| *owner.uid == *uid.0)
    });
    let world = World {
        dependents: dependents.cloned().collect(),
        object,
        owners,
    };
    let plan = plan(&world, start());
    sim.apply(&plan);
    plan
}

/// Deletes as a user would.
fn delete(sim: &mut Simulation, object: &Object, propagation: Propagation) {
    let options = DeleteOptions {
        propagation: Some(propagation),
        ..DeleteOptions::default()
    };
    let mut plan = Plan::default();
    plan.writes(
        Class::User,
        "test",
        owners::delete_with(object, &options, start()).into_iter().collect(),
    );
    sim.apply(&plan);
}

#[test]
fn a_dependent_goes_with_its_last_owner() {
    let mut sim = Simulation::new();
    let (one, two) = (set(&mut sim, "one"), set(&mut sim, "two"));
    pod(&mut sim, "p", &[&one, &two]);
    assert!(look(&mut sim, Kind::Pod, "p").is_empty());
    delete(&mut sim, &one, Propagation::Background);
    look(&mut sim, Kind::Pod, "p");
    let left = sim.get(Kind::Pod, "p");
    assert!(!left.is_deleting());
    assert_eq!(left.meta.owner_references.as_ref().map(|owners| owners.len()), Some(1));
    delete(&mut sim, &two, Propagation::Background);
    look(&mut sim, Kind::Pod, "p");
    assert!(sim.get(Kind::Pod, "p").is_deleting());
    assert!(look(&mut sim, Kind::Pod, "p").is_empty());
}

#[test]
fn foreground_deletes_dependents_first() {
    let mut sim = Simulation::new();
    let owner = set(&mut sim, "one");
    pod(&mut sim, "p", &[&owner]);
    delete(&mut sim, &owner, Propagation::Foreground);
    look(&mut sim, Kind::ReplicaSet, "one");
    assert!(sim.get(Kind::Pod, "p").is_deleting());
    let waits = look(&mut sim, Kind::ReplicaSet, "one");
    assert!(waits.is_empty() && waits.waiting.len() == 1);
    assert!(sim.get(Kind::ReplicaSet, "one").is_deleting());
    sim.reap();
    look(&mut sim, Kind::ReplicaSet, "one");
    assert!(
        sim.all(Kind::ReplicaSet).is_empty(),
        "its last finalizer was the end of it"
    );
}

#[test]
fn orphan_leaves_dependents_without_an_owner() {
    let mut sim = Simulation::new();
    let owner = set(&mut sim, "one");
    pod(&mut sim, "p", &[&owner]);
    delete(&mut sim, &owner, Propagation::Orphan);
    look(&mut sim, Kind::ReplicaSet, "one");
    let pod = sim.get(Kind::Pod, "p");
    assert!(!pod.is_deleting() && pod.meta.owner_references.is_none());
    assert!(sim.all(Kind::ReplicaSet).is_empty());
}

#[test]
fn what_has_no_owner_is_never_collected() {
    let mut sim = Simulation::new();
    pod(&mut sim, "p", &[]);
    assert!(look(&mut sim, Kind::Pod, "p").is_empty());
}

#[test]
fn a_pod_whose_job_is_gone_is_held_by_nothing() {
    let mut sim = Simulation::new();
    let tracked = |owner: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a",
                "finalizers": [labels::JOB_TRACKING], "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": owner, "controller": true}]},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        })
    };
    let job = sim.put(
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "a"},
        "spec": {"template": {"spec": {"containers": []}}}}),
    );
    sim.put(tracked(&job.uid().0));
    assert!(look(&mut sim, Kind::Pod, "p").is_empty(), "its job counts it");
    sim.put(tracked("another"));
    let mut deleted = Object::clone(&sim.get(Kind::Pod, "p"));
    deleted.meta.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(sim.now.wall));
    sim.insert(deleted);
    look(&mut sim, Kind::Pod, "p");
    assert!(sim.all(Kind::Pod).is_empty());
}
