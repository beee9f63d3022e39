//! What the driver knows across objects: a cache of the store, fed by one watch.
//!
//! It answers what a look at one key cannot afford to search for, and maps each change to the keys
//! that must be looked at. It can be rebuilt from the store at any time.

mod lasting;
mod map;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use rustc_hash::FxHashMap;
use schemas::{Commit, Key, Kind, Now, Object, Uid, Unit, shared::Difference, storage};
use store::{Change, Desired, DesiredRow, View};

use crate::{
    daemonset,
    disruption::members::Members,
    distrust::Bad,
    evictions,
    failures::{self, Failures},
    garbage, job, namespace, nodes, pod_garbage, pods,
    queue::{Controller, Work},
    quota,
    release::{self, autoscaling, budget, waves},
    released::Released,
    removals::Removals,
    report,
    scheduler::cluster::Cluster,
    volumes::{class, shelf::Shelf, users::Users},
};

/// The cache.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) desired: Arc<Desired>,
    /// Live objects that git declares or did, by unit; those in deletion left out.
    managed: BTreeMap<Unit, BTreeSet<Key>>,
    /// Those of them that are not declared any more.
    undeclared: BTreeSet<Key>,
    /// What git declares no longer, with what it owns, until all of it is gone.
    pub(crate) removals: Removals,
    /// Declared objects by namespace.
    spaces: BTreeMap<Arc<str>, BTreeSet<Key>>,
    /// What of the undeclared may go; none: it must be judged anew.
    pub(crate) verdict: Option<Arc<budget::Verdict>>,
    /// What of it is told; none: it must be summed up anew.
    pub(crate) deletions: Option<Arc<report::Deletions>>,
    /// What autoscalers scale.
    pub(crate) scaled: autoscaling::Scaled,
    /// A node has registered once.
    pub(crate) had_node: bool,
    /// What of the declared was never healthy.
    pub(crate) unproven: waves::Unproven,
    /// The commit for which gates do not count.
    pub(crate) skip_gates: Option<Commit>,
    /// Contents with which rollouts failed.
    pub(crate) bad: Bad,
    /// What of the declared is released.
    pub(crate) released: Released,
    /// Pods and ReplicaSets that nobody controls, by namespace.
    strays: FxHashMap<(Kind, Arc<str>), BTreeSet<Key>>,
    ready: Lasting,
    progress: Lasting,
    /// What the cache before this one of the same process saw, while this one is built.
    before: Option<Box<(Lasting, Lasting)>>,
    finished: BTreeSet<(Option<Timestamp>, Key)>,
    /// Nodes that are gone although pods are bound to them, since when.
    missing: BTreeMap<Arc<str>, Duration>,
    failures: Failures,
    /// Which pods use which claims.
    pub(crate) claims: Users,
    shelf: Shelf,
    /// Which pods belong to which disruption budgets.
    pub(crate) members: Members,
    pub(crate) taints: nodes::Seen,
    pub(crate) jobs: job::book::Book,
    pub(crate) cluster: Cluster,
    /// Work that a rule of a namespace refused.
    pub(crate) refused: quota::Refused,
    /// Pods that did not fit may fit now.
    pub(crate) retry_parked: bool,
}

use lasting::Lasting;
use map::{is_garbage, is_held};

/// Keys to look at.
pub(crate) type Touched = Vec<Work>;

impl Index {
    /// The cache of all that is there now. `before` is the one that it takes the place of, if this
    /// process had one.
    pub(crate) fn build(
        view: &View<'_>,
        desired: Arc<Desired>,
        proven: impl Fn(&DesiredRow) -> bool,
        before: Self,
        now: Now,
    ) -> Self {
        let mut index = Self {
            retry_parked: true,
            before: Some(Box::new((before.ready, before.progress))),
            ..Self::default()
        };
        let mut touched = Vec::new();
        let mut leaving = Vec::new();
        for info in schemas::kind::KINDS {
            for object in view.list(info.kind, None) {
                index.take(view, &object.key(), None, Some(object), now, &mut touched);
                touched.clear();
                if object.is_deleting() && release::is_managed(object) && !desired.rows.contains_key(&object.key()) {
                    leaving.push(object.clone());
                }
            }
        }
        index.before = None;
        index.set_desired(view, desired, proven, &mut touched);
        for object in leaving {
            index.removals.add(view, &object);
        }
        index
    }

