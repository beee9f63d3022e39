//! Rules for what may change in an object that exists.

use serde_json::Value;

use super::{
    finding::{Fault, Finding, Findings},
    path::FieldPath,
};
use crate::Kind;

/// What of the change from `old` to `new` is not allowed. Both are whole objects with defaults.
#[must_use]
pub fn changes(kind: Kind, old: &Value, new: &Value) -> Vec<Finding> {
    let mut findings = Findings::default();
    let recreate = "cannot change: delete the object and create it anew, or give the new one another name";
    let frozen: &[&str] = match kind {
        Kind::Deployment | Kind::ReplicaSet | Kind::DaemonSet => &["spec.selector"],
        Kind::StatefulSet => &[
            "spec.selector",
            "spec.serviceName",
            "spec.podManagementPolicy",
            "spec.volumeClaimTemplates",
        ],
        Kind::Job => &["spec.selector", "spec.template", "spec.completionMode"],
        Kind::Secret => &["type"],
        Kind::PersistentVolumeClaim => &[
            "spec.storageClassName",
            "spec.accessModes",
            "spec.volumeMode",
            "spec.selector",
        ],
        Kind::RoleBinding | Kind::ClusterRoleBinding => &["roleRef"],
        Kind::PriorityClass => &["value", "preemptionPolicy"],
        Kind::StorageClass => &["provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"],
        Kind::ControllerRevision => &["data"],
        _ => &[],
    };
    for field in frozen {
        if at(old, field) != at(new, field) {
            findings.error(Fault::Forbidden, FieldPath::of(field), recreate);
        }
    }
    match kind {
        Kind::ConfigMap | Kind::Secret => immutable_data(old, new, &mut findings),
        Kind::Pod => pod(old, new, &mut findings),
        Kind::Service => service(old, new, &mut findings),
        _ => {}
    }
    findings.found
}

fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .try_fold(object, |value, key| value.get(key))
        .filter(|value| !value.is_null())
}

/// `immutable: true` freezes the data and itself.
fn immutable_data(old: &Value, new: &Value, findings: &mut Findings) {
    if old.get("immutable") != Some(&Value::Bool(true)) {
        return;
    }
    for field in ["immutable", "data", "binaryData", "stringData"] {
        // Plain text of a Secret is compared by the caller's normal form, in which it is in data.
        if at(old, field) != at(new, field) {
            findings.error(
                Fault::Forbidden,
                FieldPath::of(field),
                "cannot change while the object is immutable: delete it and create it anew",
            );
        }
    }
}

/// Of a pod's spec only images, the deadline and added tolerations may change.
fn pod(old: &Value, new: &Value, findings: &mut Findings) {
    let strip = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        for list in ["containers", "initContainers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(container) = container.as_object_mut() {
                    container.remove("image");
                }
            }
        }
        if let Some(spec) = spec.as_object_mut() {
            spec.remove("activeDeadlineSeconds");
            spec.remove("tolerations");
            // Bound once, by the binding sub-resource.
            spec.remove("nodeName");
        }
        spec
    };
    if strip(old) != strip(new) {
        findings.error(
            Fault::Forbidden,
            FieldPath::of("spec"),
            "of a pod only the images, activeDeadlineSeconds and added tolerations may change: delete the pod and create it anew",
        );
    }
    let list = |object: &Value| {
        at(object, "spec.tolerations")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let kept = list(new);
    if list(old).iter().any(|toleration| !kept.contains(toleration)) {
        findings.error(
            Fault::Forbidden,
            FieldPath::of("spec.tolerations"),
            "may be added to, not taken from",
        );
    }
    let deadline = |object: &Value| at(object, "spec.activeDeadlineSeconds").and_then(Value::as_i64);
    if let Some(before) = deadline(old)
        && deadline(new).is_none_or(|after| after > before)
    {
        findings.error(
            Fault::Forbidden,
            FieldPath::of("spec.activeDeadlineSeconds"),
            "may become smaller, not larger",
        );
    }
}

/// An address, once given, stays for the life of a Service that has one.
fn service(old: &Value, new: &Value, findings: &mut Findings) {
    let external = |object: &Value| at(object, "spec.type").and_then(Value::as_str) == Some("ExternalName");
    let address = |object: &Value| {
        at(object, "spec.clusterIP")
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned()
    };
    let (before, after) = (address(old), address(new));
    if !before.is_empty() && before != after && !external(old) && !external(new) {
        findings.error(
            Fault::Forbidden,
            FieldPath::of("spec.clusterIP"),
            "cannot change: delete the Service and create it anew",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(kind: Kind, old: Value, new: Value) -> Vec<String> {
        changes(kind, &old, &new)
            .iter()
            .map(|finding| finding.path.to_string())
            .collect()
    }

    #[test]
    fn what_is_frozen_cannot_change() {
        let deployment = |app: &str, replicas: u32| json!({"spec": {"replicas": replicas, "selector": {"matchLabels": {"app": app}}}});
        assert!(paths(Kind::Deployment, deployment("a", 1), deployment("a", 2)).is_empty());
        assert_eq!(
            paths(Kind::Deployment, deployment("a", 1), deployment("b", 1)),
            ["spec.selector"]
        );

        let pod = |image: &str, command: &str| json!({"spec": {"containers": [{"name": "c", "image": image, "command": [command]}]}});
        assert!(paths(Kind::Pod, pod("a", "x"), pod("b", "x")).is_empty());
        assert_eq!(paths(Kind::Pod, pod("a", "x"), pod("a", "y")), ["spec"]);

        let config = |immutable: bool, value: &str| json!({"immutable": immutable, "data": {"k": value}});
        assert!(paths(Kind::ConfigMap, config(false, "1"), config(true, "2")).is_empty());
        assert_eq!(paths(Kind::ConfigMap, config(true, "1"), config(true, "2")), ["data"]);
        assert_eq!(
            paths(Kind::ConfigMap, config(true, "1"), config(false, "1")),
            ["immutable"]
        );
    }
}
