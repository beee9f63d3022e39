//! Pods that wait for a node: which is next, which wait a little, and which wait for something to
//! happen.
//!
//! Pods that were tried in vain are kept in *lots* of equal ones. When something happens that could
//! help a lot, its first pod is tried; the next only if that one found a node. So a thousand pods that
//! do not fit cost as much as one.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rustc_hash::FxHashMap;

use super::group::GroupId;

/// How long a pod waits after it was tried in vain: this long at first, then twice as long each time.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LAST_DELAY: Duration = Duration::from_secs(10);
/// A lot that nothing has woken for this long is tried all the same.
const LONG: Duration = Duration::from_secs(300);

/// The order in which pods are tried: the more important first, then those that were made earlier.
/// Of those made in the same second, equal ones come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    priority: Reverse<i32>,
    created: i64,
    group: GroupId,
    arrival: u64,
}

/// Pods that are tried in vain for the same reasons: equal ones. A pod that may only go to certain
/// nodes of its own is a lot of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Lot {
    pub(super) group: GroupId,
    /// The number of the pod, for one that is like no other.
    pub(super) own: Option<u32>,
}

/// What was against pods of a lot, on one node or another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Why {
    /// What nodes say, or that there are none.
    pub(super) nodes: bool,
    pub(super) room: bool,
    pub(super) spread: bool,
    pub(super) near: bool,
    pub(super) away: bool,
    pub(super) volumes: bool,
}

impl Why {
    /// Whether it depends on where other pods are, and not only on how full a node is.
    pub(super) fn is_by_pods(self) -> bool {
        self.spread || self.near || self.away
    }
}

/// A lot that waits for something to happen.
#[derive(Debug)]
pub(super) struct Parked {
    pods: BTreeSet<(Order, u32)>,
    pub(super) why: Why,
    /// How much of the board's log it was considered with.
    pub(super) seen: u64,
    /// The one node that its pod may go to.
    pub(super) pin: Option<Arc<str>>,
    woken: bool,
    tried: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Delayed(Duration),
    Parked(Lot),
    /// Being tried, or held back by a gate.
    Out,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    order: Order,
    attempts: u32,
    /// Not before this.
    not_before: Duration,
    state: State,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    ready: BTreeSet<(Order, u32)>,
    delayed: BTreeSet<(Duration, u32)>,
    lots: BTreeMap<Lot, Parked>,
    of: FxHashMap<u32, Waiting>,
    arrivals: u64,
}

impl Queue {
    /// Takes a pod in; it is tried as soon as its turn comes.
    pub(super) fn add(&mut self, pod: u32, priority: i32, created: i64, group: GroupId) {
        self.remove(pod);
        self.arrivals += 1;
        let order = Order {
            priority: Reverse(priority),
            created,
            group,
            arrival: self.arrivals,
        };
        let waiting = Waiting {
            order,
            attempts: 0,
            not_before: Duration::ZERO,
            state: State::Ready,
        };
        self.of.insert(pod, waiting);
        self.ready.insert((order, pod));
    }

    /// The same for one that was known before under another number or look: it waits as long as it
    /// would have.
    pub(super) fn add_again(&mut self, pod: u32, priority: i32, created: i64, group: GroupId) {
        let before = self.of.get(&pod).copied();
        self.add(pod, priority, created, group);
        if let (Some(before), Some(waiting)) = (before, self.of.get_mut(&pod)) {
            waiting.attempts = before.attempts;
            waiting.not_before = before.not_before;
            self.set_delayed(pod);
        }
    }

    pub(super) fn remove(&mut self, pod: u32) {
        if let Some(waiting) = self.of.remove(&pod) {
            self.take_out(pod, waiting);
        }
    }

    fn take_out(&mut self, pod: u32, waiting: Waiting) {
        match waiting.state {
            State::Ready => drop(self.ready.remove(&(waiting.order, pod))),
            State::Delayed(until) => drop(self.delayed.remove(&(until, pod))),
            State::Parked(lot) => {
                if let Some(parked) = self.lots.get_mut(&lot) {
                    parked.pods.remove(&(waiting.order, pod));
                    if parked.pods.is_empty() {
                        self.lots.remove(&lot);
                    }
                }
            }
            State::Out => {}
        }
    }