    /// Everything there is to look at: what a start and the periodic look put into the queue.
    pub(crate) fn everything(&self, view: &View<'_>) -> Touched {
        let mut all = vec![
            Work::new(Controller::Namespaces, namespace::key(namespace::DEFAULT)),
            Work::all(Controller::Scheduler),
            Work::new(Controller::Volumes, class::key()),
            Work::all(Controller::Nodes),
            Work::all(Controller::PodGarbage),
            Work::all(Controller::Report),
            Work::all(Controller::Release),
        ];
        let each = |controller: Controller, key: Key| Work::new(controller, key);
        for key in self.desired.rows.keys() {
            all.push(each(Controller::Release, key.clone()));
            all.push(each(Controller::Report, key.clone()));
        }
        for (kind, controller) in [
            (Kind::Node, Controller::Report),
            (Kind::Namespace, Controller::Namespaces),
            (Kind::Deployment, Controller::Deployments),
            (Kind::ReplicaSet, Controller::ReplicaSets),
            (Kind::ReplicationController, Controller::ReplicaSets),
            (Kind::DaemonSet, Controller::DaemonSets),
            (Kind::Job, Controller::Jobs),
            (Kind::CronJob, Controller::CronJobs),
            (Kind::StatefulSet, Controller::StatefulSets),
            (Kind::PersistentVolumeClaim, Controller::Volumes),
            (Kind::PersistentVolume, Controller::Volumes),
            (Kind::PodDisruptionBudget, Controller::Budgets),
            (Kind::ResourceQuota, Controller::Quotas),
            (Kind::HorizontalPodAutoscaler, Controller::Autoscalers),
        ] {
            all.extend(view.list(kind, None).map(|object| each(controller, object.key())));
        }
        let in_trouble = view.list(Kind::Node, None).filter(|node| evictions::concern(node));
        all.extend(in_trouble.map(|node| each(Controller::Evictions, node.key())));
        for info in schemas::kind::KINDS {
            for object in view.list(info.kind, None) {
                if is_garbage(view, object) || garbage::waits_for_dependents(object) || is_held(view, object) {
                    all.push(each(Controller::Garbage, object.key()));
                }
            }
        }
        all
    }

    /// Takes a new revision over; touches the rows that changed. `proven` tells whether a row's content
    /// has been healthy once.
    pub(crate) fn set_desired(
        &mut self,
        view: &View<'_>,
        desired: Arc<Desired>,
        proven: impl Fn(&DesiredRow) -> bool,
        touched: &mut Touched,
    ) {
        let old = std::mem::replace(&mut self.desired, desired.clone());
        let put = |key: &Key, touched: &mut Touched| {
            touched.push(Work::new(Controller::Release, key.clone()));
            touched.push(Work::new(Controller::Report, key.clone()));
        };
        for difference in old.rows.differences(&desired.rows) {
            let (Difference::Added(key, _) | Difference::Changed(key, ..) | Difference::Removed(key, _)) = difference;
            self.released.waiting_for(key).for_each(|waiting| put(waiting, touched));
            let (key, before, row) = match difference {
                Difference::Added(key, row) => (key, None, row),
                Difference::Changed(key, before, row) => (key, Some(before), row),
                Difference::Removed(key, row) => {
                    put(key, touched);
                    touched.push(Work::new(Controller::Namespaces, namespace::key(&Unit::of(key).0)));
                    if let Some(space) = &key.namespace {
                        remove_from(&mut self.spaces, space, key);
                    }
                    self.unproven.declare(Some(row), None, false);
                    self.released.forget(key);
                    if self.managed.get(&Unit::of(key)).is_some_and(|unit| unit.contains(key)) {
                        self.undeclared.insert(key.clone());
                    }
                    if let Some(live) = view.get(key).filter(|live| release::is_managed(live)) {
                        self.removals.add(view, live);
                    }
                    continue;
                }
            };
            put(key, touched);
            if let Some(space) = &key.namespace {
                self.spaces.entry(space.clone()).or_default().insert(key.clone());
            }
            self.unproven
                .declare(before.map(|before| &**before), Some(row), proven(row));
            self.released.declare(row);
            self.undeclared.remove(key);
            self.removals.forget(key);
        }
        if old.revision == 0 {
            let all = self.managed.values().flatten();
            self.undeclared = all.filter(|key| !desired.rows.contains_key(*key)).cloned().collect();
            for live in self.undeclared.iter().filter_map(|key| view.get(key)) {
                self.removals.add(view, live);
            }
        }
        self.verdict = None;
        self.deletions = None;
        touched.push(Work::all(Controller::Release));
        touched.push(Work::all(Controller::Report));
    }

