use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use schemas::{Key, Kind, Object, labels};
use serde_json::{Value, json};
use store::Op;

use super::{
    Facts,
    eligible::{Rules, Verdict},
    rolling::bounds,
};
use crate::{
    plan::{Plan, Step},
    pods, revision,
    simulation::Simulation,
};

fn agent(image: &str, more: Value) -> Value {
    let mut value = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent", "namespace": "a"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    });
    for (field, part) in more.as_object().into_iter().flatten() {
        match field.as_str() {
            "pod" => {
                for (field, part) in part.as_object().into_iter().flatten() {
                    value["spec"]["template"]["spec"][field] = part.clone();
                }
            }
            field => value["spec"][field] = part.clone(),
        }
    }
    value
}

fn cluster(nodes: usize) -> Simulation {
    let mut sim = Simulation::new();
    for node in 0..nodes {
        sim.put_node(&format!("n{node}"), json!({}), json!({}));
    }
    sim
}

fn settle(sim: &mut Simulation) {
    sim.settle_with(|_| true, |sim| sim.daemon_set("agent").is_empty());
}

fn status(sim: &Simulation) -> Value {
    let set = sim.get(Kind::DaemonSet, "agent");
    set.status_value().unwrap_or_default()
}

/// The nodes that have a pod, with its image.
fn placed(sim: &Simulation) -> Vec<(String, String)> {
    let pods = sim.active();
    let mut placed: Vec<_> = pods
        .iter()
        .map(|pod| {
            let node = super::place(pod).expect("it is meant for one").to_string();
            (node, image(pod))
        })
        .collect();
    placed.sort();
    placed
}

fn image(pod: &Object) -> String {
    pod.body.value()["spec"]["containers"][0]["image"]
        .as_str()
        .unwrap_or("")
        .to_owned()
}

fn uids(sim: &Simulation) -> Vec<String> {
    let mut uids: Vec<_> = sim.active().iter().map(|pod| pod.uid().to_string()).collect();
    uids.sort();
    uids
}

#[test]
fn nodes_are_judged_by_name_labels_and_taints() {
    let taint = |key: &str, effect: &str| json!({"key": key, "effect": effect});
    let table: [(Value, Value, Value, Verdict); 16] = [
        (json!({}), json!({}), json!({}), Verdict::Runs),
        (
            json!({"nodeSelector": {"disk": "ssd"}}),
            json!({"disk": "ssd"}),
            json!({}),
            Verdict::Runs,
        ),
        (
            json!({"nodeSelector": {"disk": "ssd"}}),
            json!({}),
            json!({}),
            Verdict::Leaves,
        ),
        (json!({"nodeName": "n"}), json!({}), json!({}), Verdict::Runs),
        (json!({"nodeName": "other"}), json!({}), json!({}), Verdict::Leaves),
        (
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}]}}}}),
            json!({}),
            json!({}),
            Verdict::Leaves,
        ),
        (
            json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}}]}}}),
            json!({}),
            json!({}),
            Verdict::Runs,
        ),
        (json!({}), json!({}), json!({"unschedulable": true}), Verdict::Runs),
        (
            json!({}),
            json!({}),
            json!({"taints": [taint(labels::TAINT_UNSCHEDULABLE, "NoSchedule")]}),
            Verdict::Runs,
        ),
        (
            json!({}),
            json!({}),
            json!({"taints": [taint(labels::TAINT_DISK_PRESSURE, "NoSchedule")]}),
            Verdict::Runs,
        ),
        (
            json!({}),
            json!({}),
            json!({"taints": [taint(labels::TAINT_UNREACHABLE, "NoExecute")]}),
            Verdict::Runs,
        ),
        (
            json!({}),
            json!({}),
            json!({"taints": [taint("own", "NoSchedule")]}),
            Verdict::Stays,
        ),
        (
            json!({}),
            json!({}),
            json!({"taints": [taint("own", "NoExecute")]}),
            Verdict::Leaves,
        ),
        (
            json!({}),
            json!({}),
            json!({"taints": [taint("own", "PreferNoSchedule")]}),
            Verdict::Runs,
        ),
        (
            json!({}),
            json!({}),
            json!({"taints": [taint(labels::TAINT_NETWORK_UNAVAILABLE, "NoSchedule")]}),
            Verdict::Stays,
        ),
        (
            json!({"hostNetwork": true}),
            json!({}),
            json!({"taints": [taint(labels::TAINT_NETWORK_UNAVAILABLE, "NoSchedule")]}),
            Verdict::Runs,
        ),
    ];
    for (pod, node_labels, spec, expected) in table {
        let mut sim = Simulation::new();
        let set = sim.put(agent("i", json!({"pod": pod})));
        sim.put_node("n", node_labels.clone(), spec.clone());
        let facts = Facts::of(&sim.all(Kind::Node)[0]);
        let rules = Rules::of(&set.spec::<super::DaemonSetSpec>().expect("it is valid").template);
        assert_eq!(rules.judge(&facts), expected, "{pod} on {node_labels} {spec}");
    }
}

