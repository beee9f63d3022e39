//! Rules for the kinds that make pods.

use serde_json::Value;

use super::{
    batch,
    finding::{Fault, Findings},
    meta::{label_selector, labels_and_annotations, labels_map, labels_of},
    path::At,
    pod::{self, Rules},
};
use crate::Kind;

const ALWAYS: &[&str] = &["Always"];
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
        Kind::Job => batch::job(object, &spec, findings),
        Kind::CronJob => batch::cron_job(object, &spec, findings),
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
pub(super) fn share(at: &At<'_, '_>, key: &str, most_percent: Option<i64>, findings: &mut Findings) -> Option<i64> {
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

pub(super) fn pod_template(template: &At<'_, '_>, rules: &Rules<'_>, findings: &mut Findings) {
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
    if let Some(ordinals) = spec.get("ordinals") {
        findings.in_range(&ordinals, "start", 0..=i64::from(i32::MAX));
    }
    if let Some(strategy) = spec.get("updateStrategy")
        && let Some(rolling) = strategy.get("rollingUpdate")
    {
        if strategy.text("type") == Some("OnDelete") {
            findings.forbidden(&rolling, "may not stand with the type OnDelete");
        }
        findings.in_range(&rolling, "partition", 0..=i64::from(i32::MAX));
        if share(&rolling, "maxUnavailable", Some(100), findings) == Some(0) {
            findings.error(
                Fault::Invalid,
                rolling.path_to("maxUnavailable"),
                "may not be 0: nothing could be replaced",
            );
        }
    }
    if let Some(policy) = spec.get("persistentVolumeClaimRetentionPolicy") {
        for key in ["whenDeleted", "whenScaled"] {
            if let Some(field) = policy.get(key) {
                findings.one_of(&field, &["Retain", "Delete"]);
            }
        }
    }
    for claim in spec.items("volumeClaimTemplates") {
        match claim.get("spec") {
            Some(asked) => super::policy::amounts_and_modes(Kind::PersistentVolumeClaim, &asked, findings),
            None => findings.required(&claim, "spec", "is required"),
        }
        let named = claim.value.pointer("/metadata/name").and_then(Value::as_str);
        match named {
            Some(name) if super::is_dns_label(name) => {}
            Some(_) => {
                if let Some(meta) = claim.get("metadata")
                    && let Some(name) = meta.get("name")
                {
                    findings.invalid(
                        &name,
                        "is not a DNS label: at most 63 lower-case letters, digits and '-'",
                    );
                }
            }
            None => findings.required(&claim, "metadata", "needs a name, by which containers mount the claim"),
        }
    }
    // Mounts may name the template of a claim as well as a volume.
    let claims: Vec<&str> = spec
        .items("volumeClaimTemplates")
        .filter_map(|claim| claim.value.pointer("/metadata/name").and_then(Value::as_str))
        .collect();
    selected_template(Kind::StatefulSet, spec, &claims, findings);
}
