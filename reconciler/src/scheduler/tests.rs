//! Tests of the scheduler: tables for each rule, and the fast way against a slow and obvious one.

mod affinity;
mod preemption;
mod properties;
mod reference;
mod rooms;
mod spread;
mod waiting;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use schemas::{Key, Kind, Now, Object};
use serde_json::{Value, json};
use store::Op;

use super::{
    cluster::Cluster,
    desk::{self, Desk, News},
    node::Facts,
    plan,
};
use crate::{
    plan::{Plan, Step},
    pods,
    simulation::start,
};

/// A cluster as a map: what a plan writes is applied at once, as the store would, and the scheduler's
/// copy is told of it.
pub(super) struct Place {
    pub(super) desk: Desk,
    pub(super) objects: BTreeMap<Key, Arc<Object>>,
    pub(super) now: Now,
    version: u64,
    created: i64,
}

impl Place {
    pub(super) fn new() -> Self {
        Self {
            desk: Desk::seeded(1),
            objects: BTreeMap::new(),
            now: start(),
            version: 0,
            created: 0,
        }
    }

    /// A place with these nodes.
    pub(super) fn with(nodes: impl IntoIterator<Item = Value>) -> Self {
        let mut place = Self::new();
        nodes.into_iter().for_each(|node| place.put(node));
        place
    }

    pub(super) fn put(&mut self, mut value: Value) {
        let name = value["metadata"]["name"].as_str().expect("it has one").to_owned();
        if value["metadata"]["uid"].is_null() {
            value["metadata"]["uid"] = format!("uid-{name}").into();
        }
        if value["kind"] == "Pod" && value["metadata"]["creationTimestamp"].is_null() {
            // Each pod is made a second later, so that their order is plain.
            self.created += 1;
            let at = jiff::Timestamp::from_second(1_700_000_000 + self.created).expect("a time");
            value["metadata"]["creationTimestamp"] = at.to_string().into();
        }
        let object = Object::from_value(value).expect("it is valid");
        self.store(object);
    }

    fn store(&mut self, mut object: Object) {
        self.version += 1;
        object.version = self.version;
        let object = Arc::new(object);
        self.objects.insert(object.key(), object.clone());
        self.desk.tell(news(&object));
    }

    pub(super) fn remove(&mut self, kind: Kind, name: &str) {
        let key = self
            .objects
            .keys()
            .find(|key| key.kind == kind && &*key.name == name)
            .cloned()
            .unwrap_or_else(|| panic!("{kind} {name} is not there"));
        self.remove_key(&key);
    }

    fn remove_key(&mut self, key: &Key) {
        if let Some(object) = self.objects.remove(key) {
            self.desk.tell(match key.kind {
                Kind::Node => News::Node(key.name.clone(), None),
                _ => News::Object(key.clone(), object.uid(), None),
            });
        }
    }

    /// Changes an object's JSON.
    pub(super) fn edit(&mut self, kind: Kind, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut value = self.get(kind, name).to_value();
        edit(&mut value);
        self.store(Object::from_value(value).expect("it is valid"));
    }

    pub(super) fn get(&self, kind: Kind, name: &str) -> Arc<Object> {
        let mut all = self.objects.values();
        let found = all.find(|object| object.kind == kind && object.name() == name);
        found.unwrap_or_else(|| panic!("{kind} {name} is not there")).clone()
    }

    pub(super) fn all(&self, kind: Kind) -> Vec<Arc<Object>> {
        let all = self.objects.values().filter(|object| object.kind == kind);
        all.cloned().collect()
    }

    /// Makes a plan without carrying it out.
    pub(super) fn look(&mut self) -> Option<Plan> {
        let mut cluster = self.desk.take(self.now.monotonic)?;
        let plan = plan(&mut cluster, self.now);
        self.desk.put_back(cluster);
        Some(plan)
    }

    /// Makes a plan and carries it out; an empty one where there is nothing to decide.
    pub(super) fn run(&mut self) -> Plan {
        let Some(mut cluster) = self.desk.take(self.now.monotonic) else {
            return Plan::default();
        };
        let plan = plan(&mut cluster, self.now);
        self.apply(&plan);
        self.desk.put_back(cluster);
        if let Some(cluster) = self.desk.cluster_mut() {
            cluster.check_classes();
        }
        plan
    }

