//! How many pods of interest are in each domain of a label.

use std::collections::BTreeMap;

/// What a count is for. Numbers are places in the terms that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Pods that a required spread counts.
    Hard(usize),
    /// Pods that a soft spread counts.
    Soft(usize),
    /// Pods that a required affinity wants near.
    Near(usize),
    /// Pods that a required anti-affinity wants away.
    Away(usize),
    /// Pods that want pods like this one away.
    Unwelcome,
    /// The sum of wishes, of this pod and of others.
    Pull,
}

/// One count.
#[derive(Debug)]
pub(super) struct Counter {
    pub(super) axis: usize,
    pub(super) what: What,
    /// Its domains are about as many as nodes.
    pub(super) fine: bool,
    /// Where its domain, or its value if it is fine, stands in the key of a bin.
    pub(super) at: usize,
    /// Over all domains.
    pub(super) total: i64,
    counts: Vec<i64>,
    /// How many nodes of each domain count.
    nodes: Vec<u32>,
    /// How many domains with such nodes have each count.
    levels: BTreeMap<i64, u32>,
    domains: usize,
}

impl Counter {
    pub(super) fn new(axis: usize, what: What, fine: bool) -> Self {
        Self {
            axis,
            what,
            fine,
            at: 0,
            total: 0,
            counts: Vec::new(),
            nodes: Vec::new(),
            levels: BTreeMap::new(),
            domains: 0,
        }
    }

    /// Spreads count what runs on eligible nodes, and not what is being deleted.
    pub(super) fn is_spread(&self) -> bool {
        matches!(self.what, What::Hard(_) | What::Soft(_))
    }

    /// Whether it decides if a node may be used.
    pub(super) fn filters(&self) -> bool {
        !matches!(self.what, What::Soft(_) | What::Pull)
    }

    /// Whether pods count that only have room made for them.
    pub(super) fn counts_nominated(&self) -> bool {
        matches!(self.what, What::Hard(_) | What::Away(_) | What::Unwelcome)
    }

    pub(super) fn get(&self, domain: u32) -> i64 {
        self.counts.get(domain as usize).copied().unwrap_or(0)
    }

    /// Makes room for domains, and counts a node in where it is eligible.
    pub(super) fn add_node(&mut self, domain: u32, eligible: bool) {
        self.grow(domain);
        if eligible {
            let at = domain as usize;
            self.nodes[at] += 1;
            if self.nodes[at] == 1 {
                self.domains += 1;
                *self.levels.entry(self.counts[at]).or_insert(0) += 1;
            }
        }
    }

    pub(super) fn add(&mut self, domain: u32, amount: i64) {
        self.grow(domain);
        let at = domain as usize;
        let old = self.counts[at];
        self.counts[at] += amount;
        self.total += amount;
        if self.nodes[at] > 0 {
            self.leave_level(old);
            *self.levels.entry(old + amount).or_insert(0) += 1;
        }
    }

    fn leave_level(&mut self, level: i64) {
        if let Some(domains) = self.levels.get_mut(&level) {
            *domains -= 1;
            if *domains == 0 {
                self.levels.remove(&level);
            }
        }
    }

    fn grow(&mut self, domain: u32) {
        let length = domain as usize + 1;
        if self.counts.len() < length {
            self.counts.resize(length, 0);
            self.nodes.resize(length, 0);
        }
    }

    /// The lowest count of all eligible domains; 0 where there are fewer than there have to be, none
    /// where there is no domain at all.
    pub(super) fn least(&self, min_domains: Option<i64>) -> Option<i64> {
        if min_domains.is_some_and(|least| (self.domains as i64) < least) {
            return Some(0);
        }
        self.levels.first_key_value().map(|(level, _)| *level)
    }

    /// Whether nodes of this domain count.
    pub(super) fn is_eligible(&self, domain: u32) -> bool {
        self.nodes.get(domain as usize).is_some_and(|nodes| *nodes > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_count_is_that_of_eligible_domains() {
        let mut counter = Counter::new(0, What::Hard(0), false);
        assert_eq!(counter.least(None), None);
        for (domain, eligible) in [(0, true), (1, true), (1, true), (2, false)] {
            counter.add_node(domain, eligible);
        }
        counter.add(2, 5);
        assert_eq!((counter.least(None), counter.get(2)), (Some(0), 5));
        counter.add(0, 3);
        counter.add(1, 2);
        assert_eq!(counter.least(None), Some(2));
        assert_eq!(counter.least(Some(3)), Some(0), "two domains are less than three");
        counter.add(1, -1);
        assert_eq!((counter.least(Some(2)), counter.total), (Some(1), 9));
    }
}
