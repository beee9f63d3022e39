//! What one metric says: how many replicas its load needs.
//!
//! Pods that have no figures, or are not ready yet, are counted so that they hold the autoscaler back
//! and never push it: at the wanted use where less is needed, at none where more is.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::{
    autoscaling::v2::{MetricSpec, MetricTarget},
    core::v1::{Container, PodSpec},
};
use schemas::{Now, Part, quantity::Quantity};
use serde_json::{Value, json};

use super::{Pod, behavior::Behavior};
use crate::pods;

/// For so long after its start a pod's CPU counts only when it was measured while the pod was ready.
const CPU_INITIALIZATION: Duration = Duration::from_secs(300);
/// A pod that was last unready this soon after its start has never been ready.
const INITIAL_READINESS: Duration = Duration::from_secs(30);

/// What a metric asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// What it is, for people.
    pub(super) name: String,
    /// Its entry in the status.
    pub(super) status: Value,
}

/// Why a metric says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Source<'a> {
    resource: &'a str,
    /// One container of each pod; none: all of them.
    container: Option<&'a str>,
}

/// What there should be of it.
#[derive(Clone, Copy, Debug)]
enum Aim {
    /// Percent of what is requested.
    Utilization(i64),
    /// So much in each pod, in the unit of the resource.
    Average(i64),
}

/// Use by pod: an index into the pods, and how much.
#[derive(Debug, Default)]
struct Counted {
    ready: Vec<(usize, i64)>,
    unready: Vec<usize>,
    missing: Vec<usize>,
    /// Anything that is not on its way out.
    any: bool,
}

/// What a metric says of these pods.
///
/// # Errors
/// Why it says nothing.
pub(super) fn propose(
    metric: &MetricSpec,
    pods: &[Pod],
    current: i32,
    behavior: &Behavior,
    now: Now,
) -> Result<Proposal, Fault> {
    let (source, target, reason) = match (metric.type_.as_str(), &metric.resource, &metric.container_resource) {
        ("Resource", Some(resource), _) => {
            let source = Source {
                resource: &resource.name,
                container: None,
            };
            (source, &resource.target, "FailedGetResourceMetric")
        }
        ("ContainerResource", _, Some(resource)) => {
            let source = Source {
                resource: &resource.name,
                container: Some(&resource.container),
            };
            (source, &resource.target, "FailedGetContainerResourceMetric")
        }
        (other, ..) => {
            let reason = match other {
                "Pods" => "FailedGetPodsMetric",
                "Object" => "FailedGetObjectMetric",
                "External" => "FailedGetExternalMetric",
                _ => "InvalidMetricSourceType",
            };
            return Err(Fault {
                reason,
                message: format!(
                    "metrics of the type {other:?} are not measured here: use Resource or ContainerResource with cpu or memory"
                ),
            });
        }
    };
    let fault = |message: String| Fault { reason, message };
    let aim = aim(&source, target).map_err(fault)?;
    if !matches!(source.resource, "cpu" | "memory") {
        return Err(fault(format!(
            "{:?} of containers is not measured: use cpu or memory",
            source.resource
        )));
    }
    let counted = count(&source, pods, now);
    if !counted.any {
        return Err(fault("there are no pods of the target".to_owned()));
    }
    if counted.ready.is_empty() {
        return Err(fault(format!(
            "no ready pod of the target has figures for {} yet",
            source.resource
        )));
    }
    let weighed = Weighed::new(&source, aim, pods, &counted).map_err(fault)?;
    Ok(Proposal {
        replicas: weighed.replicas(&counted, current, behavior),
        name: format!("{} {}", source.name(), aim.name()),
        status: weighed.status(&source, &counted),
    })
}

