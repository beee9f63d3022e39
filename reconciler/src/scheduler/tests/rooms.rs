//! Nodes and the room on them: what nodes say, requests, ports, volumes, and the words for it.

use k8s_openapi::api::core::v1::{NodeSelectorTerm, PodSpec, Taint, Toleration};

use super::*;
use crate::scheduler::{
    filter,
    node::{Facts, Used, image_name},
    resources::{CPU, MEMORY, Request},
    score,
};

fn edited(mut node: Value, path: &str, part: Value) -> Value {
    let (parent, field) = path.rsplit_once('/').expect("a path");
    node.pointer_mut(parent).expect("it is there")[field] = part;
    node
}

const NOBODY: &str = "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
const NOT_HELPFUL: &str = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";

#[test]
fn what_does_not_fit_says_why_by_reason_and_count() {
    let taint = json!([{"key": "dedicated", "value": "db", "effect": "NoSchedule"}]);
    let nodes = || {
        [
            node("a", "1", ""),
            node("b", "1", ""),
            edited(node("c", "8", ""), "/spec/unschedulable", true.into()),
            edited(node("d", "8", ""), "/spec/taints", taint.clone()),
            edited(node("e", "8", ""), "/status/conditions", json!([])),
        ]
    };
    let table = [
        (
            asks("p", json!({"cpu": "2"})),
            "0/5 nodes are available: 1 node(s) had untolerated taint {dedicated: db}, \
             1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, 1 node(s) were unschedulable, \
             2 Insufficient cpu. preemption: 0/5 nodes are available: 5 Preemption is not helpful for scheduling.",
        ),
        (
            pod("p", json!({}), json!({"nodeSelector": {"disk": "ssd"}})),
            "0/5 nodes are available: 1 node(s) had untolerated taint {dedicated: db}, \
             1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, 1 node(s) were unschedulable, \
             2 node(s) didn't match Pod's node affinity/selector. \
             preemption: 0/5 nodes are available: 5 Preemption is not helpful for scheduling.",
        ),
    ];
    for (pod, expected) in table {
        let mut place = Place::with(nodes());
        place.put(pod);
        let plan = place.run();
        assert_eq!(place.why("p"), expected);
        assert_eq!(place.node_of("p"), None);
        assert!(plan.notes.iter().any(|note| note.reason == "FailedScheduling"
            && note.warning
            && note.message == expected
            && note.component == "default-scheduler"));
        place.settle();
        assert!(place.look().is_none(), "nothing happened: nothing is to be decided");
    }
}

#[test]
fn a_node_that_is_too_small_is_so_in_words() {
    let mut gpu = node("a", "1", "");
    gpu["status"]["allocatable"]["example.com/gpu"] = "2".into();
    let table = [
        (json!({"cpu": "2"}), "1 Insufficient cpu", NOT_HELPFUL),
        (json!({"memory": "9Gi"}), "1 Insufficient memory", NOT_HELPFUL),
        (
            json!({"ephemeral-storage": "11Gi"}),
            "1 Insufficient ephemeral-storage",
            NOT_HELPFUL,
        ),
        (
            json!({"example.com/gpu": "3"}),
            "1 Insufficient example.com/gpu",
            NOT_HELPFUL,
        ),
        (
            json!({"example.com/fpga": "1"}),
            "1 Insufficient example.com/fpga",
            NOT_HELPFUL,
        ),
        (
            json!({"example.com/gpu": "2", "cpu": "600m"}),
            "1 Insufficient cpu, 1 Insufficient example.com/gpu",
            NOBODY,
        ),
    ];
    for (requests, expected, help) in table {
        let mut place = Place::with([gpu.clone()]);
        place.put(on("a", asks("there", json!({"cpu": "500m", "example.com/gpu": "1"}))));
        place.put(asks("p", requests));
        place.run();
        assert_eq!(place.why("p"), format!("0/1 nodes are available: {expected}. {help}"));
    }
    let mut place = Place::with([edited(node("a", "1", ""), "/status/allocatable/pods", "1".into())]);
    place.put(on("a", asks("there", json!({}))));
    place.put(asks("p", json!({})));
    place.run();
    assert_eq!(
        place.why("p"),
        format!("0/1 nodes are available: 1 Too many pods. {NOBODY}")
    );
}

