//! How many pods a Job shall have now: which are made, and which are too many.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use k8s_openapi::api::batch::v1::JobSpec;
use rustc_hash::FxHashSet;
use schemas::Object;

use super::{
    BURST, World, backoff,
    census::{Census, Failures, Member, State},
    tally::Tally,
};
use crate::{
    plan::Plan,
    pods::{is_ready, phase, restarts},
};

/// A pod to make.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub(super) index: Option<u32>,
    /// The failed pod of the same index whose place it takes, where indexes fail by themselves.
    pub(super) replaces: Option<Arc<Object>>,
}

/// What is to be done. Never both at once: too many go first.
#[derive(Debug, Default)]
pub(super) struct Scaling<'c, 'a> {
    pub(super) make: Vec<Slot>,
    pub(super) remove: Vec<&'c Member<'a>>,
}

pub(super) fn scale<'c, 'a>(
    world: &World,
    spec: &JobSpec,
    census: &'c Census<'a>,
    tally: &Tally,
    plan: &mut Plan,
) -> Scaling<'c, 'a> {
    let mut scaling = Scaling::default();
    let mut active: Vec<&Member<'a>> = census.of_state(State::Active).collect();
    if spec.suspend == Some(true) {
        active.truncate(BURST);
        scaling.remove = active;
        return scaling;
    }
    let parallelism = usize::try_from(spec.parallelism.unwrap_or(1)).unwrap_or(0);
    let wanted = match census.completions {
        // After the first success those that run may end, and no more are made.
        None if tally.succeeded > 0 => active.len(),
        None => parallelism,
        Some(all) => (all as usize).saturating_sub(tally.succeeded).min(parallelism),
    };
    let mut taken = tally.completed.clone();
    tally.failed_indexes.iter().for_each(|index| {
        taken.insert(index);
    });
    let too_many = active.len().saturating_sub(wanted);
    if census.indexed {
        // One pod for each index, the oldest; none for indexes that are done, or that the Job has not.
        active.sort_by_cached_key(|member| member.pod.meta.creation_timestamp.as_ref().map(|time| time.0));
        active.retain(|member| {
            let stays = member.index.is_some_and(|index| taken.insert(index));
            if !stays {
                scaling.remove.push(member);
            }
            stays
        });
    }
    if scaling.remove.len() < too_many {
        active.sort_by_cached_key(|member| rank(member.pod));
        let more = too_many - scaling.remove.len();
        scaling.remove.extend(active.iter().take(more));
    }
    scaling.remove.truncate(BURST);
    if !scaling.remove.is_empty() {
        return scaling;
    }
    let leaving: Vec<&Member<'a>> = if census.waits_for_end {
        census.of_state(State::Terminating).collect()
    } else {
        Vec::new()
    };
    leaving.iter().filter_map(|member| member.index).for_each(|index| {
        taken.insert(index);
    });
    let missing = wanted.saturating_sub(leaving.len() + active.len()).min(BURST);
    if missing == 0 {
        return scaling;
    }
    if census.per_index.is_none()
        && let Some(left) = backoff::left(world.seen.failures, world.seen.since_failure)
    {
        let message = format!("waits {} s after {} failures", left.as_secs(), world.seen.failures);
        plan.wait(world.job.key(), "BackOff", message);
        plan.look_again(left);
        return scaling;
    }
    if !census.indexed {
        scaling.make = vec![Slot::default(); missing];
        return scaling;
    }
    let last = census.last_failed();
    let mut soonest: Option<Duration> = None;
    for index in taken.missing(census.completions.unwrap_or(0)) {
        if scaling.make.len() == missing {
            break;
        }
        let replaces = last.get(&index).map(|member| member.pod.clone());
        if let Some(failed) = &replaces {
            let failures = Failures::of(failed);
            let count = (failures.counted + failures.ignored) as usize + 1;
            let since = world.seen.ended.get(&failed.uid()).copied().unwrap_or_default();
            if let Some(left) = backoff::left(count, since) {
                soonest = Some(soonest.map_or(left, |soonest| soonest.min(left)));
                continue;
            }
        }
        scaling.make.push(Slot {
            index: Some(index),
            replaces,
        });
    }
    if let Some(soonest) = soonest {
        plan.look_again(soonest);
    }
    scaling
}

/// What goes first has the lowest rank.
fn rank(pod: &Object) -> impl Ord + use<> {
    let phase = match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let created = pod.meta.creation_timestamp.as_ref().map(|time| time.0);
    (
        (pod.node.is_some(), phase, is_ready(pod)),
        Reverse(restarts(pod)),
        Reverse(created),
        pod.name().to_owned(),
    )
}

/// The uids of removed members, for counting what is left.
pub(super) fn uids(removed: &[&Member<'_>]) -> FxHashSet<schemas::Uid> {
    removed.iter().map(|member| member.uid.clone()).collect()
}
