//! Which keys must be looked at because of one change.

use schemas::{Key, Kind, Object, Uid};
use store::{Change, View};

use super::{Index, Touched};
use crate::{
    daemonset, deployment, garbage, namespace, owners, pods,
    queue::{Controller, Work},
    replicaset,
};

impl Index {
    /// Maps a change to the keys that must be looked at.
    pub(super) fn map(&self, view: &View<'_>, key: &Key, change: &Change, touched: &mut Touched) {
        let (old, new) = (change.old.as_ref(), change.new.as_ref());
        let mut add = |controller, key: Key| touched.push(Work::new(controller, key));
        let content = match (old, new) {
            (Some(old), Some(new)) => old.body.hash() != new.body.hash() || old.meta != new.meta,
            _ => true,
        };
        if self.desired.rows.contains_key(key) {
            add(Controller::Report, key.clone());
            if content {
                add(Controller::Release, key.clone());
            }
        }
        self.map_garbage(view, key, change, &mut add);
        match key.kind {
            Kind::Namespace => {
                add(Controller::Namespaces, key.clone());
                if new.is_none() {
                    // What was waiting for its end comes back.
                    self.declared_in(&key.name)
                        .for_each(|row| add(Controller::Release, row.clone()));
                }
            }
            Kind::Deployment => add(Controller::Deployments, key.clone()),
            Kind::ReplicaSet => {
                if content {
                    add(Controller::ReplicaSets, key.clone());
                }
                let mut owners: Vec<Key> = [old, new]
                    .into_iter()
                    .flatten()
                    .filter_map(|set| deployment::controller_of(set))
                    .collect();
                owners.dedup();
                for owner in owners {
                    add(Controller::Deployments, owner);
                }
                if content && let Some(stray) = new.filter(|new| new.controller().is_none() && !new.is_deleting()) {
                    for workload in matching(view, Kind::Deployment, stray) {
                        add(Controller::Deployments, workload);
                    }
                }
            }
            Kind::DaemonSet if content => add(Controller::DaemonSets, key.clone()),
            Kind::ControllerRevision => {
                let revisions = [old, new].into_iter().flatten();
                for owner in revisions.filter_map(|revision| daemonset::controller_of(revision)) {
                    add(Controller::DaemonSets, owner);
                }
            }
            Kind::ReplicationController if content => add(Controller::ReplicaSets, key.clone()),
            Kind::Pod => self.map_pod(view, change, content, &mut add),
            Kind::Node => {
                add(Controller::Nodes, Work::all(Controller::Nodes).key);
                add(Controller::Report, key.clone());
            }
            _ => {}
        }
        // A namespace in deletion waits for its last object.
        if new.is_none()
            && let Some(space) = &key.namespace
        {
            let space = namespace::key(space);
            if view.get(&space).is_some_and(|space| space.is_deleting()) {
                add(Controller::Namespaces, space);
            }
        }
    }

    fn map_pod(&self, view: &View<'_>, change: &Change, content: bool, add: &mut impl FnMut(Controller, Key)) {
        let (old, new) = (change.old.as_ref(), change.new.as_ref());
        let mut owners: Vec<Key> = [old, new]
            .into_iter()
            .flatten()
            .filter_map(|pod| replicaset::controller_of(pod))
            .collect();
        owners.dedup();
        for owner in owners {
            let set = view.get(&owner);
            if self.desired.rows.contains_key(&owner) {
                add(Controller::Report, owner.clone());
            }
            if let Some(deployment) = set.and_then(|set| deployment::controller_of(set)) {
                if new.is_none() {
                    // Recreate waits for the last old pod.
                    add(Controller::Deployments, deployment.clone());
                }
                if self.desired.rows.contains_key(&deployment) {
                    add(Controller::Report, deployment);
                }
            }
            add(Controller::ReplicaSets, owner);
        }
        let mut sets: Vec<Key> = [old, new]
            .into_iter()
            .flatten()
            .filter_map(|pod| daemonset::controller_of(pod))
            .collect();
        sets.dedup();
        for set in sets {
            if self.desired.rows.contains_key(&set) {
                add(Controller::Report, set.clone());
            }
            add(Controller::DaemonSets, set);
        }
        if content && let Some(stray) = new.filter(|new| new.controller().is_none() && pods::is_active(new)) {
            for set in replicaset::KINDS.iter().flat_map(|kind| matching(view, *kind, stray)) {
                add(Controller::ReplicaSets, set);
            }
            for set in matching(view, Kind::DaemonSet, stray) {
                add(Controller::DaemonSets, set);
            }
        }
        let nodes = [old, new].into_iter().flatten().filter_map(|pod| pod.node.as_ref());
        if content
            && nodes
                .into_iter()
                .any(|node| self.taints.keys().any(|(tainted, _)| tainted == node))
        {
            add(Controller::Nodes, Work::all(Controller::Nodes).key);
        }
    }

    fn map_garbage(&self, view: &View<'_>, key: &Key, change: &Change, add: &mut impl FnMut(Controller, Key)) {
        match (&change.old, &change.new) {
            (Some(old), None) => {
                for dependent in view.owned_by(&old.uid()) {
                    add(Controller::Garbage, dependent.key());
                }
                for owner in old.meta.owner_references.iter().flatten() {
                    let owner = view.by_uid(&Uid::from(owner.uid.as_str()));
                    if let Some(owner) = owner.filter(|owner| garbage::waits_for_dependents(owner)) {
                        add(Controller::Garbage, owner.key());
                    }
                }
            }
            (_, Some(new)) => {
                if garbage::waits_for_dependents(new) || is_garbage(view, new) {
                    add(Controller::Garbage, key.clone());
                }
            }
            (None, None) => {}
        }
    }
}

/// An object whose owners are partly or all gone, or wait for it.
pub(super) fn is_garbage(view: &View<'_>, object: &Object) -> bool {
    !object.is_deleting()
        && object.meta.owner_references.iter().flatten().any(|owner| {
            view.by_uid(&Uid::from(owner.uid.as_str()))
                .is_none_or(|owner| owner.is_deleting() && garbage::waits_for_dependents(owner))
        })
}

/// Workloads of a kind whose selector matches a stray. Strays are rare: this may search a namespace.
fn matching(view: &View<'_>, kind: Kind, stray: &Object) -> Vec<Key> {
    view.list(kind, Some(stray.namespace()))
        .filter(|workload| owners::selector(workload).is_ok_and(|selector| selector.matches_object(stray)))
        .map(|workload| workload.key())
        .collect()
}
