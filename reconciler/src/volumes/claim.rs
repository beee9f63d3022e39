//! One claim: bound to a volume that is there or made for it, and kept while a pod uses it.

use std::{borrow::Cow, sync::Arc};

use k8s_openapi::{api::core::v1::PersistentVolumeClaimSpec, apimachinery::pkg::apis::meta::v1::Time};
use schemas::{Body, Key, Kind, Meta, Now, Object, Part, Shared, defaulting, labels, storage};
use serde_json::{Map, Value, json};
use store::{Class, Op, Write};

use super::{SOURCE, class, matching};
use crate::{
    ids::Ids,
    owners,
    plan::{Plan, replace_of, status_of},
    pods::blank,
    scheduler::node::Facts,
};

/// What is looked at for one claim.
#[derive(Clone, Debug)]
pub struct World {
    pub claim: Arc<Object>,
    /// The volume that it names.
    pub volume: Option<Arc<Object>>,
    /// Its class.
    pub class: Option<Arc<Object>>,
    /// The class for claims that name none.
    pub default_class: Option<Arc<Object>>,
    /// Volumes that nobody has, and those that are kept for it, where it looks for one.
    pub free: Vec<Arc<Object>>,
    /// Pods that use it, those without a node included.
    pub users: Vec<Arc<Object>>,
    /// The nodes of these pods.
    pub nodes: Vec<Arc<Object>>,
}

/// What a pod of one node at a time may ask for.
const ONE_NODE: [&str; 2] = ["ReadWriteOnce", "ReadWriteOncePod"];

#[must_use]
pub fn plan(world: &World, now: Now, ids: &mut Ids) -> Plan {
    let mut plan = Plan::default();
    let claim = &*world.claim;
    if claim.is_deleting() {
        end(&mut plan, world);
        return plan;
    }
    if let Some(protected) = with_finalizer(claim, labels::PVC_PROTECTION) {
        plan.write(Class::Controller, "protecting a claim", protected);
        return plan;
    }
    match storage::volume_of(claim) {
        Some(volume) => keep(&mut plan, world, &volume),
        None => {
            find(&mut plan, world, now, ids);
            if plan.is_empty() {
                set_phase(&mut plan, claim, "Pending", None);
            }
        }
    }
    plan
}

/// Lets a claim in deletion go once no pod that is on a node uses it.
fn end(plan: &mut Plan, world: &World) {
    let using: Vec<&str> = world
        .users
        .iter()
        .filter(|pod| pod.node.is_some())
        .map(|pod| pod.name())
        .collect();
    if !using.is_empty() {
        let message = format!("it is used by {}; it goes when they are gone", using.join(", "));
        plan.wait(world.claim.key(), "InUse", message);
        return;
    }
    let released = without_finalizer(&world.claim, labels::PVC_PROTECTION);
    plan.writes(
        Class::Controller,
        "no pod uses the claim",
        released.into_iter().collect(),
    );
}

/// A claim that names its volume: bound, waiting for it, or lost.
fn keep(plan: &mut Plan, world: &World, name: &Key) {
    let claim = &*world.claim;
    let completed = claim.annotation(storage::BIND_COMPLETED).is_some();
    let Some(volume) = &world.volume else {
        if completed {
            lose(
                plan,
                claim,
                "ClaimLost",
                "its volume is gone, and the data on it is lost",
            );
        } else {
            plan.wait(
                claim.key(),
                "VolumeMissing",
                format!("there is no volume {}", name.name),
            );
            set_phase(plan, claim, "Pending", None);
        }
        return;
    };
    let holder = holder(volume);
    let ours = storage::claim_of(volume).is_none_or(|kept| kept == claim.key());
    if !ours || holder.as_ref().is_some_and(|holder| **holder != *claim.uid().0) {
        if completed {
            lose(plan, claim, "ClaimMisbound", "its volume is bound to another claim");
        } else {
            let message = format!("the volume {} belongs to another claim", volume.name());
            plan.wait(claim.key(), "VolumeTaken", message);
            set_phase(plan, claim, "Pending", None);
        }
        return;
    }
    if holder.is_none() {
        plan.write(
            Class::Controller,
            "binding a volume to its claim",
            bound(volume, claim, false),
        );
    }
    if !completed {
        let mut object = Object::clone(claim);
        annotate(&mut object, &[(storage::BIND_COMPLETED, "yes")]);
        plan.write(
            Class::Controller,
            "binding a claim to its volume",
            replace_of(claim, object),
        );
        // The status follows with the next look, which the change leads to.
        return;
    }
    set_phase(plan, claim, "Bound", Some(volume));
}

