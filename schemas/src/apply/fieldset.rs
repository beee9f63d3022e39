//! Sets of fields, as `managedFields` writes them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A set of fields of an object, in the form `fieldsV1`: `f:NAME` for a field, `k:{…}` for a list's
/// item by its keys, `v:…` for a scalar in a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// The place itself is in the set: always for a leaf, `.` for a place with children.
    pub(super) member: bool,
    pub(super) children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// Reads `fieldsV1`. What is not in that form is left out.
    #[must_use]
    pub fn from_value(value: &Value) -> Self {
        let Value::Object(map) = value else {
            return Self::default();
        };
        let mut set = Self {
            member: map.is_empty() || map.contains_key("."),
            children: BTreeMap::new(),
        };
        for (name, below) in map {
            if name != "." {
                set.children.insert(canonical_name(name), Self::from_value(below));
            }
        }
        set
    }

    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (name, below) in &self.children {
            map.insert(name.clone(), below.to_value());
        }
        Value::Object(map)
    }

    /// Whether no field is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// Whether a field, `["spec", "replicas"]`, or something below it is in the set.
    #[must_use]
    pub fn has_field(&self, path: &[&str]) -> bool {
        path.iter()
            .try_fold(self, |set, name| set.children.get(&format!("f:{name}")))
            .is_some_and(|set| !set.is_empty())
    }

    /// The path of each field, `.spec.containers[name="web"].image`.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        if self.member && !prefix.is_empty() {
            paths.push(prefix.to_owned());
        }
        for (name, below) in &self.children {
            below.collect_paths(&format!("{prefix}{}", shown(name)), paths);
        }
    }

    pub(super) fn child(&mut self, name: String) -> &mut Self {
        self.children.entry(name).or_default()
    }

    /// Adds every field of `other`.
    pub(super) fn add(&mut self, other: &Self) {
        self.member |= other.member;
        for (name, below) in &other.children {
            self.children.entry(name.clone()).or_default().add(below);
        }
    }

    /// Takes every field of `other` out.
    pub(super) fn subtract(&mut self, other: &Self) {
        self.member &= !other.member;
        for (name, below) in &other.children {
            if let Some(mine) = self.children.get_mut(name) {
                mine.subtract(below);
                if mine.is_empty() {
                    self.children.remove(name);
                }
            }
        }
    }

    /// The fields in both.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self {
            member: self.member && other.member,
            children: BTreeMap::new(),
        };
        for (name, below) in &self.children {
            if let Some(theirs) = other.children.get(name) {
                let common = below.intersection(theirs);
                if !common.is_empty() {
                    both.children.insert(name.clone(), common);
                }
            }
        }
        both
    }

    /// Takes a child out, with all that is below it.
    pub(super) fn remove(&mut self, name: &str) {
        self.children.remove(name);
    }

    pub(super) fn remove_below(&mut self, parent: &str, name: &str) {
        if let Some(parent) = self.children.get_mut(parent) {
            parent.children.remove(name);
        }
    }

    /// Drops places that hold nothing.
    pub(super) fn compact(&mut self) {
        self.children.retain(|_, below| {
            below.compact();
            !below.is_empty()
        });
    }
}

/// A name with its keys in the one order that this code writes.
fn canonical_name(name: &str) -> String {
    match name.split_once(':') {
        Some((prefix @ ("k" | "v"), json)) => match serde_json::from_str::<Value>(json) {
            Ok(value) => format!("{prefix}:{value}"),
            Err(_) => name.to_owned(),
        },
        _ => name.to_owned(),
    }
}

/// A name as people read it in a path.
fn shown(name: &str) -> String {
    match name.split_once(':') {
        Some(("f", field)) => format!(".{field}"),
        Some(("k", json)) => {
            let Ok(Value::Object(keys)) = serde_json::from_str(json) else {
                return format!("[{json}]");
            };
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        Some(("v", json)) => format!("[={json}]"),
        _ => format!("[{name}]"),
    }
}
