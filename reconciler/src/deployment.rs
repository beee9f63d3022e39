//! Deployments: one ReplicaSet for each template, scaled so that a rollout keeps its bounds.
//!
//! <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/>

mod history;
mod rolling;
mod scaling;
mod set;
mod status;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::apps::v1::DeploymentSpec;
use rustc_hash::FxHashMap;
use schemas::{Key, Kind, Now, Object, Uid, labels, template};
use store::Class;

use crate::{
    ids::Ids,
    owners,
    plan::{Plan, replace_of, status_of},
};
use set::Set;

/// What is looked at for one Deployment.
#[derive(Clone, Debug)]
pub struct World {
    pub deployment: Arc<Object>,
    /// ReplicaSets that it controls.
    pub sets: Vec<Arc<Object>>,
    /// ReplicaSets of its namespace that nobody controls.
    pub strays: Vec<Arc<Object>>,
    /// Whatever has the name that a new ReplicaSet of this template would get.
    pub named: Option<Arc<Object>>,
    /// Pods that exist for each ReplicaSet, those that are being deleted included. Only Recreate asks.
    pub pods: FxHashMap<Uid, usize>,
    /// When (monotonic) the rollout counts on each ready pod, by ReplicaSet. Only while several have pods.
    pub steady: FxHashMap<Uid, Vec<Duration>>,
    /// When this process first saw the last progress (monotonic).
    pub progress_seen: Option<Duration>,
}

/// A Deployment and its sets, as they are and as they shall be.
struct Rollout<'a> {
    object: &'a Object,
    spec: &'a DeploymentSpec,
    replicas: i32,
    max_surge: i32,
    max_unavailable: i32,
    sets: Vec<Set>,
    /// The set of the current template.
    new: Option<usize>,
    /// Its pods that are counted on, where that is known.
    steady: Option<i32>,
}

const SOURCE: &str = "deployment-controller";

/// The name that a ReplicaSet for the Deployment's template gets.
#[must_use]
pub fn set_name(deployment: &Object) -> Option<String> {
    let spec = deployment.spec::<DeploymentSpec>().ok()?;
    let collisions = deployment
        .status
        .as_ref()
        .and_then(|status| status.at("collisionCount")?.int());
    let hash = template::pod_template_hash(&spec.template, collisions.and_then(|count| i32::try_from(count).ok()));
    Some(format!("{}-{hash}", deployment.name()))
}

/// Brings a Deployment's ReplicaSets a step further.
#[must_use]
pub fn plan(world: &World, now: Now, ids: &mut Ids) -> Plan {
    let mut plan = Plan::default();
    let object = &*world.deployment;
    if object.is_deleting() {
        return plan;
    }
    let spec = match object.spec::<DeploymentSpec>() {
        Ok(spec) => spec,
        Err(error) => {
            plan.wait(object.key(), "InvalidSpec", error.to_string());
            return plan;
        }
    };
    let selector = match owners::selector(object) {
        Ok(selector) => selector,
        Err(reason) => {
            plan.waiting.push((object.key(), reason));
            return plan;
        }
    };
    let claims = owners::claims(object, &selector, &world.sets, &world.strays);
    if !claims.is_empty() {
        // With new owners the picture changes: look again with it.
        plan.writes(Class::Controller, "adopting and releasing ReplicaSets", claims);
        return plan;
    }
    let mut rollout = Rollout::new(object, &spec, &world.sets, &mut plan);
    rollout.find_new();
    if let Some(delay) = rollout.find_steady(world, now) {
        plan.look_again(delay);
    }
    let paused = spec.paused == Some(true);
    let mut status = status::Draft::of(object, now);
    status.note_pause(paused);
    let mut collided = false;
    rollout.number_revisions();
    let scales = paused || (rollout.was_scaled() && !rollout.is_recreate());
    if scales {
        rollout.scale();
    } else if rollout.is_recreate() {
        rollout.recreate(world, &mut plan);
    } else {
        rollout.roll();
    }
    let may_create = !scales && (!rollout.is_recreate() || rollout.old_are_gone(world));
    if rollout.new.is_none() && may_create {
        match &world.named {
            // The name is taken by another template: name the next one differently.
            Some(_) => collided = true,
            None => {
                if let Some(set) = rollout.new_set(ids, now) {
                    status.created(set.name());
                    plan.note(
                        SOURCE,
                        object,
                        "ScalingReplicaSet",
                        format!(
                            "Scaled up replica set {} from 0 to {}",
                            set.name(),
                            rollout.new_replicas()
                        ),
                    );
                    let create = store::Write::new(store::Op::Create(set));
                    let mut writes = vec![create];
                    writes.extend(rollout.deployment_write());
                    plan.writes(Class::Controller, "making the ReplicaSet of the new template", writes);
                }
            }
        }
    } else {
        if let Some(found) = rollout.new {
            status.found(rollout.sets[found].object.name());
        }
        let mut writes: Vec<_> = rollout.sets.iter().filter_map(Set::write).collect();
        for set in &rollout.sets {
            if let Some((from, to)) = set.scaled() {
                let how = if to > from { "up" } else { "down" };
                let message = format!("Scaled {how} replica set {} from {from} to {to}", set.object.name());
                plan.note(SOURCE, object, "ScalingReplicaSet", message);
            }
        }
        if rollout.new.is_some() {
            writes.extend(rollout.deployment_write());
        }
        plan.writes(Class::Controller, "scaling ReplicaSets", writes);
    }
    if collided {
        status.collided();
    }
    let (complete, requeue) = status.finish(&rollout, world, now);
    if let Some(delay) = requeue {
        plan.look_again(delay);
    }
    let delay_cleanup = !plan.steps.is_empty();
    if let Some(value) = status.changed(object) {
        let mut write = status_of(object, value);
        // The Deployment's own annotations may just have been written; nobody else writes its status.
        write.version = None;
        plan.write(Class::Status, "telling the Deployment's status", write);
    }
    if (complete || paused) && !delay_cleanup {
        let old = rollout.beyond_history();
        let writes = old.iter().filter_map(|set| owners::delete(set, None, now)).collect();
        plan.writes(
            Class::Controller,
            "removing ReplicaSets beyond the history limit",
            writes,
        );
    }
    plan
}

