//! JSON Schemas of all kinds, for editors: types from the upstream schemas, words from the field
//! table.

mod describe;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

pub(crate) use self::describe::{about_kind, descriptions};
use crate::{
    Kind, KindInfo,
    kind::{KINDS, Support},
    validate::structure::{SHAPES, Shape, Struct, TextFormat},
};

/// The draft that yaml-language-server reads in full.
const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

/// The JSON Schema of one kind. It needs no other file.
#[must_use]
pub fn json_schema(kind: Kind) -> Value {
    let mut schema = schema_of(&[kind]);
    schema["title"] = kind.info().name.into();
    schema
}

/// One JSON Schema for every kind that can be declared, told apart by `apiVersion` and `kind`.
#[must_use]
pub fn all() -> Value {
    let kinds: Vec<Kind> = declarable().map(|info| info.kind).collect();
    let mut schema = schema_of(&kinds);
    schema["title"] = "Any object that Towline takes".into();
    schema
}

/// The files of `schemas/json/` by name: one for each kind that can be declared, and `all.json`.
#[must_use]
pub fn files() -> BTreeMap<String, Value> {
    let mut files: BTreeMap<String, Value> = declarable()
        .map(|info| (file_name(info), json_schema(info.kind)))
        .collect();
    files.insert("all.json".to_owned(), all());
    files
}

/// `deployment-apps-v1.json`, `pod-v1.json`, `role-rbac-v1.json`.
#[must_use]
pub fn file_name(info: &KindInfo) -> String {
    let group = info.group.split('.').next().unwrap_or("");
    if group.is_empty() {
        format!("{}-{}.json", info.singular(), info.version)
    } else {
        format!("{}-{group}-{}.json", info.singular(), info.version)
    }
}

fn declarable() -> impl Iterator<Item = &'static KindInfo> {
    KINDS.iter().filter(|info| info.support != Support::Served)
}

fn schema_of(kinds: &[Kind]) -> Value {
    let mut schema = Map::new();
    schema.insert("$schema".into(), DRAFT.into());
    let reference = |kind: &Kind| json!({"$ref": format!("#/definitions/{}", SHAPES.root(*kind).name)});
    match kinds {
        [kind] => {
            schema.insert("allOf".into(), json!([reference(kind)]));
        }
        _ => {
            schema.insert("oneOf".into(), kinds.iter().map(reference).collect());
        }
    }
    let mut needed = BTreeSet::new();
    for kind in kinds {
        reach(SHAPES.root_index(*kind), &mut needed);
    }
    let descriptions = descriptions(kinds);
    let mut definitions = Map::new();
    for index in needed {
        let of = &SHAPES.structs[index];
        let mut definition = Map::new();
        definition.insert("type".into(), json!(["object", "null"]));
        definition.insert("additionalProperties".into(), false.into());
        let mut properties = Map::new();
        for (name, shape) in &of.fields {
            let mut field = field_schema(shape);
            if let Some(about) = descriptions.get(&(index, name.as_str())) {
                field.insert("description".into(), about.clone().into());
            }
            properties.insert(name.clone(), Value::Object(field));
        }
        definition.insert("properties".into(), Value::Object(properties));
        if !of.required.is_empty() {
            definition.insert("required".into(), json!(of.required));
        }
        definitions.insert(of.name.clone(), Value::Object(definition));
    }
    for kind in kinds {
        if let Some(definition) = definitions.get_mut(&SHAPES.root(*kind).name) {
            name_kind(*kind, definition);
        }
    }
    schema.insert("definitions".into(), Value::Object(definitions));
    Value::Object(schema)
}

/// Fixes `apiVersion` and `kind` of a kind's own definition.
fn name_kind(kind: Kind, definition: &mut Value) {
    let info = kind.info();
    definition["type"] = "object".into();
    definition["description"] = about_kind(kind).into();
    definition["required"] = json!(["apiVersion", "kind", "metadata"]);
    for (field, value) in [("apiVersion", info.api_version()), ("kind", info.name.to_owned())] {
        let field = &mut definition["properties"][field];
        field["type"] = "string".into();
        field["enum"] = json!([value]);
    }
}

/// Collects a type and all that its fields lead to.
pub(crate) fn reach(index: usize, needed: &mut BTreeSet<usize>) {
    if !needed.insert(index) {
        return;
    }
    for shape in SHAPES.structs[index].fields.values() {
        if let Some(inner) = inner_struct(shape) {
            reach(inner, needed);
        }
    }
}

