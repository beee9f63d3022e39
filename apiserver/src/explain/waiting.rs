//! What pods wait for, since and until when, and what would help. Pure.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSetSpec, DeploymentSpec, DeploymentStatus, StatefulSetSpec},
        batch::v1::{CronJobSpec, JobSpec, JobStatus},
        core::v1::{Container, ContainerStatus, PodCondition, PodSpec, PodStatus, Probe},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use schemas::{
    Key, Kind, Object, labels,
    report::{ObjectReport, Outcome},
    schedule::{self, Schedule},
};
use serde::{Deserialize, Serialize};

use super::{Pods, Restart, Seen, changes};

/// Something that is not as it shall be, and why not yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    pub object: Key,
    pub container: Option<String>,
    /// One word, `ImagePullBackOff`.
    pub reason: String,
    pub message: String,
    pub since: Option<Timestamp>,
    pub until: Option<Until>,
    /// What would help; empty where waiting alone does.
    pub help: String,
}

/// When something happens if nothing changes before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Until {
    pub at: Timestamp,
    pub what: String,
}

/// The longest wait between two tries of an agent: for a restart and for an image.
const LONGEST: u64 = 300;
/// The first one; each further one is twice as long.
const FIRST: u64 = 10;

/// How many pods are of the newest template.
pub(crate) fn count(seen: &Seen) -> Pods {
    let newest = seen.sets.iter().max_by_key(|set| changes::revision(set));
    let is_new = |pod: &Object| match newest {
        None => true,
        Some(set) if set.kind == Kind::ReplicaSet => {
            pod.label(labels::POD_TEMPLATE_HASH) == set.label(labels::POD_TEMPLATE_HASH)
        }
        Some(set) => {
            let mark = pod.label(labels::CONTROLLER_REVISION_HASH);
            mark == Some(set.name()) || (mark.is_some() && mark == set.label(labels::CONTROLLER_REVISION_HASH))
        }
    };
    let new = seen.pods.iter().filter(|pod| is_new(pod)).count();
    Pods {
        new,
        old: seen.pods.len() - new,
    }
}

/// Containers that were started anew in the same pod.
pub(crate) fn restarts(pods: &[Arc<Object>]) -> Vec<Restart> {
    let mut found = Vec::new();
    for pod in pods {
        let Ok(status) = pod.status::<PodStatus>() else {
            continue;
        };
        let init = status.init_container_statuses.into_iter().flatten();
        for container in init.chain(status.container_statuses.into_iter().flatten()) {
            let ended = container.last_state.and_then(|state| state.terminated);
            if container.restart_count == 0 && ended.is_none() {
                continue;
            }
            let ended = ended.unwrap_or_default();
            found.push(Restart {
                pod: pod.name().into(),
                container: container.name,
                times: container.restart_count,
                reason: ended.reason.unwrap_or_default(),
                exit_code: ended.exit_code,
                message: ended.message.filter(|message| !message.is_empty()),
                at: ended.finished_at.map(|time| time.0),
            });
        }
    }
    found
}

/// Everything that waits: first the object itself, then its pods.
pub(crate) fn all(seen: &Seen, report: Option<&ObjectReport>, held: Option<&str>, now: Timestamp) -> Vec<Waiting> {
    let mut found = Vec::new();
    let root = seen.root.as_ref().unwrap_or(&seen.key);
    if let Some(reason) = held {
        let help = "mend what it names and push; the rest of the namespace moves on with it";
        found.push(waiting(root, "Held", reason, help));
    }
    found.extend(report.and_then(|report| of_release(root, report)));
    if let Some(live) = &seen.live {
        found.extend(of_workload(live));
        if let Some(root) = seen.root_live.as_ref().filter(|root| root.key() != live.key()) {
            found.extend(of_workload(root));
        }
    }
    let min_ready = seen.live.as_ref().map_or(0, |live| min_ready(live));
    for pod in &seen.pods {
        let node = pod.node.as_ref().and_then(|node| seen.nodes.get(node));
        found.extend(of_pod(pod, node.map(|node| &**node), min_ready, now));
    }
    found
}

fn waiting(object: &Key, reason: &str, message: &str, help: &str) -> Waiting {
    Waiting {
        object: object.clone(),
        container: None,
        reason: reason.to_owned(),
        message: message.to_owned(),
        since: None,
        until: None,
        help: help.to_owned(),
    }
}

