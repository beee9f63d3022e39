//! Amounts of resources, as whole numbers.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::api::resource::Quantity,
};

/// What a container that does not say what it needs is taken to use when nodes are compared (never
/// when they are filtered), so that pods spread.
const SCORED_CPU: i64 = 100;
const SCORED_MEMORY: i64 = 200 * 1024 * 1024;

/// CPU in thousandths, then memory and disk in bytes: the places of [`Resources::basic`].
pub const CPU: usize = 0;
pub const MEMORY: usize = 1;
pub const EPHEMERAL: usize = 2;
/// The resources that every node has, as they are called in manifests.
pub const BASIC: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// An amount of each resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub basic: [i64; BASIC.len()],
    /// Everything else, such as devices and huge pages, in the order of names.
    pub extended: Vec<(Arc<str>, i64)>,
}

impl Resources {
    #[must_use]
    pub fn of(list: Option<&BTreeMap<String, Quantity>>) -> Self {
        let mut all = Self::default();
        for (name, quantity) in list.into_iter().flatten() {
            match name.as_str() {
                "cpu" => all.basic[CPU] = thousandths(quantity),
                "memory" => all.basic[MEMORY] = whole(quantity),
                "ephemeral-storage" => all.basic[EPHEMERAL] = whole(quantity),
                "pods" => {}
                _ => all.extended.push((name.as_str().into(), whole(quantity))),
            }
        }
        all
    }

    /// An amount of something that not every node has.
    #[must_use]
    pub fn extended(&self, name: &str) -> i64 {
        self.extended
            .binary_search_by(|(other, _)| (**other).cmp(name))
            .map_or(0, |at| self.extended[at].1)
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
        for (own, amount) in self.basic.iter_mut().zip(other.basic) {
            *own = how(*own, amount);
        }
        for (name, amount) in &other.extended {
            match self.extended.binary_search_by(|(own, _)| own.cmp(name)) {
                Ok(at) => self.extended[at].1 = how(self.extended[at].1, *amount),
                Err(at) => self.extended.insert(at, (name.clone(), how(0, *amount))),
            }
        }
        if self.extended.iter().any(|(_, amount)| *amount == 0) {
            self.extended.retain(|(_, amount)| *amount != 0);
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
    /// CPU and memory as they count where nodes are compared by how full they are.
    pub scored: [i64; 2],
    pub ports: Vec<HostPort>,
}

impl Request {
    /// The larger of the largest init container and the sum of the containers; sidecars count with
    /// both, as they run beside what comes after them.
    #[must_use]
    pub fn of(spec: &PodSpec) -> Self {
        let scored = effective(spec, |container| {
            let mut own = requests(container);
            let said = |name: &str| {
                let resources = container.resources.as_ref();
                let lists = resources.map(|it| [it.requests.as_ref(), it.limits.as_ref()]);
                lists
                    .into_iter()
                    .flatten()
                    .flatten()
                    .any(|list| list.contains_key(name))
            };
            if !said("cpu") {
                own.basic[CPU] = SCORED_CPU;
            }
            if !said("memory") {
                own.basic[MEMORY] = SCORED_MEMORY;
            }
            own
        });
        Self {
            resources: effective(spec, requests),
            scored: [scored.basic[CPU], scored.basic[MEMORY]],
            ports: host_ports(spec),
        }
    }
}

fn effective(spec: &PodSpec, of: impl Fn(&Container) -> Resources) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&of(container));
    }
    let mut sidecars = Resources::default();
    let mut peak = Resources::default();
    for init in spec.init_containers.iter().flatten() {
        let own = of(init);
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
    running
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|init| init.restart_policy.as_deref() == Some("Always"));
    let host_network = spec.host_network == Some(true);
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let on_host = port.host_port.or(host_network.then_some(port.container_port))?;
            (on_host > 0).then(|| HostPort {
                port: on_host,
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                address: port.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
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
