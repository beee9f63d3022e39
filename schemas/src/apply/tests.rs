use proptest::prelude::*;
use serde_json::json;

use super::*;

const AT: Timestamp = Timestamp::UNIX_EPOCH;

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("it is in range")
}

fn forced(live: Option<&Value>, declared: &Value, kind: Kind) -> Applied {
    apply(live, declared, "towline", kind, AT, true).unwrap_or_else(|error| panic!("{error}: {declared}"))
}

fn deployment(more: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]},
            },
        },
    });
    merge_into(&mut object, &more);
    object
}

fn merge_into(object: &mut Value, more: &Value) {
    json_patch::merge(object, more);
}

fn container(more: Value) -> Value {
    let mut container = json!({"name": "web", "image": "web:1"});
    merge_into(&mut container, &more);
    deployment(json!({"spec": {"template": {"spec": {"containers": [container]}}}}))
}

#[test]
fn the_declared_fields_are_owned_in_the_documented_form() {
    let declared = container(json!({
        "env": [{"name": "A", "value": "1"}],
        "ports": [{"containerPort": 80}],
        "args": ["x"],
    }));
    let applied = forced(None, &declared, Kind::Deployment);
    assert_eq!(
        applied.object["metadata"]["managedFields"],
        json!([{
            "manager": "towline", "operation": "Apply", "apiVersion": "apps/v1",
            "time": "1970-01-01T00:00:00Z", "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {
                    "f:selector": {},
                    "f:template": {
                        "f:metadata": {"f:labels": {"f:app": {}}},
                        "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {
                            ".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                            "f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}},
                            "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                        }}},
                    },
                },
            },
        }])
    );
    assert_eq!(applied.object["spec"]["replicas"], 1, "the result is defaulted");
}

#[test]
fn applying_twice_changes_nothing_not_even_the_time() {
    let declared =
        container(json!({"resources": {"limits": {"cpu": "0.5"}}, "livenessProbe": {"httpGet": {"port": 80}}}));
    let first = forced(None, &declared, Kind::Deployment);
    let second = apply(
        Some(&first.object),
        &declared,
        "towline",
        Kind::Deployment,
        later(60),
        false,
    )
    .expect("no conflict");
    assert!(!second.changed);
    assert_eq!(second.object, first.object);
}

#[test]
fn what_is_no_longer_declared_goes_with_its_defaults() {
    let before = container(json!({
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "livenessProbe": {"httpGet": {"port": 80}},
        "ports": [{"containerPort": 80}, {"containerPort": 81}],
    }));
    let live = forced(None, &before, Kind::Deployment).object;
    let after = container(json!({"env": [{"name": "B", "value": "2"}], "ports": [{"containerPort": 81}]}));
    let applied = forced(Some(&live), &after, Kind::Deployment);
    assert!(applied.changed);
    let fresh = forced(None, &after, Kind::Deployment).object;
    assert_eq!(applied.object["spec"], fresh["spec"]);
}

#[test]
fn what_others_wrote_survives() {
    let declared = deployment(json!({"metadata": {"annotations": {"mine": "1"}}}));
    let mut live = forced(None, &declared, Kind::Deployment).object;
    // A controller that leaves no trace in managedFields, and an autoscaler that does.
    live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "4".into();
    live["status"] = json!({"replicas": 7});
    let before = live.clone();
    live["spec"]["replicas"] = 7.into();
    update_managed_fields(
        Some(&before),
        &mut live,
        "autoscaler",
        Some("scale"),
        Kind::Deployment,
        AT,
    );

    let applied = forced(Some(&live), &deployment(json!({})), Kind::Deployment);
    assert_eq!(applied.object["spec"]["replicas"], 7);
    assert_eq!(applied.object["status"], json!({"replicas": 7}));
    assert_eq!(
        applied.object["metadata"]["annotations"],
        json!({"deployment.kubernetes.io/revision": "4"}),
        "only its own annotation went"
    );
}

#[test]
fn a_declared_replica_count_comes_back_to_its_default_when_nobody_else_set_it() {
    let live = forced(None, &deployment(json!({"spec": {"replicas": 3}})), Kind::Deployment).object;
    let applied = forced(Some(&live), &deployment(json!({})), Kind::Deployment);
    assert_eq!(applied.object["spec"]["replicas"], 1);
}

