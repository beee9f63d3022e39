//! One pod in the agent's hands: what is wanted, what is there, and what was last said about it.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::PodStatus;
use schemas::{
    Now,
    node::{Incarnation, Position},
};
use tokio_util::sync::CancellationToken;

use crate::{
    meddling::{Meddling, may_go_on},
    memory::Memory,
    observed::Container,
    plan::{View, Wish},
    pod::Pod,
    reporting::adopted,
    runtime::{ContainerId, Exit, Life},
};

/// Where the agent's claim on a pod stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The server has the pod on this node.
    Held,
    /// The server has deleted it.
    Gone,
    /// The server does not have it, and nobody has said that it was deleted: its containers are left
    /// as they are, and reported. `seen` is the last position at which the server had it.
    Unclaimed { seen: Option<Position> },
}

/// A running execution of this pod's plan.
#[derive(Debug)]
pub(crate) struct Busy {
    pub cancel: CancellationToken,
    pub wish: Wish,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub pod: Arc<Pod>,
    pub claim: Claim,
    /// In which life of the store the server last had it.
    pub incarnation: Incarnation,
    pub containers: Vec<Container>,
    pub memory: Memory,
    pub busy: Option<Busy>,
    /// Ending or removing failed so often, and may be tried again at this time.
    pub stuck: (u32, Duration),
    /// Rises with each change of `containers`, so that an older look at the node cannot undo it.
    pub touched: u64,
    /// The last status, as JSON: a third of the size of the typed one.
    status: Box<[u8]>,
    /// What was last reported, in short; what differs here is reported at once.
    pub said: Option<Digest>,
    /// Something less urgent waits to be reported at this time.
    pub report_at: Option<Duration>,
    /// Events that wait for the next report.
    pub events: Vec<schemas::node::NodeEvent>,
    pub said_ended: bool,
}

/// The part of a status that nobody should have to wait for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest {
    phase: String,
    ready: bool,
    /// For each container: what it is doing and why, how often it was restarted, whether it is ready.
    containers: Vec<(String, i32, bool, bool)>,
}

impl Digest {
    pub(crate) fn of(status: &PodStatus) -> Self {
        let all = status
            .init_container_statuses
            .iter()
            .flatten()
            .chain(status.container_statuses.iter().flatten());
        Self {
            phase: status.phase.clone().unwrap_or_else(|| "Pending".to_owned()),
            ready: status
                .conditions
                .iter()
                .flatten()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            containers: all
                .map(|container| {
                    let state = container.state.clone().unwrap_or_default();
                    let word = if state.running.is_some() {
                        "running".to_owned()
                    } else if let Some(end) = state.terminated {
                        format!("ended {}", end.reason.unwrap_or_default())
                    } else {
                        match state
                            .waiting
                            .and_then(|waiting| waiting.reason)
                            .unwrap_or_default()
                            .as_str()
                        {
                            // All that a new pod goes through by itself is the same to an onlooker.
                            "ContainerCreating" | "PodInitializing" => "making".to_owned(),
                            other => other.to_owned(),
                        }
                    };
                    (
                        word,
                        container.restart_count,
                        container.ready,
                        container.started == Some(true),
                    )
                })
                // What has not begun yet is what everybody expects of a new pod.
                .filter(|(word, restarts, ..)| word != "making" || *restarts > 0)
                .collect(),
        }
    }
}

impl Entry {
    pub(crate) fn new(pod: Arc<Pod>, incarnation: Incarnation) -> Self {
        let status = pod.object.status::<PodStatus>().unwrap_or_default();
        Self {
            // What the server already has needs no saying, and a pod that just came is still in the making.
            said: Some(Digest::of(&status)),
            status: serde_json::to_vec(&status).unwrap_or_default().into(),
            pod,
            claim: Claim::Held,
            incarnation,
            containers: Vec::new(),
            memory: Memory::default(),
            busy: None,
            stuck: (0, Duration::ZERO),
            touched: 0,
            report_at: None,
            events: Vec::new(),
            said_ended: false,
        }
    }

    #[must_use]
    pub(crate) fn is_unclaimed(&self) -> bool {
        matches!(self.claim, Claim::Unclaimed { .. })
    }

    pub(crate) fn status(&self) -> PodStatus {
        serde_json::from_slice(&self.status).unwrap_or_default()
    }