/// What keeps a declared content from being released, by the word of the report's reason.
fn of_release(root: &Key, report: &ObjectReport) -> Option<Waiting> {
    if report.outcome == Outcome::Converged || !report.stale {
        return None;
    }
    let (word, message) = report.reason.split_once(": ")?;
    let help = match word {
        "Wave" | "DependsOn" => {
            "mend what it waits for, or let the newest commit pass: towline sync --skip-gates COMMIT"
        }
        "Immutable" => "",
        "Invalid" | "Refused" => "mend the manifest and push",
        "BadContent" => "push another content for it",
        "Terminating" | "NamespaceTerminating" | "Replaced" | "Pending" => "",
        _ => return None,
    };
    Some(waiting(root, word, message, help))
}

/// What the object's own spec and status say.
fn of_workload(object: &Object) -> Vec<Waiting> {
    let key = object.key();
    let found = match object.kind {
        Kind::Deployment => deployment(object, &key),
        Kind::Job => job(object, &key),
        Kind::CronJob => cron_job(object, &key),
        _ => None,
    };
    found.into_iter().collect()
}

fn deployment(object: &Object, key: &Key) -> Option<Waiting> {
    let spec = object.spec::<DeploymentSpec>().ok()?;
    let status: DeploymentStatus = object.status().ok()?;
    let wanted = spec.replicas.unwrap_or(1);
    let updated = status.updated_replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    if updated >= wanted && status.replicas.unwrap_or(0) <= updated && available >= updated {
        return None;
    }
    let done = format!("{updated} of {wanted} replicas are updated, {available} are available");
    if spec.paused == Some(true) {
        return Some(waiting(
            key,
            "Paused",
            &done,
            "set spec.paused to false in its manifest",
        ));
    }
    let condition = |kind: &str| {
        status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == kind)
    };
    if let Some(failure) = condition("ReplicaFailure").filter(|failure| failure.status == "True") {
        return Some(Waiting {
            since: at(failure.last_transition_time.as_ref()),
            ..waiting(
                key,
                failure.reason.as_deref().unwrap_or("ReplicaFailure"),
                failure.message.as_deref().unwrap_or(&done),
                "mend what the message names: its pods cannot be made",
            )
        });
    }
    let progress = condition("Progressing")?;
    let since = at(progress.last_transition_time.as_ref());
    if progress.reason.as_deref() == Some("ProgressDeadlineExceeded") {
        return Some(Waiting {
            since,
            ..waiting(
                key,
                "ProgressDeadlineExceeded",
                &done,
                "see what its pods wait for below; push a fix or the content that worked",
            )
        });
    }
    let deadline = spec.progress_deadline_seconds.unwrap_or(600);
    Some(Waiting {
        since,
        until: at(progress.last_update_time.as_ref()).and_then(|moved| {
            until(
                moved,
                i64::from(deadline),
                "the rollout counts as failed unless it moves on",
            )
        }),
        ..waiting(key, "Progressing", &done, "")
    })
}

fn job(object: &Object, key: &Key) -> Option<Waiting> {
    let spec = object.spec::<JobSpec>().ok()?;
    let status: JobStatus = object.status().ok()?;
    let ended = |condition: &&k8s_openapi::api::batch::v1::JobCondition| {
        condition.status == "True" && matches!(condition.type_.as_str(), "Complete" | "Failed")
    };
    if let Some(condition) = status.conditions.iter().flatten().find(ended) {
        if condition.type_ == "Complete" {
            return None;
        }
        return Some(Waiting {
            since: at(condition.last_transition_time.as_ref()),
            ..waiting(
                key,
                condition.reason.as_deref().unwrap_or("Failed"),
                condition.message.as_deref().unwrap_or("it failed"),
                "it does not run again: see the logs of its pods, mend its manifest and push",
            )
        });
    }
    if spec.suspend == Some(true) {
        return Some(waiting(
            key,
            "Suspended",
            "it is suspended",
            "set spec.suspend to false in its manifest",
        ));
    }
    let (done, active) = (status.succeeded.unwrap_or(0), status.active.unwrap_or(0));
    let failed = match status.failed.unwrap_or(0) {
        0 => String::new(),
        failed => format!(", {failed} of at most {} failures", spec.backoff_limit.unwrap_or(6) + 1),
    };
    let since = at(status.start_time.as_ref());
    let deadline = spec.active_deadline_seconds;
    Some(Waiting {
        since,
        until: since
            .zip(deadline)
            .and_then(|(since, deadline)| until(since, deadline, "the Job fails")),
        ..waiting(
            key,
            "Running",
            &format!(
                "{done} of {} completions, {active} pods run{failed}",
                spec.completions.unwrap_or(1)
            ),
            "",
        )
    })
}

