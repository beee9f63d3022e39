//! Counting: names of ended pods into the status, and numbers once nothing can count them again.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{JobSpec, JobStatus, UncountedTerminatedPods};
use rustc_hash::{FxHashMap, FxHashSet};
use schemas::{Object, Uid, indexes::Indexes};

use super::{
    BURST,
    census::{Census, Failures, Member, State},
    policy::{self, Judgement},
};

/// What there is to count, and what came of it.
#[derive(Debug)]
pub(super) struct Tally {
    /// Pods that have succeeded; of an indexed Job the indexes.
    pub(super) succeeded: usize,
    pub(super) failed: usize,
    pub(super) completed: Indexes,
    pub(super) failed_indexes: Indexes,
    /// Why a failure policy ends the Job, if it does.
    pub(super) fails_job: Option<String>,
    /// There was more to count than one look takes.
    pub(super) more: bool,
    settled: (i32, i32),
    waiting: UncountedTerminatedPods,
    known: FxHashSet<Uid>,
    room: usize,
    per_index: bool,
    indexed: bool,
    /// The failed pods that tell how often their index has failed.
    delayed: FxHashSet<Uid>,
}

/// Counts. Names in the status whose pods have lost the finalizer, or are gone, become numbers; pods
/// that ended and are not named yet become names.
pub(super) fn tally(census: &Census<'_>, spec: &JobSpec, status: &JobStatus) -> Tally {
    let tracked: FxHashSet<&str> = census
        .members
        .iter()
        .filter(|member| member.tracked)
        .map(|member| &*member.uid.0)
        .collect();
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let settle = |names: Option<Vec<String>>, counted: Option<i32>| {
        let names = names.unwrap_or_default();
        let before = names.len();
        let left: Vec<String> = names.into_iter().filter(|uid| tracked.contains(uid.as_str())).collect();
        let settled = i32::try_from(before - left.len()).unwrap_or(i32::MAX);
        (left, counted.unwrap_or(0).saturating_add(settled))
    };
    let (succeeded, settled_successes) = settle(uncounted.succeeded, status.succeeded);
    let (failed, settled_failures) = settle(uncounted.failed, status.failed);
    let end = census.completions.unwrap_or(0);
    let mut tally = Tally {
        succeeded: 0,
        failed: 0,
        completed: Indexes::of_status(status.completed_indexes.as_deref(), end),
        failed_indexes: Indexes::of_status(status.failed_indexes.as_deref(), end),
        fails_job: None,
        more: false,
        settled: (settled_successes, settled_failures),
        known: succeeded
            .iter()
            .chain(&failed)
            .map(|uid| Uid::from(uid.as_str()))
            .collect(),
        waiting: UncountedTerminatedPods {
            succeeded: Some(succeeded),
            failed: Some(failed),
        },
        room: BURST,
        per_index: census.per_index.is_some(),
        indexed: census.indexed,
        delayed: FxHashSet::default(),
    };
    let count = |number: i32| usize::try_from(number).unwrap_or(0);
    let mut successes = count(settled_successes) + tally.waiting.succeeded.as_ref().map_or(0, Vec::len);
    let mut failures = count(settled_failures) + tally.waiting.failed.as_ref().map_or(0, Vec::len);
    let fresh = |tally: &Tally, member: &Member<'_>| member.tracked && !tally.known.contains(&member.uid);
    for member in census.of_state(State::Succeeded).filter(|member| member.tracked) {
        if census.indexed {
            // The set of indexes itself keeps a pod from being counted twice.
            if let Some(index) = member.index {
                tally.completed.insert(index);
            }
        } else if fresh(&tally, member) {
            successes += 1;
            tally.name(member, true);
        }
    }
    for member in &census.members {
        if !member.tracked || !census.has_failed(member) {
            continue;
        }
        let judgement = policy::judge(spec.pod_failure_policy.as_ref(), member.pod);
        if let (Some(limit), Some(index)) = (census.per_index, member.index)
            && !tally.completed.contains(index)
        {
            let exhausted = Failures::of(member.pod).counted >= limit && judgement != Judgement::Ignore;
            if exhausted || judgement == Judgement::FailIndex {
                tally.failed_indexes.insert(index);
            }
        }
        let counts = judgement != Judgement::Ignore && census.counts(member);
        if counts && fresh(&tally, member) {
            failures += 1;
            tally.name(member, false);
        } else if !counts {
            tally.known.insert(member.uid.clone());
        }
        if let Judgement::FailJob(message) = judgement {
            tally.fails_job.get_or_insert(message);
        }
    }
    tally.succeeded = if census.indexed {
        tally.completed.len()
    } else {
        successes
    };
    tally.failed = failures;
    let replaced: FxHashSet<u32> = census
        .of_state(State::Active)
        .filter_map(|member| member.index)
        .collect();
    let last: FxHashMap<u32, &Member<'_>> = census.last_failed();
    let waits = |index: &u32| {
        !replaced.contains(index) && !tally.completed.contains(*index) && !tally.failed_indexes.contains(*index)
    };
    tally.delayed = last
        .iter()
        .filter(|(index, _)| waits(index))
        .map(|(_, member)| member.uid.clone())
        .collect();
    tally
}

