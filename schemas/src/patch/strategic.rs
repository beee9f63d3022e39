//! Strategic merge patch: a merge patch that knows which lists merge by which key.

use serde_json::{Map, Value};

use super::PatchError;
use crate::{
    Kind,
    structure::{Merge, Shape, rule},
};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

/// Applies a strategic merge patch to an object of `kind`: objects merge, null removes, lists merge by
/// their merge key or are replaced, and the directives `$patch`, `$retainKeys`,
/// `$deleteFromPrimitiveList` and `$setElementOrder` are obeyed.
pub fn strategic(current: &Value, patch: &Value, kind: Kind) -> Result<Value, PatchError> {
    let (Value::Object(current), Value::Object(patch)) = (current, patch) else {
        return Err(PatchError::NotAnObject);
    };
    let mut patched = current.clone();
    merge_object(&mut patched, patch, Shape::Root(kind), "")?;
    Ok(Value::Object(patched))
}

/// What a `$patch` asks for.
enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(patch: &Map<String, Value>, path: &str) -> Result<Directive, PatchError> {
    match patch.get(PATCH) {
        None => Ok(Directive::Merge),
        Some(Value::String(text)) if text == "merge" => Ok(Directive::Merge),
        Some(Value::String(text)) if text == "replace" => Ok(Directive::Replace),
        Some(Value::String(text)) if text == "delete" => Ok(Directive::Delete),
        Some(found) => Err(PatchError::Directive {
            path: path.to_owned(),
            found: found.to_string(),
        }),
    }
}

fn merge_object(
    current: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    shape: Shape,
    path: &str,
) -> Result<(), PatchError> {
    match directive(patch, path)? {
        Directive::Delete => {
            current.clear();
            return Ok(());
        }
        Directive::Replace => {
            *current = plain(patch);
            return Ok(());
        }
        Directive::Merge => {}
    }
    retain_keys(current, patch, path)?;
    for (name, value) in patch.iter().filter(|(name, _)| name.starts_with(DELETE_PRIMITIVES)) {
        let field = &name[DELETE_PRIMITIVES.len()..];
        let gone = list(value, path, name)?;
        if let Some(Value::Array(items)) = current.get_mut(field) {
            items.retain(|item| !gone.contains(item));
        }
    }
    for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        let below = format!("{path}.{name}");
        if value.is_null() {
            current.remove(name);
            continue;
        }
        let merge = rule(shape, name);
        match (current.get_mut(name), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                merge_object(old, new, shape_below(merge), &below)?;
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                let order = patch.get(&format!("{ELEMENT_ORDER}{name}"));
                let order = order.map(|order| list(order, path, ELEMENT_ORDER)).transpose()?;
                merge_list(old, new, merge, order, &below)?;
            }
            (Some(old), new) => *old = cleaned(new, merge, &below)?,
            (None, new) => {
                // A deletion of what is not there adds nothing.
                if !is_deletion(new) {
                    current.insert(name.clone(), cleaned(new, merge, &below)?);
                }
            }
        }
    }
    // An order without items to merge still orders what is there.
    for (name, order) in patch.iter().filter(|(name, _)| name.starts_with(ELEMENT_ORDER)) {
        let field = &name[ELEMENT_ORDER.len()..];
        let order = list(order, path, name)?;
        if !patch.contains_key(field)
            && let Some(Value::Array(items)) = current.get_mut(field)
        {
            sort(items, order, merge_key(rule(shape, field)));
        }
    }
    Ok(())
}

/// `$retainKeys` names all fields that may be left; what the patch sets must be among them.
fn retain_keys(current: &mut Map<String, Value>, patch: &Map<String, Value>, path: &str) -> Result<(), PatchError> {
    let Some(keys) = patch.get(RETAIN_KEYS) else {
        return Ok(());
    };
    let keys = list(keys, path, RETAIN_KEYS)?;
    let retained = |name: &str| keys.iter().any(|key| key.as_str() == Some(name));
    let stray = patch
        .iter()
        .find(|(name, value)| !name.starts_with('$') && !value.is_null() && !retained(name));
    if let Some((field, _)) = stray {
        return Err(PatchError::NotRetained {
            path: path.to_owned(),
            field: field.clone(),
        });
    }
    current.retain(|name, _| retained(name));
    Ok(())
}

