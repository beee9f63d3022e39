//! Rules for the kinds that make pods.

use serde_json::Value;

use super::{
    finding::{Fault, Findings},
    meta::{label_selector, labels_and_annotations, labels_map, labels_of},
    path::At,
    pod::{self, Rules},
};
use crate::Kind;

const ALWAYS: &[&str] = &["Always"];
const ENDING: &[&str] = &["OnFailure", "Never"];
const ANY: &[&str] = &["Always", "OnFailure", "Never"];

/// Checks the spec of a pod or of a kind that makes pods.
pub(super) fn check(kind: Kind, object: &At<'_, '_>, findings: &mut Findings) {
    let Some(spec) = object.get("spec") else {
        findings.required(object, "spec", "is required");
        return;
    };
    match kind {
        Kind::Pod => {
            pod::check(
                &spec,
                &Rules {
                    kind,
                    restart: ANY,
                    claims: &[],
                },
                findings,
            );
            if spec.has("ephemeralContainers") {
                findings.error(
                    Fault::Forbidden,
                    spec.path_to("ephemeralContainers"),
                    "cannot be declared: they are added to a running pod",
                );
            }
        }
        Kind::Deployment => deployment(&spec, findings),
        Kind::ReplicaSet => {
            counts(&spec, findings);
            selected_template(kind, &spec, &[], findings);
        }
        Kind::ReplicationController => replication_controller(&spec, findings),
        Kind::DaemonSet => daemon_set(&spec, findings),
        Kind::StatefulSet => stateful_set(&spec, findings),
        Kind::Job => job(&spec, findings),
        Kind::CronJob => cron_job(&spec, findings),
        _ => {}
    }
}

/// Its selector is a plain mapping of labels; left out, it is the template's labels.
fn replication_controller(spec: &At<'_, '_>, findings: &mut Findings) {
    counts(spec, findings);
    let Some(template) = spec.get("template") else {
        findings.required(spec, "template", "is required");
        return;
    };
    let rules = Rules {
        kind: Kind::ReplicationController,
        restart: ALWAYS,
        claims: &[],
    };
    pod_template(&template, &rules, findings);
    let labels = labels_of(template.get("metadata").as_ref());
    let Some(at) = spec.get("selector") else {
        if labels.is_empty() {
            findings.required(spec, "selector", "is required where the template has no labels");
        }
        return;
    };
    labels_map(&at, findings);
    let wanted = at.value.as_object();
    if wanted.is_some_and(serde_json::Map::is_empty) {
        findings.error(
            Fault::Invalid,
            at.path(),
            "must not be empty: it would select every pod of the namespace",
        );
        return;
    }
    let matches = wanted.into_iter().flatten().all(|(key, value)| {
        value
            .as_str()
            .is_none_or(|value| labels.get(key).is_some_and(|label| label == value))
    });
    if !matches {
        findings.error(
            Fault::Invalid,
            template.path_to("metadata"),
            "its labels do not match spec.selector: the ReplicationController would not find its own pods",
        );
    }
}

fn counts(spec: &At<'_, '_>, findings: &mut Findings) {
    findings.in_range(spec, "replicas", 0..=i64::from(i32::MAX));
    findings.in_range(spec, "minReadySeconds", 0..=i64::from(i32::MAX));
    findings.in_range(spec, "revisionHistoryLimit", 0..=i64::from(i32::MAX));
}

fn deployment(spec: &At<'_, '_>, findings: &mut Findings) {
    counts(spec, findings);
    let ready = spec.int("minReadySeconds").unwrap_or(0);
    if let Some(deadline) = spec.get("progressDeadlineSeconds")
        && deadline.value.as_i64().is_some_and(|seconds| seconds <= ready)
    {
        findings.invalid(&deadline, format!("must be more than minReadySeconds, {ready}"));
    }
    if let Some(strategy) = spec.get("strategy")
        && let Some(rolling) = strategy.get("rollingUpdate")
    {
        if strategy.text("type") == Some("Recreate") {
            findings.forbidden(&rolling, "may not stand with the type Recreate");
        }
        let surge = share(&rolling, "maxSurge", None, findings);
        let missing = share(&rolling, "maxUnavailable", Some(100), findings);
        if surge == Some(0) && missing == Some(0) {
            findings.error(
                Fault::Invalid,
                rolling.path_to("maxUnavailable"),
                "may not be 0 when maxSurge is 0: nothing could be replaced",
            );
        }
    }
    selected_template(Kind::Deployment, spec, &[], findings);
}

