//! Rules for Jobs and CronJobs.

use serde_json::Value;

use super::{
    finding::{Fault, Findings},
    meta::{is_dns_label, labels_and_annotations},
    path::At,
    pod::Rules,
    workload::pod_template,
};
use crate::{
    Kind,
    indexes::Indexes,
    labels::{self, is_label_key},
    schedule::{self, Schedule},
};

const ENDING: &[&str] = &["OnFailure", "Never"];
/// The most pods that an indexed Job may run side by side, and the most indexes that may fail.
const MOST_INDEXED: i64 = 100_000;
/// A Job with more completions than [`MOST_INDEXED`] may have so many of both.
const MOST_OF_MANY: i64 = 10_000;
/// The most rules of a policy, and the most conditions of a rule.
const MOST_RULES: usize = 20;
const MOST_EXIT_CODES: usize = 255;
const MOST_INDEX_TEXT: usize = 64 << 10;

/// Checks a Job.
pub(super) fn job(object: &At<'_, '_>, spec: &At<'_, '_>, findings: &mut Findings) {
    job_spec(spec, findings);
    let name = object.value.pointer("/metadata/name").and_then(Value::as_str);
    let Some(name) = name else { return };
    let meta = object.get("metadata");
    let mut wrong = |message: String| {
        if let Some(at) = meta.as_ref().and_then(|meta| meta.get("name")) {
            findings.error(Fault::Invalid, at.path(), message);
        }
    };
    if name.len() > 63 && !spec.flag("manualSelector") {
        wrong(format!(
            "{name:?} must be at most 63 characters, since it becomes a label of the pods"
        ));
    } else if is_indexed(spec)
        && let Some(last) = spec.int("completions").filter(|count| *count > 0)
        && !is_dns_label(&format!("{name}-{}", last - 1))
    {
        wrong(format!(
            "{name}-{} would be the host name of a pod, and is not a DNS label of at most 63 characters",
            last - 1
        ));
    }
    for label in [labels::JOB_NAME, labels::LEGACY_JOB_NAME] {
        let template = spec.get("template");
        let meta = template.as_ref().and_then(|template| template.get("metadata"));
        let labels = meta.as_ref().and_then(|meta| meta.get("labels"));
        if let Some(at) = labels.as_ref().and_then(|labels| labels.get(label))
            && at.value.as_str() != Some(name)
            && !spec.flag("manualSelector")
        {
            findings.invalid(&at, format!("must be the Job's own name, {name}, or left out"));
        }
    }
}

fn is_indexed(spec: &At<'_, '_>) -> bool {
    spec.text("completionMode") == Some("Indexed")
}

fn job_spec(spec: &At<'_, '_>, findings: &mut Findings) {
    for key in [
        "parallelism",
        "completions",
        "backoffLimit",
        "backoffLimitPerIndex",
        "ttlSecondsAfterFinished",
    ] {
        findings.in_range(spec, key, 0..=i64::from(i32::MAX));
    }
    findings.in_range(spec, "maxFailedIndexes", 0..=MOST_INDEXED);
    findings.in_range(spec, "activeDeadlineSeconds", 0..=i64::MAX);
    indexed(spec, findings);
    if spec.flag("manualSelector") {
        if !spec.has("selector") {
            findings.required(spec, "selector", "is required with manualSelector");
        }
    } else if spec.has("selector") {
        findings.error(
            Fault::Forbidden,
            spec.path_to("selector"),
            "is made by the system: remove it, or set manualSelector",
        );
    }
    if let Some(at) = spec.get("managedBy")
        && at
            .value
            .as_str()
            .is_some_and(|name| name.len() > 63 || !name.contains('/') || !is_label_key(name))
    {
        findings.invalid(&at, "is not the name of a controller such as example.com/controller");
    }
    failure_policy(spec, findings);
    success_policy(spec, findings);
    let Some(template) = spec.get("template") else { return };
    if let Some(pod) = template.get("spec")
        && !pod.has("restartPolicy")
    {
        findings.required(&pod, "restartPolicy", "is required in a Job: OnFailure or Never");
    }
    let rules = Rules {
        kind: Kind::Job,
        restart: ENDING,
        claims: &[],
    };
    pod_template(&template, &rules, findings);
}

