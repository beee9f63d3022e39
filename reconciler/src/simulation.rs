//! A cluster as a map, for tests of plans: what a plan writes is applied at once, and time and order
//! are the test's.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;
use schemas::{Key, Kind, Now, Object, Uid, defaulting};
use serde_json::{Value, json};
use store::{Op, Write};

use crate::{
    daemonset, deployment,
    failures::{self, Failures},
    ids::Ids,
    plan::{Plan, Step},
    pods, replicaset,
    scheduler::node::Facts,
    statefulset,
};

pub(crate) struct Simulation {
    pub(crate) objects: BTreeMap<Key, Arc<Object>>,
    pub(crate) now: Now,
    pub(crate) ids: Ids,
    pub(crate) ready_since: FxHashMap<Uid, Duration>,
    /// When rollouts count on ready pods, by ReplicaSet.
    pub(crate) steady: FxHashMap<Uid, Vec<Duration>>,
    /// How long a DaemonSet's update does not count on a ready pod.
    pub(crate) hold: Duration,
    pub(crate) progress: FxHashMap<Uid, (Value, Duration)>,
    failures: Failures,
    version: u64,
}

pub(crate) fn start() -> Now {
    Now {
        wall: "2026-11-24T12:00:00Z".parse().expect("it is a time"),
        monotonic: Duration::from_secs(1_000),
    }
}

