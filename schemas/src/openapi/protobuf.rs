//! The binary form of an OpenAPI 2 document: protocol buffers of the `openapi.v2` package, which
//! kubectl reads. Written by hand for the parts that the document uses; the numbers are those of the
//! package's messages.

use serde_json::{Map, Value};

/// Encodes a document.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, document.get("swagger"));
    if let Some(info) = document.get("info") {
        out.message(2, |out| {
            out.text(1, info.get("title"));
            out.text(2, info.get("version"));
        });
    }
    out.message(8, |out| {
        for (path, item) in entries(document.get("paths")) {
            out.message(2, |out| {
                out.string(1, path);
                out.message(2, |out| path_item(item, out));
            });
        }
    });
    out.message(9, |out| {
        for (name, value) in entries(document.get("definitions")) {
            out.message(1, |out| named_schema(name, value, out));
        }
    });
    out.0
}

fn entries(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

fn items(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn path_item(item: &Value, out: &mut Message) {
    for (number, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(found) = item.get(method) {
            out.message(number, |out| operation(found, out));
        }
    }
    for found in items(item.get("parameters")) {
        out.message(9, |out| parameter(found, out));
    }
}

fn operation(operation: &Value, out: &mut Message) {
    for tag in items(operation.get("tags")) {
        out.text(1, Some(tag));
    }
    out.text(5, operation.get("operationId"));
    for kind in items(operation.get("produces")) {
        out.text(6, Some(kind));
    }
    for kind in items(operation.get("consumes")) {
        out.text(7, Some(kind));
    }
    for found in items(operation.get("parameters")) {
        out.message(8, |out| parameter(found, out));
    }
    out.message(9, |out| {
        for (code, response) in entries(operation.get("responses")) {
            // NamedResponseValue, ResponseValue, Response.
            out.message(1, |out| {
                out.string(1, code);
                out.message(2, |out| {
                    out.message(1, |out| {
                        out.text(1, response.get("description"));
                        if let Some(found) = response.get("schema") {
                            out.message(2, |out| out.message(1, |out| schema(found, out)));
                        }
                    });
                });
            });
        }
    });
    extensions(13, operation, out);
}

fn parameter(parameter: &Value, out: &mut Message) {
    let place = parameter.get("in").and_then(Value::as_str).unwrap_or("");
    let required = parameter.get("required").and_then(Value::as_bool).unwrap_or(false);
    // ParametersItem, Parameter.
    out.message(1, |out| {
        if place == "body" {
            out.message(1, |out| {
                out.text(2, parameter.get("name"));
                out.text(3, parameter.get("in"));
                out.flag(4, required);
                if let Some(found) = parameter.get("schema") {
                    out.message(5, |out| schema(found, out));
                }
            });
            return;
        }
        let number = if place == "path" { 4 } else { 3 };
        out.message(2, |out| {
            out.message(number, |out| {
                out.flag(1, required);
                out.text(2, parameter.get("in"));
                out.text(4, parameter.get("name"));
                // The query form has one more field before the type.
                out.text(if place == "path" { 5 } else { 6 }, parameter.get("type"));
            });
        });
    });
}

fn named_schema(name: &str, value: &Value, out: &mut Message) {
    out.string(1, name);
    out.message(2, |out| schema(value, out));
}

fn schema(value: &Value, out: &mut Message) {
    out.text(1, value.get("$ref"));
    out.text(2, value.get("format"));
    out.text(4, value.get("description"));
    for name in items(value.get("required")) {
        out.text(19, Some(name));
    }
    for choice in items(value.get("enum")) {
        out.message(20, |out| out.string(2, &choice.to_string()));
    }
    if let Some(found) = value.get("additionalProperties") {
        out.message(21, |out| out.message(1, |out| schema(found, out)));
    }
    if let Some(name) = value.get("type") {
        out.message(22, |out| out.text(1, Some(name)));
    }
    if let Some(found) = value.get("items") {
        out.message(23, |out| out.message(1, |out| schema(found, out)));
    }
    if value.get("properties").is_some() {
        out.message(25, |out| {
            for (name, found) in entries(value.get("properties")) {
                out.message(1, |out| named_schema(name, found, out));
            }
        });
    }
    extensions(31, value, out);
}

/// `x-…` words, each as a name and a piece of YAML, of which JSON is one.
fn extensions(number: u32, value: &Value, out: &mut Message) {
    for (name, found) in entries(Some(value)).filter(|(name, _)| name.starts_with("x-")) {
        out.message(number, |out| {
            out.string(1, name);
            out.message(2, |out| out.string(2, &found.to_string()));
        });
    }
}

/// A message as it is written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            // The mask keeps seven bits.
            #[allow(clippy::cast_possible_truncation)]
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        #[allow(clippy::cast_possible_truncation)]
        self.0.push(number as u8);
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.number(u64::from(field) << 3 | 2);
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn string(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    fn text(&mut self, field: u32, text: Option<&Value>) {
        if let Some(text) = text.and_then(Value::as_str) {
            self.string(field, text);
        }
    }

    fn flag(&mut self, field: u32, flag: bool) {
        if flag {
            self.number(u64::from(field) << 3);
            self.number(1);
        }
    }

    fn message(&mut self, field: u32, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }
}
