//! A node as the scheduler sees it: what it offers, who may use it, and what is used of it.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{NodeSpec, NodeStatus, Taint};
use schemas::{
    Object,
    labels::{TAINT_NOT_READY, TAINT_UNREACHABLE},
};

use super::resources::{HostPort, Request, Resources, whole};
use crate::pods;

/// A node that does not say how many pods it takes gets this many.
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
    /// The images that it has, by name, with their size in bytes.
    pub images: Vec<(Arc<str>, i64)>,
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
        let images = status.images.iter().flatten();
        let images = images.flat_map(|image| {
            let size = image.size_bytes.unwrap_or(0);
            let names = image.names.iter().flatten();
            names.map(move |name| (Arc::from(image_name(name).as_str()), size))
        });
        Self {
            name: node.name().into(),
            labels: node.meta.labels.as_deref().cloned().unwrap_or_default(),
            taints,
            unschedulable: spec.unschedulable == Some(true) || node.is_deleting(),
            allocatable: Resources::of(offered),
            pods: offered.and_then(|all| all.get("pods")).map_or(PODS_UNLESS_SAID, whole),
            images: images.collect(),
        }
    }
}

/// An image's name with the tag that is meant where none stands.
#[must_use]
pub fn image_name(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') || last.contains('@') {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

/// What is used of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub resources: Resources,
    /// CPU and memory as they count where nodes are compared by how full they are.
    pub scored: [i64; 2],
    pub pods: i64,
    pub ports: Vec<HostPort>,
}

impl Used {
    pub fn add(&mut self, request: &Request) {
        self.resources.add(&request.resources);
        self.scored[0] += request.scored[0];
        self.scored[1] += request.scored[1];
        self.pods += 1;
        self.ports.extend(request.ports.iter().cloned());
    }

    pub fn sub(&mut self, request: &Request) {
        self.resources.sub(&request.resources);
        self.scored[0] -= request.scored[0];
        self.scored[1] -= request.scored[1];
        self.pods -= 1;
        for port in &request.ports {
            if let Some(at) = self.ports.iter().position(|used| used == port) {
                self.ports.swap_remove(at);
            }
        }
    }

    #[must_use]
    pub fn has_ports_for(&self, request: &Request) -> bool {
        !request
            .ports
            .iter()
            .any(|port| self.ports.iter().any(|other| other.clashes(port)))
    }
}
