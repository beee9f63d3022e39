//! OpenAPI documents of the API, in version 3 (an index, and one document for each group and
//! version) and in version 2 (one document, as JSON and in the binary form that older clients want).
//!
//! Types come from the upstream schemas, descriptions from the field table, and how lists merge from
//! the one table of patches. Documents are built at first use and never change while the process
//! runs.

mod paths;
mod protobuf;
mod types;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use serde_json::{Map, Value, json};

use self::types::Dialect;
use crate::{ContentHash, Kind, KindInfo, jsonschema::reach, kind::KINDS, validate::structure::SHAPES};

/// A document as it is sent.
#[derive(Debug)]
pub struct Document {
    pub bytes: Vec<u8>,
    pub content_type: &'static str,
    /// Names the content; changes exactly when it does. Without quotes.
    pub etag: String,
}

/// What `Accept` holds where the binary form of version 2 is wanted: the old name and the new one.
pub const PROTOBUF_ACCEPTED: [&str; 2] = ["application/com.github.proto-openapi.spec.v2@v1.0+protobuf", PROTOBUF];

/// The content type of the binary form. The name that clients ask for is not a valid one.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

const JSON: &str = "application/json";

impl Document {
    fn new(bytes: Vec<u8>, content_type: &'static str) -> Self {
        let etag = ContentHash::of_bytes(&bytes).to_string().to_uppercase();
        Self {
            bytes,
            content_type,
            etag,
        }
    }

    fn json(value: &Value) -> Self {
        // Values with text keys can always be written.
        Self::new(serde_json::to_vec(value).unwrap_or_default(), JSON)
    }
}

static V3: LazyLock<BTreeMap<String, Document>> = LazyLock::new(|| {
    let mut groups: BTreeMap<String, Vec<&'static KindInfo>> = BTreeMap::new();
    for info in KINDS {
        groups.entry(part_of(info)).or_default().push(info);
    }
    groups
        .into_iter()
        .map(|(part, kinds)| {
            let document = Document::json(&v3_document(&part, &kinds));
            (part, document)
        })
        .collect()
});

static V3_INDEX: LazyLock<Document> = LazyLock::new(|| {
    let paths: Map<String, Value> = V3
        .iter()
        .map(|(part, document)| {
            let url = format!("/openapi/v3/{part}?hash={}", document.etag);
            (part.clone(), json!({"serverRelativeURL": url}))
        })
        .collect();
    Document::json(&json!({"paths": paths}))
});

static V2_VALUE: LazyLock<Value> = LazyLock::new(v2_document);
static V2: LazyLock<Document> = LazyLock::new(|| Document::json(&V2_VALUE));
static V2_BINARY: LazyLock<Document> = LazyLock::new(|| Document::new(protobuf::encode(&V2_VALUE), PROTOBUF));

/// `/openapi/v3`: where the documents of all groups are.
#[must_use]
pub fn v3_index() -> &'static Document {
    &V3_INDEX
}

/// `/openapi/v3/PART`, where `part` is `api/v1` or `apis/apps/v1`.
#[must_use]
pub fn v3(part: &str) -> Option<&'static Document> {
    V3.get(part.trim_matches('/'))
}

/// `/openapi/v2` as JSON.
#[must_use]
pub fn v2() -> &'static Document {
    &V2
}

/// `/openapi/v2` in the binary form, which kubectl asks for.
#[must_use]
pub fn v2_protobuf() -> &'static Document {
    &V2_BINARY
}

/// `api/v1` or `apis/GROUP/VERSION`.
fn part_of(info: &KindInfo) -> String {
    if info.group.is_empty() {
        format!("api/{}", info.version)
    } else {
        format!("apis/{}/{}", info.group, info.version)
    }
}

fn info_block() -> Value {
    json!({"title": "Towline", "version": concat!("v", env!("CARGO_PKG_VERSION"))})
}

