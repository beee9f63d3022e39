//! Builds the small world that a plan is made from, out of the store's copy and the index.

mod workloads;

use std::{collections::BTreeMap, sync::Arc};

use rustc_hash::{FxHashMap, FxHashSet};
use schemas::{ContentHash, Key, Kind, Now, Object, Uid, Unit, kind::KINDS, labels};
use store::{Heartbeats, Store, View};

use crate::{
    deployment, events, garbage, index::Index, namespace, nodes, plan::Reason, pod_garbage, pods, release, replicaset,
    report, revision,
};

pub(crate) use workloads::daemon_set;

/// One namespace.
pub(crate) fn namespace(view: &View<'_>, key: &Key) -> namespace::World {
    let namespace = view.get(key).cloned();
    let mut contents = Vec::new();
    if namespace.as_ref().is_some_and(|namespace| namespace.is_deleting()) {
        for info in KINDS.iter().filter(|info| info.namespaced) {
            let room = namespace::AT_ONCE - contents.len();
            contents.extend(view.list(info.kind, Some(&key.name)).take(room).cloned());
        }
    }
    namespace::World {
        name: key.name.clone(),
        namespace,
        contents,
    }
}

/// A batch of declared (or no longer declared) keys.
pub(crate) fn release(store: &Store, view: &View<'_>, index: &Index, keys: &[Key], more: bool) -> release::World {
    let desired = index.desired.clone();
    let rows: Vec<_> = keys.iter().filter_map(|key| desired.rows.get(key).cloned()).collect();
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
        rows,
        live,
        namespaces,
        gate: gate(store, index),
        more,
        deletions: deletions(store, view, index),
        scaled: keys.iter().filter(|key| index.scaled.contains(key)).cloned().collect(),
        desired,
    }
}

/// The earliest wave with an object that has never been healthy, if later ones are there to wait.
fn gate(store: &Store, index: &Index) -> Option<release::waves::Gate> {
    let last = *index.waves().keys().next_back()?;
    let earlier = index.waves().iter().filter(|(wave, _)| **wave != last);
    for (wave, keys) in earlier {
        for key in keys {
            let row = index.desired.rows.get(key);
            if row.is_some_and(|row| !store.was_healthy(key, row.hash)) {
                return Some(release::waves::Gate {
                    wave: *wave,
                    waits_for: key.clone(),
                });
            }
        }
    }
    None
}

pub(crate) fn deletions(store: &Store, view: &View<'_>, index: &Index) -> release::budget::World {
    let undeclared: Vec<Arc<Object>> = index
        .undeclared()
        .iter()
        .filter_map(|key| view.get(key).cloned())
        .collect();
    if undeclared.is_empty() {
        return release::budget::World::default();
    }
    let mut contents = BTreeMap::new();
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
        contents.insert(Arc::from(space.name()), inside);
    }
    release::budget::World {
        moving: moving(view, index, &undeclared),
        undeclared,
        contents,
        totals: index.totals(),
        confirmations: store.confirmations(),
    }
}

/// Objects that another namespace declares under the same kind and name, where that one is not there
/// yet.
fn moving(view: &View<'_>, index: &Index, undeclared: &[Arc<Object>]) -> BTreeMap<Key, Key> {
    let mut targets: FxHashMap<(Kind, &str), Key> = FxHashMap::default();
    let names: FxHashMap<(Kind, &str), &Arc<Object>> = undeclared
        .iter()
        .map(|object| ((object.kind, object.name()), object))
        .collect();
    for key in index.desired.rows.keys() {
        if names.contains_key(&(key.kind, &*key.name)) && view.get(key).is_none() {
            targets.insert((key.kind, &*key.name), key.clone());
        }
    }
    let moves = undeclared
        .iter()
        .filter_map(|object| Some((object.key(), targets.get(&(object.kind, object.name()))?.clone())));
    moves.collect()
}

pub(crate) fn deployment(view: &View<'_>, index: &Index, key: &Key) -> Option<deployment::World> {
    let deployment = view.get(key)?.clone();
    let uid = deployment.uid();
    let sets = controlled(view, &uid, Kind::ReplicaSet);
    let strategy = deployment
        .body
        .value()
        .get("spec")
        .and_then(|spec| spec["strategy"]["type"].as_str());
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
    })
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
    let seats = view.list(Kind::Node, None).map(|node| {
        let silence = heartbeats.silence(node.name(), now.monotonic);
        let pods = if nodes::needs_pods(node, silence) {
            view.on_node(node.name()).cloned().collect()
        } else {
            Vec::new()
        };
        nodes::Seat {
            node: node.clone(),
            silence,
            pods,
        }
    });
    nodes::World {
        nodes: seats.collect(),
        seen: index.taints.clone(),
    }
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

/// What the driver knows of releases, for the report.
#[derive(Debug, Default)]
pub(crate) struct Released {
    pub(crate) contents: FxHashMap<Key, ContentHash>,
    pub(crate) troubles: FxHashMap<Key, Reason>,
}

pub(crate) fn report(
    store: &Store,
    view: &View<'_>,
    index: &Index,
    released: &Released,
    keys: &[Key],
    now: Now,
) -> report::World {
    let verdict = release::budget::judge(&index.desired, &deletions(store, view, index), now);
    let mut world = report::World {
        desired: index.desired.clone(),
        removing: removing(index, &verdict),
        held: verdict.held,
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
            .map(|live| current_pods(view, live))
            .unwrap_or_default();
        world.objects.push(report::Seen {
            was_healthy: row.as_ref().is_some_and(|row| store.was_healthy(key, row.hash)),
            released: released.contents.get(key).copied(),
            trouble: released.troubles.get(key).cloned(),
            key: key.clone(),
            row,
            live,
            pods,
        });
    }
    world
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
fn current_pods(view: &View<'_>, workload: &Arc<Object>) -> Vec<Arc<Object>> {
    match workload.kind {
        Kind::ReplicaSet | Kind::ReplicationController => controlled(view, &workload.uid(), Kind::Pod),
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
        Kind::DaemonSet => {
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