    /// Runs until nothing is left to decide now.
    pub(super) fn settle(&mut self) {
        for _ in 0..100 {
            if !self.desk.has_work(self.now.monotonic) {
                return;
            }
            self.run();
        }
        panic!("it does not settle");
    }

    pub(super) fn wait(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    fn apply(&mut self, plan: &Plan) {
        for write in plan.steps.iter().flat_map(|step| match step {
            Step::Write { writes, .. } => writes.as_slice(),
            _ => &[],
        }) {
            let key = match &write.op {
                Op::Create(object) | Op::Replace(object) | Op::Retire { object, .. } => object.key(),
                Op::Status { key, .. } | Op::Bind { key, .. } | Op::Remove { key } => key.clone(),
            };
            let old = self.objects.get(&key).unwrap_or_else(|| panic!("{key} is not there"));
            assert_eq!(write.version, Some(old.version), "{key}");
            let mut new = Object::clone(old);
            match &write.op {
                Op::Status { status, .. } => new.status = Some(status.clone()),
                Op::Bind { node, status, .. } => {
                    assert!(new.node.is_none(), "{key} is bound already");
                    new.node = Some(node.clone());
                    new.status = status.clone();
                }
                Op::Retire { object, status } => {
                    new = object.clone();
                    new.status = Some(status.clone());
                }
                Op::Remove { .. } => {
                    self.remove_key(&key);
                    continue;
                }
                Op::Create(_) | Op::Replace(_) => panic!("the scheduler makes and changes nothing"),
            }
            self.store(new);
        }
    }

    /// The node of a pod.
    pub(super) fn node_of(&self, pod: &str) -> Option<String> {
        self.get(Kind::Pod, pod).node.as_deref().map(str::to_owned)
    }

    /// Why a pod waits.
    pub(super) fn why(&self, pod: &str) -> String {
        let pod = self.get(Kind::Pod, pod);
        let said = pods::condition(&pod, "PodScheduled").filter(|it| it["status"] == "False");
        said.and_then(|it| it["message"].as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    /// How many pods each node has, by the node's name.
    pub(super) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for pod in self.all(Kind::Pod) {
            if let Some(node) = &pod.node {
                *counts.entry(node.to_string()).or_insert(0) += 1;
            }
        }
        counts
    }

    pub(super) fn cluster(&self) -> &Cluster {
        self.desk.cluster().expect("it is here")
    }
}

/// What the index tells of an object.
fn news(object: &Arc<Object>) -> News {
    match object.kind {
        Kind::Node => News::Node(object.name().into(), Some(Arc::new(Facts::of(object)))),
        _ => News::Object(object.key(), object.uid(), Some(object.clone())),
    }
}

/// A node with CPUs and 8 GiB, in a zone.
pub(super) fn node(name: &str, cpu: &str, zone: &str) -> Value {
    let mut labels = json!({"kubernetes.io/hostname": name});
    if !zone.is_empty() {
        labels["topology.kubernetes.io/zone"] = zone.into();
    }
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {},
        "status": {
            "allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10", "ephemeral-storage": "10Gi"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

/// A pod with one container and these labels and fields of its spec.
pub(super) fn pod(name: &str, labels: Value, spec: Value) -> Value {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "a", "labels": labels},
        "spec": {"containers": [{"name": "c", "image": "i"}]}, "status": {"phase": "Pending"},
    });
    for (field, part) in spec.as_object().into_iter().flatten() {
        value["spec"][field] = part.clone();
    }
    value
}

/// A pod that asks for resources.
pub(super) fn asks(name: &str, requests: Value) -> Value {
    let containers = json!([{"name": "c", "image": "i", "resources": {"requests": requests}}]);
    pod(name, json!({}), json!({"containers": containers}))
}

/// The same, bound and running.
pub(super) fn on(node: &str, mut pod: Value) -> Value {
    pod["spec"]["nodeName"] = node.into();
    pod["status"]["phase"] = "Running".into();
    pod
}

/// Which kinds the scheduler hears of is what the index tells it.
#[test]
fn the_scheduler_hears_of_pods_after_what_they_are_read_with() {
    assert_eq!(desk::KINDS.last(), Some(&Kind::Pod));
}