fn lose(plan: &mut Plan, claim: &Object, reason: &str, message: &str) {
    let lost = claim
        .status
        .as_ref()
        .is_some_and(|status| status.word("phase") == Some("Lost"));
    if !lost {
        plan.warn(SOURCE, claim, reason, message);
    }
    set_phase(plan, claim, "Lost", None);
}

/// A claim without a volume: one that is there, or a new one on the node of its first pod.
fn find(plan: &mut Plan, world: &World, now: Now, ids: &mut Ids) {
    let claim = &*world.claim;
    let spec = match claim.spec::<PersistentVolumeClaimSpec>() {
        Ok(spec) => spec,
        Err(error) => {
            plan.wait(claim.key(), "InvalidSpec", error.to_string());
            return;
        }
    };
    let Some(wanted) = &spec.storage_class_name else {
        match &world.default_class {
            Some(class) => {
                let object = with_spec(claim, &[("storageClassName", class.name().into())]);
                plan.write(
                    Class::Controller,
                    "giving a claim the default class",
                    replace_of(claim, object),
                );
            }
            None => plan.wait(
                claim.key(),
                "NoClass",
                "it names no storage class, and none is the default",
            ),
        }
        return;
    };
    let class = world.class.as_deref();
    if class.is_none() && !wanted.is_empty() {
        let message = format!("storageclass.storage.k8s.io {wanted:?} not found");
        plan.warn(SOURCE, claim, "ProvisioningFailed", &message);
        plan.wait(claim.key(), "NoClass", message);
        return;
    }
    let waits = class.is_some_and(class::waits_for_consumer);
    let consumer = world.users.iter().find_map(|pod| {
        let node = pod.node.as_deref().filter(|_| !pod.is_deleting())?;
        world.nodes.iter().find(|known| known.name() == node)
    });
    if waits && consumer.is_none() {
        let message = "it is bound once a pod that uses it has a node";
        if world.users.is_empty() {
            plan.note(SOURCE, claim, "WaitForFirstConsumer", message);
        }
        plan.wait(claim.key(), "WaitForFirstConsumer", message);
        return;
    }
    let facts = consumer.map(|node| Facts::of(node));
    if let Some(volume) = matching::best(claim, &world.free, facts.as_ref()) {
        take(plan, claim, &volume);
        return;
    }
    let refusal = match (class, consumer) {
        (Some(class), Some(node)) if class::is_provisioned(class) && waits => match unfit(&spec) {
            None => {
                provision(plan, world, &spec, class, node, now, ids);
                return;
            }
            Some(why) => why,
        },
        (Some(class), _) if class::is_provisioned(class) => format!(
            "the class {} binds at once, and a local volume can only follow a pod: set its volumeBindingMode to WaitForFirstConsumer",
            class.name()
        ),
        _ => "no persistent volumes available for this claim and no storage class makes one".to_owned(),
    };
    let reason = if class.is_some_and(class::is_provisioned) {
        "ProvisioningFailed"
    } else {
        "FailedBinding"
    };
    plan.warn(SOURCE, claim, reason, &refusal);
    plan.wait(claim.key(), reason, refusal);
}