impl Simulation {
    pub(crate) fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            now: start(),
            ids: Ids::seeded(1),
            ready_since: FxHashMap::default(),
            steady: FxHashMap::default(),
            hold: Duration::ZERO,
            progress: FxHashMap::default(),
            failures: Failures::default(),
            version: 0,
        }
    }

    pub(crate) fn put(&mut self, mut value: Value) -> Arc<Object> {
        let kind: Kind = value["kind"]
            .as_str()
            .expect("it has one")
            .parse()
            .expect("it is known");
        defaulting::default_object(kind, &mut value);
        let mut object = Object::from_value(value).expect("it is valid");
        let key = object.key();
        self.version += 1;
        object.version = self.version;
        let old = self.objects.get(&key);
        object.meta.uid = Some(old.map_or_else(|| self.ids.uid().0, |old| old.uid().0));
        object.meta.generation = Some(old.map_or(1, |old| {
            let changed = old.body.hash() != object.body.hash();
            old.meta.generation.unwrap_or(1) + i64::from(changed)
        }));
        if let Some(old) = old {
            object.status = old.status.clone();
            object.meta.annotations = old.meta.annotations.clone();
        }
        let object = Arc::new(object);
        self.objects.insert(key, object.clone());
        object
    }

    /// Stores an object as it is given.
    pub(crate) fn insert(&mut self, mut object: Object) -> Arc<Object> {
        self.version += 1;
        object.version = self.version;
        let object = Arc::new(object);
        self.objects.insert(object.key(), object.clone());
        object
    }

    /// Applies a plan's steps; panics when a precondition does not hold.
    pub(crate) fn apply(&mut self, plan: &Plan) {
        if let Err(error) = self.carry_out(plan, usize::MAX) {
            panic!("{error}");
        }
    }

    /// Carries a plan out as far as `most` writes go; stops after the step in which a precondition does
    /// not hold.
    pub(crate) fn carry_out(&mut self, plan: &Plan, most: usize) -> Result<(), String> {
        let mut left = most;
        for step in &plan.steps {
            let Step::Write { writes, .. } = step else { continue };
            let mut outcome = Ok(());
            for write in writes {
                if left == 0 {
                    return outcome;
                }
                left -= 1;
                outcome = outcome.and(self.write(write));
            }
            outcome?;
        }
        Ok(())
    }

    fn write(&mut self, write: &Write) -> Result<(), String> {
        self.version += 1;
        let key = match &write.op {
            Op::Create(object) | Op::Replace(object) | Op::Retire { object, .. } => object.key(),
            Op::Status { key, .. } | Op::Bind { key, .. } | Op::Remove { key } => key.clone(),
        };
        let old = self.objects.get(&key).cloned();
        if let Op::Create(object) = &write.op {
            if old.is_some() {
                return Err(format!("{key} is there already"));
            }
            let mut object = object.clone();
            object.version = self.version;
            object.meta.generation = Some(1);
            self.objects.insert(key, Arc::new(object));
            return Ok(());
        }
        let old = old.ok_or_else(|| format!("{key} is not there"))?;
        if write.version.is_some_and(|version| version != old.version) {
            return Err(format!("{key} is at another version"));
        }
        let mut new = Object::clone(&old);
        new.version = self.version;
        match &write.op {
            Op::Replace(object) => {
                new.meta = object.meta.clone();
                let changed = old.body.hash() != object.body.hash();
                new.meta.generation = Some(old.meta.generation.unwrap_or(1) + i64::from(changed));
                new.body = object.body.clone();
                let free = |object: &Object| object.meta.finalizers.as_ref().is_none_or(|names| names.is_empty());
                let stopped = new.node.is_none() || new.meta.deletion_grace_period_seconds.unwrap_or(0) == 0;
                if new.is_deleting() && !free(&old) && free(&new) && (key.kind != Kind::Pod || stopped) {
                    self.objects.remove(&key);
                    return Ok(());
                }
            }
            Op::Retire { object, status } => {
                new.meta = object.meta.clone();
                new.status = Some(status.clone());
            }
            Op::Status { status, .. } => new.status = Some(status.clone()),
            Op::Bind { node, status, .. } => {
                new.node = Some(node.clone());
                new.status = status.clone();
            }
            Op::Remove { .. } => {
                self.objects.remove(&key);
                return Ok(());
            }
            Op::Create(_) => {}
        }
        self.objects.insert(key, Arc::new(new));
        Ok(())
    }

    fn owned(&self, owner: &Object, kind: Kind) -> Vec<Arc<Object>> {
        let uid = owner.uid();
        let all = self.objects.values().filter(|object| object.kind == kind);
        all.filter(|object| object.controller().is_some_and(|controller| *controller.uid == *uid.0))
            .cloned()
            .collect()
    }

    fn strays(&self, kind: Kind) -> Vec<Arc<Object>> {
        let all = self
            .objects
            .values()
            .filter(|object| object.kind == kind && object.controller().is_none());
        all.cloned().collect()
    }

    pub(crate) fn all(&self, kind: Kind) -> Vec<Arc<Object>> {
        self.objects
            .values()
            .filter(|object| object.kind == kind)
            .cloned()
            .collect()
    }

    pub(crate) fn get(&self, kind: Kind, name: &str) -> Arc<Object> {
        self.objects[&Key::namespaced(kind, "a", name)].clone()
    }

    /// Plans one Deployment and applies the plan; true if it did something.
    pub(crate) fn deployment(&mut self, name: &str) -> Plan {
        let deployment = self.get(Kind::Deployment, name);
        let at = pods::condition(&deployment, "Progressing")
            .map(|it| it["lastUpdateTime"].clone())
            .unwrap_or_default();
        let seen = self
            .progress
            .entry(deployment.uid())
            .or_insert((at.clone(), self.now.monotonic));
        if seen.0 != at {
            *seen = (at, self.now.monotonic);
        }
        let progress_seen = Some(seen.1);
        let sets = self.owned(&deployment, Kind::ReplicaSet);
        let pods = sets
            .iter()
            .map(|set| (set.uid(), self.owned(set, Kind::Pod).len()))
            .collect();
        let named = deployment::set_name(&deployment).and_then(|name| {
            self.objects
                .get(&Key::namespaced(Kind::ReplicaSet, "a", &name))
                .cloned()
        });
        let world = deployment::World {
            strays: self.strays(Kind::ReplicaSet),
            deployment,
            sets,
            named,
            pods,
            steady: self.steady.clone(),
            progress_seen,
        };
        let plan = deployment::plan(&world, self.now, &mut self.ids);
        self.apply(&plan);
        plan
    }

    pub(crate) fn replica_set(&mut self, name: &str) -> Plan {
        let found = replicaset::KINDS
            .iter()
            .find_map(|kind| self.objects.get(&Key::namespaced(*kind, "a", name)));
        let set = found.expect("it is there").clone();
        let world = replicaset::World {
            pods: self.owned(&set, Kind::Pod),
            strays: self.strays(Kind::Pod),
            ready_since: self.ready_since.clone(),
            failure: None,
            set,
        };
        let plan = replicaset::plan(&world, self.now, &mut self.ids);
        self.apply(&plan);
        plan
    }

    pub(crate) fn daemon_set(&mut self, name: &str) -> Plan {
        let set = self.get(Kind::DaemonSet, name);
        let pods = self.owned(&set, Kind::Pod);
        let named = daemonset::revision_name(&set).expect("it has a template");
        let world = daemonset::World {
            nodes: self
                .all(Kind::Node)
                .iter()
                .map(|node| Arc::new(Facts::of(node)))
                .collect(),
            not_before: self.not_before(&pods),
            revisions: self.owned(&set, Kind::ControllerRevision),
            strays: [Kind::Pod, Kind::ControllerRevision]
                .map(|kind| self.strays(kind))
                .concat(),
            named: self.find(Kind::ControllerRevision, &named),
            ready_since: self.ready_since.clone(),
            steady: self
                .ready_since
                .iter()
                .map(|(uid, since)| (uid.clone(), *since + self.hold))
                .collect(),
            failure: None,
            set,
            pods,
        };
        let plan = daemonset::plan(&world, self.now, &mut self.ids);
        self.apply(&plan);
        plan
    }

    pub(crate) fn stateful_set(&mut self, name: &str) -> Plan {
        let set = self.get(Kind::StatefulSet, name);
        let pods = self.owned(&set, Kind::Pod);
        let named = statefulset::revision_name(&set).expect("it has a template");
        let claims = statefulset::claims::names(&set, &pods).into_iter();
        let claims = claims.filter_map(|name| Some((name.clone(), self.find(Kind::PersistentVolumeClaim, &name)?)));
        let world = statefulset::World {
            claims: claims.collect(),
            not_before: self.not_before(&pods),
            revisions: self.owned(&set, Kind::ControllerRevision),
            strays: [Kind::Pod, Kind::ControllerRevision]
                .map(|kind| self.strays(kind))
                .concat(),
            named: self.find(Kind::ControllerRevision, &named),
            ready_since: self.ready_since.clone(),
            failure: None,
            set,
            pods,
        };
        let plan = statefulset::plan(&world, self.now, &mut self.ids);
        self.apply(&plan);
        plan
    }

    fn not_before(&self, pods: &[Arc<Object>]) -> FxHashMap<Uid, Duration> {
        let until = |pod: &Arc<Object>| {
            let (owner, place, mark) = failures::place(pod)?;
            Some((pod.uid(), self.failures.not_before(&owner, &place, mark)?))
        };
        pods.iter().filter_map(until).collect()
    }

    pub(crate) fn find(&self, kind: Kind, name: &str) -> Option<Arc<Object>> {
        self.objects.get(&Key::namespaced(kind, "a", name)).cloned()
    }

    pub(crate) fn put_node(&mut self, name: &str, labels: Value, spec: Value) {
        self.put(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": spec,
            "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "AgentReady"}]},
        }));
    }

    /// Ends a pod, as a kubelet would report it.
    pub(crate) fn finish(&mut self, pod: &Object, phase: &str) {
        let mut new = pod.clone();
        self.version += 1;
        new.version = self.version;
        new.status = Some(json!({"phase": phase}).into());
        self.ready_since.remove(&pod.uid());
        if phase == "Failed"
            && let Some((owner, place, mark)) = failures::place(pod)
        {
            self.failures.note(owner, place, mark, self.now.monotonic);
        }
        self.objects.insert(pod.key(), Arc::new(new));
    }

    /// Sets a pod's readiness, as a kubelet would report it.
    pub(crate) fn set_ready(&mut self, pod: &Object, ready: bool) {
        let mut new = pod.clone();
        self.version += 1;
        new.version = self.version;
        new.node
            .get_or_insert_with(|| daemonset::place(pod).unwrap_or_else(|| "n".into()));
        let mut status = new.status_value().unwrap_or_default();
        status["phase"] = "Running".into();
        pods::set_condition(
            &mut status,
            json!({"type": "Ready", "status": if ready { "True" } else { "False" }}),
        );
        new.status = Some(status.into());
        if ready {
            self.ready_since.entry(pod.uid()).or_insert(self.now.monotonic);
        } else {
            self.ready_since.remove(&pod.uid());
        }
        self.objects.insert(pod.key(), Arc::new(new));
    }

    /// Removes what is being deleted, as a kubelet would once it is stopped.
    pub(crate) fn reap(&mut self) -> bool {
        let before = self.objects.len();
        self.objects
            .retain(|key, object| key.kind != Kind::Pod || !object.is_deleting());
        before != self.objects.len()
    }

    /// Lets a Deployment's controllers and the kubelet run until nothing changes.
    pub(crate) fn settle(&mut self, name: &str, works: impl Fn(&Object) -> bool) {
        self.settle_with(works, |sim| {
            let mut idle = sim.deployment(name).is_empty();
            for set in sim.all(Kind::ReplicaSet) {
                if sim.objects.contains_key(&set.key()) {
                    idle &= sim.replica_set(set.name()).is_empty();
                }
            }
            idle
        });
    }

    /// Lets controllers and the kubelet run until nothing changes. `controllers` says whether they had
    /// nothing to do; pods for which `works` holds become ready.
    pub(crate) fn settle_with(
        &mut self,
        works: impl Fn(&Object) -> bool,
        mut controllers: impl FnMut(&mut Self) -> bool,
    ) {
        for _ in 0..200 {
            let mut idle = controllers(self);
            idle &= !self.reap();
            for pod in self.all(Kind::Pod) {
                if pods::is_active(&pod) && !pods::is_ready(&pod) && works(&pod) {
                    self.set_ready(&pod, true);
                    idle = false;
                }
            }
            if idle {
                return;
            }
        }
        panic!("it does not settle: {:#?}", self.objects.keys());
    }

    pub(crate) fn active(&self) -> Vec<Arc<Object>> {
        self.all(Kind::Pod)
            .into_iter()
            .filter(|pod| pods::is_active(pod))
            .collect()
    }

    pub(crate) fn available(&self) -> usize {
        self.active().iter().filter(|pod| pods::is_ready(pod)).count()
    }
}