#[test]
fn without_nodes_it_says_so_and_warns_once_there_was_one() {
    let warned = |mut place: Place| {
        place.put(asks("p", json!({})));
        let plan = place.run();
        assert_eq!(place.why("p"), "no nodes available to schedule pods");
        plan.notes.len()
    };
    assert_eq!(
        warned(Place::new()),
        0,
        "the first node is yet to come: the condition is enough"
    );
    let mut place = Place::with([node("a", "1", "")]);
    place.remove(Kind::Node, "a");
    assert_eq!(warned(place), 1, "the nodes have gone");
}

#[test]
fn pods_spread_and_fill_up() {
    let mut place = Place::with(["a", "b", "c"].map(|name| node(name, "2", "")));
    for at in 0..7 {
        place.put(asks(&format!("p{at}"), json!({"cpu": "1"})));
    }
    place.run();
    assert_eq!(place.counts().into_values().collect::<Vec<_>>(), [2, 2, 2]);
    let help = "preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod.";
    assert_eq!(
        place.why("p6"),
        format!("0/3 nodes are available: 3 Insufficient cpu. {help}")
    );
}

#[test]
fn host_ports_clash_by_address_and_protocol() {
    let port = |port: i64, protocol: &str, address: &str| {
        json!([{"name": "c", "image": "i", "ports": [
            {"containerPort": port, "hostPort": port, "protocol": protocol, "hostIP": address}]}])
    };
    let table = [
        (port(80, "TCP", ""), port(80, "TCP", ""), false),
        (port(80, "TCP", ""), port(80, "TCP", "127.0.0.1"), false),
        (port(80, "TCP", "0.0.0.0"), port(80, "TCP", "127.0.0.1"), false),
        (port(80, "TCP", "127.0.0.1"), port(80, "TCP", "10.0.0.1"), true),
        (port(80, "TCP", ""), port(80, "UDP", ""), true),
        (port(80, "TCP", ""), port(81, "TCP", ""), true),
    ];
    for (one, two, fit) in table {
        let mut place = Place::with([node("a", "2", "")]);
        place.put(pod("one", json!({}), json!({"containers": one})));
        place.put(pod("two", json!({}), json!({"containers": two})));
        place.run();
        assert_eq!(place.node_of("two").is_some(), fit, "{one} {two}");
        if !fit {
            let expected = "1 node(s) didn't have free ports for the requested pod ports";
            assert_eq!(
                place.why("two"),
                format!("0/1 nodes are available: {expected}. {NOBODY}")
            );
            place.remove(Kind::Pod, "one");
            place.wait(1);
            place.settle();
            assert!(place.node_of("two").is_some(), "the port is free now");
        }
    }
}

#[test]
fn the_effective_request_is_that_of_the_documentation() {
    let spec = |containers: Value, init: Value| -> PodSpec {
        let with = |list: Value| -> Value {
            let each = list.as_array().into_iter().flatten().map(|item| {
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
        assert_eq!(request.resources.basic[CPU], cpu, "{containers} {init}");
    }
    let overhead: PodSpec = serde_json::from_value(json!({
        "containers": [
            {"name": "c", "resources": {"limits": {"memory": "1Gi"}}},
            {"name": "d", "resources": {"requests": {"cpu": "0"}}},
        ],
        "overhead": {"cpu": "250m"},
    }))
    .expect("it is valid");
    let request = Request::of(&overhead);
    assert_eq!(request.resources.basic[CPU], 250);
    assert_eq!(
        request.resources.basic[MEMORY],
        1 << 30,
        "a limit counts where no request stands"
    );
    assert_eq!(
        request.scored,
        [350, (1 << 30) + (200 << 20)],
        "what is left out counts as a little, zero as zero"
    );
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
        (
            json!({"key": "k", "operator": "Equal", "value": "v"}),
            taint(Some("v"), "NoSchedule"),
            true,
        ),
        (json!({"key": "k", "value": "w"}), taint(Some("v"), "NoSchedule"), false),
        (json!({"key": "k"}), taint(None, "NoSchedule"), true),
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
fn taints_keep_pods_away_by_effect() {
    let tainted = |effect: &str| {
        edited(
            node("a", "2", ""),
            "/spec/taints",
            json!([{"key": "k", "value": "v", "effect": effect}]),
        )
    };
    let cordoned = || {
        let node = edited(node("a", "2", ""), "/spec/unschedulable", true.into());
        edited(
            node,
            "/spec/taints",
            json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]),
        )
    };
    let tolerating = |toleration: Value| json!({"tolerations": [toleration]});
    let table = [
        (tainted("NoSchedule"), json!({}), false),
        (tainted("NoExecute"), json!({}), false),
        (tainted("PreferNoSchedule"), json!({}), true),
        (
            tainted("NoSchedule"),
            tolerating(json!({"key": "k", "operator": "Exists"})),
            true,
        ),
        (
            tainted("NoExecute"),
            tolerating(json!({"key": "k", "value": "v", "effect": "NoExecute"})),
            true,
        ),
        (cordoned(), json!({}), false),
        (
            cordoned(),
            tolerating(
                json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}),
            ),
            true,
        ),
    ];
    for (node, spec, fits) in table {
        let mut place = Place::with([node.clone()]);
        place.put(pod("p", json!({}), spec.clone()));
        place.run();
        assert_eq!(place.node_of("p").is_some(), fits, "{node} {spec}");
    }
}

