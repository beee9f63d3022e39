//! The pods of one node that is in trouble: not ready while nobody hears of it, and evicted once they
//! do not tolerate its taints any longer.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions>

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{PodSpec, Taint};
use rustc_hash::FxHashMap;
use schemas::{Now, Object};
use serde_json::json;
use store::{Class, Write};

use crate::{
    nodes::{SILENT, is_unknown, taints},
    owners,
    plan::{Plan, status_of},
    pods::{blank, condition, disrupted, is_disrupted, is_finished, set_condition, stamp},
    scheduler::filter,
};

/// One node and its pods.
#[derive(Clone, Debug)]
pub struct World {
    pub node: Arc<Object>,
    pub pods: Vec<Arc<Object>>,
    /// Since when (monotonic) each of its NoExecute taints is seen, by key.
    pub seen: FxHashMap<String, Duration>,
}

/// At most so many pods are evicted in one look.
const AT_ONCE: usize = 500;
const SOURCE: &str = "taint-eviction-controller";

/// Whether the pods of a node have to be looked at.
#[must_use]
pub fn concern(node: &Object) -> bool {
    is_unknown(node) || taints(node).iter().any(|taint| taint.effect == "NoExecute")
}

#[must_use]
pub fn plan(world: &World, now: Now) -> Plan {
    let mut plan = Plan::default();
    let unknown = is_unknown(&world.node);
    let marks = world.pods.iter().filter_map(|pod| mark(pod, unknown, now)).collect();
    plan.writes(Class::Status, "telling which pods are heard of", marks);
    if plan.is_empty() {
        evict(&mut plan, world, now);
    }
    plan
}

/// A pod on a node that is not heard of serves nobody for sure. It does again when the node is heard
/// of and has said nothing else.
fn mark(pod: &Object, unknown: bool, now: Now) -> Option<Write> {
    if is_finished(pod) {
        return None;
    }
    let ready = condition(pod, "Ready")?;
    let value = if unknown {
        (ready["status"] == "True").then_some("False")?
    } else {
        let containers = condition(pod, "ContainersReady").is_some_and(|it| it["status"] == "True");
        (ready["reason"] == SILENT && ready["status"] != "True" && containers).then_some("True")?
    };
    let mut status = blank(pod.status.as_ref());
    let mut condition = json!({"type": "Ready", "status": value, "lastTransitionTime": stamp(now.wall)});
    if unknown {
        condition["reason"] = SILENT.into();
    }
    set_condition(&mut status, condition);
    Some(status_of(pod, status))
}

/// Pods that do not tolerate a NoExecute taint (any more) go, and say why.
fn evict(plan: &mut Plan, world: &World, now: Now) {
    let taints: Vec<Taint> = taints(&world.node)
        .into_iter()
        .filter(|taint| taint.effect == "NoExecute")
        .collect();
    if taints.is_empty() {
        return;
    }
    let (mut told, mut gone) = (Vec::new(), Vec::new());
    for pod in world.pods.iter().filter(|pod| !pod.is_deleting() && !is_finished(pod)) {
        let Ok(spec) = pod.spec::<PodSpec>() else { continue };
        let Some(at) = leaves_at(&spec, &taints, &world.seen, now) else {
            continue;
        };
        if at > now.monotonic {
            plan.look_again(at - now.monotonic);
            continue;
        }
        if told.len() + gone.len() >= AT_ONCE {
            plan.look_again(Duration::ZERO);
            break;
        }
        if !is_disrupted(pod) {
            // Why it goes is written first, for those who count its end.
            let message = "Taint manager: deleting due to NoExecute taint";
            told.push(status_of(pod, disrupted(pod, "DeletionByTaintManager", message, now)));
            plan.look_again(Duration::ZERO);
            continue;
        }
        gone.extend(owners::delete(pod, None, now));
        plan.note(
            SOURCE,
            pod,
            "TaintManagerEviction",
            format!(
                "evicted from {}: it does not tolerate a taint of the node any longer",
                world.node.name()
            ),
        );
    }
    plan.writes(Class::Controller, "saying why pods are evicted", told);
    plan.writes(Class::Controller, "evicting pods from a tainted node", gone);
}

/// When (monotonic) a pod has to leave; never, if it tolerates all taints for good.
fn leaves_at(spec: &PodSpec, taints: &[Taint], seen: &FxHashMap<String, Duration>, now: Now) -> Option<Duration> {
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let times = taints.iter().filter_map(|taint| {
        let since = seen.get(&taint.key).copied().unwrap_or(now.monotonic);
        let matching: Vec<_> = tolerations
            .iter()
            .filter(|toleration| filter::matches(toleration, taint))
            .collect();
        if matching.is_empty() {
            return Some(now.monotonic);
        }
        let seconds = matching
            .iter()
            .filter_map(|toleration| toleration.toleration_seconds)
            .min()?;
        Some(since + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    });
    times.min()
}

#[cfg(test)]
mod tests;