fn merge_list(
    current: &mut Vec<Value>,
    patch: &[Value],
    merge: Merge,
    order: Option<&Vec<Value>>,
    path: &str,
) -> Result<(), PatchError> {
    if merge == Merge::Set {
        for item in patch.iter().map(without_directives) {
            if !current.contains(&item) {
                current.push(item);
            }
        }
        if let Some(order) = order {
            sort(current, order, None);
        }
        return Ok(());
    }
    let Some(key) = merge_key(merge) else {
        *current = patch.iter().map(without_directives).collect();
        return Ok(());
    };
    let replace = patch
        .iter()
        .any(|item| item.get(PATCH).and_then(Value::as_str) == Some("replace") && item.get(key).is_none());
    if replace {
        // One item says that the others are the whole list.
        *current = patch
            .iter()
            .filter(|item| item.get(PATCH).is_none())
            .map(without_directives)
            .collect();
        return Ok(());
    }
    let shape = shape_below(merge);
    for item in patch {
        let missing = || PatchError::MissingMergeKey {
            path: path.to_owned(),
            key,
        };
        let item = item.as_object().ok_or_else(missing)?;
        let wanted = item.get(key).ok_or_else(missing)?;
        let below = format!("{path}[{key}={wanted}]");
        if matches!(directive(item, &below)?, Directive::Delete) {
            current.retain(|old| old.get(key) != Some(wanted));
            continue;
        }
        let old = current
            .iter_mut()
            .find(|old| old.get(key) == Some(wanted))
            .and_then(Value::as_object_mut);
        match old {
            Some(old) => merge_object(old, item, shape, &below)?,
            None => {
                let new = cleaned(&Value::Object(item.clone()), Merge::Struct(shape), &below)?;
                current.push(new);
            }
        }
    }
    if let Some(order) = order {
        sort(current, order, Some(key));
    }
    Ok(())
}

/// Brings items into the patch's order. Items that it does not name keep their place after the item
/// that they followed.
fn sort(items: &mut Vec<Value>, order: &[Value], key: Option<&'static str>) {
    let name = |value: &Value| match key {
        Some(key) => value.get(key).cloned(),
        None => Some(value.clone()),
    };
    let place = |item: &Value| {
        let name = name(item)?;
        // The order of a keyed list holds objects with the key alone.
        order
            .iter()
            .position(|wanted| key.map_or(Some(wanted), |key| wanted.get(key)) == Some(&name))
    };
    let (mut named, mut others) = (Vec::new(), Vec::new());
    let mut before: Option<Value> = None;
    for item in items.drain(..) {
        let id = name(&item);
        match place(&item) {
            Some(place) => named.push((place, item)),
            None => others.push((before.take(), item)),
        }
        before = id;
    }
    named.sort_by_key(|(place, _)| *place);
    let mut sorted: Vec<Value> = named.into_iter().map(|(_, item)| item).collect();
    for (after, item) in others {
        let place = match &after {
            Some(after) => sorted
                .iter()
                .position(|other| name(other).as_ref() == Some(after))
                .map_or(sorted.len(), |place| place + 1),
            None => 0,
        };
        sorted.insert(place, item);
    }
    *items = sorted;
}

fn list<'a>(value: &'a Value, path: &str, directive: &str) -> Result<&'a Vec<Value>, PatchError> {
    value.as_array().ok_or_else(|| PatchError::DirectiveList {
        path: path.to_owned(),
        directive: directive.to_owned(),
    })
}

fn is_deletion(patch: &Value) -> bool {
    patch.get(PATCH).and_then(Value::as_str) == Some("delete")
}

/// A part of a patch as it is stored where nothing was before: merged into nothing.
fn cleaned(patch: &Value, merge: Merge, path: &str) -> Result<Value, PatchError> {
    match patch {
        Value::Object(map) => {
            let mut new = Map::new();
            merge_object(&mut new, map, shape_below(merge), path)?;
            Ok(Value::Object(new))
        }
        Value::Array(items) => {
            let mut new = Vec::new();
            merge_list(&mut new, items, merge, None, path)?;
            Ok(Value::Array(new))
        }
        scalar => Ok(scalar.clone()),
    }
}

fn plain(patch: &Map<String, Value>) -> Map<String, Value> {
    patch
        .iter()
        .filter(|(name, value)| !name.starts_with('$') && !value.is_null())
        .map(|(name, value)| (name.clone(), without_directives(value)))
        .collect()
}

fn without_directives(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(plain(map)),
        Value::Array(items) => items.iter().map(without_directives).collect(),
        scalar => scalar.clone(),
    }
}

fn merge_key(merge: Merge) -> Option<&'static str> {
    match merge {
        Merge::Keyed { merge_key, .. } => merge_key,
        Merge::PatchKeyed { merge_key, .. } => Some(merge_key),
        _ => None,
    }
}

fn shape_below(merge: Merge) -> Shape {
    match merge {
        Merge::Struct(shape) | Merge::Keyed { shape, .. } | Merge::PatchKeyed { shape, .. } => shape,
        Merge::AtomicStruct | Merge::Map | Merge::AtomicMap | Merge::Set => Shape::Plain,
    }
}
