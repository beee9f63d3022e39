//! The driver: one loop that notices, looks, plans and lets plans be carried out.
//!
//! A change in the store only says which keys to look at. A start, a change and the periodic look go
//! the same way through the queue. Worlds are built here, in order; plans are made and carried out on
//! tasks of their own, one for each key at a time.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt as _;
use jiff::SignedDuration;
use rustc_hash::FxHashMap;
use schemas::{Commit, ContentHash, Key, Kind, Now, event::EventSpec, now::Clock};
use store::{Change, DesiredRow, Mark, Scope, Store, Watch, WriteError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Options, admission, autoscaler, cronjob, daemonset, deployment, disruption, distrust, events, evictions,
    execute::{self, Done, Failure, Retry},
    faults::{self, Faults},
    garbage,
    ids::Ids,
    index::Index,
    job, namespace, nodes, observe,
    plan::{Plan, Reason, Step},
    pod_garbage,
    queue::{Controller, Queue, Work},
    quota,
    release::{self, waves},
    replicaset, report,
    scheduler::{self, cluster::Cluster},
    statefulset, volumes,
};

/// How many plans run side by side.
const SIDE_BY_SIDE: usize = 256;
/// How many keys one batch takes at most.
const BATCH: usize = 500;
/// How soon a plan that failed is looked at again for what it wanted next, beside the back-off of what
/// failed: what is due at once would be tried without a pause while the database is away.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the driver pauses after a fault of its own, at first and at most.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LAST_BACK_OFF: Duration = Duration::from_secs(60);
/// How often it is looked whether somebody has set the wall clock.
const CLOCK: Duration = Duration::from_secs(10);
/// The wall clock drifts by less than this between two looks.
const DRIFT: SignedDuration = SignedDuration::from_secs(1);
/// How many keys of a periodic look are put into the queue at once.
const SWEEP: usize = 64;

pub(crate) struct Driver {
    store: Store,
    clock: Arc<dyn Clock>,
    options: Options,
    ids: Ids,
    index: Index,
    queue: Queue,
    failures: FxHashMap<Work, String>,
    faults: Faults,
    tracker: report::Tracker,
    pending: events::Pending,
    /// What autoscalers remember.
    memories: FxHashMap<Key, autoscaler::Memory>,
    running: JoinSet<Finished>,
    sweep: VecDeque<Work>,
    next_look: Duration,
    /// How far the wall clock was ahead of the monotonic one.
    ahead: Option<SignedDuration>,
}

/// What is known of one key or batch.
enum World {
    Namespace(namespace::World),
    Release(release::World),
    Deployment(deployment::World),
    ReplicaSet(replicaset::World),
    DaemonSet(daemonset::World),
    CronJob(cronjob::World),
    Job(job::World),
    StatefulSet(statefulset::World),
    /// The scheduler's copy is out with its plan and comes back with what is left of it.
    Scheduler(Box<Cluster>),
    Volumes(volumes::World),
    Budget(disruption::World),
    Quota(quota::World),
    Autoscaler(autoscaler::World),
    Garbage(garbage::World),
    Nodes(nodes::World),
    Evictions(evictions::World),
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
            Self::CronJob(world) => cronjob::plan(&world, now, ids),
            Self::Job(world) => job::plan(&world, now, ids),
            Self::StatefulSet(world) => statefulset::plan(&world, now, ids),
            Self::Scheduler(mut cluster) => {
                let plan = scheduler::plan(&mut cluster, now);
                return (plan, Some(cluster));
            }
            Self::Volumes(world) => volumes::plan(&world, now, ids),
            Self::Budget(world) => disruption::plan(&world, now),
            Self::Quota(world) => quota::plan(&world),
            Self::Autoscaler(world) => autoscaler::plan(&world, now),
            Self::Garbage(world) => garbage::plan(&world, now),
            Self::Nodes(world) => nodes::plan(&world, now),
            Self::Evictions(world) => evictions::plan(&world, now),
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
    /// What came of it, or what the panic said that ended it.
    end: Result<Ended, String>,
}

