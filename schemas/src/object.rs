//! An object as the store keeps it: metadata, a shared body, a node and a status apart.

use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{ContentHash, Key, Kind, Meta, Packed, Shared, Uid, meta::Versioned, packed::Part};

/// One object. What changes often (status, the node of a pod) is apart from what does not (the
/// body), so that a status write carries no spec and replicas share one body. A clone shares every
/// part with what it was made from.
#[derive(Clone)]
pub struct Object {
    pub kind: Kind,
    /// `metadata`. `resourceVersion` is not kept here but in `version`.
    pub meta: Shared<Meta>,
    /// Everything but `apiVersion`, `kind`, `metadata`, `status` and a pod's `spec.nodeName`.
    pub body: Arc<Body>,
    /// A pod's node, once bound.
    pub node: Option<Arc<str>>,
    pub status: Option<Packed>,
    /// The version of the store at which this state was written; 0 before the first write.
    pub version: u64,
}

/// The content of an object: shared, content-addressed, packed, and made a typed value at most once.
pub struct Body {
    packed: Packed,
    hash: ContentHash,
    spec: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// What an object's JSON lacks.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("an object must be a JSON object")]
    NotAnObject,
    #[error("there is no kind {kind:?} in {api_version:?}")]
    UnknownKind { api_version: String, kind: String },
    #[error("metadata is not valid: {0}")]
    Metadata(serde_json::Error),
    #[error("{kind} {name:?}: {part} is not valid: {error}")]
    Part {
        kind: Kind,
        name: String,
        part: &'static str,
        error: serde_json::Error,
    },
}

impl Body {
    #[must_use]
    pub fn new(value: Map<String, Value>) -> Arc<Self> {
        let value = Value::Object(value);
        Arc::new(Self {
            packed: Packed::from(&value),
            hash: ContentHash::of(&value),
            spec: OnceLock::new(),
        })
    }

    /// The content, unpacked: to change it. To look at single fields, [`Body::at`] is enough.
    #[must_use]
    pub fn value(&self) -> Map<String, Value> {
        self.part().map()
    }

    /// The content, to look at.
    #[must_use]
    pub fn part(&self) -> Part<'_> {
        self.packed.part()
    }

    /// A field by names with slashes between them: `spec/replicas`.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<Part<'_>> {
        self.packed.at(path)
    }

    #[must_use]
    pub fn packed(&self) -> &Packed {
        &self.packed
    }

    #[must_use]
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// `spec` (or the whole body, for kinds without one) as a typed value, parsed once and shared by
    /// all objects with this body.
    pub fn typed<T: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Arc<T>, serde_json::Error> {
        if let Some(cached) = self.spec.get().cloned()
            && let Ok(found) = cached.downcast::<T>()
        {
            return Ok(found);
        }
        let parsed: Arc<T> = Arc::new(match self.at("spec") {
            Some(spec) => spec.parse()?,
            None => self.packed.parse()?,
        });
        // A second type for the same body is parsed each time: one body has one kind.
        let _ = self.spec.set(parsed.clone());
        Ok(parsed)
    }
}

impl fmt::Debug for Body {
    /// The hash alone: a body can hold a Secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({:?})", self.hash)
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} {:?}", self.key(), self.version, self.body)
    }
}

impl Object {
    /// Reads an object's JSON. Server-set fields are taken as they stand.
    pub fn from_value(value: Value) -> Result<Self, ObjectError> {
        let Value::Object(mut map) = value else {
            return Err(ObjectError::NotAnObject);
        };
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let api_version = text(map.remove("apiVersion"));
        let kind = text(map.remove("kind"));
        let kind = Kind::find(&api_version, &kind).ok_or(ObjectError::UnknownKind { api_version, kind })?;
        Self::from_parts(kind, map)
    }

