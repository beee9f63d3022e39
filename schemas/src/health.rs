//! Whether an object has become what it declares: the health of each kind, by its own status.

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{
            DaemonSetSpec, DaemonSetStatus, DeploymentSpec, DeploymentStatus, ReplicaSetSpec, ReplicaSetStatus,
            StatefulSetSpec, StatefulSetStatus,
        },
        batch::v1::{CronJobSpec, JobSpec, JobStatus},
        core::v1::{ContainerStatus, PodStatus},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{
    Kind, Object, ObjectError, Packed, Part,
    kind::Support,
    node::UNCLAIMED,
    report::Outcome,
    schedule::{self, Schedule},
};

/// The health of one object at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub outcome: Outcome,
    /// Why, in the words that events and `kubectl describe` use.
    pub reason: String,
    /// Since when, where the status tells.
    pub since: Option<Timestamp>,
    /// Set while something keeps the object from moving on. `outcome` is still `Progressing` then: it
    /// is for the caller, who keeps time, to call it failed once this has lasted.
    pub stalled: Option<Stalled>,
}

/// Why a pod, or an object by its pods, does not move on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// One word, `ImagePullBackOff`.
    pub reason: String,
    /// What is known about it, for people.
    pub message: String,
}

/// What else the health of an object depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Related<'a> {
    /// The pods of a workload's *current* content: those of a Deployment's newest ReplicaSet, not those
    /// that a rollout is about to replace.
    pub pods: &'a [&'a Object],
}

/// How often a container must have crashed before it counts as stalled.
const CRASHES: i32 = 3;

/// The health of `object`.
#[must_use]
pub fn object_health(object: &Object, related: Related<'_>) -> Health {
    if object.is_deleting() {
        let since = object.meta.deletion_timestamp.as_ref().map(|time| time.0);
        return Health {
            since,
            ..progressing("Terminating: it is being deleted")
        };
    }
    if object.kind.info().support == Support::Stored {
        return converged("Stored: nothing acts on this kind yet");
    }
    let health = match object.kind {
        Kind::Deployment => deployment(object),
        Kind::ReplicaSet | Kind::ReplicationController => replica_set(object),
        Kind::DaemonSet => daemon_set(object),
        Kind::StatefulSet => stateful_set(object),
        Kind::Job => job(object),
        Kind::CronJob => cron_job(object),
        Kind::Pod => pod(object),
        Kind::Node => node(object),
        Kind::PersistentVolumeClaim => claim(object),
        Kind::HorizontalPodAutoscaler => Ok(autoscaler(object)),
        _ => Ok(converged("Stored")),
    };
    let mut health = health.unwrap_or_else(|error| progressing(&format!("its status cannot be read: {error}")));
    if health.outcome == Outcome::Progressing && health.stalled.is_none() {
        health.stalled = related.pods.iter().find_map(|pod| {
            let stalled = stalled_reason(pod)?;
            Some(Stalled {
                message: format!("pod {}: {}", pod.name(), stalled.message),
                reason: stalled.reason,
            })
        });
    }
    if let Some(stalled) = &health.stalled {
        health.reason = format!("{}: {}", stalled.reason, stalled.message);
    }
    health
}

/// What keeps a pod from running, if it is something that waiting alone seldom cures: an image, a
/// configuration, repeated crashes, or no node that fits.
#[must_use]
pub fn stalled_reason(pod: &Object) -> Option<Stalled> {
    if !may_be_stalled(pod.status.as_ref()?) {
        return None;
    }
    let status: PodStatus = pod.status().ok()?;
    let unschedulable = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unschedulable {
        return Some(Stalled {
            reason: "Unschedulable".to_owned(),
            message: condition.message.clone().unwrap_or_else(|| "no node fits".to_owned()),
        });
    }
    let init = status.init_container_statuses.iter().flatten();
    let main = status.container_statuses.iter().flatten();
    init.chain(main).find_map(stalled_container)
}

/// Whether anything waits at all: seen without unpacking the status, as most pods run.
fn may_be_stalled(status: &Packed) -> bool {
    let items = |list: &str| status.at(list).into_iter().flat_map(Part::items);
    let unscheduled = |condition: Part<'_>| condition.has("type", "PodScheduled") && condition.has("status", "False");
    let waits = |container: Part<'_>| container.at("state/waiting").is_some();
    items("conditions").any(unscheduled)
        || items("initContainerStatuses").any(waits)
        || items("containerStatuses").any(waits)
}

