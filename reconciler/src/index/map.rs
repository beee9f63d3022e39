//! Which keys must be looked at because of one change.

use std::sync::Arc;

use schemas::{Key, Kind, Object, Uid, storage};
use store::{Change, View};

use super::{Index, Touched};
use crate::{
    cronjob, daemonset, deployment, evictions, garbage, job, namespace, observe, owners, pods,
    queue::{Controller, Work},
    quota,
    release::autoscaling,
    replicaset, statefulset,
    volumes::class,
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
        let scales = matches!(
            key.kind,
            Kind::Deployment | Kind::ReplicaSet | Kind::ReplicationController | Kind::StatefulSet
        );
        if scales && content && observe::is_scale(old.map(|old| &**old), new.map(|new| &**new)) {
            for budget in self.members.in_namespace(key.ns()) {
                add(Controller::Budgets, budget.clone());
            }
        }
        if scales && (old.is_none() || new.is_none()) {
            for autoscaler in self.scaled.by(key) {
                add(Controller::Autoscalers, autoscaler.clone());
            }
        }
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
            Kind::StatefulSet if content => add(Controller::StatefulSets, key.clone()),
            Kind::ControllerRevision => {
                for (controller, owner) in owners_of([old, new]) {
                    add(controller, owner);
                }
            }
            Kind::PersistentVolumeClaim => {
                add(Controller::Volumes, key.clone());
                let claims = [old, new].into_iter().flatten();
                for volume in claims.filter_map(|claim| storage::volume_of(claim)) {
                    add(Controller::Volumes, volume);
                }
                if new.is_none() {
                    // A pod may wait for a claim of its name to be gone, and a volume be kept for it.
                    let sets = view.list(Kind::StatefulSet, key.namespace.as_deref());
                    for set in sets.filter(|set| statefulset::claims::may_belong(&key.name, set.name())) {
                        add(Controller::StatefulSets, set.key());
                    }
                    for volume in self.free_volumes(key) {
                        add(Controller::Volumes, volume.clone());
                    }
                }
            }
            Kind::PersistentVolume => {
                add(Controller::Volumes, key.clone());
                let mut claims: Vec<Key> = [old, new]
                    .into_iter()
                    .flatten()
                    .filter_map(|volume| storage::claim_of(volume))
                    .collect();
                claims.dedup();
                for claim in claims {
                    add(Controller::Volumes, claim);
                }
            }
            Kind::PodDisruptionBudget => add(Controller::Budgets, key.clone()),
            Kind::HorizontalPodAutoscaler if content => {
                add(Controller::Autoscalers, key.clone());
                // Those that aim at the same target may act now, or may not any more.
                let aims = [old, new].into_iter().flatten();
                for aim in aims.filter_map(|autoscaler| autoscaling::target(autoscaler).ok()) {
                    self.scaled
                        .by(&aim)
                        .for_each(|rival| add(Controller::Autoscalers, rival.clone()));
                }
            }
            Kind::StorageClass => {
                add(Controller::Volumes, class::key());
                let claims = view.list(Kind::PersistentVolumeClaim, None);
                for claim in claims.filter(|claim| storage::volume_of(claim).is_none()) {
                    add(Controller::Volumes, claim.key());
                }
            }
            Kind::ReplicationController if content => add(Controller::ReplicaSets, key.clone()),
            Kind::Job => {
                add(Controller::Jobs, key.clone());
                let both = [old, new].into_iter().flatten();
                let mut owners: Vec<Key> = both.filter_map(|job| cronjob::controller_of(job)).collect();
                owners.dedup();
                owners.into_iter().for_each(|owner| add(Controller::CronJobs, owner));
            }
            Kind::CronJob => add(Controller::CronJobs, key.clone()),
            Kind::Pod => self.map_pod(view, change, content, &mut add),
            Kind::Node => {
                add(Controller::Nodes, Work::all(Controller::Nodes).key);
                add(Controller::Report, key.clone());
                if [old, new].into_iter().flatten().any(|node| evictions::concern(node)) {
                    add(Controller::Evictions, key.clone());
                }
                if old.is_none() || new.is_none() {
                    // Volumes in deletion wait for their node, and claims for the node of their pod.
                    let volumes = view.list(Kind::PersistentVolume, None);
                    for volume in volumes.filter(|volume| volume.is_deleting()) {
                        add(Controller::Volumes, volume.key());
                    }
                    let here = view.on_node(&key.name);
                    for claim in here.flat_map(|pod| storage::claims(pod)) {
                        add(Controller::Volumes, claim);
                    }
                }
            }
            _ => {}
        }
        if view.has_quotas(key.ns()) && quota::may_count(old.map(|old| &**old), new.map(|new| &**new)) {
            for quota in view.list(Kind::ResourceQuota, Some(key.ns())) {
                add(Controller::Quotas, quota.key());
            }
        }
        if namespace::is_fixture(key)
            && (new.is_none() || key.kind == Kind::ConfigMap)
            && let Some(space) = &key.namespace
        {
            add(Controller::Namespaces, namespace::key(space));
        }
        // A namespace in deletion waits for its last object, and so does one that nobody declares.
        if new.is_none()
            && let Some(space) = &key.namespace
        {
            let space = namespace::key(space);
            if view
                .get(&space)
                .is_some_and(|space| space.is_deleting() || namespace::is_implicit(space))
            {
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
        for (controller, set) in owners_of([old, new]) {
            if self.desired.rows.contains_key(&set) {
                add(Controller::Report, set.clone());
            }
            add(controller, set);
        }
        if content && let Some(stray) = new.filter(|new| new.controller().is_none() && pods::is_active(new)) {
            for set in replicaset::KINDS.iter().flat_map(|kind| matching(view, *kind, stray)) {
                add(Controller::ReplicaSets, set);
            }
            for set in matching(view, Kind::DaemonSet, stray) {
                add(Controller::DaemonSets, set);
            }
            for set in matching(view, Kind::StatefulSet, stray) {
                add(Controller::StatefulSets, set);
            }
        }
        self.map_job(view, change, content, add);
        // A pod that has come to a node with taints may have to leave again.
        let came = old.and_then(|old| old.node.as_ref()) != new.and_then(|new| new.node.as_ref());
        if (content || came)
            && let Some(node) = new.and_then(|new| new.node.as_ref())
            && self.taints.contains_key(node)
        {
            add(Controller::Evictions, Key::cluster(Kind::Node, node));
        }
    }

    fn map_job(&self, view: &View<'_>, change: &Change, content: bool, add: &mut impl FnMut(Controller, Key)) {
        let both = [change.old.as_ref(), change.new.as_ref()];
        let mut owners: Vec<Key> = both
            .into_iter()
            .flatten()
            .filter_map(|pod| job::controller_of(pod))
            .collect();
        owners.dedup();
        for owner in owners {
            if self.desired.rows.contains_key(&owner) {
                add(Controller::Report, owner.clone());
            }
            add(Controller::Jobs, owner);
        }
        let stray = change
            .new
            .as_ref()
            .filter(|new| content && new.controller().is_none() && !new.is_deleting());
        if let Some(stray) = stray {
            for job in matching(view, Kind::Job, stray) {
                add(Controller::Jobs, job);
            }
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
                if garbage::waits_for_dependents(new) || is_garbage(view, new) || is_held(view, new) {
                    add(Controller::Garbage, key.clone());
                }
            }
            (None, None) => {}
        }
    }
}