impl Source<'_> {
    fn name(&self) -> String {
        match self.container {
            None => format!("{} resource", self.resource),
            Some(container) => format!("{} container resource of {container}", self.resource),
        }
    }

    fn is_cpu(&self) -> bool {
        self.resource == "cpu"
    }

    /// An amount in the unit of the resource: thousandths of a core, or bytes.
    fn units(&self, amount: Quantity) -> i64 {
        if self.is_cpu() { amount.milli() } else { amount.value() }
    }

    /// What a pod uses, if all of what counts is measured.
    fn used(&self, pod: &Pod) -> Option<i64> {
        let usage = pod.usage.as_ref()?;
        let mut counted = usage
            .figures
            .iter()
            .filter(|container| self.container.is_none_or(|name| *name == *container.name))
            .peekable();
        counted.peek()?;
        let nano: u64 = counted
            .map(|container| {
                if self.is_cpu() {
                    container.used.cpu
                } else {
                    container.used.memory
                }
            })
            .sum();
        let used = if self.is_cpu() { nano.div_ceil(1_000_000) } else { nano };
        Some(i64::try_from(used).unwrap_or(i64::MAX))
    }

    /// What the containers of a pod request.
    fn requested(&self, pod: &Pod) -> Result<i64, String> {
        let spec = pod.object.spec::<PodSpec>().map_err(|error| error.to_string())?;
        let init = spec.init_containers.iter().flatten();
        let sidecars = init.filter(|init| init.restart_policy.as_deref() == Some("Always"));
        let containers = spec.containers.iter().chain(sidecars);
        let mut counted = containers
            .filter(|container| self.container.is_none_or(|name| name == container.name))
            .peekable();
        if let (None, Some(name)) = (counted.peek(), self.container) {
            return Err(format!("pod {} has no container {name:?}", pod.object.name()));
        }
        counted
            .map(|container| {
                self.requested_by(container).ok_or_else(|| {
                    format!(
                        "container {} of pod {} requests no {}: the share of it that is used cannot be said",
                        container.name,
                        pod.object.name(),
                        self.resource
                    )
                })
            })
            .sum()
    }

    /// A limit without a request counts as one.
    fn requested_by(&self, container: &Container) -> Option<i64> {
        let resources = container.resources.as_ref()?;
        let named = |list: &Option<std::collections::BTreeMap<_, _>>| list.as_ref()?.get(self.resource).cloned();
        let amount = named(&resources.requests).or_else(|| named(&resources.limits))?;
        let units = self.units(amount.0.parse().ok()?);
        (units > 0).then_some(units)
    }
}

impl Aim {
    fn name(self) -> &'static str {
        match self {
            Self::Utilization(_) => "utilization (percentage of request)",
            Self::Average(_) => "average value",
        }
    }
}

fn aim(source: &Source<'_>, target: &MetricTarget) -> Result<Aim, String> {
    if let Some(value) = &target.average_value {
        let amount: Quantity = value.0.parse().map_err(|error| format!("averageValue: {error}"))?;
        return match source.units(amount) {
            units if units > 0 => Ok(Aim::Average(units)),
            _ => Err("averageValue must be above 0".to_owned()),
        };
    }
    match target.average_utilization {
        Some(percent) if percent > 0 => Ok(Aim::Utilization(percent.into())),
        _ => Err("its target names neither averageUtilization nor averageValue".to_owned()),
    }
}

fn count(source: &Source<'_>, pods: &[Pod], now: Now) -> Counted {
    let mut counted = Counted::default();
    for (at, pod) in pods.iter().enumerate() {
        let phase = pods::phase(&pod.object);
        if pod.object.is_deleting() || phase == "Failed" {
            continue;
        }
        counted.any = true;
        if phase == "Pending" {
            counted.unready.push(at);
            continue;
        }
        match source.used(pod) {
            None => counted.missing.push(at),
            Some(_) if source.is_cpu() && starts(pod, now) => counted.unready.push(at),
            Some(used) => counted.ready.push((at, used)),
        }
    }
    counted
}

/// Whether a pod's CPU is that of its start, and says nothing of its load.
fn starts(pod: &Pod, now: Now) -> bool {
    let status = pod.object.status.as_ref();
    let began = status.and_then(|status| time(status.at("startTime")?));
    let condition = pods::condition(&pod.object, "Ready");
    let (Some(began), Some(ready)) = (began, condition) else {
        return true;
    };
    let is_ready = ready["status"] != "False";
    let age = Duration::try_from(now.wall.duration_since(began)).unwrap_or_default();
    if age < CPU_INITIALIZATION {
        let measured_in_time = pod.usage.as_ref().is_none_or(|usage| {
            let since = pod.ready_since.unwrap_or_default();
            usage.received >= since + usage.window
        });
        return !is_ready || !measured_in_time;
    }
    let turned = ready["lastTransitionTime"].as_str().and_then(|text| text.parse().ok());
    let never = turned.is_none_or(|turned: Timestamp| {
        Duration::try_from(turned.duration_since(began)).unwrap_or_default() < INITIAL_READINESS
    });
    !is_ready && never
}

