//! Pod templates: when two are the same, what one is called, and the pods made from one.

use std::sync::Arc;

use k8s_openapi::{api::core::v1::PodTemplateSpec, apimachinery::pkg::apis::meta::v1::Time};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{Body, Kind, Meta, Now, Object, Part, Shared, Uid, defaulting, labels};

/// Without vowels and without digits that look like them, so that no word comes out by chance.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Whether two templates make the same pods: equal after defaulting by the running version, the
/// `pod-template-hash` label aside. A field that is missing and an empty list are the same.
#[must_use]
pub fn equal(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    a == b || (may_equal(a, b) && canonical(a) == canonical(b))
}

/// What no defaulting can make equal is told apart before the whole is compared.
fn may_equal(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let images = |template: &PodTemplateSpec| -> Vec<(String, Option<String>)> {
        let containers = template.spec.iter().flat_map(|spec| &spec.containers);
        containers
            .map(|container| (container.name.clone(), container.image.clone()))
            .collect()
    };
    let annotations = |template: &PodTemplateSpec| {
        let meta = template.metadata.as_ref();
        meta.and_then(|meta| meta.annotations.clone()).unwrap_or_default()
    };
    images(a) == images(b) && annotations(a) == annotations(b)
}

/// A short name for a template, in letters that are safe in any object's name. It names a ReplicaSet;
/// whether a ReplicaSet fits is for [`equal`] to decide. `collision_count` gives another name after
/// the first turned out to be taken by a different template.
#[must_use]
pub fn pod_template_hash(template: &PodTemplateSpec, collision_count: Option<i32>) -> String {
    let mut hasher = Sha256::new();
    // A value with text keys only can always be written.
    hasher.update(serde_json::to_vec(&canonical(template)).unwrap_or_default());
    if let Some(count) = collision_count {
        hasher.update(count.to_be_bytes());
    }
    safe_text(&hasher.finalize()[..10])
}

/// The five letters at the end of a generated name, from five random bytes.
#[must_use]
pub fn random_suffix(seed: [u8; 5]) -> String {
    safe_text(&seed)
}

/// `base` and `suffix` as an object's name, `base` cut so that the whole is at most 63 characters.
#[must_use]
pub fn generated_name(base: &str, suffix: &str) -> String {
    let room = 63usize.saturating_sub(suffix.len());
    let mut end = base.len().min(room);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &base[..end])
}

/// The body of every pod of a template, with the defaults of a pod filled in. Built once for a
/// template, it is shared by all pods made with [`pod_from_template`].
#[must_use]
pub fn pod_body(template: &PodTemplateSpec) -> Arc<Body> {
    let mut pod = Map::new();
    if let Some(spec) = &template.spec {
        pod.insert("spec".to_owned(), serde_json::to_value(spec).unwrap_or_default());
    }
    let mut pod = Value::Object(pod);
    defaulting::default_object(Kind::Pod, &mut pod);
    match pod {
        Value::Object(mut pod) => {
            if let Some(Value::Object(spec)) = pod.get_mut("spec") {
                spec.remove("nodeName");
            }
            Body::new(pod)
        }
        _ => Body::new(Map::new()),
    }
}

/// A new pod of `template`, controlled by `owner`, in `owner`'s namespace. `body` is what
/// [`pod_body`] makes of the same template.
#[must_use]
pub fn pod_from_template(
    template: &PodTemplateSpec,
    body: &Arc<Body>,
    owner: &Object,
    name: &str,
    uid: &Uid,
    now: Now,
) -> Object {
    let meta = template.metadata.as_ref();
    let spec = body.at("spec").map_or(Value::Null, Part::value);
    Object {
        kind: Kind::Pod,
        meta: Shared::new(Meta {
            name: Some(name.into()),
            generate_name: Some(format!("{}-", owner.name()).into()),
            namespace: owner.meta.namespace.clone(),
            uid: Some(uid.0.clone()),
            creation_timestamp: Some(Time(now.wall)),
            generation: Some(1),
            labels: meta.and_then(|meta| meta.labels.clone()).map(Into::into),
            annotations: meta.and_then(|meta| meta.annotations.clone()).map(Into::into),
            finalizers: meta.and_then(|meta| meta.finalizers.clone()).map(Into::into),
            owner_references: Some(vec![owner.as_controller()].into()),
            ..Meta::default()
        }),
        body: body.clone(),
        node: template
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref())
            .filter(|node| !node.is_empty())
            .map(Into::into),
        status: Some(defaulting::initial_pod_status(&spec).into()),
        version: 0,
    }
}

fn safe_text(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

/// A template in the form that [`equal`] compares.
fn canonical(template: &PodTemplateSpec) -> Value {
    let mut value = serde_json::to_value(template).unwrap_or_default();
    if let Some(Value::Object(labels)) = value.pointer_mut("/metadata/labels") {
        labels.remove(labels::POD_TEMPLATE_HASH);
    }
    defaulting::default_template(&mut value);
    drop_empty(&mut value);
    value
}

/// Drops empty lists and empty maps of free keys. An empty object stays: `namespaceSelector: {}`
/// selects everything, a missing one nothing.
fn drop_empty(value: &mut Value) {
    const MAPS: [&str; 7] = [
        "labels",
        "annotations",
        "nodeSelector",
        "matchLabels",
        "limits",
        "requests",
        "overhead",
    ];
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(drop_empty);
            map.retain(|key, value| match value {
                Value::Array(items) => !items.is_empty(),
                Value::Object(inner) => !inner.is_empty() || !MAPS.contains(&key.as_str()),
                _ => true,
            });
        }
        Value::Array(items) => items.iter_mut().for_each(drop_empty),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
