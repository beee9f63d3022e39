//! Rules for HorizontalPodAutoscalers.

use super::{
    Fault, Findings,
    container::read_quantity,
    path::{At, FieldPath},
};
use crate::scale::{SCALABLE, scalable};

/// The longest window and the longest period of the rules, in seconds.
const LONGEST_WINDOW: i64 = 3600;
const LONGEST_PERIOD: i64 = 1800;

pub(super) fn check(spec: &At<'_, '_>, findings: &mut Findings) {
    findings.in_range(spec, "minReplicas", 1..=i64::from(i32::MAX));
    findings.in_range(spec, "maxReplicas", 1..=i64::from(i32::MAX));
    if let (Some(least), Some(most)) = (spec.int("minReplicas"), spec.int("maxReplicas"))
        && most < least
        && let Some(field) = spec.get("maxReplicas")
    {
        findings.invalid(&field, format!("must be at least minReplicas, {least}"));
    }
    if let Some(target) = spec.get("scaleTargetRef") {
        let (version, kind) = (
            target.text("apiVersion").unwrap_or_default(),
            target.text("kind").unwrap_or_default(),
        );
        if !kind.is_empty() && scalable(version, kind).is_none() {
            let message = format!("{kind} of {version:?} cannot be scaled: {SCALABLE}");
            findings.warn(Fault::NotActedOn, target.path(), message);
        }
        if target.text("name") == Some("") {
            findings.required(&target, "name", "is required");
        }
    }
    for metric in spec.items("metrics") {
        metric_of(&metric, findings);
    }
    if let Some(behavior) = spec.get("behavior") {
        for direction in ["scaleUp", "scaleDown"] {
            if let Some(rules) = behavior.get(direction) {
                rules_of(&rules, findings);
            }
        }
    }
}

fn metric_of(metric: &At<'_, '_>, findings: &mut Findings) {
    let source = match metric.text("type") {
        Some("Resource") => "resource",
        Some("ContainerResource") => "containerResource",
        // Other types are not acted on, and the field table says so.
        _ => return,
    };
    let Some(source_at) = metric.get(source) else {
        findings.required(metric, source, "is required for this type");
        return;
    };
    if let Some(name) = source_at.get("name")
        && !matches!(source_at.text("name"), Some("cpu" | "memory"))
    {
        let message = "is not measured: an autoscaler goes by cpu or memory";
        findings.warn(Fault::NotActedOn, name.path(), format!("{} {message}", name.shown()));
    }
    let Some(target) = source_at.get("target") else { return };
    findings.in_range(&target, "averageUtilization", 1..=i64::from(i32::MAX));
    if let Some(amount) = target.get("averageValue")
        && read_quantity(&amount, findings).is_some_and(|amount| amount.nano() <= 0)
    {
        findings.invalid(&amount, "must be above 0");
    }
    let (share, value) = (target.has("averageUtilization"), target.has("averageValue"));
    if share && value {
        let path: FieldPath = target.path_to("averageValue");
        findings.error(Fault::Forbidden, path, "may not stand beside averageUtilization");
    } else if !share && !value {
        findings.required(&target, "averageUtilization", "is required, or averageValue");
    }
}

fn rules_of(rules: &At<'_, '_>, findings: &mut Findings) {
    findings.in_range(rules, "stabilizationWindowSeconds", 0..=LONGEST_WINDOW);
    if let Some(tolerance) = rules.get("tolerance")
        && read_quantity(&tolerance, findings).is_some_and(crate::quantity::Quantity::is_negative)
    {
        findings.invalid(&tolerance, "must not be negative");
    }
    for policy in rules.items("policies") {
        findings.in_range(&policy, "value", 1..=i64::from(i32::MAX));
        findings.in_range(&policy, "periodSeconds", 1..=LONGEST_PERIOD);
    }
}
