//! Builds the small world that a plan is made from, out of the store's copy and the index.

mod autoscaler;
mod batch;
mod disruption;
mod storage;
mod workloads;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rustc_hash::FxHashSet;
use schemas::{Key, Kind, Now, Object, Part, Uid, Unit, kind::KINDS, labels, rollout};
use store::{Heartbeats, Store, View};

use crate::{
    deployment, distrust, events, evictions, faults::Faults, finished, garbage, index::Index, namespace, nodes,
    pod_garbage, pods, release, replicaset, report, revision, scheduler, settling,
};

pub(crate) use autoscaler::autoscaler;
pub(crate) use batch::{cron_job, job};
pub(crate) use disruption::{budget, is_scale};
pub(crate) use storage::volumes;
pub(crate) use workloads::{daemon_set, stateful_set};

/// One namespace.
pub(crate) fn namespace(view: &View<'_>, index: &Index, key: &Key) -> namespace::World {
    let namespace = view.get(key).cloned();
    let desired = &index.desired;
    let manifests = if desired.commit.is_none() || desired.source_error.is_some() {
        namespace::Manifests::Unknown
    } else if desired.rows.contains_key(key) {
        namespace::Manifests::Declare
    } else if desired.units.contains_key(&Unit::of(key)) {
        namespace::Manifests::Use
    } else {
        namespace::Manifests::Nothing
    };
    let mut contents = Vec::new();
    let leaves =
        |namespace: &Arc<Object>| manifests == namespace::Manifests::Nothing && namespace::is_implicit(namespace);
    let deleting = namespace.as_ref().is_some_and(|namespace| namespace.is_deleting());
    if deleting || namespace.as_ref().is_some_and(leaves) {
        for kind in namespace::order() {
            let room = namespace::AT_ONCE - contents.len();
            let objects = view.list(kind, Some(&key.name));
            let counted = objects.filter(|object| deleting || !namespace::is_companion(object));
            contents.extend(counted.take(room).cloned());
        }
    }
    namespace::World {
        name: key.name.clone(),
        namespace,
        manifests,
        contents,
    }
}

/// A batch of declared (or no longer declared) keys.
pub(crate) fn release(store: &Store, view: &View<'_>, index: &mut Index, keys: &[Key], now: Now) -> release::World {
    let gate = index.gate().cloned();
    let desired = index.desired.clone();
    let rows: Vec<_> = keys.iter().filter_map(|key| desired.rows.get(key).cloned()).collect();
    let blockers = rows
        .iter()
        .filter_map(|row| Some((row.key.clone(), index.blocker(row)?)))
        .collect();
    let bad = rows
        .iter()
        .filter_map(|row| {
            let bad = index.bad.get(&(row.key.clone(), row.hash))?;
            Some((row.key.clone(), bad.held()))
        })
        .collect();
    let live = rows
        .iter()
        .filter_map(|row| Some((row.key.clone(), view.get(&row.key)?.clone())))
        .collect();
    let spaces = rows.iter().filter_map(|row| row.key.namespace.clone());
    let namespaces = spaces
        .filter_map(|space| {
            let live = view.get(&namespace::key(&space))?.clone();
            Some((space, live))
        })
        .collect();
    release::World {
        bad,
        desired,
        rows,
        live,
        namespaces,
        gate,
        blockers,
        behind: index.released.behind(keys),
        deletions: verdict(store, view, index, now),
        finished: keys
            .iter()
            .filter_map(|key| Some((key.clone(), ended(store, key)?)))
            .collect(),
        scaled: keys.iter().filter(|key| index.scaled.contains(key)).cloned().collect(),
    }
}

/// How an object ended that is not kept; of the kinds that end.
fn ended(store: &Store, key: &Key) -> Option<finished::Finished> {
    (key.kind == Kind::Job).then(|| finished::recall(store, key)).flatten()
}

/// What of the undeclared may go, judged anew when something changed that counts for it.
fn verdict(store: &Store, view: &View<'_>, index: &mut Index, now: Now) -> Arc<release::budget::Verdict> {
    if let Some(verdict) = &index.verdict {
        return verdict.clone();
    }
    let world = undeclared(store, view, index);
    let verdict = Arc::new(release::budget::judge(&index.desired, &world, now));
    index.verdict = Some(verdict.clone());
    verdict
}