#[test]
fn node_selectors_know_all_operators() {
    let facts = Facts {
        name: "n".into(),
        labels: [("disk", "ssd"), ("cores", "16"), ("odd", "x")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..Facts::default()
    };
    let table = [
        (json!({"key": "disk", "operator": "In", "values": ["hdd", "ssd"]}), true),
        (json!({"key": "disk", "operator": "In", "values": ["hdd"]}), false),
        (json!({"key": "none", "operator": "In", "values": ["x"]}), false),
        (json!({"key": "disk", "operator": "NotIn", "values": ["hdd"]}), true),
        (json!({"key": "disk", "operator": "NotIn", "values": ["ssd"]}), false),
        (json!({"key": "none", "operator": "NotIn", "values": ["x"]}), true),
        (json!({"key": "disk", "operator": "Exists"}), true),
        (json!({"key": "none", "operator": "Exists"}), false),
        (json!({"key": "none", "operator": "DoesNotExist"}), true),
        (json!({"key": "disk", "operator": "DoesNotExist"}), false),
        (json!({"key": "cores", "operator": "Gt", "values": ["8"]}), true),
        (json!({"key": "cores", "operator": "Gt", "values": ["16"]}), false),
        (json!({"key": "cores", "operator": "Lt", "values": ["17"]}), true),
        (json!({"key": "odd", "operator": "Gt", "values": ["1"]}), false),
        (json!({"key": "none", "operator": "Lt", "values": ["1"]}), false),
    ];
    let term = |value: Value| -> NodeSelectorTerm { serde_json::from_value(value).expect("it is valid") };
    for (expression, expected) in table {
        let term = term(json!({"matchExpressions": [expression]}));
        assert_eq!(filter::term_holds(&term, &facts), expected, "{expression}");
    }
    let fields = |operator: &str, name: &str| json!({"matchFields": [{"key": "metadata.name", "operator": operator, "values": [name]}]});
    assert!(filter::term_holds(&term(fields("In", "n")), &facts));
    assert!(!filter::term_holds(&term(fields("NotIn", "n")), &facts));
    assert!(
        !filter::term_holds(&term(json!({})), &facts),
        "an empty term holds nowhere"
    );
}

fn required(terms: Value) -> Value {
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
}

#[test]
fn one_term_of_a_required_affinity_is_enough_and_all_of_its_parts_must_hold() {
    let zone = |values: Value| json!({"key": "topology.kubernetes.io/zone", "operator": "In", "values": values});
    let table = [
        (json!([{"matchExpressions": [zone(json!(["z2"]))]}]), Some("b")),
        (
            json!([{"matchExpressions": [zone(json!(["z9"]))]}, {"matchExpressions": [zone(json!(["z2"]))]}]),
            Some("b"),
        ),
        (
            json!([{"matchExpressions": [zone(json!(["z1", "z2"])), {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["a"]}]}]),
            Some("b"),
        ),
        (json!([{"matchExpressions": [zone(json!(["z9"]))]}]), None),
    ];
    for (terms, expected) in table {
        let mut place = Place::with([node("a", "2", "z1"), node("b", "2", "z2")]);
        place.put(pod("p", json!({}), required(terms.clone())));
        place.run();
        assert_eq!(place.node_of("p").as_deref(), expected, "{terms}");
    }
}

#[test]
fn a_pod_of_one_named_node_is_looked_at_there_alone() {
    let pinned =
        |name: &str| required(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]));
    let mut place = Place::with([node("a", "1", ""), node("b", "1", "")]);
    place.put(on("b", asks("there", json!({"cpu": "1"}))));
    let mut big = pinned("b");
    big["containers"] = json!([{"name": "c", "resources": {"requests": {"cpu": "1"}}}]);
    place.put(pod("p", json!({}), pinned("b")));
    place.put(pod("q", json!({}), big.clone()));
    place.put(pod("r", json!({}), pinned("gone")));
    place.run();
    assert_eq!(place.node_of("p").as_deref(), Some("b"));
    let nodes = "0/2 nodes are available";
    assert_eq!(
        place.why("q"),
        format!(
            "{nodes}: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: {nodes}: \
             1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
        )
    );
    assert!(
        place
            .why("r")
            .starts_with(&format!("{nodes}: 2 node(s) didn't satisfy plugin(s) [NodeAffinity]."))
    );
    place.wait(1);
    place.remove(Kind::Pod, "there");
    place.settle();
    assert_eq!(place.node_of("q").as_deref(), Some("b"));
    place.wait(1);
    place.put(node("gone", "1", ""));
    place.settle();
    assert_eq!(place.node_of("r").as_deref(), Some("gone"));
}

