use proptest::prelude::*;
use serde_json::json;

use super::*;

fn defaulted(kind: Kind, mut object: Value) -> Value {
    default_object(kind, &mut object);
    object
}

#[test]
fn a_deployment_shows_what_kubectl_shows() {
    let object = defaulted(
        Kind::Deployment,
        json!({"metadata": {"name": "web"}, "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": null,
            "template": {"metadata": {"creationTimestamp": null, "labels": {"app": "web"}}, "spec": {
                "containers": [{
                    "name": "web", "image": "shop/web:1", "ports": [{"containerPort": 80}],
                    "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}},
                    "readinessProbe": {"httpGet": {"port": 80}},
                    "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                }],
                "volumes": [{"name": "tmp"}, {"name": "conf", "configMap": {"name": "c"}}],
            }},
        }}),
    );
    assert_eq!(
        object,
        json!({"metadata": {"name": "web"}, "spec": {
            "progressDeadlineSeconds": 600,
            "replicas": 1,
            "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                "containers": [{
                    "name": "web", "image": "shop/web:1", "imagePullPolicy": "IfNotPresent",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
                    "readinessProbe": {
                        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                        "failureThreshold": 3, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1,
                    },
                    "env": [{"name": "IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}],
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                }],
                "dnsPolicy": "ClusterFirst",
                "restartPolicy": "Always",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "terminationGracePeriodSeconds": 30,
                "volumes": [
                    {"name": "tmp", "emptyDir": {}},
                    {"name": "conf", "configMap": {"name": "c", "defaultMode": 420}},
                ],
            }},
        }})
    );
}

#[test]
fn a_pod_gets_more_than_a_template() {
    let spec = json!({"containers": [{"name": "a", "image": "a", "resources": {"limits": {"cpu": "1"}}}]});
    let pod = defaulted(Kind::Pod, json!({"metadata": {"name": "a"}, "spec": spec.clone()}));
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["resources"]["requests"], json!({"cpu": "1"}));
    assert_eq!(pod["spec"]["serviceAccountName"], "default");
    assert_eq!(pod["spec"]["enableServiceLinks"], true);
    assert_eq!(pod["spec"]["priority"], 0);
    assert_eq!(pod["spec"]["tolerations"].as_array().map(Vec::len), Some(2));

    let mut template = json!({"spec": spec});
    default_template(&mut template);
    assert_eq!(
        template["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "1"}})
    );
    assert!(template["spec"].get("tolerations").is_none());
}

#[test]
fn a_pod_keeps_the_tolerations_that_it_has() {
    for (tolerations, count) in [
        (json!([]), 2),
        (json!([{"operator": "Exists"}]), 1),
        (
            json!([{"key": labels::TAINT_NOT_READY, "operator": "Exists", "tolerationSeconds": 5}]),
            2,
        ),
        (
            json!([{"key": labels::TAINT_NOT_READY, "operator": "Exists", "effect": "NoSchedule"}]),
            3,
        ),
        (json!([{"operator": "Exists", "effect": "NoSchedule"}]), 3),
    ] {
        let pod = defaulted(
            Kind::Pod,
            json!({"spec": {"containers": [], "tolerations": tolerations}}),
        );
        let found = pod["spec"]["tolerations"].as_array().map(Vec::len);
        assert_eq!(found, Some(count), "{tolerations}");
    }
}