fn undeclared(store: &Store, view: &View<'_>, index: &Index) -> release::budget::World {
    let undeclared: Vec<Arc<Object>> = index
        .undeclared()
        .iter()
        .filter_map(|key| view.get(key).cloned())
        .collect();
    let confirmations = store.confirmations();
    if undeclared.is_empty() {
        return release::budget::World {
            confirmations,
            ..release::budget::World::default()
        };
    }
    let mut contents = BTreeMap::new();
    let mut used = BTreeSet::new();
    for space in undeclared.iter().filter(|object| object.kind == Kind::Namespace) {
        let mut inside = Vec::new();
        for info in KINDS.iter().filter(|info| info.namespaced) {
            // These come and go with others.
            if matches!(
                info.kind,
                Kind::Event | Kind::Lease | Kind::Endpoints | Kind::EndpointSlice
            ) {
                continue;
            }
            let objects = view.list(info.kind, Some(space.name()));
            let counted = objects.filter(|object| object.controller().is_none() && !release::is_managed(object));
            inside.extend(counted.map(|object| object.key()));
        }
        let name: Arc<str> = Arc::from(space.name());
        if index.declared_in(&name).next().is_some() {
            used.insert(name.clone());
        }
        contents.insert(name, inside);
    }
    release::budget::World {
        undeclared,
        contents,
        used,
        totals: index.totals(),
        confirmations,
    }
}

pub(crate) fn deployment(view: &View<'_>, index: &Index, key: &Key) -> Option<deployment::World> {
    let deployment = view.get(key)?.clone();
    let uid = deployment.uid();
    let sets = controlled(view, &uid, Kind::ReplicaSet);
    let strategy = deployment.body.at("spec/strategy/type").and_then(Part::word);
    let counted: &[Arc<Object>] = if strategy == Some("Recreate") { &sets } else { &[] };
    let pods = counted
        .iter()
        .map(|set| {
            let uid = set.uid();
            let count = view
                .owned_by(&uid)
                .filter(|pod| pod.kind == Kind::Pod && !pods::is_finished(pod))
                .count();
            (uid, count)
        })
        .collect();
    // Which of the sets is the new one is the plan's to say; outside rollouts there is one.
    let rolls = sets.iter().filter(|set| has_pods(set)).count() > 1;
    let rolling: &[Arc<Object>] = if rolls { &sets } else { &[] };
    let steady = rolling
        .iter()
        .map(|set| {
            let uid = set.uid();
            let ready = view.owned_by(&uid).filter_map(|pod| {
                let since = index.ready_since(&pod.uid())?;
                Some(settling::steady_at(pod, since))
            });
            (uid.clone(), ready.collect())
        })
        .collect();
    let name = deployment::set_name(&deployment);
    let named = name.and_then(|name| view.get(&Key::namespaced(Kind::ReplicaSet, key.ns(), &name)).cloned());
    Some(deployment::World {
        strays: index
            .strays(Kind::ReplicaSet, key.ns())
            .filter_map(|stray| view.get(stray).cloned())
            .collect(),
        progress_seen: index.progress_seen(&deployment),
        deployment,
        sets,
        named,
        pods,
        steady,
    })
}

fn has_pods(set: &Object) -> bool {
    let replicas = set.status.as_ref().and_then(|status| status.at("replicas")?.int());
    replicas.unwrap_or(0) > 0
}

pub(crate) fn replica_set(
    view: &View<'_>,
    index: &Index,
    key: &Key,
    failure: Option<String>,
) -> Option<replicaset::World> {
    let set = view.get(key)?.clone();
    let pods = controlled(view, &set.uid(), Kind::Pod);
    let since = |pod: &Arc<Object>| {
        let uid = pod.uid();
        index.ready_since(&uid).map(|since| (uid, since))
    };
    Some(replicaset::World {
        strays: index
            .strays(Kind::Pod, key.ns())
            .filter_map(|stray| view.get(stray).cloned())
            .collect(),
        ready_since: pods.iter().filter_map(since).collect(),
        set,
        pods,
        failure,
    })
}

