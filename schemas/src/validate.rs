//! Validation: is this object one that Kubernetes would take, and does Towline act on all of it?
//!
//! Names and types of fields come from the upstream schemas, the rules between them from the
//! documentation of Kubernetes v1.33, and what Towline does with a field from [`crate::fields`].
//! All findings are collected; the caller decides what a warning means. The values of a Secret are
//! never part of a message.

mod autoscaler;
mod batch;
mod change;
mod config;
mod container;
mod finding;
mod meta;
pub(crate) mod path;
mod pod;
mod policy;
mod scheduling;
mod service;
pub(crate) mod structure;
mod values;
mod workload;

use serde_json::{Map, Value};

use crate::{Kind, defaulting, fields};

pub use change::changes;
pub use finding::{Fault, Finding};
pub use meta::{is_dns_label, name_fault};
pub use path::{FieldPath, Segment};
pub use structure::suggestion;

pub(crate) use finding::Findings;
use path::At;

/// Everything there is to say about one object of `kind`: structure, metadata, the kind's own rules
/// and the field table. `object` is the whole object, normalized, defaults added or not.
#[must_use]
pub fn object(kind: Kind, object: &Value) -> Vec<Finding> {
    let mut findings = Findings::default();
    let at = At::root(object, kind == Kind::Secret);
    if !object.is_object() {
        findings.error(Fault::Type, at.path(), "an object must be a mapping");
        return findings.found;
    }
    structure::check(kind, &at, &mut findings);
    meta::check(kind, &at, &mut findings);
    match kind {
        Kind::ConfigMap | Kind::Secret => config::check(kind, &at, &mut findings),
        Kind::Service => service::service(&at, &mut findings),
        Kind::Ingress => service::ingress(&at, &mut findings),
        Kind::NetworkPolicy => service::network_policy(&at, &mut findings),
        Kind::Pod
        | Kind::ReplicaSet
        | Kind::Deployment
        | Kind::DaemonSet
        | Kind::StatefulSet
        | Kind::ReplicationController
        | Kind::Job
        | Kind::CronJob => workload::check(kind, &at, &mut findings),
        _ => policy::check(kind, &at, &mut findings),
    }
    fields::check(kind, &at, &mut findings);
    let Findings {
        found: mut findings,
        meant,
    } = findings;
    findings.retain(|finding| finding.fault != Fault::Required || !meant.contains(&finding.path));
    // One fault can break a type and a rule, or a type and the presence of a field.
    findings.sort_by(|left, right| left.path.cmp(&right.path).then(right.severity.cmp(&left.severity)));
    findings.dedup_by(|later, first| {
        later.path == first.path
            && (later.fault == first.fault || matches!(first.fault, Fault::Required | Fault::Type | Fault::Unknown))
    });
    findings
}

/// Only the names and types of the fields of an object of `kind`: what field validation reports.
#[must_use]
pub fn structure(kind: Kind, object: &Value) -> Vec<Finding> {
    let mut findings = Findings::default();
    structure::check(kind, &At::root(object, kind == Kind::Secret), &mut findings);
    findings.found
}

/// Brings an object as it was written into the form that validation expects: nulls are missing
/// fields (in a mapping of texts, the empty text), and what only the server sets is gone. No default
/// is added.
pub fn normalize(kind: Kind, object: &mut Value) {
    structure::normalize(kind, object);
    if let Some(object) = object.as_object_mut() {
        if has_status(kind) {
            object.remove("status");
        }
        if kind == Kind::Job {
            defaulting::anonymize_job(object);
        }
        drop_server_fields(object.get_mut("metadata"));
        for pointer in [
            "/spec/template/metadata",
            "/spec/jobTemplate/metadata",
            "/spec/jobTemplate/spec/template/metadata",
        ] {
            if let Some(meta) = pointer_mut(object, pointer).and_then(Value::as_object_mut) {
                meta.remove("creationTimestamp");
            }
        }
    }
}

fn pointer_mut<'a>(object: &'a mut Map<String, Value>, pointer: &str) -> Option<&'a mut Value> {
    let (first, rest) = pointer.strip_prefix('/')?.split_once('/')?;
    object.get_mut(first)?.pointer_mut(&format!("/{rest}"))
}

fn has_status(kind: Kind) -> bool {
    structure::SHAPES.root(kind).fields.contains_key("status")
}

/// Metadata that the server sets.
pub const SERVER_METADATA: [&str; 8] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

fn drop_server_fields(meta: Option<&mut Value>) {
    if let Some(meta) = meta.and_then(Value::as_object_mut) {
        for field in SERVER_METADATA {
            meta.remove(field);
        }
    }
}

/// A copy of an object whose secret values are replaced by a marker, for people to read. Values of
/// other kinds stay. Two markers are equal exactly where the values behind them are, as far as one
/// call of [`redact_pair`] made both.
#[must_use]
pub fn redact(kind: Kind, object: &Value) -> Value {
    redact_with(kind, object, |_, _| "(hidden)")
}

/// Both sides of a change with their secret values replaced, so that a diff of the two shows which
/// values changed and never what they are.
#[must_use]
pub fn redact_pair(kind: Kind, old: &Value, new: &Value) -> (Value, Value) {
    let same =
        |other: &Value, map: &str, key: &str, value: &Value| other.get(map).and_then(|map| map.get(key)) == Some(value);
    let old_side = redact_entries(kind, old, |map, key, value| {
        if same(new, map, key, value) {
            "(hidden, unchanged)"
        } else {
            "(hidden, before)"
        }
    });
    let new_side = redact_entries(kind, new, |map, key, value| {
        if same(old, map, key, value) {
            "(hidden, unchanged)"
        } else {
            "(hidden, after)"
        }
    });
    (old_side, new_side)
}

fn redact_with(kind: Kind, object: &Value, marker: impl Fn(&str, &str) -> &'static str) -> Value {
    redact_entries(kind, object, |map, key, _| marker(map, key))
}

fn redact_entries(kind: Kind, object: &Value, marker: impl Fn(&str, &str, &Value) -> &'static str) -> Value {
    let mut copy = object.clone();
    if kind != Kind::Secret {
        return copy;
    }
    for name in ["data", "stringData"] {
        match copy.get_mut(name) {
            Some(Value::Object(map)) => {
                for (key, value) in map {
                    *value = Value::String(marker(name, key, value).to_owned());
                }
            }
            Some(other) if !other.is_null() => *other = Value::String("(hidden)".to_owned()),
            _ => {}
        }
    }
    // The annotation of client-side apply repeats the whole object.
    if let Some(annotations) = copy.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)
        && let Some(value) = annotations.get_mut("kubectl.kubernetes.io/last-applied-configuration")
    {
        *value = Value::String("(hidden)".to_owned());
    }
    copy
}
