//! Why a pod fits nowhere, in the words that people know from `kubectl describe`.

use std::collections::BTreeMap;

use super::{
    board::Board,
    choose::{Against, Block},
    class::Class,
    filter::Refusal,
    waiting::Why,
};

pub(super) const NO_NODES: &str = "no nodes available to schedule pods";
const PINNED: &str = "node(s) didn't satisfy plugin(s) [NodeAffinity]";
const VOLUMES: &str = "node(s) had volume node affinity conflict";

/// Reasons and for how many nodes each holds.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<String, usize>);

impl Tally {
    pub(super) fn add(&mut self, reason: &str) {
        match self.0.get_mut(reason) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(reason.to_owned(), 1)),
        }
    }

    pub(super) fn add_against(&mut self, against: &Against<'_>) {
        match against {
            Against::Refused(refusal) => self.add(&refusal.to_string()),
            Against::Full(shortages) => shortages.iter().for_each(|it| self.add(&it.reason)),
            Against::Pods(block) => self.add(block.text()),
        }
    }

    /// `0/3 nodes are available: 1 Insufficient cpu, 2 Too many pods.`
    pub(super) fn text(&self, nodes: usize) -> String {
        let mut reasons: Vec<String> = self
            .0
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        // As texts, as the original does: 10 comes before 2.
        reasons.sort();
        whole(nodes, &reasons.join(", "))
    }
}

/// The sentence around reasons.
pub(super) fn whole(nodes: usize, reasons: &str) -> String {
    format!("0/{nodes} nodes are available: {reasons}.")
}

/// Which nodes a pod may go to, apart from what its class says.
#[derive(Clone, Debug, Default)]
pub(super) struct Range {
    /// The one node that it asks for by name; none where there is no such node.
    pub(super) pin: Option<Option<u32>>,
    /// The nodes that can reach its volumes.
    pub(super) volumes: Option<Vec<u32>>,
}

impl Range {
    /// The nodes that are left; none where all are.
    pub(super) fn nodes(&self) -> Option<Vec<u32>> {
        match (&self.pin, &self.volumes) {
            (None, None) => None,
            (None, Some(volumes)) => Some(volumes.clone()),
            (Some(pin), volumes) => {
                let reached = |node: &u32| volumes.as_ref().is_none_or(|volumes| volumes.contains(node));
                Some(pin.iter().copied().filter(reached).collect())
            }
        }
    }
}

/// Why a class fits nowhere: the sentence, and what kinds of reasons there are.
pub(super) fn unfit(board: &Board, class: &Class, range: &Range) -> (String, Why) {
    let mut why = Why::default();
    if board.known() == 0 {
        why.nodes = true;
        return (NO_NODES.to_owned(), why);
    }
    let mut tally = Tally::default();
    for (node, seat, _) in board.seats() {
        if range.pin.is_some_and(|pin| pin != Some(node)) {
            why.nodes = true;
            tally.add(PINNED);
            continue;
        }
        let used = board.used_for(seat, class.shape.priority);
        let against = class.against(board, node, &used, &[]);
        let reached = range.volumes.as_ref().is_none_or(|volumes| volumes.contains(&node));
        if !reached && matches!(against, None | Some(Against::Pods(_))) {
            why.volumes = true;
            tally.add(VOLUMES);
            continue;
        }
        let Some(against) = against else { continue };
        match &against {
            Against::Refused(Refusal::Unschedulable | Refusal::Taint(_) | Refusal::Affinity) => why.nodes = true,
            Against::Full(_) => why.room = true,
            Against::Pods(Block::MissingLabel) => why.nodes = true,
            Against::Pods(Block::Skew) => why.spread = true,
            Against::Pods(Block::Near) => why.near = true,
            Against::Pods(Block::Away | Block::Unwelcome) => why.away = true,
        }
        tally.add_against(&against);
    }
    (tally.text(board.known()), why)
}
