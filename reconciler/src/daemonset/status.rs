//! A DaemonSet's status: how many nodes shall have a pod, and how far they have one.

use std::time::Duration;

use serde_json::Value;

use super::{Spread, eligible::Verdict};
use crate::pods;

/// The status, and when a pod that is ready will be available.
pub(super) fn of(spread: &Spread<'_>) -> (Value, Option<Duration>) {
    let set = &*spread.world.set;
    let (mut wanted, mut current, mut elsewhere) = (0, 0, 0);
    let (mut updated, mut ready, mut available) = (0, 0, 0);
    let mut next: Option<Duration> = None;
    for seat in &spread.seats {
        if seat.verdict != Verdict::Runs {
            elsewhere += i64::from(!seat.pods.is_empty());
            continue;
        }
        wanted += 1;
        let Some(pod) = seat.pods.first() else { continue };
        current += 1;
        updated += i64::from(spread.current.is_of(pod));
        ready += i64::from(pods::is_ready(pod));
        match spread.ripens(pod) {
            Some(Duration::ZERO) => available += 1,
            Some(left) => next = Some(next.map_or(left, |next| next.min(left))),
            None => {}
        }
        // A new pod beside the old one ripens too.
        for left in seat.pods.iter().skip(1).filter_map(|pod| spread.ripens(pod)) {
            if !left.is_zero() {
                next = Some(next.map_or(left, |next| next.min(left)));
            }
        }
    }
    let mut status = pods::blank(set.status.as_ref());
    status["observedGeneration"] = set.meta.generation.unwrap_or(1).into();
    for (field, count) in [
        ("desiredNumberScheduled", wanted),
        ("currentNumberScheduled", current),
        ("numberMisscheduled", elsewhere),
        ("numberReady", ready),
    ] {
        status[field] = count.into();
    }
    for (field, count) in [
        ("updatedNumberScheduled", updated),
        ("numberAvailable", available),
        ("numberUnavailable", wanted - available),
    ] {
        pods::count(&mut status, field, count);
    }
    (status, next)
}
