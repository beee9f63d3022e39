//! What the driver knows across objects: a cache of the store, fed by one watch.
//!
//! It answers what a look at one key cannot afford to search for, and maps each change to the keys
//! that must be looked at. It can be rebuilt from the store at any time.

mod map;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use rustc_hash::FxHashMap;
use schemas::{Key, Kind, Now, Object, Uid, Unit, priority::Priorities};
use store::{Change, Desired, View};

use crate::{
    daemonset,
    failures::Failures,
    garbage, namespace, nodes, pod_garbage, pods,
    queue::{Controller, Work},
    release::{self, autoscaling, waves},
    removals::Removals,
    revision,
    scheduler::{
        desk::{self, Desk, News},
        node::Facts,
    },
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
    /// What autoscalers scale.
    pub(crate) scaled: autoscaling::Scaled,
    waves: BTreeMap<i64, BTreeSet<Key>>,
    /// Pods and ReplicaSets that nobody controls, by namespace.
    strays: FxHashMap<(Kind, Arc<str>), BTreeSet<Key>>,
    ready_since: FxHashMap<Uid, Duration>,
    progress: FxHashMap<Uid, (String, Duration)>,
    finished: BTreeSet<(Option<Timestamp>, Key)>,
    /// Nodes that are gone although pods are bound to them, since when.
    missing: BTreeMap<Arc<str>, Duration>,
    failures: Failures,
    pub(crate) taints: nodes::Seen,
    /// What each node that is there offers.
    pub(crate) nodes: BTreeMap<Arc<str>, Arc<Facts>>,
    pub(crate) desk: Desk,
    /// The classes of priority, for pods that are made.
    pub(crate) priorities: Arc<Priorities>,
}

use map::is_garbage;

/// Keys to look at.
pub(crate) type Touched = Vec<Work>;

