//! What a ResourceQuota counts, and how much of it each object is. Pure; the store judges with it.
//!
//! <https://kubernetes.io/docs/concepts/policy/resource-quotas/>

pub mod pod;
mod scope;

use k8s_openapi::api::core::v1::ResourceQuotaSpec;

use crate::{Kind, Object, ObjectError, Part, kind::KINDS, quantity::Quantity};
use pod::{PodAmounts, is_finished};
use scope::Scope;

/// A quota as it is judged by.
#[derive(Clone, Debug)]
pub struct Quota {
    pub name: String,
    /// In the order of their names; what an object takes of each stands at the same place.
    pub limits: Vec<Limit>,
    scopes: Vec<Scope>,
}

/// One line of `spec.hard`.
#[derive(Clone, Debug)]
pub struct Limit {
    /// As the quota writes it: `requests.cpu`.
    pub name: String,
    pub hard: Quantity,
    /// None: nothing here is counted by this name.
    pub measure: Option<Measure>,
}

/// What a line counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Objects of a kind, finished pods included.
    Objects(Kind),
    /// Pods that are not finished.
    Pods,
    /// Requests of pods that are not finished, by the name of the resource.
    Requests(String),
    /// Limits of pods that are not finished.
    Limits(String),
    LoadBalancers,
    NodePorts,
    /// Bytes that claims ask for, of one class or of all.
    Storage(Option<String>),
    /// Claims of one class.
    Claims(String),
}

/// Kinds with a name of their own beside `count/…`.
const SHORT: [Kind; 7] = [
    Kind::ConfigMap,
    Kind::PersistentVolumeClaim,
    Kind::ReplicationController,
    Kind::ResourceQuota,
    Kind::Secret,
    Kind::Service,
    Kind::ServiceAccount,
];
const CLASS: &str = ".storageclass.storage.k8s.io/";
/// Resources of containers that are counted without the word `requests.` too.
const PLAIN: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

impl Measure {
    /// What a name in `spec.hard` counts; none for a name that nothing here goes by.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        if let Some(resource) = name.strip_prefix("count/") {
            return countable(resource).map(Self::Objects);
        }
        if let Some((class, what)) = name.split_once(CLASS) {
            return match what {
                "requests.storage" => Some(Self::Storage(Some(class.to_owned()))),
                "persistentvolumeclaims" => Some(Self::Claims(class.to_owned())),
                _ => None,
            };
        }
        if let Some(resource) = name.strip_prefix("limits.") {
            return PLAIN.contains(&resource).then(|| Self::Limits(resource.to_owned()));
        }
        match name {
            "pods" => Some(Self::Pods),
            "services.loadbalancers" => Some(Self::LoadBalancers),
            "services.nodeports" => Some(Self::NodePorts),
            "requests.storage" => Some(Self::Storage(None)),
            _ if PLAIN.contains(&name) || name.starts_with("hugepages-") => Some(Self::Requests(name.to_owned())),
            _ => match name.strip_prefix("requests.") {
                Some(resource) => Some(Self::Requests(resource.to_owned())),
                None => SHORT
                    .into_iter()
                    .find(|kind| kind.info().plural == name)
                    .map(Self::Objects),
            },
        }
    }

    /// It counts nothing but pods.
    #[must_use]
    pub fn is_of_pods(&self) -> bool {
        matches!(
            self,
            Self::Pods | Self::Requests(_) | Self::Limits(_) | Self::Objects(Kind::Pod)
        )
    }
}

/// The kind that `count/RESOURCE.GROUP` names.
fn countable(resource: &str) -> Option<Kind> {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    KINDS
        .iter()
        .find(|info| info.namespaced && info.plural == plural && info.group == group)
        .map(|info| info.kind)
}

impl Quota {
    /// Reads a ResourceQuota.
    pub fn read(object: &Object) -> Result<Self, ObjectError> {
        let spec = object.spec::<ResourceQuotaSpec>()?;
        let limits = spec.hard.iter().flatten().map(|(name, hard)| Limit {
            measure: Measure::of(name),
            // Validation has read it already.
            hard: hard.0.parse().unwrap_or_default(),
            name: name.clone(),
        });
        Ok(Self {
            name: object.name().to_owned(),
            limits: limits.collect(),
            scopes: Scope::all(&spec),
        })
    }

