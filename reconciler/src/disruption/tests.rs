use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use rustc_hash::FxHashMap;
use schemas::{Kind, Object, Uid};
use serde_json::{Value, json};

use super::{Scale, World, plan};
use crate::{
    plan::Plan,
    pods::{self, condition_in},
    simulation::Simulation,
};

fn budget(spec: Value) -> Value {
    let mut value = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b", "namespace": "a"},
        "spec": {"selector": {"matchLabels": {"app": "x"}}},
    });
    for (field, part) in spec.as_object().into_iter().flatten() {
        value["spec"][field] = part.clone();
    }
    value
}

/// A pod, controlled by something of this uid where one is given.
fn pod(name: &str, owner: Option<&str>) -> Value {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a", "labels": {"app": "x"}},
        "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"},
    });
    if let Some(owner) = owner {
        value["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "s", "uid": owner, "controller": true}]);
    }
    value
}

fn look(sim: &mut Simulation, scales: &FxHashMap<Uid, Scale>) -> Plan {
    let world = World {
        budget: sim.get(Kind::PodDisruptionBudget, "b"),
        pods: sim.all(Kind::Pod),
        scales: scales.clone(),
    };
    let plan = plan(&world, sim.now);
    sim.apply(&plan);
    plan
}

fn status(sim: &Simulation) -> Value {
    let budget = sim.get(Kind::PodDisruptionBudget, "b");
    budget.status_value().unwrap_or_default()
}

fn scales(replicas: i32) -> FxHashMap<Uid, Scale> {
    [(Uid::from("set"), Scale::Wanted("root".into(), replicas))]
        .into_iter()
        .collect()
}

#[test]
fn what_is_allowed_follows_from_what_is_healthy_and_what_must_be() {
    // The spec, replicas, pods that are there, of these ready; expected, desired, allowed.
    let table = [
        (json!({"minAvailable": 2}), 3, 3, 3, (3, 2, 1)),
        (json!({"minAvailable": 2}), 3, 3, 2, (3, 2, 0)),
        (json!({"minAvailable": 5}), 3, 3, 3, (3, 5, 0)),
        (json!({"minAvailable": 0}), 3, 3, 1, (3, 0, 1)),
        (json!({"minAvailable": "50%"}), 3, 3, 3, (3, 2, 1)),
        (json!({"minAvailable": "100%"}), 3, 3, 3, (3, 3, 0)),
        // Shares are of what is wanted, not of what is there.
        (json!({"minAvailable": "50%"}), 10, 4, 4, (10, 5, 0)),
        (json!({"maxUnavailable": 1}), 3, 3, 3, (3, 2, 1)),
        (json!({"maxUnavailable": 1}), 3, 2, 2, (3, 2, 0)),
        (json!({"maxUnavailable": "30%"}), 7, 7, 7, (7, 4, 3)),
        (json!({"maxUnavailable": "100%"}), 3, 3, 3, (3, 0, 3)),
        (json!({"maxUnavailable": 0}), 3, 3, 3, (3, 3, 0)),
        (json!({}), 3, 3, 3, (3, 0, 3)),
        (json!({"minAvailable": 1}), 0, 0, 0, (0, 1, 0)),
    ];
    for (spec, replicas, there, ready, (expected, desired, allowed)) in table {
        let mut sim = Simulation::new();
        sim.put(budget(spec.clone()));
        for at in 0..there {
            let pod = sim.put(pod(&format!("p{at}"), Some("set")));
            sim.set_ready(&pod, at < ready);
        }
        look(&mut sim, &scales(replicas));
        let status = status(&sim);
        for (field, count) in [
            ("expectedPods", expected),
            ("desiredHealthy", desired),
            ("currentHealthy", ready),
            ("disruptionsAllowed", allowed),
            ("observedGeneration", 1),
        ] {
            assert_eq!(
                status[field], count,
                "{field} of {spec} with {ready} of {there} of {replicas}"
            );
        }
        let reason = if allowed > 0 {
            "SufficientPods"
        } else {
            "InsufficientPods"
        };
        let condition = condition_in(&status, "DisruptionAllowed").expect("it is there");
        assert_eq!(condition["reason"], reason, "{spec}");
        assert!(look(&mut sim, &scales(replicas)).is_empty(), "{spec}");
    }
}

