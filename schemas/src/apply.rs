//! Server-side apply: merging what a manager declares into a live object, and who owns which field.
//!
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>

mod fieldset;
mod merge;
mod owners;
mod variants;

use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{Kind, defaulting, structure::Shape};

pub use fieldset::FieldSet;
use owners::Owners;

/// The outcome of an apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The whole object, defaulted, with its `managedFields`.
    pub object: Value,
    /// Whether it differs from the live object. If not, `object` is the live object as it was.
    pub changed: bool,
}

/// Fields that the declaration would change and another manager owns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Conflicts(pub Vec<Conflict>);

/// One field that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager.
    pub manager: String,
    /// The field's path, `.spec.replicas`.
    pub field: String,
}

/// Why an apply changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Conflicts(#[from] Conflicts),
    #[error("{path}: an item leaves the key {key:?} out, by which items of this list are told apart")]
    MissingKey { path: String, key: String },
    #[error("{path}: two items have the same key {key}")]
    DuplicateKey { path: String, key: String },
    #[error("a declared object must be a JSON object")]
    NotAnObject,
}

impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "Apply failed with {count} conflict{plural}")?;
        for (index, conflict) in self.0.iter().enumerate() {
            let mark = if index == 0 { ":" } else { "," };
            write!(f, "{mark} conflict with {:?}: {}", conflict.manager, conflict.field)?;
        }
        Ok(())
    }
}

/// Applies what `manager` declares to the live object, or makes a new object from it.
///
/// Declared fields are set. Fields that the manager applied before and no longer declares are removed,
/// unless another manager owns them too. Everything else stays: allocated fields, status, and what
/// controllers and autoscalers wrote. The result is defaulted, so that applying twice changes nothing.
///
/// Server-set metadata and `status` in `declared` are ignored. With `force`, fields of other managers
/// that the declaration changes become the manager's; without it they are conflicts.
pub fn apply(
    live: Option<&Value>,
    declared: &Value,
    manager: &str,
    kind: Kind,
    at: Timestamp,
    force: bool,
) -> Result<Applied, ApplyError> {
    let root = Shape::Root(kind);
    let declared = declaration(kind, declared)?;
    merge::check_keys(&declared, root)?;
    let mut mine = merge::owned(&declared, root);
    strip_identity(&mut mine);

    let Some(live) = live else {
        let mut object = declared;
        defaulting::default_object(kind, &mut object);
        let mut owners = Owners::default();
        owners.put_applied(manager, kind, mine, at);
        owners.write(&mut object);
        return Ok(Applied { object, changed: true });
    };

    let mut owners = Owners::read(live);
    let before = owners.applied(manager).cloned().unwrap_or_default();
    let mut object = without_managed_fields(live);
    let live_fields = object.clone();
    merge::merge(&mut object, &declared, root);
    let mut keep = owners.of_others(manager);
    keep.add(&mine);
    merge::prune(&mut object, &before, &keep, root);
    variants::drop_foreign(kind, &mut object, &keep);
    defaulting::default_object(kind, &mut object);

    let changed = merge::changed(&live_fields, &object, root);
    let taken = changed.intersection(&mine);
    let conflicts = owners.take(manager, &taken);
    if !force && !conflicts.is_empty() {
        return Err(Conflicts(conflicts).into());
    }
    if object == live_fields && conflicts.is_empty() && owners.applied(manager) == Some(&mine) {
        return Ok(Applied {
            object: live.clone(),
            changed: false,
        });
    }
    owners.put_applied(manager, kind, mine, at);
    owners.keep_existing(&object, root);
    owners.write(&mut object);
    Ok(Applied { object, changed: true })
}

/// The fields that `manager` owns by applying, empty if none.
#[must_use]
pub fn owned_fields(live: &Value, manager: &str) -> FieldSet {
    Owners::read(live).applied(manager).cloned().unwrap_or_default()
}

/// Records an ordinary write (update, patch, a controller's write) in the object's `managedFields`:
/// what changed between `before` and `after` becomes `manager`'s and nobody else's, and what is gone
/// is nobody's.
///
/// `after` is the object as it will be stored; `subresource` is `status` or `scale` for a write
/// through one of them.
pub fn update_managed_fields(
    before: Option<&Value>,
    after: &mut Value,
    manager: &str,
    subresource: Option<&str>,
    kind: Kind,
    at: Timestamp,
) {
    let root = Shape::Root(kind);
    // A client that sends the list back, or an empty one, does not decide who owns what.
    let mut owners = before.map(Owners::read).unwrap_or_default();
    let new = without_managed_fields(after);
    let old = before.map_or_else(|| Value::Object(Map::new()), without_managed_fields);
    let mut changed = merge::changed(&old, &new, root);
    strip_identity(&mut changed);
    if subresource.is_none() && kind.info().status {
        changed.remove("f:status");
    }
    owners.take_all(manager, subresource, &changed);
    owners.add_updated(manager, subresource, kind, changed, at);
    *after = new;
    match old.get("status") {
        // A write to the object itself does not carry the status, which stays as it was.
        Some(status) if after.get("status").is_none() => {
            let mut whole = after.clone();
            whole["status"] = status.clone();
            owners.keep_existing(&whole, root);
        }
        _ => owners.keep_existing(after, root),
    }
    owners.write(after);
}

/// What a manager may declare: normalized, without identity that the server sets and without status.
fn declaration(kind: Kind, declared: &Value) -> Result<Value, ApplyError> {
    let mut declared = declared.clone();
    defaulting::normalize(kind, &mut declared);
    let info = kind.info();
    let Value::Object(map) = &mut declared else {
        return Err(ApplyError::NotAnObject);
    };
    map.insert("apiVersion".into(), info.api_version().into());
    map.insert("kind".into(), info.name.into());
    if info.status {
        map.remove("status");
    }
    if let Some(Value::Object(meta)) = map.get_mut("metadata") {
        for field in SERVER_SET {
            meta.remove(field);
        }
    }
    Ok(declared)
}

/// Metadata that only the server sets.
const SERVER_SET: [&str; 9] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generateName",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Takes out what names the object: nobody owns that.
fn strip_identity(set: &mut FieldSet) {
    set.remove("f:apiVersion");
    set.remove("f:kind");
    set.remove_below("f:metadata", "f:name");
    set.remove_below("f:metadata", "f:namespace");
    for field in SERVER_SET {
        set.remove_below("f:metadata", &format!("f:{field}"));
    }
    // The metadata object itself is part of every object.
    if let Some(metadata) = set.children.get_mut("f:metadata") {
        metadata.member = false;
    }
    set.compact();
}

fn without_managed_fields(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(Value::Object(meta)) = object.get_mut("metadata") {
        meta.remove("managedFields");
    }
    object
}

#[cfg(test)]
mod tests;
