//! The status of a pod: a pure function of its containers, what waits, and what was said before.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Container as ContainerSpec, ContainerState, ContainerStateRunning, ContainerStateTerminated,
        ContainerStateWaiting, ContainerStatus, HostIP, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{
    meddling::Meddling,
    memory::{Checks, Memory},
    observed::{self, Container},
    plan::{Plan, View, Waiting, Wish},
    pod::{Pod, RestartPolicy, is_sidecar},
    resources,
    runtime::{Exit, Life},
};

/// What the agent adds to what the plan saw.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub plan: &'a Plan,
    pub pod_ip: Option<IpAddr>,
    pub host_ip: Option<IpAddr>,
    /// The status said before, for the times that must not move.
    pub before: &'a PodStatus,
    /// The `imageID` to show for an image's id.
    pub image_name: &'a (dyn Fn(&str) -> String + Sync),
}

/// Computes the whole status of a pod.
#[must_use]
pub(crate) fn status(view: &View<'_>, facts: &Facts<'_>) -> PodStatus {
    let pod = view.pod;
    let mains_began = pod
        .spec
        .containers
        .iter()
        .any(|spec| observed::latest(view.containers, &spec.name).is_some());
    let init: Vec<ContainerStatus> = pod
        .init()
        .iter()
        .map(|spec| container(view, facts, spec, true))
        .collect();
    let mains: Vec<ContainerStatus> = pod
        .spec
        .containers
        .iter()
        .map(|spec| container(view, facts, spec, false))
        .collect();
    let phase = if pod.stored_phase_is_final() {
        facts
            .before
            .phase
            .clone()
            .unwrap_or_else(|| phase(view, &init, &mains, mains_began).to_owned())
    } else {
        phase(view, &init, &mains, mains_began).to_owned()
    };
    let ended = phase == "Succeeded" || phase == "Failed";
    let pod_ip = facts
        .pod_ip
        .map(|ip| ip.to_string())
        .or_else(|| facts.before.pod_ip.clone());
    let host_ip = facts.host_ip.map(|ip| ip.to_string());
    let start_time = facts.before.start_time.clone().or(Some(Time(view.now.wall)));
    PodStatus {
        conditions: Some(conditions(view, facts, &init, &mains, ended, mains_began)),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(mains),
        host_ips: host_ip.clone().map(|ip| vec![HostIP { ip }]),
        host_ip,
        pod_ips: pod_ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip,
        qos_class: Some(resources::qos(&pod.spec).as_str().to_owned()),
        start_time,
        phase: Some(phase),
        message: facts.before.message.clone(),
        reason: facts.before.reason.clone(),
        nominated_node_name: facts.before.nominated_node_name.clone(),
        ..PodStatus::default()
    }
}

fn container(view: &View<'_>, facts: &Facts<'_>, spec: &ContainerSpec, init: bool) -> ContainerStatus {
    let pod = view.pod;
    let name = spec.name.as_str();
    let latest = observed::latest(view.containers, name);
    let waiting = facts.plan.waiting.get(name);
    let memory = view.memory.get(name);
    let mut status = ContainerStatus {
        name: name.to_owned(),
        image: spec.image.clone().unwrap_or_default(),
        ..ContainerStatus::default()
    };
    let Some(latest) = latest else {
        status.restart_count = remembered(view.memory, pod, name);
        status.started = Some(false);
        let was = memory.and_then(|memory| memory.attempt).is_some();
        let stored = stored_state(facts.before, name, init);
        status.state = match (waiting, stored) {
            (Some(waiting), _) => Some(waits(waiting)),
            // Finished before, and its container has been pruned since.
            (None, Some(state)) if state.terminated.is_some() => Some(state),
            _ if (was || pod.stored_restarts(name).is_some()) && pod.restart_policy() == RestartPolicy::Never => {
                Some(terminated_unknown(view.now.wall))
            }
            _ => Some(waits(&Waiting {
                reason: if init || pod.init().is_empty() || inits_done(view) {
                    "ContainerCreating"
                } else {
                    "PodInitializing"
                },
                message: None,
            })),
        };
        return status;
    };
    let docker_id = format!("docker://{}", latest.id);
    status.restart_count = i32::try_from(latest.attempt).unwrap_or(i32::MAX);
    status.image_id = (facts.image_name)(&latest.image_id);
    let last = observed::previous(view.containers, name).and_then(|last| last.exit().map(|exit| (last, exit)));
    let checks = memory
        .and_then(|memory| memory.checks.as_ref())
        .filter(|(id, _)| *id == latest.id)
        .map(|(_, checks)| *checks)
        // Until the probes have said anything, what was said before the agent started anew holds.
        .or_else(|| stored_checks(facts.before, spec, init, &docker_id));
    match &latest.life {
        Life::Running { started } => {
            status.container_id = Some(docker_id);
            status.state = Some(ContainerState {
                running: Some(ContainerStateRunning {
                    started_at: Some(Time(*started)),
                }),
                ..ContainerState::default()
            });
            let passed_start = checks.map_or(spec.startup_probe.is_none(), |checks| checks.started);
            let passed_ready = checks.map_or(spec.readiness_probe.is_none(), |checks| checks.ready);
            status.started = Some(passed_start);
            let cut_off = |container: &Container| container.meddling == Some(Meddling::Detached);
            let served =
                !view.containers.iter().any(cut_off) && !matches!(latest.meddling, Some(Meddling::Paused { .. }));
            status.ready =
                served && passed_start && passed_ready && (!init || is_sidecar(spec)) && view.wish == Wish::Run;
        }
        Life::Created => {
            status.started = Some(false);
            status.state = Some(waits(waiting.unwrap_or(&Waiting {
                reason: "ContainerCreating",
                message: None,
            })));
        }
        Life::Exited(exit) => {
            status.container_id = Some(docker_id);
            status.started = Some(false);
            let ended = ended(latest, exit);
            if let Some(waiting) = waiting {
                status.state = Some(waits(waiting));
                status.last_state = Some(ended);
                return status;
            }
            // An init container that did its work counts as ready.
            status.ready = init && exit.code == 0;
            status.state = Some(ended);
        }
    }
    status.last_state = last.map(|(last, exit)| ended(last, exit));
    status
}