fn v3_document(part: &str, kinds: &[&'static KindInfo]) -> Value {
    let mut paths = Map::new();
    for info in kinds {
        paths::add(&mut paths, &format!("/{part}"), info, Dialect::V3);
    }
    json!({
        "openapi": "3.0.0",
        "info": info_block(),
        "paths": paths,
        "components": {"schemas": definitions(kinds, Dialect::V3)},
    })
}

fn v2_document() -> Value {
    let kinds: Vec<&'static KindInfo> = KINDS.iter().collect();
    let mut paths = Map::new();
    for info in &kinds {
        paths::add(&mut paths, &format!("/{}", part_of(info)), info, Dialect::V2);
    }
    json!({
        "swagger": "2.0",
        "info": info_block(),
        "paths": paths,
        "definitions": definitions(&kinds, Dialect::V2),
    })
}

fn definitions(kinds: &[&'static KindInfo], dialect: Dialect) -> Map<String, Value> {
    let mut needed = BTreeSet::new();
    let names: Vec<Kind> = kinds.iter().map(|info| info.kind).collect();
    for kind in &names {
        reach(SHAPES.root_index(*kind), &mut needed);
    }
    let mut definitions = types::schemas(&names, &needed, dialect);
    for info in kinds {
        definitions.insert(types::list_name(info.kind), types::list(info, dialect));
    }
    definitions.extend(types::shared(dialect));
    definitions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(document: &Document) -> Value {
        serde_json::from_slice(&document.bytes).expect("it is JSON")
    }

    /// Every reference of a document leads to something in it.
    fn dangling(document: &Value) -> Vec<String> {
        fn collect(value: &Value, root: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(reference)) = map.get("$ref")
                        && root.pointer(reference.trim_start_matches('#')).is_none()
                    {
                        found.push(reference.clone());
                    }
                    map.values().for_each(|value| collect(value, root, found));
                }
                Value::Array(items) => items.iter().for_each(|value| collect(value, root, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        collect(document, document, &mut found);
        found
    }

    #[test]
    fn the_index_leads_to_every_document() {
        let index = parsed(v3_index());
        let paths = index["paths"].as_object().expect("paths");
        assert!(paths.contains_key("api/v1") && paths.contains_key("apis/apps/v1"));
        for (part, entry) in paths {
            let url = entry["serverRelativeURL"].as_str().expect("a URL");
            let document = v3(part).expect("the document is there");
            assert_eq!(url, format!("/openapi/v3/{part}?hash={}", document.etag));
            assert_eq!(dangling(&parsed(document)), Vec::<String>::new(), "{part}");
        }
        assert!(v3("apis/example.com/v1").is_none());
    }

    #[test]
    fn version_2_is_whole() {
        let document = parsed(v2());
        assert_eq!(dangling(&document), Vec::<String>::new());
        let replicas = &document["definitions"]["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["replicas"];
        assert_eq!(replicas["type"], "integer");
        assert!(v2_protobuf().bytes.len() > 10_000);
    }

    #[test]
    fn kinds_are_found_by_group_version_and_kind_and_take_field_validation() {
        let apps = parsed(v3("apis/apps/v1").expect("apps/v1"));
        let gvk = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
        let schemas = apps["components"]["schemas"].as_object().expect("schemas");
        let found: Vec<&String> = schemas
            .iter()
            .filter(|(_, schema)| {
                schema["x-kubernetes-group-version-kind"]
                    .as_array()
                    .is_some_and(|kinds| kinds.contains(&gvk))
            })
            .map(|(name, _)| name)
            .collect();
        assert_eq!(found, ["io.k8s.api.apps.v1.Deployment"]);
        let patch = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"], gvk);
        let names: Vec<&str> = patch["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        assert!(
            names.contains(&"fieldValidation") && names.contains(&"dryRun"),
            "{names:?}"
        );
    }

    #[test]
    fn lists_say_how_they_merge() {
        let core = parsed(v3("api/v1").expect("v1"));
        let spec = &core["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"];
        assert_eq!(spec["containers"]["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(spec["containers"]["x-kubernetes-patch-strategy"], "merge");
        assert_eq!(spec["containers"]["x-kubernetes-list-map-keys"], json!(["name"]));
        assert_eq!(spec["containers"]["x-kubernetes-list-type"], "map");
        let meta = &core["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]["properties"];
        assert_eq!(meta["finalizers"]["x-kubernetes-list-type"], "set");
    }
}
