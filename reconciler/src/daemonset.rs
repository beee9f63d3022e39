//! DaemonSets: one pod of a template on each node that takes it.
//!
//! The pods are made here and bound by the scheduler: each asks for its node by a node affinity.
//!
//! <https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/>

pub mod eligible;
mod pod;
mod rolling;
mod status;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::apps::v1::DaemonSetSpec;
use rustc_hash::FxHashMap;
use schemas::{Key, Kind, Now, Object, Uid, template};
use store::{Class, Op, Write};

use crate::{
    ids::Ids,
    owners,
    plan::{Plan, status_of},
    pods::{self, is_active, phase},
    revision::{self, Current},
    scheduler::node::Facts,
};
use eligible::{Rules, Verdict};

/// What is looked at for one DaemonSet.
#[derive(Clone, Debug)]
pub struct World {
    pub set: Arc<Object>,
    /// All nodes, by name.
    pub nodes: Vec<Arc<Facts>>,
    /// Pods that it controls, finished and deleted ones included.
    pub pods: Vec<Arc<Object>>,
    /// ControllerRevisions that it controls.
    pub revisions: Vec<Arc<Object>>,
    /// Pods and ControllerRevisions of its namespace that nobody controls.
    pub strays: Vec<Arc<Object>>,
    /// Whatever has the name that a new revision of its template would get.
    pub named: Option<Arc<Object>>,
    /// Since when each pod is seen ready (monotonic).
    pub ready_since: FxHashMap<Uid, Duration>,
    /// During an update: when (monotonic) it counts on each pod that is ready.
    pub steady: FxHashMap<Uid, Duration>,
    /// Failed pods that are not replaced before a time (monotonic).
    pub not_before: FxHashMap<Uid, Duration>,
    /// Why the last attempt to make or remove pods failed.
    pub failure: Option<String>,
}

const SOURCE: &str = "daemonset-controller";
/// At most so many pods are made or removed in one look.
const BURST: usize = 500;

/// A DaemonSet with its nodes and what is on them.
struct Spread<'a> {
    world: &'a World,
    spec: &'a DaemonSetSpec,
    current: &'a Current,
    seats: Vec<Seat<'a>>,
    /// Pods that wait for a node that is not there.
    lost: Vec<&'a Arc<Object>>,
    min_ready: Duration,
    now: Now,
}

/// One node.
struct Seat<'a> {
    name: &'a Arc<str>,
    verdict: Verdict,
    /// The set's pods on it or meant for it: those on it first, then the oldest.
    pods: Vec<&'a Arc<Object>>,
}

/// What is to come and to go.
#[derive(Default)]
struct Moves<'a> {
    make: Vec<&'a Arc<str>>,
    remove: Vec<&'a Arc<Object>>,
}

impl Moves<'_> {
    fn is_empty(&self) -> bool {
        self.make.is_empty() && self.remove.is_empty()
    }
}