fn remembered(memory: &Memory, pod: &Pod, name: &str) -> i32 {
    let attempt = memory
        .get(name)
        .and_then(|memory| memory.attempt)
        .or_else(|| pod.stored_restarts(name));
    i32::try_from(attempt.unwrap_or(0)).unwrap_or(i32::MAX)
}

fn stored_state(before: &PodStatus, name: &str, init: bool) -> Option<ContainerState> {
    let list = if init {
        &before.init_container_statuses
    } else {
        &before.container_statuses
    };
    list.iter().flatten().find(|status| status.name == name)?.state.clone()
}

fn stored_checks(before: &PodStatus, spec: &ContainerSpec, init: bool, id: &str) -> Option<Checks> {
    let list = if init {
        &before.init_container_statuses
    } else {
        &before.container_statuses
    };
    let stored = list.iter().flatten().find(|status| status.name == spec.name)?;
    let same = stored.container_id.as_deref() == Some(id)
        && stored.state.as_ref().is_some_and(|state| state.running.is_some());
    same.then_some(Checks {
        // Without a probe it was unready for another reason, such as its network, which is seen anew.
        started: spec.startup_probe.is_none() || stored.started == Some(true),
        ready: spec.readiness_probe.is_none() || stored.ready,
    })
}

fn waits(waiting: &Waiting) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(waiting.reason.to_owned()),
            message: waiting.message.clone(),
        }),
        ..ContainerState::default()
    }
}

fn terminated_unknown(at: Timestamp) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some("The container was removed from the node while it ran.".to_owned()),
            finished_at: Some(Time(at)),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

fn ended(container: &Container, exit: &Exit) -> ContainerState {
    let reason = if exit.oom_killed {
        "OOMKilled"
    } else if exit.error.is_some() && exit.started.is_none() {
        "ContainerCannotRun"
    } else if exit.code == 0 {
        "Completed"
    } else {
        "Error"
    };
    let message = container
        .message
        .as_deref()
        .or(exit.error.as_deref())
        .map(str::to_owned);
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(format!("docker://{}", container.id)),
            exit_code: exit.code,
            // Docker writes the year 1 for a container that never started.
            started_at: exit.started.filter(|at| at.as_second() > 0).map(Time),
            finished_at: Some(Time(exit.finished)),
            reason: Some(reason.to_owned()),
            message,
            signal: None,
        }),
        ..ContainerState::default()
    }
}

/// Whether every init container has done its part.
fn inits_done(view: &View<'_>) -> bool {
    let mains_began = view
        .pod
        .spec
        .containers
        .iter()
        .any(|spec| observed::latest(view.containers, &spec.name).is_some());
    mains_began
        || view.pod.init().iter().all(|spec| {
            let Some(latest) = observed::latest(view.containers, &spec.name) else {
                return false;
            };
            if is_sidecar(spec) {
                latest.is_running()
            } else {
                latest.exit().is_some_and(|exit| exit.code == 0)
            }
        })
}