    /// Takes one change in; touches what must be looked at because of it.
    pub(crate) fn apply(&mut self, view: &View<'_>, change: &Change, now: Now, touched: &mut Touched) {
        let Some(object) = change.new.as_ref().or(change.old.as_ref()) else {
            return;
        };
        let key = object.key();
        self.take(view, &key, change.old.as_ref(), change.new.as_ref(), now, touched);
        self.map(view, &key, change, touched);
        if quota::gives_room(key.kind, change.old.as_deref(), change.new.as_deref()) {
            touched.extend(self.refused.take(key.ns()));
        }
    }

    /// Keeps the cache current.
    fn take(
        &mut self,
        view: &View<'_>,
        key: &Key,
        old: Option<&Arc<Object>>,
        new: Option<&Arc<Object>>,
        now: Now,
        touched: &mut Touched,
    ) {
        let managed = new.filter(|new| release::is_managed(new));
        let unit = Unit::of(key);
        self.take_undeclared(key, old, new);
        if managed.is_some_and(|managed| !managed.is_deleting()) {
            self.managed.entry(unit).or_default().insert(key.clone());
            if !self.desired.rows.contains_key(key) && self.desired.revision > 0 && self.undeclared.insert(key.clone())
            {
                touched.push(Work::all(Controller::Release));
            }
        } else {
            remove_from(&mut self.managed, &unit, key);
            self.undeclared.remove(key);
        }
        if new.is_none() && self.desired.rows.contains_key(key) {
            self.released.lost(key);
        }
        let mut moved = self.removals.take(view, old, new);
        if let Some(managed) = managed
            && self.desired.revision > 0
            && !self.desired.rows.contains_key(key)
        {
            moved |= self.removals.add(view, managed);
        }
        if moved {
            self.deletions = None;
            touched.push(Work::all(Controller::Report));
        }
        match key.kind {
            Kind::Pod => {
                self.jobs.take_pod(|uid| view.by_uid(uid).is_some(), key, old, new, now);
                self.take_pod(key, old, new, now, touched);
            }
            Kind::ReplicaSet | Kind::ControllerRevision => self.take_stray(key, new),
            Kind::DaemonSet | Kind::StatefulSet => {
                if let Some(old) = old.filter(|old| new.is_none_or(|new| new.uid() != old.uid())) {
                    self.failures.forget(&old.uid());
                }
            }
            Kind::Job => self.jobs.take_job(old, new, now),
            Kind::Deployment => {
                if let Some(object) = new.or(old) {
                    let uid = object.uid();
                    let stamp = new.and_then(|new| stamp(new, "Progressing", "lastUpdateTime"));
                    match (stamp, &self.before) {
                        (None, _) => self.progress.end(&uid),
                        (stamp, None) => self.progress.begin(uid, stamp, now),
                        (stamp, Some(before)) => self.progress.find(uid, stamp, &before.1, now),
                    }
                }
            }
            Kind::Node => self.take_node(view, key, new, now, touched),
            Kind::PodDisruptionBudget => {
                let (old, new) = (old.map(|old| &**old), new.map(|new| &**new));
                self.members.take_budget(view, key, old, new);
            }
            Kind::PersistentVolume => {
                let (old, new) = (old.map(|old| &**old), new.map(|new| &**new));
                if self.shelf.take(key, old, new) {
                    let unbound = view
                        .list(Kind::PersistentVolumeClaim, None)
                        .filter(|claim| storage::volume_of(claim).is_none());
                    touched.extend(unbound.map(|claim| Work::new(Controller::Volumes, claim.key())));
                }
            }
            Kind::HorizontalPodAutoscaler => {
                for target in self.scaled.take(old, new) {
                    if self.desired.rows.contains_key(&target) {
                        touched.push(Work::new(Controller::Release, target));
                    }
                }
            }
            _ => {}
        }
    }

