use k8s_openapi::api::core::v1::{Taint, Toleration};
use proptest::prelude::*;
use schemas::{Key, Kind};
use serde_json::{Value, json};

use super::*;
use crate::{plan::Step, simulation::start};
use cluster::Cluster;

fn node(name: &str, cpu: &str, more: Value) -> Object {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {
            "allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10", "ephemeral-storage": "10Gi"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    for (path, part) in more.as_object().into_iter().flatten() {
        let (parent, field) = path.rsplit_once('/').expect("a path");
        value.pointer_mut(parent).expect("it is there")[field] = part.clone();
    }
    Object::from_value(value).expect("it is valid")
}

fn pod(name: &str, spec: Value) -> Arc<Object> {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a", "uid": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]}, "status": {"phase": "Pending"},
    });
    for (field, part) in spec.as_object().into_iter().flatten() {
        value["spec"][field] = part.clone();
    }
    Arc::new(Object::from_value(value).expect("it is valid"))
}

fn asks(name: &str, requests: Value) -> Arc<Object> {
    pod(
        name,
        json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}]}),
    )
}

fn world(nodes: &[Object], pods: Vec<Arc<Object>>) -> World {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.put_node(node.name(), Some(node));
    }
    World {
        nodes: cluster.nodes(),
        pods,
        no_node_yet: false,
    }
}

/// Pod → node.
fn binds(plan: &Plan) -> Vec<(String, String)> {
    let writes = plan.steps.iter().flat_map(|step| match step {
        Step::Write { writes, .. } => writes.as_slice(),
        _ => &[],
    });
    let mut binds: Vec<_> = writes
        .filter_map(|write| match &write.op {
            Op::Bind { key, node, .. } => Some((key.name.to_string(), node.to_string())),
            _ => None,
        })
        .collect();
    binds.sort();
    binds
}

fn why(plan: &Plan) -> String {
    plan.waiting
        .first()
        .map(|(_, reason)| reason.message.clone())
        .unwrap_or_default()
}

#[test]
fn what_does_not_fit_says_why_by_reason_and_count() {
    let taint = json!([{"key": "dedicated", "value": "db", "effect": "NoSchedule"}]);
    let nodes = [
        node("a", "1", json!({})),
        node("b", "1", json!({})),
        node("c", "8", json!({"/spec/unschedulable": true})),
        node("d", "8", json!({"/spec/taints": taint})),
        node("e", "8", json!({"/status/conditions": []})),
    ];
    let table = [
        (
            asks("p", json!({"cpu": "2"})),
            "0/5 nodes are available: 2 Insufficient cpu, 1 node(s) had untolerated taint {dedicated: db}, \
             1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, 1 node(s) were unschedulable.",
        ),
        (
            pod("p", json!({"nodeSelector": {"disk": "ssd"}})),
            "0/5 nodes are available: 2 node(s) didn't match Pod's node affinity/selector, \
             1 node(s) had untolerated taint {dedicated: db}, \
             1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, 1 node(s) were unschedulable.",
        ),
    ];
    for (pod, expected) in table {
        let plan = plan(&world(&nodes, vec![pod]), start());
        assert_eq!(why(&plan), expected);
        assert!(binds(&plan).is_empty());
        assert!(
            plan.notes
                .iter()
                .any(|note| note.reason == "FailedScheduling" && note.warning)
        );
    }
    assert_eq!(
        why(&plan(&world(&[], vec![pod("p", json!({}))]), start())),
        "no nodes available to schedule pods"
    );
    let warned = |no_node_yet| {
        let world = World {
            no_node_yet,
            ..world(&[], vec![pod("p", json!({}))])
        };
        let plan = plan(&world, start());
        (plan.steps.len(), plan.notes.len())
    };
    assert_eq!(warned(false), (1, 1), "the nodes have gone");
    assert_eq!(
        warned(true),
        (1, 0),
        "the first node is yet to come: the condition is enough"
    );
    let one = [node("a", "1", json!({}))];
    let table = [
        (asks("p", json!({"memory": "9Gi"})), "Insufficient memory"),
        (
            asks("p", json!({"ephemeral-storage": "11Gi"})),
            "Insufficient ephemeral-storage",
        ),
        (
            asks("p", json!({"example.com/gpu": "1"})),
            "Insufficient example.com/gpu",
        ),
    ];
    for (pod, expected) in table {
        assert_eq!(
            why(&plan(&world(&one, vec![pod]), start())),
            format!("0/1 nodes are available: 1 {expected}.")
        );
    }
}