#[test]
fn allocated_fields_of_a_service_survive() {
    let declared = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let mut live = forced(None, &declared, Kind::Service).object;
    live["spec"]["clusterIP"] = "10.0.0.1".into();
    live["spec"]["clusterIPs"] = json!(["10.0.0.1"]);
    live["spec"]["ports"][0]["nodePort"] = 30_001.into();
    assert!(!forced(Some(&live), &declared, Kind::Service).changed);

    let changed = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "name": "http"}, {"port": 81}]}});
    let applied = forced(Some(&live), &changed, Kind::Service).object;
    assert_eq!(applied["spec"]["clusterIP"], "10.0.0.1");
    assert_eq!(applied["spec"]["ports"][0]["nodePort"], 30_001);
    assert_eq!(applied["spec"]["ports"][0]["name"], "http");

    let inner = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let applied = forced(Some(&live), &inner, Kind::Service).object;
    assert_eq!(applied["spec"]["type"], "ClusterIP");
    assert!(applied["spec"]["ports"][0].get("nodePort").is_none());
    assert!(applied["spec"].get("externalTrafficPolicy").is_none());
}

#[test]
fn a_change_of_type_drops_the_defaults_of_the_old_type() {
    let live = forced(None, &deployment(json!({})), Kind::Deployment).object;
    let recreate = deployment(json!({"spec": {"strategy": {"type": "Recreate"}}}));
    let applied = forced(Some(&live), &recreate, Kind::Deployment).object;
    assert_eq!(applied["spec"]["strategy"], json!({"type": "Recreate"}));

    let volume = |volume: Value| deployment(json!({"spec": {"template": {"spec": {"volumes": [volume]}}}}));
    let live = forced(None, &volume(json!({"name": "v"})), Kind::Deployment).object;
    let config = volume(json!({"name": "v", "configMap": {"name": "c"}}));
    let applied = forced(Some(&live), &config, Kind::Deployment).object;
    assert!(
        applied["spec"]["template"]["spec"]["volumes"][0]
            .get("emptyDir")
            .is_none()
    );
}

#[test]
fn a_changed_field_of_another_manager_is_a_conflict() {
    let live = forced(None, &deployment(json!({"spec": {"replicas": 3}})), Kind::Deployment).object;
    let other = json!({"metadata": {"name": "web"}, "spec": {"replicas": 5, "template": {"spec": {"containers": [
        {"name": "web", "image": "web:2"},
    ]}}}});
    let error = apply(Some(&live), &other, "kubectl", Kind::Deployment, AT, false).expect_err("it conflicts");
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflict with \"towline\": .spec.replicas, \
         conflict with \"towline\": .spec.template.spec.containers[name=\"web\"].image"
    );
    let taken = apply(Some(&live), &other, "kubectl", Kind::Deployment, AT, true).expect("it is forced");
    assert!(!owned_fields(&taken.object, "towline").has_field(&["spec", "replicas"]));
    assert!(owned_fields(&taken.object, "kubectl").has_field(&["spec", "replicas"]));

    let same = json!({"metadata": {"name": "web"}, "spec": {"replicas": 3}});
    let shared = apply(Some(&live), &same, "kubectl", Kind::Deployment, AT, false).expect("the value is the same");
    let released = forced(Some(&shared.object), &deployment(json!({})), Kind::Deployment);
    assert_eq!(released.object["spec"]["replicas"], 3, "the other still wants it");
}

#[test]
fn items_of_others_stay_in_a_list_and_the_declared_order_holds() {
    let env = |names: &[&str]| {
        let env: Vec<Value> = names.iter().map(|name| json!({"name": name, "value": "1"})).collect();
        container(json!({"env": env}))
    };
    let names = |object: &Value| -> Vec<String> {
        let env = object["spec"]["template"]["spec"]["containers"][0]["env"].as_array();
        env.into_iter()
            .flatten()
            .filter_map(|item| item["name"].as_str())
            .map(str::to_owned)
            .collect()
    };
    let live = forced(None, &env(&["A", "B"]), Kind::Deployment).object;
    let other = env(&["X"]);
    let both = apply(Some(&live), &other, "other", Kind::Deployment, AT, true)
        .expect("it is forced")
        .object;
    let applied = forced(Some(&both), &env(&["C", "B", "A"]), Kind::Deployment).object;
    let found = names(&applied);
    let mine: Vec<&str> = found.iter().map(String::as_str).filter(|name| *name != "X").collect();
    assert_eq!(mine, ["C", "B", "A"]);
    assert!(found.contains(&"X".to_owned()));
    let fewer = forced(Some(&applied), &env(&[]), Kind::Deployment).object;
    assert_eq!(names(&fewer), ["X"]);
}

#[test]
fn a_secret_is_owned_by_its_data() {
    let declared = |keys: Value| json!({"metadata": {"name": "s"}, "stringData": keys});
    let live = forced(None, &declared(json!({"a": "1", "b": "2"})), Kind::Secret).object;
    let applied = forced(Some(&live), &declared(json!({"a": "1"})), Kind::Secret).object;
    assert_eq!(applied["data"], json!({"a": "MQ=="}));
}

