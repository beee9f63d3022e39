//! Evictions: a pod is deleted if its disruption budget allows it now.
//!
//! A budget's status says how many may go. An eviction takes one off it under the version that it read,
//! and only then deletes the pod: of two at once one is told to try again with what the other left.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>

use std::{collections::BTreeMap, sync::Arc};

use http::StatusCode;
use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudgetSpec, PodDisruptionBudgetStatus},
    apimachinery::pkg::apis::meta::v1::DeleteOptions as ApiDeleteOptions,
};
use schemas::{Kind, Now, Object, Part, deletion::DeleteOptions, selector::Selector};
use serde_json::{Value, json};
use store::{Class, Op, View, Write, WriteError};

use crate::{
    admit::{self, WriteOptions},
    api::Api,
    delete,
    exchange::{Call, Response},
    path::Resource,
    pods, read,
    status::{ApiError, Cause},
};

/// How often an eviction is judged anew when pod or budget changed meanwhile.
const TRIES: usize = 16;
/// So many evictions may be under way: more would hide that none of them ends.
const UNDER_WAY: usize = 2_000;

/// What a budget says of an eviction.
#[derive(Debug)]
enum Verdict {
    /// The pod counts against no budget, or not any more.
    Free,
    /// It may go once this status of its budget is stored.
    Takes(Arc<Object>, Value),
}

