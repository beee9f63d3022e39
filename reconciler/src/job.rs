//! Jobs: pods that run until enough of them have succeeded, each counted exactly once.
//!
//! A pod carries a finalizer until it is counted. Counting takes two writes: the status names the
//! pods that ended, then they lose the finalizer, and only once it is gone does the next status turn
//! names into numbers. So a crash between any two writes counts no pod twice and none never.
//!
//! <https://kubernetes.io/docs/concepts/workloads/controllers/job/>

mod backoff;
pub mod book;
mod census;
mod expiry;
mod making;
mod policy;
mod scale;
mod status;
mod tally;
pub(crate) mod tracking;
mod verdict;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::batch::v1::{JobSpec, JobStatus};
use schemas::{ContentHash, Key, Kind, Now, Object, selector::Selector};
use store::{Class, Write};

use crate::{
    ids::Ids,
    owners,
    plan::{Plan, status_of},
    pods::is_finished,
};
use book::Seen;
use census::{Census, Member, State};
use status::Draft;
use tally::Tally;
use tracking::untrack;
use verdict::End;

/// What is looked at for one Job.
#[derive(Clone, Debug)]
pub struct World {
    pub job: Arc<Object>,
    /// Pods that it controls and that have not ended, or are not counted yet.
    pub pods: Vec<Arc<Object>>,
    /// Pods of its namespace that nobody controls.
    pub strays: Vec<Arc<Object>>,
    pub seen: Seen,
    /// Why the last attempt to make pods failed.
    pub failure: Option<String>,
    /// How often in a row the world has overtaken the plan.
    pub tries: u32,
    /// What git declares of it, if it does.
    pub declared: Option<Declared>,
}

/// The row that declares a Job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    pub content: ContentHash,
    /// The live Job was made from this content.
    pub released: bool,
}

/// What one look has found out.
struct Look<'a> {
    world: &'a World,
    spec: &'a JobSpec,
    census: &'a Census<'a>,
    tally: &'a Tally,
}

const SOURCE: &str = "job-controller";
/// The name of this controller, as `managedBy` may give it.
const NAME: &str = "kubernetes.io/job-controller";
/// At most so many pods are made, removed or newly named in a status in one look.
const BURST: usize = 500;

/// Brings a Job a step further.
#[must_use]
pub fn plan(world: &World, now: Now, ids: &mut Ids) -> Plan {
    let mut plan = Plan::default();
    let job = &*world.job;
    let (spec, status) = match (job.spec::<JobSpec>(), job.status::<JobStatus>()) {
        (Ok(spec), Ok(status)) => (spec, status),
        (Err(error), _) | (_, Err(error)) => {
            plan.wait(job.key(), "InvalidSpec", error.to_string());
            return plan;
        }
    };
    if let Some(manager) = spec.managed_by.as_deref().filter(|manager| *manager != NAME) {
        plan.wait(job.key(), "ManagedBy", format!("{manager} runs this Job"));
        return plan;
    }
    if job.is_deleting() {
        // What comes of it matters to nobody any more; nothing may hold its pods.
        let ended = world.pods.iter().filter(|pod| pod.is_deleting() || is_finished(pod));
        let left: Vec<Write> = ended.filter_map(|pod| untrack(pod)).collect();
        plan.writes(Class::Controller, "letting pods of a deleted Job go", left);
        return plan;
    }
    let selector = match Selector::from_optional(spec.selector.as_ref()) {
        Ok(selector) if !selector.is_everything() => selector,
        Ok(_) => {
            plan.wait(
                job.key(),
                "SelectingAll",
                "its selector is empty and would select all pods; name labels in it",
            );
            return plan;
        }
        Err(error) => {
            plan.wait(job.key(), "InvalidSelector", error.to_string());
            return plan;
        }
    };
    let claims = owners::claims(job, &selector, &world.pods, &world.strays);
    if !claims.is_empty() {
        let claims = claims.into_iter().map(|write| tracking::claim(write, job)).collect();
        plan.writes(Class::Controller, "adopting and releasing pods", claims);
        return plan;
    }
    if status::is_finished(&status) {
        let left: Vec<Write> = world.pods.iter().filter_map(|pod| untrack(pod)).collect();
        plan.writes(Class::Controller, "letting pods of a finished Job go", left);
        expiry::expire(&mut plan, world, &spec, now);
        return plan;
    }
    if let Some(message) = &world.failure {
        plan.warn(SOURCE, job, "FailedCreate", format!("Error creating: {message}"));
    }
    let census = Census::of(&spec, &world.pods);
    let tally = tally::tally(&census, &spec, &status);
    let mut draft = Draft::of(job, status, now);
    match verdict::verdict(world, &spec, &draft.status, &census, &tally, &mut plan) {
        Some(end) => finish(&mut plan, &census, tally, draft, &end, now),
        None => {
            let scaling = scale::scale(world, &spec, &census, &tally, &mut plan);
            draft.suspend(spec.suspend == Some(true), &mut plan);
            // Pods that could not be made last time are not counted before they are there.
            let made = if world.failure.is_none() { scaling.make.len() } else { 0 };
            draft.count(&census, &scaling.remove, made);
            count(&mut plan, &census, &tally, draft, true);
            remove(&mut plan, job, &scaling.remove, "removing pods that are too many", now);
            let look = Look {
                world,
                spec: &spec,
                census: &census,
                tally: &tally,
            };
            making::make(&mut plan, &look, &scaling.make, now, ids);
        }
    }
    plan
}