/// Checks a count or a percentage, and returns its number.
fn share(at: &At<'_, '_>, key: &str, most_percent: Option<i64>, findings: &mut Findings) -> Option<i64> {
    let field = at.get(key)?;
    match field.value {
        Value::Number(number) => {
            let number = number.as_i64()?;
            if number < 0 {
                findings.invalid(&field, "must be 0 or more");
            }
            Some(number)
        }
        Value::String(text) => {
            let percent = text
                .strip_suffix('%')
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            match percent.and_then(|digits| digits.parse::<i64>().ok()) {
                None => {
                    findings.invalid(&field, "must be a number, or a percentage such as 25%");
                    None
                }
                Some(percent) => {
                    if most_percent.is_some_and(|most| percent > most) {
                        findings.invalid(&field, "must be at most 100%");
                    }
                    Some(percent)
                }
            }
        }
        _ => None,
    }
}

/// Checks the selector, the template, and that one matches the other.
fn selected_template(kind: Kind, spec: &At<'_, '_>, claims: &[&str], findings: &mut Findings) {
    let template = spec.get("template");
    match &template {
        Some(template) => pod_template(
            template,
            &Rules {
                kind,
                restart: ALWAYS,
                claims,
            },
            findings,
        ),
        // The upstream types leave a ReplicaSet's template optional.
        None if kind == Kind::ReplicaSet => findings.required(spec, "template", "is required"),
        None => {}
    }
    let Some(at) = spec.get("selector") else { return };
    let Some(selector) = label_selector(&at, findings) else {
        return;
    };
    if selector.is_everything() {
        findings.error(
            Fault::Invalid,
            at.path(),
            "must not be empty: it would select every pod of the namespace",
        );
        return;
    }
    let Some(template) = template else { return };
    let meta = template.get("metadata");
    let labels = labels_of(meta.as_ref());
    if !selector.matches(&labels) {
        findings.error(
            Fault::Invalid,
            template.path_to("metadata"),
            format!(
                "its labels ({}) do not match spec.selector ({selector}): the {kind} would not find its own pods",
                if labels.is_empty() {
                    "none".to_owned()
                } else {
                    labels
                        .iter()
                        .map(|(key, value)| format!("{key}={value}"))
                        .collect::<Vec<_>>()
                        .join(",")
                }
            ),
        );
    }
}

fn pod_template(template: &At<'_, '_>, rules: &Rules<'_>, findings: &mut Findings) {
    if let Some(meta) = template.get("metadata") {
        labels_and_annotations(&meta, findings);
        for key in ["name", "namespace"] {
            if meta.text(key).is_some_and(|text| !text.is_empty()) {
                findings.warn(
                    Fault::NotActedOn,
                    meta.path_to(key),
                    "has no effect in a template: the pods get their names and their namespace from their owner",
                );
            }
        }
    }
    match template.get("spec") {
        None => findings.required(template, "spec", "is required"),
        Some(spec) => {
            pod::check(&spec, rules, findings);
            if rules.restart == ALWAYS
                && let Some(deadline) = spec.get("activeDeadlineSeconds")
            {
                findings.forbidden(
                    &deadline,
                    "may stand in pods and jobs only: these pods are to run for ever",
                );
            }
        }
    }
}

fn daemon_set(spec: &At<'_, '_>, findings: &mut Findings) {
    counts(spec, findings);
    if let Some(strategy) = spec.get("updateStrategy")
        && let Some(rolling) = strategy.get("rollingUpdate")
    {
        let surge = share(&rolling, "maxSurge", Some(100), findings);
        let missing = share(&rolling, "maxUnavailable", Some(100), findings);
        if surge.is_none_or(|surge| surge == 0) && missing == Some(0) {
            findings.error(
                Fault::Invalid,
                rolling.path_to("maxUnavailable"),
                "may not be 0 when maxSurge is 0: nothing could be replaced",
            );
        } else if surge.is_some_and(|surge| surge > 0) && missing.unwrap_or(1) > 0 {
            findings.error(
                Fault::Invalid,
                rolling.path_to("maxSurge"),
                "may not stand beside a maxUnavailable over 0, which is 1 if left out: set maxUnavailable to 0",
            );
        }
    }
    selected_template(Kind::DaemonSet, spec, &[], findings);
}

fn stateful_set(spec: &At<'_, '_>, findings: &mut Findings) {
    counts(spec, findings);
    if let Some(strategy) = spec.get("updateStrategy")
        && let Some(rolling) = strategy.get("rollingUpdate")
    {
        findings.in_range(&rolling, "partition", 0..=i64::from(i32::MAX));
    }
    // Mounts may name the template of a claim as well as a volume.
    let claims: Vec<&str> = spec
        .items("volumeClaimTemplates")
        .filter_map(|claim| claim.value.pointer("/metadata/name").and_then(Value::as_str))
        .collect();
    selected_template(Kind::StatefulSet, spec, &claims, findings);
}