#[test]
fn at_least_one_pod_moves_and_shares_are_rounded_up() {
    for (rolling, wanted, expected) in [
        (json!({}), 7, (1, 0)),
        (json!({"maxUnavailable": "10%"}), 11, (2, 0)),
        (json!({"maxUnavailable": 3}), 7, (3, 0)),
        (json!({"maxUnavailable": 0, "maxSurge": "10%"}), 11, (0, 2)),
        (json!({"maxUnavailable": 0, "maxSurge": 0}), 11, (1, 0)),
        (json!({"maxUnavailable": "0%"}), 11, (1, 0)),
    ] {
        let spec = json!({"selector": {}, "template": {}, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}});
        let spec = serde_json::from_value(spec).expect("it is valid");
        assert_eq!(bounds(&spec, wanted), expected, "{rolling} of {wanted}");
    }
}

#[test]
fn each_node_gets_one_pod_also_the_ones_that_join_and_none_that_leave() {
    let mut sim = cluster(3);
    sim.put(agent("one", json!({"pod": {"nodeSelector": {"pool": "a"}}})));
    settle(&mut sim);
    assert!(placed(&sim).is_empty());
    assert_eq!(status(&sim)["desiredNumberScheduled"], 0);
    for node in ["n0", "n1", "n2"] {
        sim.put_node(node, json!({"pool": "a"}), json!({}));
    }
    settle(&mut sim);
    assert_eq!(placed(&sim).len(), 3);
    let full = status(&sim);
    for (field, count) in [
        ("desiredNumberScheduled", 3),
        ("currentNumberScheduled", 3),
        ("numberReady", 3),
        ("numberAvailable", 3),
        ("updatedNumberScheduled", 3),
        ("numberMisscheduled", 0),
        ("observedGeneration", 1),
    ] {
        assert_eq!(full[field], count, "{field}");
    }
    assert!(full.get("numberUnavailable").is_none());
    assert!(sim.daemon_set("agent").is_empty());

    sim.put_node("n1", json!({"pool": "b"}), json!({}));
    sim.put_node("n3", json!({"pool": "a"}), json!({}));
    settle(&mut sim);
    let nodes: Vec<String> = placed(&sim).into_iter().map(|(node, _)| node).collect();
    assert_eq!(nodes, ["n0", "n2", "n3"]);
}

#[test]
fn a_pod_stays_where_a_new_one_would_not_come_and_counts_as_misplaced() {
    let mut sim = cluster(2);
    sim.put(agent("one", json!({})));
    settle(&mut sim);
    sim.put_node(
        "n1",
        json!({}),
        json!({"taints": [{"key": "own", "effect": "NoSchedule"}]}),
    );
    settle(&mut sim);
    assert_eq!(placed(&sim).len(), 2);
    assert_eq!(status(&sim)["numberMisscheduled"], 1);
    assert_eq!(status(&sim)["desiredNumberScheduled"], 1);
    // It gets no new pod, so it keeps the old one through a rollout.
    sim.put(agent("two", json!({})));
    settle(&mut sim);
    assert_eq!(placed(&sim), [("n0".into(), "two".into()), ("n1".into(), "one".into())]);
    sim.put_node(
        "n1",
        json!({}),
        json!({"taints": [{"key": "own", "effect": "NoExecute"}]}),
    );
    settle(&mut sim);
    assert_eq!(placed(&sim), [("n0".into(), "two".into())]);
}

