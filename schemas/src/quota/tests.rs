use serde_json::{Value, json};

use super::*;

fn object(kind: &str, spec: Value) -> Object {
    let kind = Kind::of_word(kind).expect("a kind");
    let value = json!({"apiVersion": kind.info().api_version(), "kind": kind.info().name,
        "metadata": {"name": "o", "namespace": "n"}, "spec": spec});
    Object::from_value(value).expect("it is an object")
}

fn quota(spec: Value) -> Quota {
    Quota::read(&object("ResourceQuota", spec)).expect("it reads")
}

fn charge(quota: &Quota, object: &Object) -> Vec<String> {
    let amounts = quota.charge(object).unwrap_or_default();
    amounts.iter().map(ToString::to_string).collect()
}

fn container(name: &str, resources: Value) -> Value {
    json!({"name": name, "image": "i", "resources": resources})
}

#[test]
fn names_say_what_is_counted() {
    for (name, measure) in [
        ("pods", Some(Measure::Pods)),
        ("count/pods", Some(Measure::Objects(Kind::Pod))),
        ("count/deployments.apps", Some(Measure::Objects(Kind::Deployment))),
        ("count/deployments", None),
        ("count/nodes", None),
        ("configmaps", Some(Measure::Objects(Kind::ConfigMap))),
        ("deployments", None),
        ("cpu", Some(Measure::Requests("cpu".into()))),
        ("requests.memory", Some(Measure::Requests("memory".into()))),
        (
            "requests.example.com/gpu",
            Some(Measure::Requests("example.com/gpu".into())),
        ),
        ("limits.cpu", Some(Measure::Limits("cpu".into()))),
        ("limits.example.com/gpu", None),
        ("requests.storage", Some(Measure::Storage(None))),
        (
            "gold.storageclass.storage.k8s.io/requests.storage",
            Some(Measure::Storage(Some("gold".into()))),
        ),
        (
            "gold.storageclass.storage.k8s.io/persistentvolumeclaims",
            Some(Measure::Claims("gold".into())),
        ),
        ("services.nodeports", Some(Measure::NodePorts)),
    ] {
        assert_eq!(Measure::of(name), measure, "{name}");
    }
}

#[test]
fn a_pod_takes_what_its_containers_ask_for() {
    let quota = quota(json!({"hard": {
        "count/pods": "9", "limits.memory": "9Gi", "pods": "9", "requests.cpu": "9",
    }}));
    let mut pod = object(
        "Pod",
        json!({
            "containers": [
                container("a", json!({"requests": {"cpu": "250m"}, "limits": {"memory": "1Gi"}})),
                container("b", json!({"limits": {"cpu": "500m", "memory": "512Mi"}})),
            ],
            "initContainers": [container("i", json!({"requests": {"cpu": "2"}}))],
        }),
    );
    assert_eq!(charge(&quota, &pod), ["1", "1536Mi", "1", "2"]);
    pod.status = Some((&json!({"phase": "Succeeded"})).into());
    assert_eq!(
        charge(&quota, &pod),
        ["1", "0", "0", "0"],
        "a finished pod is an object only"
    );
}

#[test]
fn a_sidecar_runs_beside_all_that_comes_after_it() {
    let quota = quota(json!({"hard": {"cpu": "9"}}));
    let sidecar =
        json!({"name": "s", "image": "i", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}});
    let pod = object(
        "Pod",
        json!({
            "containers": [container("a", json!({"requests": {"cpu": "1"}}))],
            "initContainers": [sidecar, container("i", json!({"requests": {"cpu": "1500m"}}))],
        }),
    );
    assert_eq!(charge(&quota, &pod), ["2500m"]);
}

#[test]
fn other_kinds_are_counted_too() {
    let claim = object(
        "pvc",
        json!({"storageClassName": "gold", "resources": {"requests": {"storage": "5Gi"}}}),
    );
    let storage = quota(json!({"hard": {
        "gold.storageclass.storage.k8s.io/requests.storage": "9Gi", "requests.storage": "9Gi",
        "persistentvolumeclaims": "3", "silver.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
    }}));
    assert_eq!(charge(&storage, &claim), ["5Gi", "1", "5Gi", "0"]);
    let services = quota(json!({"hard": {"services": "2", "services.loadbalancers": "1", "services.nodeports": "4"}}));
    let ports = json!([{"port": 1}, {"port": 2}]);
    for (kind, taken) in [
        ("ClusterIP", ["1", "0", "0"]),
        ("NodePort", ["1", "0", "2"]),
        ("LoadBalancer", ["1", "1", "2"]),
    ] {
        let service = object("Service", json!({"type": kind, "ports": ports}));
        assert_eq!(charge(&services, &service), taken, "{kind}");
    }
    assert_eq!(services.charge(&claim), None);
}

#[test]
fn scopes_choose_pods() {
    let plain = json!({"containers": [container("a", json!({}))]});
    let bound = json!({"containers": [container("a", json!({"requests": {"cpu": "1"}}))]});
    let ends = json!({"containers": [container("a", json!({}))], "activeDeadlineSeconds": 5});
    let high = json!({"containers": [container("a", json!({}))], "priorityClassName": "high"});
    let select = |operator: &str, values: Value| {
        json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": values}]}})
    };
    let scoped = |scope: &str| json!({"hard": {"pods": "1"}, "scopes": [scope]});
    for (spec, covered) in [
        (scoped("BestEffort"), [true, false, true, true]),
        (scoped("NotBestEffort"), [false, true, false, false]),
        (scoped("Terminating"), [false, false, true, false]),
        (scoped("NotTerminating"), [true, true, false, true]),
        (scoped("PriorityClass"), [false, false, false, true]),
        (select("In", json!(["high"])), [false, false, false, true]),
        (select("In", json!(["low"])), [false; 4]),
        (select("NotIn", json!(["high"])), [true, true, true, false]),
        (select("DoesNotExist", json!([])), [true, true, true, false]),
    ] {
        let quota = quota(spec.clone());
        let found = [&plain, &bound, &ends, &high].map(|pod| quota.charge(&object("Pod", pod.clone())).is_some());
        assert_eq!(found, covered, "{spec}");
    }
}

#[test]
fn what_is_counted_must_be_said() {
    let quota = quota(json!({"hard": {"limits.cpu": "1", "pods": "1", "requests.memory": "1"}}));
    let pod = object(
        "Pod",
        json!({"containers": [
            container("b", json!({"requests": {"memory": "1"}})), container("a", json!({"limits": {"cpu": "1"}})),
        ]}),
    );
    assert_eq!(
        quota.demands(&pod),
        Err("must specify limits.cpu for: b; requests.memory for: a".to_owned())
    );
    let said = object(
        "Pod",
        json!({"containers": [container("a", json!({"limits": {"cpu": "1", "memory": "1"}}))]}),
    );
    assert_eq!(quota.demands(&said), Ok(()));
}
