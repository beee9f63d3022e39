//! Disruption budgets, as far as preemption asks them.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::policy::v1::PodDisruptionBudgetStatus;
use rustc_hash::FxHashMap;
use schemas::{Object, Uid, selector::Selector};

use crate::disruption::members;

/// One budget.
#[derive(Debug)]
struct Budget {
    name: Arc<str>,
    selector: Selector,
    /// How many more pods may go now.
    allowed: i64,
    /// Pods that are counted as gone already.
    disrupted: BTreeSet<String>,
    /// Pods that were chosen to go and that the budget has not counted yet.
    spent: Vec<Uid>,
}

/// All budgets, by namespace.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    by_namespace: FxHashMap<Arc<str>, Vec<Budget>>,
    /// Namespaces whose budgets changed, the newest last.
    changes: Vec<Arc<str>>,
    /// How many changes are not kept any more.
    forgotten: usize,
}

/// So many changes are kept for those who catch up.
const KEPT: usize = 4_096;

impl Budgets {
    /// Takes in a budget's new state; none when it is gone. `is_gone` says of a pod that was chosen
    /// to go whether the budget's own count knows of it by now.
    pub(super) fn put(&mut self, namespace: &str, name: &str, budget: Option<&Object>, is_gone: impl Fn(&Uid) -> bool) {
        let all = self.by_namespace.entry(namespace.into()).or_default();
        let before = all.iter().position(|other| &*other.name == name);
        let spent = match before {
            Some(at) => all.swap_remove(at).spent,
            None => Vec::new(),
        };
        if let Some(budget) = budget {
            let status: PodDisruptionBudgetStatus = budget.status().unwrap_or_default();
            all.push(Budget {
                name: name.into(),
                selector: members::selector(budget),
                allowed: i64::from(status.disruptions_allowed),
                disrupted: status
                    .disrupted_pods
                    .iter()
                    .flatten()
                    .map(|(name, _)| name.clone())
                    .collect(),
                spent: spent.into_iter().filter(|uid| !is_gone(uid)).collect(),
            });
            all.sort_by(|a, b| a.name.cmp(&b.name));
        }
        if all.is_empty() {
            self.by_namespace.remove(namespace);
        }
        self.changed(namespace);
    }

    fn changed(&mut self, namespace: &str) {
        if self.changes.len() >= 2 * KEPT {
            self.changes.drain(..KEPT);
            self.forgotten += KEPT;
        }
        self.changes.push(namespace.into());
    }

    /// Counts pods that are chosen to go.
    pub(super) fn spend(&mut self, pod: &Object) {
        let Some(all) = self.by_namespace.get_mut(pod.namespace()) else {
            return;
        };
        let uid = pod.uid();
        let mut touched = false;
        for budget in all.iter_mut().filter(|budget| budget.holds(pod)) {
            if !budget.spent.contains(&uid) {
                budget.spent.push(uid.clone());
                touched = true;
            }
        }
        if touched {
            self.changed(pod.namespace());
        }
    }

    /// What was chosen to go stays after all, or is gone for good.
    pub(super) fn refund(&mut self, namespace: &str, uid: &Uid) {
        let mut touched = false;
        for budget in self.by_namespace.get_mut(namespace).into_iter().flatten() {
            let before = budget.spent.len();
            budget.spent.retain(|other| other != uid);
            touched |= budget.spent.len() != before;
        }
        if touched {
            self.changed(namespace);
        }
    }

    /// Whether any budget could hold a pod of this namespace back.
    pub(super) fn covers(&self, namespace: &str) -> bool {
        self.by_namespace.contains_key(namespace)
    }