#[test]
fn a_pod_that_waits_for_a_node_that_is_gone_goes() {
    let mut sim = cluster(2);
    sim.put(agent("one", json!({})));
    sim.daemon_set("agent");
    sim.objects.remove(&Key::cluster(Kind::Node, "n1"));
    sim.daemon_set("agent");
    assert_eq!(placed(&sim), [("n0".into(), "one".into())]);
}

#[test]
fn pods_ask_for_their_node_and_tolerate_trouble() {
    let mut sim = cluster(1);
    let toleration =
        json!({"key": labels::TAINT_NOT_READY, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
    let required = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}]}}});
    sim.put(agent(
        "one",
        json!({"pod": {"hostNetwork": true, "tolerations": [toleration], "affinity": required}}),
    ));
    sim.daemon_set("agent");
    let pod = &sim.active()[0];
    assert!(pod.node.is_none(), "the scheduler binds it");
    let spec = pod.body.value().remove("spec").expect("it has one");
    let terms = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    assert_eq!(
        spec.pointer(terms),
        Some(&json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n0"]}]}]))
    );
    let tolerations = spec["tolerations"].as_array().expect("a list");
    for (key, effect) in [
        (labels::TAINT_NOT_READY, "NoExecute"),
        (labels::TAINT_UNREACHABLE, "NoExecute"),
        (labels::TAINT_DISK_PRESSURE, "NoSchedule"),
        (labels::TAINT_MEMORY_PRESSURE, "NoSchedule"),
        (labels::TAINT_PID_PRESSURE, "NoSchedule"),
        (labels::TAINT_UNSCHEDULABLE, "NoSchedule"),
        (labels::TAINT_NETWORK_UNAVAILABLE, "NoSchedule"),
    ] {
        let found: Vec<_> = tolerations.iter().filter(|it| it["key"] == key).collect();
        assert_eq!(found.len(), 1, "{key}: {tolerations:#?}");
        assert_eq!(found[0]["effect"], effect);
        assert!(found[0].get("tolerationSeconds").is_none(), "{key} for good");
    }
    let revision = &sim.all(Kind::ControllerRevision)[0];
    assert_eq!(
        pod.label(labels::CONTROLLER_REVISION_HASH),
        revision.label(labels::CONTROLLER_REVISION_HASH)
    );
    assert_eq!(revision.body.value()["data"]["spec"]["template"]["$patch"], "replace");
}

#[test]
fn a_rolling_update_goes_node_by_node() {
    let mut sim = cluster(4);
    sim.put(agent("one", json!({})));
    settle(&mut sim);
    sim.put(agent("two", json!({})));
    let mut least = 4;
    for _ in 0..50 {
        sim.daemon_set("agent");
        least = least.min(sim.available());
        sim.reap();
        sim.daemon_set("agent");
        for pod in sim.active() {
            sim.set_ready(&pod, true);
        }
    }
    assert_eq!(least, 3, "one at a time");
    assert!(
        placed(&sim).iter().all(|(_, image)| image == "two"),
        "{:?}",
        placed(&sim)
    );
    assert_eq!(status(&sim)["updatedNumberScheduled"], 4);
    assert!(sim.daemon_set("agent").is_empty());
}