fn controlled(view: &View<'_>, owner: &Uid, kind: Kind) -> Vec<Arc<Object>> {
    let owned = view.owned_by(owner);
    owned
        .filter(|object| {
            object.kind == kind
                && object
                    .controller()
                    .is_some_and(|controller| *controller.uid == *owner.0)
        })
        .cloned()
        .collect()
}

/// Pods that wait; those that were tried in vain only when something has changed since.
pub(crate) fn scheduler(view: &View<'_>, index: &mut Index) -> scheduler::World {
    let retry = std::mem::take(&mut index.retry_parked);
    let waiting = index
        .cluster
        .pending()
        .iter()
        .filter(|(_, pending)| retry || !pending.parked);
    let pods: Vec<_> = waiting.filter_map(|(key, _)| view.get(key).cloned()).collect();
    let nodes = if pods.is_empty() {
        Vec::new()
    } else {
        index.cluster.nodes()
    };
    scheduler::World {
        nodes,
        pods,
        no_node_yet: !index.had_node,
    }
}

pub(crate) fn garbage(view: &View<'_>, key: &Key) -> Option<garbage::World> {
    let object = view.get(key)?.clone();
    let owners = object
        .meta
        .owner_references
        .iter()
        .flatten()
        .map(|owner| (owner.clone(), view.by_uid(&Uid::from(owner.uid.as_str())).cloned()))
        .collect();
    let dependents = if garbage::waits_for_dependents(&object) {
        view.owned_by(&object.uid()).cloned().collect()
    } else {
        Vec::new()
    };
    Some(garbage::World {
        object,
        owners,
        dependents,
    })
}

pub(crate) fn nodes(view: &View<'_>, index: &Index, heartbeats: &Heartbeats, now: Now) -> nodes::World {
    let seats = view.list(Kind::Node, None).map(|node| nodes::Seat {
        silence: heartbeats.silence(node.name(), now.monotonic),
        node: node.clone(),
    });
    nodes::World {
        nodes: seats.collect(),
        seen: index.taints.clone(),
    }
}

pub(crate) fn evictions(view: &View<'_>, index: &Index, key: &Key) -> Option<evictions::World> {
    let node = view.get(key)?.clone();
    Some(evictions::World {
        pods: view
            .on_node(node.name())
            .filter(|pod| pod.kind == Kind::Pod)
            .cloned()
            .collect(),
        seen: index.taints.get(node.name()).cloned().unwrap_or_default(),
        node,
    })
}

pub(crate) fn pod_garbage(view: &View<'_>, index: &mut Index, now: Now) -> pod_garbage::World {
    let mut world = pod_garbage::World {
        beyond: index
            .finished_beyond()
            .filter_map(|key| view.get(key).cloned())
            .collect(),
        ..pod_garbage::World::default()
    };
    let missing: Vec<_> = index
        .missing()
        .iter()
        .map(|(node, since)| (node.clone(), *since))
        .collect();
    for (node, since) in missing {
        let mut pods = view.on_node(&node).peekable();
        if pods.peek().is_none() {
            index.forget_missing(&node);
            continue;
        }
        let due = since + pod_garbage::QUARANTINE;
        if due <= now.monotonic {
            world.lost.extend(pods.take(pod_garbage::AT_ONCE).cloned());
        } else {
            world.next = Some(world.next.map_or(due, |next| next.min(due)));
        }
    }
    world
}

