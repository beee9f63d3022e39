//! Field selectors: lists narrowed by the value of a field.
//!
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/>

use serde_json::Value;

use crate::{Kind, Object, Packed, Part};

/// A parsed `fieldSelector` query parameter, checked against the kind that it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

/// One comparison of a field with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    pub field: String,
    pub value: String,
    /// The field must have the value; otherwise it must not.
    pub equal: bool,
}

/// What is wrong with a field selector, in the API server's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    #[error("invalid selector: {selector:?}; can't understand {term:?}")]
    Syntax { selector: String, term: String },
    #[error("invalid field selector: a backslash may stand before ',', '=' and '\\' only, in {0:?}")]
    Escape(String),
    #[error("field label not supported: {0}")]
    Unsupported(String),
    #[error("{0:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")]
    OnlyMetadata(String),
}

impl FieldSelector {
    /// Reads `metadata.name=x,spec.nodeName!=y` for objects of `kind`.
    pub fn parse(text: &str, kind: Kind) -> Result<Self, FieldSelectorError> {
        let mut terms = Vec::new();
        for term in split_unescaped(text) {
            if term.is_empty() {
                continue;
            }
            let (field, value, equal) = split_term(term).ok_or_else(|| FieldSelectorError::Syntax {
                selector: text.to_owned(),
                term: term.to_owned(),
            })?;
            if !is_supported(kind, field) {
                let field = field.to_owned();
                return Err(if kind_fields(kind).is_empty() {
                    FieldSelectorError::OnlyMetadata(field)
                } else {
                    FieldSelectorError::Unsupported(field)
                });
            }
            terms.push(FieldTerm {
                field: field.to_owned(),
                value: unescape(value)?,
                equal,
            });
        }
        Ok(Self { terms })
    }

    #[must_use]
    pub fn matches(&self, object: &Object) -> bool {
        self.terms
            .iter()
            .all(|term| (field_of(object, &term.field) == term.value) == term.equal)
    }

    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    #[must_use]
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// The value that `field` must have, where a term says so: lets a caller use an index.
    #[must_use]
    pub fn required(&self, field: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|term| term.equal && term.field == field)
            .map(|term| term.value.as_str())
    }
}

/// The fields beside name and namespace that lists of `kind` may be narrowed by.
fn kind_fields(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Pod => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        Kind::Event => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        Kind::Secret => &["type"],
        Kind::Namespace => &["status.phase"],
        Kind::Node => &["spec.unschedulable"],
        Kind::ReplicaSet | Kind::ReplicationController => &["status.replicas"],
        Kind::Job => &["status.successful"],
        Kind::Service => &["spec.clusterIP", "spec.type"],
        _ => &[],
    }
}

fn is_supported(kind: Kind, field: &str) -> bool {
    field == "metadata.name" || field == "metadata.namespace" || kind_fields(kind).contains(&field)
}

/// The text that a field compares as; empty where it is missing.
fn field_of(object: &Object, field: &str) -> String {
    match (object.kind, field) {
        (_, "metadata.name") => return object.name().to_owned(),
        (_, "metadata.namespace") => return object.namespace().to_owned(),
        (Kind::Pod, "spec.nodeName") => return object.node.as_deref().unwrap_or("").to_owned(),
        _ => {}
    }
    let path: Vec<&str> = match (object.kind, field) {
        (Kind::Event, "source") => vec!["source", "component"],
        (Kind::Job, "status.successful") => vec!["status", "succeeded"],
        _ => field.split('.').collect(),
    };
    let found = match path.split_first() {
        Some((&"status", rest)) => {
            let status = object.status.as_ref().map(Packed::part);
            status.and_then(|status| rest.iter().try_fold(status, |part, name| part.get(name)))
        }
        Some(_) => path.iter().try_fold(object.body.part(), |part, name| part.get(name)),
        None => None,
    };
    match found.map(Part::value) {
        Some(Value::String(text)) => text,
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        _ => match field {
            "spec.hostNetwork" | "spec.unschedulable" => "false".to_owned(),
            "status.replicas" | "status.successful" => "0".to_owned(),
            _ => String::new(),
        },
    }
}

/// The terms of a field selector: split at commas that no backslash precedes.
fn split_unescaped(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Splits at the first operator that no backslash precedes.
fn split_term(term: &str) -> Option<(&str, &str, bool)> {
    let mut escaped = false;
    for (index, c) in term.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        let rest = &term[index..];
        if c == '\\' {
            escaped = true;
            continue;
        }
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((&term[..index], value, equal));
            }
        }
    }
    None
}

fn unescape(text: &str) -> Result<String, FieldSelectorError> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => plain.push(c),
                _ => return Err(FieldSelectorError::Escape(text.to_owned())),
            },
            // These must be escaped, or the selector could be read in two ways.
            '=' => return Err(FieldSelectorError::Escape(text.to_owned())),
            c => plain.push(c),
        }
    }
    Ok(plain)
}
