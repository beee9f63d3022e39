//! The merge itself, field by field along the table of structures.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{ApplyError, FieldSet};
use crate::structure::{Merge, Shape, item_key, rule};

/// Every field that `value`, an object of `shape`, sets.
pub(super) fn owned(value: &Value, shape: Shape) -> FieldSet {
    let mut set = FieldSet::default();
    own(value, Merge::Struct(shape), &mut set);
    set
}

fn own(value: &Value, merge: Merge, set: &mut FieldSet) {
    match (merge, value) {
        (Merge::Struct(shape), Value::Object(map)) if !map.is_empty() => {
            for (name, below) in map {
                own(below, rule(shape, name), set.child(format!("f:{name}")));
            }
        }
        (Merge::Map, Value::Object(map)) if !map.is_empty() => {
            for name in map.keys() {
                set.child(format!("f:{name}")).member = true;
            }
        }
        (Merge::Keyed { shape, keys, .. }, Value::Array(items)) if !items.is_empty() => {
            for item in items {
                if let Some(map) = item.as_object()
                    && let Some(key) = item_key(map, keys)
                {
                    let child = set.child(format!("k:{key}"));
                    own(item, Merge::Struct(shape), child);
                    child.member = true;
                }
            }
        }
        (Merge::Set, Value::Array(items)) if !items.is_empty() => {
            for item in items {
                set.child(format!("v:{item}")).member = true;
            }
        }
        _ => set.member = true,
    }
}

/// Refuses lists whose items cannot be told apart.
pub(super) fn check_keys(value: &Value, shape: Shape) -> Result<(), ApplyError> {
    check(value, Merge::Struct(shape), "")
}

