//! The messages that clients send as protobuf without asking first.
//!
//! The API is served in JSON. kubectl, however, sends what its generators make, reviews, evictions and
//! the options of deletions in Kubernetes' protobuf form, and takes no refusal of it for an answer.
//! They are read here, into the JSON that they stand for. The numbers of their fields are part
//! of the documented wire format of `k8s.io/api`.

mod objects;

use serde_json::{Map, Value};

use crate::status::ApiError;

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// Before the envelope of every message.
const MAGIC: &[u8] = b"k8s\0";

/// What a field holds.
#[derive(Clone, Copy)]
enum Holds {
    /// An empty one stands for none.
    Text,
    Texts,
    Number,
    Numbers,
    /// A number of which 0 stands for none.
    Count,
    Switch,
    Message(Fields),
    Messages(Fields),
    /// A message whose fields are those of the message around it.
    Inline(Fields),
    TextsByName,
    Quantity,
    Quantities,
    IntOrText,
    /// What only the server sets.
    Skip,
}

/// Why a message is not read.
#[derive(Debug)]
enum Flaw {
    Broken,
    /// A field that is set and that the table does not have.
    Unknown(u64),
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
    let json_alone = || ApiError::unsupported_media_type("application/json, application/yaml");
    let mut value = match (message(kind), objects::message(kind)) {
        (Some(fields), _) => decode(raw, fields, false).map_err(|_| broken())?,
        // Of an object nothing may get lost.
        (None, Some(fields)) => match decode(raw, fields, true) {
            Ok(value) => value,
            Err(Flaw::Broken) => return Err(broken()),
            Err(Flaw::Unknown(field)) => {
                tracing::debug!(kind, field, "a field of a protobuf message is not known");
                return Err(json_alone());
            }
        },
        (None, None) => return Err(json_alone()),
    };
    value.extend(types);
    Ok(Value::Object(value))
}

/// The name of an object of any kind: its metadata come first in all of them.
pub(crate) fn name(bytes: &[u8]) -> Option<String> {
    const OBJECT: Fields = &[(1, "metadata", Holds::Message(META))];
    let object = decode(open(bytes)?.1, OBJECT, false).ok()?;
    Some(object.get("metadata")?.get("name")?.as_str()?.to_owned())
}