fn time(part: Part<'_>) -> Option<Timestamp> {
    part.text()?.parse().ok()
}

/// Use and aim, in numbers that can be compared.
struct Weighed {
    aim: Aim,
    /// What each pod requests; nothing where the aim is an amount.
    requests: Vec<i64>,
}

impl Weighed {
    fn new(source: &Source<'_>, aim: Aim, pods: &[Pod], counted: &Counted) -> Result<Self, String> {
        let mut requests = vec![0; pods.len()];
        if let Aim::Utilization(_) = aim {
            let ready = counted.ready.iter().map(|(at, _)| at);
            for at in ready.chain(&counted.unready).chain(&counted.missing) {
                requests[*at] = source.requested(&pods[*at])?;
            }
        }
        Ok(Self { aim, requests })
    }

    /// Use in the unit of the aim: percent, or the unit of the resource; rounded down.
    fn current(&self, used: &[(usize, i64)]) -> i64 {
        let all: i128 = used.iter().map(|(_, used)| i128::from(*used)).sum();
        let current = match self.aim {
            Aim::Utilization(_) => {
                let requested: i128 = used.iter().map(|(at, _)| i128::from(self.requests[*at])).sum();
                all * 100 / requested.max(1)
            }
            Aim::Average(_) => all / i128::try_from(used.len().max(1)).unwrap_or(1),
        };
        i64::try_from(current).unwrap_or(i64::MAX)
    }

    fn ratio(&self, used: &[(usize, i64)]) -> f64 {
        let (Aim::Utilization(wanted) | Aim::Average(wanted)) = self.aim;
        self.current(used) as f64 / wanted as f64
    }

    fn replicas(&self, counted: &Counted, current: i32, behavior: &Behavior) -> i32 {
        let within = |ratio: f64| 1.0 - behavior.down.tolerance <= ratio && ratio <= 1.0 + behavior.up.tolerance;
        let first = self.ratio(&counted.ready);
        let with_unready = first > 1.0 && !counted.unready.is_empty();
        if !with_unready && counted.missing.is_empty() {
            return if within(first) {
                current
            } else {
                rounded(first, counted.ready.len())
            };
        }
        let mut used = counted.ready.clone();
        if first < 1.0 {
            used.extend(counted.missing.iter().map(|at| (*at, self.presumed(*at))));
        } else if first > 1.0 {
            used.extend(counted.missing.iter().map(|at| (*at, 0)));
        }
        if with_unready {
            used.extend(counted.unready.iter().map(|at| (*at, 0)));
        }
        let ratio = self.ratio(&used);
        if within(ratio) || (first < 1.0 && ratio > 1.0) || (first > 1.0 && ratio < 1.0) {
            return current;
        }
        let replicas = rounded(ratio, used.len());
        if (ratio < 1.0 && replicas > current) || (ratio > 1.0 && replicas < current) {
            return current;
        }
        replicas
    }

    /// What a pod without figures is taken to use where less would be needed.
    fn presumed(&self, at: usize) -> i64 {
        match self.aim {
            Aim::Utilization(wanted) => {
                let used = i128::from(self.requests[at]) * i128::from(wanted.max(100)) / 100;
                i64::try_from(used).unwrap_or(i64::MAX)
            }
            Aim::Average(wanted) => wanted,
        }
    }

    fn status(&self, source: &Source<'_>, counted: &Counted) -> Value {
        let used: i128 = counted.ready.iter().map(|(_, used)| i128::from(*used)).sum();
        let average = used / i128::try_from(counted.ready.len().max(1)).unwrap_or(1);
        let average = i64::try_from(average).unwrap_or(i64::MAX);
        let average = if source.is_cpu() {
            Quantity::from_milli(average)
        } else {
            Quantity::from_value(average)
        };
        let mut current = json!({"averageValue": average.to_string()});
        if let Aim::Utilization(_) = self.aim {
            current["averageUtilization"] = self.current(&counted.ready).into();
        }
        match source.container {
            None => json!({"type": "Resource", "resource": {"name": source.resource, "current": current}}),
            Some(container) => json!({"type": "ContainerResource", "containerResource": {
                "name": source.resource, "container": container, "current": current,
            }}),
        }
    }
}

fn rounded(ratio: f64, pods: usize) -> i32 {
    // A cast saturates, which is what is wanted of absurd ratios.
    (ratio * pods as f64).ceil() as i32
}
