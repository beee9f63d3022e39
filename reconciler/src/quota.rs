//! ResourceQuotas: what they have counted, told in their status.
//!
//! Writes are held to quotas by the store, in the order in which it takes them. Here people are told,
//! and whoever was refused is woken once there is room.
//!
//! <https://kubernetes.io/docs/concepts/policy/resource-quotas/>

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;
use schemas::{Key, Kind, Object, Part, quantity::Quantity, quota::pod::is_finished};
use serde_json::{Map, Value};
use store::{Class, Counted};

use crate::{
    plan::{Plan, status_of},
    pods::blank,
    queue::Work,
};

/// What is looked at for one quota.
#[derive(Clone, Debug)]
pub struct World {
    pub quota: Arc<Object>,
    pub counted: Counted,
}

/// So long changes gather before a status tells of them.
pub(crate) const GATHER: Duration = Duration::from_millis(100);

/// Tells what a quota has counted.
#[must_use]
pub fn plan(world: &World) -> Plan {
    let mut plan = Plan::default();
    let World { quota, counted } = world;
    let limits = counted.quota.limits.iter().zip(&counted.used);
    let text = |amount: &Quantity| Value::String(amount.to_string());
    let hard: Map<String, Value> = limits
        .clone()
        .map(|(limit, _)| (limit.name.clone(), text(&limit.hard)))
        .collect();
    let used = limits.filter(|(limit, _)| limit.measure.is_some());
    let used: Map<String, Value> = used.map(|(limit, used)| (limit.name.clone(), text(used))).collect();
    let mut status = blank(quota.status.as_ref());
    for (field, amounts) in [("hard", hard), ("used", used)] {
        match (status.as_object_mut(), amounts.is_empty()) {
            (Some(status), true) => drop(status.remove(field)),
            (Some(status), false) => drop(status.insert(field.to_owned(), amounts.into())),
            (None, _) => {}
        }
    }
    if quota.status != Some((&status).into()) {
        let mut write = status_of(quota, status);
        write.version = None;
        plan.write(Class::Status, "telling what a quota has counted", write);
    }
    plan
}

/// Whether a change may be counted by a quota of its namespace.
pub(crate) fn may_count(old: Option<&Object>, new: Option<&Object>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => old.body.hash() != new.body.hash() || is_finished(old) != is_finished(new),
        _ => true,
    }
}

/// Whether a change may let in what was refused before: a quota that says more or has counted less, and
/// any change of the other rules of a namespace.
pub(crate) fn gives_room(kind: Kind, old: Option<&Object>, new: Option<&Object>) -> bool {
    let (Some(old), Some(new)) = (old, new) else {
        return matches!(kind, Kind::ResourceQuota | Kind::LimitRange | Kind::ServiceAccount);
    };
    match kind {
        Kind::ResourceQuota => old.body.hash() != new.body.hash() || has_fallen(old, new),
        Kind::LimitRange | Kind::ServiceAccount => old.body.hash() != new.body.hash(),
        _ => false,
    }
}

fn has_fallen(old: &Object, new: &Object) -> bool {
    let amount = |part: Part<'_>| part.text().and_then(|text| text.parse::<Quantity>().ok());
    let used = |object: &Object, name: &str| {
        let used = object.status.as_ref()?.at("used")?;
        amount(used.get(name)?)
    };
    let before = old.status.as_ref().and_then(|status| status.at("used"));
    let mut before = before.into_iter().flat_map(Part::entries);
    before.any(|(name, before)| used(new, &name).unwrap_or_default() < amount(before).unwrap_or_default())
}

/// Who was refused by the rules of a namespace.
#[derive(Debug, Default)]
pub(crate) struct Refused(FxHashMap<Arc<str>, BTreeSet<Work>>);

impl Refused {
    pub(crate) fn note(&mut self, namespace: &Key, work: Work) {
        if let Some(space) = &namespace.namespace {
            self.0.entry(space.clone()).or_default().insert(work);
        }
    }

    /// Those of a namespace, who shall try again.
    pub(crate) fn take(&mut self, namespace: &str) -> BTreeSet<Work> {
        self.0.remove(namespace).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