/// The type at the end of lists and mappings.
pub(crate) fn inner_struct(shape: &Shape) -> Option<usize> {
    match shape {
        Shape::Struct(index) => Some(*index),
        Shape::List(inner) | Shape::Dictionary(inner) => inner_struct(inner),
        _ => None,
    }
}

fn field_schema(shape: &Shape) -> Map<String, Value> {
    let value = match shape {
        Shape::Any => json!({}),
        Shape::Text(TextFormat::Plain | TextFormat::Base64) => json!({"type": ["string", "null"]}),
        Shape::Text(TextFormat::Time) => json!({"type": ["string", "null"], "format": "date-time"}),
        Shape::Choice(values) => {
            let mut values: Vec<Value> = values.iter().map(|value| Value::from(*value)).collect();
            values.push(Value::Null);
            json!({"type": ["string", "null"], "enum": values})
        }
        Shape::Integer { .. } => json!({"type": ["integer", "null"]}),
        Shape::Number => json!({"type": ["number", "null"]}),
        Shape::Flag => json!({"type": ["boolean", "null"]}),
        Shape::IntOrText => json!({"type": ["integer", "string", "null"]}),
        Shape::Quantity => json!({"type": ["string", "number", "null"]}),
        Shape::List(inner) => json!({"type": ["array", "null"], "items": field_schema(inner)}),
        Shape::Dictionary(inner) => json!({"type": ["object", "null"], "additionalProperties": field_schema(inner)}),
        // Words beside a reference are ignored in this draft: the reference stands in a list of its own.
        Shape::Struct(index) => json!({"allOf": [{"$ref": format!("#/definitions/{}", SHAPES.structs[*index].name)}]}),
    };
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A type of the upstream schemas by its index.
pub(crate) fn type_at(index: usize) -> &'static Struct {
    &SHAPES.structs[index]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The files that are checked in are what the tables say. `UPDATE_SCHEMAS=1` rewrites them.
    #[test]
    fn the_files_are_current() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("json");
        let update = std::env::var_os("UPDATE_SCHEMAS").is_some();
        let wanted = files();
        if update {
            std::fs::create_dir_all(&folder).expect("the folder can be made");
        }
        let mut stale = Vec::new();
        for (name, schema) in &wanted {
            let text = format!("{}\n", serde_json::to_string_pretty(schema).expect("it is JSON"));
            let file = folder.join(name);
            if std::fs::read_to_string(&file).is_ok_and(|found| found == text) {
                continue;
            }
            if update {
                std::fs::write(&file, text).expect("the file can be written");
            } else {
                stale.push(name.clone());
            }
        }
        for entry in std::fs::read_dir(&folder).expect("the folder is there").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !wanted.contains_key(&name) {
                if update {
                    std::fs::remove_file(entry.path()).expect("the file can be removed");
                } else {
                    stale.push(name);
                }
            }
        }
        assert!(
            stale.is_empty(),
            "{stale:?} are not current: run the test with UPDATE_SCHEMAS=1 and commit the files"
        );
    }

    #[test]
    fn the_schemas_judge_as_validation_does() {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "creationTimestamp": null},
            "spec": {"replicas": 1, "strategy": {}, "selector": {"matchLabels": {"a": "b"}}, "template": {
                "metadata": {"labels": {"a": "b"}, "creationTimestamp": null},
                "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
                    "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}}},
            "status": {},
        });
        let own = jsonschema::validator_for(&json_schema(Kind::Deployment)).expect("the schema is one");
        let all = jsonschema::validator_for(&all()).expect("the schema is one");
        assert!(
            own.is_valid(&deployment),
            "{:?}",
            own.iter_errors(&deployment)
                .map(|error| error.to_string())
                .collect::<Vec<_>>()
        );
        assert!(all.is_valid(&deployment));
        let wrong: [(&str, Value); 7] = [
            ("/kind", json!("Deploymnet")),
            ("/spec/replicas", json!("1")),
            ("/spec/template/spec/containers/0/image", json!(5)),
            ("/spec/template/spec/containers/0/imagge", json!("a")),
            ("/spec/template/spec/containers/0/ports/0/protocol", json!("tcp")),
            ("/spec/template/spec/containers/0/resources/limits/cpu", json!([])),
            ("/apiVersion", json!("apps/v2")),
        ];
        for (pointer, value) in wrong {
            let mut object = deployment.clone();
            let (parent, key) = pointer.rsplit_once('/').expect("it has one");
            object.pointer_mut(parent).expect("it is there")[key] = value;
            assert!(!own.is_valid(&object) && !all.is_valid(&object), "{pointer}");
        }
        let mut object = deployment;
        object.as_object_mut().expect("it is one").remove("metadata");
        assert!(!own.is_valid(&object));
    }
}