#[test]
fn pods_that_do_not_work_are_replaced_first_and_hold_up_the_rest() {
    let mut sim = cluster(4);
    sim.put(agent("one", json!({})));
    settle(&mut sim);
    let broken = sim.active()[2].clone();
    sim.set_ready(&broken, false);
    sim.put(agent("two", json!({})));
    sim.daemon_set("agent");
    sim.reap();
    assert!(!sim.objects.contains_key(&broken.key()), "it costs no availability");
    assert_eq!(sim.available(), 3, "and is the one that may be away");
    // A new template that does not work takes one node and no more; a newer one mends it.
    sim.settle_with(|pod| image(pod) == "one", |sim| sim.daemon_set("agent").is_empty());
    assert_eq!(sim.available(), 3);
    sim.put(agent("three", json!({})));
    settle(&mut sim);
    assert!(placed(&sim).iter().all(|(_, image)| image == "three"));
}

#[test]
fn with_on_delete_old_pods_stay_until_somebody_deletes_them() {
    let mut sim = cluster(2);
    let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
    sim.put(agent("one", on_delete.clone()));
    settle(&mut sim);
    sim.put(agent("two", on_delete));
    settle(&mut sim);
    assert!(placed(&sim).iter().all(|(_, image)| image == "one"));
    assert!(status(&sim).get("updatedNumberScheduled").is_none());
    let first = sim.active()[0].key();
    sim.objects.remove(&first);
    settle(&mut sim);
    assert_eq!(placed(&sim).iter().filter(|(_, image)| image == "two").count(), 1);
}

#[test]
fn a_pod_is_available_once_it_was_ready_for_long_enough() {
    let mut sim = cluster(2);
    let slow = json!({"minReadySeconds": 10});
    sim.put(agent("one", slow.clone()));
    settle(&mut sim);
    assert_eq!(status(&sim)["numberReady"], 2);
    assert!(status(&sim).get("numberAvailable").is_none());
    assert_eq!(sim.daemon_set("agent").requeue_after, Some(Duration::from_secs(10)));
    sim.now = sim.now.after(Duration::from_secs(10));
    settle(&mut sim);
    assert_eq!(status(&sim)["numberAvailable"], 2);
    sim.put(agent("two", slow));
    settle(&mut sim);
    assert_eq!(
        placed(&sim).iter().filter(|(_, image)| image == "two").count(),
        1,
        "it waits"
    );
    sim.now = sim.now.after(Duration::from_secs(10));
    settle(&mut sim);
    assert_eq!(placed(&sim).iter().filter(|(_, image)| image == "two").count(), 2);
}

#[test]
fn a_surge_brings_the_new_pod_before_the_old_one_goes() {
    let mut sim = cluster(3);
    let surge = json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}});
    sim.put(agent("one", surge.clone()));
    settle(&mut sim);
    sim.put(agent("two", surge));
    sim.daemon_set("agent");
    assert_eq!(sim.active().len(), 4);
    assert!(
        sim.daemon_set("agent").steps.iter().all(|step| !removes(step)),
        "the new one is not ready"
    );
    settle(&mut sim);
    assert_eq!(placed(&sim).len(), 3);
    assert!(placed(&sim).iter().all(|(_, image)| image == "two"));
}

fn removes(step: &Step) -> bool {
    match step {
        Step::Write { writes, .. } => writes.iter().any(|write| match &write.op {
            Op::Remove { .. } => true,
            Op::Replace(object) => object.is_deleting(),
            _ => false,
        }),
        _ => false,
    }
}

#[test]
fn failed_pods_are_replaced_and_wait_longer_each_time() {
    let mut sim = cluster(1);
    sim.put(agent("one", json!({})));
    settle(&mut sim);
    let mut waits = Vec::new();
    for _ in 0..4 {
        let pod = sim.active()[0].clone();
        sim.set_ready(&pod, true);
        let pod = sim.active()[0].clone();
        sim.finish(&pod, "Failed");
        let plan = sim.daemon_set("agent");
        let wait = plan.requeue_after.unwrap_or_default();
        waits.push(wait.as_secs());
        if !wait.is_zero() {
            assert!(sim.objects.contains_key(&pod.key()));
            sim.now = sim.now.after(wait);
            sim.daemon_set("agent");
        }
        sim.reap();
        sim.daemon_set("agent");
        assert_eq!(sim.active().len(), 1);
    }
    assert_eq!(waits, [0, 1, 2, 4]);
    let pod = sim.active()[0].clone();
    sim.finish(&pod, "Succeeded");
    sim.daemon_set("agent");
    sim.reap();
    sim.daemon_set("agent");
    assert_eq!(sim.active().len(), 1, "one that ended well is replaced at once");
}