    pub(crate) fn status_value(&self) -> serde_json::Value {
        serde_json::from_slice(&self.status).unwrap_or_default()
    }

    /// Keeps a new status; tells whether it differs from the one before.
    pub(crate) fn set_status(&mut self, status: &PodStatus) -> bool {
        let json: Box<[u8]> = serde_json::to_vec(status).unwrap_or_default().into();
        let changed = json != self.status;
        self.status = json;
        changed
    }

    pub(crate) fn wish(&self) -> Wish {
        match self.claim {
            Claim::Gone => Wish::End(self.pod.grace()),
            Claim::Held if self.pod.object.is_deleting() => Wish::End(self.pod.grace()),
            Claim::Held | Claim::Unclaimed { .. } => Wish::Run,
        }
    }

    pub(crate) fn view(&self, now: Now) -> View<'_> {
        View {
            pod: &self.pod,
            wish: self.wish(),
            containers: &self.containers,
            memory: &self.memory,
            now,
        }
    }

    /// Takes in how a container is now. Life goes one way: news that arrive late change nothing.
    /// Returns whether the container has just ended.
    pub(crate) fn see(&mut self, mut container: Container, now: Now) -> bool {
        let memory = self.memory.entry(&container.name);
        memory.attempt = memory.attempt.max(Some(container.attempt));
        let position = self.containers.iter().position(|known| known.id == container.id);
        let before = position.map(|position| self.containers[position].life.clone());
        let rank = |life: &Life| match life {
            Life::Created => 0,
            Life::Running { .. } => 1,
            Life::Exited(_) => 2,
        };
        if before
            .as_ref()
            .is_some_and(|before| rank(before) > rank(&container.life))
        {
            return false;
        }
        let ended = container
            .exit()
            .cloned()
            .filter(|_| !matches!(before, Some(Life::Exited(_))));
        if let Some(exit) = &ended {
            self.note_exit(&container, exit, now);
        }
        let ended = ended.is_some();
        match position {
            Some(position) => {
                let known = &self.containers[position];
                container.meddling = container.meddling.map(|meddling| meddling.following(known.meddling));
                if known.meddling == Some(Meddling::Revived) {
                    // It was not to run: what it ended with before stands.
                    container.life = known.life.clone();
                }
                let message = self.containers[position].message.take();
                self.containers[position] = container;
                let kept = &mut self.containers[position].message;
                *kept = kept.take().or(message);
            }
            None => {
                // Room for what is there: most pods have one container, and a list grows by more.
                self.containers.reserve_exact(1);
                self.containers.push(container);
            }
        }
        ended
    }

    fn note_exit(&mut self, container: &Container, exit: &Exit, now: Now) {
        let newest = self
            .containers
            .iter()
            .all(|other| other.name != container.name || other.attempt <= container.attempt);
        if !newest {
            return;
        }
        let since = |from: jiff::Timestamp, to: jiff::Timestamp| {
            Duration::try_from(to.duration_since(from)).unwrap_or_default()
        };
        let ran = exit
            .started
            .map_or(Duration::ZERO, |started| since(started, exit.finished));
        let ago = since(exit.finished, now.wall);
        let memory = self.memory.entry(&container.name);
        if memory.restart.failures == 0 {
            // After a restart of the agent, the attempts tell how often it failed before.
            memory.restart.failures = container.attempt;
        }
        memory.restart.exited(ran, ago, now.monotonic);
        memory.checks = memory.checks.take().filter(|(id, _)| *id != container.id);
    }

    /// A container that had ended was started by hand. It takes its place again, or is marked to be ended.
    /// Either way, what was being done for the pod was meant for a dead one.
    pub(crate) fn revive(&mut self, found: Container, exit: &Exit, now: Now) {
        let goes_on = may_go_on(&self.view(now), &found, exit);
        let Some(known) = self.containers.iter_mut().find(|known| known.id == found.id) else {
            return;
        };
        if goes_on {
            self.events.push(adopted(&self.pod, &found.name));
            *known = found;
        } else {
            known.meddling = Some(Meddling::Revived);
        }
        if let Some(busy) = &self.busy {
            busy.cancel.cancel();
        }
    }

    pub(crate) fn lose(&mut self, id: &ContainerId) {
        self.containers.retain(|container| container.id != *id);
    }
}
