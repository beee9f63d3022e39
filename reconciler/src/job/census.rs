//! The pods of a Job, told apart.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::JobSpec;
use rustc_hash::FxHashMap;
use schemas::{Object, Uid, labels};

use super::tracking::is_tracked;
use crate::pods::phase;

/// What a pod is to its Job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Active,
    /// It is being deleted and has not ended.
    Terminating,
    Succeeded,
    Failed,
}

/// One pod.
#[derive(Clone, Debug)]
pub(super) struct Member<'a> {
    pub(super) pod: &'a Arc<Object>,
    pub(super) uid: Uid,
    pub(super) state: State,
    /// It carries the finalizer: it is not counted yet, or not for good.
    pub(super) tracked: bool,
    /// Its completion index, if the Job has such an index.
    pub(super) index: Option<u32>,
}

/// All of them, and what of the spec decides over them.
#[derive(Debug)]
pub(super) struct Census<'a> {
    pub(super) members: Vec<Member<'a>>,
    pub(super) indexed: bool,
    pub(super) completions: Option<u32>,
    /// How often an index may fail, where indexes fail by themselves.
    pub(super) per_index: Option<u32>,
    /// A pod is replaced, and counts as failed, only once it has ended.
    pub(super) waits_for_end: bool,
}

impl<'a> Census<'a> {
    pub(super) fn of(spec: &JobSpec, pods: &'a [Arc<Object>]) -> Self {
        let number = |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok());
        let indexed = spec.completion_mode.as_deref() == Some("Indexed");
        let completions = number(spec.completions);
        let members = pods.iter().map(|pod| Member {
            uid: pod.uid(),
            state: state(pod),
            tracked: is_tracked(pod),
            index: index(pod).filter(|index| indexed && completions.is_some_and(|end| *index < end)),
            pod,
        });
        Self {
            members: members.collect(),
            indexed,
            completions,
            per_index: number(spec.backoff_limit_per_index).filter(|_| indexed),
            waits_for_end: spec.pod_replacement_policy.as_deref() == Some("Failed")
                || spec.pod_failure_policy.is_some(),
        }
    }

    pub(super) fn of_state(&self, state: State) -> impl Iterator<Item = &Member<'a>> {
        self.members.iter().filter(move |member| member.state == state)
    }

    /// Whether a pod counts as failed. One that somebody deletes does at once, unless the Job waits for
    /// its end.
    pub(super) fn has_failed(&self, member: &Member<'_>) -> bool {
        match member.state {
            State::Failed => true,
            State::Terminating => !self.waits_for_end,
            State::Active | State::Succeeded => false,
        }
    }

    /// A pod of an indexed Job counts only with an index of the Job.
    pub(super) fn counts(&self, member: &Member<'_>) -> bool {
        !self.indexed || member.index.is_some()
    }

    /// For each index the failed pod that failed last, where indexes fail by themselves. It tells how
    /// often the index has failed, so it stays until another pod takes its place.
    pub(super) fn last_failed(&self) -> FxHashMap<u32, &Member<'a>> {
        let mut last: FxHashMap<u32, &Member<'a>> = FxHashMap::default();
        if self.per_index.is_none() {
            return last;
        }
        for member in self
            .members
            .iter()
            .filter(|member| member.tracked && self.has_failed(member))
        {
            let Some(index) = member.index else { continue };
            let rank = |member: &Member<'_>| {
                let created = member.pod.meta.creation_timestamp.as_ref().map(|time| time.0);
                let failures = Failures::of(member.pod);
                (failures.counted + failures.ignored, created)
            };
            last.entry(index)
                .and_modify(|known| {
                    if rank(member) > rank(known) {
                        *known = member;
                    }
                })
                .or_insert(member);
        }
        last
    }
}

/// How often an index had failed before a pod was made for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Failures {
    pub(super) counted: u32,
    /// Those that a failure policy said to ignore.
    pub(super) ignored: u32,
}

impl Failures {
    pub(super) fn of(pod: &Object) -> Self {
        let number = |name| pod.annotation(name).and_then(|text| text.parse().ok()).unwrap_or(0);
        Self {
            counted: number(labels::JOB_INDEX_FAILURE_COUNT),
            ignored: number(labels::JOB_INDEX_IGNORED_FAILURE_COUNT),
        }
    }
}

fn state(pod: &Object) -> State {
    match phase(pod) {
        "Succeeded" => State::Succeeded,
        "Failed" => State::Failed,
        // It never ran, and never will.
        _ if pod.is_deleting() && pod.node.is_none() => State::Failed,
        _ if pod.is_deleting() => State::Terminating,
        _ => State::Active,
    }
}

fn index(pod: &Object) -> Option<u32> {
    pod.annotation(labels::JOB_COMPLETION_INDEX)?.parse().ok()
}
