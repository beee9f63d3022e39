//! Rules for names, labels, annotations and label selectors.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;

use super::{
    finding::{Fault, Findings},
    path::At,
    structure::suggestion,
};
use crate::{
    Kind,
    labels::{self, is_dns_subdomain, is_label_key, is_label_value},
    rollout,
    selector::Selector,
};

/// The most that all annotations of an object may hold together.
const ANNOTATION_BYTES: usize = 256 << 10;

/// Whether `text` is a DNS label: at most 63 lower-case letters, digits and `-`.
#[must_use]
pub fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && !text.contains('.') && is_dns_subdomain(text)
}

/// A DNS label that starts with a letter, as RFC 1035 wants it of a Service.
pub(super) fn is_service_name(text: &str) -> bool {
    is_dns_label(text) && text.starts_with(|letter: char| letter.is_ascii_lowercase())
}

/// What is wrong with the name of an object of `kind`.
#[must_use]
pub fn name_fault(kind: Kind, name: &str) -> Option<&'static str> {
    let (fits, rule) = match kind {
        Kind::Namespace => (
            is_dns_label(name),
            "must be at most 63 lower-case letters, digits and '-', with a letter or digit at both ends",
        ),
        Kind::Service => (
            is_service_name(name),
            "must be at most 63 lower-case letters, digits and '-', with a letter first and no '-' last",
        ),
        Kind::CronJob => (
            name.len() <= 52 && is_dns_subdomain(name),
            "must be a DNS name of at most 52 characters, so that its jobs can add a suffix",
        ),
        Kind::Role | Kind::RoleBinding | Kind::ClusterRole | Kind::ClusterRoleBinding => (
            !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%']),
            "must not be '.' or '..' and must not hold '/' or '%'",
        ),
        _ => (
            is_dns_subdomain(name),
            "must be at most 253 lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part",
        ),
    };
    (!fits).then_some(rule)
}

/// Checks `metadata` of an object.
pub(super) fn check(kind: Kind, object: &At<'_, '_>, findings: &mut Findings) {
    let Some(meta) = object.get("metadata") else {
        findings.required(object, "metadata", "is required, with a name in it");
        return;
    };
    match meta.text("name") {
        Some(name) if !name.is_empty() => {
            if let (Some(rule), Some(at)) = (name_fault(kind, name), meta.get("name")) {
                findings.error(Fault::Invalid, at.path(), format!("{name:?} {rule}"));
            }
        }
        _ if meta.has("generateName") => findings.required(
            &meta,
            "name",
            "is required: a declared object has a fixed name, generateName cannot give it one",
        ),
        _ if meta.has("name") => {
            if meta.text("name") == Some("") {
                findings.required(&meta, "name", "is required");
            }
        }
        _ => findings.required(&meta, "name", "is required"),
    }
    if kind.info().namespaced
        && let Some(namespace) = meta.text("namespace")
        && !is_dns_label(namespace)
        && let Some(at) = meta.get("namespace")
    {
        findings.error(
            Fault::Invalid,
            at.path(),
            format!("{namespace:?} is not the name of a namespace: at most 63 lower-case letters, digits and '-'"),
        );
    }
    if !kind.info().namespaced
        && let Some(at) = meta.get("namespace")
        && meta.text("namespace") != Some("")
    {
        findings.forbidden(&at, &format!("{} belongs to no namespace: remove this line", kind.a()));
    }
    labels_and_annotations(&meta, findings);
    rollout_annotations(kind, &meta, findings);
    for finalizer in meta.items("finalizers") {
        if finalizer.value.as_str().is_some_and(|text| !is_label_key(text)) {
            findings.invalid(&finalizer, "is not a qualified name such as example.com/finalizer");
        }
    }
}