    /// Of pods that would go in this order: which of them no budget allows.
    pub(super) fn violations(&self, pods: &[&Object]) -> Vec<bool> {
        if self.by_namespace.is_empty() {
            return vec![false; pods.len()];
        }
        let mut taken: FxHashMap<*const Budget, i64> = FxHashMap::default();
        let one = |pod: &&Object| {
            let mut violated = false;
            let all = self.by_namespace.get(pod.namespace()).into_iter().flatten();
            for budget in all.filter(|budget| budget.holds(pod)) {
                let taken = taken.entry(std::ptr::from_ref(budget)).or_insert(0);
                *taken += 1;
                violated |= *taken > budget.allowed - budget.spent.len() as i64;
            }
            violated
        };
        pods.iter().map(one).collect()
    }

    /// How many changes there were.
    pub(super) fn changes(&self) -> usize {
        self.forgotten + self.changes.len()
    }

    /// Namespaces whose budgets changed since then; none if that is not known any more.
    pub(super) fn changed_since(&self, place: usize) -> Option<&[Arc<str>]> {
        self.changes.get(place.checked_sub(self.forgotten)?..)
    }
}

impl Budget {
    fn holds(&self, pod: &Object) -> bool {
        !self.disrupted.contains(pod.name()) && self.selector.matches_object(pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, app: &str) -> Object {
        let value = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": app}},
            "spec": {"containers": []},
        });
        Object::from_value(value).expect("it is valid")
    }

    fn budget(app: &str, allowed: i64, disrupted: &[&str]) -> Object {
        let disrupted: serde_json::Map<_, _> = disrupted
            .iter()
            .map(|name| ((*name).to_owned(), json!("2026-01-01T00:00:00Z")))
            .collect();
        let value = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": app, "namespace": "a", "uid": app},
            "spec": {"selector": {"matchLabels": {"app": app}}},
            "status": {"disruptionsAllowed": allowed, "currentHealthy": 3, "desiredHealthy": 2, "expectedPods": 3, "disruptedPods": disrupted},
        });
        Object::from_value(value).expect("it is valid")
    }

    #[test]
    fn an_empty_selector_is_about_the_whole_namespace_and_none_about_nothing() {
        let pods = [pod("w1", "web"), pod("db", "db")];
        let all: Vec<&Object> = pods.iter().collect();
        for (spec, expected) in [(json!({"selector": {}}), [true, true]), (json!({}), [false, false])] {
            let value = json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "metadata": {"name": "all", "namespace": "a", "uid": "all"}, "spec": spec,
                "status": {"disruptionsAllowed": 0, "currentHealthy": 2, "desiredHealthy": 2, "expectedPods": 2},
            });
            let mut budgets = Budgets::default();
            budgets.put(
                "a",
                "all",
                Some(&Object::from_value(value).expect("it is valid")),
                |_| false,
            );
            assert_eq!(budgets.violations(&all), expected, "{spec}");
        }
    }

    #[test]
    fn a_budget_allows_so_many_and_what_was_chosen_counts() {
        let mut budgets = Budgets::default();
        let pods = [pod("w1", "web"), pod("w2", "web"), pod("db", "db")];
        let all: Vec<&Object> = pods.iter().collect();
        assert_eq!(budgets.violations(&all), [false, false, false]);
        budgets.put("a", "web", Some(&budget("web", 1, &[])), |_| false);
        assert_eq!(budgets.violations(&all), [false, true, false]);
        budgets.spend(&pods[0]);
        assert_eq!(budgets.violations(&all[1..]), [true, false], "one is on its way");
        budgets.put("a", "web", Some(&budget("web", 1, &[])), |_| false);
        assert_eq!(
            budgets.violations(&all[1..]),
            [true, false],
            "the budget has not counted it yet"
        );
        budgets.put("a", "web", Some(&budget("web", 1, &[])), |_| true);
        assert_eq!(budgets.violations(&all[1..]), [false, false]);
        budgets.put("a", "web", Some(&budget("web", 0, &["w2"])), |_| true);
        assert_eq!(
            budgets.violations(&all),
            [true, false, false],
            "one is counted as gone already"
        );
        budgets.put("a", "web", None, |_| true);
        assert_eq!(budgets.violations(&all), [false, false, false]);
    }
}
