//! The agent's own task: takes in what the server, the runtime and the pods' executions tell, looks at
//! the pods that this concerns, and starts the executions of their plans.
//!
//! One code path serves start-up, events and the periodic look: whatever happened, a pod is looked at
//! whole.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use schemas::{
    Uid,
    node::{Frame, Order, Told, Unclaimed},
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    claims::Disputes,
    connection::NodeFace,
    control::{ControlPlane, SessionRefusal},
    entry::{Busy, Claim, Entry},
    execute::{End, Execution, Update},
    host::Host,
    inspecting::Question,
    memory::{Checks, Trouble, TroubleKind},
    observed::Container,
    plan::{Plan, Wish, plan},
    probe,
    reporter::Reporter,
    reporting::back_off,
    runtime::{ContainerId, Found, RuntimeEvent},
    sampling::Running,
    sessions::LogQuestion,
    state::Head,
    volumes,
};

/// How long steps that are under way may take after the shutdown.
const LAST_STEPS: Duration = Duration::from_secs(10);

/// Everything that the agent's own task is told.
#[derive(Debug)]
pub(crate) enum Message {
    Frame(Frame),
    Runtime(RuntimeEvent),
    /// The runtime is there, and these are all containers of this agent; `as_of` says how much of
    /// what executions told was in when the list was asked for.
    Look {
        found: Vec<Found>,
        as_of: u64,
    },
    RuntimeAway,
    Told {
        pod: Uid,
        update: Update,
    },
    Ended {
        pod: Uid,
        end: End,
    },
    /// What a probe found of a container.
    Checked {
        pod: Uid,
        container: Arc<str>,
        id: ContainerId,
        checks: Checks,
    },
    /// A container was looked at more closely, and is so unless it is gone.
    Inspected {
        question: Question,
        found: Option<Box<Found>>,
    },
    FindLog {
        question: LogQuestion,
        reply: oneshot::Sender<Result<ContainerId, SessionRefusal>>,
    },
    /// The running containers are to be measured.
    ListRunning {
        reply: oneshot::Sender<Vec<Running>>,
    },
    /// What the server knows of pods that it was asked about.
    Fates {
        asked: Vec<Uid>,
        told: Vec<Told>,
    },
    /// A person's decision about an unclaimed pod.
    Settle {
        uid: Uid,
        order: Order,
        reply: oneshot::Sender<Result<Unclaimed, SessionRefusal>>,
    },
    /// The runtime's own facts may have changed.
    NodeChanged,
}

/// What an agent is put together from.
pub(crate) struct Parts {
    pub host: Arc<Host>,
    pub control: Arc<dyn ControlPlane>,
    pub reporter: Arc<Reporter>,
    pub face: Arc<NodeFace>,
    pub tell: mpsc::UnboundedSender<Message>,
    pub questions: mpsc::UnboundedSender<Question>,
    pub runtime_lost: Arc<Notify>,
    pub owner_known: Arc<Notify>,
    pub touches: Arc<AtomicU64>,
    pub shutdown: CancellationToken,
}

pub(crate) struct Agent {
    pub(crate) host: Arc<Host>,
    pub(crate) control: Arc<dyn ControlPlane>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) face: Arc<NodeFace>,
    pub(crate) tell: mpsc::UnboundedSender<Message>,
    pub(crate) head: Option<Head>,
    /// Whether something that came with the stream could not be saved: the saved head stays behind it.
    pub(crate) unsaved: bool,
    /// Whether the stream is of another cluster: nothing on it is followed.
    pub(crate) foreign: bool,
    /// Whether the server was heard of since this process started.
    pub(crate) heard: bool,
    pub(crate) entries: BTreeMap<Uid, Box<Entry>>,
    /// Containers with this agent's labels whose pod is not known at all.
    pub(crate) strays: BTreeMap<ContainerId, Container>,
    pub(crate) disputes: Disputes,
    /// Volumes whose removal is under way.
    pub(crate) removing: BTreeSet<Uid>,
    pub(crate) questions: mpsc::UnboundedSender<Question>,
    /// Containers that a question is open about.
    pub(crate) asked: BTreeSet<ContainerId>,
    pub(crate) dirty: BTreeSet<Uid>,
    pub(crate) timers: BinaryHeap<Reverse<(Duration, Uid)>>,
    /// Whether the runtime can be reached; if not, nothing is known and nothing is done.
    pub(crate) runtime_there: bool,
    /// Wakes the task that watches the runtime, when an execution finds it unreachable.
    pub(crate) runtime_lost: Arc<Notify>,
    /// Counts what executions and events told; looks carry it.
    pub(crate) touches: Arc<AtomicU64>,
    pub(crate) probes: BTreeMap<ContainerId, CancellationToken>,
    /// Wakes the task that waits to know the cluster.
    pub(crate) owner_known: Arc<Notify>,
    pub(crate) executions: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