fn cron_job(object: &Object, key: &Key) -> Option<Waiting> {
    let spec = object.spec::<CronJobSpec>().ok()?;
    if spec.suspend == Some(true) {
        return Some(waiting(
            key,
            "Suspended",
            "it is suspended",
            "set spec.suspend to false in its manifest",
        ));
    }
    let (schedule, zone) = match (
        Schedule::parse(&spec.schedule),
        schedule::zone(spec.time_zone.as_deref()),
    ) {
        (Ok(schedule), Ok(zone)) => (schedule, zone),
        (Err(error), _) => {
            return Some(waiting(
                key,
                "UnparseableSchedule",
                &error.to_string(),
                "mend spec.schedule",
            ));
        }
        (_, Err(error)) => {
            return Some(waiting(
                key,
                "UnknownTimeZone",
                &error.to_string(),
                "mend spec.timeZone",
            ));
        }
    };
    let last = object
        .status
        .as_ref()
        .and_then(|status| status.at("lastScheduleTime")?.text()?.parse().ok())
        .or_else(|| at(object.meta.creation_timestamp.as_ref()))?;
    let next = schedule.next(last, &zone)?;
    Some(Waiting {
        since: Some(last),
        until: Some(Until {
            at: next,
            what: "its next run starts".to_owned(),
        }),
        ..waiting(
            key,
            "Scheduled",
            &format!("it runs by the schedule {:?}", spec.schedule),
            "",
        )
    })
}

fn min_ready(object: &Object) -> i32 {
    let seconds = match object.kind {
        Kind::Deployment => object
            .spec::<DeploymentSpec>()
            .ok()
            .and_then(|spec| spec.min_ready_seconds),
        Kind::DaemonSet => object
            .spec::<DaemonSetSpec>()
            .ok()
            .and_then(|spec| spec.min_ready_seconds),
        Kind::StatefulSet => object
            .spec::<StatefulSetSpec>()
            .ok()
            .and_then(|spec| spec.min_ready_seconds),
        _ => None,
    };
    seconds.unwrap_or(0)
}

/// Why a pod is not ready, or not available yet.
pub(crate) fn of_pod(pod: &Object, node: Option<&Object>, min_ready: i32, now: Timestamp) -> Vec<Waiting> {
    let key = pod.key();
    let Ok(status) = pod.status::<PodStatus>() else {
        return vec![waiting(&key, "Unknown", "its status cannot be read", "")];
    };
    if let Some(ends) = at(pod.meta.deletion_timestamp.as_ref()) {
        return vec![ending(pod, &key, ends)];
    }
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return Vec::new();
    }
    let condition = |kind: &str| {
        status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == kind)
    };
    if pod.node.is_none() {
        return vec![unbound(&key, condition("PodScheduled"), pod)];
    }
    if let Some(lost) = node.and_then(|node| unreachable(pod, &key, node)) {
        return vec![lost];
    }
    if let Some(ready) = condition("Ready").filter(|ready| ready.status == "True") {
        let since = at(ready.last_transition_time.as_ref());
        let until = since.and_then(|since| until(since, i64::from(min_ready), "it counts as available"));
        let Some(until) = until.filter(|until| until.at > now) else {
            return Vec::new();
        };
        return vec![Waiting {
            since,
            until: Some(until),
            ..waiting(
                &key,
                "MinReadySeconds",
                &format!("it is ready, and must stay so for {min_ready} s"),
                "",
            )
        }];
    }
    let spec = pod.spec::<PodSpec>().ok();
    let inits = spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let mains = spec.iter().flat_map(|spec| &spec.containers);
    let made: Vec<&Container> = inits.chain(mains).collect();
    let statuses = status.init_container_statuses.iter().flatten();
    let statuses = statuses.chain(status.container_statuses.iter().flatten());
    let mut found: Vec<Waiting> = statuses
        .filter_map(|container| {
            let spec = made.iter().find(|spec| spec.name == container.name).copied();
            of_container(&key, container, spec)
        })
        .collect();
    // What waits for its init containers waits for nothing else.
    if found.iter().any(|waiting| waiting.reason != "PodInitializing") {
        found.retain(|waiting| waiting.reason != "PodInitializing");
    }
    if found.is_empty() {
        let made = at(pod.meta.creation_timestamp.as_ref());
        found.push(Waiting {
            since: made,
            ..waiting(&key, "Pending", "its node has not started it yet", "")
        });
    }
    found
}