fn stalled_container(container: &ContainerStatus) -> Option<Stalled> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let stalled = match reason {
        "ImagePullBackOff"
        | "ErrImagePull"
        | "ErrImageNeverPull"
        | "InvalidImageName"
        | "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError" => true,
        "CrashLoopBackOff" => container.restart_count >= CRASHES,
        _ => false,
    };
    stalled.then(|| Stalled {
        reason: reason.to_owned(),
        message: match (&waiting.message, reason) {
            (Some(message), _) if !message.is_empty() => format!("container {}: {message}", container.name),
            (_, "CrashLoopBackOff") => crash_message(container),
            _ => format!("container {}", container.name),
        },
    })
}

fn crash_message(container: &ContainerStatus) -> String {
    let last = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    // How often is not told: it would be news each time.
    let again = format!("container {} ends again and again", container.name);
    match last {
        Some(ended) => format!("{again}, last with exit code {}", ended.exit_code),
        None => again,
    }
}

fn deployment(object: &Object) -> Result<Health, ObjectError> {
    let spec = object.spec::<DeploymentSpec>()?;
    let status: DeploymentStatus = object.status()?;
    if let Some(waiting) = unobserved(object, status.observed_generation) {
        return Ok(waiting);
    }
    let wanted = spec.replicas.unwrap_or(1);
    let total = status.replicas.unwrap_or(0);
    let updated = status.updated_replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    let condition = |kind: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == kind)
    };
    let progress = condition("Progressing");
    let since = progress.and_then(|condition| at(&condition.last_transition_time));
    if updated >= wanted && total <= updated && available >= updated {
        let since = condition("Available").and_then(|condition| at(&condition.last_transition_time));
        return Ok(Health {
            since,
            ..converged(&format!("{available} of {wanted} replicas are available"))
        });
    }
    let exceeded = progress.filter(|condition| {
        condition.status == "False" && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
    });
    if let Some(condition) = exceeded {
        let message = condition.message.as_deref().unwrap_or("the rollout took too long");
        return Ok(Health {
            since,
            ..failed(&format!("ProgressDeadlineExceeded: {message}"))
        });
    }
    let state = if spec.paused == Some(true) {
        format!("the rollout is paused: {updated} of {wanted} replicas are updated")
    } else if updated < wanted {
        format!("{updated} of {wanted} replicas are updated")
    } else if total > updated {
        format!("{} old replicas are still to be removed", total - updated)
    } else {
        format!("{available} of {updated} updated replicas are available")
    };
    let failure = condition("ReplicaFailure").filter(|condition| condition.status == "True");
    Ok(Health {
        since,
        stalled: failure.map(|condition| Stalled {
            reason: condition.reason.clone().unwrap_or_else(|| "ReplicaFailure".to_owned()),
            message: condition.message.clone().unwrap_or_default(),
        }),
        ..progressing(&state)
    })
}

fn replica_set(object: &Object) -> Result<Health, ObjectError> {
    let spec = object.spec::<ReplicaSetSpec>()?;
    let status: ReplicaSetStatus = object.status()?;
    if let Some(waiting) = unobserved(object, status.observed_generation) {
        return Ok(waiting);
    }
    let wanted = spec.replicas.unwrap_or(1);
    let available = status.available_replicas.unwrap_or(0);
    if available >= wanted && status.replicas <= wanted {
        return Ok(converged(&format!("{available} of {wanted} replicas are available")));
    }
    let mut conditions = status.conditions.iter().flatten();
    let failure = conditions.find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
    Ok(Health {
        since: failure.and_then(|condition| at(&condition.last_transition_time)),
        stalled: failure.map(|condition| Stalled {
            reason: condition.reason.clone().unwrap_or_else(|| "ReplicaFailure".to_owned()),
            message: condition.message.clone().unwrap_or_default(),
        }),
        ..progressing(&if status.replicas > wanted {
            format!("{} replicas are still to be removed", status.replicas - wanted)
        } else {
            format!("{available} of {wanted} replicas are available")
        })
    })
}

