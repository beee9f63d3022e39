//! ReplicaSets and ReplicationControllers: as many pods of one template as they say. The older kind
//! differs from the newer one in how its selector is written, and in nothing else.
//!
//! <https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/>
//! <https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller/>

mod spec;

use std::{cmp::Reverse, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;
use schemas::{Body, Key, Kind, Now, Object, Uid, labels, selector::Selector, template};
use serde_json::{Value, json};
use store::{Class, Op, Write};

use crate::{
    ids::Ids,
    owners,
    plan::{Plan, status_of},
    pods::{self, condition, is_active, is_ready, phase, restarts, set_condition, stamp},
};
use spec::Spec;

/// The kinds that this plan is for.
pub const KINDS: [Kind; 2] = [Kind::ReplicaSet, Kind::ReplicationController];

/// What is looked at for one ReplicaSet or ReplicationController.
#[derive(Clone, Debug)]
pub struct World {
    pub set: Arc<Object>,
    /// Pods that it controls, finished and deleted ones included.
    pub pods: Vec<Arc<Object>>,
    /// Pods of its namespace that nobody controls.
    pub strays: Vec<Arc<Object>>,
    /// Since when each pod is seen ready (monotonic).
    pub ready_since: FxHashMap<Uid, Duration>,
    /// Why the last attempt to make or remove pods failed.
    pub failure: Option<String>,
}

/// Who tells of pods made and removed.
fn source(set: &Object) -> &'static str {
    match set.kind {
        Kind::ReplicationController => "replication-controller",
        _ => "replicaset-controller",
    }
}

/// At most so many pods are made or removed in one look.
const BURST: usize = 500;

/// Makes or removes pods until there are as many as there shall be.
#[must_use]
pub fn plan(world: &World, now: Now, ids: &mut Ids) -> Plan {
    let mut plan = Plan::default();
    let set = &*world.set;
    let spec = match Spec::read(set) {
        Ok(spec) => spec,
        Err(error) => {
            plan.wait(set.key(), "InvalidSpec", error.to_string());
            return plan;
        }
    };
    let selector = match owners::selector(set) {
        Ok(selector) => selector,
        Err(reason) => {
            plan.waiting.push((set.key(), reason));
            return plan;
        }
    };
    if !set.is_deleting() {
        let strays: Vec<_> = world.strays.iter().filter(|pod| is_active(pod)).cloned().collect();
        let claims = owners::claims(set, &selector, &world.pods, &strays);
        if !claims.is_empty() {
            plan.writes(Class::Controller, "adopting and releasing pods", claims);
            return plan;
        }
    }
    let active: Vec<&Arc<Object>> = world.pods.iter().filter(|pod| is_active(pod)).collect();
    let (status, requeue) = status(world, &spec, &active, now);
    if let Some(delay) = requeue {
        plan.look_again(delay);
    }
    let wanted = spec.replicas();
    let changes = !set.is_deleting() && active.len() != wanted;
    if status != set.status_value().unwrap_or_default() && (!changes || world.failure.is_some()) {
        // When pods are about to come or go, the next look counts them.
        let mut write = status_of(set, status);
        write.version = None;
        plan.write(Class::Status, "counting replicas", write);
    }
    if !changes {
        return plan;
    }
    if active.len() < wanted {
        create(&mut plan, world, &spec, wanted - active.len(), now, ids);
    } else {
        remove(&mut plan, world, &spec, active, wanted, now);
    }
    plan
}

fn create(plan: &mut Plan, world: &World, spec: &Spec, missing: usize, now: Now, ids: &mut Ids) {
    let set = &*world.set;
    let Some(template) = spec.template() else {
        plan.wait(set.key(), "InvalidSpec", "it has no pod template");
        return;
    };
    if let Some(message) = &world.failure {
        plan.warn(source(set), set, "FailedCreate", format!("Error creating: {message}"));
    }
    let fresh = template::pod_body(template);
    // Replicas share one body: that of a sibling, where it is the same.
    let same = |pod: &&Arc<Object>| pod.body.hash() == fresh.hash();
    let body: Arc<Body> = world
        .pods
        .iter()
        .find(same)
        .map_or_else(|| fresh.clone(), |pod| pod.body.clone());
    let mut writes = Vec::new();
    for _ in 0..missing.min(BURST) {
        let name = template::generated_name(&format!("{}-", set.name()), &ids.suffix());
        let pod = template::pod_from_template(template, &body, set, &name, &ids.uid(), now);
        plan.note(source(set), set, "SuccessfulCreate", format!("Created pod: {name}"));
        writes.push(Write::new(Op::Create(pod)));
    }
    plan.growing(Class::Controller, "making pods", writes);
}

