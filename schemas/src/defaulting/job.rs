//! How a Job's pods are told from all others: a selector and labels that name its uid.

use serde_json::{Map, Value, json};

use super::workload::object_in;
use crate::labels;

const UIDS: [&str; 2] = [labels::JOB_CONTROLLER_UID, labels::LEGACY_JOB_CONTROLLER_UID];
const NAMES: [&str; 2] = [labels::JOB_NAME, labels::LEGACY_JOB_NAME];

/// Gives a new Job the selector and the labels that tell its pods from all others, unless it selects
/// by itself (`manualSelector`). A Job without labels of its own takes those of its pods.
pub fn identify_job(job: &mut Value, uid: &str) {
    let name = job["metadata"]["name"].as_str().unwrap_or("").to_owned();
    let Some(spec) = job.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    if selects_by_itself(spec) || spec.contains_key("selector") {
        return;
    }
    let metadata = object_in(spec, "template").and_then(|template| object_in(template, "metadata"));
    let Some(template_labels) = metadata.and_then(|metadata| object_in(metadata, "labels")) else {
        return;
    };
    for label in UIDS {
        template_labels.insert(label.to_owned(), uid.into());
    }
    for label in NAMES {
        template_labels.insert(label.to_owned(), name.clone().into());
    }
    let all = template_labels.clone();
    let mut selected = Map::new();
    selected.insert(labels::JOB_CONTROLLER_UID.to_owned(), uid.into());
    spec.insert("selector".to_owned(), json!({"matchLabels": selected}));
    if let Some(metadata) = job.as_object_mut().and_then(|job| object_in(job, "metadata"))
        && metadata.get("labels").is_none_or(|labels| *labels == json!({}))
    {
        metadata.insert("labels".to_owned(), all.into());
    }
}

/// Takes what [`identify_job`] gives out of a Job again: a manifest that was copied from a live object
/// must not select that object's pods.
pub fn anonymize_job(job: &mut Map<String, Value>) {
    let name = job
        .get("metadata")
        .and_then(|metadata| metadata["name"].as_str())
        .map(str::to_owned);
    let Some(spec) = job.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    if selects_by_itself(spec) {
        return;
    }
    if spec.get("selector").is_some_and(is_generated) {
        spec.remove("selector");
    }
    let anonymize = |labels: Option<&mut Value>| {
        if let Some(labels) = labels.and_then(Value::as_object_mut) {
            labels.retain(|label, value| {
                let uid = UIDS.contains(&label.as_str());
                let named = NAMES.contains(&label.as_str()) && value.as_str() == name.as_deref();
                !uid && !named
            });
        }
    };
    anonymize(job.get_mut("metadata").and_then(|metadata| metadata.get_mut("labels")));
    anonymize(
        job.get_mut("spec")
            .and_then(|spec| spec.pointer_mut("/template/metadata/labels")),
    );
}

fn selects_by_itself(spec: &Map<String, Value>) -> bool {
    spec.get("manualSelector") == Some(&Value::Bool(true))
}

/// A selector of nothing but a Job's uid.
fn is_generated(selector: &Value) -> bool {
    let labels = selector["matchLabels"].as_object();
    labels.is_some_and(|labels| !labels.is_empty() && labels.keys().all(|label| UIDS.contains(&label.as_str())))
        && selector.get("matchExpressions").is_none()
}
