//! Which pods belong to which budgets.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::policy::v1::PodDisruptionBudgetSpec;
use rustc_hash::FxHashMap;
use schemas::{Key, Kind, Object, selector::Selector};
use store::View;

use crate::pods::{is_ready, phase};

/// Budgets with their pods, kept change by change: a change of a pod costs what belongs to it.
#[derive(Debug, Default)]
pub(crate) struct Members {
    by_namespace: FxHashMap<Arc<str>, Vec<Budget>>,
    of_pod: FxHashMap<Key, Vec<Key>>,
}

#[derive(Debug)]
struct Budget {
    key: Key,
    selector: Selector,
    pods: BTreeSet<Key>,
}

/// The pods that a budget is about. One without a selector is about none, one with an empty selector
/// about all of its namespace.
pub(crate) fn selector(budget: &Object) -> Selector {
    let spec = budget.spec::<PodDisruptionBudgetSpec>().ok();
    let selector = spec.and_then(|spec| spec.selector.clone());
    Selector::from_optional(selector.as_ref()).unwrap_or_else(|_| Selector::nothing())
}

impl Members {
    /// Takes in a budget's change. A new selector searches the namespace once.
    pub(crate) fn take_budget(&mut self, view: &View<'_>, key: &Key, old: Option<&Object>, new: Option<&Object>) {
        if let (Some(old), Some(new)) = (old, new)
            && old.body.hash() == new.body.hash()
        {
            return;
        }
        let space = key.namespace.clone().unwrap_or_else(|| "".into());
        let all = self.by_namespace.entry(space.clone()).or_default();
        if let Some(at) = all.iter().position(|budget| budget.key == *key) {
            for pod in all.swap_remove(at).pods {
                leave(&mut self.of_pod, &pod, key);
            }
        }
        if let Some(new) = new {
            let selector = selector(new);
            let matching = view
                .list(Kind::Pod, Some(&space))
                .filter(|pod| selector.matches_object(pod));
            let pods: BTreeSet<Key> = matching.map(|pod| pod.key()).collect();
            for pod in &pods {
                self.of_pod.entry(pod.clone()).or_default().push(key.clone());
            }
            all.push(Budget {
                key: key.clone(),
                selector,
                pods,
            });
        }
        if all.is_empty() {
            self.by_namespace.remove(&space);
        }
    }

    /// Takes in a pod's change; returns the budgets that count differently now.
    pub(crate) fn take_pod(&mut self, key: &Key, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(budgets) = key
            .namespace
            .as_ref()
            .and_then(|space| self.by_namespace.get_mut(space))
        else {
            return Vec::new();
        };
        if let (Some(old), Some(new)) = (old, new)
            && old.uid() == new.uid()
            && old.meta.labels == new.meta.labels
        {
            let same = is_ready(old) == is_ready(new)
                && phase(old) == phase(new)
                && old.is_deleting() == new.is_deleting()
                && old.meta.owner_references == new.meta.owner_references;
            return if same { Vec::new() } else { self.of(key).to_vec() };
        }
        let mut touched = BTreeSet::new();
        for budget in budgets {
            let was = budget.pods.contains(key);
            let is = new.is_some_and(|new| budget.selector.matches_object(new));
            if was && !is {
                budget.pods.remove(key);
                leave(&mut self.of_pod, key, &budget.key);
            } else if is && !was {
                budget.pods.insert(key.clone());
                self.of_pod.entry(key.clone()).or_default().push(budget.key.clone());
            }
            if was || is {
                touched.insert(budget.key.clone());
            }
        }
        touched.into_iter().collect()
    }

    /// The budgets of a pod.
    fn of(&self, pod: &Key) -> &[Key] {
        self.of_pod.get(pod).map_or(&[], Vec::as_slice)
    }

    /// The pods of a budget.
    pub(crate) fn pods(&self, budget: &Key) -> impl Iterator<Item = &Key> {
        let all = budget.namespace.as_ref().and_then(|space| self.by_namespace.get(space));
        let found = all.into_iter().flatten().find(|other| other.key == *budget);
        found.into_iter().flat_map(|budget| &budget.pods)
    }

    /// The budgets of a namespace.
    pub(crate) fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Key> {
        self.by_namespace
            .get(namespace)
            .into_iter()
            .flatten()
            .map(|budget| &budget.key)
    }
}

fn leave(of_pod: &mut FxHashMap<Key, Vec<Key>>, pod: &Key, budget: &Key) {
    if let Some(budgets) = of_pod.get_mut(pod) {
        budgets.retain(|other| other != budget);
        if budgets.is_empty() {
            of_pod.remove(pod);
        }
    }
}