fn daemon_set(object: &Object) -> Result<Health, ObjectError> {
    let spec = object.spec::<DaemonSetSpec>()?;
    let status: DaemonSetStatus = object.status()?;
    if let Some(waiting) = unobserved(object, status.observed_generation) {
        return Ok(waiting);
    }
    let wanted = status.desired_number_scheduled;
    let on_delete = spec
        .update_strategy
        .as_ref()
        .and_then(|strategy| strategy.type_.as_deref())
        == Some("OnDelete");
    let updated = status.updated_number_scheduled.unwrap_or(0);
    let available = status.number_available.unwrap_or(0);
    Ok(if updated < wanted && !on_delete {
        progressing(&format!("{updated} of {wanted} pods are updated"))
    } else if available < wanted {
        progressing(&format!("{available} of {wanted} pods are available"))
    } else {
        converged(&format!("{available} of {wanted} pods are available"))
    })
}

fn stateful_set(object: &Object) -> Result<Health, ObjectError> {
    let spec = object.spec::<StatefulSetSpec>()?;
    let status: StatefulSetStatus = object.status()?;
    if let Some(waiting) = unobserved(object, status.observed_generation) {
        return Ok(waiting);
    }
    let wanted = spec.replicas.unwrap_or(1);
    let strategy = spec.update_strategy.as_ref();
    let rolls = strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete");
    let partition = strategy
        .and_then(|strategy| strategy.rolling_update.as_ref()?.partition)
        .unwrap_or(0);
    let to_update = (wanted - partition).max(0);
    // Once all are updated the two revisions are one, and the count of updated ones starts anew.
    let same = status.update_revision.is_some() && status.update_revision == status.current_revision;
    let updated = if same {
        status.replicas
    } else {
        status.updated_replicas.unwrap_or(0)
    };
    let ready = status.available_replicas.or(status.ready_replicas).unwrap_or(0);
    Ok(if ready < wanted {
        progressing(&format!("{ready} of {wanted} replicas are available"))
    } else if rolls && updated < to_update {
        progressing(&format!("{updated} of {to_update} replicas are updated"))
    } else if status.replicas > wanted {
        progressing(&format!(
            "{} replicas are still to be removed",
            status.replicas - wanted
        ))
    } else {
        converged(&format!("{ready} of {wanted} replicas are available"))
    })
}

fn job(object: &Object) -> Result<Health, ObjectError> {
    let spec = object.spec::<JobSpec>()?;
    let status: JobStatus = object.status()?;
    for condition in status
        .conditions
        .iter()
        .flatten()
        .filter(|condition| condition.status == "True")
    {
        let reason = condition.reason.as_deref().unwrap_or(&condition.type_);
        let message = condition.message.as_deref().unwrap_or("");
        let since = at(&condition.last_transition_time);
        match condition.type_.as_str() {
            "Complete" => {
                return Ok(Health {
                    since,
                    ..converged("Complete")
                });
            }
            "Failed" => {
                return Ok(Health {
                    since,
                    ..failed(&format!("{reason}: {message}"))
                });
            }
            _ => {}
        }
    }
    if spec.suspend == Some(true) {
        return Ok(converged("Suspended"));
    }
    let succeeded = status.succeeded.unwrap_or(0);
    Ok(progressing(&match spec.completions {
        Some(wanted) => format!("{succeeded} of {wanted} completions"),
        None => format!("{} pods are running", status.active.unwrap_or(0)),
    }))
}

/// A CronJob is as declared once its schedule can be followed; how its jobs fare is theirs to tell.
fn cron_job(object: &Object) -> Result<Health, ObjectError> {
    let spec = object.spec::<CronJobSpec>()?;
    let zone = schedule::zone(spec.time_zone.as_deref());
    Ok(match (Schedule::parse(&spec.schedule), zone) {
        (Err(error), _) => failed(&format!("UnparseableSchedule: {error}")),
        (_, Err(error)) => failed(&format!("UnknownTimeZone: {error}")),
        (Ok(schedule), _) if schedule.never_fires() => {
            failed(&format!("NeverFires: no date matches the schedule {:?}", spec.schedule))
        }
        _ if spec.suspend == Some(true) => converged("Suspended"),
        _ => converged("Scheduled"),
    })
}

