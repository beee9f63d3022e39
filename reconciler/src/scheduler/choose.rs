//! The choice of a node for a pod of a class, and why a node is none.

use super::{
    board::Board,
    class::{Class, LIKED, MISSING, TAINTS, rest_of, score_of},
    counter::{Counter, What},
    filter::{self, Refusal, Shortage},
    node::Used,
    score,
};

/// Why a node with room is none for a pod, because of other pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    MissingLabel,
    Skew,
    Near,
    Away,
    Unwelcome,
}

impl Block {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::MissingLabel => "node(s) didn't match pod topology spread constraints (missing required label)",
            Self::Skew => "node(s) didn't match pod topology spread constraints",
            Self::Near => "node(s) didn't match pod affinity rules",
            Self::Away => "node(s) didn't match pod anti-affinity rules",
            Self::Unwelcome => "node(s) didn't satisfy existing pods anti-affinity rules",
        }
    }

    /// Whether other pods would have to go for it to change.
    pub(super) fn is_by_pods(self) -> bool {
        matches!(self, Self::Skew | Self::Away | Self::Unwelcome)
    }
}

/// Why a node does not take a pod: the first rule that is against it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Against<'a> {
    Refused(Refusal<'a>),
    Full(Vec<Shortage>),
    Pods(Block),
}

/// A node, or a whole bin with its best node, that may be chosen.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    bin: usize,
    /// How many nodes it stands for.
    nodes: usize,
    node: u32,
    rank: u64,
    pull: i64,
    /// The raw spread; none for nodes that score nothing.
    spread: Option<i64>,
}

impl Class {
    /// The best node of all, or of `only` these.
    pub(super) fn choose(&mut self, board: &Board, only: Option<&[u32]>) -> Option<u32> {
        let mut candidates = match only {
            None => self.of_bins(),
            Some(nodes) => self.of_nodes(board, nodes),
        };
        if candidates.is_empty() {
            return None;
        }
        self.score_spread(board, &mut candidates);
        let key = |candidate: &Candidate, at: usize| self.bins[candidate.bin].key[at];
        let most = |at: usize| candidates.iter().map(|it| key(it, at)).max().unwrap_or(0);
        let (most_taints, most_liked) = (most(TAINTS), most(LIKED));
        let (least_pull, most_pull) = range(candidates.iter().map(|it| it.pull));
        let spreads = candidates.iter().filter_map(|it| it.spread);
        let (least_spread, most_spread) = range(spreads);
        let has_soft = !self.terms.soft.is_empty();
        let total = |it: &Candidate| {
            let spread = match it.spread {
                Some(raw) if has_soft => score::spread(raw, least_spread, most_spread),
                _ => 0,
            };
            score::TAINTS * (score::FULL - score::relative(key(it, TAINTS), most_taints))
                + score::NODE_AFFINITY * score::relative(key(it, LIKED), most_liked)
                + score::POD_AFFINITY * score::pull(it.pull, least_pull, most_pull)
                + score::SPREAD * spread
                + score_of(it.rank)
        };
        let best = candidates
            .iter()
            .max_by_key(|it| (total(it), rest_of(it.rank), it.node));
        best.map(|it| it.node)
    }

