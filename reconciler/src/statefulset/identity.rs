//! What makes the pod of an ordinal that one: its name, its labels, its host name and its claims.

use std::sync::Arc;

use k8s_openapi::api::{apps::v1::StatefulSetSpec, core::v1::PodTemplateSpec};
use schemas::{Body, Now, Object, Uid, labels, template};
use serde_json::{Value, json};

/// The first ordinal.
#[must_use]
pub fn start(spec: &StatefulSetSpec) -> i64 {
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start);
    i64::from(start.unwrap_or(0).max(0))
}

/// How many ordinals there shall be.
#[must_use]
pub fn replicas(spec: &StatefulSetSpec) -> usize {
    usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0)
}

#[must_use]
pub fn pod_name(set: &str, ordinal: i64) -> String {
    format!("{set}-{ordinal}")
}

/// The ordinal of a pod of this name, if it is one of the set's.
#[must_use]
pub fn ordinal(set: &str, pod: &str) -> Option<i64> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let ordinal: i64 = digits.parse().ok().filter(|ordinal| *ordinal >= 0)?;
    (ordinal.to_string() == digits).then_some(ordinal)
}

/// The labels that tell a pod from its siblings, as far as it lacks them.
pub(super) fn missing_labels(pod: &Object, ordinal: i64) -> Vec<(&'static str, String)> {
    let wanted = [
        (labels::STATEFULSET_POD_NAME, pod.name().to_owned()),
        (labels::POD_INDEX, ordinal.to_string()),
    ];
    wanted
        .into_iter()
        .filter(|(label, value)| pod.label(label) != Some(value))
        .collect()
}

/// The pod of an ordinal, made from a template. `mark` names the template's revision.
pub(super) fn pod(
    set: &Object,
    spec: &StatefulSetSpec,
    template: &PodTemplateSpec,
    ordinal: i64,
    mark: &str,
    uid: &Uid,
    now: Now,
) -> Object {
    let name = pod_name(set.name(), ordinal);
    let mut body = template::pod_body(template).value().clone();
    if let Some(pod) = body.get_mut("spec").and_then(Value::as_object_mut) {
        pod.insert("hostname".to_owned(), name.clone().into());
        if let Some(service) = spec.service_name.as_deref().filter(|service| !service.is_empty()) {
            pod.insert("subdomain".to_owned(), service.into());
        }
        let claims: Vec<&str> = super::claims::templates(spec).collect();
        let mut volumes: Vec<Value> = claims
            .iter()
            .map(|claim| {
                let claim_name = super::claims::name(claim, set.name(), ordinal);
                json!({"name": claim, "persistentVolumeClaim": {"claimName": claim_name}})
            })
            .collect();
        if let Some(Value::Array(own)) = pod.remove("volumes") {
            let replaced = |volume: &Value| volume["name"].as_str().is_some_and(|name| claims.contains(&name));
            volumes.extend(own.into_iter().filter(|volume| !replaced(volume)));
        }
        if !volumes.is_empty() {
            pod.insert("volumes".to_owned(), volumes.into());
        }
    }
    let body: Arc<Body> = Body::new(body);
    let mut pod = template::pod_from_template(template, &body, set, &name, uid, now);
    pod.meta.generate_name = None;
    let own = pod.meta.labels.get_or_insert_default();
    own.insert(labels::STATEFULSET_POD_NAME.to_owned(), name);
    own.insert(labels::POD_INDEX.to_owned(), ordinal.to_string());
    own.insert(labels::CONTROLLER_REVISION_HASH.to_owned(), mark.to_owned());
    pod
}