#[test]
fn items_without_a_key_or_with_the_same_are_refused() {
    for (ports, message) in [
        (
            json!([{"name": "http"}]),
            ".spec.ports: an item leaves the key \"port, protocol\" out, by which items of this list are told apart",
        ),
        (
            json!([{"port": 80}, {"port": 80, "protocol": "TCP"}]),
            ".spec.ports: two items have the same key {\"port\":80,\"protocol\":\"TCP\"}",
        ),
    ] {
        let declared = json!({"metadata": {"name": "s"}, "spec": {"ports": ports}});
        let error = apply(None, &declared, "towline", Kind::Service, AT, true).expect_err("it is bad");
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn an_update_takes_what_it_changes() {
    let live = forced(None, &deployment(json!({"spec": {"replicas": 3}})), Kind::Deployment).object;
    let mut edited = live.clone();
    edited["spec"]["replicas"] = 5.into();
    edited["metadata"]["labels"] = json!({"tier": "x"});
    edited["metadata"]["resourceVersion"] = "9".into();
    // A client cannot rewrite the list.
    edited["metadata"]["managedFields"] = json!([]);
    update_managed_fields(
        Some(&live),
        &mut edited,
        "kubectl-edit",
        None,
        Kind::Deployment,
        later(5),
    );
    let towline = owned_fields(&edited, "towline");
    assert!(!towline.has_field(&["spec", "replicas"]));
    assert!(!towline.has_field(&["metadata", "labels"]), "the label is gone");
    assert!(towline.has_field(&["spec", "selector"]));
    assert_eq!(
        edited["metadata"]["managedFields"][1],
        json!({
            "manager": "kubectl-edit", "operation": "Update", "apiVersion": "apps/v1",
            "time": "1970-01-01T00:00:05Z", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": {"f:tier": {}}}, "f:spec": {"f:replicas": {}}},
        })
    );
    let mut same = edited.clone();
    update_managed_fields(
        Some(&edited),
        &mut same,
        "kubectl-edit",
        None,
        Kind::Deployment,
        later(9),
    );
    assert_eq!(same, edited, "an update that changes nothing leaves no trace");
}

#[test]
fn owners_of_the_status_outlast_a_write_without_it() {
    let live = forced(None, &deployment(json!({})), Kind::Deployment).object;
    let mut reported = live.clone();
    reported["status"] = json!({"replicas": 1});
    update_managed_fields(
        Some(&live),
        &mut reported,
        "controller",
        Some("status"),
        Kind::Deployment,
        AT,
    );
    let mut edited = reported.clone();
    edited["spec"]["replicas"] = 4.into();
    edited.as_object_mut().expect("it is one").remove("status");
    update_managed_fields(Some(&reported), &mut edited, "kubectl", None, Kind::Deployment, AT);
    let owners = edited["metadata"]["managedFields"].as_array().expect("there are some");
    let status = owners.iter().find(|owner| owner["subresource"] == "status");
    assert_eq!(
        status.map(|owner| &owner["fieldsV1"]["f:status"]["f:replicas"]),
        Some(&json!({}))
    );
}

#[test]
fn field_sets_read_what_they_write() {
    let value = json!({"f:a": {".": {}, "k:{\"b\":1,\"a\":\"x\"}": {".": {}, "f:c": {}}}, "f:d": {"v:\"e\"": {}}});
    let set = FieldSet::from_value(&value);
    assert_eq!(FieldSet::from_value(&set.to_value()), set);
    assert_eq!(
        set.paths(),
        [".a", ".a[a=\"x\",b=1]", ".a[a=\"x\",b=1].c", ".d[=\"e\"]"]
    );
}

/// Deployments that differ in what they declare.
fn some_deployment() -> impl Strategy<Value = Value> {
    let container = (
        "[a-c]",
        proptest::option::of(proptest::collection::btree_map("[A-D]", "[0-2]", 0..4)),
        proptest::option::of(proptest::collection::btree_set(80i64..84, 0..3)),
        proptest::option::of(prop_oneof![Just("0.5"), Just("500m"), Just("1")]),
        any::<bool>(),
    )
        .prop_map(|(name, env, ports, cpu, probe)| {
            let mut container = json!({"name": name, "image": "i:1"});
            if let Some(env) = env {
                container["env"] = env
                    .iter()
                    .map(|(name, value)| json!({"name": name, "value": value}))
                    .collect();
            }
            if let Some(ports) = ports {
                container["ports"] = ports.iter().map(|port| json!({"containerPort": port})).collect();
            }
            if let Some(cpu) = cpu {
                container["resources"] = json!({"limits": {"cpu": cpu}});
            }
            if probe {
                container["readinessProbe"] = json!({"tcpSocket": {"port": 80}});
            }
            container
        });
    (
        proptest::option::of(0i64..4),
        proptest::collection::btree_map("[a-c]", "[x-z]", 0..3),
        proptest::collection::vec(container, 0..3),
        proptest::option::of(prop_oneof![Just("Recreate"), Just("RollingUpdate")]),
        proptest::collection::btree_set("[a-c]", 0..3),
    )
        .prop_map(|(replicas, labels, mut containers, strategy, volumes)| {
            containers.sort_by_key(|container| container["name"].to_string());
            containers.dedup_by_key(|container| container["name"].to_string());
            let volumes: Vec<Value> = volumes.iter().map(|name| json!({"name": name})).collect();
            let mut object = json!({
                "metadata": {"name": "web", "namespace": "shop", "annotations": labels},
                "spec": {
                    "selector": {"matchLabels": {"app": "web"}},
                    "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers, "volumes": volumes}},
                },
            });
            if let Some(replicas) = replicas {
                object["spec"]["replicas"] = replicas.into();
            }
            if let Some(strategy) = strategy {
                object["spec"]["strategy"] = json!({"type": strategy});
            }
            object
        })
}

/// An object as it is without the traces of its history.
fn content(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.remove("managedFields");
        meta.retain(|_, value| *value != json!({}));
    }
    for field in ["containers", "volumes"] {
        if let Some(Value::Array(items)) = object["spec"]["template"]["spec"].get_mut(field) {
            for item in items.iter_mut().filter_map(Value::as_object_mut) {
                item.retain(|_, value| *value != json!([]));
            }
            if items.is_empty() {
                object["spec"]["template"]["spec"]
                    .as_object_mut()
                    .expect("it is one")
                    .remove(field);
            }
        }
    }
    object
}

proptest! {
    #[test]
    fn applying_any_declaration_twice_changes_nothing(first in some_deployment(), second in some_deployment()) {
        let live = forced(None, &first, Kind::Deployment).object;
        let applied = forced(Some(&live), &second, Kind::Deployment);
        let again = apply(Some(&applied.object), &second, "towline", Kind::Deployment, later(9), false);
        prop_assert_eq!(again, Ok(Applied { object: applied.object, changed: false }));
    }

    #[test]
    fn the_only_manager_gets_exactly_what_it_declares(first in some_deployment(), second in some_deployment()) {
        let live = forced(None, &first, Kind::Deployment).object;
        let applied = forced(Some(&live), &second, Kind::Deployment).object;
        let fresh = forced(None, &second, Kind::Deployment).object;
        prop_assert_eq!(content(&applied), content(&fresh));
    }

    #[test]
    fn fields_of_another_manager_survive_any_apply(first in some_deployment(), second in some_deployment(), replicas in 5i64..9) {
        let live = forced(None, &first, Kind::Deployment).object;
        let mut scaled = live.clone();
        scaled["spec"]["replicas"] = replicas.into();
        scaled["metadata"]["annotations"]["other"] = "x".into();
        update_managed_fields(Some(&live), &mut scaled, "other", None, Kind::Deployment, AT);
        let mut second = second;
        second["spec"].as_object_mut().expect("it is one").remove("replicas");
        let applied = apply(Some(&scaled), &second, "towline", Kind::Deployment, AT, false).expect("no conflict").object;
        prop_assert_eq!(&applied["spec"]["replicas"], &json!(replicas));
        prop_assert_eq!(&applied["metadata"]["annotations"]["other"], "x");
    }
}

#[test]
fn a_manifest_that_drops_its_last_label_keeps_the_identity() {
    let declared = |meta: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"a": "1"}});
    let at = Timestamp::UNIX_EPOCH;
    let labelled = declared(json!({"name": "m", "namespace": "a", "labels": {"x": "z"}}));
    let mut live = apply(None, &labelled, "towline", Kind::ConfigMap, at, true)
        .expect("new")
        .object;
    live["metadata"]["uid"] = "u".into();
    let bare = declared(json!({"name": "m", "namespace": "a"}));
    let after = apply(Some(&live), &bare, "towline", Kind::ConfigMap, at, true)
        .expect("applied")
        .object;
    let meta = &after["metadata"];
    assert_eq!((&meta["name"], &meta["uid"]), (&json!("m"), &json!("u")), "{after:#}");
    assert!(meta["labels"].get("x").is_none(), "{after:#}");
}
