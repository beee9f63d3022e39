//! StatefulSets: pods with a number, a name and claims of their own that stay theirs.
//!
//! <https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/>

pub mod claims;
pub mod identity;
mod replicas;
mod status;
mod update;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::apps::v1::StatefulSetSpec;
use rustc_hash::FxHashMap;
use schemas::{Key, Kind, Now, Object, Uid};
use store::{Class, Write};

use crate::{
    ids::Ids,
    owners,
    plan::{Plan, status_of},
    pods::{self, is_active, is_ready, phase},
    revision::{self, Current},
};

/// What is looked at for one StatefulSet.
#[derive(Clone, Debug)]
pub struct World {
    pub set: Arc<Object>,
    /// Pods that it controls, finished and deleted ones included.
    pub pods: Vec<Arc<Object>>,
    /// ControllerRevisions that it controls.
    pub revisions: Vec<Arc<Object>>,
    /// Pods and ControllerRevisions of its namespace that nobody controls.
    pub strays: Vec<Arc<Object>>,
    /// Whatever has the name that a new revision of its template would get.
    pub named: Option<Arc<Object>>,
    /// The PersistentVolumeClaims of its pods and of those to come, by name.
    pub claims: BTreeMap<String, Arc<Object>>,
    /// Since when each pod is seen ready (monotonic).
    pub ready_since: FxHashMap<Uid, Duration>,
    /// Failed pods that are not replaced before a time (monotonic).
    pub not_before: FxHashMap<Uid, Duration>,
    /// Why the last attempt to make or remove something failed.
    pub failure: Option<String>,
}

const SOURCE: &str = "statefulset-controller";
/// At most so many pods are made or removed in one look.
const BURST: usize = 500;

/// A StatefulSet as it is.
struct Row<'a> {
    world: &'a World,
    set: &'a Object,
    spec: &'a StatefulSetSpec,
    /// The revision of its template.
    update: &'a Current,
    /// The name of the revision that pods below the partition are of.
    current: String,
    /// The pods of the ordinals that there shall be, in order.
    seats: Vec<Option<&'a Arc<Object>>>,
    /// Pods of other ordinals, the highest first.
    condemned: Vec<&'a Arc<Object>>,
    start: i64,
    min_ready: Duration,
    now: Now,
}

/// What is to be written.
#[derive(Default)]
struct Acts {
    /// Claims to make or to give another owner, before anything else.
    claims: Vec<Write>,
    pods: Vec<Write>,
    /// Something is done or waited for that comes before all the rest.
    stops: bool,
}

/// Brings a StatefulSet's pods and claims a step further.
#[must_use]
pub fn plan(world: &World, now: Now, ids: &mut Ids) -> Plan {
    let mut plan = Plan::default();
    let set = &*world.set;
    let spec = match set.spec::<StatefulSetSpec>() {
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
        let owned: Vec<_> = world.pods.iter().chain(&world.revisions).cloned().collect();
        let may_be_ours = |stray: &&Arc<Object>| {
            is_active(stray) && (stray.kind != Kind::Pod || identity::ordinal(set.name(), stray.name()).is_some())
        };
        let strays: Vec<_> = world.strays.iter().filter(may_be_ours).cloned().collect();
        let claims = owners::claims(set, &selector, &owned, &strays);
        if !claims.is_empty() {
            plan.writes(Class::Controller, "adopting and releasing pods", claims);
            return plan;
        }
    }
    let named = world.named.as_ref();
    let Ok(mut update) = revision::current(set, &spec.template, &world.revisions, named, now, ids) else {
        plan.write(
            Class::Status,
            "taking another name for the revision",
            revision::collided(set),
        );
        return plan;
    };
    if set.is_deleting() {
        update.write = None;
    }
    if let Some(write) = update.write.take() {
        plan.write(Class::Controller, "noting the template as a revision", write);
    }
    let row = Row::new(world, &spec, &update, now);
    let mut acts = Acts::default();
    if !set.is_deleting() {
        row.keep_claims(&mut acts);
        row.keep_replicas(&mut acts, &mut plan, ids);
        if !acts.stops {
            row.scale_in(&mut acts, &mut plan);
        }
        if !acts.stops && acts.pods.is_empty() {
            row.roll(&mut acts, &mut plan);
        }
    }
    let quiet = acts.pods.is_empty();
    if let Some(message) = &world.failure
        && !quiet
    {
        plan.warn(SOURCE, set, "FailedCreate", format!("Error creating: {message}"));
    }
    plan.writes(Class::Controller, "keeping claims for pods", acts.claims);
    plan.growing(Class::Controller, "making and removing pods", acts.pods);
    let (status, next) = status::of(&row);
    if let Some(delay) = next {
        plan.look_again(delay);
    }
    if set.status != Some((&status).into()) && (quiet || world.failure.is_some()) {
        // When pods are about to come or go, the next look counts them.
        plan.write(Class::Status, "counting pods", status_of(set, status));
    }
    if plan.is_empty() && !set.is_deleting() {
        let mut kept: Vec<&str> = update.marks.iter().map(String::as_str).collect();
        kept.push(&row.current);
        let limit = spec.revision_history_limit;
        plan.writes(
            Class::Controller,
            "removing revisions beyond the history limit",
            revision::beyond_history(set, &world.revisions, &world.pods, &kept, limit, now),
        );
    }
    plan
}