/// A plan that was carried out.
struct Ended {
    /// The contents that a release was about.
    contents: FxHashMap<Key, ContentHash>,
    /// What is left of the plan once its steps are done.
    plan: Plan,
    /// Contents that were noted as healthy.
    healthy: Vec<(Key, Mark)>,
    outcome: Result<Done, Failure>,
    cluster: Option<Box<Cluster>>,
}

fn plan(world: World, works: &[Work], now: Now, ids: &mut Ids) -> (Plan, Option<Box<Cluster>>) {
    #[cfg(test)]
    tests::trip(works);
    let _ = works;
    world.plan(now, ids)
}

fn gates_skipped(store: &Store) -> Option<Commit> {
    serde_json::from_value(store.document(store::SKIP_GATES)?).ok()
}

/// Whether a row's content has been healthy once.
fn proven(store: &Store) -> impl Fn(&DesiredRow) -> bool {
    |row| store.was_healthy(&row.key, row.hash)
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
            failures: FxHashMap::default(),
            faults: Faults::default(),
            tracker: report::Tracker::default(),
            pending: events::Pending::default(),
            memories: FxHashMap::default(),
            running: JoinSet::new(),
            sweep: VecDeque::new(),
            next_look: Duration::ZERO,
            ahead: None,
        }
    }

    /// Runs until `shutdown`; what is being written then is finished first.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let began = self.clock.now();
            let end = AssertUnwindSafe(self.live(&shutdown)).catch_unwind().await;
            // No key may run twice at once, so what runs ends before anything starts over.
            while self.running.join_next().await.is_some() {}
            match end {
                Ok(End::Shutdown) => return,
                Ok(End::Anew) => tracing::info!("the reconcilers start over with the store's newest state"),
                Err(panic) => {
                    let lived = self.clock.now().monotonic.saturating_sub(began.monotonic);
                    if lived > LAST_BACK_OFF {
                        back_off = FIRST_BACK_OFF;
                    }
                    let said = faults::message(&*panic);
                    tracing::error!(?back_off, "the driver {said}; it starts over after a pause");
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = tokio::time::sleep(back_off) => {}
                    }
                    back_off = (back_off * 2).min(LAST_BACK_OFF);
                }
            }
        }
    }

    async fn live(&mut self, shutdown: &CancellationToken) -> End {
        let mut revisions = self.store.desired_changes();
        revisions.mark_unchanged();
        let mut confirmations = self.store.confirmation_changes();
        confirmations.mark_unchanged();
        let mut documents = self.store.document_changes();
        documents.mark_unchanged();
        let now = self.clock.now();
        let version = {
            let view = self.store.view();
            let proven = proven(&self.store);
            let before = std::mem::take(&mut self.index);
            self.index = Index::build(&view, self.store.desired(), proven, before, self.options.seed, now);
            self.index.skip_gates = gates_skipped(&self.store);
            self.index.bad = distrust::kept(&self.store);
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
            self.look_at_clock(now);
            if self.start(now) || (!self.sweep.is_empty() && self.queue.is_idle()) {
                // More is ready: see first what has changed meanwhile.
                tokio::task::yield_now().await;
                continue;
            }
            let due = self.queue.next_due();
            let until = due
                .map_or(self.next_look, |due| due.min(self.next_look))
                .min(now.monotonic + CLOCK);
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
                Ok(()) = confirmations.changed() => {
                    self.index.verdict = None;
                    self.index.deletions = None;
                    self.queue.add(Work::all(Controller::Release));
                }
                Ok(()) = documents.changed() => self.take_documents(),
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
            match work.controller {
                // What a rollout counts is told now and then.
                Controller::Quotas => self.queue.add_at(work, now.monotonic + quota::GATHER),
                _ => self.queue.add(work),
            }
        }
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
        let proven = proven(&self.store);
        self.index.set_desired(&view, desired, proven, &mut touched);
        drop(view);
        for work in touched {
            self.queue.add(work);
        }
        // What an earlier wave waited for may have been reverted or removed.
        self.look_at_gate();
    }

    /// What people and other parts of the server have said may have changed.
    fn take_documents(&mut self) {
        let bad = distrust::kept(&self.store);
        for key in distrust::changed(&self.index.bad, &bad) {
            self.queue.add(Work::new(Controller::Release, key.clone()));
            self.queue.add(Work::new(Controller::Report, key));
        }
        self.index.bad = bad;
        let skip = gates_skipped(&self.store);
        if skip != self.index.skip_gates {
            self.index.skip_gates = skip;
            for key in self.index.released.held_up() {
                self.queue.add(Work::new(Controller::Release, key));
            }
            self.look_at_gate();
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

    /// What goes by the wall clock is looked at again when somebody has set that.
    fn look_at_clock(&mut self, now: Now) {
        let monotonic = SignedDuration::try_from(now.monotonic).unwrap_or(SignedDuration::MAX);
        let ahead = now.wall.as_duration().saturating_sub(monotonic);
        let before = self.ahead.replace(ahead).unwrap_or(ahead);
        if ahead.saturating_sub(before).abs() > DRIFT {
            tracing::warn!(by = ?ahead.saturating_sub(before), "the wall clock was set");
            let cron_jobs: Vec<Key> = self.store.view().list(Kind::CronJob, None).map(|it| it.key()).collect();
            for key in cron_jobs {
                self.queue.add(Work::new(Controller::CronJobs, key));
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
            let world = match catch_unwind(AssertUnwindSafe(|| self.observe(controller, &works, now))) {
                Ok(world) => world,
                Err(panic) => {
                    let end = Err(faults::message(&*panic));
                    self.finish(Finished { controller, works, end });
                    continue;
                }
            };
            let Some(world) = world else {
                for work in &works {
                    self.failures.remove(work);
                    self.queue.succeeded(work);
                }
                self.queue.done(controller, works);
                continue;
            };
            let store = self.store.clone();
            let mut ids = self.ids.fork();
            let priorities = self.index.priorities.clone();
            let contents = match &world {
                World::Release(world) => world.rows.iter().map(|row| (row.key.clone(), row.hash)).collect(),
                _ => FxHashMap::default(),
            };
            let of = works.clone();
            let carried_out = async move {
                let (mut plan, cluster) = plan(world, &of, now, &mut ids);
                let healthy = plan.steps.iter().filter_map(|step| match step {
                    Step::MarkHealthy(contents) => Some(contents.clone()),
                    _ => None,
                });
                let healthy = healthy.flatten().collect();
                let refused = admission::admit(&mut plan, &priorities);
                let outcome = match (execute::execute(&store, &mut plan).await, refused) {
                    (Ok(_), Some(refused)) => Err(refused),
                    (outcome, _) => outcome,
                };
                Ended {
                    contents,
                    plan,
                    healthy,
                    outcome,
                    cluster,
                }
            };
            self.running.spawn(async move {
                let end = AssertUnwindSafe(carried_out).catch_unwind().await;
                let end = end.map_err(|panic| faults::message(&*panic));
                Finished { controller, works, end }
            });
        }
        self.running.len() < SIDE_BY_SIDE && self.queue.has_ready()
    }

    fn observe(&mut self, controller: Controller, works: &[Work], now: Now) -> Option<World> {
        let view = self.store.view();
        let key = &works.first()?.key;
        let keys = || works.iter().map(|work| work.key.clone()).collect::<Vec<Key>>();
        Some(match controller {
            Controller::Namespaces => World::Namespace(observe::namespace(
                &view,
                &self.index,
                key,
                self.options.root_ca.as_ref(),
            )),
            Controller::Release => World::Release(observe::release(&self.store, &view, &mut self.index, &keys(), now)),
            Controller::Deployments => World::Deployment(observe::deployment(&view, &self.index, key)?),
            Controller::ReplicaSets => {
                let failure = self.failures.get(works.first()?).cloned();
                World::ReplicaSet(observe::replica_set(&view, &self.index, key, failure)?)
            }
            Controller::DaemonSets => {
                let failure = self.failures.get(works.first()?).cloned();
                World::DaemonSet(observe::daemon_set(&view, &self.index, key, failure)?)
            }
            Controller::CronJobs => {
                let mut world = observe::cron_job(&view, key, now)?;
                world.failure = self.failures.get(works.first()?).cloned();
                World::CronJob(world)
            }
            Controller::Jobs => {
                let work = works.first()?;
                let mut world = observe::job(&view, &self.index, key, now)?;
                world.failure = self.failures.get(work).cloned();
                world.tries = self.queue.failures(work);
                World::Job(world)
            }
            Controller::StatefulSets => {
                let failure = self.failures.get(works.first()?).cloned();
                World::StatefulSet(observe::stateful_set(&view, &self.index, key, failure)?)
            }
            Controller::Scheduler => World::Scheduler(self.index.desk.take(now.monotonic)?),
            Controller::Volumes => World::Volumes(observe::volumes(&view, &self.index, key)?),
            Controller::Budgets => World::Budget(observe::budget(&view, &self.index, key)?),
            Controller::Quotas => World::Quota(quota::World {
                counted: view.counted(key)?,
                quota: view.get(key)?.clone(),
            }),
            Controller::Autoscalers => {
                let memory = self.memories.remove(key).unwrap_or_default();
                let failure = self.failures.get(works.first()?).cloned();
                let usages = self.store.usages();
                let world = observe::autoscaler(&view, &self.index, &usages, key, memory, failure, now)?;
                self.memories.insert(key.clone(), world.memory.clone());
                World::Autoscaler(world)
            }
            Controller::Garbage => World::Garbage(observe::garbage(&view, key)?),
            Controller::Nodes => World::Nodes(observe::nodes(&view, &self.index, &self.store.heartbeats(), now)),
            Controller::Evictions => World::Evictions(observe::evictions(&view, &self.index, key)?),
            Controller::PodGarbage => World::PodGarbage(observe::pod_garbage(&view, &mut self.index, now)),
            Controller::Report => {
                let world = observe::report(&self.store, &view, &mut self.index, &self.faults, &keys(), now);
                World::Report(self.tracker.look(&world, now))
            }
            Controller::Events => World::Events(observe::events(&view, &mut self.pending)),
        })
    }

    fn finish(&mut self, finished: Finished) {
        let Finished { controller, works, end } = finished;
        let now = self.clock.now();
        self.queue.done(controller, works.clone());
        let Ended {
            contents,
            plan,
            healthy,
            outcome,
            cluster,
        } = match end {
            Ok(ended) => ended,
            Err(message) => {
                if controller == Controller::Scheduler {
                    // Its copy of the cluster went down with the plan.
                    self.index.fill_desk(&self.store.view(), self.options.seed);
                }
                return self.fault(works, &message, now);
            }
        };
        let pause = match &outcome {
            Err(failure) if failure.retry() != Retry::Moved => AGAIN,
            _ => Duration::ZERO,
        };
        if let Some(cluster) = cluster {
            self.index.desk.put_back(cluster);
            if self.index.desk.has_work(now.monotonic) {
                self.queue
                    .add_at(Work::all(Controller::Scheduler), now.monotonic + pause);
            }
        }
        for told in works.iter().filter_map(|work| self.faults.remove(work)) {
            self.queue.add(Work::new(Controller::Report, told));
        }
        if controller == Controller::Release {
            self.note_release(&works, &contents, &plan, &outcome);
        }
        let marked = outcome.is_ok();
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
                if let (Some(memory), Some(work)) = (plan.memory, works.first()) {
                    self.memories.insert(work.key.clone(), memory);
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
                .for_each(|work| self.queue.add_at(work, now.monotonic + delay.max(pause)));
        }
        for (key, delay) in plan.revisit {
            self.queue
                .add_at(Work::new(controller, key), now.monotonic + delay.max(pause));
        }
        // What could not be kept opens no gate: it is marked again.
        if !healthy.is_empty() && marked {
            self.note_health(&healthy);
        }
        if controller == Controller::Events && !self.pending.is_empty() {
            self.queue.add(Work::all(Controller::Events));
        }
    }

    /// A plan panicked. In a batch it is not known which key did it: each is tried alone then.
    fn fault(&mut self, works: Vec<Work>, message: &str, now: Now) {
        if works.len() > 1 {
            works.into_iter().for_each(|work| self.queue.add_alone(work));
            return;
        }
        for work in works {
            let key = &work.key;
            if work.controller == Controller::Report {
                self.tracker.pass_over(key);
            }
            tracing::error!(
                controller = work.controller.name(), kind = %key.kind, namespace = key.ns(), name = %key.name,
                "a plan {message}"
            );
            let (object, told) = {
                let view = self.store.view();
                let declared = |key: &Key| self.index.desired.rows.contains_key(key);
                (view.get(key).cloned(), faults::declared_root(&view, declared, key))
            };
            if let Some(object) = object {
                self.tell(vec![faults::event(&object, &work, message)], now);
            }
            self.queue.add(Work::new(Controller::Report, told.clone()));
            self.faults.add(work.clone(), told, message.to_owned());
            self.queue.failed(work, now.monotonic);
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
                    if let WriteError::Forbidden { key, .. } = &failure.error {
                        self.index.refused.note(key, work.clone());
                    }
                    self.queue.failed(work, now.monotonic);
                }
            }
        }
        if controller == Controller::Release {
            // Namespaces made on the way and deletions have no key of their own in the batch.
            self.queue.add_at(Work::all(Controller::Release), now.monotonic + AGAIN);
        }
    }

    /// Remembers what was released and what was not.
    fn note_release(
        &mut self,
        works: &[Work],
        contents: &FxHashMap<Key, ContentHash>,
        plan: &Plan,
        outcome: &Result<Done, Failure>,
    ) {
        let Index { desired, released, .. } = &mut self.index;
        let was_behind = released.behind(&[]).is_some();
        let failure = outcome.as_ref().err();
        // A step that is not of objects failed: nothing after it was done.
        let unknown = failure.is_some_and(|failure| failure.failed.is_empty());
        for work in works.iter().filter(|_| !unknown) {
            let key = &work.key;
            // What is not declared any more is no longer known here.
            if let (Some(row), Some(content)) = (desired.rows.get(key), contents.get(key)) {
                match failure.filter(|failure| failure.failed.contains(key)) {
                    Some(failure) if failure.retry() == Retry::Stalled => {
                        released.trouble(key, Reason::new("Refused", failure.error.to_string()));
                    }
                    Some(_) => {}
                    None => released.done(key, *content, row.hash),
                }
            }
            self.queue.add(Work::new(Controller::Report, key.clone()));
        }
        for (key, reason) in &plan.waiting {
            let Some(row) = self.index.desired.rows.get(key).cloned() else {
                continue;
            };
            self.index.released.trouble(key, reason.clone());
            if reason.word == waves::DEPENDS_ON {
                match self.index.blocker(&row) {
                    Some(target) => self.index.released.wait_for(key, &target),
                    // What it waited for has become healthy meanwhile.
                    None => self.queue.add(Work::new(Controller::Release, key.clone())),
                }
            }
        }
        let released = &self.index.released;
        if was_behind && released.behind(&[]).is_none() {
            // What is no longer declared has waited for this.
            self.queue.add(Work::all(Controller::Release));
        }
        self.queue.add(Work::all(Controller::Report));
        self.look_at_gate();
    }

    fn note_health(&mut self, healthy: &[(Key, Mark)]) {
        let Index {
            desired,
            unproven,
            released,
            ..
        } = &mut self.index;
        for (key, mark) in healthy {
            if let Some(row) = desired.rows.get(key).filter(|row| row.hash == mark.content) {
                unproven.prove(row);
                for waiting in released.waiting_for(key) {
                    self.queue.add(Work::new(Controller::Release, waiting.clone()));
                }
            }
        }
        self.look_at_gate();
    }

    /// Rows of later waves may go on, or wait for something else.
    fn look_at_gate(&mut self) {
        let gate = self.index.gate().cloned();
        for key in self.index.released.stand(gate.as_ref()) {
            self.queue.add(Work::new(Controller::Release, key));
        }
    }

    fn tell(&mut self, notes: Vec<EventSpec>, now: Now) {
        if !notes.is_empty() {
            self.pending.add(notes, now);
            self.queue.add(Work::all(Controller::Events));
        }
    }
}

#[cfg(test)]
mod tests;
