//! Which fields differ between two values.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::validate::FieldPath;

/// One field that differs. `None`: it is not there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// As `spec.template.spec.containers[web].image`: items of a list with unique names go by name.
    pub path: String,
    pub old: Option<Value>,
    pub new: Option<Value>,
    /// Where it stands in the new value, or the nearest part of the path that is there.
    #[serde(skip)]
    pub place: FieldPath,
}

impl FieldChange {
    /// Whether both are about one field, or one about a part of the other's.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (short, long) = if self.path.len() <= other.path.len() {
            (&self.path, &other.path)
        } else {
            (&other.path, &self.path)
        };
        let rest = long.strip_prefix(short.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', ' ']))
    }
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<Value>| match value {
            None => "(none)".to_owned(),
            Some(Value::String(text)) if !text.contains('\n') => text.clone(),
            Some(value) => value.to_string(),
        };
        write!(f, "{}: {} -> {}", self.path, shown(&self.old), shown(&self.new))
    }
}

/// The smallest fields that differ, in the order of their paths.
#[must_use]
pub fn fields(old: &Value, new: &Value) -> Vec<FieldChange> {
    let mut found = Vec::new();
    compare("", &FieldPath::default(), Some(old), Some(new), &mut found);
    found
}

fn compare(path: &str, place: &FieldPath, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<FieldChange>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                let there = new.get(name);
                let below = there.map_or_else(|| place.clone(), |_| place.key(name));
                compare(&member(path, name), &below, old.get(name), there, found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => match (names(old), names(new)) {
            (Some(old_names), Some(new_names)) => {
                let by_name = |items: &'_ [Value], names: &[&str], name: &str| {
                    names.iter().position(|own| *own == name).map(|at| items[at].clone())
                };
                let below = |name: &str| match new_names.iter().position(|own| *own == name) {
                    Some(at) => place.index(at),
                    None => place.clone(),
                };
                let order: Vec<&str> = old_names
                    .iter()
                    .filter(|name| new_names.contains(name))
                    .copied()
                    .collect();
                let new_order: Vec<&str> = new_names
                    .iter()
                    .filter(|name| old_names.contains(name))
                    .copied()
                    .collect();
                let mut all: Vec<&str> = old_names.clone();
                all.extend(new_names.iter().filter(|name| !old_names.contains(name)));
                for name in all {
                    let (before, after) = (by_name(old, &old_names, name), by_name(new, &new_names, name));
                    let path = format!("{path}[{name}]");
                    compare(&path, &below(name), before.as_ref(), after.as_ref(), found);
                }
                if order != new_order {
                    found.push(FieldChange {
                        path: format!("{path} (order)"),
                        old: Some(order.into()),
                        new: Some(new_order.into()),
                        place: place.clone(),
                    });
                }
            }
            _ => {
                for at in 0..old.len().max(new.len()) {
                    let below = if at < new.len() { place.index(at) } else { place.clone() };
                    compare(&format!("{path}[{at}]"), &below, old.get(at), new.get(at), found);
                }
            }
        },
        (old, new) => found.push(FieldChange {
            path: path.to_owned(),
            old: old.cloned(),
            new: new.cloned(),
            place: place.clone(),
        }),
    }
}

fn member(path: &str, name: &str) -> String {
    // Labels and annotations hold dots and slashes.
    let name = if name.contains(['.', '/', '[']) {
        format!("[{name}]")
    } else {
        name.to_owned()
    };
    match (path.is_empty(), name.starts_with('[')) {
        (true, _) => name,
        (false, true) => format!("{path}{name}"),
        (false, false) => format!("{path}.{name}"),
    }
}

/// The names of the items, if each has one and no two the same.
fn names(items: &[Value]) -> Option<Vec<&str>> {
    let names: Option<Vec<&str>> = items.iter().map(|item| item.get("name")?.as_str()).collect();
    names.filter(|names| names.iter().collect::<BTreeSet<_>>().len() == names.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_found_by_path_and_name() {
        for (old, new, expected) in [
            (json!({"a": {"b": 1}}), json!({"a": {"b": 1}}), vec![]),
            (json!({"a": {"b": 1}}), json!({"a": {"b": 2}}), vec!["a.b: 1 -> 2"]),
            (json!({}), json!({"a": {"b": 2}}), vec!["a: (none) -> {\"b\":2}"]),
            (
                json!({"l": {"app/x.y": "1"}}),
                json!({"l": {}}),
                vec!["l[app/x.y]: 1 -> (none)"],
            ),
            (
                json!({"args": ["a", "b"]}),
                json!({"args": ["a", "c", "d"]}),
                vec!["args[1]: b -> c", "args[2]: (none) -> d"],
            ),
            (
                json!({"c": [{"name": "x", "i": 1}, {"name": "y", "i": 1}]}),
                json!({"c": [{"name": "y", "i": 2}, {"name": "x", "i": 1}]}),
                vec!["c[y].i: 1 -> 2", "c (order): [\"x\",\"y\"] -> [\"y\",\"x\"]"],
            ),
        ] {
            let found: Vec<String> = fields(&old, &new).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{old} {new}");
        }
    }

    #[test]
    fn a_field_stands_at_a_place_of_the_new_value() {
        let old = json!({"c": [{"name": "x", "i": 1, "j": 1}, {"name": "y"}]});
        let new = json!({"c": [{"name": "z"}, {"name": "x", "i": 2}]});
        let places: Vec<String> = fields(&old, &new)
            .iter()
            .map(|change| format!("{} at {}", change.path, change.place))
            .collect();
        assert_eq!(
            places,
            ["c[x].i at c[1].i", "c[x].j at c[1]", "c[y] at c", "c[z] at c[0]"]
        );
    }

    #[test]
    fn changes_overlap_by_whole_steps_of_their_paths() {
        let change = |path: &str| FieldChange {
            path: path.to_owned(),
            old: None,
            new: None,
            place: FieldPath::default(),
        };
        for (a, b, overlap) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", true),
            ("a.b[x].c", "a.b", true),
            ("a.image", "a.imagePullPolicy", false),
            ("a.b", "a.c", false),
        ] {
            assert_eq!(change(a).overlaps(&change(b)), overlap, "{a} {b}");
        }
    }
}