impl<'a> Row<'a> {
    fn new(world: &'a World, spec: &'a StatefulSetSpec, update: &'a Current, now: Now) -> Self {
        let set = &*world.set;
        let start = identity::start(spec);
        let count = identity::replicas(spec);
        let mut seats = vec![None; count];
        let mut condemned: Vec<(i64, &Arc<Object>)> = Vec::new();
        for pod in &world.pods {
            let Some(ordinal) = identity::ordinal(set.name(), pod.name()) else {
                continue;
            };
            let seat = usize::try_from(ordinal - start).ok().and_then(|at| seats.get_mut(at));
            match seat {
                Some(seat) => *seat = Some(pod),
                None => condemned.push((ordinal, pod)),
            }
        }
        condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        let said = set.status.as_ref().and_then(|status| status.word("currentRevision"));
        let known = |name: &&str| world.revisions.iter().any(|revision| revision.name() == *name);
        Self {
            world,
            set,
            spec,
            current: said.filter(known).unwrap_or(&update.name).to_owned(),
            update,
            seats,
            condemned: condemned.into_iter().map(|(_, pod)| pod).collect(),
            start,
            min_ready: Duration::from_secs(u64::try_from(spec.min_ready_seconds.unwrap_or(0)).unwrap_or(0)),
            now,
        }
    }

    /// One after the other, each only when all before it are available.
    fn is_ordered(&self) -> bool {
        self.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn rolls(&self) -> bool {
        let strategy = self.spec.update_strategy.as_ref();
        strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
    }

    /// How many of the first pods an update leaves alone.
    fn partition(&self) -> usize {
        let rolling = self.spec.update_strategy.as_ref();
        let rolling = rolling.and_then(|strategy| strategy.rolling_update.as_ref());
        usize::try_from(rolling.and_then(|rolling| rolling.partition).unwrap_or(0)).unwrap_or(0)
    }

    /// Whether the pod at this place is to be replaced by the update.
    fn is_outdated(&self, at: usize, pod: &Object) -> bool {
        self.rolls() && at >= self.partition() && !self.update.is_of(pod)
    }

    /// How long until a pod is available; none if it does not run or is not ready.
    fn ripens(&self, pod: &Object) -> Option<Duration> {
        let since = self.world.ready_since.get(&pod.uid()).copied();
        pods::ripens(pod, since, self.min_ready, self.now).filter(|_| phase(pod) == "Running")
    }

    fn is_available(&self, pod: &Object) -> bool {
        !pod.is_deleting() && self.ripens(pod) == Some(Duration::ZERO)
    }

    fn remove(&self, pod: &Object, acts: &mut Acts, plan: &mut Plan) {
        let Some(write) = owners::delete(pod, None, self.now) else {
            return;
        };
        acts.pods.push(write);
        let message = format!(
            "delete Pod {} in StatefulSet {} successful",
            pod.name(),
            self.set.name()
        );
        plan.note(SOURCE, self.set, "SuccessfulDelete", message);
    }

    /// Pods above the last ordinal go, the highest first; ordered ones one at a time.
    fn scale_in(&self, acts: &mut Acts, plan: &mut Plan) {
        for pod in &self.condemned {
            if acts.pods.len() >= BURST {
                acts.stops = true;
                return;
            }
            if !pod.is_deleting() {
                self.remove(pod, acts, plan);
            }
            if self.is_ordered() {
                acts.stops = true;
                return;
            }
        }
    }
}

fn is_running_and_ready(pod: &Object) -> bool {
    phase(pod) == "Running" && is_ready(pod)
}

/// The key of a StatefulSet that controls `object`.
#[must_use]
pub fn controller_of(object: &Object) -> Option<Key> {
    owners::controller_of(object, &[Kind::StatefulSet])
}

/// The name that a new revision of a StatefulSet's template gets.
#[must_use]
pub fn revision_name(set: &Object) -> Option<String> {
    let spec = set.spec::<StatefulSetSpec>().ok()?;
    Some(revision::name(set, &spec.template))
}

#[cfg(test)]
mod tests;
