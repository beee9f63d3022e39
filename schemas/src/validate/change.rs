//! Rules for what may change in an object that exists.

use serde_json::Value;

use super::{
    finding::{Fault, Finding, Findings},
    path::FieldPath,
};
use crate::Kind;

/// What of a Job never changes. Its template and its completions have rules of their own.
const JOB: &[&str] = &[
    "spec.selector",
    "spec.completionMode",
    "spec.podFailurePolicy",
    "spec.successPolicy",
    "spec.backoffLimitPerIndex",
    "spec.managedBy",
];

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
        Kind::Job => JOB,
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
        Kind::Job => job(old, new, &mut findings),
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

/// A Job's template never changes, but for what places the pods of one that is suspended and was never
/// started. The completions of an indexed Job change together with its parallelism.
fn job(old: &Value, new: &Value, findings: &mut Findings) {
    let waits = at(old, "spec.suspend") == Some(&Value::Bool(true)) && at(old, "status.startTime").is_none();
    let template = |job: &Value| {
        let mut template = at(job, "spec.template").cloned().unwrap_or_default();
        if waits {
            for (place, fields) in [
                ("/metadata", &["labels", "annotations"][..]),
                ("/spec", &["nodeSelector", "tolerations", "schedulingGates"][..]),
                ("/spec/affinity", &["nodeAffinity"][..]),
            ] {
                let place = template.pointer_mut(place).and_then(Value::as_object_mut);
                if let Some(place) = place {
                    place.retain(|field, _| !fields.contains(&field.as_str()));
                }
            }
            if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut)
                && spec
                    .get("affinity")
                    .and_then(Value::as_object)
                    .is_some_and(|affinity| affinity.is_empty())
            {
                spec.remove("affinity");
            }
        }
        serde_json::from_value(template).unwrap_or_default()
    };
    if !crate::template::equal(&template(old), &template(new)) {
        findings.error(
            Fault::Forbidden,
            FieldPath::of("spec.template"),
            "cannot change: delete the Job and create it anew, or give the new one another name",
        );
    }
    let (before, after) = (at(old, "spec.completions"), at(new, "spec.completions"));
    let elastic = at(old, "spec.completionMode").and_then(Value::as_str) == Some("Indexed")
        && after.is_some()
        && after == at(new, "spec.parallelism");
    if before != after && !elastic {
        findings.error(
            Fault::Forbidden,
            FieldPath::of("spec.completions"),
            "cannot change, but for an indexed Job together with its parallelism, to the same number",
        );
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

        let job = |spec: Value| {
            let mut job = json!({"spec": {"completions": 3, "parallelism": 1, "completionMode": "NonIndexed",
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
            json_patch::merge(&mut job, &json!({"spec": spec}));
            job
        };
        for (change, frozen) in [
            (
                json!({"parallelism": 7, "backoffLimit": 2, "suspend": true, "ttlSecondsAfterFinished": 1}),
                vec![],
            ),
            (json!({"completions": 4}), vec!["spec.completions"]),
            (json!({"completions": 4, "parallelism": 4}), vec!["spec.completions"]),
            (json!({"completionMode": "Indexed"}), vec!["spec.completionMode"]),
            (json!({"backoffLimitPerIndex": 1}), vec!["spec.backoffLimitPerIndex"]),
            (
                json!({"template": {"metadata": {"labels": {"a": "c"}}}}),
                vec!["spec.template"],
            ),
            // What defaulting adds is no change.
            (json!({"template": {"spec": {"dnsPolicy": "ClusterFirst"}}}), vec![]),
        ] {
            assert_eq!(
                paths(Kind::Job, job(json!({})), job(change.clone())),
                frozen,
                "{change}"
            );
        }
        let indexed = |count: u32, more: Value| {
            let mut spec = json!({"completionMode": "Indexed", "completions": count, "parallelism": count});
            json_patch::merge(&mut spec, &more);
            job(spec)
        };
        assert!(paths(Kind::Job, indexed(3, json!({})), indexed(5, json!({}))).is_empty());
        assert_eq!(
            paths(Kind::Job, indexed(3, json!({})), indexed(5, json!({"parallelism": 2}))),
            ["spec.completions"]
        );
        let placed = json!({"template": {"metadata": {"labels": {"a": "c"}},
            "spec": {"nodeSelector": {"disk": "ssd"}, "affinity": {"nodeAffinity": {}}}}});
        let mut waiting = job(json!({"suspend": true}));
        assert!(paths(Kind::Job, waiting.clone(), job(placed.clone())).is_empty());
        waiting["status"] = json!({"startTime": "2026-01-01T00:00:00Z"});
        assert_eq!(paths(Kind::Job, waiting, job(placed)), ["spec.template"]);

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