fn pod(object: &Object) -> Result<Health, ObjectError> {
    let status: PodStatus = object.status()?;
    let message = |fallback: &str| match (&status.reason, &status.message) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (Some(text), None) | (None, Some(text)) => text.clone(),
        (None, None) => fallback.to_owned(),
    };
    let ready = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready");
    let since = ready.and_then(|condition| at(&condition.last_transition_time));
    let health = match status.phase.as_deref() {
        Some("Succeeded") => converged("Succeeded"),
        Some("Failed") => failed(&message("Failed")),
        Some("Running") if ready.is_some_and(|condition| condition.status == "True") => converged("Ready"),
        Some("Running") => progressing(&message("Running, not ready")),
        _ => progressing(&message("Pending")),
    };
    Ok(Health {
        since,
        stalled: stalled_reason(object).filter(|_| health.outcome == Outcome::Progressing),
        ..health
    })
}

fn node(object: &Object) -> Result<Health, ObjectError> {
    let conditions = object.status.as_ref().and_then(|status| status.at("conditions"));
    let find = |kind: &str| {
        let mut all = conditions.into_iter().flat_map(Part::items);
        all.find(|condition| condition.has("type", kind))
    };
    let ready = find("Ready");
    let text = |field: &str| ready.and_then(|condition| condition.get(field)?.text());
    // Nothing is broken, but a person has to decide.
    let unclaimed = find(UNCLAIMED)
        .filter(|condition| condition.has("status", "True"))
        .and_then(|condition| condition.get("message")?.text());
    let since = text("lastTransitionTime").and_then(|time| time.parse().ok());
    let health = match text("status").as_deref() {
        Some("True") => converged(unclaimed.as_deref().unwrap_or("Ready")),
        _ => failed(text("message").or(text("reason")).as_deref().unwrap_or("NodeNotReady")),
    };
    Ok(Health { since, ..health })
}

fn claim(object: &Object) -> Result<Health, ObjectError> {
    let phase = object.status.as_ref().and_then(|status| status.word("phase"));
    Ok(match phase {
        Some("Lost") => failed("Lost: its volume is gone"),
        // A claim that waits for its first pod is as it should be.
        Some(phase) => converged(phase),
        None => converged("Pending"),
    })
}

/// An autoscaler is as it should be once it has found its target: that there is nothing to measure yet
/// holds nobody up.
fn autoscaler(object: &Object) -> Health {
    let condition = |kind: &str| {
        let conditions = object.status.as_ref()?.at("conditions")?;
        conditions.items().find(|condition| condition.has("type", kind))
    };
    let text = |condition: Part<'_>, field: &str| {
        let text = condition.get(field).and_then(Part::text);
        text.unwrap_or_default().into_owned()
    };
    let told = |condition: Part<'_>| format!("{}: {}", text(condition, "reason"), text(condition, "message"));
    match (condition("AbleToScale"), condition("ScalingActive")) {
        (None, _) => progressing("Pending: it is about to be looked at"),
        (Some(able), _) if !able.has("status", "True") => Health {
            stalled: Some(Stalled {
                reason: text(able, "reason"),
                message: text(able, "message"),
            }),
            ..progressing(&told(able))
        },
        (_, Some(active)) if !active.has("status", "True") => converged(&told(active)),
        _ => converged("Available"),
    }
}

/// The health of an object whose controller has not yet seen its newest content.
fn unobserved(object: &Object, observed: Option<i64>) -> Option<Health> {
    let generation = object.meta.generation.unwrap_or(0);
    (observed.unwrap_or(0) < generation).then(|| {
        progressing(&format!(
            "generation {generation} is yet to be observed by its controller"
        ))
    })
}

fn at(time: &Option<Time>) -> Option<Timestamp> {
    time.as_ref().map(|time| time.0)
}

fn converged(reason: &str) -> Health {
    health(Outcome::Converged, reason)
}

fn progressing(reason: &str) -> Health {
    health(Outcome::Progressing, reason)
}

fn failed(reason: &str) -> Health {
    health(Outcome::Failed, reason)
}

fn health(outcome: Outcome, reason: &str) -> Health {
    Health {
        outcome,
        reason: reason.to_owned(),
        since: None,
        stalled: None,
    }
}

#[cfg(test)]
mod tests;
