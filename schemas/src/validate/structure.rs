//! The types of all fields of all kinds, from the upstream schemas, and the check against them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use k8s_openapi::api::{
    apps::v1 as apps, autoscaling::v2 as autoscaling, batch::v1 as batch, coordination::v1 as coordination,
    core::v1 as core, discovery::v1 as discovery, networking::v1 as networking, policy::v1 as policy, rbac::v1 as rbac,
    scheduling::v1 as scheduling, storage::v1 as storage,
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

use super::{
    finding::{Fault, Findings},
    path::At,
    values::CHOICES,
};
use crate::Kind;

/// The type of a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Any JSON at all.
    Any,
    Text(TextFormat),
    /// One of a few words.
    Choice(&'static [&'static str]),
    Integer {
        wide: bool,
    },
    Number,
    Flag,
    IntOrText,
    Quantity,
    List(Box<Shape>),
    /// A mapping with free keys.
    Dictionary(Box<Shape>),
    /// A type of its own, by its index in [`Shapes::structs`].
    Struct(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextFormat {
    Plain,
    Base64,
    Time,
}

/// A mapping with known fields.
#[derive(Debug)]
pub(crate) struct Struct {
    /// The upstream name, `io.k8s.api.core.v1.Container`.
    pub(crate) name: String,
    pub(crate) fields: BTreeMap<String, Shape>,
    pub(crate) required: Vec<String>,
}

/// The types of all kinds.
pub(crate) struct Shapes {
    pub(crate) structs: Vec<Struct>,
    roots: Vec<usize>,
}

/// Built from the upstream schemas at first use.
pub(crate) static SHAPES: LazyLock<Shapes> = LazyLock::new(Shapes::build);

impl Shapes {
    pub(crate) fn root(&self, kind: Kind) -> &Struct {
        &self.structs[self.root_index(kind)]
    }

    pub(crate) fn root_index(&self, kind: Kind) -> usize {
        self.roots[kind as usize]
    }

    fn build() -> Self {
        let mut generator = SchemaSettings::draft07().into_generator();
        let names: Vec<String> = crate::kind::KINDS
            .iter()
            .map(|info| register(info.kind, &mut generator))
            .collect();
        let definitions = generator.take_definitions(false);
        let index: HashMap<&str, usize> = definitions
            .iter()
            .filter(|(_, schema)| schema.get("properties").is_some())
            .enumerate()
            .map(|(index, (name, _))| (name.as_str(), index))
            .collect();
        let structs: Vec<Struct> = definitions
            .iter()
            .filter_map(|(name, schema)| {
                let properties = schema.get("properties")?.as_object()?;
                Some(Struct {
                    name: name.clone(),
                    fields: properties
                        .iter()
                        .map(|(field, schema)| (field.clone(), shape(schema, &definitions, &index)))
                        .collect(),
                    required: schema
                        .get("required")
                        .and_then(Value::as_array)
                        .into_iter()
                        .flatten()
                        .filter_map(|name| name.as_str().map(str::to_owned))
                        .filter(|field| !is_defaulted(name, field))
                        .collect(),
                })
            })
            .collect();
        let structs = with_choices(structs);
        let roots = names
            .iter()
            .map(|name| *index.get(name.as_str()).unwrap_or(&0))
            .collect();
        Self { structs, roots }
    }
}

/// Fields that the upstream schemas require although the API fills them in.
fn is_defaulted(of: &str, field: &str) -> bool {
    of.ends_with(".batch.v1.PodFailurePolicyOnPodConditionsPattern") && field == "status"
}

fn with_choices(mut structs: Vec<Struct>) -> Vec<Struct> {
    for choice in CHOICES {
        let ending = format!(".{}", choice.of);
        for of in structs.iter_mut().filter(|of| of.name.ends_with(&ending)) {
            match of.fields.get_mut(choice.field) {
                Some(Shape::List(inner)) => **inner = Shape::Choice(choice.values),
                Some(shape) => *shape = Shape::Choice(choice.values),
                None => {}
            }
        }
    }
    structs
}

fn register(kind: Kind, generator: &mut SchemaGenerator) -> String {
    fn add<T: JsonSchema>(generator: &mut SchemaGenerator) -> String {
        generator.subschema_for::<T>();
        T::schema_name().into_owned()
    }
    let add: fn(&mut SchemaGenerator) -> String = match kind {
        Kind::Namespace => add::<core::Namespace>,
        Kind::ConfigMap => add::<core::ConfigMap>,
        Kind::Secret => add::<core::Secret>,
        Kind::Pod => add::<core::Pod>,
        Kind::Node => add::<core::Node>,
        Kind::Event => add::<core::Event>,
        Kind::Service => add::<core::Service>,
        Kind::ServiceAccount => add::<core::ServiceAccount>,
        Kind::Endpoints => add::<core::Endpoints>,
        Kind::PersistentVolume => add::<core::PersistentVolume>,
        Kind::PersistentVolumeClaim => add::<core::PersistentVolumeClaim>,
        Kind::ReplicationController => add::<core::ReplicationController>,
        Kind::ResourceQuota => add::<core::ResourceQuota>,
        Kind::LimitRange => add::<core::LimitRange>,
        Kind::ReplicaSet => add::<apps::ReplicaSet>,
        Kind::Deployment => add::<apps::Deployment>,
        Kind::DaemonSet => add::<apps::DaemonSet>,
        Kind::StatefulSet => add::<apps::StatefulSet>,
        Kind::ControllerRevision => add::<apps::ControllerRevision>,
        Kind::Job => add::<batch::Job>,
        Kind::CronJob => add::<batch::CronJob>,
        Kind::HorizontalPodAutoscaler => add::<autoscaling::HorizontalPodAutoscaler>,
        Kind::PodDisruptionBudget => add::<policy::PodDisruptionBudget>,
        Kind::EndpointSlice => add::<discovery::EndpointSlice>,
        Kind::Lease => add::<coordination::Lease>,
        Kind::PriorityClass => add::<scheduling::PriorityClass>,
        Kind::StorageClass => add::<storage::StorageClass>,
        Kind::Ingress => add::<networking::Ingress>,
        Kind::NetworkPolicy => add::<networking::NetworkPolicy>,
        Kind::Role => add::<rbac::Role>,
        Kind::RoleBinding => add::<rbac::RoleBinding>,
        Kind::ClusterRole => add::<rbac::ClusterRole>,
        Kind::ClusterRoleBinding => add::<rbac::ClusterRoleBinding>,
    };
    add(generator)
}

fn shape(schema: &Value, definitions: &Map<String, Value>, index: &HashMap<&str, usize>) -> Shape {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        if name.ends_with(".resource.Quantity") {
            return Shape::Quantity;
        }
        if let Some(&found) = index.get(name) {
            return Shape::Struct(found);
        }
        return definitions
            .get(name)
            .map_or(Shape::Any, |schema| shape(schema, definitions, index));
    }
    if schema.get("x-kubernetes-int-or-string").is_some() {
        return Shape::IntOrText;
    }
    let text = |key: &str| schema.get(key).and_then(Value::as_str);
    match text("type") {
        Some("string") => Shape::Text(match text("format") {
            Some("byte") => TextFormat::Base64,
            Some("date-time") => TextFormat::Time,
            _ => TextFormat::Plain,
        }),
        Some("integer") => Shape::Integer {
            wide: text("format") == Some("int64"),
        },
        Some("number") => Shape::Number,
        Some("boolean") => Shape::Flag,
        Some("array") => Shape::List(Box::new(
            schema
                .get("items")
                .map_or(Shape::Any, |items| shape(items, definitions, index)),
        )),
        Some("object") => match schema.get("additionalProperties") {
            Some(values) => Shape::Dictionary(Box::new(shape(values, definitions, index))),
            None => Shape::Any,
        },
        _ => Shape::Any,
    }
}

