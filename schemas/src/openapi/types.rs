//! Types as OpenAPI schemas.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value, json};

use crate::{
    Kind, KindInfo,
    jsonschema::{about_kind, descriptions, inner_struct, type_at},
    kind::KINDS,
    structure::{self, Merge},
    validate::structure::{SHAPES, Shape, TextFormat},
};

/// A version of OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}

const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
pub(super) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub(super) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

pub(super) fn reference(name: &str, dialect: Dialect) -> Value {
    let prefix = match dialect {
        Dialect::V2 => "#/definitions/",
        Dialect::V3 => "#/components/schemas/",
    };
    json!({"$ref": format!("{prefix}{name}")})
}

/// The name of a kind's type.
pub(super) fn name_of(kind: Kind) -> &'static str {
    &SHAPES.root(kind).name
}

pub(super) fn list_name(kind: Kind) -> String {
    format!("{}List", name_of(kind))
}

pub(super) fn group_version_kind(info: &KindInfo, name: &str) -> Value {
    json!({"group": info.group, "version": info.version, "kind": name})
}

/// The schemas of the types `needed` by `kinds`.
pub(super) fn schemas(kinds: &[Kind], needed: &BTreeSet<usize>, dialect: Dialect) -> Map<String, Value> {
    let about = descriptions(kinds);
    let merges = merges(kinds);
    let mut schemas = Map::new();
    for &index in needed {
        let of = type_at(index);
        let mut properties = Map::new();
        for (name, shape) in &of.fields {
            let mut schema = field(shape, dialect);
            let key = (index, name.as_str());
            if let Some(about) = about.get(&key) {
                describe(&mut schema, about, dialect);
            }
            if let Some(merge) = merges.get(&key) {
                extend(&mut schema, merge_keywords(merge), dialect);
            }
            properties.insert(name.clone(), schema);
        }
        let mut schema = json!({"type": "object", "properties": properties});
        if !of.required.is_empty() {
            schema["required"] = json!(of.required);
        }
        schemas.insert(of.name.clone(), schema);
    }
    for kind in kinds {
        if let Some(schema) = schemas.get_mut(name_of(*kind)) {
            let info = kind.info();
            schema["description"] = about_kind(*kind).into();
            schema["x-kubernetes-group-version-kind"] = json!([group_version_kind(info, info.name)]);
        }
    }
    schemas
}

/// Adds words beside a reference, in the way that each version allows.
fn extend(schema: &mut Value, words: Map<String, Value>, dialect: Dialect) {
    if words.is_empty() {
        return;
    }
    if dialect == Dialect::V3 && schema.get("$ref").is_some() {
        *schema = json!({"allOf": [schema.take()]});
    }
    if let Some(schema) = schema.as_object_mut() {
        schema.extend(words);
    }
}

fn describe(schema: &mut Value, about: &str, dialect: Dialect) {
    let words = Map::from_iter([("description".to_owned(), Value::from(about))]);
    extend(schema, words, dialect);
}

fn field(shape: &Shape, dialect: Dialect) -> Value {
    match shape {
        Shape::Any => json!({"type": "object"}),
        Shape::Text(TextFormat::Plain) => json!({"type": "string"}),
        Shape::Text(TextFormat::Base64) => json!({"type": "string", "format": "byte"}),
        Shape::Text(TextFormat::Time) => reference(TIME, dialect),
        Shape::Choice(values) => {
            let values: Vec<&&str> = values.iter().filter(|value| !value.is_empty()).collect();
            json!({"type": "string", "enum": values})
        }
        Shape::Integer { wide } => json!({"type": "integer", "format": if *wide { "int64" } else { "int32" }}),
        Shape::Number => json!({"type": "number", "format": "double"}),
        Shape::Flag => json!({"type": "boolean"}),
        Shape::IntOrText => reference(INT_OR_STRING, dialect),
        Shape::Quantity => reference(QUANTITY, dialect),
        Shape::List(inner) => json!({"type": "array", "items": field(inner, dialect)}),
        Shape::Dictionary(inner) => json!({"type": "object", "additionalProperties": field(inner, dialect)}),
        Shape::Struct(index) => reference(&type_at(*index).name, dialect),
    }
}

/// How the fields of all types merge, from the table of patches.
fn merges(kinds: &[Kind]) -> HashMap<(usize, &'static str), Merge> {
    let mut merges = HashMap::new();
    let mut seen = HashSet::new();
    for kind in kinds {
        walk(
            SHAPES.root_index(*kind),
            structure::Shape::Root(*kind),
            &mut merges,
            &mut seen,
        );
    }
    merges
}