    /// What may be deleted is judged anew when something that is counted for it changes: the objects,
    /// what is in a namespace among them, and, for as long as there are any, how much is there in all.
    fn take_undeclared(&mut self, key: &Key, old: Option<&Arc<Object>>, new: Option<&Arc<Object>>) {
        let space = key.namespace.as_ref().map(|space| namespace::key(space));
        let comes_or_goes = old.is_none() || new.is_none_or(|new| new.is_deleting());
        let counts = self.undeclared.contains(key)
            || (comes_or_goes && space.is_some_and(|space| self.undeclared.contains(&space)))
            || (comes_or_goes && !self.undeclared.is_empty() && new.or(old).is_some_and(|it| release::is_managed(it)))
            || (new.is_some_and(|new| release::is_managed(new)) && !self.desired.rows.contains_key(key));
        if counts {
            self.verdict = None;
            self.deletions = None;
        }
    }

    /// The declared objects of a namespace.
    pub(crate) fn declared_in(&self, namespace: &str) -> impl Iterator<Item = &Key> {
        self.spaces.get(namespace).into_iter().flatten()
    }

    fn take_stray(&mut self, key: &Key, new: Option<&Arc<Object>>) {
        let place = (key.kind, key.namespace.clone().unwrap_or_else(|| "".into()));
        if new.is_some_and(|new| new.controller().is_none()) {
            self.strays.entry(place).or_default().insert(key.clone());
        } else if let Some(strays) = self.strays.get_mut(&place) {
            strays.remove(key);
            if strays.is_empty() {
                self.strays.remove(&place);
            }
        }
    }

    fn take_pod(
        &mut self,
        key: &Key,
        old: Option<&Arc<Object>>,
        new: Option<&Arc<Object>>,
        now: Now,
        touched: &mut Touched,
    ) {
        self.take_stray(key, new);
        let claims = self.claims.take(key, old.map(|old| &**old), new.map(|new| &**new));
        touched.extend(claims.into_iter().map(|claim| Work::new(Controller::Volumes, claim)));
        let budgets = self.members.take_pod(key, old.map(|old| &**old), new.map(|new| &**new));
        touched.extend(budgets.into_iter().map(|budget| Work::new(Controller::Budgets, budget)));
        let Some(object) = new.or(old) else { return };
        let uid = object.uid();
        if let Some(old) = old
            && old.uid() != uid
        {
            self.cluster.put_pod(key, &old.uid(), None);
            self.ready.end(&old.uid());
        }
        if self.cluster.put_pod(key, &uid, new) {
            self.retry_parked = true;
            touched.push(Work::all(Controller::Scheduler));
        }
        if self.cluster.pending().get(key).is_some_and(|pending| !pending.parked) {
            touched.push(Work::all(Controller::Scheduler));
        }
        if let Some(new) = new
            && pods::phase(new) == "Failed"
            && old.is_none_or(|old| old.uid() != new.uid() || pods::phase(old) != "Failed")
            && let Some((owner, place, mark)) = failures::place(new)
        {
            self.failures.note(owner, place, mark, now.monotonic);
        }
        match new {
            Some(new) if pods::is_ready(new) => {
                let stamp = stamp(new, "Ready", "lastTransitionTime");
                // A restart in between may have been too short to be told as not ready.
                if old.is_some_and(|old| pods::restarts(old) < pods::restarts(new)) {
                    self.ready.end(&uid);
                }
                match &self.before {
                    None => self.ready.begin(uid, stamp, now),
                    Some(before) => self.ready.find(uid, stamp, &before.0, now),
                }
            }
            _ => self.ready.end(&uid),
        }
        let created = object.meta.creation_timestamp.as_ref().map(|time| time.0);
        let place = (created, key.clone());
        if new.is_some_and(|new| pods::is_finished(new)) {
            self.finished.insert(place);
            if self.finished.len() > pod_garbage::FINISHED {
                touched.push(Work::all(Controller::PodGarbage));
            }
        } else {
            self.finished.remove(&place);
        }
        if let Some(node) = new.and_then(|new| new.node.as_ref())
            && !self.cluster.has_node(node)
            && !self.missing.contains_key(node)
        {
            self.missing.insert(node.clone(), now.monotonic);
            self.had_node = true;
            touched.push(Work::all(Controller::PodGarbage));
        }
    }

