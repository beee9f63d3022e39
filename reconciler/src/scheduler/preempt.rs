//! Preemption: which pods would have to go from a node so that a more important one fits.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/>

use std::cmp::Reverse;

use schemas::Object;

use super::{
    board::{Board, Pod},
    budgets::Budgets,
    choose::Against,
    class::Class,
    filter,
    hunt::{Cost, Hunt},
    message::Tally,
    node::Used,
    resources::BASIC,
};

/// Those who would have to go.
#[derive(Clone, Debug)]
pub(super) struct Victims {
    /// None where those that are on their way out make room enough.
    pub(super) pods: Vec<u32>,
    pub(super) cost: Cost,
}

/// Why preemption on a node is of no use.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Spared<'a> {
    /// Pods are not what is in the way.
    NotHelpful,
    /// No pod there is less important.
    Nobody,
    /// It would not fit although all less important pods were gone.
    Still(Against<'a>),
}

const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";
const NOBODY: &str = "No preemption victims found for incoming pod";

/// Pods taken away in thought.
struct Thought<'a> {
    board: &'a Board,
    class: &'a Class,
    node: u32,
    used: Used,
    less: Vec<i64>,
}

impl Thought<'_> {
    fn change(&mut self, pod: &Pod, gone: bool) {
        let request = &pod.asked.shape.request;
        if gone {
            self.used.sub(request);
        } else {
            self.used.add(request);
        }
        for (at, weight) in self.class.weights(self.board, pod.group) {
            let counter = &self.class.counters[at];
            if self.class.counts_on(at, self.node) && !(pod.ending && counter.is_spread()) {
                self.less[at] += if gone { weight } else { -weight };
            }
        }
    }

    fn fits(&self) -> bool {
        let seat = self.board.seat(self.node);
        seat.is_some_and(|(_, facts)| {
            filter::fits(facts, &self.used, &self.class.shape.request)
                && self.class.block_at(self.board, self.node, &self.less).is_none()
        })
    }
}

/// Finds the least important pods that would have to go from a node.
pub(super) fn victims<'a>(
    board: &'a Board,
    class: &Class,
    budgets: &Budgets,
    node: u32,
) -> Result<Victims, Spared<'a>> {
    let Some((seat, facts)) = board.seat(node) else {
        return Err(Spared::NotHelpful);
    };
    let (shape, place) = (&class.shape, class.places.get(node as usize));
    let request = &shape.request.resources;
    let too_small = (0..BASIC.len()).any(|at| request.basic[at] > facts.allocatable.basic[at].max(0))
        || request
            .extended
            .iter()
            .any(|(name, amount)| *amount > facts.allocatable.extended(name));
    if too_small || !place.is_some_and(|place| place.open) {
        return Err(Spared::NotHelpful);
    }
    let used = board.used_for(seat, shape.priority);
    if filter::fits(facts, &used, &shape.request)
        && let Some(block) = class.block_at(board, node, &[])
        && !block.is_by_pods()
    {
        return Err(Spared::NotHelpful);
    }
    let lower = |at: &u32| {
        let pod = board.pod(*at)?;
        (pod.asked.shape.priority < shape.priority).then_some((*at, pod))
    };
    let lower: Vec<(u32, &Pod)> = seat.pods.iter().filter_map(lower).collect();
    if lower.is_empty() {
        return Err(Spared::Nobody);
    }
    let mut thought = Thought {
        board,
        class,
        node,
        used: used.into_owned(),
        less: vec![0; class.counters.len()],
    };
    for (_, pod) in &lower {
        thought.change(pod, true);
    }
    if !thought.fits()
        && let Some(against) = class.against(board, node, &thought.used, &thought.less)
    {
        return Err(Spared::Still(against));
    }
    // What is on its way out needs no spell to go, and none brings it back.
    let mut staying: Vec<(u32, &Pod)> = lower.into_iter().filter(|(_, pod)| !pod.ending).collect();
    staying.sort_by(|(_, a), (_, b)| importance(a).cmp(&importance(b)));
    let objects: Vec<&Object> = staying.iter().map(|(_, pod)| &*pod.object).collect();
    let violating = budgets.violations(&objects);
    let mut chosen: Vec<(u32, &Pod)> = Vec::new();
    let mut violations = 0;
    for violates in [true, false] {
        for ((at, pod), _) in staying.iter().zip(&violating).filter(|(_, it)| **it == violates) {
            thought.change(pod, false);
            if !thought.fits() {
                thought.change(pod, true);
                chosen.push((*at, pod));
                violations += usize::from(violates);
            }
        }
    }
    chosen.sort_by(|(_, a), (_, b)| importance(a).cmp(&importance(b)));
    let cost = cost(&chosen, violations);
    Ok(Victims {
        pods: chosen.into_iter().map(|(at, _)| at).collect(),
        cost,
    })
}

