//! Objects and lists as bytes.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use parking_lot::Mutex;
use schemas::{Kind, Object, Part, meta::Versioned};
use serde::{
    Serialize, Serializer,
    ser::{Error, SerializeMap},
};
use serde_json::{Value, json};

use crate::exchange::{self, Response};

/// Pieces of a long list are about this long.
const PIECE: usize = 64 * 1024;

/// A list of more objects than this is written piece by piece, so that its text is never in memory
/// as a whole.
const SHORT_LIST: usize = 64;

/// An object as the API writes it, without building its JSON value first.
pub(crate) struct Wire<'a>(pub &'a Object);

/// A pod's `spec` with its node.
struct PodSpec<'a>(Option<Part<'a>>, &'a str);

impl Serialize for PodSpec<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.0.into_iter().flat_map(Part::entries) {
            map.serialize_entry(&*name, &value)?;
        }
        map.serialize_entry("nodeName", self.1)?;
        map.end()
    }
}

impl Serialize for Wire<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let object = self.0;
        let info = object.kind.info();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("apiVersion", &info.api_version())?;
        map.serialize_entry("kind", info.name)?;
        map.serialize_entry("metadata", &Versioned(&object.meta, object.version))?;
        let mut has_spec = false;
        for (name, value) in object.body.part().entries() {
            match (&object.node, &*name) {
                (Some(node), "spec") => {
                    has_spec = true;
                    map.serialize_entry("spec", &PodSpec(Some(value), node))?;
                }
                // A body cannot hold these; writing them twice would be worse than failing.
                (_, "apiVersion" | "kind" | "metadata" | "status") => {
                    return Err(S::Error::custom(format!("the body of {} holds {name}", object.key())));
                }
                _ => map.serialize_entry(&*name, &value)?,
            }
        }
        if let Some(node) = &object.node
            && !has_spec
        {
            map.serialize_entry("spec", &PodSpec(None, node))?;
        }
        if let Some(status) = &object.status {
            map.serialize_entry("status", status)?;
        }
        map.end()
    }
}

/// An object as `PartialObjectMetadata`.
pub(crate) struct Partial<'a> {
    pub object: &'a Object,
    pub version: &'a str,
}

impl Serialize for Partial<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("kind", "PartialObjectMetadata")?;
        map.serialize_entry("apiVersion", &format!("meta.k8s.io/{}", self.version))?;
        map.serialize_entry("metadata", &Versioned(&self.object.meta, self.object.version))?;
        map.end()
    }
}

/// The JSON of changed objects, so that many watchers of a change share one encoding. A version
/// belongs to one object, so it names the text.
pub(crate) struct Encodings {
    slots: Vec<Mutex<Option<(u64, Bytes)>>>,
}

impl Encodings {
    #[must_use]
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots: (0..slots.max(1)).map(|_| Mutex::new(None)).collect(),
        }
    }

    /// The object's JSON, from an earlier call where it is still kept.
    pub(crate) fn json(&self, object: &Object) -> Result<Bytes, serde_json::Error> {
        let slot = &self.slots[(object.version % self.slots.len() as u64) as usize];
        if let Some((version, bytes)) = slot.lock().as_ref()
            && *version == object.version
        {
            return Ok(bytes.clone());
        }
        let bytes = Bytes::from(serde_json::to_vec(&Wire(object))?);
        *slot.lock() = Some((object.version, bytes.clone()));
        Ok(bytes)
    }
}

/// What stands beside the items of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListMeta {
    pub version: u64,
    pub continue_token: Option<String>,
    pub remaining: Option<u64>,
}

impl ListMeta {
    #[must_use]
    pub(crate) fn to_value(&self) -> Value {
        let mut meta = json!({"resourceVersion": self.version.to_string()});
        if let Some(token) = &self.continue_token {
            meta["continue"] = token.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            meta["remainingItemCount"] = remaining.into();
        }
        meta
    }
}

