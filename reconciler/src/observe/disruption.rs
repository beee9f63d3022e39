//! The world of a disruption budget.

use std::sync::Arc;

use schemas::{Key, Kind, Object, Part, Uid};
use store::View;

use crate::{
    deployment,
    disruption::{Scale, World},
    index::Index,
};

pub(crate) fn budget(view: &View<'_>, index: &Index, key: &Key) -> Option<World> {
    let budget = view.get(key)?.clone();
    let pods: Vec<_> = index
        .members
        .pods(key)
        .filter_map(|pod| view.get(pod).cloned())
        .collect();
    let mut scales = rustc_hash::FxHashMap::default();
    for owner in pods.iter().filter_map(|pod| pod.controller()) {
        let uid = Uid::from(owner.uid.as_str());
        if scales.contains_key(&uid) {
            continue;
        }
        if let Some(owner) = view.by_uid(&uid) {
            scales.insert(uid, scale(view, owner));
        }
    }
    Some(World { budget, pods, scales })
}

/// What an owner of pods says how many there shall be: a ReplicaSet of a Deployment leaves that to it.
fn scale(view: &View<'_>, owner: &Arc<Object>) -> Scale {
    let deployment = deployment::controller_of(owner).and_then(|key| view.get(&key));
    let says = deployment.unwrap_or(owner);
    let scaled = matches!(
        says.kind,
        Kind::Deployment | Kind::ReplicaSet | Kind::ReplicationController | Kind::StatefulSet
    );
    if !scaled {
        return Scale::None(format!("{} {:?}", says.kind, says.name()));
    }
    let replicas = says.body.at("spec/replicas").and_then(Part::int);
    let replicas = replicas.and_then(|replicas| i32::try_from(replicas).ok());
    Scale::Wanted(says.uid(), replicas.unwrap_or(1))
}

/// Whether a change of an object may change the count of pods that somebody expects.
pub(crate) fn is_scale(old: Option<&Object>, new: Option<&Object>) -> bool {
    let replicas = |object: &Object| object.body.at("spec/replicas").and_then(Part::int);
    match (old, new) {
        (Some(old), Some(new)) => {
            replicas(old) != replicas(new) || old.meta.owner_references != new.meta.owner_references
        }
        _ => true,
    }
}