#[test]
fn ended_pods_count_for_nothing_and_those_that_go_are_not_healthy() {
    let mut sim = Simulation::new();
    sim.put(budget(json!({"minAvailable": 1})));
    for name in ["ended", "going", "fine"] {
        let pod = sim.put(pod(name, Some("set")));
        sim.set_ready(&pod, true);
    }
    let ended = sim.get(Kind::Pod, "ended");
    sim.finish(&ended, "Succeeded");
    let mut going = Object::clone(&sim.get(Kind::Pod, "going"));
    going.meta.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(sim.now.wall));
    sim.objects.insert(going.key(), Arc::new(going));
    look(&mut sim, &scales(3));
    assert_eq!(status(&sim)["expectedPods"], 2);
    assert_eq!(status(&sim)["currentHealthy"], 1);
    assert_eq!(status(&sim)["disruptionsAllowed"], 0);
}

#[test]
fn a_share_of_nobody_knows_how_many_is_a_failure_that_is_told() {
    let mut sim = Simulation::new();
    sim.put(budget(json!({"maxUnavailable": 1})));
    let pod = sim.put(pod("p", Some("set")));
    sim.set_ready(&pod, true);
    let none = [(Uid::from("set"), Scale::None("DaemonSet \"d\"".to_owned()))]
        .into_iter()
        .collect();
    let plan = look(&mut sim, &none);
    assert_eq!(status(&sim)["disruptionsAllowed"], 0);
    let said = status(&sim);
    let condition = condition_in(&said, "DisruptionAllowed").expect("it is there");
    assert_eq!(
        (condition["status"].as_str(), condition["reason"].as_str()),
        (Some("False"), Some("SyncFailed"))
    );
    assert!(
        condition["message"]
            .as_str()
            .is_some_and(|message| message.contains("DaemonSet \"d\""))
    );
    assert!(
        plan.notes
            .iter()
            .any(|note| note.reason == "CalculateExpectedPodCountFailed")
    );
    assert!(look(&mut sim, &none).is_empty());
}

#[test]
fn pods_that_nothing_controls_count_only_by_number() {
    for (spec, allowed, told) in [
        (json!({"minAvailable": 1}), 1, false),
        (json!({"maxUnavailable": 1}), 0, true),
    ] {
        let mut sim = Simulation::new();
        sim.put(budget(spec));
        for name in ["p", "q"] {
            let pod = sim.put(pod(name, None));
            sim.set_ready(&pod, true);
        }
        let plan = look(&mut sim, &FxHashMap::default());
        assert_eq!(status(&sim)["disruptionsAllowed"], allowed);
        assert_eq!(plan.notes.iter().any(|note| note.reason == "UnmanagedPods"), told);
    }
}

#[test]
fn an_eviction_counts_until_its_pod_goes_or_its_time_is_up() {
    let mut sim = Simulation::new();
    sim.put(budget(json!({"maxUnavailable": 1})));
    for name in ["p", "q"] {
        let pod = sim.put(pod(name, Some("set")));
        sim.set_ready(&pod, true);
    }
    look(&mut sim, &scales(2));
    evicted(&mut sim, "p");
    let plan = look(&mut sim, &scales(2));
    assert_eq!(status(&sim)["currentHealthy"], 1, "p counts as gone");
    assert_eq!(status(&sim)["disruptionsAllowed"], 0);
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(120)));
    sim.now = sim.now.after(Duration::from_secs(120));
    let plan = look(&mut sim, &scales(2));
    assert_eq!(status(&sim)["disruptionsAllowed"], 1, "it came to nothing");
    assert!(status(&sim).get("disruptedPods").is_none());
    assert!(plan.notes.iter().any(|note| note.reason == "NotDeleted"));
    evicted(&mut sim, "p");
    delete(&mut sim, "p");
    look(&mut sim, &scales(2));
    assert!(status(&sim).get("disruptedPods").is_none());
    assert_eq!(status(&sim)["disruptionsAllowed"], 0);
}

