//! Amounts of resources, as whole numbers.

use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::api::resource::Quantity,
};
use std::collections::BTreeMap;

/// What a pod without requests is taken to use when nodes are compared (never when they are
/// filtered), so that pods spread.
const SCORED_CPU: i64 = 100;
const SCORED_MEMORY: i64 = 200 * 1024 * 1024;

/// An amount of each resource: CPU in thousandths, memory and disk in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub cpu: i64,
    pub memory: i64,
    pub ephemeral: i64,
    /// Everything else, by name, such as devices and huge pages.
    pub extended: BTreeMap<String, i64>,
}

impl Resources {
    #[must_use]
    pub fn of(list: Option<&BTreeMap<String, Quantity>>) -> Self {
        let mut all = Self::default();
        for (name, quantity) in list.into_iter().flatten() {
            match name.as_str() {
                "cpu" => all.cpu = thousandths(quantity),
                "memory" => all.memory = whole(quantity),
                "ephemeral-storage" => all.ephemeral = whole(quantity),
                "pods" => {}
                _ => {
                    all.extended.insert(name.clone(), whole(quantity));
                }
            }
        }
        all
    }

    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    pub fn sub(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
    }

    fn max(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, how: impl Fn(i64, i64) -> i64) {
        self.cpu = how(self.cpu, other.cpu);
        self.memory = how(self.memory, other.memory);
        self.ephemeral = how(self.ephemeral, other.ephemeral);
        for (name, amount) in &other.extended {
            let own = self.extended.entry(name.clone()).or_insert(0);
            *own = how(*own, *amount);
        }
    }
}

/// A port of the host that a pod wants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    pub port: i32,
    pub protocol: String,
    /// Empty or `0.0.0.0`: all addresses.
    pub address: String,
}

impl HostPort {
    /// Both cannot be had on one host.
    #[must_use]
    pub fn clashes(&self, other: &Self) -> bool {
        let any = |address: &str| address.is_empty() || address == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (any(&self.address) || any(&other.address) || self.address == other.address)
    }
}

/// What a pod asks of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub resources: Resources,
    /// CPU and memory as they count in scores.
    pub scored: (i64, i64),
    pub ports: Vec<HostPort>,
}

impl Request {
    /// The larger of the largest init container and the sum of the containers; sidecars count with
    /// both, as they run beside what comes after them.
    #[must_use]
    pub fn of(spec: &PodSpec) -> Self {
        let mut running = Resources::default();
        let mut scored = (0, 0);
        for container in &spec.containers {
            let own = requests(container);
            scored.0 += if own.cpu == 0 { SCORED_CPU } else { own.cpu };
            scored.1 += if own.memory == 0 { SCORED_MEMORY } else { own.memory };
            running.add(&own);
        }
        let mut sidecars = Resources::default();
        let mut peak = Resources::default();
        for init in spec.init_containers.iter().flatten() {
            let own = requests(init);
            if init.restart_policy.as_deref() == Some("Always") {
                sidecars.add(&own);
                running.add(&own);
                peak.max(&sidecars);
            } else {
                let mut beside = sidecars.clone();
                beside.add(&own);
                peak.max(&beside);
            }
        }
        running.max(&peak);
        running.add(&Resources::of(spec.overhead.as_ref()));
        let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let host_network = spec.host_network == Some(true);
        let ports = all
            .flat_map(|container| container.ports.iter().flatten())
            .filter_map(|port| {
                let on_host = port.host_port.or(host_network.then_some(port.container_port))?;
                (on_host > 0).then(|| HostPort {
                    port: on_host,
                    protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                    address: port.host_ip.clone().unwrap_or_default(),
                })
            })
            .collect();
        Self {
            scored: (scored.0.max(running.cpu), scored.1.max(running.memory)),
            resources: running,
            ports,
        }
    }
}

/// Requests of a container; a limit without a request counts as one.
fn requests(container: &Container) -> Resources {
    let Some(resources) = &container.resources else {
        return Resources::default();
    };
    let mut merged = resources.limits.clone().unwrap_or_default();
    merged.extend(resources.requests.clone().unwrap_or_default());
    Resources::of(Some(&merged))
}

fn thousandths(quantity: &Quantity) -> i64 {
    quantity.0.parse().map_or(0, schemas::quantity::Quantity::milli)
}

/// Whole units, rounded up.
pub(super) fn whole(quantity: &Quantity) -> i64 {
    quantity.0.parse().map_or(0, schemas::quantity::Quantity::value)
}
