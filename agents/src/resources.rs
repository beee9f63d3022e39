//! Requests and limits as the kernel takes them, and the quality of service that they make.

use k8s_openapi::{
    api::core::v1::{Container as ContainerSpec, PodSpec},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use schemas::quantity::Quantity;

/// The three classes of quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

fn read(quantity: Option<&ApiQuantity>) -> Option<Quantity> {
    quantity.and_then(|quantity| Quantity::try_from(quantity).ok())
}

/// A container's limit of `resource`, if it has one above zero.
#[must_use]
pub(crate) fn limit(container: &ContainerSpec, resource: &str) -> Option<Quantity> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    read(limits.get(resource)).filter(|quantity| !quantity.is_zero())
}

/// A container's request of `resource`; its limit, where only that is given.
#[must_use]
pub(crate) fn request(container: &ContainerSpec, resource: &str) -> Option<Quantity> {
    let requests = container
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    match requests.and_then(|requests| requests.get(resource)) {
        Some(quantity) => read(Some(quantity)).filter(|quantity| !quantity.is_zero()),
        None => limit(container, resource),
    }
}

/// The class of a pod: guaranteed when each container has limits of CPU and memory that equal its
/// requests, best effort when none has any, else burstable.
#[must_use]
pub(crate) fn qos(spec: &PodSpec) -> Qos {
    let all = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let any = all().any(|container| {
        ["cpu", "memory"]
            .iter()
            .any(|resource| request(container, resource).is_some() || limit(container, resource).is_some())
    });
    if !any {
        return Qos::BestEffort;
    }
    let guaranteed = all().all(|container| {
        ["cpu", "memory"].iter().all(|resource| {
            let limit = limit(container, resource);
            limit.is_some() && limit == request(container, resource)
        })
    });
    if guaranteed { Qos::Guaranteed } else { Qos::Burstable }
}

/// How ready the kernel is to kill a container when memory runs out: −997, 2…999 or 1000.
#[must_use]
pub(crate) fn oom_score_adj(qos: Qos, container: &ContainerSpec, node_memory: i64) -> i64 {
    match qos {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let request = request(container, "memory").map_or(0, Quantity::value);
            let share = 1000_i128 * i128::from(request) / i128::from(node_memory.max(1));
            i64::try_from((1000 - share).clamp(2, 999)).unwrap_or(999)
        }
    }
}

/// Relative weight of CPU time: 1024 for each CPU requested, at least 2.
#[must_use]
pub(crate) fn cpu_shares(container: &ContainerSpec) -> i64 {
    let milli = request(container, "cpu").map_or(0, Quantity::milli);
    (milli.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// Microseconds of CPU in each 100 ms, at least 1 ms; none without a limit.
#[must_use]
pub(crate) fn cpu_quota(container: &ContainerSpec) -> Option<i64> {
    limit(container, "cpu").map(|limit| limit.milli().saturating_mul(100).max(1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(resources: &[serde_json::Value]) -> PodSpec {
        let containers: Vec<_> = resources
            .iter()
            .map(|resources| json!({"name": "c", "image": "i", "resources": resources}))
            .collect();
        serde_json::from_value(json!({"containers": containers})).expect("it is a pod spec")
    }

    #[test]
    fn classes_and_scores() {
        let gi = 1 << 30;
        let cases = [
            (json!({}), Qos::BestEffort, 1000, 2, None),
            (
                json!({"limits": {"cpu": "500m", "memory": "1Gi"}}),
                Qos::Guaranteed,
                -997,
                512,
                Some(50_000),
            ),
            (
                json!({"requests": {"cpu": "1", "memory": "1Gi"}}),
                Qos::Burstable,
                750,
                1024,
                None,
            ),
            (json!({"limits": {"cpu": "1m"}}), Qos::Burstable, 999, 2, Some(1000)),
            (
                json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "100m", "memory": "128Mi"}}),
                Qos::Burstable,
                985,
                102,
                Some(10_000),
            ),
        ];
        for (resources, class, score, shares, quota) in cases {
            let spec = spec(std::slice::from_ref(&resources));
            let container = &spec.containers[0];
            assert_eq!(qos(&spec), class, "{resources}");
            assert_eq!(oom_score_adj(class, container, 4 * gi), score, "{resources}");
            assert_eq!(cpu_shares(container), shares, "{resources}");
            assert_eq!(cpu_quota(container), quota, "{resources}");
        }
        let mixed = spec(&[json!({"limits": {"cpu": "1", "memory": "1Gi"}}), json!({})]);
        assert_eq!(qos(&mixed), Qos::Burstable);
    }
}