/// Brings a DaemonSet's pods a step further.
#[must_use]
pub fn plan(world: &World, now: Now, ids: &mut Ids) -> Plan {
    let mut plan = Plan::default();
    let set = &*world.set;
    if set.is_deleting() {
        return plan;
    }
    let spec = match set.spec::<DaemonSetSpec>() {
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
    let owned: Vec<_> = world.pods.iter().chain(&world.revisions).cloned().collect();
    let strays: Vec<_> = world.strays.iter().filter(|stray| is_active(stray)).cloned().collect();
    let claims = owners::claims(set, &selector, &owned, &strays);
    if !claims.is_empty() {
        plan.writes(Class::Controller, "adopting and releasing pods", claims);
        return plan;
    }
    let named = world.named.as_ref();
    let Ok(mut current) = revision::current(set, &spec.template, &world.revisions, named, now, ids) else {
        plan.write(
            Class::Status,
            "taking another name for the revision",
            revision::collided(set),
        );
        return plan;
    };
    if let Some(write) = current.write.take() {
        plan.write(Class::Controller, "noting the template as a revision", write);
    }
    let spread = Spread::new(world, &spec, &current, now);
    let mut moves = spread.keep(&mut plan);
    if moves.is_empty() {
        moves = spread.replace();
    }
    let quiet = moves.is_empty();
    spread.act(&mut plan, moves, ids);
    let (status, next) = status::of(&spread);
    for delay in next.into_iter().chain(spread.settling()) {
        plan.look_again(delay);
    }
    if set.status != Some((&status).into()) && (quiet || world.failure.is_some()) {
        // When pods are about to come or go, the next look counts them.
        plan.write(Class::Status, "counting pods", status_of(set, status));
    }
    if plan.is_empty() {
        let marks: Vec<&str> = current.marks.iter().map(String::as_str).collect();
        let limit = spec.revision_history_limit;
        plan.writes(
            Class::Controller,
            "removing revisions beyond the history limit",
            revision::beyond_history(set, &world.revisions, &world.pods, &marks, limit, now),
        );
    }
    plan
}

impl<'a> Spread<'a> {
    fn new(world: &'a World, spec: &'a DaemonSetSpec, current: &'a Current, now: Now) -> Self {
        let rules = Rules::of(&spec.template);
        let mut by_node: BTreeMap<Cow<'_, str>, Vec<&Arc<Object>>> = BTreeMap::new();
        for pod in &world.pods {
            // One that has ended and is on its way out keeps no place.
            if pod.is_deleting() && pods::is_finished(pod) {
                continue;
            }
            if let Some(node) = eligible::target(pod) {
                by_node.entry(node).or_default().push(pod);
            }
        }
        let mut seats = Vec::with_capacity(world.nodes.len());
        for facts in &world.nodes {
            let mut pods = by_node.remove(&*facts.name).unwrap_or_default();
            pods.sort_by_cached_key(|pod| {
                let created = pod.meta.creation_timestamp.as_ref().map(|time| time.0);
                (pod.node.is_none(), created, pod.name().to_owned())
            });
            seats.push(Seat {
                name: &facts.name,
                verdict: rules.judge(facts),
                pods,
            });
        }
        Self {
            world,
            spec,
            current,
            seats,
            lost: by_node.into_values().flatten().collect(),
            min_ready: Duration::from_secs(u64::try_from(spec.min_ready_seconds.unwrap_or(0)).unwrap_or(0)),
            now,
        }
    }

    /// How long until a pod is available; none if it is not ready.
    fn ripens(&self, pod: &Object) -> Option<Duration> {
        let since = self.world.ready_since.get(&pod.uid()).copied();
        pods::ripens(pod, since, self.min_ready, self.now)
    }

    fn is_available(&self, pod: &Object) -> bool {
        self.ripens(pod) == Some(Duration::ZERO)
    }

    /// How long until an update counts on a pod: it is available, and likely to go on.
    fn steadies(&self, pod: &Object) -> Option<Duration> {
        let at = self.world.steady.get(&pod.uid()).copied().unwrap_or_default();
        let left = at.saturating_sub(self.now.monotonic);
        self.ripens(pod).map(|ripens| ripens.max(left))
    }

    fn is_steady(&self, pod: &Object) -> bool {
        self.steadies(pod) == Some(Duration::ZERO)
    }

    /// How long until the next pod of the new template counts that does not yet.
    fn settling(&self) -> Option<Duration> {
        let pods = self.seats.iter().flat_map(|seat| &seat.pods);
        let new = pods.filter(|pod| self.world.steady.contains_key(&pod.uid()) && self.current.is_of(pod));
        new.filter_map(|pod| self.steadies(pod))
            .filter(|left| !left.is_zero())
            .min()
    }

    /// One pod on each node that takes one, none elsewhere, whatever their template.
    fn keep(&self, plan: &mut Plan) -> Moves<'a> {
        let mut moves = Moves::default();
        for seat in &self.seats {
            match seat.verdict {
                Verdict::Runs if seat.pods.is_empty() => moves.make.push(seat.name),
                Verdict::Runs | Verdict::Stays => self.keep_seat(seat, plan, &mut moves),
                Verdict::Leaves => moves.remove.extend(seat.pods.iter().filter(|pod| !pod.is_deleting())),
            }
        }
        let unbound = self.lost.iter().filter(|pod| pod.node.is_none() && !pod.is_deleting());
        moves.remove.extend(unbound);
        moves
    }

    fn keep_seat(&self, seat: &Seat<'a>, plan: &mut Plan, moves: &mut Moves<'a>) {
        let set = &*self.world.set;
        let mut running = Vec::new();
        for pod in seat.pods.iter().filter(|pod| !pod.is_deleting()) {
            match phase(pod) {
                "Failed" => {
                    let wait = self.world.not_before.get(&pod.uid()).copied().unwrap_or_default();
                    let wait = wait.saturating_sub(self.now.monotonic);
                    if wait.is_zero() {
                        let message = format!(
                            "Found failed daemon pod {}/{} on node {}, will try to kill it",
                            pod.namespace(),
                            pod.name(),
                            seat.name
                        );
                        plan.warn(SOURCE, set, "FailedDaemonPod", message);
                        moves.remove.push(pod);
                    } else {
                        plan.look_again(wait);
                    }
                }
                "Succeeded" => {
                    let message = format!(
                        "Found succeeded daemon pod {}/{} on node {}, will try to delete it",
                        pod.namespace(),
                        pod.name(),
                        seat.name
                    );
                    plan.note(SOURCE, set, "SucceededDaemonPod", message);
                    moves.remove.push(pod);
                }
                _ => running.push(*pod),
            }
        }
        if running.len() < 2 {
            return;
        }
        if !rolling::surges(self.spec) {
            moves.remove.extend(running.drain(1..));
            return;
        }
        // A surge has an old and a new pod side by side, and no third one.
        let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|pod| self.current.is_of(pod));
        moves.remove.extend(new.iter().skip(1));
        moves.remove.extend(old.iter().skip(1));
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!pods::is_ready(old) || self.is_steady(new))
        {
            moves.remove.push(old);
        }
    }

    /// Adds the writes that make and remove pods.
    fn act(&self, plan: &mut Plan, moves: Moves<'_>, ids: &mut Ids) {
        let set = &*self.world.set;
        if let Some(message) = &self.world.failure
            && !moves.is_empty()
        {
            plan.warn(SOURCE, set, "FailedCreate", format!("Error creating: {message}"));
        }
        let shared = pod::Shared::of(&self.spec.template);
        let mut writes = Vec::new();
        for node in moves.make.iter().take(BURST) {
            let name = template::generated_name(&format!("{}-", set.name()), &ids.suffix());
            let pod = shared.pod(set, node, &name, self.current.mark(), &ids.uid(), self.now);
            plan.note(SOURCE, set, "SuccessfulCreate", format!("Created pod: {name}"));
            writes.push(Write::new(Op::Create(pod)));
        }
        plan.growing(Class::Controller, "making pods on nodes that have none", writes);
        let mut writes = Vec::new();
        for pod in moves.remove.iter().take(BURST) {
            writes.extend(owners::delete(pod, None, self.now));
            plan.note(SOURCE, set, "SuccessfulDelete", format!("Deleted pod: {}", pod.name()));
        }
        plan.writes(Class::Controller, "removing pods", writes);
    }
}

/// The key of a DaemonSet that controls `object`.
#[must_use]
pub fn controller_of(object: &Object) -> Option<Key> {
    owners::controller_of(object, &[Kind::DaemonSet])
}

/// The name that a new revision of a DaemonSet's template gets.
#[must_use]
pub fn revision_name(set: &Object) -> Option<String> {
    let spec = set.spec::<DaemonSetSpec>().ok()?;
    Some(revision::name(set, &spec.template))
}

/// Whether a change of a node matters to a DaemonSet.
#[must_use]
pub fn minds(set: &Object, old: Option<&Facts>, new: Option<&Facts>) -> bool {
    let (Some(old), Some(new)) = (old, new) else {
        return true;
    };
    set.spec::<DaemonSetSpec>().is_ok_and(|spec| {
        let rules = Rules::of(&spec.template);
        rules.judge(old) != rules.judge(new)
    })
}

/// The place of a pod of a DaemonSet: its node.
#[must_use]
pub fn place(pod: &Object) -> Option<Arc<str>> {
    eligible::target(pod).map(Into::into)
}

#[cfg(test)]
mod tests;