#[test]
fn the_pull_policy_follows_the_tag() {
    for (image, policy) in [
        ("web", "Always"),
        ("web:latest", "Always"),
        ("web:1", "IfNotPresent"),
        ("registry:5000/web", "Always"),
        ("registry:5000/web:1", "IfNotPresent"),
        ("web@sha256:abc", "IfNotPresent"),
        ("web:latest@sha256:abc", "Always"),
    ] {
        let pod = defaulted(
            Kind::Pod,
            json!({"spec": {"containers": [{"name": "a", "image": image}]}}),
        );
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn every_kind_has_its_defaults() {
    let template = json!({"metadata": {"labels": {"a": "b"}}});
    for (kind, object, path, expected) in [
        (Kind::ReplicaSet, json!({"spec": {}}), "/spec/replicas", json!(1)),
        (
            Kind::Deployment,
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
            "/spec/strategy",
            json!({"type": "Recreate"}),
        ),
        (
            Kind::DaemonSet,
            json!({"spec": {}}),
            "/spec/updateStrategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}),
        ),
        (
            Kind::StatefulSet,
            json!({"spec": {}}),
            "/spec/updateStrategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}),
        ),
        (
            Kind::Job,
            json!({"spec": {"template": template}}),
            "/metadata/labels",
            json!({"a": "b"}),
        ),
        (Kind::Job, json!({"spec": {}}), "/spec/completions", json!(1)),
        (Kind::Job, json!({"spec": {}}), "/spec/backoffLimit", json!(6)),
        (
            Kind::CronJob,
            json!({"spec": {}}),
            "/spec/concurrencyPolicy",
            json!("Allow"),
        ),
        (
            Kind::Namespace,
            json!({"metadata": {"name": "shop"}}),
            "/metadata/labels",
            json!({labels::NAMESPACE_NAME: "shop"}),
        ),
        (
            Kind::Secret,
            json!({"stringData": {"a": "hello", "b": ""}, "data": {"a": "b2xk", "c": "Yw=="}}),
            "",
            json!({"type": "Opaque", "data": {"a": "aGVsbG8=", "b": "", "c": "Yw=="}}),
        ),
        (
            Kind::Service,
            json!({"spec": {"ports": [{"port": 80}, {"port": 53, "protocol": "UDP", "targetPort": "dns"}]}}),
            "/spec",
            json!({
                "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                "ports": [
                    {"port": 80, "protocol": "TCP", "targetPort": 80},
                    {"port": 53, "protocol": "UDP", "targetPort": "dns"},
                ],
            }),
        ),
        (
            Kind::Service,
            json!({"spec": {"type": "NodePort", "sessionAffinity": "ClientIP"}}),
            "/spec/sessionAffinityConfig",
            json!({"clientIP": {"timeoutSeconds": 10_800}}),
        ),
        (
            Kind::LimitRange,
            json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}}),
            "/spec/limits/0/defaultRequest",
            json!({"cpu": "2", "memory": "1Mi"}),
        ),
        (
            Kind::NetworkPolicy,
            json!({"spec": {"egress": [{}]}}),
            "/spec/policyTypes",
            json!(["Ingress", "Egress"]),
        ),
        (
            Kind::PersistentVolumeClaim,
            json!({"spec": {"resources": {"requests": {"storage": "0.5Gi"}}}}),
            "/spec/resources/requests/storage",
            json!("512Mi"),
        ),
        (
            Kind::RoleBinding,
            json!({"roleRef": {"kind": "Role", "name": "r"}}),
            "/roleRef/apiGroup",
            json!("rbac.authorization.k8s.io"),
        ),
        (
            Kind::HorizontalPodAutoscaler,
            json!({"spec": {}}),
            "/spec/minReplicas",
            json!(1),
        ),
    ] {
        let object = defaulted(kind, object);
        assert_eq!(object.pointer(path), Some(&expected), "{kind} {path}: {object}");
    }
}

#[test]
fn a_job_selects_its_own_pods() {
    let mut job = json!({"metadata": {"name": "load"}, "spec": {"template": {"spec": {}}}});
    identify_job(&mut job, "u1");
    assert_eq!(job["spec"]["selector"]["matchLabels"][labels::JOB_CONTROLLER_UID], "u1");
    assert_eq!(job["spec"]["template"]["metadata"]["labels"][labels::JOB_NAME], "load");
    let mut manual = json!({"metadata": {"name": "load"}, "spec": {"manualSelector": true, "template": {}}});
    let before = manual.clone();
    identify_job(&mut manual, "u1");
    assert_eq!(manual, before);
    // Taken back, a copy can be given to another.
    assert_eq!(job["metadata"]["labels"][labels::LEGACY_JOB_NAME], "load");
    let mut copy = job.clone();
    anonymize_job(copy.as_object_mut().expect("it is one"));
    assert_eq!(
        copy["spec"],
        json!({"template": {"metadata": {"labels": {}}, "spec": {}}})
    );
    identify_job(&mut copy, "u2");
    assert_eq!(
        copy["spec"]["selector"]["matchLabels"][labels::JOB_CONTROLLER_UID],
        "u2"
    );
    identify_job(&mut job, "u2");
    assert_eq!(job["spec"]["selector"]["matchLabels"][labels::JOB_CONTROLLER_UID], "u1");
}

