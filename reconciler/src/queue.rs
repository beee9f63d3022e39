//! The queue: what is to be looked at, keyed so that nothing runs twice at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rustc_hash::{FxHashMap, FxHashSet};
use schemas::{Key, Kind};

use crate::release;

/// The controllers, in the order in which ready work is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Controller {
    Namespaces,
    Release,
    Deployments,
    ReplicaSets,
    DaemonSets,
    CronJobs,
    Jobs,
    StatefulSets,
    Scheduler,
    Volumes,
    Budgets,
    Quotas,
    Autoscalers,
    Garbage,
    Nodes,
    Evictions,
    PodGarbage,
    Report,
    Events,
}

impl Controller {
    /// One plan for everything that is ready, one at a time; otherwise one plan for each key.
    #[must_use]
    pub fn is_batched(self) -> bool {
        matches!(self, Self::Release | Self::Scheduler | Self::Report | Self::Events)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespace-controller",
            Self::Release => "release-controller",
            Self::Deployments => "deployment-controller",
            Self::ReplicaSets => "replicaset-controller",
            Self::DaemonSets => "daemonset-controller",
            Self::CronJobs => "cronjob-controller",
            Self::Jobs => "job-controller",
            Self::StatefulSets => "statefulset-controller",
            Self::Scheduler => "default-scheduler",
            Self::Volumes => "persistentvolume-controller",
            Self::Budgets => "disruption-controller",
            Self::Quotas => "resourcequota-controller",
            Self::Autoscalers => "horizontal-pod-autoscaler",
            Self::Garbage => "garbage-collector",
            Self::Nodes => "node-controller",
            Self::Evictions => "taint-eviction-controller",
            Self::PodGarbage => "pod-garbage-collector",
            Self::Report => "report",
            Self::Events => "events",
        }
    }
}

/// One thing to look at, by one controller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Work {
    pub controller: Controller,
    pub key: Key,
}

impl Work {
    #[must_use]
    pub fn new(controller: Controller, key: Key) -> Self {
        Self { controller, key }
    }

    /// The single key of a controller that always looks at all it has.
    #[must_use]
    pub fn all(controller: Controller) -> Self {
        Self::new(controller, Key::cluster(Kind::Node, ""))
    }
}

/// How long failed work waits at first, and at most.
const FIRST_DELAY: Duration = Duration::from_millis(10);
const LAST_DELAY: Duration = Duration::from_secs(60);
/// So many times in a row a plan that the world overtook is made anew without waiting.
const AT_ONCE: u32 = 3;

/// Where a key stands among the ready ones of its controller.
fn place(controller: Controller, key: Key) -> (u8, Key) {
    let rank = match controller {
        Controller::Release => release::order(key.kind),
        _ => 0,
    };
    (rank, key)
}

/// Ready, delayed and running work.
#[derive(Debug, Default)]
pub struct Queue {
    /// No controller without keys. A release takes kinds in their order, also from batch to batch.
    ready: BTreeMap<Controller, BTreeSet<(u8, Key)>>,
    delayed: BTreeSet<(Duration, Work)>,
    due: FxHashMap<Work, Duration>,
    running: FxHashSet<Work>,
    /// Touched while running: ready again when done.
    again: FxHashSet<Work>,
    busy: FxHashSet<Controller>,
    failures: FxHashMap<Work, u32>,
    /// Work that shares no batch until it went through: one of a batch went wrong, and which is not known.
    alone: FxHashSet<Work>,
}

impl Queue {
    /// Look at this as soon as possible.
    pub fn add(&mut self, work: Work) {
        if self.running.contains(&work) {
            self.again.insert(work);
            return;
        }
        self.forget_delay(&work);
        let place = place(work.controller, work.key);
        self.ready.entry(work.controller).or_default().insert(place);
    }

    /// Look at this at `at` (monotonic) at the latest.
    pub fn add_at(&mut self, work: Work, at: Duration) {
        let ready = self
            .ready
            .get(&work.controller)
            .is_some_and(|keys| keys.contains(&place(work.controller, work.key.clone())));
        if ready || self.due.get(&work).is_some_and(|due| *due <= at) {
            return;
        }
        self.forget_delay(&work);
        self.due.insert(work.clone(), at);
        self.delayed.insert((at, work));
    }

