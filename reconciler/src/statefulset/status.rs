//! A StatefulSet's status: how many pods there are, of which revision, and which revision is current.

use std::time::Duration;

use serde_json::Value;

use super::{Row, is_running_and_ready};
use crate::{pods, revision};

/// The status, and when a pod that is ready will be available.
pub(super) fn of(row: &Row<'_>) -> (Value, Option<Duration>) {
    let set = row.set;
    let all = &row.world.pods;
    let (mut ready, mut available, mut current, mut updated) = (0, 0, 0, 0);
    let mut next: Option<Duration> = None;
    for pod in all {
        ready += i64::from(is_running_and_ready(pod));
        match row.ripens(pod) {
            Some(Duration::ZERO) => available += 1,
            Some(left) => next = Some(next.map_or(left, |next| next.min(left))),
            None => {}
        }
        if !pod.is_deleting() {
            current += i64::from(revision::mark_of(pod) == Some(&row.current));
            updated += i64::from(row.update.is_of(pod));
        }
    }
    let there = i64::try_from(all.len()).unwrap_or(i64::MAX);
    let wanted = i64::try_from(row.seats.len()).unwrap_or(i64::MAX);
    let mut name = row.current.as_str();
    if row.rolls() && updated == wanted && ready == wanted && there == wanted {
        // The update is complete.
        name = &row.update.name;
        current = updated;
    }
    let mut status = pods::blank(set.status.as_ref());
    status["observedGeneration"] = set.meta.generation.unwrap_or(1).into();
    status["replicas"] = there.into();
    status["availableReplicas"] = available.into();
    status["currentRevision"] = name.into();
    status["updateRevision"] = row.update.name.as_str().into();
    if status["collisionCount"].is_null() {
        status["collisionCount"] = 0.into();
    }
    for (field, count) in [
        ("readyReplicas", ready),
        ("currentReplicas", current),
        ("updatedReplicas", updated),
    ] {
        pods::count(&mut status, field, count);
    }
    (status, next)
}