/// Brings an object into the form that the rest works on: a null is the same as a missing field, or
/// as the empty text in a mapping of texts.
pub(super) fn normalize(kind: Kind, object: &mut Value) {
    if let Value::Object(fields) = object {
        normalize_struct(SHAPES.root(kind), fields);
    }
}

fn normalize_struct(of: &Struct, fields: &mut Map<String, Value>) {
    fields.retain(|_, value| !value.is_null());
    for (name, value) in fields {
        if let Some(shape) = of.fields.get(name) {
            normalize_value(shape, value);
        }
    }
}

fn normalize_value(shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Struct(index), Value::Object(fields)) => normalize_struct(&SHAPES.structs[*index], fields),
        (Shape::List(inner), Value::Array(items)) => items.iter_mut().for_each(|item| normalize_value(inner, item)),
        (Shape::Dictionary(inner), Value::Object(fields)) => {
            if **inner == Shape::Text(TextFormat::Plain) || **inner == Shape::Text(TextFormat::Base64) {
                for value in fields.values_mut().filter(|value| value.is_null()) {
                    *value = Value::String(String::new());
                }
            } else {
                fields.retain(|_, value| !value.is_null());
                fields.values_mut().for_each(|value| normalize_value(inner, value));
            }
        }
        _ => {}
    }
}