fn ending(pod: &Object, key: &Key, ends: Timestamp) -> Waiting {
    let grace = pod.meta.deletion_grace_period_seconds.unwrap_or(0);
    let finalizers: Vec<&str> = pod.meta.finalizers.iter().flatten().map(String::as_str).collect();
    let (message, help) = if finalizers.is_empty() {
        ("it is being deleted".to_owned(), "")
    } else {
        (
            format!("it is being deleted, and kept by {}", finalizers.join(", ")),
            "whoever set the finalizer must take it away",
        )
    };
    Waiting {
        since: ends.checked_sub(SignedDuration::from_secs(grace)).ok(),
        until: Some(Until {
            at: ends,
            what: "what still runs of it is killed".to_owned(),
        }),
        ..waiting(key, "Terminating", &message, help)
    }
}

fn unbound(key: &Key, scheduled: Option<&PodCondition>, pod: &Object) -> Waiting {
    match scheduled.filter(|condition| condition.status == "False") {
        Some(condition) => {
            let message = condition.message.as_deref().unwrap_or("no node fits");
            Waiting {
                since: at(condition.last_transition_time.as_ref()),
                ..waiting(
                    key,
                    condition.reason.as_deref().unwrap_or("Unschedulable"),
                    message,
                    &room(message),
                )
            }
        }
        None => Waiting {
            since: at(pod.meta.creation_timestamp.as_ref()),
            ..waiting(key, "Pending", "the scheduler has not looked at it yet", "")
        },
    }
}

/// What makes room for a pod, by the words of the scheduler.
fn room(message: &str) -> String {
    let advice = [
        ("Insufficient cpu", "lower its CPU requests, free some, or add a node"),
        (
            "Insufficient memory",
            "lower its memory requests, free some, or add a node",
        ),
        ("Insufficient", "lower its requests, free some, or add a node"),
        ("Too many pods", "add a node: the others hold as many pods as they may"),
        ("untolerated taint", "tolerate the taint, or take it off a node"),
        ("were unschedulable", "kubectl uncordon a node"),
        (
            "node affinity",
            "label a node as it asks, or change nodeSelector and affinity",
        ),
        (
            "selector",
            "label a node as it asks, or change nodeSelector and affinity",
        ),
        (
            "free ports",
            "another pod has its host port: give it another, or add a node",
        ),
        ("volume", "see its claims: kubectl get pvc"),
        ("no nodes available", "start an agent: towline agent"),
        ("0/0 nodes", "start an agent: towline agent"),
    ];
    let mut said: Vec<&str> = Vec::new();
    for (word, help) in advice {
        // The general word is for what has none of its own.
        let general = word == "Insufficient" && !said.is_empty();
        if message.contains(word) && !general && !said.contains(&help) {
            said.push(help);
        }
    }
    if said.is_empty() {
        return "see the scheduler's message".to_owned();
    }
    said.join("; or ")
}

fn unreachable(pod: &Object, key: &Key, node: &Object) -> Option<Waiting> {
    let conditions = node.status.as_ref()?.at("conditions")?;
    let ready = conditions.items().find(|condition| condition.has("type", "Ready"))?;
    if ready.has("status", "True") {
        return None;
    }
    let since: Option<Timestamp> = ready
        .get("lastTransitionTime")
        .and_then(|time| time.text()?.parse().ok());
    let tolerated = pod.spec::<PodSpec>().ok().and_then(|spec| {
        let tolerations = spec.tolerations.iter().flatten();
        let mut own = tolerations.filter(|own| own.key.as_deref() == Some(labels::TAINT_UNREACHABLE));
        own.find_map(|own| own.toleration_seconds)
    });
    Some(Waiting {
        since,
        until: since
            .zip(tolerated)
            .and_then(|(since, seconds)| until(since, seconds, "it is evicted and made anew on another node")),
        ..waiting(
            key,
            "NodeNotReady",
            &format!("its node {} is not ready", node.name()),
            "bring the node back: is its machine up, and its agent?",
        )
    })
}

