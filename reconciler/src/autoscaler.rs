//! HorizontalPodAutoscalers: how many replicas a workload has, by what its pods use.
//!
//! An autoscaler writes nothing but `spec.replicas` of its target; a release leaves that field alone for
//! as long as one aims at the object.
//!
//! <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/>

mod behavior;
mod measure;
mod memory;
mod status;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerSpec;
use schemas::{Key, Now, Object, Part, object::Body};
use serde_json::{Map, Value};
use store::{
    Class, Write,
    usage::{ContainerUsage, Sample},
};

pub use memory::Memory;

use crate::plan::{Plan, replace_of};
use behavior::{Behavior, Bounds};
use measure::{Fault, Proposal};
use status::Status;

/// How often metrics are looked at.
const PERIOD: Duration = Duration::from_secs(15);
const SOURCE: &str = "horizontal-pod-autoscaler";

/// What is looked at for one autoscaler.
#[derive(Clone, Debug)]
pub struct World {
    pub autoscaler: Arc<Object>,
    /// What is scaled, or why there is nothing to scale.
    pub target: Result<Arc<Object>, String>,
    /// The pods of the target.
    pub pods: Vec<Pod>,
    /// Other autoscalers that aim at the same target.
    pub rivals: Vec<Key>,
    /// What was recommended and changed before.
    pub memory: Memory,
    /// Why the last change of the target was refused.
    pub failure: Option<String>,
}

/// A pod of the target, with what it uses.
#[derive(Clone, Debug)]
pub struct Pod {
    pub object: Arc<Object>,
    /// When (monotonic) it was first seen ready.
    pub ready_since: Option<Duration>,
    pub usage: Option<Sample<Arc<[ContainerUsage]>>>,
}

/// What to do about the number of replicas.
struct Decision {
    replicas: i32,
    why: String,
}

/// Looks at the metrics of one autoscaler.
#[must_use]
pub fn plan(world: &World, now: Now) -> Plan {
    let mut plan = Plan::default();
    let autoscaler = &*world.autoscaler;
    if autoscaler.is_deleting() {
        return plan;
    }
    plan.look_again(PERIOD);
    let spec = match autoscaler.spec::<HorizontalPodAutoscalerSpec>() {
        Ok(spec) => spec,
        Err(error) => {
            plan.wait(autoscaler.key(), "InvalidSpec", error.to_string());
            return plan;
        }
    };
    let mut status = Status::of(autoscaler, now);
    let target = match &world.target {
        Ok(target) => target,
        Err(why) => {
            if status.conclude("AbleToScale", false, "FailedGetScale", why) {
                plan.warn(SOURCE, autoscaler, "FailedGetScale", why.clone());
            }
            status.write(&mut plan);
            return plan;
        }
    };
    let mut memory = world.memory.of(&autoscaler.uid());
    let current = replicas(target);
    memory.begin(current, now.monotonic);
    status.conclude(
        "AbleToScale",
        true,
        "SucceededGetScale",
        "the target's replicas are known",
    );
    let decision = decide(world, &spec, current, &mut memory, &mut status, &mut plan, now);
    let wanted = decision.as_ref().map_or(current, |decision| decision.replicas);
    status.replicas(current, wanted);
    if wanted == current {
        status.write(&mut plan);
        plan.memory = Some(memory);
        return plan;
    }
    let why = decision.map(|decision| decision.why).unwrap_or_default();
    let rescale = scaled(target, wanted);
    if let Some(failure) = &world.failure {
        let message = format!("{} is not scaled to {wanted}: {failure}", target.key());
        if status.conclude("AbleToScale", false, "FailedUpdateScale", &message) {
            plan.warn(SOURCE, autoscaler, "FailedRescale", message);
        }
        status.replicas(current, current);
        // It is told before it is tried again: a plan ends where a step fails.
        status.write(&mut plan);
        plan.write(Class::Controller, "scaling what an autoscaler aims at", rescale);
        return plan;
    }
    plan.write(Class::Controller, "scaling what an autoscaler aims at", rescale);
    memory.change(wanted - current, now.monotonic);
    let message = format!("the target is scaled to {wanted}");
    status.conclude("AbleToScale", true, "SucceededRescale", &message);
    status.scaled();
    status.write(&mut plan);
    plan.note(
        SOURCE,
        autoscaler,
        "SuccessfulRescale",
        format!("New size: {wanted}; reason: {why}"),
    );
    plan.memory = Some(memory);
    plan
}