fn indexed(spec: &At<'_, '_>, findings: &mut Findings) {
    let completions = spec.int("completions");
    if is_indexed(spec) {
        if completions.is_none() {
            findings.required(spec, "completions", "is required with the completionMode Indexed");
        }
        findings.in_range(spec, "parallelism", 0..=MOST_INDEXED);
    } else {
        for key in ["backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"] {
            if spec.has(key) {
                findings.error(Fault::Invalid, spec.path_to(key), "takes the completionMode Indexed");
            }
        }
    }
    let per_index = spec.has("backoffLimitPerIndex");
    if spec.has("maxFailedIndexes") && !per_index {
        findings.required(
            spec,
            "backoffLimitPerIndex",
            "is required with maxFailedIndexes: only with it do indexes fail",
        );
    }
    let Some(completions) = completions else { return };
    if spec.int("maxFailedIndexes").is_some_and(|most| most > completions)
        && let Some(at) = spec.get("maxFailedIndexes")
    {
        findings.invalid(&at, format!("must be at most completions, {completions}"));
    }
    if per_index && completions > MOST_INDEXED {
        if !spec.has("maxFailedIndexes") {
            findings.required(
                spec,
                "maxFailedIndexes",
                "is required with backoffLimitPerIndex and more than 100000 completions",
            );
        }
        findings.in_range(spec, "maxFailedIndexes", 0..=MOST_OF_MANY);
        findings.in_range(spec, "parallelism", 0..=MOST_OF_MANY);
    }
}

fn failure_policy(spec: &At<'_, '_>, findings: &mut Findings) {
    let Some(policy) = spec.get("podFailurePolicy") else {
        return;
    };
    let pod = spec.value.pointer("/template/spec");
    if pod
        .and_then(|pod| pod.get("restartPolicy"))
        .and_then(Value::as_str)
        .is_some_and(|restart| restart != "Never")
    {
        findings.error(
            Fault::Invalid,
            policy.path(),
            "takes the restartPolicy Never in the template",
        );
    }
    if spec.text("podReplacementPolicy").is_some_and(|text| text != "Failed")
        && let Some(at) = spec.get("podReplacementPolicy")
    {
        findings.error(
            Fault::NotSupported,
            at.path(),
            format!(
                "{} may not stand beside a podFailurePolicy: only Failed may",
                at.shown()
            ),
        );
    }
    let containers: Vec<&str> = ["containers", "initContainers"]
        .into_iter()
        .filter_map(|list| pod?.get(list)?.as_array())
        .flatten()
        .filter_map(|container| container["name"].as_str())
        .collect();
    if policy.items("rules").count() > MOST_RULES {
        findings.error(
            Fault::Invalid,
            policy.path_to("rules"),
            format!("holds more than {MOST_RULES} rules"),
        );
    }
    for rule in policy.items("rules") {
        if rule.text("action") == Some("FailIndex")
            && !spec.has("backoffLimitPerIndex")
            && let Some(at) = rule.get("action")
        {
            findings.invalid(&at, "takes a backoffLimitPerIndex");
        }
        match (rule.get("onExitCodes"), rule.get("onPodConditions")) {
            (Some(codes), None) => exit_codes(&codes, &containers, findings),
            (None, Some(_)) => {
                if rule.items("onPodConditions").count() > MOST_RULES {
                    findings.error(
                        Fault::Invalid,
                        rule.path_to("onPodConditions"),
                        format!("holds more than {MOST_RULES} conditions"),
                    );
                }
                for pattern in rule.items("onPodConditions") {
                    if let Some(at) = pattern.get("type")
                        && at.value.as_str().is_some_and(|text| !is_label_key(text))
                    {
                        findings.invalid(&at, "is not the type of a condition such as DisruptionTarget");
                    }
                }
            }
            (Some(_), Some(conditions)) => {
                findings.forbidden(
                    &conditions,
                    "may not stand beside onExitCodes: give each a rule of its own",
                );
            }
            (None, None) => {
                findings.required(&rule, "onExitCodes", "or onPodConditions is required");
            }
        }
    }
}

fn exit_codes(at: &At<'_, '_>, containers: &[&str], findings: &mut Findings) {
    if let Some(name) = at.get("containerName")
        && name.value.as_str().is_some_and(|name| !containers.contains(&name))
    {
        findings.invalid(&name, "is not a container of the template");
    }
    let values: Vec<i64> = at.items("values").filter_map(|value| value.value.as_i64()).collect();
    if values.is_empty() {
        findings.error(Fault::Invalid, at.path_to("values"), "must hold at least one exit code");
    } else if values.len() > MOST_EXIT_CODES {
        findings.error(
            Fault::Invalid,
            at.path_to("values"),
            format!("holds more than {MOST_EXIT_CODES} exit codes"),
        );
    }
    if values.windows(2).any(|pair| pair[0] >= pair[1]) {
        findings.error(
            Fault::Invalid,
            at.path_to("values"),
            "must rise from one to the next, each once",
        );
    }
    if at.text("operator") == Some("In") && values.contains(&0) {
        findings.error(
            Fault::Invalid,
            at.path_to("values"),
            "must not hold 0 with the operator In: 0 is success",
        );
    }
}