/// `POST …/pods/NAME/eviction`
pub(crate) async fn evict(api: &Api, resource: &Resource, mut call: Call) -> Result<Response, ApiError> {
    let mut dry_run = WriteOptions::of(&call)?.dry_run;
    let body = admit::read_body(&mut call).await?;
    let options: ApiDeleteOptions = match body.get("deleteOptions") {
        None | Some(Value::Null) => ApiDeleteOptions::default(),
        Some(options) => serde_json::from_value(options.clone())
            .map_err(|error| ApiError::bad_request(format!("deleteOptions is not valid: {error}")))?,
    };
    dry_run |= options.dry_run.iter().flatten().any(|word| word == "All");
    let options = DeleteOptions::try_from(&options).map_err(|refusal| ApiError::bad_request(refusal.to_string()))?;
    let mut last = ApiError::internal("an eviction was not tried");
    for _ in 0..TRIES {
        let pod = read::find(&api.store, resource)?;
        let now = api.clock.now();
        let verdict = judge(&api.store.view(), &pod, now)?;
        let mut options = options.clone();
        let counted = matches!(verdict, Verdict::Takes(..));
        if let Verdict::Takes(budget, status) = verdict
            && !dry_run
        {
            let op = Op::Status {
                key: budget.key(),
                status: status.into(),
            };
            let write = Write::new(op).uid(budget.uid()).version(budget.version);
            match api.store.write_one(Class::User, write).await {
                Ok(_) => {}
                Err(error @ (WriteError::Conflict { .. } | WriteError::NotFound(_))) => {
                    last = error.into();
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let pod = if dry_run {
            pod
        } else {
            mark(api, pod, counted, now).await
        };
        if counted {
            // What was taken off the budget is for this pod, however it changes.
            options.uid = options.uid.or_else(|| Some(pod.uid().to_string()));
        } else {
            // It counts for nothing as it is now; if it changes, look again.
            options.version = options.version.or(Some(pod.version));
        }
        match delete::delete_object(api, pod, &options, dry_run).await {
            Ok(()) => return Ok(pods::success()),
            Err(error) if error.code == StatusCode::CONFLICT && !counted => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Says in a pod's status why it goes; returns the pod with it. That it goes matters more: a failure is
/// only logged.
async fn mark(api: &Api, pod: Arc<Object>, counted: bool, now: Now) -> Arc<Object> {
    if pod.node.is_none() || pod.is_deleting() || matches!(phase(&pod), "Succeeded" | "Failed") {
        return pod;
    }
    let mut status = pod.status_value().unwrap_or_else(|| json!({}));
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastTransitionTime": stamp(now),
    });
    pods::set_condition(&mut status, condition);
    let op = Op::Status {
        key: pod.key(),
        status: status.into(),
    };
    let mut write = Write::new(op).uid(pod.uid());
    if !counted {
        write = write.version(pod.version);
    }
    match api.store.write_one(Class::User, write).await {
        Ok(marked) => marked,
        Err(error) => {
            tracing::debug!(namespace = pod.namespace(), name = pod.name(), %error, "the condition of an eviction was not written");
            pod
        }
    }
}

fn stamp(now: Now) -> String {
    now.wall.round(jiff::Unit::Second).unwrap_or(now.wall).to_string()
}

fn phase(pod: &Object) -> &str {
    let status = pod.status.as_ref();
    status.and_then(|status| status.word("phase")).unwrap_or("Pending")
}

fn is_ready(pod: &Object) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.at("conditions"));
    let mut conditions = conditions.into_iter().flat_map(Part::items);
    conditions.any(|condition| condition.has("type", "Ready") && condition.has("status", "True"))
}

/// Asks the budget of a pod.
///
/// # Errors
/// A 429 where the budget is exhausted or not counted yet, a 500 where a pod has two of them.
fn judge(view: &View<'_>, pod: &Object, now: Now) -> Result<Verdict, ApiError> {
    // What does no work yet or any more is under no budget's protection.
    if pod.is_deleting() || matches!(phase(pod), "Pending" | "Succeeded" | "Failed") {
        return Ok(Verdict::Free);
    }
    let mut budgets = view
        .list(Kind::PodDisruptionBudget, Some(pod.namespace()))
        .filter(|budget| {
            let spec = budget.spec::<PodDisruptionBudgetSpec>();
            let selector = spec.ok().and_then(|spec| spec.selector.clone());
            Selector::from_optional(selector.as_ref()).is_ok_and(|selector| selector.matches_object(pod))
        });
    let Some(budget) = budgets.next() else {
        return Ok(Verdict::Free);
    };
    if let Some(other) = budgets.next() {
        return Err(ApiError::internal(format!(
            "pod {:?} has more than one PodDisruptionBudget ({:?} and {:?}), which the eviction subresource does not support",
            pod.name(),
            budget.name(),
            other.name()
        )));
    }
    take_one(budget, pod, now)
}

fn take_one(budget: &Arc<Object>, pod: &Object, now: Now) -> Result<Verdict, ApiError> {
    let status: PodDisruptionBudgetStatus = budget.status().unwrap_or_default();
    let spec = budget.spec::<PodDisruptionBudgetSpec>().unwrap_or_default();
    if !is_ready(pod) {
        let always = spec.unhealthy_pod_eviction_policy.as_deref() == Some("AlwaysAllow");
        // It is not one of those that keep the budget, and these suffice.
        let enough = status.current_healthy >= status.desired_healthy && status.desired_healthy > 0;
        if always || enough {
            return Ok(Verdict::Free);
        }
    }
    let exhausted = |message: String| {
        let cause = Cause {
            reason: "DisruptionBudget",
            field: String::new(),
            message,
        };
        // No time to wait is named: client-go would repeat the request within the call, without a word and
        // past the time limit of `kubectl drain`, which tries again by itself and says so.
        ApiError::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.")
            .about(Kind::Pod, pod.name())
            .causes([cause])
    };
    if status.observed_generation.unwrap_or(0) < budget.meta.generation.unwrap_or(1) {
        return Err(exhausted(format!(
            "The disruption budget {} is still being processed by the server.",
            budget.name()
        )));
    }
    if status.disruptions_allowed <= 0 {
        return Err(exhausted(format!(
            "The disruption budget {} needs {} healthy pods and has {} currently",
            budget.name(),
            status.desired_healthy,
            status.current_healthy
        )));
    }
    let under_way: BTreeMap<_, _> = status.disrupted_pods.unwrap_or_default();
    if under_way.len() >= UNDER_WAY {
        return Err(exhausted(format!(
            "The disruption budget {} waits for {} evictions that are under way",
            budget.name(),
            under_way.len()
        )));
    }
    let mut left = budget.status_value().unwrap_or_else(|| json!({}));
    let allowed = status.disruptions_allowed - 1;
    left["disruptionsAllowed"] = allowed.into();
    if !left["disruptedPods"].is_object() {
        left["disruptedPods"] = json!({});
    }
    left["disruptedPods"][pod.name()] = stamp(now).into();
    if allowed == 0 {
        let condition = json!({
            "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
            "observedGeneration": budget.meta.generation.unwrap_or(1), "lastTransitionTime": stamp(now),
        });
        pods::set_condition(&mut left, condition);
    }
    Ok(Verdict::Takes(budget.clone(), left))
}

#[cfg(test)]
#[path = "eviction_tests.rs"]
mod tests;