/// Checks names and types of all fields.
pub(super) fn check(kind: Kind, object: &At<'_, '_>, findings: &mut Findings) {
    check_struct(SHAPES.root(kind), object, findings);
}

fn check_struct(of: &Struct, at: &At<'_, '_>, findings: &mut Findings) {
    for (name, field) in at.entries() {
        match of.fields.get(name) {
            Some(shape) => check_value(shape, &field, findings),
            None => unknown_field(of, name, at, &field, findings),
        }
    }
    for name in &of.required {
        if !at.has(name) {
            findings.required(at, name, "is required");
        }
    }
}

fn unknown_field(of: &Struct, name: &str, at: &At<'_, '_>, field: &At<'_, '_>, findings: &mut Findings) {
    let mut message = "there is no such field".to_owned();
    let top = at.path().segments().is_empty();
    if let Some(near) = suggestion(name, of.fields.keys().map(String::as_str)) {
        message += &format!(": did you mean {near}?");
        findings.meant.push(at.path_to(near));
    } else if top && of.fields.contains_key("spec") {
        message += " at the top of the object: does it belong under spec?";
    } else {
        let known: Vec<&str> = of.fields.keys().map(String::as_str).collect();
        if known.len() <= 12 {
            message += &format!(": the fields here are {}", known.join(", "));
        }
    }
    findings.error(Fault::Unknown, field.path(), message);
}

/// The candidate that was most likely meant, if one is near enough.
pub fn suggestion<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .map(|candidate| {
            let other = candidate.to_lowercase();
            let near = if other == lower || other == format!("{lower}s") || lower == format!("{other}s") {
                1.0
            } else {
                strsim::normalized_damerau_levenshtein(&lower, &other)
            };
            (near, candidate)
        })
        .filter(|(near, _)| *near >= 0.6)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

fn check_value(shape: &Shape, at: &At<'_, '_>, findings: &mut Findings) {
    let value = at.value;
    match shape {
        Shape::Any => {}
        _ if value.is_null() => findings.error(Fault::Type, at.path(), "an element of a list cannot be null"),
        Shape::Text(format) => match value.as_str() {
            None => wrong_type("a text", at, findings),
            Some(text) => check_text(*format, text, at, findings),
        },
        Shape::Choice(values) => match value.as_str() {
            None => wrong_type("a text", at, findings),
            Some(_) => findings.one_of(at, values),
        },
        Shape::Integer { wide } => {
            if !value.is_number() {
                wrong_type("a whole number", at, findings);
            } else if !value.is_i64() {
                findings.error(
                    Fault::Type,
                    at.path(),
                    format!(
                        "{} is not a whole number of {} bits",
                        at.shown(),
                        if *wide { 64 } else { 32 }
                    ),
                );
            } else if !wide && value.as_i64().is_some_and(|number| i32::try_from(number).is_err()) {
                findings.error(Fault::Type, at.path(), format!("{} does not fit 32 bits", at.shown()));
            }
        }
        Shape::Number => {
            if !value.is_number() {
                wrong_type("a number", at, findings);
            }
        }
        Shape::Flag => {
            if !value.is_boolean() {
                wrong_type("true or false", at, findings);
            }
        }
        Shape::IntOrText => {
            let small = value.as_i64().is_some_and(|number| i32::try_from(number).is_ok());
            if !small && !value.is_string() {
                wrong_type("a whole number or a text", at, findings);
            }
        }
        Shape::Quantity => {
            if !value.is_number() && !value.is_string() {
                wrong_type("a quantity such as 100m or 64Mi", at, findings);
            }
        }
        Shape::List(inner) => {
            if value.is_array() {
                at.elements().for_each(|item| check_value(inner, &item, findings));
            } else {
                wrong_type("a list", at, findings);
            }
        }
        Shape::Dictionary(inner) => {
            if value.is_object() {
                at.entries().for_each(|(_, entry)| check_value(inner, &entry, findings));
            } else {
                wrong_type("a mapping", at, findings);
            }
        }
        Shape::Struct(index) => {
            if value.is_object() {
                check_struct(&SHAPES.structs[*index], at, findings);
            } else {
                wrong_type("a mapping", at, findings);
            }
        }
    }
}

