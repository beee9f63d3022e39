//! Defaults of the kinds that run pods.

use serde_json::{Map, Value, json};

use super::{default_claim, pod::default_pod_spec, set, with};

pub(super) fn default_template(template: &mut Map<String, Value>) {
    set(template, "metadata", json!({}));
    with(template, "spec", default_pod_spec);
}

pub(super) fn default_replica_set(spec: &mut Map<String, Value>) {
    set(spec, "replicas", 1);
    with(spec, "template", default_template);
}

pub(super) fn default_deployment(spec: &mut Map<String, Value>) {
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "progressDeadlineSeconds", 600);
    if let Some(strategy) = object_in(spec, "strategy") {
        set(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = object_in(strategy, "rollingUpdate")
        {
            set(rolling, "maxSurge", "25%");
            set(rolling, "maxUnavailable", "25%");
        }
    }
    with(spec, "template", default_template);
}

pub(super) fn default_daemon_set(spec: &mut Map<String, Value>) {
    set(spec, "revisionHistoryLimit", 10);
    if let Some(strategy) = object_in(spec, "updateStrategy") {
        set(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = object_in(strategy, "rollingUpdate")
        {
            set(rolling, "maxUnavailable", 1);
            set(rolling, "maxSurge", 0);
        }
    }
    with(spec, "template", default_template);
}

pub(super) fn default_stateful_set(spec: &mut Map<String, Value>) {
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = object_in(spec, "updateStrategy") {
        set(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = object_in(strategy, "rollingUpdate")
        {
            set(rolling, "partition", 0);
        }
    }
    if let Some(retention) = object_in(spec, "persistentVolumeClaimRetentionPolicy") {
        set(retention, "whenDeleted", "Retain");
        set(retention, "whenScaled", "Retain");
    }
    super::each(spec, "volumeClaimTemplates", |claim| {
        set(claim, "apiVersion", "v1");
        set(claim, "kind", "PersistentVolumeClaim");
        with(claim, "spec", default_claim);
        if let Some(status) = object_in(claim, "status") {
            set(status, "phase", "Pending");
        }
    });
    with(spec, "template", default_template);
}

pub(super) fn default_replication_controller(object: &mut Map<String, Value>) {
    labels_from_template(object);
    with(object, "spec", |spec| {
        let labels = template_labels(spec);
        if let Some(labels) = labels {
            set(spec, "selector", labels);
        }
        default_replica_set(spec);
    });
}

pub(super) fn default_job(object: &mut Map<String, Value>) {
    labels_from_template(object);
    with(object, "spec", |spec| {
        // Without both, the Job is done once one pod succeeded.
        if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
            set(spec, "completions", 1);
        }
        set(spec, "parallelism", 1);
        let per_index = spec.contains_key("backoffLimitPerIndex");
        set(spec, "backoffLimit", if per_index { i64::from(i32::MAX) } else { 6 });
        set(spec, "completionMode", "NonIndexed");
        set(spec, "suspend", false);
        set(spec, "manualSelector", false);
        let by_policy = spec.contains_key("podFailurePolicy");
        let replacement = if by_policy { "Failed" } else { "TerminatingOrFailed" };
        set(spec, "podReplacementPolicy", replacement);
        with(spec, "podFailurePolicy", |policy| {
            super::each(policy, "rules", |rule| {
                super::each(rule, "onPodConditions", |condition| set(condition, "status", "True"));
            });
        });
        with(spec, "template", default_template);
    });
}

pub(super) fn default_cron_job(spec: &mut Map<String, Value>) {
    set(spec, "concurrencyPolicy", "Allow");
    set(spec, "suspend", false);
    set(spec, "successfulJobsHistoryLimit", 3);
    set(spec, "failedJobsHistoryLimit", 1);
    with(spec, "jobTemplate", |job| {
        set(job, "metadata", json!({}));
        with(job, "spec", |spec| with(spec, "template", default_template));
    });
}

/// Jobs and replication controllers without labels of their own take their template's.
fn labels_from_template(object: &mut Map<String, Value>) {
    let labels = match object.get("spec") {
        Some(Value::Object(spec)) => template_labels(spec),
        _ => None,
    };
    let Some(labels) = labels else { return };
    if let Some(metadata) = object_in(object, "metadata")
        && metadata.get("labels").is_none_or(|labels| *labels == json!({}))
    {
        metadata.insert("labels".to_owned(), labels);
    }
}

fn template_labels(spec: &Map<String, Value>) -> Option<Value> {
    let labels = spec.get("template")?.get("metadata")?.get("labels")?;
    (*labels != json!({})).then(|| labels.clone())
}

/// The object in `field`, made if it is missing; none if something else stands there.
pub(super) fn object_in<'a>(map: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Map<String, Value>> {
    map.entry(field.to_owned())
        .or_insert_with(|| Value::Object(Map::new()))
        .as_object_mut()
}
