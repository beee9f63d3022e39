//! What a written object must pass: its body is read, checked, defaulted and validated.

use http::header;
use schemas::{Kind, defaulting, older, validate};
use serde_json::Value;

use crate::{
    exchange::{Call, MAX_BODY},
    path::Resource,
    protobuf,
    query::Query,
    status::{ApiError, Cause},
};

/// What to do about fields that a kind does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// What a client says about a write, beside the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WriteOptions {
    pub dry_run: bool,
    pub fields: FieldValidation,
    pub manager: String,
    /// Whether the client named its manager itself.
    pub manager_given: bool,
    pub force: bool,
}

impl WriteOptions {
    /// Reads the query of a write; the manager defaults to the program's name.
    pub(crate) fn of(call: &Call) -> Result<Self, ApiError> {
        let query: &Query = &call.query;
        let mut dry_run = false;
        for value in query.all("dryRun") {
            match value {
                "" => {}
                "All" => dry_run = true,
                other => {
                    return Err(ApiError::bad_request(format!("dryRun must be All, not {other:?}")));
                }
            }
        }
        let fields = match query.text("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                return Err(ApiError::bad_request(format!(
                    "fieldValidation must be Ignore, Warn or Strict, not {other:?}"
                )));
            }
        };
        let given = query.text("fieldManager");
        let agent = call
            .header(header::USER_AGENT)
            .unwrap_or("")
            .split('/')
            .next()
            .unwrap_or("");
        let manager = given.unwrap_or(if agent.is_empty() { "unknown" } else { agent });
        Ok(Self {
            dry_run,
            fields,
            manager: manager.chars().take(128).collect(),
            manager_given: given.is_some(),
            force: query.flag("force")?,
        })
    }
}

/// Reads a body as JSON, as YAML where the client says so, or as one of the few protobuf messages.
pub(crate) async fn read_body(call: &mut Call) -> Result<Value, ApiError> {
    let body = call.take_body(MAX_BODY).await?;
    parse_body(call, &body)
}

/// Reads a body that was taken already.
pub(crate) fn parse_body(call: &Call, body: &[u8]) -> Result<Value, ApiError> {
    if body.is_empty() {
        return Err(ApiError::bad_request("the request has no body"));
    }
    let media_type = call
        .header(header::CONTENT_TYPE)
        .and_then(|text| text.split(';').next())
        .unwrap_or("application/json")
        .trim();
    match media_type {
        "application/yaml" | "application/apply-patch+yaml" => match serde_json::from_slice(body) {
            Ok(value) => Ok(value),
            Err(_) => serde_saphyr::from_slice(body)
                .map_err(|error| ApiError::bad_request(format!("the body is not valid YAML: {error}"))),
        },
        protobuf::MEDIA_TYPE => protobuf::read(body),
        "application/json"
        | "application/json-patch+json"
        | "application/merge-patch+json"
        | "application/strategic-merge-patch+json"
        | "" => serde_json::from_slice(body)
            .map_err(|error| ApiError::bad_request(format!("the body is not valid JSON: {error}"))),
        _ => Err(ApiError::unsupported_media_type("application/json, application/yaml")),
    }
}