    /// Reads an object whose kind is known from elsewhere (a URL, a list's item).
    pub fn from_parts(kind: Kind, mut map: Map<String, Value>) -> Result<Self, ObjectError> {
        map.remove("apiVersion");
        map.remove("kind");
        let meta = map.remove("metadata").unwrap_or(Value::Object(Map::new()));
        let mut meta: ObjectMeta = serde_json::from_value(meta).map_err(ObjectError::Metadata)?;
        let version = meta
            .resource_version
            .take()
            .and_then(|version| version.parse().ok())
            .unwrap_or(0);
        let status = map
            .remove("status")
            .filter(|status| !status.is_null())
            .map(Packed::from);
        let node = match (kind, map.get_mut("spec")) {
            (Kind::Pod, Some(Value::Object(spec))) => match spec.remove("nodeName") {
                Some(Value::String(node)) if !node.is_empty() => Some(node.into()),
                _ => None,
            },
            _ => None,
        };
        Ok(Self {
            kind,
            meta: meta.into(),
            body: Body::new(map),
            node,
            status,
            version,
        })
    }

    /// The object as the API writes it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let info = self.kind.info();
        let mut map = self.body.value();
        map.insert("apiVersion".into(), info.api_version().into());
        map.insert("kind".into(), info.name.into());
        let meta = serde_json::to_value(Versioned(&self.meta, self.version)).unwrap_or_default();
        map.insert("metadata".into(), meta);
        if let Some(node) = &self.node {
            let spec = map.entry("spec").or_insert_with(|| Value::Object(Map::new()));
            spec["nodeName"] = Value::String(node.to_string());
        }
        if let Some(status) = &self.status {
            map.insert("status".into(), status.value());
        }
        Value::Object(map)
    }

    #[must_use]
    pub fn key(&self) -> Key {
        Key {
            kind: self.kind,
            namespace: self.meta.namespace.clone(),
            name: self.meta.name.clone().unwrap_or_default(),
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        self.meta.name.as_deref().unwrap_or("")
    }

    /// The namespace, or the empty string for a cluster-scoped object.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.meta.namespace.as_deref().unwrap_or("")
    }

    #[must_use]
    pub fn uid(&self) -> Uid {
        Uid(self.meta.uid.clone().unwrap_or_default())
    }

    #[must_use]
    pub fn is_deleting(&self) -> bool {
        self.meta.deletion_timestamp.is_some()
    }

    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.meta.labels.as_ref()?.get(name).map(String::as_str)
    }

    #[must_use]
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.meta.annotations.as_ref()?.get(name).map(String::as_str)
    }

    /// The owner that controls this object, if any.
    #[must_use]
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.meta
            .owner_references
            .iter()
            .flatten()
            .find(|owner| owner.controller == Some(true))
    }

    /// `spec` as a typed value (the whole body for kinds without one), shared with every object of
    /// the same body.
    pub fn spec<T: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Arc<T>, ObjectError> {
        self.body.typed().map_err(|error| ObjectError::Part {
            kind: self.kind,
            name: self.name().to_owned(),
            part: "spec",
            error,
        })
    }

    /// `status` as a typed value; the default where there is none yet.
    pub fn status<T: DeserializeOwned + Default>(&self) -> Result<T, ObjectError> {
        match &self.status {
            None => Ok(T::default()),
            Some(status) => status.parse().map_err(|error| ObjectError::Part {
                kind: self.kind,
                name: self.name().to_owned(),
                part: "status",
                error,
            }),
        }
    }

    /// The status as a value, to be changed and written back.
    #[must_use]
    pub fn status_value(&self) -> Option<Value> {
        self.status.as_ref().map(Packed::value)
    }

    /// An owner reference to this object, as its controller.
    #[must_use]
    pub fn as_controller(&self) -> OwnerReference {
        let info = self.kind.info();
        OwnerReference {
            api_version: info.api_version(),
            kind: info.name.to_owned(),
            name: self.name().to_owned(),
            uid: self.uid().to_string(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

impl Serialize for Object {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Object {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_value(value).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_reads_and_writes_the_same_json() {
        let value = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "b", "resourceVersion": "7", "uid": "u"},
            "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"},
            "status": {"phase": "Running"},
        });
        let object = Object::from_value(value.clone()).expect("it is valid");
        assert_eq!(object.node.as_deref(), Some("n"));
        assert_eq!(object.version, 7);
        assert_eq!(object.to_value(), value);
    }
}
