//! Rules for the kinds that say what may be done and how much: roles, quotas, budgets, autoscalers,
//! claims.

use super::{
    container::read_quantity,
    finding::{Fault, Findings},
    meta::label_selector,
    path::At,
};
use crate::{Kind, priority::BUILT_IN, storage};

pub(super) fn check(kind: Kind, object: &At<'_, '_>, findings: &mut Findings) {
    match kind {
        Kind::Role | Kind::ClusterRole => rules(kind, object, findings),
        Kind::RoleBinding | Kind::ClusterRoleBinding => binding(kind, object, findings),
        Kind::PriorityClass => {
            priority_class(object, findings);
        }
        Kind::StorageClass => class(object, findings),
        _ => with_spec(kind, object, findings),
    }
}

/// Names that begin with `system-` belong to the classes that are there anyway.
fn priority_class(object: &At<'_, '_>, findings: &mut Findings) {
    let name = object.value.pointer("/metadata/name").and_then(|name| name.as_str());
    let built_in = BUILT_IN.iter().find(|(built_in, _)| Some(*built_in) == name);
    match built_in {
        Some((_, value)) => {
            if object.int("value").is_some_and(|given| given != i64::from(*value))
                && let Some(field) = object.get("value")
            {
                findings.invalid(&field, format!("must be {value}: this class is built in"));
            }
        }
        None => {
            findings.in_range(object, "value", i64::from(i32::MIN)..=1_000_000_000);
            if name.is_some_and(|name| name.starts_with("system-"))
                && let Some(meta) = object.get("metadata")
                && let Some(field) = meta.get("name")
            {
                findings.invalid(&field, "begins with system-, which only built-in classes may");
            }
        }
    }
}

fn with_spec(kind: Kind, object: &At<'_, '_>, findings: &mut Findings) {
    let needed = matches!(
        kind,
        Kind::PersistentVolume
            | Kind::PersistentVolumeClaim
            | Kind::HorizontalPodAutoscaler
            | Kind::PodDisruptionBudget
    );
    let Some(spec) = object.get("spec") else {
        if needed {
            findings.required(object, "spec", "is required");
        }
        return;
    };
    match kind {
        Kind::PersistentVolume | Kind::PersistentVolumeClaim => {
            amounts_and_modes(kind, &spec, findings);
            if kind == Kind::PersistentVolume {
                source(&spec, findings);
            }
        }
        Kind::ResourceQuota => {
            if let Some(hard) = spec.get("hard") {
                for (_, amount) in hard.entries() {
                    if read_quantity(&amount, findings).is_some_and(crate::quantity::Quantity::is_negative) {
                        findings.invalid(&amount, "must not be negative");
                    }
                }
            }
        }
        Kind::LimitRange => {
            for limit in spec.items("limits") {
                for part in ["default", "defaultRequest", "max", "min", "maxLimitRequestRatio"] {
                    if let Some(amounts) = limit.get(part) {
                        for (_, amount) in amounts.entries() {
                            read_quantity(&amount, findings);
                        }
                    }
                }
            }
        }
        Kind::PodDisruptionBudget => {
            if spec.has("minAvailable") && spec.has("maxUnavailable") {
                findings.error(
                    Fault::Invalid,
                    spec.path_to("maxUnavailable"),
                    "may not stand beside minAvailable",
                );
            }
            for key in ["minAvailable", "maxUnavailable"] {
                super::workload::share(&spec, key, Some(100), findings);
            }
            if let Some(selector) = spec.get("selector") {
                label_selector(&selector, findings);
            }
        }
        Kind::HorizontalPodAutoscaler => {
            super::autoscaler::check(&spec, findings);
        }
        _ => {}
    }
}

fn class(object: &At<'_, '_>, findings: &mut Findings) {
    match object.text("provisioner") {
        Some(storage::PROVISIONER) if object.text("volumeBindingMode") != Some("WaitForFirstConsumer") => findings
            .error(
                Fault::Invalid,
                object.path_to("volumeBindingMode"),
                "must be WaitForFirstConsumer: a local volume is made on the node of its first pod",
            ),
        Some(storage::PROVISIONER | storage::NO_PROVISIONER) | None => {}
        Some(other) => {
            if let Some(field) = object.get("provisioner") {
                findings.warn(
                    Fault::NotActedOn,
                    field.path(),
                    format!("nothing makes volumes for {other:?}: use {}", storage::PROVISIONER),
                );
            }
        }
    }
}