fn remove(plan: &mut Plan, world: &World, spec: &Spec, active: Vec<&Arc<Object>>, wanted: usize, now: Now) {
    let mut order = active;
    let count = (order.len() - wanted).min(BURST);
    let mut on_node: FxHashMap<Arc<str>, usize> = FxHashMap::default();
    for pod in &order {
        if let Some(node) = &pod.node {
            *on_node.entry(node.clone()).or_insert(0) += 1;
        }
    }
    order.sort_by_cached_key(|pod| rank(pod, &on_node, world));
    let stay = order.split_off(count);
    // What goes stops being counted before it goes: a rollout that looks in between must not rely on it.
    let (status, _) = status(world, spec, &stay, now);
    if world.set.status != Some((&status).into()) {
        let mut write = status_of(&world.set, status);
        write.version = None;
        plan.write(Class::Status, "counting the replicas that stay", write);
    }
    let mut writes = Vec::new();
    for pod in order {
        writes.extend(owners::delete(pod, None, now));
        plan.note(
            source(&world.set),
            &world.set,
            "SuccessfulDelete",
            format!("Deleted pod: {}", pod.name()),
        );
    }
    plan.writes(Class::Controller, "removing pods that are too many", writes);
}

/// What goes first has the lowest rank: pods without a node, pending before unknown before running,
/// not ready ones, cheaper ones, those that share a node with more siblings, those ready for less
/// time, those that restarted more often, newer ones.
fn rank(pod: &Object, on_node: &FxHashMap<Arc<str>, usize>, world: &World) -> impl Ord + use<> {
    let phase = match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost: i64 = pod
        .annotation(labels::POD_DELETION_COST)
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0);
    let siblings = pod
        .node
        .as_ref()
        .and_then(|node| on_node.get(node))
        .copied()
        .unwrap_or(0);
    let ready = is_ready(pod);
    let since = world.ready_since.get(&pod.uid()).copied().filter(|_| ready);
    let created = pod.meta.creation_timestamp.as_ref().map(|time| time.0);
    (
        (pod.node.is_some(), phase, ready, cost),
        Reverse(siblings),
        Reverse(since),
        Reverse(restarts(pod)),
        Reverse(created),
        pod.name().to_owned(),
    )
}

/// The status, and when a pod that is ready will be available.
fn status(world: &World, spec: &Spec, active: &[&Arc<Object>], now: Now) -> (Value, Option<Duration>) {
    let set = &*world.set;
    let min_ready = spec.min_ready();
    let wanted = spec
        .template()
        .and_then(|template| template.metadata.as_ref())
        .and_then(|meta| meta.labels.as_ref());
    let labelled = wanted.map(Selector::of_labels).unwrap_or_default();
    let (mut ready, mut available, mut full) = (0, 0, 0);
    let mut next: Option<Duration> = None;
    for pod in active {
        full += i64::from(labelled.matches_object(pod));
        if !is_ready(pod) {
            continue;
        }
        ready += 1;
        let since = world.ready_since.get(&pod.uid()).copied().unwrap_or(now.monotonic);
        let ripe = since + min_ready;
        if ripe <= now.monotonic {
            available += 1;
        } else {
            let left = ripe - now.monotonic;
            next = Some(next.map_or(left, |next| next.min(left)));
        }
    }
    let mut status = set.status_value().filter(Value::is_object).unwrap_or_else(|| json!({}));
    status["replicas"] = active.len().into();
    status["observedGeneration"] = set.meta.generation.unwrap_or(1).into();
    for (field, count) in [
        ("fullyLabeledReplicas", full),
        ("readyReplicas", ready),
        ("availableReplicas", available),
    ] {
        pods::count(&mut status, field, count);
    }
    match &world.failure {
        Some(message) => {
            let fewer = active.len() < spec.replicas();
            let reason = if fewer { "FailedCreate" } else { "FailedDelete" };
            let said = condition(set, "ReplicaFailure");
            if said.is_none_or(|it| it["message"] != **message) {
                let condition = json!({
                    "type": "ReplicaFailure", "status": "True", "reason": reason, "message": message,
                    "lastTransitionTime": stamp(now.wall),
                });
                set_condition(&mut status, condition);
            }
        }
        None => {
            if let Some(list) = status["conditions"].as_array_mut() {
                list.retain(|condition| condition["type"] != "ReplicaFailure");
            }
            if status["conditions"].as_array().is_some_and(Vec::is_empty) || status["conditions"].is_null() {
                status.as_object_mut().map(|status| status.remove("conditions"));
            }
        }
    }
    (status, next)
}

/// The key of the ReplicaSet or ReplicationController that controls `pod`.
#[must_use]
pub fn controller_of(pod: &Object) -> Option<Key> {
    owners::controller_of(pod, &KINDS)
}

#[cfg(test)]
mod tests;
