use schemas::{Key, Kind, Object};
use serde_json::{Value, json};

use super::*;
use crate::image;

fn pod(spec: Value) -> Pod {
    let object = Object::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web-1", "namespace": "shop", "uid": "1f2e3d4c-0000-4000-8000-000000000000",
            "labels": {"app": "web"}, "annotations": {"note": "a \"quoted\" one"},
        },
        "spec": spec,
    }));
    Pod::read(object.expect("it is an object")).expect("it is a pod")
}

fn objects() -> Objects {
    let all = [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "shop"}, "data": {"a": "1", "b.c": "2"}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "shop"}, "data": {"password": "aHVudGVyMg=="}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "my-db", "namespace": "shop"}, "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "sql", "port": 5432}]}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull", "namespace": "shop"}, "data": {
            // {"auths":{"localhost:5000":{"auth":"bWU6c2VjcmV0"},"https://localhost:5000/team":{"username":"team","password":"x"}}}
            ".dockerconfigjson": "eyJhdXRocyI6eyJsb2NhbGhvc3Q6NTAwMCI6eyJhdXRoIjoiYldVNmMyVmpjbVYwIn0sImh0dHBzOi8vbG9jYWxob3N0OjUwMDAvdGVhbSI6eyJ1c2VybmFtZSI6InRlYW0iLCJwYXNzd29yZCI6IngifX19"
        }}),
    ];
    let read = |value| Object::from_value(value).expect("it is an object");
    all.into_iter()
        .map(read)
        .map(|object: Object| (object.key(), object))
        .collect()
}

fn place() -> Place {
    Place {
        node_name: "node-1".to_owned(),
        host_ip: "192.0.2.2".to_owned(),
        pod_ip: "10.88.0.5".to_owned(),
        allocatable_cpu_milli: 2000,
        allocatable_memory: 4 << 30,
        least_oom_score: -1000,
    }
}

fn translate(pod: &Pod, objects: &Objects) -> Result<CreateRequest, ConfigError> {
    translate_as(pod, objects, "")
}

fn translate_as(pod: &Pod, objects: &Objects, image_user: &str) -> Result<CreateRequest, ConfigError> {
    let owner = Owner {
        cluster: "cluster-1".into(),
        node_uid: "node-uid".into(),
    };
    let address = Ipv4Addr::new(10, 88, 0, 5);
    let inputs = Inputs {
        pod,
        attempt: 2,
        owner: &owner,
        objects,
        place: &place(),
        network: Network::Bridge {
            network: "pods".to_owned(),
            address,
        },
        address: Some(address),
        files: vec![Bind {
            source: "/state/hosts".to_owned(),
            target: "/etc/hosts".to_owned(),
            read_only: false,
            propagation: None,
        }],
        volumes: &BTreeMap::from([("data".to_owned(), Location::Path("/state/data".to_owned()))]),
        image_user,
        infra: None,
    };
    container(&inputs, &pod.spec.containers[0])
}

fn one(container: Value) -> Pod {
    let mut container = container;
    container["name"] = "app".into();
    container["image"] = "app:1".into();
    pod(json!({"containers": [container]}))
}

#[test]
fn the_environment_resolves_in_order() {
    let cases: &[(Value, &[&str])] = &[
        (
            json!([{"name": "A", "value": "x"}, {"name": "B", "value": "$(A)-$(C)-$$(A)"}, {"name": "C", "value": "late"}]),
            &["A=x", "B=x-$(C)-$(A)", "C=late"],
        ),
        (json!([{"name": "A"}]), &["A="]),
        (
            json!([{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}]),
            &["A=12"],
        ),
        (
            json!([{"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}}]),
            &["P=hunter2"],
        ),
        (
            json!([{"name": "P", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "x", "optional": true}}}, {"name": "Q", "value": "q"}]),
            &["Q=q"],
        ),
        (
            json!([{"name": "P", "valueFrom": {"secretKeyRef": {"name": "none", "key": "x", "optional": true}}}]),
            &[],
        ),
        (
            json!([{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}, {"name": "I", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]),
            &["N=node-1", "I=10.88.0.5"],
        ),
        (
            json!([{"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}}, {"name": "M", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations"}}}]),
            &["L=web", "M=note=\"a \\\"quoted\\\" one\""],
        ),
        (
            json!([{"name": "R", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}, {"name": "S", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}}]),
            &["R=2", "S=4096"],
        ),
    ];
    for (env, expected) in cases {
        let mut spec = one(json!({"env": env})).object.to_value()["spec"].clone();
        spec["enableServiceLinks"] = false.into();
        let found = translate(&pod(spec), &objects()).expect("it resolves");
        assert_eq!(found.env, *expected, "{env}");
    }
    let all = one(
        json!({"envFrom": [{"configMapRef": {"name": "c"}, "prefix": "X_"}, {"secretRef": {"name": "none", "optional": true}}], "env": [{"name": "X_a", "value": "own"}]}),
    );
    let found = translate(&all, &objects()).expect("it resolves").env;
    assert_eq!(
        found,
        [
            "MY_DB_SERVICE_HOST=10.96.0.7",
            "MY_DB_SERVICE_PORT=5432",
            "MY_DB_SERVICE_PORT_SQL=5432",
            "X_a=own",
            "X_b.c=2"
        ]
    );
}

