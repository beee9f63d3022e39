//! The few messages that clients send as protobuf without asking first.
//!
//! The API is served in JSON. kubectl, however, sends reviews, evictions and the options of
//! deletions in Kubernetes' protobuf form, and takes no refusal of it for an answer. Those small
//! messages are read here, into the JSON that they stand for. The numbers of their fields are part
//! of the documented wire format of `k8s.io/api`.

use serde_json::{Map, Value};

use crate::status::ApiError;

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// Before the envelope of every message.
const MAGIC: &[u8] = b"k8s\0";

/// What a field holds.
#[derive(Clone, Copy)]
enum Holds {
    Text,
    Texts,
    Number,
    Switch,
    Message(Fields),
}

/// The fields of a message, by their numbers.
type Fields = &'static [(u64, &'static str, Holds)];

const META: Fields = &[
    (1, "name", Holds::Text),
    (2, "generateName", Holds::Text),
    (3, "namespace", Holds::Text),
];
const PRECONDITIONS: Fields = &[(1, "uid", Holds::Text), (2, "resourceVersion", Holds::Text)];
const DELETE_OPTIONS: Fields = &[
    (1, "gracePeriodSeconds", Holds::Number),
    (2, "preconditions", Holds::Message(PRECONDITIONS)),
    (3, "orphanDependents", Holds::Switch),
    (4, "propagationPolicy", Holds::Text),
    (5, "dryRun", Holds::Texts),
];
const EVICTION: Fields = &[
    (1, "metadata", Holds::Message(META)),
    (2, "deleteOptions", Holds::Message(DELETE_OPTIONS)),
];
const TARGET: Fields = &[
    (1, "kind", Holds::Text),
    (2, "namespace", Holds::Text),
    (3, "name", Holds::Text),
    (4, "uid", Holds::Text),
    (5, "apiVersion", Holds::Text),
];
const BINDING: Fields = &[
    (1, "metadata", Holds::Message(META)),
    (2, "target", Holds::Message(TARGET)),
];
const RESOURCE_ATTRIBUTES: Fields = &[
    (1, "namespace", Holds::Text),
    (2, "verb", Holds::Text),
    (3, "group", Holds::Text),
    (4, "version", Holds::Text),
    (5, "resource", Holds::Text),
    (6, "subresource", Holds::Text),
    (7, "name", Holds::Text),
];
const OTHER_ATTRIBUTES: Fields = &[(1, "path", Holds::Text), (2, "verb", Holds::Text)];
const SELF_ACCESS: Fields = &[
    (1, "resourceAttributes", Holds::Message(RESOURCE_ATTRIBUTES)),
    (2, "nonResourceAttributes", Holds::Message(OTHER_ATTRIBUTES)),
];
const ACCESS: Fields = &[
    (1, "resourceAttributes", Holds::Message(RESOURCE_ATTRIBUTES)),
    (2, "nonResourceAttributes", Holds::Message(OTHER_ATTRIBUTES)),
    (3, "user", Holds::Text),
    (4, "groups", Holds::Texts),
    (6, "uid", Holds::Text),
];
const RULES: Fields = &[(1, "namespace", Holds::Text)];

/// The message of a kind, if it is one of the few.
fn message(kind: &str) -> Option<Fields> {
    const SELF_ACCESS_REVIEW: Fields = &[(2, "spec", Holds::Message(SELF_ACCESS))];
    const ACCESS_REVIEW: Fields = &[(2, "spec", Holds::Message(ACCESS))];
    const RULES_REVIEW: Fields = &[(2, "spec", Holds::Message(RULES))];
    Some(match kind {
        "DeleteOptions" => DELETE_OPTIONS,
        "Eviction" => EVICTION,
        "Binding" => BINDING,
        "SelfSubjectReview" => &[],
        "SelfSubjectAccessReview" => SELF_ACCESS_REVIEW,
        "SubjectAccessReview" => ACCESS_REVIEW,
        "SelfSubjectRulesReview" => RULES_REVIEW,
        _ => return None,
    })
}

/// Reads a message into its JSON.
///
/// # Errors
/// A 400 for what is no such message, a 415 for one of a kind that is served in JSON alone.
pub(crate) fn read(bytes: &[u8]) -> Result<Value, ApiError> {
    let broken = || ApiError::bad_request("the body is not a protobuf message of Kubernetes");
    let (types, raw) = open(bytes).ok_or_else(broken)?;
    let kind = types.get("kind").and_then(Value::as_str).unwrap_or("");
    let fields = message(kind).ok_or_else(|| ApiError::unsupported_media_type("application/json, application/yaml"))?;
    let mut value = decode(raw, fields).ok_or_else(broken)?;
    value.extend(types);
    Ok(Value::Object(value))
}

/// The name of an object of any kind: its metadata come first in all of them.
pub(crate) fn name(bytes: &[u8]) -> Option<String> {
    const OBJECT: Fields = &[(1, "metadata", Holds::Message(META))];
    let object = decode(open(bytes)?.1, OBJECT)?;
    Some(object.get("metadata")?.get("name")?.as_str()?.to_owned())
}

