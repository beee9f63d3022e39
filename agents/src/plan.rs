//! What to do for one pod: a pure function of what is wanted, what is there, and what was remembered.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Container as ContainerSpec;
use schemas::Now;

use crate::{
    meddling,
    memory::Memory,
    observed::{self, Container, INFRA, Role},
    pod::{Pod, RestartPolicy, is_sidecar},
    runtime::{ContainerId, Life},
};

/// What is wanted of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Run,
    /// Its containers end within this time and are removed.
    End(Duration),
}

/// All that a plan is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub pod: &'a Pod,
    pub wish: Wish,
    pub containers: &'a [Container],
    pub memory: &'a Memory,
    pub now: Now,
}

/// Ordered steps, what waits and why, and when to look again.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub steps: Vec<Step>,
    pub waiting: BTreeMap<Arc<str>, Waiting>,
    pub requeue_after: Option<Duration>,
    /// The pod was to end, and nothing of it is left.
    pub ended: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub action: Action,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Have the image of a container on the node, as its pull policy says.
    Ensure {
        container: Arc<str>,
    },
    Create {
        container: Arc<str>,
        attempt: u32,
    },
    Start {
        container: Arc<str>,
        attempt: u32,
    },
    /// Run the hook that follows the start.
    PostStart {
        container: Arc<str>,
        attempt: u32,
    },
    /// End containers, wave after wave, all within one budget.
    Stop {
        waves: Vec<Vec<ContainerId>>,
        grace: Duration,
    },
    Remove {
        id: ContainerId,
    },
    /// Let a paused container go on.
    Unpause {
        id: ContainerId,
    },
    /// Give a running container its address back.
    Reconnect {
        id: ContainerId,
        address: Ipv4Addr,
    },
}

/// Why a container does not run now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub reason: &'static str,
    pub message: Option<String>,
}

/// Makes the plan for one pod. An empty plan means that it is as wanted, or waits.
#[must_use]
pub(crate) fn plan(view: &View<'_>) -> Plan {
    match view.wish {
        Wish::End(grace) => end(view, grace),
        Wish::Run => run(view),
    }
}

pub(crate) fn step(action: Action, reason: impl Into<String>) -> Step {
    Step {
        action,
        reason: reason.into(),
    }
}

/// Everything ends and goes.
fn end(view: &View<'_>, grace: Duration) -> Plan {
    let mut plan = Plan {
        ended: view.containers.is_empty(),
        ..Plan::default()
    };
    if let Some(stop) = stop_all(view, grace, "the pod is deleted", |_| true) {
        plan.steps.push(stop);
    }
    for container in view.containers {
        let action = Action::Remove {
            id: container.id.clone(),
        };
        plan.steps.push(step(action, "the pod is deleted"));
    }
    plan
}

/// Ends the running containers that `which` picks: the main ones together, then sidecars in reverse
/// order, then the network.
fn stop_all(view: &View<'_>, grace: Duration, reason: &str, which: impl Fn(&Container) -> bool) -> Option<Step> {
    let running: Vec<&Container> = view
        .containers
        .iter()
        .filter(|container| container.is_alive() && which(container))
        .collect();
    if running.is_empty() {
        return None;
    }
    let ids = |wanted: &dyn Fn(&Container) -> bool| -> Vec<ContainerId> {
        running.iter().filter(|c| wanted(c)).map(|c| c.id.clone()).collect()
    };
    let mut waves = vec![ids(&|c| matches!(c.role, Role::Main | Role::Single))];
    for spec in view.pod.init().iter().rev() {
        waves.push(ids(&|c| c.role == Role::Init && *c.name == *spec.name));
    }
    waves.push(ids(&|c| c.role == Role::Infra));
    waves.retain(|wave| !wave.is_empty());
    Some(step(Action::Stop { waves, grace }, reason))
}

/// What one container needs next.
enum Next {
    /// It runs, and has started up.
    Running,
    /// It runs, but its startup probe has not passed yet.
    Starting,
    Succeeded,
    Failed,
    Waits(Waiting, Option<Duration>),
    Steps(Vec<Step>),
}