#[test]
fn of_two_pods_on_a_node_the_older_stays() {
    let mut sim = cluster(1);
    sim.put(agent("one", json!({})));
    settle(&mut sim);
    let first = sim.active()[0].clone();
    let mut second = Object::clone(&first);
    second.meta.name = Some("agent-zzzzz".into());
    second.meta.uid = Some("another".into());
    second.meta.creation_timestamp.as_mut().expect("it has one").0 += Duration::from_secs(1);
    sim.objects.insert(second.key(), Arc::new(second));
    settle(&mut sim);
    assert_eq!(uids(&sim), [first.uid().to_string()]);
}

#[test]
fn revisions_are_numbered_move_on_with_a_rollback_and_are_kept_up_to_a_limit() {
    let mut sim = cluster(1);
    let numbers = |sim: &Simulation| {
        let mut numbers: Vec<i64> = sim
            .all(Kind::ControllerRevision)
            .iter()
            .map(|it| revision::number(it))
            .collect();
        numbers.sort_unstable();
        numbers
    };
    for (image, expected) in [
        ("one", vec![1]),
        ("two", vec![1, 2]),
        ("one", vec![2, 3]),
        ("three", vec![2, 3, 4]),
        ("four", vec![3, 4, 5]),
    ] {
        sim.put(agent(image, json!({"revisionHistoryLimit": 2})));
        settle(&mut sim);
        assert_eq!(numbers(&sim), expected, "{image}");
    }
}

#[test]
fn a_revision_of_another_version_replaces_no_pod() {
    let mut sim = cluster(2);
    sim.put(agent("one", json!({})));
    settle(&mut sim);
    let before = uids(&sim);
    // Another version would have hashed the template differently.
    let old = sim.all(Kind::ControllerRevision)[0].clone();
    let mut renamed = Object::clone(&old);
    renamed.meta.name = Some("agent-otherhash".into());
    let labels = renamed.meta.labels.as_mut().expect("it has some");
    labels.insert(labels::CONTROLLER_REVISION_HASH.to_owned(), "otherhash".to_owned());
    sim.objects.remove(&old.key());
    sim.objects.insert(renamed.key(), Arc::new(renamed));
    for pod in sim.active() {
        let mut pod = Object::clone(&pod);
        let labels = pod.meta.labels.as_mut().expect("it has some");
        labels.insert(labels::CONTROLLER_REVISION_HASH.to_owned(), "otherhash".to_owned());
        sim.objects.insert(pod.key(), Arc::new(pod));
    }
    settle(&mut sim);
    assert_eq!(uids(&sim), before);
    assert_eq!(sim.all(Kind::ControllerRevision).len(), 1);
}

#[test]
fn a_taken_name_leads_to_another_one() {
    let mut sim = cluster(1);
    let set = sim.put(agent("one", json!({})));
    let name = super::revision_name(&set).expect("it has one");
    sim.put(json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": name, "namespace": "a"},
        "data": {}, "revision": 1,
    }));
    settle(&mut sim);
    assert_eq!(sim.available(), 1);
    assert_eq!(status(&sim)["collisionCount"], 1);
}

#[test]
fn pods_without_an_owner_are_adopted_and_strangers_are_left_alone() {
    let mut sim = cluster(2);
    let bare = |name: &str, app: &str, node: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a", "labels": {"app": app}},
            "spec": {"containers": [{"name": "c", "image": "one"}], "nodeName": node},
        })
    };
    sim.put(bare("mine", "agent", "n0"));
    sim.put(bare("other", "other", "n1"));
    sim.put(agent("one", json!({})));
    settle(&mut sim);
    assert!(
        sim.all(Kind::Pod).iter().all(|pod| pod.name() != "mine"),
        "it was of no revision, and made way"
    );
    assert_eq!(sim.active().len(), 3);
    assert!(sim.get(Kind::Pod, "other").controller().is_none());
    assert!(!sim.get(Kind::Pod, "other").is_deleting());
}

