//! Kinds that make pods, and those that steer them.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    AGE, CONTAINERS, Column, IMAGES, NAME, SELECTOR,
    access::{
        Shown, age_of, body, condition, containers, count, each, labels, number as int, plain, selector, status,
        text as string, time,
    },
    cells::{row, with},
    number, text,
};
use crate::age;

const DESIRED: Column = number("Desired", "How many pods are wanted.");
const CURRENT: Column = number("Current", "How many pods there are.");
const READY: Column = number("Ready", "How many pods are ready.");
const UP_TO_DATE: &str = "How many pods are of the newest template.";
const AVAILABLE: &str = "How many pods have been ready for long enough.";

pub(super) const DEPLOYMENT: &[Column] = &[
    NAME,
    text("Ready", "How many pods are ready, of how many that are wanted."),
    number("Up-to-date", UP_TO_DATE),
    number("Available", AVAILABLE),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(super) const REPLICA_SET: &[Column] = &[NAME, DESIRED, CURRENT, READY, AGE, CONTAINERS, IMAGES, SELECTOR];
pub(super) const DAEMON_SET: &[Column] = &[
    NAME,
    DESIRED,
    CURRENT,
    READY,
    number("Up-to-date", UP_TO_DATE),
    number("Available", AVAILABLE),
    text("Node Selector", "The labels of the nodes that get a pod."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(super) const STATEFUL_SET: &[Column] = &[
    NAME,
    text("Ready", "How many pods are ready, of how many that are wanted."),
    AGE,
    CONTAINERS,
    IMAGES,
];
pub(super) const CONTROLLER_REVISION: &[Column] = &[
    NAME,
    text("Controller", "What the revision belongs to."),
    number("Revision", "The revision's number."),
    AGE,
];
pub(super) const JOB: &[Column] = &[
    NAME,
    text("Status", "How far the job has come."),
    text("Completions", "How many pods have succeeded, of how many."),
    text("Duration", "How long the job ran, or has been running."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(super) const CRON_JOB: &[Column] = &[
    NAME,
    text("Schedule", "When it runs, in cron's notation."),
    text("Timezone", "The time zone of the schedule."),
    text("Suspend", "Whether it is suspended."),
    number("Active", "How many of its jobs are running."),
    text("Last Schedule", "How long ago a job was last made."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(super) const AUTOSCALER: &[Column] = &[
    NAME,
    text("Reference", "What is scaled."),
    text("Targets", "Current and wanted values of the metrics."),
    text("MinPods", "The fewest pods."),
    number("MaxPods", "The most pods."),
    number("Replicas", "How many pods there are."),
    AGE,
];
pub(super) const BUDGET: &[Column] = &[
    NAME,
    text("Min Available", "How many pods must stay available."),
    text("Max Unavailable", "How many pods may be away."),
    number("Allowed Disruptions", "How many pods may be evicted now."),
    AGE,
];

/// `spec.replicas`, which is 1 when nothing is said.
fn wanted(object: &Shown<'_>) -> i64 {
    body(object, "/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

/// The selector of a controller; a ReplicationController's is a plain map.
fn pods_of(object: &Shown<'_>) -> Value {
    let value = body(object, "/spec/selector");
    if object.kind == schemas::Kind::ReplicationController {
        labels(value).into()
    } else {
        selector(value).into()
    }
}

pub(super) fn deployment(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let cells = row![
        object.name(),
        format!("{}/{}", int(status(object, "/readyReplicas")), wanted(object)),
        int(status(object, "/updatedReplicas")),
        int(status(object, "/availableReplicas")),
        age_of(object, now),
    ];
    with(with(cells, containers(object)), [pods_of(object)])
}

pub(super) fn replica_set(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let cells = row![
        object.name(),
        wanted(object),
        int(status(object, "/replicas")),
        int(status(object, "/readyReplicas")),
        age_of(object, now),
    ];
    with(with(cells, containers(object)), [pods_of(object)])
}

pub(super) fn daemon_set(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let cells = row![
        object.name(),
        int(status(object, "/desiredNumberScheduled")),
        int(status(object, "/currentNumberScheduled")),
        int(status(object, "/numberReady")),
        int(status(object, "/updatedNumberScheduled")),
        int(status(object, "/numberAvailable")),
        labels(body(object, "/spec/template/spec/nodeSelector")),
        age_of(object, now),
    ];
    with(with(cells, containers(object)), [pods_of(object)])
}

pub(super) fn stateful_set(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let cells = row![
        object.name(),
        format!("{}/{}", int(status(object, "/readyReplicas")), wanted(object)),
        age_of(object, now),
    ];
    with(cells, containers(object))
}

pub(super) fn controller_revision(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let owner = object.controller().map(|owner| {
        let group = owner.api_version.split_once('/').map(|(group, _)| group);
        let kind = owner.kind.to_lowercase();
        match group {
            Some(group) => format!("{kind}.{group}/{}", owner.name),
            None => format!("{kind}/{}", owner.name),
        }
    });
    row![
        object.name(),
        owner.unwrap_or_else(|| "<none>".to_owned()),
        int(body(object, "/revision")),
        age_of(object, now),
    ]
}

pub(super) fn job(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let is = |name| condition(object, name) == Some("True");
    let word = if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if object.is_deleting() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    let succeeded = int(status(object, "/succeeded"));
    let completions = match body(object, "/spec/completions").and_then(Value::as_i64) {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        // Without a number, one success of any of the parallel pods is enough.
        None => match int(body(object, "/spec/parallelism")) {
            parallel @ 2.. => format!("{succeeded}/1 of {parallel}"),
            _ => format!("{succeeded}/1"),
        },
    };
    let duration = match (
        time(status(object, "/startTime")),
        time(status(object, "/completionTime")),
    ) {
        (Some(start), Some(end)) => age::since(Some(start), end),
        (Some(start), None) => age::since(Some(start), now),
        (None, _) => String::new(),
    };
    let cells = row![object.name(), word, completions, duration, age_of(object, now)];
    with(with(cells, containers(object)), [pods_of(object)])
}

pub(super) fn cron_job(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let last = time(status(object, "/lastScheduleTime"));
    let list = || each(body(object, "/spec/jobTemplate/spec/template/spec/containers"));
    let column = |field: &str| super::access::joined(list().filter_map(|item| string(item.get(field))));
    let suspended = body(object, "/spec/suspend").and_then(Value::as_bool) == Some(true);
    row![
        object.name(),
        string(body(object, "/spec/schedule")).unwrap_or(""),
        string(body(object, "/spec/timeZone")).unwrap_or("<none>"),
        if suspended { "True" } else { "False" },
        count(status(object, "/active")),
        last.map_or_else(|| "<none>".to_owned(), |last| age::since(Some(last), now)),
        age_of(object, now),
        column("name"),
        column("image"),
        selector(body(object, "/spec/jobTemplate/spec/selector")),
    ]
}

/// One metric as `cpu: 20%/50%`; what is not yet known is `<unknown>`.
fn metric(wanted: &Value, current: Option<&Value>) -> String {
    let kind = string(wanted.get("type")).unwrap_or("");
    let field = match kind {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => return "<unknown>".to_owned(),
    };
    let Some(part) = wanted.get(field) else {
        return "<unknown>".to_owned();
    };
    let name = string(part.get("name").or_else(|| part.pointer("/metric/name"))).unwrap_or("");
    let now = current.and_then(|current| current.pointer(&format!("/{field}/current")));
    let utilization = |value: Option<&Value>| {
        value
            .and_then(|value| value.get("averageUtilization"))
            .map(|percent| format!("{}%", plain(percent)))
    };
    let amount = |value: Option<&Value>| {
        value
            .and_then(|value| value.get("averageValue").or_else(|| value.get("value")))
            .map(plain)
    };
    let target = part.get("target");
    let (target, now) = match utilization(target) {
        Some(percent) => (Some(percent), utilization(now)),
        None => (amount(target), amount(now)),
    };
    let unknown = || "<unknown>".to_owned();
    format!(
        "{name}: {}/{}",
        now.unwrap_or_else(unknown),
        target.unwrap_or_else(unknown)
    )
}

pub(super) fn autoscaler(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let reference = body(object, "/spec/scaleTargetRef");
    let part = |field: &str| string(reference.and_then(|value| value.get(field))).unwrap_or("");
    let current: Vec<&Value> = each(status(object, "/currentMetrics")).collect();
    let metrics: Vec<String> = each(body(object, "/spec/metrics"))
        .enumerate()
        .map(|(index, wanted)| metric(wanted, current.get(index).copied()))
        .collect();
    row![
        object.name(),
        format!("{}/{}", part("kind"), part("name")),
        super::access::joined(metrics).replace(',', ", "),
        body(object, "/spec/minReplicas").map_or_else(|| "<unset>".to_owned(), plain),
        int(body(object, "/spec/maxReplicas")),
        int(status(object, "/currentReplicas")),
        age_of(object, now),
    ]
}

pub(super) fn budget(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let limit = |path: &str| body(object, path).map_or_else(|| "N/A".to_owned(), plain);
    row![
        object.name(),
        limit("/spec/minAvailable"),
        limit("/spec/maxUnavailable"),
        int(status(object, "/disruptionsAllowed")),
        age_of(object, now),
    ]
}
