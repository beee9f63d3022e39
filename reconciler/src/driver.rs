//! The driver: one loop that notices, looks, plans and lets plans be carried out.
//!
//! A change in the store only says which keys to look at. A start, a change and the periodic look go
//! the same way through the queue. Worlds are built here, in order; plans are made and carried out on
//! tasks of their own, one for each key at a time.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use schemas::{Key, Now, event::EventSpec, now::Clock};
use store::{Change, Scope, Store, Watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Options, admission, daemonset, deployment, events,
    execute::{self, Done, Failure, Retry},
    garbage,
    ids::Ids,
    index::Index,
    namespace, nodes,
    observe::{self, Released},
    plan::{Plan, Reason, Step},
    pod_garbage,
    queue::{Controller, Queue, Work},
    release, replicaset, report,
    scheduler::{self, cluster::Cluster},
};

/// How many plans run side by side.
const SIDE_BY_SIDE: usize = 256;
/// How many keys one batch takes at most.
const BATCH: usize = 500;
/// How soon a release that failed looks at everything again.
const AGAIN: Duration = Duration::from_secs(1);
/// How many keys of a periodic look are put into the queue at once.
const SWEEP: usize = 64;

pub(crate) struct Driver {
    store: Store,
    clock: Arc<dyn Clock>,
    options: Options,
    ids: Ids,
    index: Index,
    queue: Queue,
    released: Released,
    failures: rustc_hash::FxHashMap<Work, String>,
    tracker: report::Tracker,
    pending: events::Pending,
    running: JoinSet<Finished>,
    sweep: VecDeque<Work>,
    next_look: Duration,
}

/// What is known of one key or batch.
enum World {
    Namespace(namespace::World),
    Release(release::World),
    Deployment(deployment::World),
    ReplicaSet(replicaset::World),
    DaemonSet(daemonset::World),
    /// The scheduler's copy is out with its plan and comes back with what is left of it.
    Scheduler(Box<Cluster>),
    Garbage(garbage::World),
    Nodes(nodes::World),
    PodGarbage(pod_garbage::World),
    Events(events::World),
    /// Planned already: the report's tracker keeps what it saw.
    Report(Plan),
}

impl World {
    /// The plan, and the scheduler's copy where it was the scheduler's.
    fn plan(self, now: Now, ids: &mut Ids) -> (Plan, Option<Box<Cluster>>) {
        let plan = match self {
            Self::Namespace(world) => namespace::plan(&world, now, ids),
            Self::Release(world) => release::plan(&world, now, ids),
            Self::Deployment(world) => deployment::plan(&world, now, ids),
            Self::ReplicaSet(world) => replicaset::plan(&world, now, ids),
            Self::DaemonSet(world) => daemonset::plan(&world, now, ids),
            Self::Scheduler(mut cluster) => {
                let plan = scheduler::plan(&mut cluster, now);
                return (plan, Some(cluster));
            }
            Self::Garbage(world) => garbage::plan(&world, now),
            Self::Nodes(world) => nodes::plan(&world, now),
            Self::PodGarbage(world) => pod_garbage::plan(&world, now),
            Self::Events(world) => events::plan(&world, now, ids),
            Self::Report(plan) => plan,
        };
        (plan, None)
    }
}

struct Finished {
    controller: Controller,
    works: Vec<Work>,
    /// What is left of the plan once its steps are done.
    plan: Plan,
    noted_health: bool,
    outcome: Result<Done, Failure>,
    cluster: Option<Box<Cluster>>,
}

/// Why the loop ended.
enum End {
    Shutdown,
    /// The store began a new life, or the watch fell behind: start over.
    Anew,
}