/// The type of a message and its bytes.
fn open(bytes: &[u8]) -> Option<(Map<String, Value>, &[u8])> {
    const TYPE: Fields = &[(1, "apiVersion", Holds::Text), (2, "kind", Holds::Text)];
    let mut envelope = Reader(bytes.strip_prefix(MAGIC)?);
    let (mut types, mut raw) = (None, &[][..]);
    while !envelope.0.is_empty() {
        match envelope.field()? {
            (1, Wire::Bytes(bytes)) => types = Some(decode(bytes, TYPE)?),
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    Some((types?, raw))
}

/// One field's value on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed length; no message here has one.
    Fixed,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Wire::Number(self.number()?),
            1 => self.take(8).map(|_| Wire::Fixed)?,
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Wire::Fixed)?,
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

/// Reads a message. Unknown fields are skipped; None: it is broken.
fn decode(bytes: &[u8], fields: Fields) -> Option<Map<String, Value>> {
    let mut reader = Reader(bytes);
    let mut map = Map::new();
    while !reader.0.is_empty() {
        let (number, field) = reader.field()?;
        let Some((_, name, holds)) = fields.iter().find(|(known, ..)| *known == number) else {
            continue;
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok().map(Value::String);
        let value = match (holds, field) {
            (Holds::Text | Holds::Texts, Wire::Bytes(bytes)) => text(bytes)?,
            // Two's complement, as the format has it.
            (Holds::Number, Wire::Number(number)) => number.cast_signed().into(),
            (Holds::Switch, Wire::Number(number)) => (number != 0).into(),
            (Holds::Message(fields), Wire::Bytes(bytes)) => Value::Object(decode(bytes, fields)?),
            _ => return None,
        };
        match (holds, map.get_mut(*name)) {
            (Holds::Texts, Some(Value::Array(list))) => list.push(value),
            (Holds::Texts, _) => {
                map.insert((*name).to_owned(), Value::Array(vec![value]));
            }
            _ => {
                map.insert((*name).to_owned(), value);
            }
        }
    }
    Some(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2, u8::try_from(content.len()).expect("it is short")];
        field.extend_from_slice(content);
        field
    }

    fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let types = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [
            MAGIC.to_vec(),
            bytes(1, &types),
            bytes(2, raw),
            bytes(3, b""),
            bytes(4, b""),
        ]
        .concat()
    }

    #[test]
    fn messages_become_their_json() {
        let attributes = [
            bytes(1, b"shop"),
            bytes(2, b"get"),
            bytes(5, b"pods"),
            bytes(15, b"of a later version"),
        ]
        .concat();
        let review = bytes(2, &bytes(1, &attributes));
        let options = [
            vec![1 << 3, 30],
            bytes(2, &bytes(1, b"u")),
            vec![3 << 3, 1],
            bytes(5, b"All"),
        ]
        .concat();
        let negative = [&[1 << 3][..], &[0xff; 9], &[1]].concat();
        for (message, value) in [
            (
                envelope("authorization.k8s.io/v1", "SelfSubjectAccessReview", &review),
                json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                    "spec": {"resourceAttributes": {"namespace": "shop", "verb": "get", "resource": "pods"}}}),
            ),
            (
                envelope("v1", "DeleteOptions", &options),
                json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 30,
                    "preconditions": {"uid": "u"}, "orphanDependents": true, "dryRun": ["All"]}),
            ),
            (
                envelope("v1", "DeleteOptions", &negative),
                json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": -1}),
            ),
            (
                envelope("authentication.k8s.io/v1", "SelfSubjectReview", b""),
                json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}),
            ),
        ] {
            assert_eq!(read(&message).expect("a message"), value);
        }
    }

    #[test]
    fn the_name_of_any_object_is_found() {
        let meta = [bytes(1, b"more"), bytes(15, b"other")].concat();
        let object = [bytes(1, &meta), bytes(2, &[0xff, 0xff])].concat();
        assert_eq!(name(&envelope("v1", "Namespace", &object)).as_deref(), Some("more"));
        assert_eq!(name(&envelope("v1", "Namespace", b"")), None);
    }

    #[test]
    fn what_is_broken_or_unknown_is_refused() {
        let whole = envelope("v1", "DeleteOptions", &bytes(5, b"All"));
        for end in 0..whole.len() - 4 {
            // A part is an error, or at most a message without its fields.
            let part = read(&whole[..end]).ok();
            assert!(part.is_none_or(|part| part.get("dryRun").is_none()), "{end}");
        }
        for (body, code) in [
            (b"{}".to_vec(), 400),
            (envelope("v1", "Pod", b""), 415),
            (envelope("v1", "DeleteOptions", &[0xff]), 400),
            (envelope("v1", "DeleteOptions", &bytes(1, b"x")), 400),
        ] {
            assert_eq!(read(&body).expect_err("refused").code.as_u16(), code);
        }
    }
}