pub(crate) fn report(
    store: &Store,
    view: &View<'_>,
    index: &mut Index,
    faults: &Faults,
    keys: &[Key],
    now: Now,
) -> report::World {
    let mut world = report::World {
        deletions: deletions(store, view, index, now),
        desired: index.desired.clone(),
        ..report::World::default()
    };
    for key in keys.iter().filter(|key| !key.name.is_empty()) {
        if key.kind == Kind::Node {
            world.nodes.push((key.name.clone(), view.get(key).cloned()));
            continue;
        }
        let row = index.desired.rows.get(key).cloned();
        let live = view.get(key).cloned();
        let pods = live
            .as_ref()
            .filter(|_| row.is_some())
            .map(|live| current_pods(view, index, live))
            .unwrap_or_default();
        let own = live.iter().filter(|live| row.is_some() && live.kind == Kind::Pod);
        let ready = pods.iter().chain(own).filter_map(|pod| {
            let since = index.ready_since(&pod.uid())?;
            Some(settling::converges_at(pod, since))
        });
        world.objects.push(report::Seen {
            finished: row
                .as_ref()
                .and_then(|row| ended(store, key).filter(|done| done.content == row.hash)),
            settles: ready.max(),
            marked: row
                .as_ref()
                .is_some_and(|row| store.last_healthy(key).is_some_and(|mark| mark.content == row.hash)),
            bad: row
                .as_ref()
                .and_then(|row| index.bad.get(&(key.clone(), row.hash)).cloned()),
            revertible: row.as_ref().is_some_and(|row| {
                rollout::on_failure(&row.content).is_some() && distrust::is_revertible(row, &store.healthy(key))
            }),
            released: index.released.content(key),
            trouble: faults.reason(key).or_else(|| index.released.reason(key).cloned()),
            key: key.clone(),
            row,
            live,
            pods,
        });
    }
    world
}

/// What is told of deletions, summed up anew when something of it changed.
fn deletions(store: &Store, view: &View<'_>, index: &mut Index, now: Now) -> Arc<report::Deletions> {
    let waits_for = index.released.first_trouble();
    if let Some(known) = index
        .deletions
        .as_ref()
        .filter(|known| known.waits_for.as_ref() == waits_for)
    {
        return known.clone();
    }
    let waits_for = waits_for.cloned();
    let verdict = verdict(store, view, index, now);
    let deletions = Arc::new(report::Deletions {
        removing: removing(index, &verdict),
        held: verdict.held.clone(),
        confirmations: verdict.confirmations,
        waits_for,
    });
    index.deletions = Some(deletions.clone());
    deletions
}

/// What goes and is not gone, by unit. What is undeclared and neither deleted yet nor about to be is
/// held, or kept for another reason.
fn removing(index: &Index, verdict: &release::budget::Verdict) -> BTreeMap<Unit, Vec<Key>> {
    let going: FxHashSet<Key> = verdict.delete.iter().map(|object| object.key()).collect();
    let mut removing: BTreeMap<Unit, Vec<Key>> = BTreeMap::new();
    for key in index.removals.keys() {
        if going.contains(key) || !index.undeclared().contains(key) {
            removing.entry(Unit::of(key)).or_default().push(key.clone());
        }
    }
    removing
}

/// The pods of a workload's current content.
fn current_pods(view: &View<'_>, index: &Index, workload: &Arc<Object>) -> Vec<Arc<Object>> {
    match workload.kind {
        Kind::ReplicaSet | Kind::ReplicationController => controlled(view, &workload.uid(), Kind::Pod),
        Kind::Job => batch::job_pods(view, index, &workload.uid()),
        Kind::Deployment => {
            let revision = workload.annotation(labels::REVISION);
            let sets = controlled(view, &workload.uid(), Kind::ReplicaSet);
            let current = sets
                .iter()
                .find(|set| revision.is_some() && set.annotation(labels::REVISION) == revision);
            current
                .map(|set| controlled(view, &set.uid(), Kind::Pod))
                .unwrap_or_default()
        }
        Kind::DaemonSet | Kind::StatefulSet => {
            let revisions = controlled(view, &workload.uid(), Kind::ControllerRevision);
            let newest = revisions.iter().max_by_key(|it| revision::number(it));
            let mark = newest.map(|newest| revision::mark(workload, newest));
            let mut pods = controlled(view, &workload.uid(), Kind::Pod);
            pods.retain(|pod| revision::mark_of(pod) == mark.as_deref());
            pods
        }
        _ => Vec::new(),
    }
}

/// Events to write, without those of namespaces that are going or gone.
pub(crate) fn events(view: &View<'_>, pending: &mut events::Pending) -> events::World {
    let mut world = pending.take(|key| view.get(key).cloned());
    world.told.retain(|(note, _, _)| {
        let space = note.key().namespace.unwrap_or_else(|| namespace::DEFAULT.into());
        view.get(&namespace::key(&space))
            .is_some_and(|space| !space.is_deleting())
    });
    world
}