/// Why no local volume can be made for a claim.
fn unfit(spec: &PersistentVolumeClaimSpec) -> Option<String> {
    let mut modes = spec.access_modes.iter().flatten();
    if let Some(mode) = modes.find(|mode| !ONE_NODE.contains(&mode.as_str())) {
        return Some(format!(
            "a local volume is on one node and cannot be {mode}; ask for ReadWriteOnce"
        ));
    }
    spec.selector
        .is_some()
        .then(|| "a claim with a selector takes volumes that are there; none is made for it".to_owned())
}

/// Binds a volume that is there and its claim to each other: the volume first, so that no other claim
/// can take it.
fn take(plan: &mut Plan, claim: &Object, volume: &Object) {
    if holder(volume).is_none() {
        plan.write(
            Class::Controller,
            "binding a volume to its claim",
            bound(volume, claim, true),
        );
    }
    let mut object = with_spec(claim, &[("volumeName", volume.name().into())]);
    annotate(
        &mut object,
        &[(storage::BIND_COMPLETED, "yes"), (storage::BOUND_BY_CONTROLLER, "yes")],
    );
    plan.write(
        Class::Controller,
        "binding a claim to its volume",
        replace_of(claim, object),
    );
}

/// The write that gives a volume its claim.
fn bound(volume: &Object, claim: &Object, chosen: bool) -> Write {
    let mut object = with_spec(volume, &[("claimRef", reference(claim))]);
    if chosen {
        annotate(&mut object, &[(storage::BOUND_BY_CONTROLLER, "yes")]);
    }
    replace_of(volume, object)
}

/// The uid of the claim that has a volume.
pub(super) fn holder(volume: &Object) -> Option<Cow<'_, str>> {
    let uid = volume.body.at("spec/claimRef/uid")?.text()?;
    (!uid.is_empty()).then_some(uid)
}

fn reference(claim: &Object) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.namespace(), "name": claim.name(),
        "uid": claim.uid(), "resourceVersion": claim.version.to_string(),
    })
}

/// Makes a volume on a node for a claim, and binds the two.
fn provision(
    plan: &mut Plan,
    world: &World,
    spec: &PersistentVolumeClaimSpec,
    class: &Object,
    node: &Object,
    now: Now,
    ids: &mut Ids,
) {
    let claim = &*world.claim;
    let name = format!("pvc-{}", claim.uid());
    if let Some(stray) = world.free.iter().find(|volume| volume.name() == name) {
        // It was made where a pod was that is gone again: it makes way for one that is of use.
        plan.wait(
            claim.key(),
            "VolumeElsewhere",
            format!("the volume {name}, made on another node, goes first"),
        );
        plan.writes(
            Class::Controller,
            "removing a volume that no pod can reach",
            owners::delete(stray, None, now).into_iter().collect(),
        );
        return;
    }
    let docker = storage::DockerVolume {
        name: format!("towline-{name}"),
        node: node.name().into(),
    };
    let host = node.label(labels::HOSTNAME).unwrap_or_else(|| node.name());
    let requests = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    let size = requests
        .and_then(|all| all.get("storage"))
        .map_or("0", |size| size.0.as_str());
    let reclaim = class.body.at("reclaimPolicy").map(Part::value);
    let mut value = json!({"spec": {
        "capacity": {"storage": size},
        "accessModes": spec.access_modes,
        "claimRef": reference(claim),
        "persistentVolumeReclaimPolicy": reclaim.unwrap_or_else(|| "Delete".into()),
        "storageClassName": class.name(),
        "volumeMode": "Filesystem",
        "csi": storage::source(&docker),
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{
            "matchExpressions": [{"key": labels::HOSTNAME, "operator": "In", "values": [host]}],
        }]}},
    }});
    defaulting::default_object(Kind::PersistentVolume, &mut value);
    let body = match value {
        Value::Object(body) => body,
        _ => Map::new(),
    };
    let mut volume = Object {
        kind: Kind::PersistentVolume,
        meta: Shared::new(Meta {
            name: Some(name.as_str().into()),
            uid: Some(ids.uid().0),
            creation_timestamp: Some(Time(now.wall)),
            finalizers: Some(vec![storage::PV_PROTECTION.to_owned(), storage::DOCKER_VOLUME.to_owned()].into()),
            ..Meta::default()
        }),
        body: Body::new(body),
        node: None,
        status: Some(json!({"phase": "Pending"}).into()),
        version: 0,
    };
    annotate(&mut volume, &[(storage::PROVISIONED_BY, storage::PROVISIONER)]);
    plan.write(
        Class::Controller,
        "making a volume for a claim",
        Write::new(Op::Create(volume)),
    );
    let mut object = with_spec(claim, &[("volumeName", name.clone().into())]);
    annotate(
        &mut object,
        &[
            (storage::BIND_COMPLETED, "yes"),
            (storage::BOUND_BY_CONTROLLER, "yes"),
            (storage::SELECTED_NODE, node.name()),
            (storage::STORAGE_PROVISIONER, storage::PROVISIONER),
        ],
    );
    plan.write(
        Class::Controller,
        "binding a claim to its volume",
        replace_of(claim, object),
    );
    plan.note(
        SOURCE,
        claim,
        "ProvisioningSucceeded",
        format!("Successfully provisioned volume {name} on node {}", node.name()),
    );
}

