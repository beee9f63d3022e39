//! Whether a Job is over, and how.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{JobSpec, JobStatus};

use super::{
    World,
    census::{Census, State},
    policy, status,
    tally::Tally,
};
use crate::{
    plan::Plan,
    pods::{phase, restarts},
};

/// How a Job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) succeeded: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

impl End {
    fn failed(reason: &str, message: impl Into<String>) -> Option<Self> {
        Some(Self {
            succeeded: false,
            reason: reason.to_owned(),
            message: message.into(),
        })
    }

    fn succeeded(reason: &str, message: impl Into<String>) -> Option<Self> {
        Some(Self {
            succeeded: true,
            reason: reason.to_owned(),
            message: message.into(),
        })
    }
}

/// Decides once and for all: what was decided before stands in the status. A Job that has all it wanted
/// is not failed for being late.
pub(super) fn verdict(
    world: &World,
    spec: &JobSpec,
    status: &JobStatus,
    census: &Census<'_>,
    tally: &Tally,
    plan: &mut Plan,
) -> Option<End> {
    for (kind, succeeded) in [("SuccessCriteriaMet", true), ("FailureTarget", false)] {
        if let Some(said) = status::condition(status, kind) {
            return Some(End {
                succeeded,
                reason: said.reason.clone().unwrap_or_default(),
                message: said.message.clone().unwrap_or_default(),
            });
        }
    }
    if let Some(message) = &tally.fails_job {
        return End::failed("PodFailurePolicy", message.clone());
    }
    let active = census.of_state(State::Active).count();
    let complete = match census.completions {
        Some(wanted) => tally.succeeded >= wanted as usize && active == 0,
        // Any success ends it, once those beside it have ended too.
        None => tally.succeeded > 0 && active == 0,
    };
    if complete {
        return End::succeeded("CompletionsReached", "Reached expected number of succeeded pods");
    }
    if let Some(message) = policy::is_enough(spec.success_policy.as_ref(), &tally.completed) {
        return End::succeeded("SuccessPolicy", message);
    }
    deadline(world, spec, plan)
        .or_else(|| limit(spec, census, tally))
        .or_else(|| indexes(spec, census, tally))
}

fn deadline(world: &World, spec: &JobSpec, plan: &mut Plan) -> Option<End> {
    let seconds = spec.active_deadline_seconds.filter(|_| spec.suspend != Some(true))?;
    let deadline = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    // A Job that is only now being started has all of its time.
    let ran = world.seen.running.unwrap_or_default();
    match deadline.checked_sub(ran).filter(|left| !left.is_zero()) {
        Some(left) => {
            plan.look_again(left);
            None
        }
        None => End::failed("DeadlineExceeded", "Job was active longer than specified deadline"),
    }
}

fn limit(spec: &JobSpec, census: &Census<'_>, tally: &Tally) -> Option<End> {
    let limit = usize::try_from(spec.backoff_limit.unwrap_or(6)).unwrap_or(0);
    let on_failure = spec
        .template
        .spec
        .as_ref()
        .is_some_and(|pod| pod.restart_policy.as_deref() == Some("OnFailure"));
    // A pod that starts its containers again fails without ending.
    let restarted = || -> i64 {
        let running = census
            .of_state(State::Active)
            .filter(|member| matches!(phase(member.pod), "Running" | "Pending"));
        running.map(|member| restarts(member.pod)).sum()
    };
    let restarts = if on_failure { restarted() } else { 0 };
    let restarted = restarts > 0 && usize::try_from(restarts).unwrap_or(usize::MAX) >= limit;
    if tally.failed > limit || restarted {
        return End::failed("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    None
}

fn indexes(spec: &JobSpec, census: &Census<'_>, tally: &Tally) -> Option<End> {
    census.per_index?;
    let failed = tally.failed_indexes.len();
    let most = spec.max_failed_indexes.and_then(|most| usize::try_from(most).ok());
    if most.is_some_and(|most| failed > most) {
        return End::failed(
            "MaxFailedIndexesExceeded",
            "Job has exceeded the specified maximal number of failed indexes",
        );
    }
    let all = census.completions.unwrap_or(0) as usize;
    if failed > 0 && failed + tally.completed.len() >= all {
        return End::failed("FailedIndexes", "Job has failed indexes");
    }
    None
}