    fn take_node(&mut self, view: &View<'_>, key: &Key, new: Option<&Arc<Object>>, now: Now, touched: &mut Touched) {
        self.had_node = true;
        let before = self.cluster.facts_of(&key.name).cloned();
        if self.cluster.put_node(&key.name, new.map(|new| &**new)) {
            self.retry_parked = true;
            touched.push(Work::all(Controller::Scheduler));
            let after = self.cluster.facts_of(&key.name);
            let minding = view
                .list(Kind::DaemonSet, None)
                .filter(|set| daemonset::minds(set, before.as_deref(), after.map(|after| &**after)));
            touched.extend(minding.map(|set| Work::new(Controller::DaemonSets, set.key())));
        }
        if new.is_some() {
            self.missing.remove(&key.name);
        } else {
            self.missing.insert(key.name.clone(), now.monotonic);
            touched.push(Work::all(Controller::PodGarbage));
        }
        let spec = new.and_then(|new| new.spec::<k8s_openapi::api::core::v1::NodeSpec>().ok());
        let taints: Vec<String> = spec
            .iter()
            .flat_map(|spec| spec.taints.iter().flatten())
            .filter(|taint| taint.effect == "NoExecute")
            .map(|taint| taint.key.clone())
            .collect();
        if taints.is_empty() {
            self.taints.remove(&key.name);
            return;
        }
        let seen = self.taints.entry(key.name.clone()).or_default();
        seen.retain(|taint, _| taints.contains(taint));
        for taint in taints {
            seen.entry(taint).or_insert(now.monotonic);
        }
    }

    pub(crate) fn strays(&self, kind: Kind, namespace: &str) -> impl Iterator<Item = &Key> {
        self.strays.get(&(kind, Arc::from(namespace))).into_iter().flatten()
    }

    pub(crate) fn ready_since(&self, uid: &Uid) -> Option<Duration> {
        self.ready.since(uid)
    }

    /// When (monotonic) a failed pod may be replaced, if it is not at once.
    pub(crate) fn not_before(&self, pod: &Object) -> Option<Duration> {
        let (owner, place, mark) = failures::place(pod).filter(|_| pods::phase(pod) == "Failed")?;
        self.failures.not_before(&owner, &place, mark)
    }

    /// The volumes that a claim may take.
    pub(crate) fn free_volumes(&self, claim: &Key) -> impl Iterator<Item = &Key> {
        self.shelf.open_to(claim)
    }

    pub(crate) fn progress_seen(&self, deployment: &Object) -> Option<Duration> {
        self.progress.since(&deployment.uid())
    }

    pub(crate) fn undeclared(&self) -> &BTreeSet<Key> {
        &self.undeclared
    }

    /// How many managed objects each unit has.
    pub(crate) fn totals(&self) -> BTreeMap<Unit, usize> {
        self.managed
            .iter()
            .map(|(unit, keys)| (unit.clone(), keys.len()))
            .collect()
    }

    /// Gates do not count for the newest commit, because a person said so.
    fn skips_gates(&self) -> bool {
        self.skip_gates.is_some() && self.skip_gates == self.desired.commit
    }

    /// What later waves wait for.
    pub(crate) fn gate(&mut self) -> Option<&waves::Gate> {
        if self.skips_gates() {
            return None;
        }
        self.unproven.gate()
    }

    /// What this row waits for.
    pub(crate) fn blocker(&self, row: &DesiredRow) -> Option<Key> {
        if self.skips_gates() {
            return None;
        }
        self.unproven.blocker(row, |key| self.desired.rows.get(key))
    }

    /// The oldest finished pods beyond the limit.
    pub(crate) fn finished_beyond(&self) -> impl Iterator<Item = &Key> {
        let beyond = self.finished.len().saturating_sub(pod_garbage::FINISHED);
        self.finished.iter().take(beyond).map(|(_, key)| key)
    }

    pub(crate) fn missing(&self) -> &BTreeMap<Arc<str>, Duration> {
        &self.missing
    }

    /// Forgets a missing node that no pod is bound to any more.
    pub(crate) fn forget_missing(&mut self, node: &str) {
        self.missing.remove(node);
    }
}

/// A time that the server wrote into a condition.
fn stamp(object: &Object, condition: &str, field: &str) -> Option<Timestamp> {
    pods::condition(object, condition)?[field].as_str()?.parse().ok()
}

fn remove_from<K: Ord>(map: &mut BTreeMap<K, BTreeSet<Key>>, at: &K, key: &Key) {
    if let Some(keys) = map.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            map.remove(at);
        }
    }
}

#[cfg(test)]
mod tests;