fn run(view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    if view.pod.stored_phase_is_final() {
        plan.steps
            .extend(stop_all(view, view.pod.grace(), "the pod has ended", |_| true));
        return plan;
    }
    let infra = observed::latest(view.containers, INFRA).filter(|_| view.pod.needs_infra());
    let network_lost = view.pod.needs_infra() && !infra.is_some_and(Container::is_running);
    // Containers of an earlier network do not count any more: the pod starts over. Which network a
    // container has joined is the runtime's own record of its creation; times say nothing of it, since
    // clocks step.
    let counts = |container: &Container| match infra {
        Some(infra) if container.role == Role::Infra => container.id == infra.id,
        Some(_) if network_lost => false,
        Some(infra) => container.joins.as_ref().is_none_or(|joined| *joined == infra.id),
        None => true,
    };
    let current: Vec<Container> = view.containers.iter().filter(|c| counts(c)).cloned().collect();

    let (mending, again) = meddling::mend(view, counts);
    plan.requeue_after = again;
    if !mending.is_empty() {
        plan.steps = mending;
        return plan;
    }

    let mut work = Vec::new();
    let ended = if network_lost && pod_is_done(view) {
        true
    } else {
        walk(view, &current, &mut plan, &mut work)
    };
    if ended {
        plan.steps
            .extend(stop_all(view, view.pod.grace(), "the pod has ended", |_| true));
        return plan;
    }
    if !network_lost {
        plan.steps
            .extend(stop_all(view, view.pod.grace(), "its network is an earlier one", |c| {
                !counts(c)
            }));
    } else if !work.is_empty() {
        plan.steps
            .extend(stop_all(view, view.pod.grace(), "the pod's network is gone", |_| true));
        match infra {
            Some(infra) if infra.life == Life::Created => {
                let (container, attempt) = (infra.name.clone(), infra.attempt);
                plan.steps
                    .push(step(Action::Start { container, attempt }, "the pod needs its network"));
            }
            _ => match make(view, INFRA, false, "the pod needs a network") {
                Next::Steps(steps) => plan.steps.extend(steps),
                Next::Waits(waiting, after) => {
                    note_wait(&mut plan, INFRA, waiting, after);
                    return plan;
                }
                _ => {}
            },
        }
    }
    plan.steps.extend(work);
    prune(view, &mut plan);
    plan
}

/// Every main container has ended for good; then a lost network is no reason to start over.
fn pod_is_done(view: &View<'_>) -> bool {
    view.pod.spec.containers.iter().all(|spec| {
        observed::latest(view.containers, &spec.name)
            .and_then(Container::exit)
            .is_some_and(|exit| !view.pod.restart_policy().restarts(exit.code))
    })
}

/// Goes through the pod's containers in order. Tells whether the pod has ended.
fn walk(view: &View<'_>, current: &[Container], plan: &mut Plan, work: &mut Vec<Step>) -> bool {
    let mains_began = view
        .pod
        .spec
        .containers
        .iter()
        .any(|spec| observed::latest(current, &spec.name).is_some());
    for spec in view.pod.init() {
        let sidecar = is_sidecar(spec);
        if mains_began && !sidecar {
            continue;
        }
        let blocks = match decide(view, current, spec) {
            Next::Running => !sidecar,
            Next::Starting => true,
            Next::Succeeded => false,
            Next::Failed => return true,
            Next::Waits(waiting, after) => {
                note_wait(plan, &spec.name, waiting, after);
                true
            }
            Next::Steps(steps) => {
                work.extend(steps);
                true
            }
        };
        if blocks && !mains_began {
            return false;
        }
    }
    let mut ended = true;
    for spec in &view.pod.spec.containers {
        match decide(view, current, spec) {
            Next::Succeeded | Next::Failed => {}
            Next::Running | Next::Starting => ended = false,
            Next::Waits(waiting, after) => {
                ended = false;
                note_wait(plan, &spec.name, waiting, after);
            }
            Next::Steps(steps) => {
                ended = false;
                work.extend(steps);
            }
        }
    }
    ended
}

