//! What is worked out once for all pods of a group: which nodes may take one, and how good each is.
//!
//! Nodes that only differ in how full they are share a *bin*: the same taints and labels that matter,
//! the same domains, the same counts of other pods. A bin has one heap of its nodes by what is left
//! of the score. So a placement costs a look at the bins, not at the nodes, and what happened since
//! then is read from the board's log, move by move.

use std::{
    collections::{BTreeSet, BinaryHeap},
    sync::Arc,
};

use rustc_hash::FxHashMap;

use super::{
    board::{Board, Event, Move, Seat},
    counter::{Counter, What},
    decide::Failed,
    filter,
    group::{Group, GroupId, Shape},
    hunt::Hunt,
    node::Facts,
    score,
    terms::{Peer, Spread, Terms},
    topology::NOWHERE,
};

/// Where the parts of a bin's key stand.
pub(super) const TAINTS: usize = 0;
pub(super) const LIKED: usize = 1;
const FIRST: usize = 2;
/// A missing domain or count in a key.
pub(super) const MISSING: i64 = -1;
/// A class that knows more groups than this is worked out anew, to forget those that are gone.
const GROUPS: usize = 50_000;
/// Fewer moves than this are always caught up with.
const FEW: u64 = 1_024;

#[derive(Debug)]
pub(super) struct Class {
    pub(super) shape: Arc<Shape>,
    pub(super) peer: Arc<Peer>,
    pub(super) terms: Arc<Terms>,
    pub(super) counters: Vec<Counter>,
    pub(super) places: Vec<Place>,
    pub(super) bins: Vec<Bin>,
    /// The pod matches its own required affinities: the first of its kind may go anywhere.
    pub(super) draws_itself: bool,
    /// Where preemption would hurt least; worked out when it is first asked for.
    pub(super) hunt: Option<Hunt>,
    /// Why the last pod did not fit.
    pub(super) failed: Option<Failed>,
    /// When it was last used, to tell which class to forget first.
    pub(super) used: u64,
    index: FxHashMap<Box<[i64]>, u32>,
    coarse: Vec<usize>,
    weights: FxHashMap<GroupId, Box<[(usize, i64)]>>,
    seen: u64,
    images: u64,
}

/// A node as this class sees it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) bin: u32,
    pub(super) stamp: u32,
    taints: i64,
    liked: i64,
    images: i64,
    /// By counter of a spread: whether pods on this node count.
    eligible: u64,
    /// The node does not refuse the pod.
    pub(super) open: bool,
    /// It has room, too.
    pub(super) live: bool,
}

/// Nodes that differ only in how full they are.
#[derive(Debug)]
pub(super) struct Bin {
    pub(super) key: Box<[i64]>,
    /// How many nodes with room it has.
    pub(super) live: u32,
    heap: BinaryHeap<Entry>,
}

/// A node in a heap: the better, the higher. Out of date once the stamp of its place is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// What is left of the score, then fewer pods, then the node's own number for ties.
    pub(super) rank: u64,
    pub(super) node: u32,
    stamp: u32,
}

/// The score in a rank.
pub(super) fn score_of(rank: u64) -> i64 {
    (rank >> (super::board::TIE_BITS + PODS_BITS)) as i64
}

/// The part of a rank that decides between equal scores.
pub(super) fn rest_of(rank: u64) -> u64 {
    rank & ((1 << (super::board::TIE_BITS + PODS_BITS)) - 1)
}

const PODS_BITS: u32 = 14;
const MOST_PODS: i64 = (1 << PODS_BITS) - 1;

/// Builds a rank.
pub(super) fn rank(score: i64, pods: i64, tie: u64) -> u64 {
    let fewer = (MOST_PODS - pods.clamp(0, MOST_PODS)) as u64;
    let score = score.max(0) as u64;
    (score << (super::board::TIE_BITS + PODS_BITS)) | (fewer << super::board::TIE_BITS) | tie
}