/// More important pods come first: those of a higher priority, then those that run for longer.
fn importance(pod: &Pod) -> (Reverse<i32>, i64, &str, &str) {
    (
        Reverse(pod.asked.shape.priority),
        pod.started,
        pod.object.namespace(),
        pod.object.name(),
    )
}

fn cost(victims: &[(u32, &Pod)], violations: usize) -> Cost {
    let priority = |pod: &Pod| pod.asked.shape.priority;
    let highest = victims.iter().map(|(_, pod)| priority(pod)).max();
    let first = victims
        .iter()
        .filter(|(_, pod)| Some(priority(pod)) == highest)
        .map(|(_, pod)| pod.started)
        .min();
    Cost {
        violations,
        highest: highest.unwrap_or(i32::MIN),
        sum: victims
            .iter()
            .map(|(_, pod)| i64::from(priority(pod)) + i64::from(i32::MAX) + 1)
            .sum(),
        victims: victims.len(),
        started: Reverse(first.unwrap_or(i64::MAX)),
    }
}

/// The best node for a pod that fits nowhere, of all or of `only` these; or why there is none.
pub(super) fn preempt(
    board: &Board,
    class: &mut Class,
    budgets: &Budgets,
    only: Option<&[u32]>,
) -> Result<(u32, Victims), String> {
    let found = match only {
        Some(nodes) => {
            let each = nodes.iter().filter_map(|node| {
                let victims = victims(board, class, budgets, *node).ok()?;
                let tie = board.seat(*node)?.0.tie;
                Some((victims.cost, tie, *node, victims))
            });
            each.min_by_key(|(cost, tie, node, _)| (*cost, *tie, *node))
                .map(|(_, _, node, victims)| (node, victims))
        }
        None => {
            let hunt = class.hunt.take().filter(|hunt| !hunt.is_lost(budgets));
            let mut hunt = hunt.unwrap_or_else(|| Hunt::new(board, class, budgets));
            let found = hunt.best(board, class, budgets);
            class.hunt = Some(hunt);
            found
        }
    };
    found.ok_or_else(|| no_use(board, class, budgets, only))
}

/// Why preemption helps nowhere, by reason and count.
fn no_use(board: &Board, class: &Class, budgets: &Budgets, only: Option<&[u32]>) -> String {
    let mut tally = Tally::default();
    for (node, _, _) in board.seats() {
        if only.is_some_and(|only| !only.contains(&node)) {
            tally.add(NOT_HELPFUL);
            continue;
        }
        match victims(board, class, budgets, node) {
            // It would help, if it were of use to wait for it.
            Ok(_) | Err(Spared::NotHelpful) => tally.add(NOT_HELPFUL),
            Err(Spared::Nobody) => tally.add(NOBODY),
            Err(Spared::Still(against)) => tally.add_against(&against),
        }
    }
    tally.text(board.known())
}

/// The same for a pod that no node could take.
pub(super) fn helpless(nodes: usize) -> String {
    let mut tally = Tally::default();
    (0..nodes).for_each(|_| tally.add(NOT_HELPFUL));
    tally.text(nodes)
}