#[test]
fn what_is_missing_is_named() {
    let cases = [
        (
            json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "a"}}}]}),
            "ConfigMap \"shop\"/\"none\" not found",
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "user"}}}]}),
            "couldn't find key user in Secret shop/s",
        ),
        (
            json!({"envFrom": [{"secretRef": {"name": "none"}}]}),
            "Secret \"shop\"/\"none\" not found",
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.nope"}}}]}),
            "metadata.nope",
        ),
        (
            json!({"volumeMounts": [{"name": "none", "mountPath": "/x"}]}),
            "names no volume",
        ),
        (
            json!({"volumeMounts": [{"name": "data", "mountPath": "/x", "subPath": "../etc"}]}),
            "stay inside",
        ),
        (json!({"securityContext": {"runAsNonRoot": true}}), "runAsNonRoot"),
        (
            json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 0}}),
            "runAsUser is 0",
        ),
    ];
    for (container, expected) in cases {
        let error = translate(&one(container.clone()), &objects()).expect_err("something is missing");
        assert!(error.to_string().contains(expected), "{container}: {error}");
    }
}

#[test]
fn a_whole_container() {
    let pod = one(json!({
        "command": ["/bin/run", "$(A)"], "args": ["--name=$(B)", "$(A)"],
        "env": [{"name": "A", "value": "1"}],
        "workingDir": "/srv", "tty": true,
        "ports": [{"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}, {"containerPort": 53, "protocol": "UDP"}],
        "resources": {"requests": {"cpu": "250m"}, "limits": {"cpu": "1", "memory": "64Mi"}},
        "securityContext": {
            "runAsUser": 1000, "runAsGroup": 2000, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}, "seccompProfile": {"type": "Unconfined"},
        },
        "volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "a/b", "readOnly": true}, {"name": "data", "mountPath": "/etc/hosts"}],
    }));
    let found = translate(&pod, &objects()).expect("it translates");
    assert_eq!(found.name, "tl.shop.web-1.app.1f2e3d4c0000.2");
    assert_eq!(
        found.entrypoint.as_deref(),
        Some(&["/bin/run".to_owned(), "1".to_owned()][..])
    );
    assert_eq!(
        found.command.as_deref(),
        Some(&["--name=$(B)".to_owned(), "1".to_owned()][..])
    );
    assert_eq!(found.hostname.as_deref(), Some("web-1"));
    assert_eq!(found.user.as_deref(), Some("1000:2000"));
    assert_eq!(
        (found.cpu_shares, found.cpu_quota, found.memory),
        (Some(256), Some(100_000), Some(64 << 20))
    );
    assert_eq!(found.ports.len(), 1, "only ports of the host are published");
    assert_eq!(
        (found.ports[0].host_port, found.ports[0].protocol.as_str()),
        (8080, "tcp")
    );
    assert!(found.read_only_root && found.no_new_privileges && found.seccomp_unconfined && found.tty);
    let binds: Vec<_> = found
        .binds
        .iter()
        .map(|bind| (bind.source.as_str(), bind.target.as_str(), bind.read_only))
        .collect();
    assert_eq!(
        binds,
        [("/state/data/a/b", "/data", true), ("/state/data", "/etc/hosts", false)],
        "its own hosts file wins"
    );
    let labels = &found.labels;
    assert_eq!(labels["dev.towline.cluster"], "cluster-1");
    assert_eq!(labels["dev.towline.role"], "single");
    assert_eq!(labels["dev.towline.attempt"], "2");
    assert_eq!(labels["dev.towline.address"], "10.88.0.5");
    assert_eq!(labels["dev.towline.spec-hash"].len(), 16);
    assert!(!format!("{found:?}").contains("A=1"), "the environment is not printed");
}

#[test]
fn users_and_groups() {
    let cases = [
        (json!({}), "", None),
        (json!({"runAsUser": 5}), "", Some("5")),
        (json!({"runAsGroup": 7}), "web", Some("web:7")),
        (json!({"runAsGroup": 7}), "", Some("0:7")),
        (json!({"runAsNonRoot": true}), "1000", None),
    ];
    for (security, image_user, expected) in cases {
        let found = translate_as(&one(json!({"securityContext": security})), &objects(), image_user);
        assert_eq!(
            found.expect("it translates").user.as_deref(),
            expected,
            "{security} {image_user}"
        );
    }
}

#[test]
fn the_spec_hash_names_the_stored_spec_of_one_container() {
    let a = one(json!({}));
    let same = pod(json!({"containers": [{"image": "app:1", "name": "app"}], "tolerations": [{"key": "x"}]}));
    let other = one(json!({"args": ["x"]}));
    assert_eq!(a.spec_hash("app"), same.spec_hash("app"));
    assert_ne!(a.spec_hash("app"), other.spec_hash("app"));
}

#[test]
fn pull_secrets_are_chosen_by_registry_and_path() {
    let pod = pod(
        json!({"containers": [{"name": "app", "image": "x"}], "imagePullSecrets": [{"name": "none"}, {"name": "pull"}]}),
    );
    let user =
        |image: &str| image::credentials(&pod, &objects(), image).map(|found| found.username.unwrap_or_default());
    assert_eq!(user("localhost:5000/app:1").as_deref(), Some("me"));
    assert_eq!(user("localhost:5000/team/app:1").as_deref(), Some("team"));
    assert_eq!(user("busybox:1"), None);
    let _ = Key::namespaced(Kind::Secret, "shop", "pull");
}
