//! What autoscalers scale: there `spec.replicas` belongs to them, and a release leaves it alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use schemas::{
    Key, Object,
    scale::{SCALABLE, scalable},
};
use serde_json::Value;

/// Each object that is scaled, with the autoscalers that aim at it.
#[derive(Debug, Default)]
pub(crate) struct Scaled(BTreeMap<Key, BTreeSet<Key>>);

/// What a HorizontalPodAutoscaler aims at.
///
/// # Errors
/// Why that has no replicas that could be set.
pub(crate) fn target(autoscaler: &Object) -> Result<Key, String> {
    let aim = autoscaler.body.at("spec/scaleTargetRef");
    let part = |field: &str| aim.and_then(|aim| aim.get(field)?.text()).unwrap_or_default();
    let (version, kind, name) = (part("apiVersion"), part("kind"), part("name"));
    let scalable = scalable(&version, &kind).ok_or_else(|| {
        let version = if version.is_empty() { "v1" } else { &version };
        format!("a {kind} of {version} has no replicas that could be set: {SCALABLE}")
    })?;
    Ok(Key::namespaced(scalable, autoscaler.namespace(), &name))
}

impl Scaled {
    /// Takes a change of an autoscaler in; the targets that it won or lost.
    pub(crate) fn take(&mut self, old: Option<&Arc<Object>>, new: Option<&Arc<Object>>) -> Vec<Key> {
        let place = |object: &Arc<Object>| Some((target(object).ok()?, object.key()));
        let before = old.filter(|old| !old.is_deleting()).and_then(place);
        let after = new.filter(|new| !new.is_deleting()).and_then(place);
        if before == after {
            return Vec::new();
        }
        if let Some((target, autoscaler)) = &before
            && let Some(autoscalers) = self.0.get_mut(target)
        {
            autoscalers.remove(autoscaler);
            if autoscalers.is_empty() {
                self.0.remove(target);
            }
        }
        if let Some((target, autoscaler)) = &after {
            self.0.entry(target.clone()).or_default().insert(autoscaler.clone());
        }
        [before, after]
            .into_iter()
            .flatten()
            .map(|(target, _)| target)
            .collect()
    }

    /// The autoscalers that aim at an object.
    pub(crate) fn by(&self, target: &Key) -> impl Iterator<Item = &Key> + use<'_> {
        self.0.get(target).into_iter().flatten()
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.0.contains_key(key)
    }
}

/// What is applied of a declaration where an autoscaler sets the replicas.
pub(super) fn without_replicas(declared: &Value) -> Value {
    let mut left = declared.clone();
    if let Some(spec) = left.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("replicas");
    }
    left
}

/// Keeps the number that is there; a new object starts with the declared one.
pub(super) fn keep_replicas(applied: &mut Value, live: Option<&Value>, declared: &Value) {
    let kept = live
        .unwrap_or(declared)
        .get("spec")
        .and_then(|spec| spec.get("replicas"));
    if let (Some(kept), Some(spec)) = (kept, applied.get_mut("spec").and_then(Value::as_object_mut)) {
        spec.insert("replicas".to_owned(), kept.clone());
    }
}