/// The API's part: takes one off.
fn evicted(sim: &mut Simulation, name: &str) {
    let budget = sim.get(Kind::PodDisruptionBudget, "b");
    let mut status = budget.status_value().expect("it is counted");
    let allowed = status["disruptionsAllowed"].as_i64().expect("a number");
    assert!(allowed > 0);
    status["disruptionsAllowed"] = (allowed - 1).into();
    if !status["disruptedPods"].is_object() {
        status["disruptedPods"] = json!({});
    }
    status["disruptedPods"][name] = pods::stamp(sim.now.wall).into();
    let mut plan = Plan::default();
    plan.write(store::Class::User, "evicting", crate::plan::status_of(&budget, status));
    sim.apply(&plan);
}

fn delete(sim: &mut Simulation, name: &str) {
    let pod = sim.get(Kind::Pod, name);
    let mut plan = Plan::default();
    plan.writes(
        store::Class::User,
        "deleting",
        crate::owners::delete(&pod, None, sim.now).into_iter().collect(),
    );
    sim.apply(&plan);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever the order of looks, evictions and their deletions, and however late each comes: as
    /// long as nothing but evictions takes pods away, enough stay healthy.
    #[test]
    fn evictions_never_break_a_budget(
        replicas in 1_i32..8,
        least in 0_i32..8,
        percent in proptest::option::of(0_i32..=100),
        events in prop::collection::vec((0_usize..6, 0_usize..8), 0..120),
    ) {
        let mut sim = Simulation::new();
        let spec = match percent {
            Some(percent) => json!({"minAvailable": format!("{percent}%")}),
            None => json!({"minAvailable": least}),
        };
        sim.put(budget(spec));
        let mut made = 0;
        for _ in 0..replicas {
            let pod = sim.put(pod(&format!("p{made}"), Some("set")));
            sim.set_ready(&pod, true);
            made += 1;
        }
        let scales = scales(replicas);
        let desired = match percent {
            Some(percent) => (replicas * percent + 99) / 100,
            None => least,
        };
        let floor = usize::try_from(desired.min(replicas)).expect("it is small");
        let mut pending: Vec<String> = Vec::new();
        for (event, at) in events {
            let active = sim.active();
            match event {
                0 => drop(look(&mut sim, &scales)),
                // The API takes one off the budget, if there is one left.
                1 | 2 => {
                    let allowed = status(&sim)["disruptionsAllowed"].as_i64().unwrap_or(0);
                    let chosen = active.get(at).filter(|pod| pods::is_ready(pod) && !pending.contains(&pod.name().to_owned()));
                    if allowed > 0 && let Some(pod) = chosen {
                        evicted(&mut sim, pod.name());
                        pending.push(pod.name().to_owned());
                    }
                }
                // … and deletes the pod, some time later.
                3 => {
                    if let Some(name) = pending.pop() {
                        delete(&mut sim, &name);
                    }
                }
                // What is gone is replaced, and gets ready.
                4 => {
                    sim.reap();
                    while sim.all(Kind::Pod).len() < usize::try_from(replicas).expect("it is small") {
                        sim.put(pod(&format!("p{made}"), Some("set")));
                        made += 1;
                    }
                }
                _ => {
                    if let Some(pod) = active.get(at) {
                        sim.set_ready(pod, true);
                    }
                }
            }
            prop_assert!(sim.available() >= floor, "{} of {floor}", sim.available());
        }
    }
}