/// Whatever a plan writes belongs to the set.
fn only_its_own(plan: &Plan) {
    for step in &plan.steps {
        let Step::Write { writes, .. } = step else {
            panic!("only writes")
        };
        for write in writes {
            match &write.op {
                Op::Create(object) | Op::Replace(object) => {
                    assert!(
                        matches!(object.kind, Kind::Pod | Kind::ControllerRevision),
                        "{object:?}"
                    );
                    assert_eq!(
                        super::controller_of(object),
                        Some(Key::namespaced(Kind::DaemonSet, "a", "agent"))
                    );
                }
                Op::Status { key, .. } => assert_eq!(key.kind, Kind::DaemonSet),
                Op::Remove { key } => assert!(key.name.starts_with("agent-"), "{key}"),
                Op::Bind { .. } | Op::Retire { .. } => panic!("it neither binds nor retires"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A rolling update keeps its bounds whatever the order of events, ends with the new template
    /// everywhere, and leaves an empty plan.
    #[test]
    fn an_update_keeps_its_bounds(
        nodes in 1_usize..7,
        unavailable in 0_i32..4,
        surge in 0_i32..4,
        events in prop::collection::vec(0_usize..100, 0..120),
    ) {
        // One of the two, as validation has it.
        let (unavailable, surge) = match (unavailable, surge) {
            (0, 0) => (1, 0),
            (0, surge) => (0, surge),
            (unavailable, _) => (unavailable, 0),
        };
        let strategy = json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}}});
        let mut sim = cluster(nodes);
        sim.put(agent("one", strategy.clone()));
        settle(&mut sim);
        sim.put(agent("two", strategy));
        let least = nodes.saturating_sub(unavailable as usize);
        let most = nodes + surge as usize;
        for event in events {
            let pods = sim.all(Kind::Pod);
            match event % 4 {
                0 | 1 => only_its_own(&sim.daemon_set("agent")),
                2 => {
                    let pod = pods.get(event % pods.len().max(1));
                    if let Some(pod) = pod.filter(|pod| pods::is_active(pod)) {
                        sim.set_ready(pod, true);
                    }
                }
                _ => drop(sim.reap()),
            }
            prop_assert!(sim.available() >= least, "{} of {least}", sim.available());
            prop_assert!(sim.active().len() <= most, "{} above {most}", sim.active().len());
        }
        settle(&mut sim);
        prop_assert!(placed(&sim).iter().all(|(_, image)| image == "two"));
        prop_assert_eq!(placed(&sim).len(), nodes);
        prop_assert!(sim.daemon_set("agent").is_empty());
    }
}

#[test]
fn an_update_counts_on_new_pods_once_they_have_been_up_for_a_moment() {
    for (strategy, old_left) in [
        (json!({"maxUnavailable": 1}), 2),
        (json!({"maxUnavailable": 0, "maxSurge": 1}), 3),
    ] {
        let mut sim = cluster(3);
        let strategy = json!({"updateStrategy": {"rollingUpdate": strategy}});
        sim.put(agent("one", strategy.clone()));
        settle(&mut sim);
        sim.now.monotonic += Duration::from_secs(60);
        sim.hold = Duration::from_millis(500);
        sim.put(agent("two", strategy));
        settle(&mut sim);
        let count = |sim: &Simulation, of: &str| sim.active().iter().filter(|pod| image(pod) == of).count();
        assert_eq!((count(&sim, "one"), count(&sim, "two")), (old_left, 1));
        let plan = sim.daemon_set("agent");
        assert_eq!(plan.requeue_after, Some(Duration::from_millis(500)));
        for _ in 0..3 {
            sim.now.monotonic += Duration::from_millis(500);
            settle(&mut sim);
        }
        assert_eq!((count(&sim, "one"), count(&sim, "two")), (0, 3));
    }
}