/// A list document: `head` holds every field but the last, which is `field`, an array with one
/// element for each object.
pub(crate) fn list<F>(head: Value, field: &'static str, items: Vec<Arc<Object>>, encode: F) -> Response
where
    F: Fn(&Object, &mut Vec<u8>) -> Result<(), serde_json::Error> + Send + Sync + 'static,
{
    let mut start = head.to_string();
    // The head is an object with at least its kind, so its last character is a brace.
    start.pop();
    start.push_str(&format!(",{}:[", Value::from(field)));
    let short = items.len() <= SHORT_LIST;
    let mut pieces = Pieces {
        buffer: start.into_bytes(),
        items: items.into_iter(),
        encode,
        first: true,
        ended: false,
    };
    if short {
        let mut body = Vec::new();
        for piece in &mut pieces {
            body.extend_from_slice(&piece);
        }
        return exchange::respond(StatusCode::OK, "application/json", body);
    }
    exchange::stream("application/json", futures::stream::iter(pieces.map(Ok)).boxed())
}

/// A plain list of a kind.
#[must_use]
pub(crate) fn plain_list(kind: Kind, meta: &ListMeta, items: Vec<Arc<Object>>) -> Response {
    let info = kind.info();
    let head = json!({
        "kind": format!("{}List", info.name),
        "apiVersion": info.api_version(),
        "metadata": meta.to_value(),
    });
    list(head, "items", items, |object, out| {
        serde_json::to_writer(out, &Wire(object))
    })
}

/// A list of metadata alone.
#[must_use]
pub(crate) fn partial_list(version: &'static str, meta: &ListMeta, items: Vec<Arc<Object>>) -> Response {
    let head = json!({
        "kind": "PartialObjectMetadataList",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": meta.to_value(),
    });
    list(head, "items", items, move |object, out| {
        serde_json::to_writer(out, &Partial { object, version })
    })
}

struct Pieces<F> {
    buffer: Vec<u8>,
    items: std::vec::IntoIter<Arc<Object>>,
    encode: F,
    first: bool,
    ended: bool,
}

impl<F> Iterator for Pieces<F>
where
    F: Fn(&Object, &mut Vec<u8>) -> Result<(), serde_json::Error>,
{
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        while self.buffer.len() < PIECE {
            let Some(object) = self.items.next() else {
                self.buffer.extend_from_slice(b"]}");
                self.ended = true;
                break;
            };
            let before = self.buffer.len();
            if !self.first {
                self.buffer.push(b',');
            }
            if let Err(error) = (self.encode)(&object, &mut self.buffer) {
                // One object that cannot be written must not hide the others.
                tracing::error!(object = %object.key(), %error, "an object cannot be encoded; it is left out of a list");
                self.buffer.truncate(before);
                continue;
            }
            self.first = false;
        }
        Some(std::mem::take(&mut self.buffer).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, version: u64) -> Object {
        let mut object = Object::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "b", "uid": "u", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"},
            "status": {"phase": "Running"},
        }))
        .expect("a pod");
        object.version = version;
        object
    }

    #[test]
    fn the_wire_form_is_the_value() {
        let secret = Object::from_value(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "b"},
            "type": "Opaque", "data": {"a": "YQ=="},
        }))
        .expect("a secret");
        let bare = Object::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "s"}, "spec": {"nodeName": "n"},
        }))
        .expect("a pod");
        for object in [pod("a", 7), pod("a", 0), secret, bare] {
            let text = serde_json::to_string(&Wire(&object)).expect("JSON");
            let value: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(value, object.to_value());
        }
    }

    #[tokio::test]
    async fn short_and_long_lists_are_whole_documents() {
        for count in [0, 1, SHORT_LIST, SHORT_LIST + 1, 2000] {
            let items: Vec<_> = (0..count).map(|n| Arc::new(pod(&format!("p{n}"), 3))).collect();
            let meta = ListMeta {
                version: 9,
                ..ListMeta::default()
            };
            let response = plain_list(Kind::Pod, &meta, items);
            let body = http_body_util::BodyExt::collect(response.into_body())
                .await
                .expect("a body");
            let value: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
            assert_eq!(value["kind"], "PodList");
            assert_eq!(value["metadata"]["resourceVersion"], "9");
            assert_eq!(value["items"].as_array().map(Vec::len), Some(count));
        }
    }

    #[test]
    fn encodings_are_kept_by_version() {
        let encodings = Encodings::new(2);
        let first = encodings.json(&pod("a", 1)).expect("JSON");
        assert_eq!(encodings.json(&pod("other", 1)).expect("JSON"), first);
        let third = encodings.json(&pod("c", 3)).expect("JSON");
        assert_ne!(third, first);
        assert_ne!(encodings.json(&pod("other", 1)).expect("JSON"), first);
    }
}