fn success_policy(spec: &At<'_, '_>, findings: &mut Findings) {
    let Some(policy) = spec.get("successPolicy") else {
        return;
    };
    let rules = policy.items("rules").count();
    if rules == 0 {
        findings.required(&policy, "rules", "is required: at least one rule");
    } else if rules > MOST_RULES {
        findings.error(
            Fault::Invalid,
            policy.path_to("rules"),
            format!("holds more than {MOST_RULES} rules"),
        );
    }
    let completions = spec.int("completions").unwrap_or(0);
    for rule in policy.items("rules") {
        if !rule.has("succeededCount") && !rule.has("succeededIndexes") {
            findings.required(&rule, "succeededCount", "or succeededIndexes is required");
        }
        let mut most = completions;
        if let Some(at) = rule.get("succeededIndexes")
            && let Some(text) = at.value.as_str()
        {
            if text.len() > MOST_INDEX_TEXT {
                findings.error(Fault::Invalid, at.path(), "is longer than 64 KiB");
            }
            match Indexes::parse(text) {
                Err(error) => findings.invalid(&at, format!("is no set of indexes: {error}")),
                Ok(indexes) => {
                    if indexes.last().is_some_and(|last| i64::from(last) >= completions) {
                        findings.invalid(
                            &at,
                            format!("holds indexes that are not below completions, {completions}"),
                        );
                    }
                    most = i64::try_from(indexes.len()).unwrap_or(i64::MAX);
                }
            }
        }
        if let Some(at) = rule.get("succeededCount")
            && at
                .value
                .as_i64()
                .is_some_and(|count| !(1..=most.max(1)).contains(&count))
        {
            findings.invalid(
                &at,
                format!("must be from 1 to {most}, the indexes that the rule is about"),
            );
        }
    }
}

/// Checks a CronJob.
pub(super) fn cron_job(object: &At<'_, '_>, spec: &At<'_, '_>, findings: &mut Findings) {
    findings.in_range(spec, "startingDeadlineSeconds", 0..=i64::MAX);
    for key in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        findings.in_range(spec, key, 0..=i64::from(i32::MAX));
    }
    if let Some(at) = spec.get("schedule")
        && let Some(text) = at.value.as_str()
    {
        match Schedule::parse(text) {
            Err(error) => findings.invalid(&at, format!("is no schedule: {error}")),
            Ok(schedule) if schedule.never_fires() => findings.warn(
                Fault::Invalid,
                at.path(),
                format!("{} never fires: there is no such date", at.shown()),
            ),
            Ok(_) => {}
        }
    }
    if let Some(at) = spec.get("timeZone")
        && let Some(text) = at.value.as_str()
        && let Err(error) = schedule::zone(Some(text))
    {
        findings.error(Fault::Invalid, at.path(), error.to_string());
    }
    let Some(template) = spec.get("jobTemplate") else {
        return;
    };
    if let Some(meta) = template.get("metadata") {
        labels_and_annotations(&meta, findings);
    }
    let Some(job) = template.get("spec") else {
        findings.required(&template, "spec", "is required");
        return;
    };
    if job.flag("manualSelector") {
        findings.error(
            Fault::NotSupported,
            job.path_to("manualSelector"),
            "may not stand in a CronJob: its jobs would share their pods",
        );
    }
    job_spec(&job, findings);
    let name = object.value.pointer("/metadata/name").and_then(Value::as_str);
    // The minute since 1970 adds eleven characters and more.
    if is_indexed(&job)
        && let (Some(name), Some(last)) = (name, job.int("completions").filter(|count| *count > 0))
        && !is_dns_label(&format!("{name}-12345678-{}", last - 1))
    {
        findings.error(
            Fault::Invalid,
            job.path_to("completions"),
            format!(
                "{name}-12345678-{} would be the host name of a pod, and is not a DNS label",
                last - 1
            ),
        );
    }
}

#[cfg(test)]
mod tests;