fn job(spec: &At<'_, '_>, findings: &mut Findings) {
    for key in [
        "parallelism",
        "completions",
        "backoffLimit",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
        "ttlSecondsAfterFinished",
    ] {
        findings.in_range(spec, key, 0..=i64::from(i32::MAX));
    }
    findings.in_range(spec, "activeDeadlineSeconds", 1..=i64::MAX);
    let indexed = spec.text("completionMode") == Some("Indexed");
    if indexed && !spec.has("completions") {
        findings.required(spec, "completions", "is required with the completionMode Indexed");
    }
    if spec.has("backoffLimitPerIndex") && !indexed {
        findings.error(
            Fault::Invalid,
            spec.path_to("backoffLimitPerIndex"),
            "takes the completionMode Indexed",
        );
    }
    if spec.has("selector") && !spec.flag("manualSelector") {
        findings.error(
            Fault::Forbidden,
            spec.path_to("selector"),
            "is made by the system: remove it, or set manualSelector",
        );
    }
    match spec.get("template") {
        None => {}
        Some(template) => {
            if let Some(pod) = template.get("spec")
                && !pod.has("restartPolicy")
            {
                findings.required(&pod, "restartPolicy", "is required in a Job: OnFailure or Never");
            }
            pod_template(
                &template,
                &Rules {
                    kind: Kind::Job,
                    restart: ENDING,
                    claims: &[],
                },
                findings,
            );
        }
    }
}

fn cron_job(spec: &At<'_, '_>, findings: &mut Findings) {
    for key in [
        "startingDeadlineSeconds",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    ] {
        findings.in_range(spec, key, 0..=i64::MAX);
    }
    if let Some(schedule) = spec.get("schedule")
        && let Some(text) = schedule.value.as_str()
    {
        if text.contains("TZ") {
            findings.invalid(&schedule, "may not name a time zone: set timeZone");
        } else if !is_schedule(text) {
            findings.invalid(
                &schedule,
                "is not a schedule: five fields (minute, hour, day of month, month, day of week), or a word such as @daily",
            );
        }
    }
    if let Some(zone) = spec.get("timeZone")
        && zone
            .value
            .as_str()
            .is_some_and(|text| text.is_empty() || text == "Local" || text.contains(char::is_whitespace))
    {
        findings.invalid(&zone, "is not a time zone such as Europe/Berlin");
    }
    if let Some(template) = spec.get("jobTemplate") {
        if let Some(meta) = template.get("metadata") {
            labels_and_annotations(&meta, findings);
        }
        match template.get("spec") {
            None => findings.required(&template, "spec", "is required"),
            Some(spec) => job(&spec, findings),
        }
    }
}

/// Whether `text` has the form of a five-field schedule.
fn is_schedule(text: &str) -> bool {
    if let Some(word) = text.strip_prefix('@') {
        return matches!(
            word,
            "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly"
        ) || word.strip_prefix("every ").is_some_and(|period| !period.is_empty());
    }
    const NONE: &[&str] = &[];
    let fields: Vec<&str> = text.split_whitespace().collect();
    let rules: [(u32, u32, &[&str]); 5] = [
        (0, 59, NONE),
        (0, 23, NONE),
        (1, 31, NONE),
        (
            1,
            12,
            &[
                "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
            ],
        ),
        (0, 7, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
    ];
    let number = |text: &str, (low, high, names): (u32, u32, &[&str])| {
        let lower = text.to_lowercase();
        if names.contains(&lower.as_str()) {
            return true;
        }
        text.bytes().all(|byte| byte.is_ascii_digit())
            && text.parse::<u32>().is_ok_and(|value| (low..=high).contains(&value))
    };
    fields.len() == 5
        && fields.iter().zip(rules).all(|(field, rule)| {
            field.split(',').all(|part| {
                let (range, step) = part
                    .split_once('/')
                    .map_or((part, None), |(range, step)| (range, Some(step)));
                let stepped = step.is_none_or(|step| step.parse::<u32>().is_ok_and(|step| step > 0));
                let ranged = match range.split_once('-') {
                    Some((low, high)) => number(low, rule) && number(high, rule),
                    None => matches!(range, "*" | "?") || number(range, rule),
                };
                stepped && ranged
            })
        })
}

#[cfg(test)]
mod tests {
    use super::is_schedule;

    #[test]
    fn schedules_have_five_fields_in_range() {
        for good in [
            "* * * * *",
            "*/5 0-6 1,15 jan-mar MON",
            "0 0 1 1 7",
            "@daily",
            "0 0 ? * *",
        ] {
            assert!(is_schedule(good), "{good}");
        }
        for bad in [
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "@sometimes",
            "a * * * *",
            "",
        ] {
            assert!(!is_schedule(bad), "{bad}");
        }
    }
}