#[test]
fn a_plan_that_said_why_is_empty_the_next_time() {
    let nodes = [node("a", "1", json!({}))];
    let first = plan(&world(&nodes, vec![asks("p", json!({"cpu": "2"}))]), start());
    let Some(Step::Write { writes, .. }) = first.steps.first() else {
        panic!("it writes")
    };
    let Op::Status { status, .. } = &writes[0].op else {
        panic!("a status")
    };
    let mut said = Object::clone(&asks("p", json!({"cpu": "2"})));
    said.status = Some(status.clone());
    let second = plan(&world(&nodes, vec![Arc::new(said)]), start());
    assert!(second.is_empty() && second.notes.is_empty());
}

#[test]
fn pods_spread_and_fill_up() {
    let nodes = [
        node("a", "2", json!({})),
        node("b", "2", json!({})),
        node("c", "2", json!({})),
    ];
    let pods: Vec<_> = (0..7).map(|at| asks(&format!("p{at}"), json!({"cpu": "1"}))).collect();
    let plan = plan(&world(&nodes, pods), start());
    let binds = binds(&plan);
    for name in ["a", "b", "c"] {
        assert_eq!(binds.iter().filter(|(_, node)| node == name).count(), 2, "{binds:?}");
    }
    assert_eq!(why(&plan), "0/3 nodes are available: 3 Insufficient cpu.");
}

#[test]
fn host_ports_clash_by_address_and_protocol() {
    let nodes = [node("a", "2", json!({}))];
    let on = |name: &str, port: Value| {
        pod(
            name,
            json!({"containers": [{"name": "c", "image": "i", "ports": [port]}]}),
        )
    };
    let one = on("one", json!({"containerPort": 80, "hostPort": 80}));
    let plan = |second| plan(&world(&nodes, vec![one.clone(), second]), start());
    let same = plan(on(
        "two",
        json!({"containerPort": 81, "hostPort": 80, "hostIP": "127.0.0.1"}),
    ));
    assert_eq!(
        why(&same),
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
    );
    assert_eq!(
        binds(&plan(on(
            "two",
            json!({"containerPort": 80, "hostPort": 80, "protocol": "UDP"})
        )))
        .len(),
        2
    );
    assert_eq!(
        binds(&plan(on("two", json!({"containerPort": 80, "hostPort": 81})))).len(),
        2
    );
}

#[test]
fn the_effective_request_is_that_of_the_design() {
    let spec = |containers: Value, init: Value| -> PodSpec {
        let with = |list: Value| -> Value {
            let list = list.as_array().cloned().unwrap_or_default();
            let each = list.into_iter().map(|item| {
                let mut container = json!({"name": "c", "resources": {"requests": {"cpu": item["cpu"]}}});
                if item["side"] == true {
                    container["restartPolicy"] = "Always".into();
                }
                container
            });
            each.collect()
        };
        serde_json::from_value(json!({"containers": with(containers), "initContainers": with(init)}))
            .expect("it is valid")
    };
    let table = [
        (json!([{"cpu": "1"}, {"cpu": "500m"}]), json!([]), 1500),
        (json!([{"cpu": "1"}]), json!([{"cpu": "3"}, {"cpu": "2"}]), 3000),
        (json!([{"cpu": "1"}]), json!([{"cpu": "1", "side": true}]), 2000),
        (
            json!([{"cpu": "1"}]),
            json!([{"cpu": "1", "side": true}, {"cpu": "3"}]),
            4000,
        ),
        (
            json!([{"cpu": "1"}]),
            json!([{"cpu": "3"}, {"cpu": "1", "side": true}]),
            3000,
        ),
    ];
    for (containers, init, cpu) in table {
        let request = Request::of(&spec(containers.clone(), init.clone()));
        assert_eq!(request.resources.cpu, cpu, "{containers} {init}");
    }
}