impl Class {
    /// Works a group out from all nodes and all pods that matter to it.
    pub(super) fn new(board: &Board, group: &Group) -> Self {
        let (peer, terms) = (group.peer.clone(), group.terms.clone());
        let draws_itself = !terms.near.is_empty() && terms.near.iter().all(|term| term.matches(&peer, &board.spaces));
        let mut class = Self {
            shape: group.shape.clone(),
            counters: counters(board, &peer, &terms),
            peer,
            terms,
            places: vec![Place::default(); board.nodes.len()],
            bins: Vec::new(),
            draws_itself,
            hunt: None,
            failed: None,
            used: 0,
            index: FxHashMap::default(),
            coarse: Vec::new(),
            weights: FxHashMap::default(),
            seen: board.log.end(),
            images: score::images_changed(board, &group.shape),
        };
        class.lay_out_keys();
        let images = score::images(board, &class.shape);
        for (node, _, facts) in board.seats() {
            class.look(board, node, facts);
            class.places[node as usize].images = images.get(&node).copied().unwrap_or(0);
        }
        if !class.counters.is_empty() {
            class.count_all(board);
        }
        let mut heaps: Vec<Vec<Entry>> = Vec::new();
        for (node, seat, facts) in board.seats() {
            if !class.places[node as usize].open {
                continue;
            }
            let bin = class.bin_of(board, node);
            heaps.resize_with(class.bins.len(), Vec::new);
            let place = &mut class.places[node as usize];
            place.bin = bin;
            if let Some(rank) = rank_of(board, &class.shape, seat, facts, place.images) {
                place.live = true;
                class.bins[bin as usize].live += 1;
                heaps[bin as usize].push(Entry { rank, node, stamp: 0 });
            }
        }
        for (bin, heap) in class.bins.iter_mut().zip(heaps) {
            bin.heap = heap.into();
        }
        class
    }

    /// Takes in what happened since it was last used; false if it must be worked out anew.
    pub(super) fn catch_up(&mut self, board: &Board) -> bool {
        let most = FEW.max(self.places.len() as u64);
        let stale = score::images_changed(board, &self.shape) != self.images || self.weights.len() > GROUPS;
        if stale || board.log.behind(self.seen) > most {
            return false;
        }
        let Some(events) = board.log.since(self.seen) else {
            return false;
        };
        for event in events {
            if !self.follow(board, event) {
                return false;
            }
        }
        self.seen = board.log.end();
        true
    }

    /// What a pod of another group counts for, by counter. None if there is no counter for something
    /// that counts.
    pub(super) fn weigh(&self, board: &Board, group: &Group) -> Option<Vec<(usize, i64)>> {
        let mut weights = Vec::new();
        let (own, theirs) = (&*self.peer, &*group.peer);
        let draws =
            !self.terms.near.is_empty() && self.terms.near.iter().all(|term| term.matches(theirs, &board.spaces));
        let mut unwelcome: FxHashMap<usize, i64> = FxHashMap::default();
        for term in group.terms.away.iter().filter(|term| term.matches(own, &board.spaces)) {
            *unwelcome.entry(term.axis).or_insert(0) += 1;
        }
        let mut pull: FxHashMap<usize, i64> = FxHashMap::default();
        for (axis, weight) in group.terms.pull(own, &board.spaces) {
            *pull.entry(axis).or_insert(0) += weight;
        }
        let wished = self.terms.preferred.iter();
        for term in wished.filter(|term| term.matches(theirs, &board.spaces)) {
            *pull.entry(term.axis).or_insert(0) += term.weight;
        }
        for (at, counter) in self.counters.iter().enumerate() {
            let weight = match counter.what {
                What::Hard(term) => i64::from(self.terms.hard[term].counts(own, theirs)),
                What::Soft(term) => i64::from(self.terms.soft[term].counts(own, theirs)),
                What::Near(_) => i64::from(draws),
                What::Away(term) => i64::from(self.terms.away[term].matches(theirs, &board.spaces)),
                What::Unwelcome => unwelcome.remove(&counter.axis).unwrap_or(0),
                What::Pull => pull.remove(&counter.axis).unwrap_or(0),
            };
            if weight != 0 {
                weights.push((at, weight));
            }
        }
        (unwelcome.is_empty() && pull.values().all(|weight| *weight == 0)).then_some(weights)
    }

    /// What a pod counts for, for those that take some away in thought.
    pub(super) fn weights(&self, board: &Board, group: GroupId) -> Vec<(usize, i64)> {
        if self.counters.is_empty() {
            return Vec::new();
        }
        if let Some(known) = self.weights.get(&group) {
            return known.to_vec();
        }
        let group = board.groups.get(group);
        group.and_then(|group| self.weigh(board, group)).unwrap_or_default()
    }

    /// Whether a pod on this node counts for a counter.
    pub(super) fn counts_on(&self, counter: usize, node: u32) -> bool {
        let bit = 1u64.checked_shl(counter as u32).unwrap_or(0);
        !self.counters[counter].is_spread() || bit == 0 || self.places[node as usize].eligible & bit != 0
    }