/// Checks that an object is one of the resource that it was sent to, and completes its name, its
/// namespace and its kind.
pub(crate) fn address(resource: &Resource, object: &mut Value) -> Result<(), ApiError> {
    if resource.older {
        older::make_current(object);
    }
    let info = resource.kind.info();
    let Value::Object(map) = object else {
        return Err(ApiError::bad_request("the body must be a JSON object"));
    };
    let given = |field: &str| map.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
    let (api_version, kind) = (given("apiVersion"), given("kind"));
    if (!kind.is_empty() && kind != info.name) || (!api_version.is_empty() && api_version != info.api_version()) {
        return Err(ApiError::bad_request(format!(
            "the object provided is {api_version:?}, Kind={kind:?}; this path takes {:?}, Kind={:?}",
            info.api_version(),
            info.name
        )));
    }
    map.insert("apiVersion".into(), info.api_version().into());
    map.insert("kind".into(), info.name.into());
    let meta = map
        .entry("metadata")
        .or_insert_with(|| Value::Object(serde_json::Map::new()));
    if meta.is_null() {
        *meta = Value::Object(serde_json::Map::new());
    }
    let Value::Object(meta) = meta else {
        return Err(ApiError::bad_request("metadata must be a JSON object"));
    };
    let said = |field: &str| meta.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let (Some(said), Some(asked)) = (said("name"), &resource.name)
        && said != asked
    {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({said}) does not match the name on the URL ({asked})"
        )));
    }
    match (said("namespace"), &resource.namespace) {
        (Some(said), Some(asked)) if said != asked => {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        (Some(_), None) => {
            return Err(ApiError::bad_request(format!(
                "{} objects have no namespace",
                info.name
            )));
        }
        _ => {}
    }
    if let Some(namespace) = &resource.namespace {
        meta.insert("namespace".into(), namespace.as_str().into());
    }
    if let Some(name) = &resource.name {
        meta.insert("name".into(), name.as_str().into());
    }
    Ok(())
}

/// Looks for fields that the kind does not have. Returns warnings.
///
/// # Errors
/// A 400 with all of them where the client asked for strictness.
pub(crate) fn unknown_fields(kind: Kind, object: &Value, wanted: FieldValidation) -> Result<Vec<String>, ApiError> {
    if wanted == FieldValidation::Ignore {
        return Ok(Vec::new());
    }
    let unknown: Vec<String> = validate::structure(kind, object)
        .into_iter()
        .filter(|finding| finding.fault == validate::Fault::Unknown)
        .map(|finding| format!("unknown field {:?}", finding.path.to_string()))
        .collect();
    if wanted == FieldValidation::Strict && !unknown.is_empty() {
        return Err(ApiError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
            kind.info().name,
            kind.info().version,
            kind.info().name,
            unknown.join(", ")
        )));
    }
    Ok(unknown)
}

/// Takes fields out that the kind does not have, as a server does that only warns of them.
fn prune(kind: Kind, object: &mut Value) {
    for finding in validate::structure(kind, object) {
        if finding.fault != validate::Fault::Unknown {
            continue;
        }
        let segments = finding.path.segments();
        let Some((last, before)) = segments.split_last() else {
            continue;
        };
        let parent = before.iter().try_fold(&mut *object, |value, segment| match segment {
            validate::Segment::Key(key) => value.get_mut(&**key),
            validate::Segment::Index(index) => value.get_mut(*index),
        });
        if let (Some(Value::Object(parent)), validate::Segment::Key(key)) = (parent, last) {
            parent.remove(&**key);
        }
    }
}

/// Fills defaults in and validates. Server-set metadata and status are taken out before: what the
/// caller keeps of them it puts back itself. Returns warnings.
///
/// # Errors
/// A 422 that names every field that is wrong.
pub(crate) fn complete(kind: Kind, object: &mut Value) -> Result<Vec<String>, ApiError> {
    prune(kind, object);
    validate::normalize(kind, object);
    defaulting::default_object(kind, object);
    let mut warnings = Vec::new();
    let mut causes = Vec::new();
    for finding in validate::object(kind, object) {
        if finding.is_error() {
            causes.push(cause(&finding));
        } else {
            warnings.push(finding.to_string());
        }
    }
    if causes.is_empty() {
        return Ok(warnings);
    }
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("");
    Err(ApiError::invalid(kind, name, causes))
}

/// Checks what may change in an object that exists.
///
/// # Errors
/// A 422 that names every field that may not change.
pub(crate) fn check_changes(kind: Kind, name: &str, old: &Value, new: &Value) -> Result<(), ApiError> {
    let causes: Vec<Cause> = validate::changes(kind, old, new).iter().map(cause).collect();
    if causes.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(kind, name, causes))
}

fn cause(finding: &validate::Finding) -> Cause {
    Cause {
        reason: finding.fault.reason(),
        field: finding.path.to_string(),
        message: finding.message.clone(),
    }
}