/// Checks what annotations say to Towline itself.
fn rollout_annotations(kind: Kind, meta: &At<'_, '_>, findings: &mut Findings) {
    let Some(annotations) = meta.get("annotations") else {
        return;
    };
    let namespace = meta.text("namespace").unwrap_or_default();
    for (name, value) in annotations
        .entries()
        .filter(|(name, _)| name.starts_with(rollout::PREFIX) && !rollout::written(kind).contains(name))
    {
        let Some(text) = value.value.as_str() else { continue };
        if !rollout::ANNOTATIONS.contains(&name) {
            let hint = match suggestion(name, rollout::ANNOTATIONS.into_iter()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("it knows {}", rollout::ANNOTATIONS.join(", ")),
            };
            let message = format!("Towline does not know this annotation and does not act on it: {hint}");
            findings.warn(Fault::NotActedOn, value.path(), message);
        } else if let Some(fault) = rollout::annotation_fault(namespace, name, text) {
            findings.error(Fault::Invalid, value.path(), fault);
        } else if name == labels::ON_FAILURE && !rollout::rolls_out(kind) {
            let message = format!(
                "{} has no rollout that could fail: a Deployment, StatefulSet or DaemonSet can be reverted",
                kind.a()
            );
            findings.warn(Fault::NotActedOn, value.path(), message);
        }
    }
}

/// Checks labels and annotations, of an object or of a template.
pub(super) fn labels_and_annotations(meta: &At<'_, '_>, findings: &mut Findings) {
    if let Some(labels) = meta.get("labels") {
        labels_map(&labels, findings);
    }
    if let Some(annotations) = meta.get("annotations") {
        let mut bytes = 0;
        for (key, value) in annotations.entries() {
            if !is_label_key(&key.to_lowercase()) {
                findings.error(Fault::Invalid, value.path(), KEY_RULE);
            }
            bytes += key.len() + value.value.as_str().map_or(0, str::len);
        }
        if bytes > ANNOTATION_BYTES {
            findings.error(
                Fault::Invalid,
                annotations.path(),
                format!("hold {bytes} bytes together; at most {ANNOTATION_BYTES} are allowed"),
            );
        }
    }
}

const KEY_RULE: &str = "the key must be a name of at most 63 letters, digits, '-', '_' and '.', with an optional DNS prefix and '/' before it";

/// Checks a mapping of labels.
pub(super) fn labels_map(labels: &At<'_, '_>, findings: &mut Findings) {
    for (key, value) in labels.entries() {
        if !is_label_key(key) {
            findings.error(Fault::Invalid, value.path(), KEY_RULE);
        }
        if value.value.as_str().is_some_and(|text| !is_label_value(text)) {
            findings.invalid(
                &value,
                "is not a label's value: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends",
            );
        }
    }
}

/// Checks a label selector and reads it.
pub(super) fn label_selector(at: &At<'_, '_>, findings: &mut Findings) -> Option<Selector> {
    if let Some(labels) = at.get("matchLabels") {
        labels_map(&labels, findings);
    }
    let mut sound = true;
    for requirement in at.items("matchExpressions") {
        if let Some(key) = requirement.get("key")
            && key.value.as_str().is_some_and(|key| !is_label_key(key))
        {
            findings.error(Fault::Invalid, key.path(), KEY_RULE);
        }
        let values = requirement.items("values").count();
        match requirement.text("operator") {
            Some("In" | "NotIn") if values == 0 => {
                findings.required(&requirement, "values", "is required with the operators In and NotIn");
                sound = false;
            }
            Some("Exists" | "DoesNotExist") if values > 0 => {
                if let Some(at) = requirement.get("values") {
                    findings.forbidden(&at, "may not stand with the operators Exists and DoesNotExist");
                }
                sound = false;
            }
            _ => {}
        }
    }
    if !sound {
        return None;
    }
    let selector = LabelSelector::deserialize(at.value).ok()?;
    Selector::from_label_selector(&selector).ok()
}

/// The labels in `meta`, as a selector sees them.
pub(super) fn labels_of(meta: Option<&At<'_, '_>>) -> BTreeMap<String, String> {
    let Some(labels) = meta.and_then(|meta| meta.value.get("labels")) else {
        return BTreeMap::new();
    };
    labels
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}