/// The type of a message and its bytes.
fn open(bytes: &[u8]) -> Option<(Map<String, Value>, &[u8])> {
    const TYPE: Fields = &[(1, "apiVersion", Holds::Text), (2, "kind", Holds::Text)];
    let mut envelope = Reader(bytes.strip_prefix(MAGIC)?);
    let (mut types, mut raw) = (None, &[][..]);
    while !envelope.0.is_empty() {
        match envelope.field()? {
            (1, Wire::Bytes(bytes)) => types = Some(decode(bytes, TYPE, false).ok()?),
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

impl Wire<'_> {
    /// It holds what an absent field holds.
    fn is_unset(&self) -> bool {
        matches!(self, Self::Number(0) | Self::Bytes([]))
    }
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

/// Reads a message. Unknown fields are skipped, or are a flaw where nothing may get lost.
fn decode(bytes: &[u8], fields: Fields, strict: bool) -> Result<Map<String, Value>, Flaw> {
    let mut reader = Reader(bytes);
    let mut map = Map::new();
    while !reader.0.is_empty() {
        let (number, field) = reader.field().ok_or(Flaw::Broken)?;
        match fields.iter().find(|(known, ..)| *known == number) {
            Some((_, name, holds)) => put(&mut map, name, *holds, &field, strict)?,
            None if strict && !field.is_unset() => return Err(Flaw::Unknown(number)),
            None => {}
        }
    }
    Ok(map)
}

/// Puts a field's value into the JSON.
fn put(map: &mut Map<String, Value>, name: &str, holds: Holds, field: &Wire<'_>, strict: bool) -> Result<(), Flaw> {
    let value = match (holds, field) {
        (Holds::Skip, _) => return Ok(()),
        (Holds::Text, Wire::Bytes([])) | (Holds::Count, Wire::Number(0)) => return Ok(()),
        (Holds::Text, Wire::Bytes(bytes)) => text(bytes)?.into(),
        // Two's complement, as the format has it.
        (Holds::Number | Holds::Count, Wire::Number(number)) => number.cast_signed().into(),
        (Holds::Switch, Wire::Number(number)) => (*number != 0).into(),
        (Holds::Message(fields), Wire::Bytes(bytes)) => Value::Object(decode(bytes, fields, strict)?),
        (Holds::Inline(fields), Wire::Bytes(bytes)) => {
            map.extend(decode(bytes, fields, strict)?);
            return Ok(());
        }
        (Holds::Quantity, Wire::Bytes(bytes)) => quantity(bytes)?,
        (Holds::IntOrText, Wire::Bytes(bytes)) => int_or_text(bytes)?,
        (Holds::Texts, Wire::Bytes(bytes)) => return push(map, name, text(bytes)?.into()),
        (Holds::Numbers, Wire::Number(number)) => return push(map, name, number.cast_signed().into()),
        (Holds::Messages(fields), Wire::Bytes(bytes)) => {
            return push(map, name, Value::Object(decode(bytes, fields, strict)?));
        }
        (Holds::TextsByName | Holds::Quantities, Wire::Bytes(bytes)) => {
            let (key, value) = entry(bytes)?;
            let value = match holds {
                Holds::Quantities => quantity(value)?,
                _ => text(value)?.into(),
            };
            let entries = map.entry(name).or_insert_with(|| Value::Object(Map::new()));
            entries[key.as_str()] = value;
            return Ok(());
        }
        _ => return Err(Flaw::Broken),
    };
    map.insert(name.to_owned(), value);
    Ok(())
}

fn push(map: &mut Map<String, Value>, name: &str, value: Value) -> Result<(), Flaw> {
    let list = map.entry(name).or_insert_with(|| Value::Array(Vec::new()));
    list.as_array_mut().ok_or(Flaw::Broken)?.push(value);
    Ok(())
}

fn text(bytes: &[u8]) -> Result<String, Flaw> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Flaw::Broken)
}

/// The key and the value of a map's entry.
fn entry(bytes: &[u8]) -> Result<(String, &[u8]), Flaw> {
    let mut reader = Reader(bytes);
    let (mut key, mut value) = (String::new(), &[][..]);
    while !reader.0.is_empty() {
        match reader.field().ok_or(Flaw::Broken)? {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => return Err(Flaw::Broken),
        }
    }
    Ok((key, value))
}

/// A quantity is a message of its text.
fn quantity(bytes: &[u8]) -> Result<Value, Flaw> {
    const QUANTITY: Fields = &[(1, "string", Holds::Text)];
    let mut read = decode(bytes, QUANTITY, false)?;
    Ok(read.remove("string").unwrap_or_else(|| "0".into()))
}

fn int_or_text(bytes: &[u8]) -> Result<Value, Flaw> {
    const EITHER: Fields = &[
        (1, "type", Holds::Number),
        (2, "int", Holds::Number),
        (3, "text", Holds::Text),
    ];
    let mut read = decode(bytes, EITHER, false)?;
    let is_text = read.get("type").and_then(Value::as_i64) == Some(1);
    let value = read.remove(if is_text { "text" } else { "int" });
    Ok(value.unwrap_or_else(|| if is_text { "".into() } else { 0.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2];
        let mut length = content.len();
        while length > 0x7f {
            field.push(0x80 | u8::try_from(length & 0x7f).expect("seven bits"));
            length >>= 7;
        }
        field.push(u8::try_from(length).expect("seven bits"));
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
    fn a_job_is_read_whole() {
        let quantity = |name: &[u8], of: &[u8]| [bytes(1, name), bytes(2, &bytes(1, of))].concat();
        let probe = [
            bytes(1, &bytes(2, &[bytes(2, &[8, 0, 16, 80])].concat())),
            vec![4 << 3, 5],
        ]
        .concat();
        let container = [
            bytes(1, b"c"),
            bytes(2, b"busybox"),
            bytes(3, b"echo"),
            bytes(3, b""),
            bytes(5, b""),
            bytes(6, &[2 << 3, 0, 3 << 3, 80]),
            bytes(
                7,
                &[
                    bytes(1, b"A"),
                    bytes(3, &bytes(3, &[bytes(1, &bytes(1, b"m")), bytes(2, b"k")].concat())),
                ]
                .concat(),
            ),
            bytes(8, &bytes(1, &quantity(b"cpu", b"100m"))),
            bytes(11, &probe),
        ]
        .concat();
        let spec = [bytes(2, &container), bytes(3, b"Never"), vec![11 << 3, 0]].concat();
        let meta = [
            bytes(1, b"j"),
            bytes(8, b""),
            bytes(11, &[bytes(1, b"app"), bytes(2, b"x")].concat()),
        ]
        .concat();
        let job_spec = [vec![7 << 3, 0], bytes(6, &[bytes(1, b""), bytes(2, &spec)].concat())].concat();
        let job = [bytes(1, &meta), bytes(2, &job_spec), bytes(3, b"")].concat();
        assert_eq!(
            read(&envelope("batch/v1", "Job", &job)).expect("it is read"),
            json!({
                "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "labels": {"app": "x"}},
                "spec": {"backoffLimit": 0, "template": {"metadata": {}, "spec": {
                    "restartPolicy": "Never", "hostNetwork": false,
                    "containers": [{
                        "name": "c", "image": "busybox", "command": ["echo", ""], "ports": [{"containerPort": 80}],
                        "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}],
                        "resources": {"limits": {"cpu": "100m"}},
                        "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 5},
                    }],
                }}},
            })
        );
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
            (envelope("v1", "ConfigMap", b""), 415),
            // Affinity, which is not read, must not get lost.
            (envelope("v1", "Pod", &bytes(2, &[0x92, 1, 2, 8, 1])), 415),
            (envelope("v1", "DeleteOptions", &[0xff]), 400),
            (envelope("v1", "DeleteOptions", &bytes(1, b"x")), 400),
        ] {
            assert_eq!(read(&body).expect_err("refused").code.as_u16(), code);
        }
    }
}