impl Tally {
    /// Puts a pod's name into the status to be, if there is room.
    fn name(&mut self, member: &Member<'_>, succeeded: bool) {
        if self.room == 0 {
            self.more = true;
            return;
        }
        self.room -= 1;
        let list = if succeeded {
            self.waiting.succeeded.get_or_insert_default()
        } else {
            self.waiting.failed.get_or_insert_default()
        };
        list.push(member.uid.to_string());
        self.known.insert(member.uid.clone());
    }

    /// The Job has failed: what has not succeeded by now counts as failed.
    pub(super) fn fail_rest(&mut self, census: &Census<'_>) {
        for member in &census.members {
            let open = member.tracked && member.state != State::Succeeded && !self.known.contains(&member.uid);
            if open && census.counts(member) {
                self.failed += 1;
                self.name(member, false);
            } else if open {
                self.known.insert(member.uid.clone());
            }
        }
    }

    /// Whether a pod is counted, or shall not be, so that it may go.
    pub(super) fn is_done_with(&self, member: &Member<'_>) -> bool {
        (self.indexed && member.state == State::Succeeded) || self.known.contains(&member.uid)
    }

    /// Ended pods that may lose the finalizer once the status is written. While the Job goes on, the
    /// last failure of an index stays until another pod takes its place.
    pub(super) fn strips<'c, 'a>(&self, census: &'c Census<'a>, goes_on: bool) -> Vec<&'a Arc<Object>> {
        let may_go = |member: &&'c Member<'a>| {
            member.tracked
                && member.state != State::Active
                && self.is_done_with(member)
                && !(goes_on && self.delayed.contains(&member.uid))
        };
        census.members.iter().filter(may_go).map(|member| member.pod).collect()
    }

    /// Nothing waits to become a number.
    pub(super) fn is_settled(&self) -> bool {
        let empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
        empty(&self.waiting.succeeded) && empty(&self.waiting.failed)
    }

    /// Writes names and numbers into a status.
    pub(super) fn record(&self, status: &mut JobStatus) {
        let some = |number: i32| (number > 0).then_some(number);
        let names = |list: &Option<Vec<String>>| list.clone().filter(|list| !list.is_empty());
        status.failed = some(self.settled.1);
        if self.indexed {
            status.succeeded = some(i32::try_from(self.completed.len()).unwrap_or(i32::MAX));
            status.completed_indexes = (!self.completed.is_empty()).then(|| self.completed.to_string());
        } else {
            status.succeeded = some(self.settled.0);
        }
        if self.per_index {
            status.failed_indexes = Some(self.failed_indexes.to_string());
        }
        status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: names(&self.waiting.succeeded),
            failed: names(&self.waiting.failed),
        });
    }
}
