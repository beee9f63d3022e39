//! Defaults of pod specs.

use serde_json::{Map, Value, json};

use super::{default_claim, default_protocol, each, set, with};
use crate::labels;

/// How much a pod's resources are guaranteed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The class of a pod by the cpu and memory of its containers, `spec` being the pod's.
///
/// <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>
#[must_use]
pub fn qos_class(spec: &Value) -> Qos {
    let mut any = false;
    let mut guaranteed = true;
    let lists = ["containers", "initContainers"];
    for container in lists
        .iter()
        .flat_map(|list| spec[*list].as_array().into_iter().flatten())
    {
        let amount = |part: &str, resource: &str| {
            let value = container.get("resources")?.get(part)?.get(resource)?;
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.parse::<crate::quantity::Quantity>()
                .ok()
                .filter(|quantity| !quantity.is_zero())
        };
        for resource in ["cpu", "memory"] {
            let limit = amount("limits", resource);
            let request = amount("requests", resource).or(limit);
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

/// The status of a pod that no agent has reported on.
pub fn initial_status(spec: &Value) -> Value {
    json!({"phase": "Pending", "qosClass": qos_class(spec).as_str()})
}

/// Defaults of a pod itself, which a template does not get: requests from limits, the service
/// account, priority and the tolerations of a node that is away for five minutes.
pub(crate) fn default_pod(spec: &mut Map<String, Value>) {
    default_pod_spec(spec);
    set(spec, "enableServiceLinks", true);
    set(spec, "serviceAccountName", "default");
    mirror_service_account(spec);
    if !spec.contains_key("priorityClassName") {
        set(spec, "priority", 0);
        set(spec, "preemptionPolicy", "PreemptLowerPriority");
    }
    for list in ["containers", "initContainers"] {
        each(spec, list, |container| {
            with(container, "resources", |resources| {
                let Some(Value::Object(limits)) = resources.get("limits").cloned() else {
                    return;
                };
                set(resources, "requests", json!({}));
                with(resources, "requests", |requests| {
                    for (resource, limit) in limits {
                        requests.entry(resource).or_insert(limit);
                    }
                });
            });
        });
    }
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        for list in ["containers", "initContainers"] {
            each(spec, list, |container| {
                each(container, "ports", |port| {
                    let number = port.get("containerPort").cloned().unwrap_or_default();
                    if !number.is_null() && port.get("hostPort").is_none_or(|host| *host == 0) {
                        port.insert("hostPort".to_owned(), number);
                    }
                });
            });
        }
    }
    tolerate_absence(spec);
}

/// A pod stays for five minutes on a node that is not ready or unreachable, unless it says otherwise.
fn tolerate_absence(spec: &mut Map<String, Value>) {
    set(spec, "tolerations", json!([]));
    let Some(Value::Array(tolerations)) = spec.get_mut("tolerations") else {
        return;
    };
    for taint in [labels::TAINT_NOT_READY, labels::TAINT_UNREACHABLE] {
        let covered = tolerations.iter().any(|toleration| {
            let text = |field: &str| toleration.get(field).and_then(Value::as_str).unwrap_or("");
            matches!(text("key"), "") && text("operator") == "Exists" && matches!(text("effect"), "" | "NoExecute")
                || text("key") == taint && matches!(text("effect"), "" | "NoExecute")
        });
        if !covered {
            tolerations.push(json!({
                "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
            }));
        }
    }
}

/// `serviceAccount` is the older name of `serviceAccountName` and always says the same.
fn mirror_service_account(spec: &mut Map<String, Value>) {
    if let Some(old) = spec.get("serviceAccount").cloned() {
        set(spec, "serviceAccountName", old);
    }
    if let Some(name) = spec.get("serviceAccountName").cloned() {
        spec.insert("serviceAccount".to_owned(), name);
    }
}

/// Defaults of a pod spec, in a pod as in a template.
pub(crate) fn default_pod_spec(spec: &mut Map<String, Value>) {
    set(spec, "dnsPolicy", "ClusterFirst");
    set(spec, "restartPolicy", "Always");
    set(spec, "schedulerName", "default-scheduler");
    set(spec, "securityContext", json!({}));
    set(spec, "terminationGracePeriodSeconds", 30);
    mirror_service_account(spec);
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec, list, default_container);
    }
    each(spec, "volumes", default_volume);
}

fn default_container(container: &mut Map<String, Value>) {
    set(container, "terminationMessagePath", "/dev/termination-log");
    set(container, "terminationMessagePolicy", "File");
    set(container, "resources", json!({}));
    if let Some(image) = container.get("image").and_then(Value::as_str) {
        let policy = default_pull_policy(image);
        set(container, "imagePullPolicy", policy);
    }
    each(container, "ports", default_protocol);
    each(container, "env", |env| {
        with(env, "valueFrom", |source| {
            default_field_reference(source);
        });
    });
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        with(container, probe, |probe| {
            set(probe, "timeoutSeconds", 1);
            set(probe, "periodSeconds", 10);
            set(probe, "successThreshold", 1);
            set(probe, "failureThreshold", 3);
            default_handler(probe);
            with(probe, "grpc", |grpc| set(grpc, "service", ""));
        });
    }
    with(container, "lifecycle", |lifecycle| {
        with(lifecycle, "postStart", default_handler);
        with(lifecycle, "preStop", default_handler);
    });
}

/// `Always` for `:latest` and for neither tag nor digest, else `IfNotPresent`.
fn default_pull_policy(image: &str) -> &'static str {
    let (name, digest) = match image.split_once('@') {
        Some((name, _)) => (name, true),
        None => (image, false),
    };
    // A colon before the last slash belongs to the registry's port.
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if !digest => "Always",
        _ => "IfNotPresent",
    }
}

fn default_handler(handler: &mut Map<String, Value>) {
    with(handler, "httpGet", |get| {
        set(get, "path", "/");
        set(get, "scheme", "HTTP");
    });
}

fn default_field_reference(source: &mut Map<String, Value>) {
    with(source, "fieldRef", |reference| set(reference, "apiVersion", "v1"));
    with(source, "resourceFieldRef", |reference| set(reference, "divisor", "0"));
}

/// 0644, as JSON writes it.
const FILE_MODE: i64 = 0o644;

fn default_volume(volume: &mut Map<String, Value>) {
    if volume.len() == 1 && volume.contains_key("name") {
        set(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap"] {
        with(volume, source, |source| set(source, "defaultMode", FILE_MODE));
    }
    with(volume, "downwardAPI", |source| {
        set(source, "defaultMode", FILE_MODE);
        each(source, "items", default_field_reference);
    });
    with(volume, "projected", |projected| {
        set(projected, "defaultMode", FILE_MODE);
        each(projected, "sources", |source| {
            with(source, "serviceAccountToken", |token| {
                set(token, "expirationSeconds", 3600)
            });
            with(source, "downwardAPI", |downward| {
                each(downward, "items", default_field_reference)
            });
        });
    });
    with(volume, "hostPath", |path| set(path, "type", ""));
    with(volume, "ephemeral", |ephemeral| {
        with(ephemeral, "volumeClaimTemplate", |claim| {
            with(claim, "spec", default_claim)
        });
    });
    with(volume, "image", |image| {
        if let Some(reference) = image.get("reference").and_then(Value::as_str) {
            let policy = default_pull_policy(reference);
            set(image, "pullPolicy", policy);
        }
    });
}