    fn follow(&mut self, board: &Board, event: Event) -> bool {
        let Event { node, group, what } = event;
        if self.places.len() < board.nodes.len() {
            self.places.resize(board.nodes.len(), Place::default());
        }
        let sign = match what {
            Move::Node => {
                if !self.counters.is_empty() {
                    return false;
                }
                match board.seat(node) {
                    Some((_, facts)) => self.look(board, node, facts),
                    None => self.close(node),
                }
                self.sort_in(board, node);
                return true;
            }
            Move::Nominated(priority) | Move::Dismissed(priority) if priority < self.shape.priority => return true,
            Move::Arrived | Move::Ending(false) | Move::Nominated(_) => 1,
            Move::Left { .. } | Move::Ending(true) | Move::Dismissed(_) => -1,
        };
        if let Some(hunt) = &mut self.hunt {
            hunt.look_again(node);
        }
        // One that counted nothing so far may be concerned by a group that has come.
        let wishes = || {
            board
                .groups
                .get(group)
                .is_some_and(|group| group.terms.concern_others())
        };
        let counts = !self.counters.is_empty() || (sign > 0 && wishes());
        if counts && !self.count_move(board, node, group, what, sign) {
            return false;
        }
        if !matches!(what, Move::Ending(_)) {
            self.sort_in(board, node);
        }
        true
    }

    /// Counts a move; false if there is no counter for something that counts.
    fn count_move(&mut self, board: &Board, node: u32, id: GroupId, what: Move, sign: i64) -> bool {
        if !self.weights.contains_key(&id) {
            // A group that came and went since then leaves nothing to count.
            let Some(group) = board.groups.get(id) else { return true };
            let Some(weights) = self.weigh(board, group) else {
                return false;
            };
            self.weights.insert(id, weights.into());
        }
        let Some(weights) = self.weights.get(&id) else {
            return true;
        };
        let mut moved = Vec::new();
        for (at, weight) in weights {
            let eligible = self.counts_on(*at, node);
            let counter = &mut self.counters[*at];
            let counts = match what {
                Move::Nominated(_) | Move::Dismissed(_) => counter.counts_nominated(),
                Move::Ending(_) => counter.is_spread(),
                // What was being deleted was no longer counted.
                Move::Left { ending } => !(ending && counter.is_spread()),
                Move::Arrived | Move::Node => true,
            };
            if !counts || !eligible {
                continue;
            }
            let Some(domain) = board.topology.axis(counter.axis).of(node) else {
                continue;
            };
            counter.add(domain, sign * weight);
            let everywhere = counter.filters() && (!counter.fine || matches!(counter.what, What::Hard(_)));
            if everywhere {
                self.hunt = None;
            }
            if counter.fine {
                moved.push((counter.axis, domain));
            }
        }
        moved.dedup();
        for (axis, domain) in moved {
            for member in board.topology.axis(axis).members(domain) {
                if *member != node || matches!(what, Move::Ending(_)) {
                    if let Some(hunt) = &mut self.hunt {
                        hunt.look_again(*member);
                    }
                    self.sort_in(board, *member);
                }
            }
        }
        true
    }

    /// Decides where each counter stands in the key of a bin.
    fn lay_out_keys(&mut self) {
        let mut coarse: Vec<usize> = Vec::new();
        for counter in &mut self.counters {
            if counter.fine {
                continue;
            }
            let at = coarse.iter().position(|axis| *axis == counter.axis);
            let at = at.unwrap_or_else(|| {
                coarse.push(counter.axis);
                coarse.len() - 1
            });
            counter.at = FIRST + at;
        }
        let fine = self.counters.iter_mut().filter(|counter| counter.fine);
        for (at, counter) in fine.enumerate() {
            counter.at = FIRST + coarse.len() + at;
        }
        self.coarse = coarse;
    }

    fn close(&mut self, node: u32) {
        let place = &mut self.places[node as usize];
        if place.live {
            self.bins[place.bin as usize].live -= 1;
        }
        place.live = false;
        place.open = false;
        place.stamp += 1;
    }

    /// Looks at what a node says.
    fn look(&mut self, board: &Board, node: u32, facts: &Facts) {
        let spec = &self.shape.spec;
        let in_all = |spreads: &[Spread]| {
            let mut axes = spreads.iter().map(|spread| spread.axis);
            axes.all(|axis| board.topology.axis(axis).of(node).is_some())
        };
        let hard = in_all(&self.terms.hard);
        let soft = !self.terms.soft_needs_all || in_all(&self.terms.soft);
        let open = hard && filter::refuses(facts, spec).is_none();
        let mut eligible = 0;
        for (at, counter) in self.counters.iter_mut().enumerate() {
            let (spread, whole) = match counter.what {
                What::Hard(term) => (&self.terms.hard[term], hard),
                What::Soft(term) => (&self.terms.soft[term], soft),
                _ => continue,
            };
            let counts = whole
                && (!spread.by_affinity || filter::selects(facts, spec))
                && (!spread.by_taints || filter::untolerated(facts, spec).is_none());
            if let Some(domain) = board.topology.axis(counter.axis).of(node) {
                counter.add_node(domain, counts);
                eligible |= u64::from(counts).checked_shl(at as u32).unwrap_or(0);
            }
        }
        let place = &mut self.places[node as usize];
        place.eligible = eligible;
        place.taints = score::soft_taints(facts, spec);
        place.liked = score::preferred(facts, spec);
        if open {
            place.open = true;
        } else if place.open {
            self.close(node);
        }
    }