fn phase(view: &View<'_>, init: &[ContainerStatus], mains: &[ContainerStatus], mains_began: bool) -> &'static str {
    let policy = view.pod.restart_policy();
    let terminated = |status: &ContainerStatus| status.state.as_ref().and_then(|state| state.terminated.clone());
    if !mains_began {
        let failed = init
            .iter()
            .filter(|_| policy == RestartPolicy::Never)
            .any(|status| terminated(status).is_some_and(|end| end.exit_code != 0));
        if failed {
            return "Failed";
        }
        if !inits_done(view) {
            return "Pending";
        }
    }
    let (mut waiting, mut running, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for status in mains {
        let state = status.state.clone().unwrap_or_default();
        if state.running.is_some() {
            running += 1;
        } else if let Some(end) = state.terminated {
            stopped += 1;
            succeeded += usize::from(end.exit_code == 0);
        } else if status.last_state.as_ref().is_some_and(|last| last.terminated.is_some()) {
            stopped += 1;
        } else {
            waiting += 1;
        }
    }
    if waiting > 0 {
        "Pending"
    } else if running > 0 || (policy == RestartPolicy::Always && view.wish == Wish::Run) {
        "Running"
    } else if stopped == succeeded {
        "Succeeded"
    } else if policy == RestartPolicy::Never || view.wish != Wish::Run {
        "Failed"
    } else {
        "Running"
    }
}

fn conditions(
    view: &View<'_>,
    facts: &Facts<'_>,
    init: &[ContainerStatus],
    mains: &[ContainerStatus],
    ended: bool,
    mains_began: bool,
) -> Vec<PodCondition> {
    let pod = view.pod;
    let succeeded = ended
        && mains.iter().all(|status| {
            status
                .state
                .as_ref()
                .and_then(|state| state.terminated.as_ref())
                .is_some_and(|end| end.exit_code == 0)
        });
    let not_ready = |list: &[ContainerStatus]| -> Vec<String> {
        list.iter()
            .filter(|status| !status.ready)
            .map(|status| status.name.clone())
            .collect()
    };
    let sidecars_ready = init
        .iter()
        .zip(pod.init())
        .filter(|(_, spec)| is_sidecar(spec))
        .all(|(status, _)| status.ready);
    let unready = not_ready(mains);
    let initialized = mains_began || inits_done(view);
    let containers_ready = !ended && unready.is_empty() && sidecars_ready && initialized;
    let gates = pod.spec.readiness_gates.iter().flatten().all(|gate| {
        facts
            .before
            .conditions
            .iter()
            .flatten()
            .any(|condition| condition.type_ == gate.condition_type && condition.status == "True")
    });
    let why = |ready: bool| -> (Option<String>, Option<String>) {
        if ready {
            (None, None)
        } else if ended {
            (
                Some(if succeeded { "PodCompleted" } else { "PodFailed" }.to_owned()),
                None,
            )
        } else {
            let message = format!("containers with unready status: [{}]", unready.join(" "));
            (Some("ContainersNotReady".to_owned()), Some(message))
        }
    };
    let has_network = view.containers.iter().any(Container::is_running) || pod.host_network();
    let incomplete = not_ready(init);
    let (initialized_reason, initialized_message) = if initialized {
        (succeeded.then(|| "PodCompleted".to_owned()), None)
    } else {
        let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
        (Some("ContainersNotInitialized".to_owned()), Some(message))
    };
    let ready = containers_ready && gates;
    let ready_why = if containers_ready && !gates {
        (Some("ReadinessGatesNotReady".to_owned()), None)
    } else {
        why(ready)
    };
    let ours = [
        ("PodReadyToStartContainers", has_network, (None, None)),
        ("Initialized", initialized, (initialized_reason, initialized_message)),
        ("Ready", ready, ready_why),
        ("ContainersReady", containers_ready, why(containers_ready)),
        ("PodScheduled", true, (None, None)),
    ];
    let before = |kind: &str| {
        facts
            .before
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == kind)
    };
    let mut conditions: Vec<PodCondition> = ours
        .into_iter()
        .map(|(kind, holds, (reason, message))| {
            let status = if holds { "True" } else { "False" };
            let moved = match before(kind) {
                Some(old) if old.status == status => old.last_transition_time.clone(),
                _ => None,
            };
            PodCondition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason,
                message,
                last_transition_time: moved.or(Some(Time(view.now.wall))),
                ..PodCondition::default()
            }
        })
        .collect();
    // Conditions of others stay as they are.
    for condition in facts.before.conditions.iter().flatten() {
        if !conditions.iter().any(|ours| ours.type_ == condition.type_) {
            conditions.push(condition.clone());
        }
    }
    conditions
}