fn check(value: &Value, merge: Merge, path: &str) -> Result<(), ApplyError> {
    match (merge, value) {
        (Merge::Struct(shape), Value::Object(map)) => map
            .iter()
            .try_for_each(|(name, below)| check(below, rule(shape, name), &format!("{path}.{name}"))),
        (Merge::Keyed { shape, keys, .. }, Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for item in items.iter() {
                let Some(key) = item.as_object().and_then(|map| item_key(map, keys)) else {
                    return Err(ApplyError::MissingKey {
                        path: path.to_owned(),
                        key: keys.join(", "),
                    });
                };
                check(item, Merge::Struct(shape), &format!("{path}[{key}]"))?;
                if !seen.insert(key.clone()) {
                    return Err(ApplyError::DuplicateKey {
                        path: path.to_owned(),
                        key,
                    });
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Sets everything that `declared` sets in `live`.
pub(super) fn merge(live: &mut Value, declared: &Value, shape: Shape) {
    merge_value(live, declared, Merge::Struct(shape));
}

fn merge_value(live: &mut Value, declared: &Value, merge: Merge) {
    match (merge, live, declared) {
        (Merge::Struct(shape), Value::Object(live), Value::Object(declared)) => {
            merge_fields(live, declared, |name| rule(shape, name));
        }
        (Merge::Map, Value::Object(live), Value::Object(declared)) => {
            merge_fields(live, declared, |_| Merge::Struct(Shape::Plain));
        }
        (Merge::Keyed { shape, keys, .. }, Value::Array(live), Value::Array(declared)) => {
            let key = |item: &Value| item.as_object().and_then(|map| item_key(map, keys));
            merge_list(live, declared, key, |old, new| {
                merge_value(old, new, Merge::Struct(shape));
            });
        }
        (Merge::Set, Value::Array(live), Value::Array(declared)) => {
            merge_list(live, declared, |item| Some(item.to_string()), |_, _| {});
        }
        (_, live, declared) => *live = declared.clone(),
    }
}

fn merge_fields(live: &mut Map<String, Value>, declared: &Map<String, Value>, rule: impl Fn(&str) -> Merge) {
    for (name, new) in declared {
        match live.get_mut(name) {
            Some(old) => merge_value(old, new, rule(name)),
            None => {
                live.insert(name.clone(), new.clone());
            }
        }
    }
}

/// Merges lists whose items have keys: declared items in their declared order, then each item that is
/// only live after the one that it followed.
fn merge_list(
    live: &mut Vec<Value>,
    declared: &[Value],
    key: impl Fn(&Value) -> Option<String>,
    combine: impl Fn(&mut Value, &Value),
) {
    let names: Vec<Option<String>> = live.iter().map(&key).collect();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, name) in names.iter().enumerate() {
        if let Some(name) = name {
            places.entry(name).or_insert(place);
        }
    }
    // Each declared item, and behind it what follows it in the live list alone; the first group has
    // what nothing declared precedes.
    let mut groups: Vec<Vec<Value>> = vec![Vec::new()];
    let mut group_of: BTreeMap<usize, usize> = BTreeMap::new();
    for new in declared {
        let old = key(new).and_then(|name| places.get(name.as_str()).copied());
        let item = match old {
            Some(place) => {
                let mut item = live[place].clone();
                combine(&mut item, new);
                group_of.insert(place, groups.len());
                item
            }
            None => new.clone(),
        };
        groups.push(vec![item]);
    }
    let mut group = 0;
    let mut rest = Vec::new();
    for (place, old) in live.iter().enumerate() {
        match group_of.get(&place) {
            Some(own) => group = *own,
            None => rest.push((group, old.clone())),
        }
    }
    for (group, old) in rest {
        groups[group].push(old);
    }
    *live = groups.into_iter().flatten().collect();
}

/// Removes what is in `before` and not in `keep`. An object or a list's item that nobody in `keep`
/// names goes as a whole, with the defaults in it.
pub(super) fn prune(live: &mut Value, before: &FieldSet, keep: &FieldSet, shape: Shape) {
    // Every object has metadata, whoever owns what in them: of those only fields go.
    let mut keep = keep.clone();
    keep.children.entry("f:metadata".into()).or_default();
    prune_value(live, before, &keep, Merge::Struct(shape));
}

fn prune_value(live: &mut Value, before: &FieldSet, keep: &FieldSet, merge: Merge) {
    match (merge, live) {
        (Merge::Struct(shape), Value::Object(map)) => {
            for (name, below) in &before.children {
                let Some(field) = name.strip_prefix("f:") else { continue };
                let merge = rule(shape, field);
                match (keep.children.get(name), map.get_mut(field)) {
                    (_, None) => {}
                    (Some(kept), Some(value)) => prune_value(value, below, kept, merge),
                    // Free keys may be there that nobody's set names; only the named ones go.
                    (None, Some(value)) if merge == Merge::Map => {
                        prune_value(value, below, &FieldSet::default(), merge);
                        if value.as_object().is_some_and(Map::is_empty) {
                            map.remove(field);
                        }
                    }
                    (None, Some(_)) => {
                        map.remove(field);
                    }
                }
            }
        }
        (Merge::Map, Value::Object(map)) => {
            for name in before.children.keys().filter(|name| !keep.children.contains_key(*name)) {
                if let Some(field) = name.strip_prefix("f:") {
                    map.remove(field);
                }
            }
        }
        (Merge::Keyed { shape, keys, .. }, Value::Array(items)) => {
            items.retain_mut(|item| {
                let key = item.as_object().and_then(|map| item_key(map, keys));
                let Some(name) = key.map(|key| format!("k:{key}")) else {
                    return true;
                };
                match (before.children.get(&name), keep.children.get(&name)) {
                    (None, _) => true,
                    (Some(below), Some(kept)) => {
                        prune_value(item, below, kept, Merge::Struct(shape));
                        true
                    }
                    (Some(_), None) => false,
                }
            });
        }
        (Merge::Set, Value::Array(items)) => items.retain(|item| {
            let name = format!("v:{item}");
            !before.children.contains_key(&name) || keep.children.contains_key(&name)
        }),
        _ => {}
    }
}

/// The fields that `after` has and `before` has not, or with another value.
pub(super) fn changed(before: &Value, after: &Value, shape: Shape) -> FieldSet {
    let mut set = FieldSet::default();
    compare(before, after, Merge::Struct(shape), &mut set);
    set.compact();
    set
}

fn compare(before: &Value, after: &Value, merge: Merge, set: &mut FieldSet) {
    if before == after {
        return;
    }
    match (merge, before, after) {
        (Merge::Struct(shape), Value::Object(old), Value::Object(new)) => {
            compare_fields(old, new, |name| rule(shape, name), set);
        }
        (Merge::Map, Value::Object(old), Value::Object(new)) => {
            compare_fields(old, new, |_| Merge::AtomicStruct, set);
        }
        (Merge::Keyed { shape, keys, .. }, Value::Array(old), Value::Array(new)) => {
            let key = |item: &Value| item.as_object().and_then(|map| item_key(map, keys));
            let old: BTreeMap<String, &Value> = old.iter().rev().filter_map(|item| Some((key(item)?, item))).collect();
            for item in new {
                let Some(name) = key(item) else { continue };
                let child = set.child(format!("k:{name}"));
                match old.get(&name) {
                    Some(other) => compare(other, item, Merge::Struct(shape), child),
                    None => add_all(item, Merge::Struct(shape), child),
                }
            }
        }
        (Merge::Set, Value::Array(old), Value::Array(new)) => {
            for item in new.iter().filter(|item| !old.contains(item)) {
                set.child(format!("v:{item}")).member = true;
            }
        }
        _ => add_all(after, merge, set),
    }
}

fn compare_fields(
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    rule: impl Fn(&str) -> Merge,
    set: &mut FieldSet,
) {
    for (name, after) in new {
        let child = set.child(format!("f:{name}"));
        match old.get(name) {
            Some(before) => compare(before, after, rule(name), child),
            None => add_all(after, rule(name), child),
        }
    }
}

/// A new place is in the set itself, beside all that is below it.
fn add_all(value: &Value, merge: Merge, set: &mut FieldSet) {
    own(value, merge, set);
    set.member = true;
    if let (Merge::Struct(shape), Value::Object(map)) = (merge, value) {
        for (name, below) in map {
            add_all(below, rule(shape, name), set.child(format!("f:{name}")));
        }
    }
}

/// The fields of `set` that `object` has.
pub(super) fn existing(set: &FieldSet, object: &Value, shape: Shape) -> FieldSet {
    let mut kept = present(set, object, Merge::Struct(shape));
    kept.compact();
    kept
}

fn present(set: &FieldSet, value: &Value, merge: Merge) -> FieldSet {
    let mut kept = FieldSet {
        member: set.member,
        ..FieldSet::default()
    };
    let items: BTreeMap<String, &Value> = match (merge, value) {
        (Merge::Keyed { keys, .. }, Value::Array(items)) => items
            .iter()
            .rev()
            .filter_map(|item| Some((item_key(item.as_object()?, keys)?, item)))
            .collect(),
        _ => BTreeMap::new(),
    };
    for (name, below) in &set.children {
        let found = match (merge, value, name.split_once(':')) {
            (Merge::Struct(shape), Value::Object(map), Some(("f", field))) => {
                map.get(field).map(|value| present(below, value, rule(shape, field)))
            }
            (Merge::Map, Value::Object(map), Some(("f", field))) => map.get(field).map(|_| below.clone()),
            (Merge::Keyed { shape, .. }, Value::Array(_), Some(("k", wanted))) => {
                items.get(wanted).map(|item| present(below, item, Merge::Struct(shape)))
            }
            (Merge::Set, Value::Array(items), Some(("v", wanted))) => items
                .iter()
                .any(|item| serde_json::to_string(item).is_ok_and(|text| text == wanted))
                .then(|| below.clone()),
            _ => None,
        };
        if let Some(found) = found {
            kept.children.insert(name.clone(), found);
        }
    }
    kept
}