    fn set(&mut self, pod: u32, state: State) {
        let Some(waiting) = self.of.get(&pod).copied() else {
            return;
        };
        self.take_out(pod, waiting);
        match state {
            State::Ready => drop(self.ready.insert((waiting.order, pod))),
            State::Delayed(until) => drop(self.delayed.insert((until, pod))),
            State::Parked(_) | State::Out => {}
        }
        if let Some(waiting) = self.of.get_mut(&pod) {
            waiting.state = state;
        }
    }

    fn set_delayed(&mut self, pod: u32) {
        if let Some(waiting) = self.of.get(&pod) {
            let until = waiting.not_before;
            self.set(
                pod,
                if until.is_zero() {
                    State::Ready
                } else {
                    State::Delayed(until)
                },
            );
        }
    }

    /// The pod whose turn it is. It is out of the queue until it is put back.
    pub(super) fn next(&mut self) -> Option<u32> {
        let (_, pod) = self.ready.pop_first()?;
        if let Some(waiting) = self.of.get_mut(&pod) {
            waiting.state = State::Out;
        }
        Some(pod)
    }

    /// Moves pods that have waited long enough to those that are ready, and wakes lots that nothing
    /// has woken for long.
    pub(super) fn advance(&mut self, now: Duration) {
        while let Some((due, pod)) = self.delayed.first().copied() {
            if due > now {
                break;
            }
            self.set(pod, State::Ready);
        }
        let long: Vec<Lot> = self
            .lots
            .iter()
            .filter(|(_, parked)| !parked.woken && now.saturating_sub(parked.tried) >= LONG)
            .map(|(lot, _)| *lot)
            .collect();
        for lot in long {
            self.wake(lot, now);
        }
    }

    /// When the next pod has waited long enough.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.delayed.first().map(|(due, _)| *due)
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Puts a pod back that is held back by a gate: only a change of the pod helps.
    pub(super) fn hold(&mut self, pod: u32) {
        self.set(pod, State::Out);
    }

    /// Puts a pod back as it was, to be tried again at once: what was decided did not come true.
    pub(super) fn retry(&mut self, pod: u32) {
        self.set(pod, State::Ready);
    }

    /// Parks a pod that was tried in vain.
    pub(super) fn park(&mut self, pod: u32, lot: Lot, why: Why, pin: Option<Arc<str>>, seen: u64, now: Duration) {
        let Some(waiting) = self.of.get_mut(&pod) else { return };
        waiting.attempts = waiting.attempts.saturating_add(1);
        let delay = FIRST_DELAY
            .saturating_mul(1 << (waiting.attempts - 1).min(8))
            .min(LAST_DELAY);
        waiting.not_before = now + delay;
        let order = waiting.order;
        self.set(pod, State::Parked(lot));
        let parked = self.lots.entry(lot).or_insert_with(|| Parked {
            pods: BTreeSet::new(),
            why,
            seen,
            pin,
            woken: false,
            tried: now,
        });
        parked.pods.insert((order, pod));
        parked.why = why;
        parked.seen = seen;
        parked.woken = false;
        parked.tried = now;
    }

    /// A pod found a node: the next of its lot is tried, if the lot is awake.
    pub(super) fn placed(&mut self, pod: u32, lot: Lot, now: Duration) {
        self.remove(pod);
        if self.lots.get(&lot).is_some_and(|parked| parked.woken) {
            self.promote(lot, now);
        }
    }

    /// Something happened that could help a lot.
    pub(super) fn wake(&mut self, lot: Lot, now: Duration) {
        let Some(parked) = self.lots.get_mut(&lot) else { return };
        if !std::mem::replace(&mut parked.woken, true) {
            self.promote(lot, now);
        }
    }

    /// Something happened that could help anyone.
    pub(super) fn wake_all(&mut self, now: Duration) {
        let lots: Vec<Lot> = self.asleep().map(|(lot, _)| lot).collect();
        lots.into_iter().for_each(|lot| self.wake(lot, now));
    }

