//! `metrics.k8s.io`: what nodes and pods use, as `kubectl top` and autoscalers read it. Nothing of it is
//! stored: it is what the nodes' agents said last.
//!
//! <https://kubernetes.io/docs/tasks/debug/debug-cluster/resource-metrics-pipeline/>

use std::{sync::Arc, time::Duration};

use http::{StatusCode, header};
use jiff::Timestamp;
use schemas::{Kind, Now, Object, node::Used};
use serde_json::{Value, json};
use store::usage::Usages;

use crate::{
    accept::Form,
    api::Api,
    exchange::{self, Call, Response},
    path::Resource,
    select::Selection,
    status::ApiError,
};

pub(crate) const GROUP: &str = "metrics.k8s.io";
pub(crate) const VERSION: &str = "v1beta1";
const API_VERSION: &str = "metrics.k8s.io/v1beta1";

/// The resources of the group: plural, kind of what is answered, and what it is about.
pub(crate) const RESOURCES: [(&str, &str, Kind); 2] =
    [("nodes", "NodeMetrics", Kind::Node), ("pods", "PodMetrics", Kind::Pod)];

/// Answers for one node or pod, or for those that the query selects. A pod or node of which nothing is
/// known yet is left out of a list, and not found by its name.
pub(crate) fn answer(api: &Api, resource: &Resource, call: &Call) -> Result<Response, ApiError> {
    if Form::of(call.header(header::ACCEPT)).is_err() {
        return Err(ApiError::not_acceptable());
    }
    let now = api.clock.now();
    let usages = api.store.usages();
    let selection = Selection::of(resource, &call.query)?;
    let selected = selection.page(&api.store.view(), None, None).items;
    let items: Vec<Value> = selected
        .iter()
        .filter_map(|object| metrics(object, &usages, now))
        .collect();
    let Some(name) = &resource.name else {
        let list = json!({
            "kind": if resource.kind == Kind::Node { "NodeMetricsList" } else { "PodMetricsList" },
            "apiVersion": API_VERSION, "metadata": {}, "items": items,
        });
        return Ok(exchange::json(StatusCode::OK, &list));
    };
    match items.into_iter().next() {
        Some(item) => Ok(exchange::json(StatusCode::OK, &item)),
        None => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            format!("{}.{GROUP} {name:?} not found", resource.kind.info().plural),
        )),
    }
}

fn metrics(object: &Arc<Object>, usages: &Usages, now: Now) -> Option<Value> {
    let meta = |namespace: Option<&str>, at: Timestamp| {
        let mut meta = json!({"name": object.name(), "creationTimestamp": time(at)});
        if let Some(namespace) = namespace {
            meta["namespace"] = namespace.into();
        }
        if let Some(labels) = &object.meta.labels {
            meta["labels"] = json!(labels);
        }
        meta
    };
    if object.kind == Kind::Node {
        let sample = usages.node(object.name(), now)?;
        return Some(json!({
            "kind": "NodeMetrics", "apiVersion": API_VERSION, "metadata": meta(None, sample.at),
            "timestamp": time(sample.at), "window": window(sample.window), "usage": usage(sample.figures),
        }));
    }
    let sample = usages.pod(object.node.as_deref()?, &object.uid(), now)?;
    let containers: Vec<Value> = sample
        .figures
        .iter()
        .map(|container| json!({"name": container.name, "usage": usage(container.used)}))
        .collect();
    Some(json!({
        "kind": "PodMetrics", "apiVersion": API_VERSION, "metadata": meta(Some(object.namespace()), sample.at),
        "timestamp": time(sample.at), "window": window(sample.window), "containers": containers,
    }))
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn window(window: Duration) -> String {
    format!("{:.3}s", window.as_secs_f64())
}

fn usage(used: Used) -> Value {
    json!({"cpu": format!("{}n", used.cpu), "memory": format!("{}Ki", used.memory / 1024)})
}
