//! What quotas have counted: kept with the copy, change by change, and ahead of it within a batch.
//!
//! Pure. A write costs what it changes: the whole of a namespace is counted only when a quota of it
//! comes or changes.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use schemas::{Kind, Object, quantity::Quantity, quota::Quota};

/// The quotas of one namespace and what of them is used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    quota: Arc<Quota>,
    /// In the order of the quota's limits.
    used: Vec<Quantity>,
}

/// What one quota has counted.
#[derive(Clone, Debug)]
pub struct Counted {
    pub quota: Arc<Quota>,
    /// In the order of the quota's limits.
    pub used: Vec<Quantity>,
}

/// The ledgers of all namespaces with a quota.
#[derive(Debug, Default)]
pub(crate) struct Ledgers(FxHashMap<Arc<str>, Ledger>);

impl Ledgers {
    pub(crate) fn of(&self, namespace: &str) -> Option<&Ledger> {
        self.0.get(namespace)
    }

    pub(crate) fn of_mut(&mut self, namespace: &str) -> Option<&mut Ledger> {
        self.0.get_mut(namespace)
    }

    /// Takes a ledger that was counted anew; one without quotas is none.
    pub(crate) fn put(&mut self, namespace: Arc<str>, ledger: Ledger) {
        match ledger.lines.is_empty() {
            true => drop(self.0.remove(&namespace)),
            false => drop(self.0.insert(namespace, ledger)),
        }
    }
}

/// Whether this change makes or changes a quota, so that its namespace is to be counted anew.
pub(crate) fn is_of_quota(kind: Kind, old: Option<&Object>, new: Option<&Object>) -> bool {
    kind == Kind::ResourceQuota && old.map(|old| old.body.hash()) != new.map(|new| new.body.hash())
}

impl Ledger {
    /// Counts all objects of a namespace.
    pub(crate) fn count<'o>(objects: impl Iterator<Item = &'o Arc<Object>> + Clone) -> Self {
        let quotas = objects.clone().filter(|object| object.kind == Kind::ResourceQuota);
        // One that is not readable is refused before it gets here.
        let quotas = quotas.filter_map(|object| Quota::read(object).ok());
        let mut ledger = Self {
            lines: quotas
                .map(|quota| Line {
                    used: vec![Quantity::ZERO; quota.limits.len()],
                    quota: Arc::new(quota),
                })
                .collect(),
        };
        if !ledger.lines.is_empty() {
            objects.for_each(|object| ledger.charge(None, Some(object)));
        }
        ledger
    }

    /// Books a change.
    pub(crate) fn charge(&mut self, old: Option<&Object>, new: Option<&Object>) {
        if is_same(old, new) {
            return;
        }
        for line in &mut self.lines {
            let taken = old.and_then(|old| line.quota.charge(old));
            let given = new.and_then(|new| line.quota.charge(new));
            for (at, used) in line.used.iter_mut().enumerate() {
                let amount = |of: &Option<Vec<Quantity>>| of.as_ref().map_or(Quantity::ZERO, |of| of[at]);
                *used = *used - amount(&taken) + amount(&given);
            }
        }
    }

    /// Whether a change fits into all quotas. What takes no more than before always does.
    ///
    /// # Errors
    /// Why it does not, in the words that people know.
    pub(crate) fn admit(&self, old: Option<&Object>, new: &Object) -> Result<(), String> {
        if is_same(old, Some(new)) {
            return Ok(());
        }
        for Line { quota, used } in &self.lines {
            if old.is_none() {
                let demands = quota.demands(new);
                demands.map_err(|why| format!("failed quota: {}: {why}", quota.name))?;
            }
            let Some(given) = quota.charge(new) else { continue };
            let taken = old.and_then(|old| quota.charge(old));
            let mut over = [const { Vec::new() }; 3];
            for (at, limit) in quota.limits.iter().enumerate() {
                let before = taken.as_ref().map_or(Quantity::ZERO, |taken| taken[at]);
                let more = given[at] - before;
                if more > Quantity::ZERO && used[at] + more > limit.hard {
                    for (list, amount) in over.iter_mut().zip([more, used[at], limit.hard]) {
                        list.push(format!("{}={amount}", limit.name));
                    }
                }
            }
            let [requested, used, limited] = over.map(|list| list.join(","));
            if !requested.is_empty() {
                return Err(format!(
                    "exceeded quota: {}, requested: {requested}, used: {used}, limited: {limited}",
                    quota.name
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn counted(&self, quota: &str) -> Option<Counted> {
        let line = self.lines.iter().find(|line| line.quota.name == quota)?;
        Some(Counted {
            quota: line.quota.clone(),
            used: line.used.clone(),
        })
    }
}

/// A change that no quota sees: of a status, unless a pod begins or ceases to be finished by it.
fn is_same(old: Option<&Object>, new: Option<&Object>) -> bool {
    let (Some(old), Some(new)) = (old, new) else {
        return false;
    };
    let finished = |object: &Object| object.kind == Kind::Pod && schemas::quota::pod::is_finished(object);
    old.body.hash() == new.body.hash() && finished(old) == finished(new)
}
