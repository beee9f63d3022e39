//! A Job's status: counts, times and conditions.

use std::time::Duration;

use k8s_openapi::{
    api::batch::v1::{JobCondition, JobStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use schemas::{Now, Object};
use serde_json::Value;

use super::{
    SOURCE,
    census::{Census, Member, State},
    scale::uids,
    verdict::End,
};
use crate::{plan::Plan, pods::is_ready};

/// The condition of this type, if it holds.
pub(super) fn condition<'s>(status: &'s JobStatus, kind: &str) -> Option<&'s JobCondition> {
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == kind && condition.status == "True")
}

/// Complete or failed, for good.
pub(super) fn is_finished(status: &JobStatus) -> bool {
    condition(status, "Complete").is_some() || condition(status, "Failed").is_some()
}

/// The status as it will be.
pub(super) struct Draft<'a> {
    pub(super) status: JobStatus,
    job: &'a Object,
    now: Now,
}

impl<'a> Draft<'a> {
    pub(super) fn of(job: &'a Object, status: JobStatus, now: Now) -> Self {
        Self { status, job, now }
    }

    pub(super) fn job(&self) -> &'a Object {
        self.job
    }

    fn time(&self) -> Time {
        let seconds = self.now.wall.as_second();
        Time(jiff::Timestamp::from_second(seconds).unwrap_or(self.now.wall))
    }

    /// Sets a condition; true if that says something new. One that was never true is not said to be
    /// false.
    fn set(&mut self, kind: &str, holds: bool, reason: &str, message: &str) -> bool {
        let time = self.time();
        let new = JobCondition {
            type_: kind.to_owned(),
            status: if holds { "True" } else { "False" }.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_probe_time: Some(time.clone()),
            last_transition_time: Some(time),
        };
        let conditions = self.status.conditions.get_or_insert_default();
        match conditions.iter_mut().find(|old| old.type_ == kind) {
            Some(old) if old.status == new.status && old.reason == new.reason && old.message == new.message => false,
            Some(old) => {
                *old = new;
                true
            }
            None if holds => {
                conditions.push(new);
                true
            }
            None => {
                if conditions.is_empty() {
                    self.status.conditions = None;
                }
                false
            }
        }
    }

    /// Says whether the Job is suspended. One that is resumed starts anew, its deadline included.
    pub(super) fn suspend(&mut self, suspended: bool, plan: &mut Plan) {
        if suspended {
            if self.set("Suspended", true, "JobSuspended", "Job suspended") {
                plan.note(SOURCE, self.job, "Suspended", "Job suspended");
                self.status.start_time = None;
            }
        } else if self.set("Suspended", false, "JobResumed", "Job resumed") {
            plan.note(SOURCE, self.job, "Resumed", "Job resumed");
        }
        if self.status.start_time.is_none() && !suspended {
            self.status.start_time = Some(self.time());
        }
    }

    /// Counts pods as they will be once those are removed and made.
    pub(super) fn count(&mut self, census: &Census<'_>, removed: &[&Member<'_>], made: usize) {
        let gone = uids(removed);
        let stays = |member: &&Member<'_>| !gone.contains(&member.uid);
        let active: Vec<&Member<'_>> = census.of_state(State::Active).filter(stays).collect();
        let ready = active.iter().filter(|member| is_ready(member.pod)).count();
        let stopping = removed.iter().filter(|member| member.pod.node.is_some()).count();
        let terminating = census.of_state(State::Terminating).count() + stopping;
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        self.status.active = Some(number(active.len() + made)).filter(|active| *active > 0);
        self.status.ready = Some(number(ready));
        self.status.terminating = Some(number(terminating));
    }

    /// Says that the Job is about to end.
    pub(super) fn ends(&mut self, end: &End) {
        let kind = if end.succeeded {
            "SuccessCriteriaMet"
        } else {
            "FailureTarget"
        };
        self.set(kind, true, &end.reason, &end.message);
        if self.status.start_time.is_none() {
            self.status.start_time = Some(self.time());
        }
    }

    /// Says that it has ended.
    pub(super) fn ended(&mut self, end: &End, plan: &mut Plan) {
        if end.succeeded {
            self.set("Complete", true, &end.reason, &end.message);
            self.status.completion_time = Some(self.time());
            plan.note(SOURCE, self.job, "Completed", "Job completed");
        } else {
            self.set("Failed", true, &end.reason, &end.message);
            plan.warn(SOURCE, self.job, &end.reason, end.message.clone());
        }
    }

    /// The new status, if it differs from the one that is stored.
    pub(super) fn changed(&self) -> Option<Value> {
        let new = serde_json::to_value(&self.status).unwrap_or_default();
        (self.job.status != Some((&new).into())).then_some(new)
    }
}

/// Seconds that a spec gives, as a span.
pub(super) fn seconds(count: i32) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}