fn of_container(key: &Key, container: &ContainerStatus, spec: Option<&Container>) -> Option<Waiting> {
    let of = |waiting: Waiting| Waiting {
        container: Some(container.name.clone()),
        ..waiting
    };
    let state = container.state.as_ref();
    if let Some(state) = state.and_then(|state| state.waiting.as_ref()) {
        let reason = state.reason.as_deref().unwrap_or("ContainerCreating");
        let message = state.message.as_deref().filter(|message| !message.is_empty());
        let ended = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
        let crashed = ended.filter(|_| reason == "CrashLoopBackOff").map(|ended| {
            format!(
                "it ended {} times, last with exit code {}{}",
                container.restart_count.saturating_add(1),
                ended.exit_code,
                ended
                    .reason
                    .as_ref()
                    .map_or_else(String::new, |reason| format!(" ({reason})"))
            )
        });
        let image = spec.and_then(|spec| spec.image.as_deref()).unwrap_or(&container.image);
        let since = ended.and_then(|ended| at(ended.finished_at.as_ref()));
        let next = since.filter(|_| reason == "CrashLoopBackOff");
        return Some(of(Waiting {
            since,
            until: next.and_then(|ended| {
                let wait = back_off(container.restart_count).as_secs();
                until(ended, i64::try_from(wait).unwrap_or(0), "it is started again")
            }),
            ..waiting(
                key,
                reason,
                crashed.as_deref().or(message).unwrap_or(reason),
                &advice(reason, &key.name, key.ns(), &container.name, image),
            )
        }));
    }
    let running = state.and_then(|state| state.running.as_ref())?;
    if container.ready {
        return None;
    }
    let since = at(running.started_at.as_ref());
    let starting = spec
        .and_then(|spec| spec.startup_probe.as_ref())
        .filter(|_| container.started != Some(true));
    if let Some(probe) = starting {
        return Some(of(Waiting {
            since,
            until: since.and_then(|since| until(since, given_up(probe), "it is killed and started again")),
            ..waiting(
                key,
                "Starting",
                "its startup probe has not passed yet",
                "give it more time by failureThreshold, or see its logs",
            )
        }));
    }
    spec?.readiness_probe.as_ref()?;
    Some(of(Waiting {
        since,
        ..waiting(
            key,
            "NotReady",
            "its readiness probe does not pass",
            &format!(
                "kubectl logs -n {} {} -c {}; then look at the probe",
                key.ns(),
                key.name,
                container.name
            ),
        )
    }))
}

/// How long after its start a container is given up whose startup probe never passes.
fn given_up(probe: &Probe) -> i64 {
    let (delay, period) = (
        probe.initial_delay_seconds.unwrap_or(0),
        probe.period_seconds.unwrap_or(10),
    );
    let tries = probe.failure_threshold.unwrap_or(3);
    i64::from(delay) + i64::from(period) * i64::from(tries)
}

/// How long an agent waits before it starts a container again.
fn back_off(restarts: i32) -> Duration {
    let doublings = u32::try_from(restarts - 1).unwrap_or(0).min(10);
    Duration::from_secs(if restarts <= 0 {
        0
    } else {
        (FIRST << doublings).min(LONGEST)
    })
}

/// What helps a container that cannot start.
fn advice(reason: &str, pod: &str, namespace: &str, container: &str, image: &str) -> String {
    match reason {
        "ErrImagePull" | "ImagePullBackOff" => {
            format!("check that {image} exists and that the node may pull it; it is tried again within 5 minutes")
        }
        "ErrImageNeverPull" => format!("bring {image} to the node, or change imagePullPolicy"),
        "InvalidImageName" => format!("{image:?} is no name of an image: mend it"),
        "CrashLoopBackOff" => format!("kubectl logs -n {namespace} {pod} -c {container} --previous"),
        "CreateContainerConfigError" => "declare what the message names, or mend the reference to it".to_owned(),
        "CreateContainerError" | "RunContainerError" => "Docker refused it: mend what the message names".to_owned(),
        _ => String::new(),
    }
}

fn until(from: Timestamp, seconds: i64, what: &str) -> Option<Until> {
    Some(Until {
        at: from.checked_add(SignedDuration::from_secs(seconds)).ok()?,
        what: what.to_owned(),
    })
}

fn at(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|time| time.0)
}
