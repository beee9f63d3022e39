//! Fills in what a manifest leaves out, as the API of Kubernetes v1.33 documents it for each field.
//!
//! Defaulting is idempotent: a defaulted object stays as it is. A field of the wrong type is left
//! alone; validation is where it is reported.

mod job;
mod normal;
mod pod;
mod workload;

use serde_json::{Map, Value, json};

use crate::{Kind, labels};

pub use job::{anonymize_job, identify_job};
pub use normal::normalize;
pub use pod::{Qos, initial_status as initial_pod_status, qos_class};

/// Fills every defaulted field of an object of `kind` in, and brings quantities into their canonical
/// form.
pub fn default_object(kind: Kind, object: &mut Value) {
    normalize(kind, object);
    let Value::Object(object) = object else { return };
    match kind {
        Kind::Pod => with(object, "spec", pod::default_pod),
        Kind::ReplicaSet => with(object, "spec", workload::default_replica_set),
        Kind::Deployment => with(object, "spec", workload::default_deployment),
        Kind::DaemonSet => with(object, "spec", workload::default_daemon_set),
        Kind::StatefulSet => with(object, "spec", workload::default_stateful_set),
        Kind::ReplicationController => workload::default_replication_controller(object),
        Kind::Job => workload::default_job(object),
        Kind::CronJob => with(object, "spec", workload::default_cron_job),
        Kind::Namespace => default_namespace(object),
        Kind::Secret => set(object, "type", "Opaque"),
        Kind::Service => with(object, "spec", default_service),
        Kind::Endpoints => each(object, "subsets", |subset| each(subset, "ports", default_protocol)),
        Kind::EndpointSlice => each(object, "ports", |port| {
            set(port, "name", "");
            default_protocol(port);
        }),
        Kind::PersistentVolume => with(object, "spec", |spec| {
            set(spec, "persistentVolumeReclaimPolicy", "Retain");
            set(spec, "volumeMode", "Filesystem");
            with(spec, "hostPath", |path| set(path, "type", ""));
        }),
        Kind::PersistentVolumeClaim => with(object, "spec", default_claim),
        Kind::LimitRange => with(object, "spec", |spec| each(spec, "limits", default_limit)),
        Kind::HorizontalPodAutoscaler => with(object, "spec", default_autoscaler),
        Kind::PriorityClass => {
            set(object, "value", 0);
            set(object, "preemptionPolicy", "PreemptLowerPriority");
        }
        Kind::StorageClass => {
            set(object, "reclaimPolicy", "Delete");
            set(object, "volumeBindingMode", "Immediate");
        }
        Kind::NetworkPolicy => with(object, "spec", default_network_policy),
        Kind::RoleBinding | Kind::ClusterRoleBinding => default_binding(object),
        Kind::Node
        | Kind::ConfigMap
        | Kind::Event
        | Kind::ServiceAccount
        | Kind::ResourceQuota
        | Kind::ControllerRevision
        | Kind::PodDisruptionBudget
        | Kind::Lease
        | Kind::Ingress
        | Kind::Role
        | Kind::ClusterRole => {}
    }
}

/// Fills a pod template in, as for a workload's `spec.template`.
pub fn default_template(template: &mut Value) {
    normal::normalize_template(template);
    if let Value::Object(template) = template {
        workload::default_template(template);
    }
}

/// The status that a new object starts with, where its kind has one.
#[must_use]
pub fn initial_status(kind: Kind, object: &Value) -> Option<Value> {
    match kind {
        Kind::Pod => Some(pod::initial_status(object.get("spec").unwrap_or(&Value::Null))),
        Kind::Namespace => Some(json!({"phase": "Active"})),
        Kind::PersistentVolume | Kind::PersistentVolumeClaim => Some(json!({"phase": "Pending"})),
        Kind::Service | Kind::Ingress => Some(json!({"loadBalancer": {}})),
        Kind::ReplicaSet | Kind::ReplicationController => Some(json!({"replicas": 0})),
        Kind::StatefulSet => Some(json!({"replicas": 0, "availableReplicas": 0})),
        Kind::DaemonSet => Some(json!({
            "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
        })),
        Kind::Deployment | Kind::Job | Kind::CronJob | Kind::ResourceQuota => Some(json!({})),
        _ => None,
    }
}

fn default_namespace(object: &mut Map<String, Value>) {
    let Some(metadata) = workload::object_in(object, "metadata") else {
        return;
    };
    let name = metadata.get("name").cloned().unwrap_or_default();
    if name.is_string()
        && let Some(labels) = workload::object_in(metadata, "labels")
    {
        labels.insert(labels::NAMESPACE_NAME.to_owned(), name);
    }
    // A Namespace that is being deleted gives its finalizer up; it does not come back.
    let deleting = object["metadata"].get("deletionTimestamp").is_some();
    if let Some(spec) = workload::object_in(object, "spec")
        && !deleting
    {
        set(spec, "finalizers", json!([labels::NAMESPACE_FINALIZER]));
    }
}