impl Agent {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            host: parts.host,
            control: parts.control,
            reporter: parts.reporter,
            face: parts.face,
            tell: parts.tell,
            head: None,
            unsaved: false,
            foreign: false,
            heard: false,
            entries: BTreeMap::new(),
            strays: BTreeMap::new(),
            disputes: Disputes::default(),
            removing: BTreeSet::new(),
            questions: parts.questions,
            asked: BTreeSet::new(),
            dirty: BTreeSet::new(),
            timers: BinaryHeap::new(),
            runtime_there: false,
            runtime_lost: parts.runtime_lost,
            touches: parts.touches,
            probes: BTreeMap::new(),
            owner_known: parts.owner_known,
            executions: TaskTracker::new(),
            shutdown: parts.shutdown,
        }
    }

    /// Runs until the shutdown. Containers stay as they are.
    pub(crate) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        loop {
            self.look_at_dirty();
            let monotonic = self.host.clock.now().monotonic;
            let next = self.timers.peek().map(|Reverse((at, _))| at.saturating_sub(monotonic));
            let message = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => None,
                // What is due is taken off the timers, so that it keeps nobody waiting.
                () = tokio::time::sleep(next.unwrap_or(Duration::from_secs(3600))) => {
                    self.due();
                    continue;
                }
                message = inbox.recv() => message,
            };
            let Some(message) = message else { break };
            self.take(message);
            // What came together is looked at together.
            for _ in 0..256 {
                match inbox.try_recv() {
                    Ok(message) => self.take(message),
                    Err(_) => break,
                }
            }
        }
        // Steps under way come to their end, so that no two agents ever act at once; waits do not.
        self.executions.close();
        let _ = tokio::time::timeout(LAST_STEPS, self.executions.wait()).await;
    }

    fn due(&mut self) {
        let monotonic = self.host.clock.now().monotonic;
        while let Some(Reverse((at, _))) = self.timers.peek()
            && *at <= monotonic
        {
            if let Some(Reverse((_, pod))) = self.timers.pop() {
                self.dirty.insert(pod);
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Frame(frame) => self.frame(frame),
            Message::Runtime(event) => self.runtime_event(event),
            Message::Look { found, as_of } => self.looked(found, as_of),
            Message::RuntimeAway => self.runtime_away(),
            Message::Told { pod, update } => self.told(&pod, update),
            Message::Ended { pod, end } => self.ended(&pod, &end),
            Message::Checked {
                pod,
                container,
                id,
                checks,
            } => {
                if let Some(entry) = self.entries.get_mut(&pod) {
                    entry.memory.entry(&container).checks = Some((id, checks));
                    self.dirty.insert(pod);
                }
            }
            Message::Inspected { question, found } => self.inspected(&question, found.as_deref()),
            Message::FindLog { question, reply } => {
                let _ = reply.send(self.find_log(&question));
            }
            Message::ListRunning { reply } => {
                let _ = reply.send(self.running());
            }
            Message::Fates { asked, told } => self.fates(&asked, told),
            Message::Settle { uid, order, reply } => {
                let _ = reply.send(self.settle(&uid, order));
            }
            Message::NodeChanged => self.node_changed(),
        }
    }

    fn told(&mut self, pod: &Uid, update: Update) {
        let now = self.host.clock.now();
        let touches = self.touches.fetch_add(1, Ordering::Relaxed) + 1;
        let Some(entry) = self.entries.get_mut(pod) else { return };
        entry.touched = touches;
        match update {
            Update::Seen(container) => {
                let id = container.id.clone();
                if entry.see(*container, now) {
                    self.read_last_words(pod, &id);
                }
            }
            Update::Gone(id) => entry.lose(&id),
            Update::Trouble {
                container,
                kind,
                message,
            } => {
                let memory = entry.memory.entry(&container);
                let mut backoff = memory
                    .trouble
                    .take()
                    .filter(|known| known.kind == kind)
                    .map(|known| known.backoff)
                    .unwrap_or_default();
                backoff.fail(now.monotonic);
                if backoff.failures == 1 && kind == TroubleKind::Pull {
                    let image = entry
                        .pod
                        .container(&container)
                        .and_then(|(spec, _)| spec.image.clone())
                        .unwrap_or_default();
                    entry.events.push(back_off(
                        &entry.pod,
                        &container,
                        format!("Back-off pulling image \"{image}\""),
                    ));
                }
                entry.memory.entry(&container).trouble = Some(Trouble {
                    kind,
                    message: message.into(),
                    backoff,
                });
            }
            Update::Cleared { container } => entry.memory.entry(&container).trouble = None,
            Update::Condemned { id, container, reason } => {
                entry.memory.entry(&container).condemned = Some((id, reason.into()));
            }
            Update::Event(event) => entry.events.push(event),
        }
        self.dirty.insert(pod.clone());
    }

    fn ended(&mut self, pod: &Uid, end: &End) {
        let monotonic = self.host.clock.now().monotonic;
        if let Some(entry) = self.entries.get_mut(pod) {
            entry.busy = None;
            let failures = if matches!(end, End::Stuck) {
                entry.stuck.0 + 1
            } else {
                0
            };
            entry.stuck = (failures, monotonic);
            if failures > 0 {
                entry.stuck.1 += Duration::from_secs(1 << failures.min(5));
                self.timers.push(Reverse((entry.stuck.1, pod.clone())));
            }
            self.dirty.insert(pod.clone());
        }
        if matches!(end, End::Unreachable) && self.runtime_there {
            self.runtime_away();
            self.runtime_lost.notify_one();
        }
    }

    fn look_at_dirty(&mut self) {
        for uid in std::mem::take(&mut self.dirty) {
            self.look(&uid);
        }
    }

    /// Looks at one pod: what there is to do, what to say.
    fn look(&mut self, uid: &Uid) {
        if !self.runtime_there {
            return;
        }
        let now = self.host.clock.now();
        let Some(entry) = self.entries.get_mut(uid) else { return };
        if entry.is_unclaimed() {
            return;
        }
        let wish = entry.wish();
        let plan = plan(&entry.view(now));
        if let Some(busy) = &entry.busy {
            // What is under way no longer serves what is wanted.
            if busy.wish != wish {
                busy.cancel.cancel();
            }
        } else if plan.ended && entry.claim == Claim::Gone {
            self.drop_pod(uid);
            return;
        } else if !plan.steps.is_empty() && entry.stuck.1 <= now.monotonic {
            Self::execute(
                &self.host,
                &self.tell,
                &self.executions,
                self.shutdown.child_token(),
                entry,
                &plan,
            );
        }
        if let Some(after) = plan.requeue_after {
            self.timers.push(Reverse((now.monotonic + after, uid.clone())));
        }
        self.report(uid, &plan);
        self.probe(uid);
    }

    fn execute(
        host: &Arc<Host>,
        tell: &mpsc::UnboundedSender<Message>,
        executions: &TaskTracker,
        cancel: CancellationToken,
        entry: &mut Entry,
        plan: &Plan,
    ) {
        for step in &plan.steps {
            tracing::debug!(namespace = entry.pod.key.ns(), name = &*entry.pod.key.name, action = ?step.action, reason = step.reason, "step");
        }
        entry.busy = Some(Busy {
            cancel: cancel.clone(),
            wish: entry.wish(),
        });
        let uid = entry.pod.uid.clone();
        let updates = tell.clone();
        let of = uid.clone();
        let execution = Execution {
            host: host.clone(),
            pod: entry.pod.clone(),
            containers: entry.containers.clone(),
            cancel,
            tell: move |update| {
                let _ = updates.send(Message::Told {
                    pod: of.clone(),
                    update,
                });
            },
        };
        let steps = plan.steps.clone();
        let tell = tell.clone();
        executions.spawn(async move {
            let end = execution.run(steps).await;
            let _ = tell.send(Message::Ended { pod: uid, end });
        });
    }

    /// The pod is gone from the server and its containers from the node.
    pub(crate) fn drop_pod(&mut self, uid: &Uid) {
        let Some(entry) = self.entries.remove(uid) else { return };
        self.host.pool.lock().release(uid);
        self.host.state.forget(&entry.pod.key, &uid.0);
        if let Some(dir) = self.host.pod_dir(uid) {
            tokio::task::spawn_blocking(move || {
                if let Err(error) = volumes::remove(&dir) {
                    tracing::warn!(path = %dir.display(), %error, "a pod's directory was not removed");
                }
            });
        }
    }

    /// Starts the probes of containers that run, and ends those of containers that do not.
    fn probe(&mut self, uid: &Uid) {
        let Some(entry) = self.entries.get(uid) else { return };
        let wish = entry.wish();
        for container in &entry.containers {
            let wanted = container.is_running() && wish == Wish::Run;
            if !wanted {
                if let Some(probe) = self.probes.remove(&container.id) {
                    probe.cancel();
                }
                continue;
            }
            if self.probes.contains_key(&container.id) {
                continue;
            }
            let Some((spec, _)) = entry.pod.container(&container.name) else {
                continue;
            };
            if spec.startup_probe.is_none() && spec.readiness_probe.is_none() && spec.liveness_probe.is_none() {
                continue;
            }
            let cancel = self.shutdown.child_token();
            self.probes.insert(container.id.clone(), cancel.clone());
            tokio::spawn(probe::run(
                self.host.clone(),
                entry.pod.clone(),
                spec.clone(),
                container.id.clone(),
                // After a restart of the agent, a container that was started up stays so.
                entry.status(),
                self.tell.clone(),
                cancel,
            ));
        }
    }
}