#[test]
fn a_pod_with_gates_is_not_tried_before_they_are_gone() {
    let mut place = Place::with([node("a", "2", "")]);
    place.put(pod(
        "p",
        json!({}),
        json!({"schedulingGates": [{"name": "example.com/quota"}]}),
    ));
    let plan = place.run();
    assert_eq!(
        place.why("p"),
        "Scheduling is blocked due to non-empty scheduling gates"
    );
    let gated = place.get(Kind::Pod, "p");
    assert_eq!(
        pods::condition(&gated, "PodScheduled").expect("it is said")["reason"],
        "SchedulingGated"
    );
    assert!(plan.notes.is_empty());
    place.settle();
    place.edit(Kind::Pod, "p", |pod| pod["spec"]["schedulingGates"] = json!([]));
    place.run();
    assert_eq!(place.node_of("p").as_deref(), Some("a"));
}

#[test]
fn a_pod_of_another_scheduler_is_left_alone() {
    let mut place = Place::with([node("a", "2", "")]);
    place.put(pod("p", json!({}), json!({"schedulerName": "mine"})));
    place.put(pod("q", json!({}), json!({"schedulerName": "default-scheduler"})));
    place.settle();
    assert_eq!((place.node_of("p"), place.node_of("q").as_deref()), (None, Some("a")));
}

#[test]
fn volumes_tie_pods_to_nodes_and_missing_claims_hold_them() {
    let claimed = |name: &str| json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]});
    let mut place = Place::with([node("a", "2", ""), node("b", "2", "")]);
    place.put(pod("p", json!({}), claimed("data")));
    place.run();
    assert_eq!(
        place.why("p"),
        "0/2 nodes are available: persistentvolumeclaim \"data\" not found. \
         preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
    place.settle();
    place.wait(1);
    place.put(json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"},
        "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["b"]}]}]}}},
    }));
    place.put(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "a"},
        "spec": {"volumeName": "v"},
    }));
    place.settle();
    assert_eq!(place.node_of("p").as_deref(), Some("b"));
    place.edit(Kind::Node, "b", |node| node["metadata"]["labels"] = json!({}));
    place.put(pod("q", json!({}), claimed("data")));
    place.run();
    assert!(
        place
            .why("q")
            .starts_with("0/2 nodes are available: 2 node(s) had volume node affinity conflict."),
        "{}",
        place.why("q")
    );
}