fn check_text(format: TextFormat, text: &str, at: &At<'_, '_>, findings: &mut Findings) {
    match format {
        TextFormat::Plain => {}
        TextFormat::Base64 => {
            use base64::Engine;
            let packed: String = text.chars().filter(|letter| !matches!(letter, '\r' | '\n')).collect();
            if base64::engine::general_purpose::STANDARD.decode(packed).is_err() {
                findings.error(
                    Fault::Invalid,
                    at.path(),
                    "is not base64: encode it, or move it to stringData (of a Secret) or data (of a ConfigMap)",
                );
            }
        }
        TextFormat::Time => {
            if text.parse::<jiff::Timestamp>().is_err() {
                findings.invalid(at, "is not a time such as 2006-01-02T15:04:05Z");
            }
        }
    }
}

fn wrong_type(wanted: &str, at: &At<'_, '_>, findings: &mut Findings) {
    let found = match at.value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) if at.is_hidden() => "a boolean".to_owned(),
        Value::Number(_) if at.is_hidden() => "a number".to_owned(),
        Value::Bool(flag) => format!("the boolean {flag}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(_) => "a text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    };
    let mut message = format!("takes {wanted}, found {found}");
    if wanted == "a text" && (at.value.is_number() || at.value.is_boolean()) {
        message += ": put it in quotes";
    }
    if wanted == "true or false" && at.value.is_string() || wanted == "a whole number" && at.value.is_string() {
        message += ": write it without quotes";
    }
    findings.error(Fault::Type, at.path(), message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_shape() {
        for info in crate::kind::KINDS {
            let root = SHAPES.root(info.kind);
            assert!(
                root.name.ends_with(&format!(".{}", info.name)),
                "{}: {}",
                info.name,
                root.name
            );
            assert!(root.fields.contains_key("metadata"), "{}", info.name);
        }
        for choice in CHOICES {
            let ending = format!(".{}", choice.of);
            let of = SHAPES
                .structs
                .iter()
                .find(|of| of.name.ends_with(&ending))
                .expect(choice.of);
            let shape = of.fields.get(choice.field).expect(choice.field);
            let shape = if let Shape::List(inner) = shape { inner } else { shape };
            assert_eq!(*shape, Shape::Choice(choice.values), "{}.{}", choice.of, choice.field);
        }
        let any = SHAPES
            .structs
            .iter()
            .flat_map(|of| of.fields.iter().map(move |(field, shape)| (of, field, shape)))
            .filter(|(_, _, shape)| **shape == Shape::Any)
            .map(|(of, field, _)| format!("{}.{field}", of.name))
            .collect::<Vec<_>>();
        assert_eq!(
            any,
            [
                "io.k8s.api.apps.v1.ControllerRevision.data",
                "io.k8s.apimachinery.pkg.apis.meta.v1.ManagedFieldsEntry.fieldsV1"
            ]
        );
    }
}