/// Adds a step that says how a claim is, if its status does not say so yet.
fn set_phase(plan: &mut Plan, claim: &Object, phase: &str, volume: Option<&Arc<Object>>) {
    let mut status = blank(claim.status.as_ref());
    status["phase"] = phase.into();
    let spec = volume.and_then(|volume| volume.body.at("spec"));
    for (field, from) in [("accessModes", "accessModes"), ("capacity", "capacity")] {
        match (spec.and_then(|spec| spec.get(from)), status.as_object_mut()) {
            (Some(part), Some(status)) => drop(status.insert(field.to_owned(), part.value())),
            (None, Some(status)) if phase == "Pending" => drop(status.remove(field)),
            _ => {}
        }
    }
    if claim.status != Some((&status).into()) {
        let mut write = status_of(claim, status);
        // The claim itself may be written before, by the same plan.
        write.version = None;
        plan.write(Class::Status, "telling how a claim is", write);
    }
}

pub(super) fn with_spec(object: &Object, fields: &[(&str, Value)]) -> Object {
    let mut body = object.body.value();
    let spec = body.entry("spec").or_insert_with(|| json!({}));
    for (field, value) in fields {
        spec[*field] = value.clone();
    }
    Object {
        body: Body::new(body),
        ..object.clone()
    }
}

fn annotate(object: &mut Object, annotations: &[(&str, &str)]) {
    let all = object.meta.annotations.get_or_insert_default();
    for (name, value) in annotations {
        all.insert((*name).to_owned(), (*value).to_owned());
    }
}

/// The write that adds a finalizer, if it is not there.
pub(super) fn with_finalizer(object: &Object, name: &str) -> Option<Write> {
    let mut held = object.clone();
    let finalizers = held.meta.finalizers.get_or_insert_default();
    if finalizers.iter().any(|finalizer| finalizer == name) {
        return None;
    }
    finalizers.push(name.to_owned());
    Some(replace_of(object, held))
}

/// The write that takes a finalizer off, if it is there.
pub(super) fn without_finalizer(object: &Object, name: &str) -> Option<Write> {
    let mut left = object.clone();
    let mut finalizers = left.meta.finalizers.take().unwrap_or_default();
    let before = finalizers.len();
    finalizers.retain(|finalizer| finalizer != name);
    let fewer = finalizers.len() < before;
    left.meta.finalizers = (!finalizers.is_empty()).then_some(finalizers);
    fewer.then(|| replace_of(object, left))
}