fn walk(
    index: usize,
    merging: structure::Shape,
    merges: &mut HashMap<(usize, &'static str), Merge>,
    seen: &mut HashSet<(usize, String)>,
) {
    if !seen.insert((index, format!("{merging:?}"))) {
        return;
    }
    for (name, shape) in &type_at(index).fields {
        let merge = structure::rule(merging, name);
        let below = match merge {
            Merge::Struct(below) => Some(below),
            Merge::Keyed { shape: below, .. } | Merge::PatchKeyed { shape: below, .. } => {
                merges.entry((index, name.as_str())).or_insert(merge);
                Some(below)
            }
            _ => {
                merges.entry((index, name.as_str())).or_insert(merge);
                None
            }
        };
        if let (Some(inner), Some(below)) = (inner_struct(shape), below)
            && below != structure::Shape::Plain
        {
            walk(inner, below, merges, seen);
        }
    }
}

fn merge_keywords(merge: &Merge) -> Map<String, Value> {
    let value = match merge {
        Merge::Keyed { keys, merge_key, .. } => {
            let mut words = json!({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys});
            if let Some(key) = merge_key {
                words["x-kubernetes-patch-merge-key"] = (*key).into();
                words["x-kubernetes-patch-strategy"] = "merge".into();
            }
            words
        }
        Merge::PatchKeyed { merge_key, .. } => json!({
            "x-kubernetes-list-type": "atomic",
            "x-kubernetes-patch-merge-key": merge_key,
            "x-kubernetes-patch-strategy": "merge",
        }),
        Merge::Set => json!({"x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge"}),
        Merge::AtomicStruct | Merge::AtomicMap => json!({"x-kubernetes-map-type": "atomic"}),
        _ => json!({}),
    };
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The list of a kind.
pub(super) fn list(info: &KindInfo, dialect: Dialect) -> Value {
    json!({
        "type": "object",
        "description": format!("A list of {}.", info.plural),
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": reference(LIST_META, dialect),
            "items": {"type": "array", "items": reference(name_of(info.kind), dialect)},
        },
        "x-kubernetes-group-version-kind": [group_version_kind(info, &format!("{}List", info.name))],
    })
}

/// Types that all groups share.
pub(super) fn shared(dialect: Dialect) -> Map<String, Value> {
    let mut groups: Vec<(&str, &str)> = KINDS.iter().map(|info| (info.group, info.version)).collect();
    groups.sort_unstable();
    groups.dedup();
    let options: Vec<Value> = groups
        .iter()
        .map(|(group, version)| json!({"group": group, "version": version, "kind": "DeleteOptions"}))
        .collect();
    let (int_or_string, quantity) = match dialect {
        Dialect::V2 => (
            json!({"type": "string", "format": "int-or-string"}),
            json!({"type": "string"}),
        ),
        Dialect::V3 => (
            json!({"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"}),
            json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        ),
    };
    let described = |mut schema: Value, about: &str| {
        schema["description"] = about.into();
        schema
    };
    Map::from_iter([
        (
            INT_OR_STRING.to_owned(),
            described(int_or_string, "A whole number or a text."),
        ),
        (
            QUANTITY.to_owned(),
            described(quantity, "An amount such as 500m, 2 or 64Mi."),
        ),
        (
            TIME.to_owned(),
            json!({"type": "string", "format": "date-time", "description": "A time such as 2006-01-02T15:04:05Z."}),
        ),
        (
            LIST_META.to_owned(),
            json!({"type": "object", "description": "What a list says of itself.", "properties": {
                "continue": {"type": "string"},
                "remainingItemCount": {"type": "integer", "format": "int64"},
                "resourceVersion": {"type": "string"},
                "selfLink": {"type": "string"},
            }}),
        ),
        (
            STATUS.to_owned(),
            json!({"type": "object", "description": "The outcome of a request that returns no object.", "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": reference(LIST_META, dialect),
                "status": {"type": "string"},
                "message": {"type": "string"},
                "reason": {"type": "string"},
                "code": {"type": "integer", "format": "int32"},
                "details": {"type": "object"},
            }, "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Status"}]}),
        ),
        (
            DELETE_OPTIONS.to_owned(),
            json!({"type": "object", "description": "How to delete.", "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "dryRun": {"type": "array", "items": {"type": "string"}},
                "gracePeriodSeconds": {"type": "integer", "format": "int64"},
                "orphanDependents": {"type": "boolean"},
                "propagationPolicy": {"type": "string"},
                "preconditions": {"type": "object", "properties": {
                    "resourceVersion": {"type": "string"}, "uid": {"type": "string"},
                }},
            }, "x-kubernetes-group-version-kind": options}),
        ),
    ])
}