impl Index {
    /// The cache of all that is there now. Pods that are ready are taken at their word how long.
    pub(crate) fn build(view: &View<'_>, desired: Arc<Desired>, seed: u64, now: Now) -> Self {
        let mut index = Self {
            desk: Desk::seeded(seed),
            ..Self::default()
        };
        // What pods are read with has to be there before them.
        let before_pods = desk::KINDS.iter().filter(|kind| **kind != Kind::Pod);
        for object in before_pods.flat_map(|kind| view.list(*kind, None)) {
            index.tell_scheduler(&object.key(), None, Some(object));
        }
        let mut touched = Vec::new();
        let mut leaving = Vec::new();
        for info in schemas::kind::KINDS {
            for object in view.list(info.kind, None) {
                index.take(view, &object.key(), None, Some(object), now, &mut touched);
                touched.clear();
                if object.is_deleting() && release::is_managed(object) && !desired.rows.contains_key(&object.key()) {
                    leaving.push(object.clone());
                }
                if info.kind == Kind::Pod && pods::is_ready(object) {
                    let since = pods::condition(object, "Ready").and_then(|it| it["lastTransitionTime"].as_str());
                    let ago = since
                        .and_then(|since| since.parse::<Timestamp>().ok())
                        .and_then(|since| Duration::try_from(now.wall.duration_since(since)).ok())
                        .unwrap_or_default();
                    index
                        .ready_since
                        .insert(object.uid(), now.monotonic.saturating_sub(ago));
                }
            }
        }
        index.set_desired(view, desired, &mut touched);
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
        ] {
            all.extend(view.list(kind, None).map(|object| each(controller, object.key())));
        }
        for info in schemas::kind::KINDS {
            for object in view.list(info.kind, None) {
                if is_garbage(view, object) || garbage::waits_for_dependents(object) {
                    all.push(each(Controller::Garbage, object.key()));
                }
            }
        }
        all
    }

    /// Takes a new revision over; touches the rows that changed.
    pub(crate) fn set_desired(&mut self, view: &View<'_>, desired: Arc<Desired>, touched: &mut Touched) {
        let old = std::mem::replace(&mut self.desired, desired.clone());
        let mut put = |key: &Key| {
            touched.push(Work::new(Controller::Release, key.clone()));
            touched.push(Work::new(Controller::Report, key.clone()));
        };
        for (key, row) in &desired.rows {
            let before = old.rows.get(key);
            if before.is_some_and(|before| Arc::ptr_eq(before, row)) {
                continue;
            }
            if before.is_none_or(|before| before != row) {
                put(key);
            }
            let wave = waves::wave(&row.content);
            if let Some(before) = before
                .map(|before| waves::wave(&before.content))
                .filter(|before| *before != wave)
            {
                remove_from(&mut self.waves, &before, key);
            }
            self.waves.entry(wave).or_default().insert(key.clone());
            self.undeclared.remove(key);
            self.removals.forget(key);
        }
        for (key, row) in &old.rows {
            if !desired.rows.contains_key(key) {
                put(key);
                remove_from(&mut self.waves, &waves::wave(&row.content), key);
                if self.managed.get(&Unit::of(key)).is_some_and(|unit| unit.contains(key)) {
                    self.undeclared.insert(key.clone());
                }
                if let Some(live) = view.get(key).filter(|live| release::is_managed(live)) {
                    self.removals.add(view, live);
                }
            }
        }
        if old.revision == 0 {
            let all = self.managed.values().flatten();
            self.undeclared = all.filter(|key| !desired.rows.contains_key(*key)).cloned().collect();
            for live in self.undeclared.iter().filter_map(|key| view.get(key)) {
                self.removals.add(view, live);
            }
        }
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
        let mut moved = self.removals.take(view, old, new);
        if let Some(managed) = managed
            && self.desired.revision > 0
            && !self.desired.rows.contains_key(key)
        {
            moved |= self.removals.add(view, managed);
        }
        if moved {
            touched.push(Work::all(Controller::Report));
        }
        if desk::KINDS.contains(&key.kind) {
            self.tell_scheduler(key, old, new);
            self.touch_scheduler(now, touched);
        }
        match key.kind {
            Kind::Pod => self.take_pod(key, old, new, now, touched),
            Kind::ReplicaSet | Kind::ControllerRevision => self.take_stray(key, new),
            Kind::DaemonSet => {
                if let Some(old) = old.filter(|old| new.is_none_or(|new| new.uid() != old.uid())) {
                    self.failures.forget(&old.uid());
                }
            }
            Kind::Deployment => {
                let progress = new.and_then(|new| pods::condition(new, "Progressing")?["lastUpdateTime"].as_str());
                if let Some(object) = new.or(old) {
                    match progress {
                        Some(at) if self.progress.get(&object.uid()).is_some_and(|(seen, _)| seen == at) => {}
                        Some(at) => drop(self.progress.insert(object.uid(), (at.to_owned(), now.monotonic))),
                        None => drop(self.progress.remove(&object.uid())),
                    }
                }
            }
            Kind::Node => self.take_node(view, key, new, now, touched),
            Kind::PriorityClass => {
                Arc::make_mut(&mut self.priorities).put(&key.name, new.map(Arc::as_ref));
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

    fn touch_scheduler(&self, now: Now, touched: &mut Touched) {
        if self.desk.has_work(now.monotonic) {
            touched.push(Work::all(Controller::Scheduler));
        }
    }

    fn tell_scheduler(&mut self, key: &Key, old: Option<&Arc<Object>>, new: Option<&Arc<Object>>) {
        let before = old.map(|old| old.uid());
        let after = new.map(|new| new.uid());
        let mut tell = |uid: &Uid, object: Option<&Arc<Object>>| {
            self.desk.tell(News::Object(key.clone(), uid.clone(), object.cloned()));
        };
        if let Some(before) = before.filter(|before| after.as_ref() != Some(before)) {
            tell(&before, None);
        }
        if let Some(after) = after {
            tell(&after, new);
        }
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
        let Some(object) = new.or(old) else { return };
        let uid = object.uid();
        if let Some(old) = old
            && old.uid() != uid
        {
            self.ready_since.remove(&old.uid());
        }
        if let Some(new) = new
            && pods::phase(new) == "Failed"
            && old.is_none_or(|old| old.uid() != new.uid() || pods::phase(old) != "Failed")
            && let Some((owner, place, mark)) = place(new)
        {
            self.failures.note(owner, place, mark, now.monotonic);
        }
        match new {
            Some(new) if pods::is_ready(new) => {
                self.ready_since.entry(uid).or_insert(now.monotonic);
            }
            _ => drop(self.ready_since.remove(&uid)),
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
            && !self.nodes.contains_key(node)
            && !self.missing.contains_key(node)
        {
            self.missing.insert(node.clone(), now.monotonic);
            touched.push(Work::all(Controller::PodGarbage));
        }
    }

    fn take_node(&mut self, view: &View<'_>, key: &Key, new: Option<&Arc<Object>>, now: Now, touched: &mut Touched) {
        let after = new.map(|new| Arc::new(Facts::of(new)));
        let before = match &after {
            Some(facts) => self.nodes.insert(key.name.clone(), facts.clone()),
            None => self.nodes.remove(&key.name),
        };
        if before != after {
            let minding = view
                .list(Kind::DaemonSet, None)
                .filter(|set| daemonset::minds(set, before.as_deref(), after.as_deref()));
            touched.extend(minding.map(|set| Work::new(Controller::DaemonSets, set.key())));
            self.desk.tell(News::Node(key.name.clone(), after));
            self.touch_scheduler(now, touched);
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
        self.taints
            .retain(|(node, taint), _| *node != key.name || taints.contains(taint));
        for taint in taints {
            self.taints.entry((key.name.clone(), taint)).or_insert(now.monotonic);
        }
    }

    pub(crate) fn strays(&self, kind: Kind, namespace: &str) -> impl Iterator<Item = &Key> {
        self.strays.get(&(kind, Arc::from(namespace))).into_iter().flatten()
    }

    pub(crate) fn ready_since(&self, uid: &Uid) -> Option<Duration> {
        self.ready_since.get(uid).copied()
    }

    /// When (monotonic) a failed pod may be replaced, if it is not at once.
    pub(crate) fn not_before(&self, pod: &Object) -> Option<Duration> {
        let (owner, place, mark) = place(pod).filter(|_| pods::phase(pod) == "Failed")?;
        self.failures.not_before(&owner, &place, mark)
    }

    pub(crate) fn progress_seen(&self, deployment: &Object) -> Option<Duration> {
        self.progress.get(&deployment.uid()).map(|(_, since)| *since)
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

    /// Waves with their rows, the earliest first.
    pub(crate) fn waves(&self) -> &BTreeMap<i64, BTreeSet<Key>> {
        &self.waves
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

/// Whose pod this is, at which of its owner's places, and of which revision: for owners that make one
/// pod for each of their places.
fn place(pod: &Object) -> Option<(Uid, Arc<str>, &str)> {
    let owner = pod.controller()?;
    let place = match daemonset::controller_of(pod) {
        Some(_) => daemonset::place(pod)?,
        None => return None,
    };
    Some((owner.uid.as_str().into(), place, revision::mark_of(pod).unwrap_or("")))
}

fn remove_from<K: Ord>(map: &mut BTreeMap<K, BTreeSet<Key>>, at: &K, key: &Key) {
    if let Some(keys) = map.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            map.remove(at);
        }
    }
}