    /// Counts all pods that are placed.
    fn count_all(&mut self, board: &Board) {
        let terms = self.terms.clone();
        let wide = terms.concern_others();
        let mut groups: Vec<(GroupId, &Group)> = if wide {
            board.groups.all().collect()
        } else {
            let near = board.groups.in_namespace(&self.peer.namespace);
            near.chain(board.groups.concerned()).collect()
        };
        groups.sort_unstable_by_key(|(id, _)| *id);
        groups.dedup_by_key(|(id, _)| *id);
        for (id, group) in groups {
            let Some(weights) = self.weigh(board, group) else {
                continue;
            };
            if weights.is_empty() {
                continue;
            }
            for (at, weight) in &weights {
                for (node, count) in &group.placed {
                    let eligible = self.counts_on(*at, *node);
                    let counter = &mut self.counters[*at];
                    if !eligible {
                        continue;
                    }
                    let pods = count.all - if counter.is_spread() { count.ending } else { 0 };
                    if let Some(domain) = board.topology.axis(counter.axis).of(*node) {
                        counter.add(domain, weight * i64::from(pods));
                    }
                }
            }
            self.weights.insert(id, weights.into());
        }
        for (node, seat, _) in board.seats() {
            for nominated in &seat.nominated {
                if nominated.priority >= self.shape.priority {
                    self.count_nominated(board, node, nominated.group);
                }
            }
        }
    }

    fn count_nominated(&mut self, board: &Board, node: u32, group: GroupId) {
        for (at, weight) in self.weights(board, group) {
            let eligible = self.counts_on(at, node);
            let counter = &mut self.counters[at];
            if counter.counts_nominated()
                && eligible
                && let Some(domain) = board.topology.axis(counter.axis).of(node)
            {
                counter.add(domain, weight);
            }
        }
    }

    /// The bin that a node is in now; a new one, if there is none like it.
    fn bin_of(&mut self, board: &Board, node: u32) -> u32 {
        let place = &self.places[node as usize];
        let mut key = vec![MISSING; FIRST + self.coarse.len()];
        key[TAINTS] = place.taints;
        key[LIKED] = place.liked;
        for (at, axis) in self.coarse.iter().enumerate() {
            let domain = board.topology.axis(*axis).of(node);
            key[FIRST + at] = domain.map_or(MISSING, i64::from);
        }
        for counter in self.counters.iter().filter(|counter| counter.fine) {
            let domain = board.topology.axis(counter.axis).of(node);
            let count = domain.map_or(MISSING, |domain| counter.get(domain));
            key.push(match counter.what {
                What::Pull => domain.map_or(0, |_| count),
                What::Near(_) | What::Away(_) | What::Unwelcome => count.min(1),
                What::Hard(_) | What::Soft(_) => count,
            });
        }
        if let Some(bin) = self.index.get(&*key) {
            return *bin;
        }
        let key: Box<[i64]> = key.into();
        // There are at most as many bins as nodes, for each time that it is worked out anew.
        let bin = u32::try_from(self.bins.len()).unwrap_or(NOWHERE);
        self.bins.push(Bin {
            key: key.clone(),
            live: 0,
            heap: BinaryHeap::new(),
        });
        self.index.insert(key, bin);
        bin
    }

    /// Puts a node that changed where it belongs.
    fn sort_in(&mut self, board: &Board, node: u32) {
        if !self.places[node as usize].open {
            return;
        }
        let Some((seat, facts)) = board.seat(node) else { return };
        let bin = if self.counters.is_empty() && !self.moved(node) {
            self.places[node as usize].bin
        } else {
            self.bin_of(board, node)
        };
        let place = &mut self.places[node as usize];
        if place.live {
            self.bins[place.bin as usize].live -= 1;
        }
        place.stamp += 1;
        place.bin = bin;
        let rank = rank_of(board, &self.shape, seat, facts, place.images);
        place.live = rank.is_some();
        if let Some(rank) = rank {
            let stamp = place.stamp;
            let bin = &mut self.bins[bin as usize];
            bin.live += 1;
            bin.heap.push(Entry { rank, node, stamp });
            if bin.heap.len() > 64 + 4 * bin.live as usize {
                let places = &self.places;
                bin.heap
                    .retain(|entry| places[entry.node as usize].stamp == entry.stamp);
            }
        }
    }

