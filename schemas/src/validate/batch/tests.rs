use serde_json::{Value, json};

use crate::{
    Kind,
    validate::{normalize, object},
};

fn job(spec: Value) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "load"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}},
    });
    json_patch::merge(&mut job, &json!({"spec": spec}));
    job
}

fn cron_job(spec: Value) -> Value {
    let mut cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"},
        "spec": {"schedule": "@daily", "jobTemplate": {"spec": job(json!({}))["spec"]}},
    });
    json_patch::merge(&mut cron, &json!({"spec": spec}));
    cron
}

/// Errors and warnings of an object as it would be written.
fn said(kind: Kind, mut value: Value) -> Vec<String> {
    normalize(kind, &mut value);
    let findings = object(kind, &value);
    let shown = |finding: &crate::validate::Finding| {
        let mark = if finding.is_error() { "" } else { "warning: " };
        format!("{mark}{finding}")
    };
    findings.iter().map(shown).collect()
}

#[test]
fn jobs_that_are_sound_pass_without_a_word() {
    for spec in [
        json!({}),
        json!({"parallelism": 0, "completions": 0, "activeDeadlineSeconds": 0, "ttlSecondsAfterFinished": 0}),
        json!({"completionMode": "Indexed", "completions": 5, "backoffLimitPerIndex": 1, "maxFailedIndexes": 5}),
        json!({"podFailurePolicy": {"rules": [
            {"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [1, 42]}},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [0]}}]}, "podReplacementPolicy": "Failed"}),
        json!({"completionMode": "Indexed", "completions": 5,
            "successPolicy": {"rules": [{"succeededIndexes": "0,2-3", "succeededCount": 2}, {"succeededCount": 4}]}}),
        json!({"manualSelector": true, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}}}),
        json!({"managedBy": "example.com/queue"}),
        // What a live Job carries is no error in a copy of it.
        json!({"selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}},
            "template": {"metadata": {"labels": {"controller-uid": "u", "job-name": "load"}}}}),
    ] {
        assert_eq!(said(Kind::Job, job(spec.clone())), [""; 0], "{spec}");
    }
}

#[test]
fn jobs_that_cannot_run_are_told_why() {
    let indexed = |more: Value| {
        let mut spec = json!({"completionMode": "Indexed", "completions": 5});
        json_patch::merge(&mut spec, &more);
        spec
    };
    for (spec, words) in [
        (json!({"completions": -1}), "spec.completions: -1 must be from 0"),
        (
            json!({"template": {"spec": {"restartPolicy": "Always"}}}),
            "\"Always\" is not allowed in a Job",
        ),
        (
            json!({"template": {"spec": {"restartPolicy": null}}}),
            "restartPolicy: is required",
        ),
        (json!({"completionMode": "Indexed"}), "spec.completions: is required"),
        (
            json!({"completionMode": "Random"}),
            "\"Random\" is not one of its values: NonIndexed, Indexed",
        ),
        (
            json!({"backoffLimitPerIndex": 1}),
            "spec.backoffLimitPerIndex: takes the completionMode Indexed",
        ),
        (
            indexed(json!({"maxFailedIndexes": 1})),
            "spec.backoffLimitPerIndex: is required",
        ),
        (
            indexed(json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 6})),
            "must be at most completions, 5",
        ),
        (
            indexed(json!({"parallelism": 100_001})),
            "spec.parallelism: 100001 must be from 0 to 100000",
        ),
        (
            indexed(json!({"completions": 100_001, "backoffLimitPerIndex": 1})),
            "spec.maxFailedIndexes: is required",
        ),
        (
            json!({"selector": {"matchLabels": {"a": "b"}}}),
            "spec.selector: is made by the system",
        ),
        (json!({"manualSelector": true}), "spec.selector: is required"),
        (
            json!({"template": {"metadata": {"labels": {"job-name": "other"}}}}),
            "must be the Job's own name, load",
        ),
        (json!({"managedBy": "queue"}), "is not the name of a controller"),
        (json!({"podReplacementPolicy": "Never"}), "is not one of its values"),
        (
            json!({"podFailurePolicy": {"rules": [{"action": "FailJob"}]}}),
            "onExitCodes: or onPodConditions is required",
        ),
        (
            json!({"podFailurePolicy": {"rules": [{"action": "FailIndex", "onPodConditions": [{"type": "A"}]}]}}),
            "action: \"FailIndex\" takes a backoffLimitPerIndex",
        ),
        (
            json!({"podFailurePolicy": {"rules": []}, "template": {"spec": {"restartPolicy": "OnFailure"}}}),
            "takes the restartPolicy Never",
        ),
        (
            json!({"podFailurePolicy": {"rules": []}, "podReplacementPolicy": "TerminatingOrFailed"}),
            "only Failed may",
        ),
        (
            json!({"podFailurePolicy": {"rules": [
            {"action": "Count", "onExitCodes": {"operator": "In", "values": [0, 1]}}]}}),
            "0 is success",
        ),
        (
            json!({"podFailurePolicy": {"rules": [
            {"action": "Count", "onExitCodes": {"operator": "In", "values": [2, 1]}}]}}),
            "must rise",
        ),
        (
            json!({"podFailurePolicy": {"rules": [
            {"action": "Count", "onExitCodes": {"operator": "In", "values": []}}]}}),
            "at least one exit code",
        ),
        (
            json!({"podFailurePolicy": {"rules": [
            {"action": "Count", "onExitCodes": {"containerName": "x", "operator": "In", "values": [1]}}]}}),
            "\"x\" is not a container of the template",
        ),
        (
            json!({"successPolicy": {"rules": [{"succeededCount": 1}]}}),
            "spec.successPolicy: takes the completionMode Indexed",
        ),
        (indexed(json!({"successPolicy": {"rules": []}})), "at least one rule"),
        (
            indexed(json!({"successPolicy": {"rules": [{}]}})),
            "succeededCount: or succeededIndexes is required",
        ),
        (
            indexed(json!({"successPolicy": {"rules": [{"succeededIndexes": "3,1"}]}})),
            "is no set of indexes",
        ),
        (
            indexed(json!({"successPolicy": {"rules": [{"succeededIndexes": "0-5"}]}})),
            "not below completions, 5",
        ),
        (
            indexed(json!({"successPolicy": {"rules": [{"succeededIndexes": "0-1", "succeededCount": 3}]}})),
            "must be from 1 to 2",
        ),
        (json!({"parallelisms": 2}), "did you mean parallelism?"),
    ] {
        let said = said(Kind::Job, job(spec.clone()));
        assert!(said.iter().any(|line| line.contains(words)), "{spec}: {said:?}");
        assert!(said.iter().all(|line| !line.starts_with("warning")), "{spec}: {said:?}");
    }
    let mut long = job(json!({}));
    long["metadata"]["name"] = "x".repeat(64).into();
    assert!(said(Kind::Job, long)[0].contains("at most 63 characters"));
    let mut long = job(json!({"completionMode": "Indexed", "completions": 11}));
    long["metadata"]["name"] = "x".repeat(61).into();
    assert!(said(Kind::Job, long)[0].contains("would be the host name"));
}

#[test]
fn cron_jobs_are_checked_with_their_jobs() {
    for spec in [
        json!({}),
        json!({"schedule": "*/5 9-17 ? * mon-fri", "timeZone": "Europe/Berlin", "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 0, "successfulJobsHistoryLimit": 0, "failedJobsHistoryLimit": 0, "suspend": true}),
    ] {
        assert_eq!(said(Kind::CronJob, cron_job(spec.clone())), [""; 0], "{spec}");
    }
    for (spec, words) in [
        (
            json!({"schedule": "daily"}),
            "spec.schedule: \"daily\" is no schedule: a schedule has five fields",
        ),
        (json!({"schedule": "CRON_TZ=UTC 0 0 * * *"}), "stands in timeZone"),
        (
            json!({"schedule": "0 0 31 2 *"}),
            "warning: spec.schedule: \"0 0 31 2 *\" never fires: there is no such date",
        ),
        (
            json!({"timeZone": "Mars/Olympus"}),
            "spec.timeZone: \"Mars/Olympus\" is no time zone",
        ),
        (json!({"timeZone": ""}), "is no time zone"),
        (json!({"concurrencyPolicy": "Perhaps"}), "Allow, Forbid, Replace"),
        (json!({"startingDeadlineSeconds": -1}), "must be 0 or more"),
        (
            json!({"jobTemplate": {"spec": {"manualSelector": true, "selector": {"matchLabels": {"a": "b"}}}}}),
            "manualSelector: may not stand in a CronJob",
        ),
        (
            json!({"jobTemplate": {"spec": {"completions": -1}}}),
            "spec.jobTemplate.spec.completions: -1",
        ),
        (
            json!({"jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Always"}}}}}),
            "not allowed in a Job",
        ),
    ] {
        let said = said(Kind::CronJob, cron_job(spec.clone()));
        assert_eq!(said.len(), 1, "{spec}: {said:?}");
        assert!(said[0].contains(words), "{spec}: {said:?}");
    }
    let mut long = cron_job(json!({}));
    long["metadata"]["name"] = "x".repeat(53).into();
    assert!(said(Kind::CronJob, long)[0].contains("at most 52 characters"));
}