#[test]
fn tolerations_match_as_documented() {
    let taint = |value: Option<&str>, effect: &str| Taint {
        key: "k".to_owned(),
        value: value.map(str::to_owned),
        effect: effect.to_owned(),
        time_added: None,
    };
    let toleration = |value: Value| -> Toleration { serde_json::from_value(value).expect("it is valid") };
    let table = [
        (
            json!({"key": "k", "operator": "Exists"}),
            taint(Some("v"), "NoSchedule"),
            true,
        ),
        (json!({"operator": "Exists"}), taint(Some("v"), "NoExecute"), true),
        (json!({"key": "k", "value": "v"}), taint(Some("v"), "NoSchedule"), true),
        (json!({"key": "k", "value": "w"}), taint(Some("v"), "NoSchedule"), false),
        (
            json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}),
            taint(None, "NoSchedule"),
            false,
        ),
        (
            json!({"key": "other", "operator": "Exists"}),
            taint(None, "NoSchedule"),
            false,
        ),
    ];
    for (own, taint, expected) in table {
        assert_eq!(filter::matches(&toleration(own.clone()), &taint), expected, "{own}");
    }
}

#[test]
fn the_copy_follows_pods_through_their_lives() {
    let mut cluster = Cluster::default();
    let key = Key::namespaced(Kind::Pod, "a", "p");
    let waiting = asks("p", json!({"cpu": "1"}));
    let uid = waiting.uid();
    cluster.put_node("n", Some(&node("n", "2", json!({}))));
    assert!(!cluster.put_pod(&key, &uid, Some(&waiting)));
    assert_eq!(cluster.pending().len(), 1);
    let mut bound = Object::clone(&waiting);
    bound.node = Some("n".into());
    cluster.put_pod(&key, &uid, Some(&Arc::new(bound.clone())));
    assert!(cluster.pending().is_empty());
    assert_eq!(cluster.nodes()[0].1.resources.cpu, 1000);
    bound.status = Some(json!({"phase": "Succeeded"}).into());
    assert!(
        cluster.put_pod(&key, &uid, Some(&Arc::new(bound))),
        "it gives its room back"
    );
    assert_eq!(cluster.nodes()[0].1, Used::default());
    assert!(!cluster.put_pod(&key, &uid, None));
}

#[test]
fn many_nodes_are_decided_quickly() {
    let nodes: Vec<_> = (0..5_000).map(|at| node(&format!("n{at}"), "4", json!({}))).collect();
    let pods: Vec<_> = (0..5_000)
        .map(|at| asks(&format!("p{at}"), json!({"cpu": "1"})))
        .collect();
    let world = world(&nodes, pods);
    let began = std::time::Instant::now();
    let plan = plan(&world, start());
    let took = began.elapsed();
    assert_eq!(binds(&plan).len(), 5_000);
    assert!(
        took.as_secs() < 5,
        "5,000 pods on 5,000 nodes took {took:?} in a debug build"
    );
}

proptest! {
    /// No node is ever given more than it has, and what is left over fits nowhere.
    #[test]
    fn nothing_is_overcommitted(cpus in prop::collection::vec(1i64..9, 1..8), asked in prop::collection::vec(1i64..5, 1..60)) {
        let nodes: Vec<_> = cpus.iter().enumerate().map(|(at, cpu)| node(&format!("n{at}"), &cpu.to_string(), json!({}))).collect();
        let pods: Vec<_> = asked.iter().enumerate().map(|(at, cpu)| asks(&format!("p{at:02}"), json!({"cpu": cpu.to_string()}))).collect();
        let plan = plan(&world(&nodes, pods), start());
        let mut left = cpus.clone();
        let mut placed = vec![false; asked.len()];
        for (pod, node) in binds(&plan) {
            let pod: usize = pod[1..].parse().expect("a number");
            let node: usize = node[1..].parse().expect("a number");
            left[node] -= asked[pod];
            placed[pod] = true;
        }
        prop_assert!(left.iter().all(|left| *left >= 0), "{left:?}");
        for (at, asked) in asked.iter().enumerate().filter(|(at, _)| !placed[*at]) {
            let full = binds(&plan).iter().fold(vec![0; cpus.len()], |mut count, (_, node)| {
                count[node[1..].parse::<usize>().expect("a number")] += 1;
                count
            });
            prop_assert!(left.iter().zip(full).all(|(left, count)| left < asked || count == 10), "pod {at}");
        }
    }
}