    /// How much an object takes of each limit; none where it takes nothing at all.
    #[must_use]
    pub fn charge(&self, object: &Object) -> Option<Vec<Quantity>> {
        if object.kind == Kind::Pod {
            return self.charge_pod(object);
        }
        if !self.scopes.is_empty() || !self.limits.iter().any(|limit| limit.concerns(object.kind)) {
            return None;
        }
        let amounts = self.limits.iter().map(|limit| {
            let measure = limit.measure.as_ref();
            measure.map_or(Quantity::ZERO, |measure| measure.amount(object))
        });
        Some(amounts.collect())
    }

    fn charge_pod(&self, pod: &Object) -> Option<Vec<Quantity>> {
        if !self.limits.iter().any(|limit| limit.concerns(Kind::Pod)) || !self.covers(pod) {
            return None;
        }
        let finished = is_finished(pod);
        let amounts = match finished {
            true => PodAmounts::default(),
            false => PodAmounts::of(pod),
        };
        let amounts = self.limits.iter().map(|limit| match &limit.measure {
            Some(Measure::Objects(Kind::Pod)) => Quantity::from_value(1),
            Some(Measure::Pods) => Quantity::from_value(i64::from(!finished)),
            Some(Measure::Requests(name)) => amounts.requests.get(name).copied().unwrap_or_default(),
            Some(Measure::Limits(name)) => amounts.limits.get(name).copied().unwrap_or_default(),
            _ => Quantity::ZERO,
        });
        Some(amounts.collect())
    }

    /// Whether the quota's scopes take this pod in.
    #[must_use]
    pub fn covers(&self, pod: &Object) -> bool {
        self.scopes.iter().all(|scope| scope.covers(pod))
    }

    /// What a pod must say for this quota to be counted, and which of its containers do not.
    ///
    /// # Errors
    /// The text that people know: `must specify limits.cpu for: c`.
    pub fn demands(&self, pod: &Object) -> Result<(), String> {
        if pod.kind != Kind::Pod || !self.covers(pod) {
            return Ok(());
        }
        let missing: Vec<String> = self
            .limits
            .iter()
            .filter_map(|limit| {
                let silent = pod::silent(pod, limit.measure.as_ref()?);
                (!silent.is_empty()).then(|| format!("{} for: {}", limit.name, silent.join(",")))
            })
            .collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(format!("must specify {}", missing.join("; "))),
        }
    }
}

impl Limit {
    fn concerns(&self, kind: Kind) -> bool {
        match &self.measure {
            None => false,
            Some(Measure::Objects(of)) => *of == kind,
            Some(Measure::Pods | Measure::Requests(_) | Measure::Limits(_)) => kind == Kind::Pod,
            Some(Measure::LoadBalancers | Measure::NodePorts) => kind == Kind::Service,
            Some(Measure::Storage(_) | Measure::Claims(_)) => kind == Kind::PersistentVolumeClaim,
        }
    }
}

impl Measure {
    /// How much of this an object other than a pod is.
    fn amount(&self, object: &Object) -> Quantity {
        let one = |counts: bool| Quantity::from_value(i64::from(counts));
        let text = |path: &str| object.body.at(path).and_then(Part::text);
        let of_class = |class: &str| {
            object.kind == Kind::PersistentVolumeClaim && text("spec/storageClassName").is_some_and(|own| own == class)
        };
        match self {
            Self::Objects(kind) => one(*kind == object.kind),
            Self::LoadBalancers => {
                one(object.kind == Kind::Service && text("spec/type").is_some_and(|kind| kind == "LoadBalancer"))
            }
            Self::NodePorts if object.kind == Kind::Service => node_ports(object),
            Self::Claims(class) => one(of_class(class)),
            Self::Storage(class) if object.kind == Kind::PersistentVolumeClaim => {
                if class.as_deref().is_some_and(|class| !of_class(class)) {
                    return Quantity::ZERO;
                }
                let asked = text("spec/resources/requests/storage");
                asked.and_then(|asked| asked.parse().ok()).unwrap_or_default()
            }
            _ => Quantity::ZERO,
        }
    }
}

/// A port of each node for each port of a service that is served there.
fn node_ports(service: &Object) -> Quantity {
    let kind = service.body.at("spec/type").and_then(Part::text);
    let ports = service.body.at("spec/ports").into_iter().flat_map(Part::items);
    let count = match kind.as_deref() {
        Some("NodePort") => ports.count(),
        Some("LoadBalancer") => {
            let without = service
                .body
                .at("spec/allocateLoadBalancerNodePorts")
                .and_then(Part::bool)
                == Some(false);
            let fixed = |port: &Part<'_>| port.get("nodePort").and_then(Part::int).is_some_and(|port| port != 0);
            ports.filter(|port| !without || fixed(port)).count()
        }
        _ => 0,
    };
    Quantity::from_value(i64::try_from(count).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
