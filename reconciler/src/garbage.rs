//! Garbage collection: what lost all its owners goes; what waits for its dependents is helped on.
//!
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use schemas::{Kind, Now, Object, deletion::Propagation, labels};
use store::{Class, Write};

use crate::{
    job::tracking,
    owners,
    plan::{Plan, replace_of},
};

/// One object with its owners and, while it waits for them, its dependents.
#[derive(Clone, Debug)]
pub struct World {
    pub object: Arc<Object>,
    /// Each owner reference with the object that has its uid, if there is one.
    pub owners: Vec<(OwnerReference, Option<Arc<Object>>)>,
    pub dependents: Vec<Arc<Object>>,
}

/// Whether an object in deletion waits for its dependents.
#[must_use]
pub fn waits_for_dependents(object: &Object) -> bool {
    object.is_deleting()
        && (has_finalizer(object, labels::FOREGROUND_DELETION) || has_finalizer(object, labels::ORPHAN))
}

#[must_use]
pub fn plan(world: &World, now: Now) -> Plan {
    let mut plan = Plan::default();
    let object = &*world.object;
    let counted = world
        .owners
        .iter()
        .any(|(owner, live)| owner.controller == Some(true) && live.is_some());
    if tracking::is_tracked(object) && !counted {
        // The Job that would count it is gone; the pod itself goes with the next look.
        let free = tracking::untrack(object).into_iter().collect();
        plan.writes(Class::Controller, "its Job is gone and counts nothing any more", free);
        return plan;
    }
    if waits_for_dependents(object) {
        release_dependents(&mut plan, world, now);
    } else if !object.is_deleting() && !world.owners.is_empty() {
        collect(&mut plan, world, now);
    }
    plan
}

/// The owner's side: dependents are orphaned, or deleted before it.
fn release_dependents(plan: &mut Plan, world: &World, now: Now) {
    let object = &*world.object;
    let uid = object.uid();
    if has_finalizer(object, labels::ORPHAN) {
        let orphaned: Vec<Write> = world
            .dependents
            .iter()
            .map(|dependent| without_owner(dependent, |owner| *owner.uid == *uid.0))
            .collect();
        plan.writes(Class::Controller, "orphaning dependents", orphaned);
        plan.write(
            Class::Controller,
            "its dependents are orphaned",
            without_finalizer(object, labels::ORPHAN),
        );
        return;
    }
    let blocks = |dependent: &&Arc<Object>| {
        let mut owners = dependent.meta.owner_references.iter().flatten();
        owners.any(|owner| *owner.uid == *uid.0 && owner.block_owner_deletion == Some(true))
    };
    let deletes: Vec<Write> = world
        .dependents
        .iter()
        .filter_map(|dependent| {
            // What may own things itself waits for these, so that nothing outlives the first owner.
            let propagation =
                (dependent.kind != Kind::Pod && !dependent.is_deleting()).then_some(Propagation::Foreground);
            owners::delete(dependent, propagation, now)
        })
        .collect();
    plan.writes(Class::Controller, "deleting dependents before their owner", deletes);
    let left = world.dependents.iter().filter(blocks).count();
    if left == 0 {
        plan.write(
            Class::Controller,
            "its dependents are gone",
            without_finalizer(object, labels::FOREGROUND_DELETION),
        );
    } else {
        plan.wait(
            object.key(),
            "Dependents",
            format!("{left} dependents must be gone first"),
        );
    }
}

/// The dependent's side: it goes with the last of its owners.
fn collect(plan: &mut Plan, world: &World, now: Now) {
    let object = &*world.object;
    let absent = |owner: &Option<Arc<Object>>| owner.is_none();
    let waiting = |owner: &Option<Arc<Object>>| {
        owner
            .as_ref()
            .is_some_and(|owner| owner.is_deleting() && has_finalizer(owner, labels::FOREGROUND_DELETION))
    };
    let solid = world.owners.iter().any(|(_, owner)| !absent(owner) && !waiting(owner));
    if solid {
        let gone: Vec<&str> = world
            .owners
            .iter()
            .filter(|(_, owner)| absent(owner) || waiting(owner))
            .map(|(reference, _)| reference.uid.as_str())
            .collect();
        if !gone.is_empty() {
            let write = without_owner(object, |owner| gone.contains(&owner.uid.as_str()));
            plan.write(Class::Controller, "some of its owners are gone", write);
        }
        return;
    }
    let foreground = world.owners.iter().any(|(_, owner)| waiting(owner)) && object.kind != Kind::Pod;
    let propagation = foreground.then_some(Propagation::Foreground);
    plan.writes(
        Class::Controller,
        "all its owners are gone",
        owners::delete(object, propagation, now).into_iter().collect(),
    );
}

fn has_finalizer(object: &Object, name: &str) -> bool {
    object
        .meta
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == name)
}

fn without_owner(object: &Object, gone: impl Fn(&OwnerReference) -> bool) -> Write {
    let mut left = object.clone();
    let mut owners = left.meta.owner_references.take().unwrap_or_default();
    owners.retain(|owner| !gone(owner));
    left.meta.owner_references = (!owners.is_empty()).then_some(owners);
    replace_of(object, left)
}

fn without_finalizer(object: &Object, name: &str) -> Write {
    let mut left = object.clone();
    let mut finalizers = left.meta.finalizers.take().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != name);
    left.meta.finalizers = (!finalizers.is_empty()).then_some(finalizers);
    replace_of(object, left)
}

#[cfg(test)]
mod tests;