/// The sets that these pods or revisions belong to, each with its controller.
fn owners_of(objects: [Option<&Arc<Object>>; 2]) -> Vec<(Controller, Key)> {
    let owner = |object: &Arc<Object>| {
        let daemon = daemonset::controller_of(object).map(|key| (Controller::DaemonSets, key));
        daemon.or_else(|| statefulset::controller_of(object).map(|key| (Controller::StatefulSets, key)))
    };
    let mut owners: Vec<_> = objects.into_iter().flatten().filter_map(owner).collect();
    owners.dedup();
    owners
}

/// An object whose owners are partly or all gone, or wait for it.
pub(super) fn is_garbage(view: &View<'_>, object: &Object) -> bool {
    !object.is_deleting()
        && object.meta.owner_references.iter().flatten().any(|owner| {
            view.by_uid(&Uid::from(owner.uid.as_str()))
                .is_none_or(|owner| owner.is_deleting() && garbage::waits_for_dependents(owner))
        })
}

/// A pod that waits to be counted by a Job which is not there.
pub(super) fn is_held(view: &View<'_>, object: &Object) -> bool {
    object.kind == Kind::Pod
        && job::tracking::is_tracked(object)
        && job::book::job_of(object).is_none_or(|(_, uid)| view.by_uid(&Uid::from(uid)).is_none())
}

/// Workloads of a kind whose selector matches a stray. Strays are rare: this may search a namespace.
fn matching(view: &View<'_>, kind: Kind, stray: &Object) -> Vec<Key> {
    view.list(kind, Some(stray.namespace()))
        .filter(|workload| owners::selector(workload).is_ok_and(|selector| selector.matches_object(stray)))
        .map(|workload| workload.key())
        .collect()
}
