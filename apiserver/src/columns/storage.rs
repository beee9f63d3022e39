//! Volumes, claims, classes and quotas.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    AGE, Column, NAME,
    access::{Shown, age_of, body, each, plain, status, text as string},
    cells::row,
    switch, text, wide,
};

const MODES: Column = text("Access Modes", "How many nodes may mount it, and how.");
const CAPACITY: Column = text("Capacity", "How much it holds.");
const CLASS_NAME: Column = text("StorageClass", "The class it is of.");
const ATTRIBUTES: Column = text("VolumeAttributesClass", "The class of its attributes.");
const VOLUME_MODE: Column = wide("VolumeMode", "A file system or a block device.");

pub(super) const VOLUME: &[Column] = &[
    NAME,
    CAPACITY,
    MODES,
    text("Reclaim Policy", "What happens to it when its claim goes."),
    text("Status", "Whether it is free, bound or released."),
    text("Claim", "The claim it is bound to."),
    CLASS_NAME,
    ATTRIBUTES,
    text("Reason", "Why it failed, if it did."),
    AGE,
    VOLUME_MODE,
];
pub(super) const CLAIM: &[Column] = &[
    NAME,
    text("Status", "Whether it is bound."),
    text("Volume", "The volume it is bound to."),
    CAPACITY,
    MODES,
    CLASS_NAME,
    ATTRIBUTES,
    AGE,
    VOLUME_MODE,
];
pub(super) const CLASS: &[Column] = &[
    NAME,
    text("Provisioner", "What makes its volumes."),
    text("ReclaimPolicy", "What happens to its volumes when their claims go."),
    text("VolumeBindingMode", "When volumes are bound."),
    switch("AllowVolumeExpansion", "Whether volumes can grow."),
    AGE,
];
pub(super) const QUOTA: &[Column] = &[
    NAME,
    text("Request", "Requests that are used, of how many."),
    text("Limit", "Limits that are used, of how many."),
    AGE,
];

fn modes(value: Option<&Value>) -> String {
    let short = each(value).filter_map(Value::as_str).map(|mode| match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        other => other,
    });
    short.collect::<Vec<_>>().join(",")
}

/// The phase, or `Terminating`.
fn phase(object: &Shown<'_>) -> String {
    if object.is_deleting() {
        return "Terminating".to_owned();
    }
    string(status(object, "/phase")).unwrap_or("Pending").to_owned()
}

fn unset(value: Option<&Value>) -> &str {
    string(value).unwrap_or("<unset>")
}

pub(super) fn volume(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let claim = body(object, "/spec/claimRef").map(|claim| {
        let part = |field: &str| string(claim.get(field)).unwrap_or("");
        format!("{}/{}", part("namespace"), part("name"))
    });
    row![
        object.name(),
        body(object, "/spec/capacity/storage").map_or_else(String::new, plain),
        modes(body(object, "/spec/accessModes")),
        string(body(object, "/spec/persistentVolumeReclaimPolicy")).unwrap_or("Retain"),
        phase(object),
        claim.unwrap_or_default(),
        string(body(object, "/spec/storageClassName")).unwrap_or(""),
        unset(body(object, "/spec/volumeAttributesClassName")),
        string(status(object, "/reason")).unwrap_or(""),
        age_of(object, now),
        unset(body(object, "/spec/volumeMode")),
    ]
}

pub(super) fn claim(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let volume = string(body(object, "/spec/volumeName"));
    // Before it is bound a claim has neither size nor modes.
    let bound = |text: String| if volume.is_some() { text } else { String::new() };
    row![
        object.name(),
        phase(object),
        volume.unwrap_or(""),
        bound(status(object, "/capacity/storage").map_or_else(String::new, plain)),
        bound(modes(status(object, "/accessModes"))),
        string(body(object, "/spec/storageClassName")).unwrap_or(""),
        unset(body(object, "/spec/volumeAttributesClassName")),
        age_of(object, now),
        unset(body(object, "/spec/volumeMode")),
    ]
}

pub(super) fn class(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let default = object.annotation("storageclass.kubernetes.io/is-default-class") == Some("true");
    row![
        if default {
            format!("{} (default)", object.name())
        } else {
            object.name().to_owned()
        },
        string(body(object, "/provisioner")).unwrap_or(""),
        string(body(object, "/reclaimPolicy")).unwrap_or("Delete"),
        string(body(object, "/volumeBindingMode")).unwrap_or("Immediate"),
        body(object, "/allowVolumeExpansion").and_then(Value::as_bool) == Some(true),
        age_of(object, now),
    ]
}

pub(super) fn quota(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let hard = status(object, "/hard").and_then(Value::as_object);
    for (name, most) in hard.into_iter().flatten() {
        let used = status(object, "/used")
            .and_then(|used| used.get(name))
            .map_or_else(|| "0".to_owned(), plain);
        let line = format!("{name}: {used}/{}", plain(most));
        if name.starts_with("limits.") {
            limits.push(line);
        } else {
            requests.push(line);
        }
    }
    row![
        object.name(),
        requests.join(", "),
        limits.join(", "),
        age_of(object, now)
    ]
}
