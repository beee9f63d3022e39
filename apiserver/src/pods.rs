//! What is done to pods through sub-resources: binding and eviction.

use std::sync::Arc;

use http::StatusCode;
use k8s_openapi::apimachinery::pkg::{apis::meta::v1::DeleteOptions as ApiDeleteOptions, util::intstr::IntOrString};
use schemas::{Key, Kind, Object, deletion::DeleteOptions, selector::Selector};
use serde_json::{Value, json};
use store::{Class, Op, View, Write};

use crate::{
    admit::{self, WriteOptions},
    api::Api,
    delete,
    exchange::{self, Call, Response},
    path::Resource,
    read,
    status::{ApiError, Cause},
};

fn success() -> Response {
    exchange::json(
        StatusCode::CREATED,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    )
}

/// `POST …/pods/NAME/binding`
pub(crate) async fn bind(api: &Api, resource: &Resource, mut call: Call) -> Result<Response, ApiError> {
    let options = WriteOptions::of(&call)?;
    let body = admit::read_body(&mut call).await?;
    let pod = read::find(&api.store, resource)?;
    let node = body.pointer("/target/name").and_then(Value::as_str).unwrap_or("");
    let kind = body.pointer("/target/kind").and_then(Value::as_str).unwrap_or("Node");
    if node.is_empty() || kind != "Node" {
        let cause = Cause {
            reason: "FieldValueRequired",
            field: "target".into(),
            message: "must name a Node".into(),
        };
        return Err(ApiError::invalid(Kind::Pod, pod.name(), vec![cause]));
    }
    if api.store.get(&Key::cluster(Kind::Node, node)).is_none() {
        return Err(ApiError::not_found(Kind::Node, node));
    }
    if options.dry_run {
        return Ok(success());
    }
    let mut status = pod.status.as_deref().cloned().unwrap_or_else(|| json!({}));
    set_scheduled(&mut status, &api.clock.now().wall.to_string());
    let op = Op::Bind {
        key: pod.key(),
        node: node.into(),
        status: Some(Arc::new(status)),
    };
    api.store.write_one(Class::User, Write::new(op).uid(pod.uid())).await?;
    Ok(success())
}

/// Sets the condition `PodScheduled`.
fn set_scheduled(status: &mut Value, at: &str) {
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": at,
    });
    let Some(status) = status.as_object_mut() else {
        return;
    };
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    match conditions
        .iter_mut()
        .find(|condition| condition["type"] == "PodScheduled")
    {
        Some(found) => *found = condition,
        None => conditions.push(condition),
    }
}

/// `POST …/pods/NAME/eviction`
pub(crate) async fn evict(api: &Api, resource: &Resource, mut call: Call) -> Result<Response, ApiError> {
    let mut dry_run = WriteOptions::of(&call)?.dry_run;
    let body = admit::read_body(&mut call).await?;
    let pod = read::find(&api.store, resource)?;
    let options: ApiDeleteOptions = match body.get("deleteOptions") {
        None | Some(Value::Null) => ApiDeleteOptions::default(),
        Some(options) => serde_json::from_value(options.clone())
            .map_err(|error| ApiError::bad_request(format!("deleteOptions is not valid: {error}")))?,
    };
    dry_run |= options.dry_run.iter().flatten().any(|word| word == "All");
    let options = DeleteOptions::try_from(&options).map_err(|refusal| ApiError::bad_request(refusal.to_string()))?;
    if !pod.is_deleting()
        && let Some(refusal) = exhausted(&api.store.view(), &pod)
    {
        return Err(refusal);
    }
    delete::delete_object(api, pod, &options, dry_run).await?;
    Ok(success())
}

fn phase(pod: &Object) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.get("phase"))
        .and_then(Value::as_str)
        .unwrap_or("Pending")
}

fn is_healthy(pod: &Object) -> bool {
    !pod.is_deleting()
        && pod
            .status
            .as_ref()
            .and_then(|status| status.get("conditions")?.as_array())
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// A number of pods, or a share of them, rounded up.
fn amount(value: &IntOrString, of: usize) -> usize {
    match value {
        IntOrString::Int(number) => usize::try_from(*number).unwrap_or(0),
        IntOrString::String(text) => {
            let percent = text.trim_end_matches('%').parse::<usize>().unwrap_or(0);
            (of * percent).div_ceil(100)
        }
    }
}

/// The refusal of the first disruption budget that does not allow this pod to go now.
fn exhausted(view: &View<'_>, pod: &Object) -> Option<ApiError> {
    // A pod that does no work counts against no budget.
    if matches!(phase(pod), "Pending" | "Succeeded" | "Failed") {
        return None;
    }
    let read = |budget: &Object, field: &str| budget.body.value().get("spec")?.get(field).cloned();
    for budget in view.list(Kind::PodDisruptionBudget, Some(pod.namespace())) {
        let selector = read(budget, "selector")
            .and_then(|selector| serde_json::from_value(selector).ok())
            .and_then(|selector| Selector::from_label_selector(&selector).ok());
        let Some(selector) = selector.filter(|selector| selector.matches_object(pod)) else {
            continue;
        };
        let (mut all, mut healthy) = (0, 0);
        for other in view.list(Kind::Pod, Some(pod.namespace())) {
            if selector.matches_object(other) && !matches!(phase(other), "Succeeded" | "Failed") {
                all += 1;
                healthy += usize::from(is_healthy(other));
            }
        }
        let number = |field: &str| {
            read(budget, field)
                .and_then(|value| serde_json::from_value::<IntOrString>(value).ok())
                .map(|value| amount(&value, all))
        };
        let least = match (number("minAvailable"), number("maxUnavailable")) {
            (Some(least), _) => least,
            (None, Some(away)) => all.saturating_sub(away),
            (None, None) => 0,
        };
        // A pod that is not healthy takes nothing from those that are.
        let left = if is_healthy(pod) {
            healthy.saturating_sub(1)
        } else {
            healthy
        };
        if left < least {
            let cause = Cause {
                reason: "DisruptionBudget",
                field: String::new(),
                message: format!(
                    "The disruption budget {} needs {least} healthy pods and has {healthy} currently",
                    budget.name()
                ),
            };
            return Some(
                ApiError::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 10)
                    .causes([cause]),
            );
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_is_set_once() {
        let mut status = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]});
        set_scheduled(&mut status, "2026-01-01T00:00:00Z");
        assert_eq!(status["conditions"].as_array().map(Vec::len), Some(1));
        assert_eq!(status["conditions"][0]["status"], "True");
        let mut empty = json!({});
        set_scheduled(&mut empty, "2026-01-01T00:00:00Z");
        assert_eq!(empty["conditions"][0]["type"], "PodScheduled");
    }

    #[test]
    fn shares_are_rounded_up() {
        for (value, of, amount_of) in [
            (IntOrString::Int(2), 5, 2),
            (IntOrString::Int(-1), 5, 0),
            (IntOrString::String("50%".into()), 5, 3),
            (IntOrString::String("0%".into()), 5, 0),
            (IntOrString::String("x".into()), 5, 0),
        ] {
            assert_eq!(amount(&value, of), amount_of, "{value:?}");
        }
    }
}