    fn of_bins(&mut self) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for bin in 0..self.bins.len() {
            if self.bins[bin].live == 0 || self.block(&self.bins[bin].key).is_some() {
                continue;
            }
            if let Some(head) = self.head(bin) {
                candidates.push(Candidate {
                    bin,
                    nodes: self.bins[bin].live as usize,
                    node: head.node,
                    rank: head.rank,
                    pull: self.pull(&self.bins[bin].key),
                    spread: None,
                });
            }
        }
        candidates
    }

    fn of_nodes(&self, board: &Board, nodes: &[u32]) -> Vec<Candidate> {
        let candidate = |node: &u32| {
            let place = self.places.get(*node as usize)?;
            let key = &self.bins.get(place.bin as usize)?.key;
            if !place.live || self.block(key).is_some() {
                return None;
            }
            Some(Candidate {
                bin: place.bin as usize,
                nodes: 1,
                node: *node,
                rank: self.rank(board, *node)?,
                pull: self.pull(key),
                spread: None,
            })
        };
        nodes.iter().filter_map(candidate).collect()
    }

    /// What a bin's key says of a counter: nothing where its nodes lack the label.
    fn count(&self, counter: &Counter, key: &[i64]) -> Option<i64> {
        let value = key[counter.at];
        if counter.fine {
            return (value != MISSING || counter.what == What::Pull).then_some(value);
        }
        let domain = u32::try_from(value).ok()?;
        Some(counter.get(domain))
    }

    /// What keeps a pod from all nodes of a bin.
    fn block(&self, key: &[i64]) -> Option<Block> {
        let counted = |at: usize| self.count(&self.counters[at], key);
        let least = |at: usize, min_domains| self.counters[at].least(min_domains);
        self.first_block(&counted, &least, self.drawn(&[]))
    }

    /// How many pods this one wants to be near, wherever they are.
    fn drawn(&self, less: &[i64]) -> i64 {
        let all = self.counters.iter().enumerate();
        all.filter(|(_, counter)| matches!(counter.what, What::Near(_)))
            .map(|(at, counter)| counter.total - less.get(at).copied().unwrap_or(0))
            .sum()
    }

    /// The first rule about other pods that is against a place, by what is counted there.
    fn first_block(
        &self,
        counted: &dyn Fn(usize) -> Option<i64>,
        least: &dyn Fn(usize, Option<i64>) -> Option<i64>,
        drawn: i64,
    ) -> Option<Block> {
        let mut near = true;
        let mut block = None;
        for (at, counter) in self.counters.iter().enumerate() {
            let against = match counter.what {
                What::Hard(term) => {
                    let spread = &self.terms.hard[term];
                    let Some(count) = counted(at) else {
                        return Some(Block::MissingLabel);
                    };
                    let after = count + i64::from(spread.counts_itself);
                    least(at, spread.min_domains)
                        .is_some_and(|least| after - least > spread.max_skew)
                        .then_some(Block::Skew)
                }
                What::Near(_) => {
                    let count = counted(at);
                    near &= count.is_some_and(|count| count > 0);
                    // The first of its kind goes anywhere, as long as the label is there.
                    count.is_none().then_some(Block::Near)
                }
                What::Away(_) => counted(at).is_some_and(|count| count > 0).then_some(Block::Away),
                What::Unwelcome => counted(at).is_some_and(|count| count > 0).then_some(Block::Unwelcome),
                What::Soft(_) | What::Pull => None,
            };
            block = first(block, against);
        }
        if !(near || drawn == 0 && self.draws_itself) {
            block = first(block, Some(Block::Near));
        }
        block
    }

    fn pull(&self, key: &[i64]) -> i64 {
        let pulls = self.counters.iter().filter(|counter| counter.what == What::Pull);
        pulls.filter_map(|counter| self.count(counter, key)).sum()
    }

    /// Works out the raw spread of each candidate.
    fn score_spread(&self, board: &Board, candidates: &mut [Candidate]) {
        let soft: Vec<(&Counter, i64)> = self
            .counters
            .iter()
            .filter_map(|counter| match counter.what {
                What::Soft(term) => Some((counter, self.terms.soft[term].max_skew)),
                _ => None,
            })
            .collect();
        if soft.is_empty() {
            return;
        }
        let ignored = |candidate: &Candidate| {
            let key = &self.bins[candidate.bin].key;
            self.terms.soft_needs_all && soft.iter().any(|(counter, _)| self.count(counter, key).is_none())
        };
        let scored: Vec<usize> = (0..candidates.len()).filter(|at| !ignored(&candidates[*at])).collect();
        let sizes: Vec<usize> = soft
            .iter()
            .map(|(counter, _)| {
                if board.topology.axis(counter.axis).is_hostname() {
                    return scored.iter().map(|at| candidates[*at].nodes).sum();
                }
                let keys = scored.iter().map(|at| self.bins[candidates[*at].bin].key[counter.at]);
                let mut domains: Vec<i64> = keys.filter(|domain| *domain != MISSING).collect();
                domains.sort_unstable();
                domains.dedup();
                domains.len()
            })
            .collect();
        for at in scored {
            let key = &self.bins[candidates[at].bin].key;
            let parts = soft.iter().zip(&sizes).filter_map(|((counter, max_skew), size)| {
                Some(score::spread_part(self.count(counter, key)?, *max_skew, *size))
            });
            let sum: f64 = parts.sum();
            candidates[at].spread = Some(sum.round() as i64);
        }
    }

    /// Why a node does not take a pod now; none if it does. `used` is what counts as used of it, and
    /// `less` what each counter has less than it says: pods that are gone in thought.
    pub(super) fn against<'a>(&self, board: &'a Board, node: u32, used: &Used, less: &[i64]) -> Option<Against<'a>> {
        let (_, facts) = board.seat(node)?;
        if let Some(refusal) = filter::refuses(facts, &self.shape.spec) {
            return Some(Against::Refused(refusal));
        }
        if !filter::fits(facts, used, &self.shape.request) {
            return Some(Against::Full(filter::shortages(facts, used, &self.shape.request)));
        }
        self.block_at(board, node, less).map(Against::Pods)
    }

    /// What other pods have against this one at a node.
    pub(super) fn block_at(&self, board: &Board, node: u32, less: &[i64]) -> Option<Block> {
        if self.counters.is_empty() {
            return None;
        }
        let here = |at: usize| {
            let counter = &self.counters[at];
            let domain = board.topology.axis(counter.axis).of(node)?;
            Some((domain, counter.get(domain) - less.get(at).copied().unwrap_or(0)))
        };
        let counted = |at: usize| here(at).map(|(_, count)| count);
        let least = |at: usize, min_domains: Option<i64>| {
            let least = self.counters[at].least(min_domains)?;
            let (domain, count) = here(at)?;
            let falls = self.counters[at].is_eligible(domain);
            Some(if falls { least.min(count) } else { least })
        };
        self.first_block(&counted, &least, self.drawn(less))
    }
}

/// The rule that comes first in the order in which rules are asked.
fn first(one: Option<Block>, other: Option<Block>) -> Option<Block> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if (other as u8) < (one as u8) { other } else { one }),
        (one, other) => one.or(other),
    }
}

fn range(values: impl Iterator<Item = i64>) -> (i64, i64) {
    let (mut least, mut most, mut any) = (i64::MAX, i64::MIN, false);
    for value in values {
        least = least.min(value);
        most = most.max(value);
        any = true;
    }
    if any { (least, most) } else { (0, 0) }
}