    fn forget_delay(&mut self, work: &Work) {
        if let Some(due) = self.due.remove(work) {
            self.delayed.remove(&(due, work.clone()));
        }
    }

    /// When the next delayed work is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.delayed.first().map(|(due, _)| *due)
    }

    /// Moves what is due to the ready work.
    pub fn wake(&mut self, now: Duration) {
        while self.next_due().is_some_and(|due| due <= now) {
            if let Some((_, work)) = self.delayed.pop_first() {
                self.due.remove(&work);
                self.add(work);
            }
        }
    }

    /// Takes up to `limit` keys of ready work, and beyond that one batch of at most `batch` keys for each
    /// controller that plans in batches: many ready keys of one controller do not hold up another.
    pub fn take(&mut self, limit: usize, batch: usize) -> Vec<(Controller, Vec<Work>)> {
        let mut taken: Vec<(Controller, Vec<Work>)> = Vec::new();
        for (controller, keys) in &mut self.ready {
            let room = limit.saturating_sub(taken.len());
            if !controller.is_batched() {
                let works = std::iter::from_fn(|| keys.pop_first()).take(room);
                taken.extend(works.map(|(_, key)| (*controller, vec![Work::new(*controller, key)])));
            } else if self.busy.insert(*controller) {
                let mut works: Vec<Work> = Vec::new();
                while works.len() < batch
                    && let Some((rank, key)) = keys.pop_first()
                {
                    let work = Work::new(*controller, key);
                    let alone = self.alone.contains(&work);
                    if alone && !works.is_empty() {
                        keys.insert((rank, work.key));
                        break;
                    }
                    works.push(work);
                    if alone {
                        break;
                    }
                }
                taken.push((*controller, works));
            }
        }
        self.ready.retain(|_, keys| !keys.is_empty());
        for (_, works) in &taken {
            self.running.extend(works.iter().cloned());
        }
        taken
    }

    /// Work is done: it may run again.
    pub fn done(&mut self, controller: Controller, works: Vec<Work>) {
        if controller.is_batched() {
            self.busy.remove(&controller);
        }
        for work in works {
            self.running.remove(&work);
            if self.again.remove(&work) {
                self.add(work);
            }
        }
    }

    pub fn succeeded(&mut self, work: &Work) {
        self.failures.remove(work);
        self.alone.remove(work);
    }

    /// Look at this again, and at nothing else with it until it went through.
    pub fn add_alone(&mut self, work: Work) {
        self.alone.insert(work.clone());
        self.add(work);
    }

    /// Work failed: it waits, twice as long each time.
    pub fn failed(&mut self, work: Work, now: Duration) -> Duration {
        let count = self.failures.entry(work.clone()).or_insert(0);
        *count += 1;
        let delay = FIRST_DELAY.saturating_mul(1 << (*count - 1).min(16)).min(LAST_DELAY);
        self.add_at(work, now + delay);
        delay
    }

    /// The world moved on under a plan: look again at once, but not forever.
    pub fn moved(&mut self, work: Work, now: Duration) {
        let count = self.failures.entry(work.clone()).or_insert(0);
        if *count < AT_ONCE {
            *count += 1;
            self.add(work);
        } else {
            self.failed(work, now);
        }
    }

    /// How often this failed in a row.
    #[must_use]
    pub fn failures(&self, work: &Work) -> u32 {
        self.failures.get(work).copied().unwrap_or(0)
    }

    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.ready.keys().any(|controller| !self.busy.contains(controller))
    }

    /// Nothing is ready, running or touched.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.running.is_empty()
    }

    /// How many keys wait to run, for metrics and tests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ready.values().map(BTreeSet::len).sum::<usize>() + self.delayed.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(controller: Controller, name: &str) -> Work {
        Work::new(controller, Key::namespaced(Kind::Pod, "a", name))
    }

    #[test]
    fn a_key_runs_once_at_a_time_and_again_when_touched_meanwhile() {
        let mut queue = Queue::default();
        let one = work(Controller::ReplicaSets, "one");
        queue.add(one.clone());
        queue.add(one.clone());
        let taken = queue.take(10, 10);
        assert_eq!(taken, vec![(Controller::ReplicaSets, vec![one.clone()])]);
        queue.add(one.clone());
        assert!(queue.take(10, 10).is_empty(), "it runs");
        queue.done(Controller::ReplicaSets, vec![one.clone()]);
        assert_eq!(queue.take(10, 10).len(), 1, "it was touched while it ran");
    }

    #[test]
    fn a_batched_controller_takes_all_at_once_and_is_busy_meanwhile() {
        let mut queue = Queue::default();
        queue.add(work(Controller::Scheduler, "one"));
        queue.add(work(Controller::Scheduler, "two"));
        let taken = queue.take(10, 10);
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].1.len(), 2);
        queue.add(work(Controller::Scheduler, "three"));
        assert!(queue.take(10, 10).is_empty());
        queue.done(Controller::Scheduler, taken[0].1.clone());
        assert_eq!(queue.take(10, 10)[0].1.len(), 1);
    }

    #[test]
    fn a_release_takes_what_others_need_first_whatever_its_batch() {
        let mut queue = Queue::default();
        for (kind, name) in [
            (Kind::Deployment, "a"),
            (Kind::ConfigMap, "b"),
            (Kind::Pod, "c"),
            (Kind::Secret, "d"),
        ] {
            queue.add(Work::new(Controller::Release, Key::namespaced(kind, "a", name)));
        }
        queue.add(Work::new(Controller::Release, Key::cluster(Kind::Namespace, "z")));
        let mut kinds = Vec::new();
        while let Some((controller, works)) = queue.take(1, 1).pop() {
            kinds.push(works[0].key.kind);
            queue.done(controller, works);
        }
        let expected = [
            Kind::Namespace,
            Kind::ConfigMap,
            Kind::Secret,
            Kind::Pod,
            Kind::Deployment,
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn what_must_be_alone_shares_no_batch_until_it_went_through() {
        let mut queue = Queue::default();
        let sizes = |queue: &mut Queue| -> Vec<usize> {
            let mut sizes = Vec::new();
            while let Some((controller, works)) = queue.take(10, 10).pop() {
                sizes.push(works.len());
                queue.done(controller, works);
            }
            sizes
        };
        for name in ["a", "b", "d"] {
            queue.add(work(Controller::Release, name));
        }
        queue.add_alone(work(Controller::Release, "c"));
        assert_eq!(sizes(&mut queue), [2, 1, 1]);
        queue.succeeded(&work(Controller::Release, "c"));
        for name in ["a", "b", "c", "d"] {
            queue.add(work(Controller::Release, name));
        }
        assert_eq!(sizes(&mut queue), [4]);
    }

    #[test]
    fn many_keys_of_one_controller_do_not_hold_up_a_batch_of_another() {
        let mut queue = Queue::default();
        for at in 0..10 {
            queue.add(work(Controller::Deployments, &format!("{at}")));
            queue.add(work(Controller::Scheduler, &format!("{at}")));
        }
        let taken = queue.take(3, 4);
        assert_eq!(
            taken.iter().map(|(_, works)| works.len()).collect::<Vec<_>>(),
            [1, 1, 1, 4]
        );
        assert_eq!(queue.len(), 13);
    }

    #[test]
    fn failed_work_waits_twice_as_long_each_time() {
        let mut queue = Queue::default();
        let one = work(Controller::ReplicaSets, "one");
        let now = Duration::from_secs(5);
        assert_eq!(queue.failed(one.clone(), now), FIRST_DELAY);
        queue.wake(now);
        assert_eq!(queue.next_due(), Some(now + FIRST_DELAY));
        assert!(!queue.has_ready());
        queue.wake(now + FIRST_DELAY);
        assert_eq!(queue.next_due(), None);
        assert!(queue.has_ready());
        assert_eq!(queue.failed(one.clone(), now), FIRST_DELAY * 2);
        for _ in 0..40 {
            queue.failed(one.clone(), now);
        }
        assert_eq!(queue.failed(one.clone(), now), LAST_DELAY);
        queue.succeeded(&one);
        assert_eq!(queue.failures(&one), 0);
    }
}
