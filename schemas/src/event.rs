//! Events: what happened to an object, repeated occurrences counted in one.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{Body, Key, Kind, Meta, Now, Object, Part, Shared, Uid};

/// One occurrence of something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSpec {
    /// The object that it is about.
    pub involved: Key,
    pub involved_uid: Uid,
    /// The part of the object, `spec.containers{web}`.
    pub field_path: Option<String>,
    /// Something that a person may have to look at.
    pub warning: bool,
    /// One word in CamelCase, `ScalingReplicaSet`.
    pub reason: String,
    /// A sentence for people. Longer than 1 KiB is cut.
    pub message: String,
    /// Who tells it, `deployment-controller`.
    pub component: String,
    /// The node that it happened on.
    pub host: Option<String>,
}

/// The longest message of an event, in bytes.
const MESSAGE_LIMIT: usize = 1024;

impl EventSpec {
    /// What happened to `object`, as told by `component`.
    #[must_use]
    pub fn about(object: &Object, warning: bool, reason: &str, message: impl Into<String>, component: &str) -> Self {
        Self {
            involved: object.key(),
            involved_uid: object.uid(),
            field_path: None,
            warning,
            reason: reason.to_owned(),
            message: message.into(),
            component: component.to_owned(),
            host: None,
        }
    }

    /// The key of the event's object: the same for each occurrence of the same thing.
    #[must_use]
    pub fn key(&self) -> Key {
        let mut hasher = Sha256::new();
        let parts = [
            self.involved.kind.info().name,
            &self.involved_uid.0,
            self.field_path.as_deref().unwrap_or(""),
            if self.warning { "Warning" } else { "Normal" },
            &self.reason,
            self.cut_message(),
            &self.component,
            self.host.as_deref().unwrap_or(""),
        ];
        for part in parts {
            hasher.update(part.as_bytes());
            hasher.update([0]);
        }
        let hash = hex::encode(&hasher.finalize()[..8]);
        let room = 253 - hash.len() - 1;
        let name = self.involved.name.get(..room).unwrap_or(&self.involved.name);
        Key::namespaced(Kind::Event, self.namespace(), &format!("{name}.{hash}"))
    }

    /// The namespace of the involved object, or `default` for one without.
    fn namespace(&self) -> &str {
        self.involved.namespace.as_deref().unwrap_or("default")
    }

    fn cut_message(&self) -> &str {
        let mut end = self.message.len().min(MESSAGE_LIMIT);
        while !self.message.is_char_boundary(end) {
            end -= 1;
        }
        &self.message[..end]
    }
}

/// The event's object after one more occurrence. `existing` is the stored object of the spec's key, if
/// there is one; its count rises and its last time moves on. A new object gets `uid`.
#[must_use]
pub fn record(existing: Option<&Object>, spec: &EventSpec, now: Now, uid: &Uid) -> Object {
    let before = |field: &str| existing.and_then(|object| object.body.at(field));
    let count = before("count").and_then(Part::int).unwrap_or(0);
    let first = before("firstTimestamp").map_or_else(|| time(now.wall), Part::value);
    let body = Body::new(content(spec, count.saturating_add(1), first, now.wall));
    if let Some(object) = existing {
        return Object { body, ..object.clone() };
    }
    let key = spec.key();
    Object {
        kind: Kind::Event,
        meta: Shared::new(Meta {
            name: Some(key.name),
            namespace: key.namespace,
            uid: Some(uid.0.clone()),
            creation_timestamp: Some(Time(now.wall)),
            ..Meta::default()
        }),
        body,
        node: None,
        status: None,
        version: 0,
    }
}

/// When the event last happened, for retention.
#[must_use]
pub fn last_seen(event: &Object) -> Option<Timestamp> {
    ["lastTimestamp", "eventTime", "firstTimestamp"]
        .iter()
        .find_map(|field| event.body.at(field)?.text()?.parse().ok())
        .or_else(|| event.meta.creation_timestamp.as_ref().map(|time| time.0))
}

fn content(spec: &EventSpec, count: i64, first: Value, last: Timestamp) -> Map<String, Value> {
    let info = spec.involved.kind.info();
    let mut involved = json!({
        "apiVersion": info.api_version(),
        "kind": info.name,
        "name": spec.involved.name,
        "uid": spec.involved_uid,
    });
    if let Some(namespace) = &spec.involved.namespace {
        involved["namespace"] = namespace.as_ref().into();
    }
    if let Some(path) = &spec.field_path {
        involved["fieldPath"] = path.as_str().into();
    }
    let mut source = json!({"component": spec.component});
    if let Some(host) = &spec.host {
        source["host"] = host.as_str().into();
    }
    let fields = [
        ("involvedObject", involved),
        ("reason", spec.reason.as_str().into()),
        ("message", spec.cut_message().into()),
        ("type", if spec.warning { "Warning" } else { "Normal" }.into()),
        ("source", source),
        ("count", count.into()),
        ("firstTimestamp", first),
        ("lastTimestamp", time(last)),
        ("eventTime", Value::Null),
        ("reportingComponent", spec.component.as_str().into()),
        ("reportingInstance", spec.host.as_deref().unwrap_or("").into()),
    ];
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn time(at: Timestamp) -> Value {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}

#[cfg(test)]
mod tests;