    /// Something happened that could help this very pod.
    pub(super) fn wake_pod(&mut self, pod: u32, now: Duration) {
        let Some(waiting) = self.of.get(&pod).copied() else {
            return;
        };
        if matches!(waiting.state, State::Parked(_)) {
            let due = waiting.not_before;
            self.set(pod, if due <= now { State::Ready } else { State::Delayed(due) });
        }
    }

    /// Lets the first pod of a lot be tried: one that has waited long enough, or the one that has
    /// soonest.
    fn promote(&mut self, lot: Lot, now: Duration) {
        let Some(parked) = self.lots.get(&lot) else { return };
        let due = |pod: u32| self.of.get(&pod).map_or(now, |waiting| waiting.not_before);
        let first = parked.pods.iter().find(|(_, pod)| due(*pod) <= now);
        let next = first.or_else(|| parked.pods.iter().min_by_key(|(order, pod)| (due(*pod), *order)));
        let Some((_, pod)) = next.copied() else { return };
        let due = due(pod);
        self.set(pod, if due <= now { State::Ready } else { State::Delayed(due) });
    }

    /// Lots that wait, asleep.
    pub(super) fn asleep(&mut self) -> impl Iterator<Item = (Lot, &mut Parked)> {
        let lots = self.lots.iter_mut().filter(|(_, parked)| !parked.woken);
        lots.map(|(lot, parked)| (*lot, parked))
    }

    pub(super) fn has_parked(&self) -> bool {
        !self.lots.is_empty()
    }

    /// How many pods wait.
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    pub(super) fn contains(&self, pod: u32) -> bool {
        self.of.contains_key(&pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);
    const LOT: Lot = Lot { group: 1, own: None };

    fn drain(queue: &mut Queue) -> Vec<u32> {
        std::iter::from_fn(|| queue.next()).collect()
    }

    #[test]
    fn important_pods_come_first_then_older_ones_then_equal_ones_together() {
        let mut queue = Queue::default();
        for (pod, priority, created, group) in [(1, 0, 5, 1), (2, 0, 5, 2), (3, 0, 5, 1), (4, 9, 7, 2), (5, 0, 4, 2)] {
            queue.add(pod, priority, created, group);
        }
        assert_eq!(drain(&mut queue), [4, 5, 1, 3, 2]);
    }

    #[test]
    fn a_pod_that_fits_nowhere_waits_twice_as_long_each_time() {
        let mut queue = Queue::default();
        queue.add(1, 0, 0, 1);
        let mut now = NOW;
        let mut delays = Vec::new();
        for _ in 0..6 {
            assert_eq!(queue.next(), Some(1));
            queue.park(1, LOT, Why::default(), None, 0, now);
            queue.wake(LOT, now);
            assert_eq!(queue.next(), None, "it waits");
            let due = queue.next_due().expect("it is delayed");
            delays.push((due - now).as_secs());
            now = due;
            queue.advance(now);
        }
        assert_eq!(delays, [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn of_a_lot_one_is_tried_and_the_next_when_that_one_fits() {
        let mut queue = Queue::default();
        for pod in 1..=3 {
            queue.add(pod, 0, 0, 1);
        }
        for pod in drain(&mut queue) {
            queue.park(pod, LOT, Why::default(), None, 0, NOW);
        }
        let now = NOW + LAST_DELAY;
        queue.wake(LOT, now);
        assert_eq!(drain(&mut queue), [1]);
        queue.placed(1, LOT, now);
        assert_eq!(drain(&mut queue), [2]);
        queue.park(2, LOT, Why::default(), None, 0, now);
        assert_eq!(drain(&mut queue), [0u32; 0], "the third would not fit either");
        queue.advance(now + LONG);
        assert_eq!(drain(&mut queue), [2], "after a long time it is tried all the same");
    }

    #[test]
    fn a_pod_that_is_removed_is_nowhere() {
        let mut queue = Queue::default();
        queue.add(1, 0, 0, 1);
        queue.remove(1);
        assert!(drain(&mut queue).is_empty());
        queue.add(1, 0, 0, 1);
        queue.next();
        queue.park(1, LOT, Why::default(), None, 0, NOW);
        queue.remove(1);
        assert!(!queue.has_parked() && queue.len() == 0);
    }
}
