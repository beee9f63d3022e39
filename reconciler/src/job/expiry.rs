//! The end of a finished Job that is not kept for ever.

use k8s_openapi::api::batch::v1::JobSpec;
use schemas::{Now, deletion::Propagation};
use store::Class;

use super::{World, status::seconds};
use crate::{
    finished::{self, Finished},
    owners,
    plan::{Plan, Step},
};

/// How soon a Job whose newest content is yet to be released is looked at again.
const SOON: std::time::Duration = std::time::Duration::from_secs(1);

/// Deletes a finished Job when its time is up. Of one that git declares it is remembered first how it
/// ended: its manifest is done with, and does not run again until it changes.
pub(super) fn expire(plan: &mut Plan, world: &World, spec: &JobSpec, now: Now) {
    let Some(ttl) = spec.ttl_seconds_after_finished.map(seconds) else {
        return;
    };
    let passed = world.seen.finished.unwrap_or_default();
    if let Some(left) = ttl.checked_sub(passed).filter(|left| !left.is_zero()) {
        plan.look_again(left);
        return;
    }
    let job = &*world.job;
    if let Some(declared) = world.declared {
        if !declared.released {
            plan.look_again(SOON);
            return;
        }
        plan.steps.push(Step::Remember(finished::Note {
            key: job.key(),
            finished: Some(Finished::of(job, declared.content)),
        }));
    }
    let delete = owners::delete(job, Some(Propagation::Foreground), now);
    plan.writes(
        Class::Controller,
        "deleting a Job whose time after its end is up",
        delete.into_iter().collect(),
    );
}