#[test]
fn pods_of_one_unbound_claim_end_on_one_node() {
    let claimed = |cpu: &str| {
        json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}],
            "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]})
    };
    let mut place = Place::with([node("a", "2", ""), node("b", "2", ""), node("c", "2", "")]);
    place.put(json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "local"},
        "provisioner": "towline.dev/local", "volumeBindingMode": "WaitForFirstConsumer",
    }));
    place.put(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "a"},
        "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"]},
    }));
    for name in ["p", "q", "r"] {
        place.put(pod(name, json!({}), claimed("900m")));
    }
    place.settle();
    assert!(place.node_of("p").is_some() && place.node_of("p") == place.node_of("q"));
    assert!(
        place
            .why("r")
            .starts_with("0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had volume node affinity conflict."),
        "{}",
        place.why("r")
    );
    // With the last of them the claim is free to go anywhere.
    ["p", "q"].into_iter().for_each(|name| place.remove(Kind::Pod, name));
    place.wait(20);
    place.settle();
    assert!(place.node_of("r").is_some());
}

#[test]
fn scores_are_those_of_the_documentation() {
    let facts = |cpu: i64, memory: i64| {
        let mut facts = Facts::default();
        facts.allocatable.basic[CPU] = cpu;
        facts.allocatable.basic[MEMORY] = memory;
        facts
    };
    let request = |cpu: i64, memory: i64| {
        let mut request = Request::default();
        request.resources.basic[CPU] = cpu;
        request.resources.basic[MEMORY] = memory;
        request.scored = [cpu, memory];
        request
    };
    // Least allocated plus balanced.
    let table = [
        (facts(1000, 1000), request(250, 250), 75 + 100),
        (facts(1000, 1000), request(500, 0), 75 + 75),
        (facts(3000, 3000), request(1000, 1000), 66 + 100),
        (facts(1000, 1000), request(2000, 0), 50 + 50),
        (facts(1000, 1000), request(0, 0), 100),
        (facts(1000, 0), request(250, 0), 75 + 100),
        (facts(0, 0), request(0, 0), 0),
    ];
    for (facts, request, expected) in table {
        assert_eq!(
            score::fill(&facts, &Used::default(), &request),
            expected,
            "{facts:?} {request:?}"
        );
    }
}

#[test]
fn softly_tainted_nodes_come_last_and_preferred_ones_first() {
    let soft = json!([{"key": "k", "effect": "PreferNoSchedule"}]);
    let mut place = Place::with([edited(node("a", "8", ""), "/spec/taints", soft), node("b", "2", "")]);
    place.put(asks("p", json!({"cpu": "1"})));
    place.run();
    assert_eq!(
        place.node_of("p").as_deref(),
        Some("b"),
        "although the other one is emptier"
    );

    let mut place = Place::with([node("a", "8", "z1"), node("b", "8", "z2"), node("c", "8", "z3")]);
    let preference = |weight: i64, zone: &str| {
        json!({"weight": weight, "preference": {"matchExpressions": [
            {"key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone]}]}})
    };
    let affinity = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
        [preference(10, "z1"), preference(80, "z2")]}}});
    place.put(pod("p", json!({}), affinity));
    place.run();
    assert_eq!(place.node_of("p").as_deref(), Some("b"));
}

#[test]
fn a_node_that_has_the_image_comes_first() {
    let with = |name: &str, size: i64| {
        edited(
            node(name, "8", ""),
            "/status/images",
            json!([{"names": ["registry/big:1"], "sizeBytes": size}]),
        )
    };
    let big = || {
        pod(
            "p",
            json!({}),
            json!({"containers": [{"name": "c", "image": "registry/big:1"}]}),
        )
    };
    for (size, expected) in [(2_000_000_000, true), (1_000, false)] {
        let mut wins = 0;
        for has in ["a", "b", "c"] {
            let nodes = ["a", "b", "c"].map(|name| {
                if name == has {
                    with(name, size)
                } else {
                    node(name, "8", "")
                }
            });
            let mut place = Place::with(nodes);
            place.put(big());
            place.run();
            wins += usize::from(place.node_of("p").as_deref() == Some(has));
        }
        assert_eq!(wins == 3, expected, "{size} bytes");
    }
    assert_eq!(image_name("registry:5000/a"), "registry:5000/a:latest");
    assert_eq!(image_name("a:1"), "a:1");
}