#[test]
fn the_quality_of_service_follows_cpu_and_memory() {
    let both = json!({"cpu": "1", "memory": "1Gi"});
    for (resources, class) in [
        (json!({}), Qos::BestEffort),
        (json!({"limits": {"example.com/gpu": "1"}}), Qos::BestEffort),
        (json!({"limits": both}), Qos::Guaranteed),
        (
            json!({"limits": both, "requests": {"cpu": "1000m", "memory": "1024Mi"}}),
            Qos::Guaranteed,
        ),
        (json!({"limits": both, "requests": {"cpu": "500m"}}), Qos::Burstable),
        (json!({"limits": {"cpu": "1"}}), Qos::Burstable),
        (json!({"requests": {"cpu": "0"}}), Qos::BestEffort),
    ] {
        let spec = json!({"containers": [{"name": "a", "resources": resources}]});
        assert_eq!(qos_class(&spec), class, "{resources}");
    }
}

/// Parts of objects, right and wrong ones, put together at random.
fn part(depth: u32) -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..100).prop_map(Value::from),
        prop_oneof![
            Just("RollingUpdate"),
            Just("ClientIP"),
            Just("NodePort"),
            Just("0.5Gi"),
            Just("1e3"),
            Just("web:latest"),
            Just("Container"),
            Just("")
        ]
        .prop_map(Value::from),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let names = proptest::sample::select(vec![
        "metadata",
        "spec",
        "template",
        "containers",
        "volumes",
        "ports",
        "name",
        "image",
        "strategy",
        "updateStrategy",
        "rollingUpdate",
        "type",
        "resources",
        "limits",
        "requests",
        "cpu",
        "env",
        "valueFrom",
        "fieldRef",
        "resourceFieldRef",
        "livenessProbe",
        "httpGet",
        "sessionAffinity",
        "tolerations",
        "key",
        "hostNetwork",
        "containerPort",
        "port",
        "targetPort",
        "configMap",
        "projected",
        "sources",
        "downwardAPI",
        "items",
        "labels",
        "stringData",
        "data",
        "max",
        "min",
        "default",
        "metrics",
        "behavior",
        "scaleUp",
        "jobTemplate",
        "subjects",
        "kind",
        "emptyDir",
        "sizeLimit",
        "clusterIP",
        "externalIPs",
        "serviceAccount",
        "egress",
        "volumeClaimTemplates",
    ]);
    let inner = part(depth - 1);
    prop_oneof![
        1 => leaf,
        4 => proptest::collection::btree_map(names, inner.clone(), 0..6)
            .prop_map(|map| map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()),
        2 => proptest::collection::vec(inner, 0..3).prop_map(Value::from),
    ]
    .boxed()
}

proptest! {
    #[test]
    fn defaulting_twice_changes_nothing(
        kind in proptest::sample::select(crate::kind::KINDS.iter().map(|info| info.kind).collect::<Vec<_>>()),
        metadata in part(1),
        spec in part(5),
        more in part(2),
    ) {
        let mut object = json!({"metadata": metadata, "spec": spec});
        if let Value::Object(more) = more {
            object.as_object_mut().expect("it is one").extend(more.into_iter().filter(|(name, _)| name != "spec"));
        }
        default_object(kind, &mut object);
        let once = object.clone();
        default_object(kind, &mut object);
        prop_assert_eq!(object, once);
    }
}
