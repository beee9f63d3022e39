//! Pods that nobody needs any more: the oldest finished ones beyond a limit, and those bound to a node
//! that is gone.

use std::sync::Arc;

use schemas::{Now, Object, deletion::DeleteOptions};
use store::{Class, Write};

use crate::{
    owners,
    plan::{Plan, status_of},
    pods::{disrupted, is_finished},
};

/// So many finished pods are kept.
pub const FINISHED: usize = 12_500;
/// A node that is gone may come back within this time before its pods go.
pub const QUARANTINE: std::time::Duration = std::time::Duration::from_secs(40);
/// At most so many pods go in one look.
pub const AT_ONCE: usize = 500;

/// The pods that are to go.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Finished pods beyond the limit, the oldest first.
    pub beyond: Vec<Arc<Object>>,
    /// Pods of nodes that have been gone for longer than [`QUARANTINE`].
    pub lost: Vec<Arc<Object>>,
    /// When the next node's time is up.
    pub next: Option<std::time::Duration>,
}

#[must_use]
pub fn plan(world: &World, now: Now) -> Plan {
    let mut plan = Plan::default();
    let at_once = DeleteOptions {
        grace_period_seconds: Some(0),
        ..DeleteOptions::default()
    };
    for (why, pods) in [
        ("finished pods beyond the limit", &world.beyond),
        ("pods of a node that is gone", &world.lost),
    ] {
        let pods = pods.iter().filter(|pod| !waits(pod)).take(AT_ONCE);
        plan.writes(
            Class::Controller,
            why,
            pods.filter_map(|pod| owners::delete_with(pod, &at_once, now)).collect(),
        );
    }
    let held: Vec<Write> = world
        .lost
        .iter()
        .filter(waits)
        .take(AT_ONCE)
        .map(|pod| fail(pod, now))
        .collect();
    if !held.is_empty() {
        plan.look_again(std::time::Duration::ZERO);
    }
    plan.writes(Class::Status, "pods of a node that is gone have failed", held);
    if let Some(next) = world.next {
        plan.look_again(next.saturating_sub(now.monotonic));
    }
    plan
}

/// A pod that somebody waits to count, and that its agent will not tell the end of.
fn waits(pod: &&Arc<Object>) -> bool {
    let held = pod
        .meta
        .finalizers
        .as_ref()
        .is_some_and(|finalizers| !finalizers.is_empty());
    held && !is_finished(pod)
}

fn fail(pod: &Object, now: Now) -> Write {
    let mut status = disrupted(pod, "DeletionByPodGC", "PodGC: node no longer exists", now);
    status["phase"] = "Failed".into();
    status_of(pod, status)
}

#[cfg(test)]
mod tests;
