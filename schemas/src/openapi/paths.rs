//! Paths and operations of one kind.

use serde_json::{Map, Value, json};

use super::types::{self, DELETE_OPTIONS, Dialect, STATUS};
use crate::KindInfo;

const WRITE: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("pretty", "string"),
];
const PATCH: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("force", "boolean"),
    ("pretty", "string"),
];
const LIST: &[(&str, &str)] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("pretty", "string"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const DELETE: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("pretty", "string"),
    ("propagationPolicy", "string"),
];
const READ: &[(&str, &str)] = &[("pretty", "string")];

const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// What a request carries.
#[derive(Clone, Copy, PartialEq)]
enum Body {
    None,
    Object,
    Patch,
    Options,
}

struct Writer<'a> {
    info: &'a KindInfo,
    dialect: Dialect,
}

/// Adds the paths of a kind below `base`, `/api/v1` or `/apis/GROUP/VERSION`.
pub(super) fn add(paths: &mut Map<String, Value>, base: &str, info: &KindInfo, dialect: Dialect) {
    let writer = Writer { info, dialect };
    let own = types::name_of(info.kind);
    let list = types::list_name(info.kind);
    let (collection, scope) = if info.namespaced {
        let everywhere = format!("{base}/{}", info.plural);
        let mut item = Map::new();
        item.insert(
            "get".into(),
            writer.operation("list", "ForAllNamespaces", LIST, Body::None, &list),
        );
        paths.insert(everywhere, Value::Object(item));
        (format!("{base}/namespaces/{{namespace}}/{}", info.plural), "Namespaced")
    } else {
        (format!("{base}/{}", info.plural), "")
    };
    let mut item = writer.path_item(false);
    item.insert("get".into(), writer.operation("list", scope, LIST, Body::None, &list));
    item.insert("post".into(), writer.operation("post", scope, WRITE, Body::Object, own));
    item.insert(
        "delete".into(),
        writer.operation("deletecollection", scope, LIST, Body::Options, STATUS),
    );
    paths.insert(collection.clone(), Value::Object(item));

    let mut item = writer.path_item(true);
    item.insert("get".into(), writer.operation("get", scope, READ, Body::None, own));
    item.insert("put".into(), writer.operation("put", scope, WRITE, Body::Object, own));
    item.insert(
        "patch".into(),
        writer.operation("patch", scope, PATCH, Body::Patch, own),
    );
    item.insert(
        "delete".into(),
        writer.operation("delete", scope, DELETE, Body::Options, STATUS),
    );
    let single = format!("{collection}/{{name}}");
    paths.insert(single.clone(), Value::Object(item));

    if info.status {
        let mut item = writer.path_item(true);
        let scope = format!("{scope}Status");
        item.insert("get".into(), writer.operation("get", &scope, READ, Body::None, own));
        item.insert("put".into(), writer.operation("put", &scope, WRITE, Body::Object, own));
        item.insert(
            "patch".into(),
            writer.operation("patch", &scope, PATCH, Body::Patch, own),
        );
        paths.insert(format!("{single}/status"), Value::Object(item));
    }
}

impl Writer<'_> {
    fn path_item(&self, named: bool) -> Map<String, Value> {
        let mut parameters = Vec::new();
        if named {
            parameters.push(self.parameter("name", "path", "string"));
        }
        if self.info.namespaced {
            parameters.push(self.parameter("namespace", "path", "string"));
        }
        Map::from_iter([("parameters".to_owned(), Value::Array(parameters))])
    }

    fn parameter(&self, name: &str, place: &str, of: &str) -> Value {
        let mut parameter = json!({"name": name, "in": place, "uniqueItems": true});
        if place == "path" {
            parameter["required"] = true.into();
        }
        match self.dialect {
            Dialect::V2 => parameter["type"] = of.into(),
            Dialect::V3 => {
                parameter["schema"] = json!({"type": of});
                if let Some(parameter) = parameter.as_object_mut() {
                    parameter.remove("uniqueItems");
                }
            }
        }
        parameter
    }

    fn operation(&self, action: &str, scope: &str, query: &[(&str, &str)], body: Body, answer: &str) -> Value {
        let info = self.info;
        let word = match action {
            "post" => "create",
            "put" => "replace",
            "get" => "read",
            "deletecollection" => "deleteCollection",
            other => other,
        };
        let group = info.group.split('.').next().unwrap_or("");
        let group = if group.is_empty() { "core" } else { group };
        let mut parameters: Vec<Value> = query
            .iter()
            .map(|(name, of)| self.parameter(name, "query", of))
            .collect();
        let mut operation = json!({
            "operationId": format!("{word}{}{}{scope}{}", capital(group), capital(info.version), info.name),
            "tags": [format!("{group}_{}", info.version)],
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": types::group_version_kind(info, info.name),
        });
        let answer = types::reference(answer, self.dialect);
        let sent = match body {
            Body::None => None,
            Body::Object => Some(types::reference(types::name_of(info.kind), self.dialect)),
            Body::Patch => Some(json!({"type": "object"})),
            Body::Options => Some(types::reference(DELETE_OPTIONS, self.dialect)),
        };
        let types: &[&str] = if body == Body::Patch {
            &PATCH_TYPES
        } else {
            &["application/json"]
        };
        match self.dialect {
            Dialect::V2 => {
                if let Some(sent) = sent {
                    parameters
                        .push(json!({"name": "body", "in": "body", "required": body != Body::Options, "schema": sent}));
                    operation["consumes"] = json!(types);
                }
                operation["produces"] = json!(["application/json"]);
                operation["responses"] = json!({"200": {"description": "OK", "schema": answer}});
            }
            Dialect::V3 => {
                if let Some(sent) = sent {
                    let content: Map<String, Value> = types
                        .iter()
                        .map(|name| ((*name).to_owned(), json!({"schema": sent})))
                        .collect();
                    operation["requestBody"] = json!({"content": content, "required": body != Body::Options});
                }
                operation["responses"] =
                    json!({"200": {"description": "OK", "content": {"application/json": {"schema": answer}}}});
            }
        }
        operation["parameters"] = parameters.into();
        operation
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