impl<'a> Rollout<'a> {
    fn new(object: &'a Object, spec: &'a DeploymentSpec, sets: &[Arc<Object>], plan: &mut Plan) -> Self {
        let replicas = spec.replicas.unwrap_or(1).max(0);
        let (max_surge, max_unavailable) = rolling::bounds(spec, replicas);
        let mut read = Vec::new();
        for set in sets {
            match Set::read(set) {
                Ok(set) => read.push(set),
                Err(error) => plan.wait(set.key(), "InvalidSpec", error.to_string()),
            }
        }
        read.sort_by_cached_key(Set::age);
        Self {
            object,
            spec,
            replicas,
            max_surge,
            max_unavailable,
            sets: read,
            new: None,
            steady: None,
        }
    }

    /// Counts the new pods that a rollout can rely on; answers when there may be more of them.
    fn find_steady(&mut self, world: &World, now: Now) -> Option<Duration> {
        let new = self.new.map(|new| self.sets[new].object.uid())?;
        let pods = world.steady.get(&new)?;
        let steady = pods.iter().filter(|at| **at <= now.monotonic).count();
        self.steady = Some(i32::try_from(steady).unwrap_or(i32::MAX));
        let next = pods.iter().filter(|at| **at > now.monotonic).min()?;
        Some(*next - now.monotonic)
    }

    /// The oldest set whose template is the Deployment's, whatever its hash says.
    fn find_new(&mut self) {
        self.new = self.sets.iter().position(|set| {
            let mut own = set.spec.template.clone().unwrap_or_default();
            if let Some(labels) = own.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
                labels.remove(labels::POD_TEMPLATE_HASH);
            }
            template::equal(&own, &self.spec.template)
        });
    }

    fn is_recreate(&self) -> bool {
        let strategy = self
            .spec
            .strategy
            .as_ref()
            .and_then(|strategy| strategy.type_.as_deref());
        strategy == Some("Recreate")
    }

    fn old(&self) -> impl Iterator<Item = (usize, &Set)> {
        let new = self.new;
        self.sets.iter().enumerate().filter(move |(at, _)| Some(*at) != new)
    }

    /// Recreate: all old pods go first; the new set follows once they are gone.
    fn recreate(&mut self, world: &World, plan: &mut Plan) {
        let gone = self.old_are_gone(world);
        let (replicas, surge) = (self.replicas, self.max_surge);
        let new = self.new;
        for (at, set) in self.sets.iter_mut().enumerate() {
            if Some(at) != new {
                set.scale_to(0, replicas, surge);
            } else if gone {
                set.scale_to(replicas, replicas, surge);
            }
        }
        if !gone {
            plan.wait(
                self.object.key(),
                "OldPodsRunning",
                "pods of the old template must be gone first (strategy Recreate)",
            );
        }
    }

    fn old_are_gone(&self, world: &World) -> bool {
        self.old()
            .all(|(_, set)| world.pods.get(&set.object.uid()).copied().unwrap_or(0) == 0)
    }
}

/// The key of a Deployment that controls `set`.
#[must_use]
pub fn controller_of(set: &Object) -> Option<Key> {
    owners::controller_of(set, &[Kind::Deployment])
}

/// Replaces the Deployment's own annotations, if they change.
fn annotate(object: &Object, annotations: &[(&str, String)]) -> Option<store::Write> {
    let mut changed = object.clone();
    let all = changed.meta.annotations.get_or_insert_default();
    for (name, value) in annotations {
        all.insert((*name).to_owned(), value.clone());
    }
    (changed.meta.annotations != object.meta.annotations).then(|| replace_of(object, changed))
}

#[cfg(test)]
mod tests;
