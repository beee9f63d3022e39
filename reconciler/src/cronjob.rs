//! CronJobs: a Job for each time of a schedule.
//!
//! A Job is named after the minute that it was scheduled for, and that time stands in the status: so
//! neither a second look nor a crash between the two writes starts it twice.
//!
//! <https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/>

mod due;
mod history;
mod making;

use std::{sync::Arc, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use k8s_openapi::{
    api::{
        batch::v1::{CronJobSpec, CronJobStatus},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use schemas::{
    Key, Kind, Now, Object, labels,
    schedule::{self, Schedule},
};
use store::{Class, Op, Write};

use crate::{
    ids::Ids,
    owners,
    plan::{Plan, status_of},
    pods::condition,
};

/// What is looked at for one CronJob.
#[derive(Clone, Debug)]
pub struct World {
    pub cron_job: Arc<Object>,
    /// Jobs that it controls.
    pub jobs: Vec<Arc<Object>>,
    /// Whatever has the name that the Job of the start that is due would get.
    pub named: Option<Arc<Object>>,
    /// Why the last attempt to make a Job failed.
    pub failure: Option<String>,
}

const SOURCE: &str = "cronjob-controller";
/// From so many missed starts on people are told that something is wrong.
const MANY: usize = 100;

/// A schedule in its time zone.
struct Timetable {
    schedule: Schedule,
    zone: TimeZone,
}

impl Timetable {
    /// Reads it; the error is a word and a sentence.
    fn of(spec: &CronJobSpec) -> Result<Self, (&'static str, String)> {
        let schedule = Schedule::parse(&spec.schedule).map_err(|error| {
            (
                "UnparseableSchedule",
                format!("unparseable schedule {:?}: {error}", spec.schedule),
            )
        })?;
        let zone = schedule::zone(spec.time_zone.as_deref()).map_err(|error| ("UnknownTimeZone", error.to_string()))?;
        if schedule.never_fires() {
            let message = format!("no date matches the schedule {:?}: it never fires", spec.schedule);
            return Err(("InvalidSchedule", message));
        }
        Ok(Self { schedule, zone })
    }
}

/// The name that the Job of the start that is due gets, if one is.
#[must_use]
pub fn due_name(cron_job: &Object, now: Now) -> Option<String> {
    let spec = cron_job.spec::<CronJobSpec>().ok()?;
    let status: CronJobStatus = cron_job.status().ok()?;
    let timetable = Timetable::of(&spec).ok()?;
    let due = due::due(cron_job, &spec, &status, &timetable, now)?;
    Some(making::name(cron_job, due.at))
}

/// Brings a CronJob a step further.
#[must_use]
pub fn plan(world: &World, now: Now, ids: &mut Ids) -> Plan {
    let mut plan = Plan::default();
    let cron_job = &*world.cron_job;
    let (spec, mut status) = match (cron_job.spec::<CronJobSpec>(), cron_job.status::<CronJobStatus>()) {
        (Ok(spec), Ok(status)) => (spec, status),
        (Err(error), _) | (_, Err(error)) => {
            plan.wait(cron_job.key(), "InvalidSpec", error.to_string());
            return plan;
        }
    };
    follow(&mut plan, world, &mut status);
    let start = if cron_job.is_deleting() {
        None
    } else {
        start(&mut plan, world, &spec, &status, now)
    };
    let old = history::beyond(world, &spec);
    // Where no Job could be made last time, what else is known does not wait for it.
    let hopeful = start.is_none() || world.failure.is_none();
    if !hopeful {
        write_status(&mut plan, cron_job, &status);
    }
    if let Some(start) = start {
        status.last_schedule_time = Some(Time(start.at));
        let active = status.active.get_or_insert_default();
        active.retain(|reference| {
            let replaced = |job: &&Arc<Object>| reference.uid.as_deref() == Some(&*job.uid().0);
            !start.replaces.iter().any(|job| replaced(&job))
        });
        delete(&mut plan, cron_job, &start.replaces, "ending the Jobs before", now);
        if start.is_new {
            let job = match making::job(cron_job, &spec, start.at, &start.zone, now, ids) {
                Ok(job) => job,
                Err(error) => {
                    plan.warn(SOURCE, cron_job, "FailedCreate", format!("Error creating job: {error}"));
                    return plan;
                }
            };
            let message = format!("Created job {}", job.name());
            plan.note(SOURCE, cron_job, "SuccessfulCreate", message);
            active.push(reference_to(&job));
            plan.write(
                Class::Controller,
                "making the Job that is due",
                Write::new(Op::Create(job)),
            );
        }
    }
    if hopeful {
        write_status(&mut plan, cron_job, &status);
    }
    if !cron_job.is_deleting() {
        delete(
            &mut plan,
            cron_job,
            &old,
            "removing Jobs beyond the history limits",
            now,
        );
    }
    plan
}

/// One start that is due.
struct Start {
    at: Timestamp,
    zone: TimeZone,
    /// Its Job is not there yet.
    is_new: bool,
    /// Jobs that end for it.
    replaces: Vec<Arc<Object>>,
}

/// Whether a start is to be made now; and when to look again.
fn start(plan: &mut Plan, world: &World, spec: &CronJobSpec, status: &CronJobStatus, now: Now) -> Option<Start> {
    let cron_job = &*world.cron_job;
    if let Some(message) = &world.failure {
        plan.warn(
            SOURCE,
            cron_job,
            "FailedCreate",
            format!("Error creating job: {message}"),
        );
    }
    if spec.suspend == Some(true) {
        return None;
    }
    let timetable = match Timetable::of(spec) {
        Ok(timetable) => timetable,
        Err((word, message)) => {
            plan.warn(SOURCE, cron_job, word, message.clone());
            plan.wait(cron_job.key(), word, message);
            return None;
        }
    };
    if let Some(next) = timetable.schedule.next(now.wall, &timetable.zone) {
        let left = Duration::try_from(next.duration_since(now.wall)).unwrap_or_default();
        plan.look_again(left);
    }
    let due = due::due(cron_job, spec, status, &timetable, now)?;
    if due.clock_went_back {
        let message =
            "the last start lies more than an hour ahead: the clock was set back, and starts are counted from now on";
        plan.warn(SOURCE, cron_job, "ClockWentBack", message);
    }
    let running = unfinished(world);
    let policy = spec.concurrency_policy.as_deref().unwrap_or("Allow");
    let named = world
        .named
        .as_ref()
        .filter(|named| named.name() == making::name(cron_job, due.at));
    match named {
        Some(job) if is_controlled_by(job, cron_job) => {
            return Some(Start {
                at: due.at,
                zone: timetable.zone,
                is_new: false,
                replaces: Vec::new(),
            });
        }
        Some(job) => {
            let message = format!(
                "Error creating job: {} is there already and belongs to somebody else",
                job.name()
            );
            plan.warn(SOURCE, cron_job, "FailedCreate", message);
            return None;
        }
        None => {}
    }
    if policy == "Forbid" && !running.is_empty() {
        let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
        plan.note(SOURCE, cron_job, "JobAlreadyActive", message);
        plan.wait(cron_job.key(), "JobAlreadyActive", message);
        return None;
    }
    if due.missed > MANY {
        let message = format!(
            "too many missed start times (over {MANY}): only the last one is made up for. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        );
        plan.warn(SOURCE, cron_job, "TooManyMissedTimes", message);
    }
    Some(Start {
        at: due.at,
        zone: timetable.zone,
        is_new: true,
        replaces: if policy == "Replace" { running } else { Vec::new() },
    })
}

/// Takes over what has become of the Jobs.
fn follow(plan: &mut Plan, world: &World, status: &mut CronJobStatus) {
    let cron_job = &*world.cron_job;
    for reference in status.active.iter().flatten() {
        let name = reference.name.as_deref().unwrap_or_default();
        let mut jobs = world.jobs.iter();
        match jobs.find(|job| reference.uid.as_deref() == Some(&*job.uid().0)) {
            None => plan.note(
                SOURCE,
                cron_job,
                "MissingJob",
                format!("Active job went missing: {name}"),
            ),
            Some(job) => {
                if let Some(end) = end(job) {
                    let message = format!("Saw completed job: {name}, condition: {end}");
                    plan.note(SOURCE, cron_job, "SawCompletedJob", message);
                }
            }
        }
    }
    let known = status.active.take().unwrap_or_default();
    let active: Vec<ObjectReference> = unfinished(world)
        .iter()
        .map(|job| {
            let mut known = known.iter();
            let known = known.find(|reference| reference.uid.as_deref() == Some(&*job.uid().0));
            known.cloned().unwrap_or_else(|| reference_to(job))
        })
        .collect();
    status.active = Some(active).filter(|active| !active.is_empty());
    let ends = world.jobs.iter().filter(|job| end(job) == Some("Complete"));
    let latest = ends
        .filter_map(|job| {
            let completed = job.status.as_ref()?.at("completionTime")?;
            completed.text()?.parse::<Timestamp>().ok()
        })
        .max();
    let known = status.last_successful_time.as_ref().map(|time| time.0);
    if let Some(latest) = latest.filter(|latest| known.is_none_or(|known| *latest > known)) {
        status.last_successful_time = Some(Time(latest));
    }
}

/// Jobs that have not ended, by name. Those that a person made from it by hand do not stand in its way.
fn unfinished(world: &World) -> Vec<Arc<Object>> {
    let by_hand = |job: &Arc<Object>| job.annotation(labels::CRON_JOB_INSTANTIATE) == Some("manual");
    let open = world.jobs.iter().filter(|job| end(job).is_none() && !by_hand(job));
    open.cloned().collect()
}

/// How a Job ended: `Complete` or `Failed`.
fn end(job: &Object) -> Option<&'static str> {
    let holds = |kind: &&&str| condition(job, kind).is_some_and(|condition| condition["status"] == "True");
    ["Complete", "Failed"].iter().find(holds).copied()
}

fn reference_to(job: &Object) -> ObjectReference {
    let info = Kind::Job.info();
    ObjectReference {
        api_version: Some(info.api_version()),
        kind: Some(info.name.to_owned()),
        name: job.meta.name.as_deref().map(str::to_owned),
        namespace: job.meta.namespace.as_deref().map(str::to_owned),
        uid: job.meta.uid.as_deref().map(str::to_owned),
        ..ObjectReference::default()
    }
}

fn delete(plan: &mut Plan, cron_job: &Object, jobs: &[Arc<Object>], why: &str, now: Now) {
    let mut writes = Vec::new();
    for job in jobs {
        if let Some(write) = owners::delete(job, None, now) {
            plan.note(
                SOURCE,
                cron_job,
                "SuccessfulDelete",
                format!("Deleted job {}", job.name()),
            );
            writes.push(write);
        }
    }
    plan.writes(Class::Controller, why, writes);
}

fn write_status(plan: &mut Plan, cron_job: &Object, status: &CronJobStatus) {
    let mut status = status.clone();
    status.active = status.active.filter(|active| !active.is_empty());
    let value = serde_json::to_value(status).unwrap_or_default();
    if cron_job.status != Some((&value).into()) {
        plan.write(
            Class::Status,
            "telling the CronJob's status",
            status_of(cron_job, value),
        );
    }
}

fn is_controlled_by(job: &Object, cron_job: &Object) -> bool {
    job.controller().is_some_and(|owner| *owner.uid == *cron_job.uid().0)
}

/// The key of a CronJob that controls `job`.
#[must_use]
pub fn controller_of(job: &Object) -> Option<Key> {
    let owner = job
        .controller()
        .filter(|owner| owner.kind == Kind::CronJob.info().name)?;
    Some(Key::namespaced(Kind::CronJob, job.namespace(), &owner.name))
}

#[cfg(test)]
mod tests;