impl Driver {
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>, options: Options) -> Self {
        Self {
            ids: Ids::seeded(options.seed),
            store,
            clock,
            options,
            index: Index::default(),
            queue: Queue::default(),
            released: Released::default(),
            failures: rustc_hash::FxHashMap::default(),
            tracker: report::Tracker::default(),
            pending: events::Pending::default(),
            running: JoinSet::new(),
            sweep: VecDeque::new(),
            next_look: Duration::ZERO,
        }
    }

    /// Runs until `shutdown`; what is being written then is finished first.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let end = self.live(&shutdown).await;
            // No key may run twice at once, so what runs ends before anything starts over.
            while self.running.join_next().await.is_some() {}
            match end {
                End::Shutdown => return,
                End::Anew => tracing::info!("the reconcilers start over with the store's newest state"),
            }
        }
    }

    async fn live(&mut self, shutdown: &CancellationToken) -> End {
        let mut revisions = self.store.desired_changes();
        revisions.mark_unchanged();
        let mut confirmations = self.store.confirmation_changes();
        confirmations.mark_unchanged();
        let now = self.clock.now();
        let version = {
            let view = self.store.view();
            self.index = Index::build(&view, self.store.desired(), self.options.seed, now);
            self.queue = Queue::default();
            for work in self.index.everything(&view) {
                self.queue.add(work);
            }
            view.version()
        };
        self.next_look = now.monotonic + self.options.full_look;
        let Ok(mut watch) = self.store.watch(Scope::default(), Some(version)) else {
            tokio::task::yield_now().await;
            return End::Anew;
        };
        loop {
            if shutdown.is_cancelled() {
                return End::Shutdown;
            }
            if !self.catch_up(&mut watch) {
                return End::Anew;
            }
            if revisions.has_changed().unwrap_or(false) {
                revisions.mark_unchanged();
                self.take_revision();
            }
            let now = self.clock.now();
            self.queue.wake(now.monotonic);
            self.look_at_everything(now);
            if self.start(now) || (!self.sweep.is_empty() && self.queue.is_idle()) {
                // More is ready: see first what has changed meanwhile.
                tokio::task::yield_now().await;
                continue;
            }
            let due = self.queue.next_due();
            let until = due.map_or(self.next_look, |due| due.min(self.next_look));
            let nap = until.saturating_sub(now.monotonic).max(Duration::from_micros(100));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return End::Shutdown,
                changes = watch.next() => match changes {
                    Some(changes) => self.take(&changes),
                    None => return End::Anew,
                },
                changed = revisions.changed() => match changed {
                    Ok(()) => self.take_revision(),
                    // The store is closed.
                    Err(_) => return End::Shutdown,
                },
                Ok(()) = confirmations.changed() => self.queue.add(Work::all(Controller::Release)),
                Some(finished) = self.running.join_next(), if !self.running.is_empty() => match finished {
                    Ok(finished) => self.finish(finished),
                    Err(error) => {
                        // Which keys it had is lost with it: look at all.
                        tracing::error!(%error, "a plan ended unexpectedly");
                        return End::Anew;
                    }
                },
                () = tokio::time::sleep(nap) => {}
            }
        }
    }

    /// Takes in all changes that are there; false when the watch has ended.
    fn catch_up(&mut self, watch: &mut Watch) -> bool {
        loop {
            match watch.ready() {
                None => return false,
                Some(changes) if changes.is_empty() => return true,
                Some(changes) => self.take(&changes),
            }
        }
    }

    fn take(&mut self, changes: &[Change]) {
        let now = self.clock.now();
        let mut touched = Vec::new();
        let view = self.store.view();
        for change in changes {
            self.index.apply(&view, change, now, &mut touched);
        }
        drop(view);
        for work in touched {
            self.queue.add(work);
        }
        // What an earlier wave waited for may have been reverted or removed: look at the gates again.
        self.open_waves();
    }

    fn take_revision(&mut self) {
        let mut touched = Vec::new();
        let view = self.store.view();
        let desired = self.store.desired();
        tracing::debug!(
            revision = desired.revision,
            commit = desired.commit.as_ref().map(|commit| commit.short()),
            "a new revision"
        );
        self.index.set_desired(&view, desired, &mut touched);
        drop(view);
        for work in touched {
            self.queue.add(work);
        }
    }

    /// The periodic look goes through the queue a little at a time.
    fn look_at_everything(&mut self, now: Now) {
        if now.monotonic >= self.next_look {
            self.next_look = now.monotonic + self.options.full_look;
            if self.sweep.is_empty() {
                self.sweep.extend(self.index.everything(&self.store.view()));
            }
        }
        if !self.sweep.is_empty() && self.queue.is_idle() {
            let some = self.sweep.len().min(SWEEP);
            for work in self.sweep.drain(..some) {
                self.queue.add(work);
            }
        }
    }

    /// Starts ready work; true when more is left that could start now.
    fn start(&mut self, now: Now) -> bool {
        let room = SIDE_BY_SIDE.saturating_sub(self.running.len());
        for (controller, works) in self.queue.take(room.min(64), BATCH) {
            if controller == Controller::Report && now.monotonic < self.tracker.next() {
                let at = self.tracker.next();
                self.queue.done(controller, works.clone());
                works.into_iter().for_each(|work| self.queue.add_at(work, at));
                continue;
            }
            let Some(world) = self.observe(controller, &works, now) else {
                self.failures.retain(|work, _| !works.contains(work));
                works.iter().for_each(|work| self.queue.succeeded(work));
                self.queue.done(controller, works);
                continue;
            };
            let store = self.store.clone();
            let mut ids = self.ids.fork();
            let priorities = self.index.priorities.clone();
            self.running.spawn(async move {
                let (mut plan, cluster) = world.plan(now, &mut ids);
                let noted_health = plan.steps.iter().any(|step| matches!(step, Step::MarkHealthy(_)));
                let refused = admission::admit(&mut plan, &priorities);
                let outcome = match (execute::execute(&store, &mut plan).await, refused) {
                    (Ok(_), Some(refused)) => Err(refused),
                    (outcome, _) => outcome,
                };
                Finished {
                    controller,
                    works,
                    plan,
                    noted_health,
                    outcome,
                    cluster,
                }
            });
        }
        self.running.len() < SIDE_BY_SIDE && self.queue.has_ready()
    }

    fn observe(&mut self, controller: Controller, works: &[Work], now: Now) -> Option<World> {
        let view = self.store.view();
        let key = &works.first()?.key;
        let keys = || works.iter().map(|work| work.key.clone()).collect::<Vec<Key>>();
        Some(match controller {
            Controller::Namespaces => World::Namespace(observe::namespace(&view, key)),
            Controller::Release => {
                let more = self.queue.has_waiting(Controller::Release);
                World::Release(observe::release(&self.store, &view, &self.index, &keys(), more))
            }
            Controller::Deployments => World::Deployment(observe::deployment(&view, &self.index, key)?),
            Controller::ReplicaSets => {
                let failure = self.failures.get(works.first()?).cloned();
                World::ReplicaSet(observe::replica_set(&view, &self.index, key, failure)?)
            }
            Controller::DaemonSets => {
                let failure = self.failures.get(works.first()?).cloned();
                World::DaemonSet(observe::daemon_set(&view, &self.index, key, failure)?)
            }
            Controller::Scheduler => World::Scheduler(self.index.desk.take(now.monotonic)?),
            Controller::Garbage => World::Garbage(observe::garbage(&view, key)?),
            Controller::Nodes => World::Nodes(observe::nodes(&view, &self.index, &self.store.heartbeats(), now)),
            Controller::PodGarbage => World::PodGarbage(observe::pod_garbage(&view, &mut self.index, now)),
            Controller::Report => {
                let world = observe::report(&self.store, &view, &self.index, &self.released, &keys(), now);
                World::Report(self.tracker.look(&world, now))
            }
            Controller::Events => World::Events(observe::events(&view, &mut self.pending)),
        })
    }

    fn finish(&mut self, finished: Finished) {
        let Finished {
            controller,
            works,
            plan,
            noted_health,
            outcome,
            cluster,
        } = finished;
        let now = self.clock.now();
        self.queue.done(controller, works.clone());
        if let Some(cluster) = cluster {
            self.index.desk.put_back(cluster);
            if self.index.desk.has_work(now.monotonic) {
                self.queue.add(Work::all(Controller::Scheduler));
            }
        }
        if controller == Controller::Release {
            self.note_release(&works, &plan, &outcome);
        }
        for (key, reason) in &plan.waiting {
            tracing::debug!(controller = controller.name(), kind = %key.kind, namespace = key.ns(), name = %key.name, %reason, "waits");
        }
        match outcome {
            Ok(_) => {
                for work in &works {
                    self.queue.succeeded(work);
                    if self.failures.remove(work).is_some() {
                        // What was told of the failure is to be taken back.
                        self.queue.add(work.clone());
                    }
                }
                self.tell(plan.notes, now);
            }
            Err(failure) => {
                self.fail(controller, works.clone(), &failure, now);
                // Warnings are about what was seen, not about what the steps would have done. Pods are
                // bound first: of those that were, it is told.
                let bound =
                    |note: &EventSpec| note.reason == scheduler::SCHEDULED && !failure.failed.contains(&note.involved);
                let told = plan.notes.into_iter().filter(|note| note.warning || bound(note));
                self.tell(told.collect(), now);
            }
        }
        if let Some(delay) = plan.requeue_after {
            let again = if controller.is_batched() {
                vec![Work::all(controller)]
            } else {
                works
            };
            again
                .into_iter()
                .for_each(|work| self.queue.add_at(work, now.monotonic + delay));
        }
        for (key, delay) in plan.revisit {
            self.queue.add_at(Work::new(controller, key), now.monotonic + delay);
        }
        if noted_health {
            self.open_waves();
        }
        if controller == Controller::Events && !self.pending.is_empty() {
            self.queue.add(Work::all(Controller::Events));
        }
    }

    fn fail(&mut self, controller: Controller, works: Vec<Work>, failure: &Failure, now: Now) {
        let retry = failure.retry();
        let log = (controller.name(), failure.to_string());
        match retry {
            Retry::Moved => tracing::debug!(controller = log.0, error = log.1, "the world moved on"),
            Retry::Transient => tracing::warn!(controller = log.0, error = log.1, "will be tried again"),
            Retry::Stalled => tracing::warn!(controller = log.0, error = log.1, "was refused"),
        }
        for work in works {
            // In a batch only what failed is to be done again.
            let only = controller == Controller::Release && !failure.failed.is_empty();
            if only && !failure.failed.contains(&work.key) {
                continue;
            }
            match retry {
                Retry::Moved => self.queue.moved(work, now.monotonic),
                Retry::Transient => drop(self.queue.failed(work, now.monotonic)),
                Retry::Stalled => {
                    self.failures.insert(work.clone(), failure.error.to_string());
                    self.queue.failed(work, now.monotonic);
                }
            }
        }
        if controller == Controller::Release {
            // Namespaces made on the way and deletions have no key of their own in the batch.
            self.queue.add_at(Work::all(Controller::Release), now.monotonic + AGAIN);
        }
    }

    /// Remembers what was released and what was not, for the report.
    fn note_release(&mut self, works: &[Work], plan: &Plan, outcome: &Result<Done, Failure>) {
        let failure = outcome.as_ref().err();
        for work in works {
            let key = &work.key;
            self.released.troubles.remove(key);
            let failed = failure.filter(|failure| failure.failed.contains(key));
            match (self.index.desired.rows.get(key), failed) {
                (None, _) => drop(self.released.contents.remove(key)),
                (Some(_), Some(failure)) if failure.retry() == Retry::Stalled => {
                    let reason = Reason::new("Refused", failure.error.to_string());
                    self.released.troubles.insert(key.clone(), reason);
                }
                (Some(_), Some(_)) => {}
                (Some(row), None) => drop(self.released.contents.insert(key.clone(), row.hash)),
            }
            self.queue.add(Work::new(Controller::Report, key.clone()));
        }
        for (key, reason) in &plan.waiting {
            if self.index.desired.rows.contains_key(key) {
                self.released.contents.remove(key);
                self.released.troubles.insert(key.clone(), reason.clone());
            }
        }
        self.queue.add(Work::all(Controller::Report));
    }

    /// Rows of later waves may go on.
    fn open_waves(&mut self) {
        let waiting = self
            .released
            .troubles
            .iter()
            .filter(|(_, reason)| reason.word == "Wave");
        for (key, _) in waiting {
            self.queue.add(Work::new(Controller::Release, key.clone()));
        }
    }

    fn tell(&mut self, notes: Vec<EventSpec>, now: Now) {
        if !notes.is_empty() {
            self.pending.add(notes, now);
            self.queue.add(Work::all(Controller::Events));
        }
    }
}