/// What is behind a volume: exactly one source that a node can mount.
fn source(spec: &At<'_, '_>, findings: &mut Findings) {
    let sources = ["local", "hostPath", "csi"];
    let there: Vec<&str> = sources.into_iter().filter(|source| spec.has(source)).collect();
    if there.len() > 1 {
        findings.error(
            Fault::Forbidden,
            spec.path_to(there[1]),
            "may not stand beside another source of the volume",
        );
    }
    for (source, field) in [("local", "path"), ("hostPath", "path")] {
        if let Some(source) = spec.get(source)
            && source.text(field).is_none_or(|path| !path.starts_with('/'))
        {
            findings.error(Fault::Invalid, source.path_to(field), "must be an absolute path");
        }
    }
    if let Some(csi) = spec.get("csi")
        && csi.text("driver") != Some(storage::DRIVER)
    {
        findings.error(
            Fault::NotActedOn,
            csi.path_to("driver"),
            "there are no storage drivers: mount the data on the node and use local or hostPath",
        );
    }
    if spec.has("local") && spec.value.pointer("/nodeAffinity/required").is_none() {
        findings.required(
            spec,
            "nodeAffinity",
            "is required for a local volume: it says which node it is on",
        );
    }
}

pub(super) fn amounts_and_modes(kind: Kind, spec: &At<'_, '_>, findings: &mut Findings) {
    if spec.items("accessModes").next().is_none() {
        findings.required(spec, "accessModes", "is required");
    }
    let amount = if kind == Kind::PersistentVolume {
        spec.value.pointer("/capacity/storage")
    } else {
        spec.value.pointer("/resources/requests/storage")
    };
    if amount.is_none() {
        let (key, message) = if kind == Kind::PersistentVolume {
            ("capacity", "needs storage, such as storage: 10Gi")
        } else {
            ("resources", "needs requests.storage, such as 10Gi")
        };
        findings.required(spec, key, message);
    }
    let resources = spec.get("resources");
    let requests = resources.as_ref().and_then(|resources| resources.get("requests"));
    for amounts in [spec.get("capacity"), requests].into_iter().flatten() {
        for (_, amount) in amounts.entries() {
            if read_quantity(&amount, findings).is_some_and(|size| size.value() <= 0) {
                findings.invalid(&amount, "must be more than 0");
            }
        }
    }
    // Volumes that a person made may be reached from several nodes.
    let local =
        kind == Kind::PersistentVolumeClaim && !spec.has("volumeName") && spec.text("storageClassName") != Some("");
    for mode in spec.items("accessModes").filter(|_| local) {
        if let Some(word @ ("ReadWriteMany" | "ReadOnlyMany")) = mode.value.as_str() {
            findings.warn(
                Fault::NotActedOn,
                mode.path(),
                format!(
                    "a volume that a class makes is on one node and cannot be {word}: ask for ReadWriteOnce, or declare a \
                     PersistentVolume for it"
                ),
            );
        }
    }
}

fn rules(kind: Kind, object: &At<'_, '_>, findings: &mut Findings) {
    for rule in object.items("rules") {
        if rule.items("verbs").next().is_none() {
            findings.required(&rule, "verbs", "is required");
        }
        let urls = rule.items("nonResourceURLs").next().is_some();
        if urls && kind == Kind::Role {
            findings.error(
                Fault::Invalid,
                rule.path_to("nonResourceURLs"),
                "may stand in a ClusterRole only",
            );
        }
        if !urls {
            for key in ["apiGroups", "resources"] {
                if rule.items(key).next().is_none() {
                    findings.required(&rule, key, "is required; the core group is \"\"");
                }
            }
        }
    }
}

fn binding(kind: Kind, object: &At<'_, '_>, findings: &mut Findings) {
    if let Some(role) = object.get("roleRef") {
        let kinds: &[&str] = if kind == Kind::RoleBinding {
            &["Role", "ClusterRole"]
        } else {
            &["ClusterRole"]
        };
        if let Some(field) = role.get("kind") {
            findings.one_of(&field, kinds);
        }
        if let Some(field) = role.get("apiGroup") {
            findings.one_of(&field, &["", "rbac.authorization.k8s.io"]);
        }
        if role.text("name").is_some_and(str::is_empty) {
            findings.required(&role, "name", "is required");
        }
    }
    for subject in object.items("subjects") {
        if subject.text("kind") == Some("ServiceAccount")
            && kind == Kind::ClusterRoleBinding
            && !subject.has("namespace")
        {
            findings.required(&subject, "namespace", "is required for a ServiceAccount");
        }
    }
}
