//! Who controls what: adopting what matches, releasing what no longer does.

use std::sync::Arc;

use schemas::{
    Key, Kind, Now, Object, Part,
    deletion::{self, DeleteOptions, Deletion, Propagation},
    selector::Selector,
};
use store::{Op, Write};

use crate::plan::{Reason, replace_of};

/// The pods that a workload's selector names.
///
/// # Errors
/// Why it cannot be used: it is not valid, or it would select everything.
pub(crate) fn selector(workload: &Object) -> Result<Selector, Reason> {
    let written = workload.body.at("spec/selector").map(Part::value).unwrap_or_default();
    let read = if workload.kind == Kind::ReplicationController {
        // The older way: labels that must be equal.
        serde_json::from_value(written).map(|labels| Ok(Selector::of_labels(&labels)))
    } else {
        serde_json::from_value(written).map(|selector| Selector::from_label_selector(&selector))
    };
    match read {
        Ok(Ok(selector)) if !selector.is_everything() => Ok(selector),
        Ok(Ok(_)) => Err(Reason::new(
            "SelectingAll",
            "its selector is empty and would select all pods; name labels in it",
        )),
        Ok(Err(error)) => Err(Reason::new("InvalidSelector", error.to_string())),
        Err(error) => Err(Reason::new("InvalidSelector", error.to_string())),
    }
}

/// The key of the object that controls `object`, if it is of one of these kinds.
pub(crate) fn controller_of(object: &Object, kinds: &[Kind]) -> Option<Key> {
    let owner = object.controller()?;
    let kind = kinds.iter().find(|kind| {
        let info = kind.info();
        owner.kind == info.name && owner.api_version == info.api_version()
    })?;
    Some(Key::namespaced(*kind, object.namespace(), &owner.name))
}

/// The writes that adopt strays that match, and release objects that no longer do.
#[must_use]
pub(crate) fn claims(owner: &Object, selector: &Selector, owned: &[Arc<Object>], strays: &[Arc<Object>]) -> Vec<Write> {
    let mut writes = Vec::new();
    for object in owned.iter().filter(|object| !selector.matches_object(object)) {
        let uid = owner.uid();
        let mut released = Object::clone(object);
        let mut references = released.meta.owner_references.take().unwrap_or_default();
        references.retain(|reference| *reference.uid != *uid.0);
        released.meta.owner_references = (!references.is_empty()).then_some(references);
        writes.push(replace_of(object, released));
    }
    let may_adopt = |object: &&Arc<Object>| {
        object.controller().is_none() && !object.is_deleting() && selector.matches_object(object)
    };
    for object in strays.iter().filter(may_adopt) {
        let mut adopted = Object::clone(object);
        adopted
            .meta
            .owner_references
            .get_or_insert_default()
            .push(owner.as_controller());
        writes.push(replace_of(object, adopted));
    }
    writes
}

/// The write that deletes an object, if it is not being deleted already: marked for what waits for
/// its node, its contents or finalizers, removed for what waits for nothing.
#[must_use]
pub(crate) fn delete(object: &Object, propagation: Option<Propagation>, now: Now) -> Option<Write> {
    let options = DeleteOptions {
        propagation,
        ..DeleteOptions::default()
    };
    delete_with(object, &options, now)
}

/// The same with a grace period or other options.
#[must_use]
pub(crate) fn delete_with(object: &Object, options: &DeleteOptions, now: Now) -> Option<Write> {
    let write = match deletion::plan(object, options, now) {
        Deletion::Nothing | Deletion::Refused(_) => return None,
        Deletion::Mark(marked) => Write::new(Op::Replace(marked)),
        Deletion::Remove => Write::new(Op::Remove { key: object.key() }),
    };
    Some(write.uid(object.uid()).version(object.version))
}
