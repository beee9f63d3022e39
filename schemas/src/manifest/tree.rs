//! A document as a tree of values, each with the place it stands at.

use serde_json::{Map, Value};

use crate::validate::path::{FieldPath, Segment};

/// Deeper nesting is refused: no manifest needs it, and recursion over it must be safe.
pub(super) const MAX_DEPTH: u16 = 100;

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// One value of a document.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

/// Something wrong at a place, found before the document's meaning is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Flaw {
    pub(super) place: Place,
    pub(super) message: String,
}

/// One document of a file. Without a root it could not be read, and the flaws say why.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) root: Option<Node>,
    pub(super) flaws: Vec<Flaw>,
}

impl Node {
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The text at `key`, where it is a string.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.node.content {
            Content::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.content, Content::Scalar(Value::Null))
    }

    pub(super) fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => Value::Array(items.iter().map(Node::to_value).collect()),
            Content::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.node.to_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// Where `path` stands: its key in a mapping, its item in a list, or the nearest part of the
    /// path that is there.
    pub(super) fn locate(&self, path: &FieldPath) -> Place {
        let mut node = self;
        let mut place = self.place;
        for segment in path.segments() {
            match (segment, &node.content) {
                (Segment::Key(key), Content::Map(_)) => {
                    let Some(entry) = node.get(key) else { break };
                    place = entry.place;
                    node = &entry.node;
                }
                (Segment::Index(index), Content::List(items)) => {
                    let Some(item) = items.get(*index) else { break };
                    place = item.place;
                    node = item;
                }
                _ => break,
            }
        }
        place
    }
}

/// Reports keys that stand twice in one mapping.
pub(super) fn duplicate_keys(entries: &[Entry], flaws: &mut Vec<Flaw>) {
    let mut seen = std::collections::HashMap::with_capacity(entries.len());
    for entry in entries {
        if let Some(first) = seen.insert(entry.key.as_str(), entry.place) {
            flaws.push(Flaw {
                place: entry.place,
                message: format!(
                    "the key {:?} stands twice in one mapping, first on line {}: remove one of them",
                    entry.key, first.line
                ),
            });
        }
    }
}
