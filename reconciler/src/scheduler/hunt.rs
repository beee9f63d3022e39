//! Where preemption would hurt least: the cost of each node for one class, kept current node by node.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use rustc_hash::FxHashMap;

use super::{
    board::Board,
    budgets::Budgets,
    class::Class,
    preempt::{self, Victims},
};

/// What preemption on a node costs: the lower, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cost {
    /// How many victims no budget allows.
    pub(super) violations: usize,
    /// The priority of the most important victim.
    pub(super) highest: i32,
    /// The sum of the priorities, each counted from the lowest one there can be.
    pub(super) sum: i64,
    pub(super) victims: usize,
    /// When the first of the most important victims started: better a short time ago.
    pub(super) started: Reverse<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Spot {
    cost: Cost,
    tie: u64,
    node: u32,
    stamp: u32,
}

#[derive(Debug, Default)]
pub(super) struct Hunt {
    stamps: Vec<u32>,
    heap: BinaryHeap<Reverse<Spot>>,
    dirty: Vec<u32>,
    /// Nodes with pods that budgets of a namespace could hold back.
    covered: FxHashMap<Arc<str>, Vec<u32>>,
    seen: usize,
}

impl Hunt {
    /// Looks at all nodes.
    pub(super) fn new(board: &Board, class: &Class, budgets: &Budgets) -> Self {
        let mut hunt = Self {
            stamps: vec![0; board.nodes.len()],
            seen: budgets.changes(),
            ..Self::default()
        };
        for (node, _, _) in board.seats() {
            hunt.look(board, class, budgets, node);
        }
        hunt
    }

    /// Something happened on a node.
    pub(super) fn look_again(&mut self, node: u32) {
        self.dirty.push(node);
    }

    /// The node where it costs least, with those that would have to go; none if it helps nowhere.
    pub(super) fn best(&mut self, board: &Board, class: &Class, budgets: &Budgets) -> Option<(u32, Victims)> {
        let changed = budgets.changed_since(self.seen).unwrap_or_default();
        for namespace in changed {
            self.dirty.extend(self.covered.remove(namespace).unwrap_or_default());
        }
        self.seen = budgets.changes();
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        for node in dirty {
            self.look(board, class, budgets, node);
        }
        while let Some(Reverse(spot)) = self.heap.peek() {
            if self.stamps.get(spot.node as usize) == Some(&spot.stamp) {
                let node = spot.node;
                return preempt::victims(board, class, budgets, node)
                    .ok()
                    .map(|victims| (node, victims));
            }
            self.heap.pop();
        }
        None
    }

    /// Whether too many changes of budgets were missed to go on.
    pub(super) fn is_lost(&self, budgets: &Budgets) -> bool {
        budgets.changed_since(self.seen).is_none()
    }

    fn look(&mut self, board: &Board, class: &Class, budgets: &Budgets, node: u32) {
        let at = node as usize;
        if self.stamps.len() <= at {
            self.stamps.resize(at + 1, 0);
        }
        self.stamps[at] += 1;
        let Some((seat, _)) = board.seat(node) else { return };
        for pod in seat.pods.iter().filter_map(|pod| board.pod(*pod)) {
            let namespace = pod.object.namespace();
            if pod.asked.shape.priority < class.shape.priority && budgets.covers(namespace) {
                let nodes = self.covered.entry(namespace.into()).or_default();
                if nodes.last() != Some(&node) {
                    nodes.push(node);
                }
            }
        }
        if let Ok(victims) = preempt::victims(board, class, budgets, node) {
            self.heap.push(Reverse(Spot {
                cost: victims.cost,
                tie: seat.tie,
                node,
                stamp: self.stamps[at],
            }));
        }
    }
}