/// Ends the Job: what still runs is removed, what has ended is counted, and then it is said.
fn finish(plan: &mut Plan, census: &Census<'_>, mut tally: Tally, mut draft: Draft<'_>, end: &End, now: Now) {
    draft.ends(end);
    if !end.succeeded {
        tally.fail_rest(census);
    }
    let running: Vec<&Member<'_>> = census
        .of_state(State::Active)
        .filter(|member| end.succeeded || !member.tracked || tally.is_done_with(member))
        .take(BURST)
        .collect();
    draft.count(census, &running, 0);
    let over = census
        .members
        .iter()
        .all(|member| !member.tracked && !matches!(member.state, State::Active | State::Terminating));
    if over && tally.is_settled() {
        draft.ended(end, plan);
    }
    let job = draft.job();
    count(plan, census, &tally, draft, false);
    remove(plan, job, &running, "removing what still runs", now);
}

/// Writes the status, then lets go what it names.
fn count(plan: &mut Plan, census: &Census<'_>, tally: &Tally, mut draft: Draft<'_>, goes_on: bool) {
    let job = draft.job();
    tally.record(&mut draft.status);
    if let Some(status) = draft.changed() {
        plan.write(Class::Status, "counting pods", status_of(job, status));
    }
    let ended = tally.strips(census, goes_on);
    let writes = ended.into_iter().filter_map(|pod| untrack(pod)).collect();
    plan.writes(Class::Controller, "letting counted pods go", writes);
    if tally.more {
        plan.look_again(Duration::ZERO);
    }
}

fn remove(plan: &mut Plan, job: &Object, members: &[&Member<'_>], why: &str, now: Now) {
    let mut writes = Vec::new();
    for member in members {
        writes.extend(tracking::remove(member.pod, now));
        plan.note(
            SOURCE,
            job,
            "SuccessfulDelete",
            format!("Deleted pod: {}", member.pod.name()),
        );
    }
    plan.writes(Class::Controller, why, writes);
}

/// The key of a Job that controls `pod`.
#[must_use]
pub fn controller_of(pod: &Object) -> Option<Key> {
    let (name, _) = book::job_of(pod)?;
    Some(Key::namespaced(Kind::Job, pod.namespace(), name))
}

#[cfg(test)]
mod tests;
