//! What somebody did to a container by hand, past the agent, and the steps that put it right. Pure.

use std::time::Duration;

use crate::{
    observed::{self, Container, INFRA, Role},
    plan::{Action, Step, View, Wish, step},
    runtime::{Exit, Found, Life},
};

/// How long a container may stay paused: whoever copies it (`docker commit`) pauses it for a moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was done to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meddling {
    /// It runs, frozen. `since` is the monotonic time at which that was first seen.
    Paused { since: Duration },
    /// It runs without the address that it was made with.
    Detached,
    /// It had ended, was started, and is not to run. Its life stays as it ended, which is what counts.
    Revived,
}

impl Meddling {
    /// What a container that was just looked at shows.
    #[must_use]
    pub(crate) fn read(found: &Found, container: &Container, monotonic: Duration) -> Option<Self> {
        if !container.is_running() {
            return None;
        }
        if found.paused {
            return Some(Self::Paused { since: monotonic });
        }
        let address = container.address?;
        (!found.addresses.contains(&address)).then_some(Self::Detached)
    }

    /// What goes on keeps its time.
    #[must_use]
    pub(crate) fn following(self, before: Option<Self>) -> Self {
        match (self, before) {
            (Self::Paused { .. }, Some(Self::Paused { since })) => Self::Paused { since },
            _ => self,
        }
    }

    #[must_use]
    pub(crate) fn is_like(before: Option<Self>, after: Option<Self>) -> bool {
        before.map(|before| std::mem::discriminant(&before)) == after.map(|after| std::mem::discriminant(&after))
    }
}

/// Whether a container that had ended and was started by hand takes its own place again: when the agent
/// would have made a new one of it anyway, and did not yet start it.
#[must_use]
pub(crate) fn may_go_on(view: &View<'_>, container: &Container, exit: &Exit) -> bool {
    let pod = view.pod;
    let infra = observed::latest(view.containers, INFRA).filter(|infra| infra.is_running());
    let networked = match container.role {
        // The network of the others went with its first life.
        Role::Infra => false,
        Role::Single => true,
        Role::Init | Role::Main => match (&container.joins, infra) {
            (Some(joined), Some(infra)) => *joined == infra.id,
            (Some(_), None) => false,
            (None, _) => true,
        },
    };
    let newest = view
        .containers
        .iter()
        .filter(|other| other.name == container.name && other.attempt > container.attempt)
        .all(|newer| newer.life == Life::Created);
    view.wish == Wish::Run
        && !pod.stored_phase_is_final()
        && networked
        && newest
        && *container.spec_hash == *pod.spec_hash(&container.name)
        && pod.policy_of(&container.name).restarts(exit.code)
}

/// The steps that come before all others, and when to look again. `counts` tells the containers of the
/// pod's network of now.
pub(crate) fn mend(view: &View<'_>, counts: impl Fn(&Container) -> bool) -> (Vec<Step>, Option<Duration>) {
    let mut steps = Vec::new();
    let mut again: Option<Duration> = None;
    let stop = |container: &Container, reason: &str| {
        let waves = vec![vec![container.id.clone()]];
        let grace = view.pod.grace();
        step(Action::Stop { waves, grace }, reason)
    };
    for container in view.containers {
        let id = container.id.clone();
        match (container.meddling, container.address) {
            (Some(Meddling::Revived), _) => steps.push(stop(container, "it had ended, and was started by hand")),
            (Some(Meddling::Paused { since }), _) => {
                let left = (since + PATIENCE).saturating_sub(view.now.monotonic);
                if left.is_zero() {
                    steps.push(step(Action::Unpause { id }, "it was paused by hand"));
                } else {
                    again = Some(again.map_or(left, |again| again.min(left)));
                }
            }
            (Some(Meddling::Detached), Some(address)) => {
                steps.push(step(Action::Reconnect { id, address }, "its network was taken by hand"));
            }
            (Some(Meddling::Detached), None) | (None, _) => {}
        }
        let newest = observed::latest(view.containers, &container.name).filter(|newest| newest.id != container.id);
        let Some(newest) = newest.filter(|_| container.is_running() && counts(container)) else {
            continue;
        };
        if newest.life == Life::Created && container.role != Role::Infra {
            let id = newest.id.clone();
            steps.push(step(Action::Remove { id }, "the one before it was started by hand"));
        } else {
            steps.push(stop(container, "a newer one has taken its place"));
        }
    }
    (steps, again)
}