    /// Whether what a node says is another than its bin says.
    fn moved(&self, node: u32) -> bool {
        let place = &self.places[node as usize];
        let bin = self.bins.get(place.bin as usize);
        bin.is_none_or(|bin| bin.key[TAINTS] != place.taints || bin.key[LIKED] != place.liked)
    }

    /// The best node of a bin.
    pub(super) fn head(&mut self, bin: usize) -> Option<Entry> {
        let bin = &mut self.bins[bin];
        while let Some(entry) = bin.heap.peek() {
            if self.places[entry.node as usize].stamp == entry.stamp {
                return Some(*entry);
            }
            bin.heap.pop();
        }
        None
    }

    /// A node's rank in its bin.
    pub(super) fn rank(&self, board: &Board, node: u32) -> Option<u64> {
        let (seat, facts) = board.seat(node)?;
        rank_of(board, &self.shape, seat, facts, self.places[node as usize].images)
    }
}

/// The rank of a node with room; none if it is too full.
fn rank_of(board: &Board, shape: &Shape, seat: &Seat, facts: &Facts, images: i64) -> Option<u64> {
    board.fits(seat, facts, &shape.request, shape.priority).then(|| {
        rank(
            score::fill(facts, &seat.used, &shape.request) + images,
            seat.used.pods,
            seat.tie,
        )
    })
}

/// The counters that a group needs.
fn counters(board: &Board, peer: &Peer, terms: &Terms) -> Vec<Counter> {
    let mut unwelcome = BTreeSet::new();
    let mut pull: BTreeSet<usize> = terms.preferred.iter().map(|term| term.axis).collect();
    for (_, group) in board.groups.concerned() {
        let away = group.terms.away.iter().filter(|term| term.matches(peer, &board.spaces));
        unwelcome.extend(away.map(|term| term.axis));
        pull.extend(group.terms.pull(peer, &board.spaces).map(|(axis, _)| axis));
    }
    let soft_axes: Vec<usize> = terms.soft.iter().map(|spread| spread.axis).collect();
    let counter = |axis: usize, what: What| {
        let known = board.topology.axis(axis);
        // A soft spread asks how many domains there are: its domains stay apart, but for hosts.
        let fine = known.is_hostname() || (known.is_fine() && !soft_axes.contains(&axis));
        Counter::new(axis, what, fine)
    };
    let mut all = Vec::new();
    all.extend(
        terms
            .hard
            .iter()
            .enumerate()
            .map(|(at, it)| counter(it.axis, What::Hard(at))),
    );
    all.extend(
        terms
            .soft
            .iter()
            .enumerate()
            .map(|(at, it)| counter(it.axis, What::Soft(at))),
    );
    all.extend(
        terms
            .near
            .iter()
            .enumerate()
            .map(|(at, it)| counter(it.axis, What::Near(at))),
    );
    all.extend(
        terms
            .away
            .iter()
            .enumerate()
            .map(|(at, it)| counter(it.axis, What::Away(at))),
    );
    all.extend(unwelcome.into_iter().map(|axis| counter(axis, What::Unwelcome)));
    all.extend(pull.into_iter().map(|axis| counter(axis, What::Pull)));
    all
}

#[cfg(test)]
impl Class {
    /// All that is known of a node, in words.
    pub(super) fn described(&self, node: u32) -> String {
        let place = &self.places[node as usize];
        let key = place.open.then(|| &self.bins[place.bin as usize].key);
        let named = key.map(|key| {
            let counters = self.counters.iter().filter_map(|counter| {
                let value = key[counter.at];
                let count = match u32::try_from(value) {
                    Ok(domain) if !counter.fine => counter.get(domain),
                    _ => value,
                };
                // One that counts nothing is as good as none.
                let idle = matches!(counter.what, What::Unwelcome | What::Pull) && (count == 0 || value == MISSING);
                (!idle).then(|| format!("{:?}/{}={count}/{:?}", counter.what, counter.axis, counter.least(None)))
            });
            format!("{:?} {:?}", &key[..FIRST], counters.collect::<Vec<_>>())
        });
        format!(
            "open {} live {} eligible {} {named:?}",
            place.open, place.live, place.eligible
        )
    }
}
