//! Reading fields of objects that may lack any of them.

use std::{cell::OnceCell, ops::Deref};

use jiff::Timestamp;
use schemas::Object;
use serde_json::Value;

use crate::age;

/// An object with its parts unpacked, as far as a row looks at them.
pub(super) struct Shown<'a> {
    object: &'a Object,
    body: OnceCell<Value>,
    status: OnceCell<Value>,
}

impl<'a> From<&'a Object> for Shown<'a> {
    fn from(object: &'a Object) -> Self {
        Self {
            object,
            body: OnceCell::new(),
            status: OnceCell::new(),
        }
    }
}

impl Deref for Shown<'_> {
    type Target = Object;

    fn deref(&self) -> &Object {
        self.object
    }
}

/// A field of the body by its path, `/spec/replicas`.
pub(super) fn body<'a>(shown: &'a Shown<'_>, path: &str) -> Option<&'a Value> {
    shown
        .body
        .get_or_init(|| shown.object.body.part().value())
        .pointer(path)
}

/// A field of the status by its path, `/readyReplicas`.
pub(super) fn status<'a>(shown: &'a Shown<'_>, path: &str) -> Option<&'a Value> {
    let unpacked = || shown.object.status_value().unwrap_or_default();
    shown.status.get_or_init(unpacked).pointer(path)
}

pub(super) fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str).filter(|text| !text.is_empty())
}

pub(super) fn number(value: Option<&Value>) -> i64 {
    value.and_then(Value::as_i64).unwrap_or(0)
}

/// The elements of an array; none where there is no array.
pub(super) fn each(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

pub(super) fn count(value: Option<&Value>) -> usize {
    match value {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(items)) => items.len(),
        _ => 0,
    }
}

/// A string or a number as text: ports and amounts may be either.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Joins what there is, or says `<none>`.
pub(super) fn joined<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let items: Vec<S> = items.into_iter().collect();
    if items.is_empty() {
        return "<none>".to_owned();
    }
    items.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(",")
}

/// A map of labels as `a=b,c=d`.
pub(super) fn labels(value: Option<&Value>) -> String {
    let pairs = value.and_then(Value::as_object).into_iter().flatten();
    joined(pairs.map(|(name, value)| format!("{name}={}", plain(value))))
}

/// A LabelSelector as text.
pub(super) fn selector(value: Option<&Value>) -> String {
    let mut parts: Vec<String> = value
        .and_then(|value| value.get("matchLabels"))
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", plain(value)))
        .collect();
    for expression in each(value.and_then(|value| value.get("matchExpressions"))) {
        let key = text(expression.get("key")).unwrap_or("");
        let values: Vec<String> = each(expression.get("values")).map(plain).collect();
        parts.push(match text(expression.get("operator")).unwrap_or("") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    joined(parts)
}

/// The age cell.
pub(super) fn age_of(object: &Object, now: Timestamp) -> Value {
    let created = object.meta.creation_timestamp.as_ref().map(|time| time.0);
    age::since(created, now).into()
}

/// A time field.
pub(super) fn time(value: Option<&Value>) -> Option<Timestamp> {
    age::read(text(value))
}

/// The status of a condition, `True`, `False` or `Unknown`.
pub(super) fn condition<'a>(object: &'a Shown<'_>, name: &str) -> Option<&'a str> {
    each(status(object, "/conditions"))
        .find(|condition| text(condition.get("type")) == Some(name))
        .and_then(|condition| text(condition.get("status")))
}

/// Names and images of the containers of a pod template.
pub(super) fn containers(object: &Shown<'_>) -> [Value; 2] {
    let list = || each(body(object, "/spec/template/spec/containers"));
    let column = |field: &str| -> Value { joined(list().filter_map(|item| text(item.get(field)))).into() };
    [column("name"), column("image")]
}