fn default_service(spec: &mut Map<String, Value>) {
    set(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "None" {
        spec.remove("sessionAffinityConfig");
    }
    if spec["sessionAffinity"] == "ClientIP" {
        set(spec, "sessionAffinityConfig", json!({}));
        with(spec, "sessionAffinityConfig", |config| {
            set(config, "clientIP", json!({}));
            with(config, "clientIP", |client| set(client, "timeoutSeconds", 10_800));
        });
    }
    set(spec, "type", "ClusterIP");
    let kind = spec["type"].as_str().unwrap_or("").to_owned();
    each(spec, "ports", |port| {
        default_protocol(port);
        if let Some(number) = port.get("port").cloned() {
            let missing = match port.get("targetPort") {
                None => true,
                Some(target) => *target == 0 || *target == "",
            };
            if missing {
                port.insert("targetPort".to_owned(), number);
            }
        }
    });
    let outside = matches!(kind.as_str(), "NodePort" | "LoadBalancer")
        || spec
            .get("externalIPs")
            .and_then(Value::as_array)
            .is_some_and(|ips| !ips.is_empty());
    if outside && kind != "ExternalName" {
        set(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        set(spec, "internalTrafficPolicy", "Cluster");
        set(spec, "ipFamilies", json!(["IPv4"]));
        set(spec, "ipFamilyPolicy", "SingleStack");
        if let Some(address) = spec.get("clusterIP").filter(|address| **address != "").cloned() {
            set(spec, "clusterIPs", json!([address]));
        }
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
    }
}

pub(super) fn default_claim(spec: &mut Map<String, Value>) {
    set(spec, "volumeMode", "Filesystem");
    set(spec, "resources", json!({}));
}

/// A limit's `default` comes from its `max`, its `defaultRequest` from its `default`, else its `min`.
fn default_limit(limit: &mut Map<String, Value>) {
    if limit.get("type") != Some(&Value::from("Container")) {
        return;
    }
    for (to, from) in [
        ("default", "max"),
        ("defaultRequest", "default"),
        ("defaultRequest", "min"),
    ] {
        let Some(Value::Object(source)) = limit.get(from).cloned() else {
            continue;
        };
        if let Some(target) = workload::object_in(limit, to) {
            for (resource, amount) in source {
                target.entry(resource).or_insert(amount);
            }
        }
    }
}

fn default_autoscaler(spec: &mut Map<String, Value>) {
    set(spec, "minReplicas", 1);
    let empty = spec.get("metrics").is_none_or(|metrics| *metrics == json!([]));
    if empty {
        spec.insert(
            "metrics".to_owned(),
            json!([{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80},
            }}]),
        );
    }
    with(spec, "behavior", |behavior| {
        let rule = |kind: &str, value: i64| json!({"type": kind, "value": value, "periodSeconds": 15});
        with(behavior, "scaleUp", |up| {
            set(up, "stabilizationWindowSeconds", 0);
            set(up, "selectPolicy", "Max");
            set(up, "policies", json!([rule("Pods", 4), rule("Percent", 100)]));
        });
        with(behavior, "scaleDown", |down| {
            set(down, "selectPolicy", "Max");
            set(down, "policies", json!([rule("Percent", 100)]));
        });
    });
}

fn default_network_policy(spec: &mut Map<String, Value>) {
    set(spec, "podSelector", json!({}));
    let egress = spec
        .get("egress")
        .and_then(Value::as_array)
        .is_some_and(|rules| !rules.is_empty());
    set(
        spec,
        "policyTypes",
        if egress {
            json!(["Ingress", "Egress"])
        } else {
            json!(["Ingress"])
        },
    );
    for direction in ["ingress", "egress"] {
        each(spec, direction, |rule| each(rule, "ports", default_protocol));
    }
}

fn default_binding(object: &mut Map<String, Value>) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    with(object, "roleRef", |role| set(role, "apiGroup", GROUP));
    each(object, "subjects", |subject| {
        if matches!(subject.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
            set(subject, "apiGroup", GROUP);
        }
    });
}

fn default_protocol(port: &mut Map<String, Value>) {
    set(port, "protocol", "TCP");
}

/// Sets a field that is missing.
fn set(map: &mut Map<String, Value>, field: &str, value: impl Into<Value>) {
    if !map.contains_key(field) {
        map.insert(field.to_owned(), value.into());
    }
}

/// Changes the object in `field`, if there is one.
fn with(map: &mut Map<String, Value>, field: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    if let Some(Value::Object(inner)) = map.get_mut(field) {
        change(inner);
    }
}

/// Changes each object of the list in `field`, if there is one.
fn each(map: &mut Map<String, Value>, field: &str, mut change: impl FnMut(&mut Map<String, Value>)) {
    if let Some(Value::Array(items)) = map.get_mut(field) {
        items.iter_mut().filter_map(Value::as_object_mut).for_each(&mut change);
    }
}

#[cfg(test)]
mod tests;