/// How many replicas there shall be; none where nothing can be said.
fn decide(
    world: &World,
    spec: &HorizontalPodAutoscalerSpec,
    current: i32,
    memory: &mut Memory,
    status: &mut Status<'_>,
    plan: &mut Plan,
    now: Now,
) -> Option<Decision> {
    let autoscaler = &*world.autoscaler;
    let least = spec.min_replicas.unwrap_or(1).max(0);
    let bounds = Bounds {
        least,
        most: spec.max_replicas.max(least),
    };
    let at = |replicas: i32, why: &str| {
        Some(Decision {
            replicas,
            why: why.to_owned(),
        })
    };
    if current == 0 && bounds.least != 0 {
        let message = "the target is scaled to zero, by whoever set that; set its replicas to have it scaled again";
        status.conclude("ScalingActive", false, "ScalingDisabled", message);
        return None;
    }
    if let Some(rival) = world.rivals.first() {
        let message = format!("{rival} aims at the same target; of several autoscalers none acts");
        if status.conclude("ScalingActive", false, "AmbiguousSelector", &message) {
            plan.warn(SOURCE, autoscaler, "AmbiguousSelector", message);
        }
        return None;
    }
    if current > bounds.most {
        return at(bounds.most, "Current number of replicas above Spec.MaxReplicas");
    }
    if current < bounds.least {
        return at(bounds.least, "Current number of replicas below Spec.MinReplicas");
    }
    let behavior = Behavior::of(spec.behavior.as_ref());
    let metrics = spec.metrics.as_deref().unwrap_or_default();
    let answers: Vec<Result<Proposal, Fault>> = metrics
        .iter()
        .map(|metric| measure::propose(metric, &world.pods, current, &behavior, now))
        .collect();
    status.metrics(&answers);
    let fault = answers.iter().find_map(|answer| answer.as_ref().err());
    // The first of the largest.
    let proposals = answers.iter().filter_map(|answer| answer.as_ref().ok());
    let highest = proposals.reduce(|best, next| if next.replicas > best.replicas { next } else { best });
    let usable = highest.filter(|highest| fault.is_none() || highest.replicas >= current);
    let Some(highest) = usable else {
        let none = Fault {
            reason: "InvalidMetricSourceType",
            message: "it names no metrics".to_owned(),
        };
        let fault = fault.unwrap_or(&none);
        if status.conclude("ScalingActive", false, fault.reason, &fault.message) {
            plan.warn(SOURCE, autoscaler, fault.reason, fault.message.clone());
        }
        return None;
    };
    let message = format!("the replicas are computed from {}", highest.name);
    status.conclude("ScalingActive", true, "ValidMetricFound", &message);
    let settled = behavior.settle(highest.replicas, current, bounds, memory, now.monotonic);
    match settled.stabilized {
        Some(reason) => {
            let message = "an earlier recommendation of the stabilization window holds";
            status.conclude("AbleToScale", true, reason, message);
        }
        None => {
            let message = "nothing of the stabilization window holds the newest recommendation back";
            status.conclude("AbleToScale", true, "ReadyForNewScale", message);
        }
    }
    match settled.limit {
        Some(reason) => status.conclude("ScalingLimited", true, reason, limit(reason)),
        None => {
            let message = "the wanted number is within what is allowed";
            status.conclude("ScalingLimited", false, "DesiredWithinRange", message)
        }
    };
    let why = if settled.replicas > current {
        format!("{} above target", highest.name)
    } else {
        "All metrics below target".to_owned()
    };
    at(settled.replicas, &why)
}

fn limit(reason: &str) -> &'static str {
    match reason {
        "ScaleUpLimit" => "more is wanted than the rules for scaling up allow at once",
        "ScaleDownLimit" => "less is wanted than the rules for scaling down allow at once",
        "TooManyReplicas" => "more is wanted than maxReplicas",
        _ => "less is wanted than minReplicas",
    }
}

/// `spec.replicas`, which is 1 when nothing is said.
pub(crate) fn replicas(target: &Object) -> i32 {
    let written = target.body.at("spec/replicas").and_then(Part::int);
    written.and_then(|written| i32::try_from(written).ok()).unwrap_or(1)
}

/// The write that gives a target this many replicas, if it still is as it was seen.
fn scaled(target: &Object, replicas: i32) -> Write {
    let mut object = target.clone();
    let mut body = object.body.value();
    let spec = body.entry("spec").or_insert_with(|| Value::Object(Map::new()));
    if let Some(spec) = spec.as_object_mut() {
        spec.insert("replicas".to_owned(), replicas.into());
    }
    object.body = Body::new(body);
    replace_of(target, object)
}

#[cfg(test)]
mod tests;
