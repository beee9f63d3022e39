//! The compact copy that the scheduler decides on: what nodes offer and what is used of it.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{NodeSpec, NodeStatus, PodSpec, Taint};
use rustc_hash::FxHashMap;
use schemas::{
    Key, Kind, Object, Uid,
    labels::{TAINT_NOT_READY, TAINT_UNREACHABLE},
};

use super::resources::{HostPort, Request, Resources, whole};
use crate::pods;

/// A node without room for its pods' count gets this many.
const PODS_UNLESS_SAID: i64 = 110;

/// What a node offers and who may use it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    pub name: Arc<str>,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    pub pods: i64,
}

impl Facts {
    #[must_use]
    pub fn of(node: &Object) -> Self {
        let spec = node.spec::<NodeSpec>().unwrap_or_default();
        let status: NodeStatus = node.status().unwrap_or_default();
        let offered = status.allocatable.as_ref().or(status.capacity.as_ref());
        let mut taints = spec.taints.clone().unwrap_or_default();
        let ready = pods::condition(node, "Ready").is_some_and(|ready| ready["status"] == "True");
        if !ready
            && !taints
                .iter()
                .any(|taint| taint.key == TAINT_NOT_READY || taint.key == TAINT_UNREACHABLE)
        {
            // The node controller will say the same in a moment.
            taints.push(Taint {
                key: TAINT_NOT_READY.to_owned(),
                effect: "NoSchedule".to_owned(),
                ..Taint::default()
            });
        }
        Self {
            name: node.name().into(),
            labels: node.meta.labels.as_deref().cloned().unwrap_or_default(),
            taints,
            unschedulable: spec.unschedulable == Some(true) || node.is_deleting(),
            allocatable: Resources::of(offered),
            pods: offered.and_then(|all| all.get("pods")).map_or(PODS_UNLESS_SAID, whole),
        }
    }
}

/// What is used of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub resources: Resources,
    pub scored: (i64, i64),
    pub pods: i64,
    ports: Option<Arc<Vec<HostPort>>>,
}

impl Used {
    pub fn add(&mut self, request: &Request) {
        self.resources.add(&request.resources);
        self.scored.0 += request.scored.0;
        self.scored.1 += request.scored.1;
        self.pods += 1;
        if !request.ports.is_empty() {
            Arc::make_mut(self.ports.get_or_insert_default()).extend(request.ports.iter().cloned());
        }
    }

    fn sub(&mut self, request: &Request) {
        self.resources.sub(&request.resources);
        self.scored.0 -= request.scored.0;
        self.scored.1 -= request.scored.1;
        self.pods -= 1;
        if let Some(ports) = &mut self.ports {
            let ports = Arc::make_mut(ports);
            for port in &request.ports {
                if let Some(at) = ports.iter().position(|used| used == port) {
                    ports.swap_remove(at);
                }
            }
        }
    }

    #[must_use]
    pub fn has_ports_for(&self, request: &Request) -> bool {
        let Some(used) = &self.ports else { return true };
        !request
            .ports
            .iter()
            .any(|port| used.iter().any(|other| other.clashes(port)))
    }
}

/// One node in the copy. Pods can name a node that is not there (yet).
#[derive(Clone, Debug, Default)]
pub struct Slot {
    pub facts: Option<Arc<Facts>>,
    pub used: Used,
}

#[derive(Clone, Debug)]
struct Placed {
    node: Arc<str>,
    request: Arc<Request>,
}

/// A pod that waits for a node.
#[derive(Clone, Debug)]
pub struct Pending {
    pub pod: Arc<Object>,
    /// Tried in vain: it waits until something about nodes or pods changes.
    pub parked: bool,
}

/// All nodes, what is used of them, and the pods that wait.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    nodes: BTreeMap<Arc<str>, Slot>,
    placed: FxHashMap<Uid, Placed>,
    pending: BTreeMap<Key, Pending>,
}

impl Cluster {
    #[must_use]
    pub fn nodes(&self) -> Vec<(Arc<Facts>, Used)> {
        let known = self.nodes.values();
        known
            .filter_map(|slot| Some((slot.facts.clone()?, slot.used.clone())))
            .collect()
    }

    /// What each node offers, by name.
    pub fn facts(&self) -> impl Iterator<Item = &Arc<Facts>> {
        self.nodes.values().filter_map(|slot| slot.facts.as_ref())
    }

    #[must_use]
    pub fn facts_of(&self, name: &str) -> Option<&Arc<Facts>> {
        self.nodes.get(name)?.facts.as_ref()
    }

    #[must_use]
    pub fn has_node(&self, name: &str) -> bool {
        self.nodes.get(name).is_some_and(|slot| slot.facts.is_some())
    }

    #[must_use]
    pub fn pending(&self) -> &BTreeMap<Key, Pending> {
        &self.pending
    }

    /// Takes in a node's new state (none: removed); true when pods that wait may fit now.
    pub fn put_node(&mut self, name: &str, node: Option<&Object>) -> bool {
        let facts = node.map(|node| Arc::new(Facts::of(node)));
        let slot = self.nodes.entry(name.into()).or_default();
        let changed = slot.facts != facts;
        slot.facts = facts;
        if slot.facts.is_none() && slot.used.pods == 0 {
            self.nodes.remove(name);
        }
        changed
    }

    /// Takes in a pod's new state (none: removed); true when it gave something back.
    pub fn put_pod(&mut self, key: &Key, uid: &Uid, pod: Option<&Arc<Object>>) -> bool {
        debug_assert_eq!(key.kind, Kind::Pod);
        let active = pod.filter(|pod| !pods::is_finished(pod));
        match active {
            Some(pod) if pod.node.is_none() && !pod.is_deleting() => {
                let parked = pods::condition(pod, "PodScheduled").is_some_and(|it| it["status"] == "False");
                let pending = Pending {
                    pod: pod.clone(),
                    parked,
                };
                self.pending.insert(key.clone(), pending);
            }
            _ => {
                if self.pending.get(key).is_some_and(|pending| pending.pod.uid() == *uid) {
                    self.pending.remove(key);
                }
            }
        }
        let node = active.and_then(|pod| pod.node.clone());
        match (node, self.placed.get(uid)) {
            (Some(node), None) => {
                let spec = active.and_then(|pod| pod.spec::<PodSpec>().ok()).unwrap_or_default();
                let request = Arc::new(Request::of(&spec));
                self.nodes.entry(node.clone()).or_default().used.add(&request);
                self.placed.insert(uid.clone(), Placed { node, request });
                false
            }
            (None, Some(_)) => {
                self.unplace(uid);
                true
            }
            _ => false,
        }
    }

    fn unplace(&mut self, uid: &Uid) {
        let Some(placed) = self.placed.remove(uid) else { return };
        if let Some(slot) = self.nodes.get_mut(&placed.node) {
            slot.used.sub(&placed.request);
            if slot.facts.is_none() && slot.used.pods == 0 {
                self.nodes.remove(&placed.node);
            }
        }
    }
}