fn note_wait(plan: &mut Plan, container: &str, waiting: Waiting, after: Option<Duration>) {
    plan.waiting.insert(container.into(), waiting);
    plan.requeue_after = match (plan.requeue_after, after) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

fn decide(view: &View<'_>, current: &[Container], spec: &ContainerSpec) -> Next {
    let name = spec.name.as_str();
    let policy = view.pod.policy_of(name);
    let memory = view.memory.get(name);
    let has_hook = spec.lifecycle.as_ref().is_some_and(|hooks| hooks.post_start.is_some());
    let Some(container) = observed::latest(current, name) else {
        let known = memory
            .and_then(|memory| memory.attempt)
            .or_else(|| view.pod.stored_restarts(name));
        let of_this_network = view.containers.iter().any(|container| *container.name == *name);
        if known.is_some() && policy == RestartPolicy::Never && !of_this_network {
            // It ran, and was removed behind our back.
            return Next::Failed;
        }
        return make(view, name, has_hook, "the container is not there");
    };
    let changed = *container.spec_hash != *view.pod.spec_hash(name);
    match &container.life {
        Life::Created if changed => Next::Steps(vec![step(
            Action::Remove {
                id: container.id.clone(),
            },
            "the pod's spec has changed",
        )]),
        Life::Created => {
            let (container, attempt) = (container.name.clone(), container.attempt);
            let mut steps = vec![step(
                Action::Start {
                    container: container.clone(),
                    attempt,
                },
                "the container was made but not started",
            )];
            if has_hook {
                steps.push(step(
                    Action::PostStart { container, attempt },
                    "a hook follows the start",
                ));
            }
            Next::Steps(steps)
        }
        Life::Running { .. } => {
            let condemned = memory
                .and_then(|memory| memory.condemned.as_ref())
                .filter(|(id, _)| *id == container.id);
            if changed || condemned.is_some() {
                let reason = condemned.map_or("the pod's spec has changed", |(_, reason)| reason);
                let stop = Action::Stop {
                    waves: vec![vec![container.id.clone()]],
                    grace: view.pod.grace(),
                };
                return Next::Steps(vec![step(stop, reason)]);
            }
            let checks = memory
                .and_then(|memory| memory.checks.as_ref())
                .filter(|(id, _)| *id == container.id);
            let started = match checks {
                Some((_, checks)) => checks.started,
                None => spec.startup_probe.is_none(),
            };
            if started { Next::Running } else { Next::Starting }
        }
        Life::Exited(exit) => {
            if changed {
                return make(view, name, has_hook, "the pod's spec has changed");
            }
            if !policy.restarts(exit.code) {
                return if exit.code == 0 { Next::Succeeded } else { Next::Failed };
            }
            let wait = memory.map_or(Duration::ZERO, |memory| memory.restart.remaining(view.now.monotonic));
            if !wait.is_zero() {
                let total = Duration::as_secs(&crate::backoff::Backoff::delay(
                    memory.map_or(1, |memory| memory.restart.failures.saturating_sub(1)),
                ));
                let waiting = Waiting {
                    reason: "CrashLoopBackOff",
                    message: Some(format!(
                        "back-off {total}s restarting failed container={name} pod={}_{}",
                        view.pod.key.name,
                        view.pod.key.ns()
                    )),
                };
                return Next::Waits(waiting, Some(wait));
            }
            let reason = format!("the container ended with code {}", exit.code);
            make(view, name, has_hook, &reason)
        }
    }
}

/// Steps for the next attempt of a container, unless something stands in the way.
fn make(view: &View<'_>, name: &str, has_hook: bool, reason: &str) -> Next {
    let memory = view.memory.get(name);
    let last = observed::latest(view.containers, name);
    if let Some(trouble) = memory.and_then(|memory| memory.trouble.as_ref()) {
        let wait = trouble.backoff.remaining(view.now.monotonic);
        if !wait.is_zero() {
            let waiting = Waiting {
                reason: trouble.reason(),
                message: Some(trouble.message.to_string()),
            };
            return Next::Waits(waiting, Some(wait));
        }
    }
    let seen = [
        last.map(|container| container.attempt),
        memory.and_then(|memory| memory.attempt),
        last.map_or_else(|| view.pod.stored_restarts(name), |_| None),
    ];
    let attempt = seen.into_iter().flatten().max().map_or(0, |attempt| attempt + 1);
    let container: Arc<str> = name.into();
    let mut steps = vec![
        step(
            Action::Ensure {
                container: container.clone(),
            },
            reason,
        ),
        step(
            Action::Create {
                container: container.clone(),
                attempt,
            },
            reason,
        ),
        step(
            Action::Start {
                container: container.clone(),
                attempt,
            },
            reason,
        ),
    ];
    if has_hook {
        steps.push(step(
            Action::PostStart { container, attempt },
            "a hook follows the start",
        ));
    }
    Next::Steps(steps)
}

/// Of each container, the newest attempt and the last dead one before it stay; older ones go.
fn prune(view: &View<'_>, plan: &mut Plan) {
    let mut made: BTreeMap<&str, u32> = BTreeMap::new();
    for step in &plan.steps {
        if let Action::Create { container, attempt } = &step.action {
            made.insert(container, *attempt);
        }
    }
    let mut old = Vec::new();
    for container in view.containers {
        if container.is_alive() {
            continue;
        }
        let newer = view
            .containers
            .iter()
            .filter(|other| other.name == container.name && other.attempt > container.attempt);
        let newer =
            newer.count() + usize::from(made.get(&*container.name).is_some_and(|made| *made > container.attempt));
        let keep = if container.role == Role::Infra { 0 } else { 1 };
        if newer > keep {
            old.push(container);
        }
    }
    old.sort_by(|a, b| (&a.name, a.attempt).cmp(&(&b.name, b.attempt)));
    for container in old {
        let action = Action::Remove {
            id: container.id.clone(),
        };
        if !plan.steps.iter().any(|step| step.action == action) {
            plan.steps.push(step(action, "a newer dead container is kept"));
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "plan_properties.rs"]
mod properties;
