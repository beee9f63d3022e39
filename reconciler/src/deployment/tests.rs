use k8s_openapi::api::apps::v1::DeploymentSpec;
use proptest::prelude::*;
use schemas::{Kind, labels};
use serde_json::{Value, json};

use super::rolling::bounds;
use crate::{pods, simulation::Simulation};

fn web(image: &str, replicas: i32, more: Value) -> Value {
    let mut value = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "a"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    });
    for (field, part) in more.as_object().into_iter().flatten() {
        value["spec"][field] = part.clone();
    }
    value
}

fn image(object: &schemas::Object) -> String {
    let value = object.to_value();
    let spec = value.pointer("/spec/template/spec").unwrap_or(&value["spec"]);
    spec["containers"][0]["image"].as_str().unwrap_or("").to_owned()
}

#[test]
fn surge_rounds_up_unavailability_down_and_one_of_them_moves() {
    let table = [
        (json!("25%"), json!("25%"), 10, (3, 2)),
        (json!("25%"), json!("25%"), 1, (1, 0)),
        (json!("25%"), json!("25%"), 4, (1, 1)),
        (json!(0), json!("10%"), 5, (0, 1)),
        (json!(0), json!(0), 3, (0, 1)),
        (json!("100%"), json!(0), 3, (3, 0)),
        (json!(2), json!(9), 3, (2, 3)),
        (json!("0%"), json!("49%"), 2, (0, 1)),
    ];
    for (surge, unavailable, replicas, expected) in table {
        let spec: DeploymentSpec = serde_json::from_value(json!({
            "selector": {}, "template": {},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
        }))
        .expect("it is valid");
        assert_eq!(bounds(&spec, replicas), expected, "{surge} {unavailable} {replicas}");
    }
}

#[test]
fn a_rollout_ends_with_one_set_and_full_status_and_an_empty_plan() {
    let mut sim = Simulation::new();
    sim.put(web("one", 3, json!({})));
    sim.settle("web", |_| true);
    let status = sim.get(Kind::Deployment, "web").status_value().expect("it has one");
    assert_eq!(status["readyReplicas"], 3);
    assert_eq!(status["updatedReplicas"], 3);
    assert_eq!(status["observedGeneration"], 1);
    assert!(status.get("unavailableReplicas").is_none());
    let progressing = pods::condition_in(&status, "Progressing").expect("it is there");
    assert_eq!(progressing["reason"], "NewReplicaSetAvailable");
    assert!(sim.deployment("web").is_empty());

    sim.put(web("two", 3, json!({})));
    sim.settle("web", |_| true);
    assert!(sim.active().iter().all(|pod| image(pod) == "two"));
    assert_eq!(sim.all(Kind::ReplicaSet).len(), 2);
    assert_eq!(sim.get(Kind::Deployment, "web").annotation(labels::REVISION), Some("2"));
    assert!(sim.deployment("web").is_empty());
}

#[test]
fn a_rollback_takes_the_old_set_back_with_a_new_number() {
    let mut sim = Simulation::new();
    for image in ["one", "two", "one"] {
        sim.put(web(image, 2, json!({})));
        sim.settle("web", |_| true);
    }
    let sets = sim.all(Kind::ReplicaSet);
    assert_eq!(sets.len(), 2);
    let current = sets.iter().find(|set| image(set) == "one").expect("it is there");
    assert_eq!(current.annotation(labels::REVISION), Some("3"));
    assert_eq!(current.annotation(labels::REVISION_HISTORY), Some("1"));
}

#[test]
fn a_set_made_by_an_older_version_matches_whatever_its_hash_says() {
    let mut sim = Simulation::new();
    sim.put(web("one", 2, json!({})));
    sim.settle("web", |_| true);
    let before: Vec<_> = sim.active().iter().map(|pod| pod.uid()).collect();
    // Another version would have named it otherwise.
    let set = sim.all(Kind::ReplicaSet)[0].clone();
    let mut renamed = schemas::Object::clone(&set);
    renamed.meta.name = Some("web-oldhash".into());
    sim.objects.remove(&set.key());
    sim.objects.insert(renamed.key(), std::sync::Arc::new(renamed));
    sim.settle("web", |_| true);
    assert_eq!(sim.all(Kind::ReplicaSet).len(), 1);
    let after: Vec<_> = sim.active().iter().map(|pod| pod.uid()).collect();
    assert_eq!(before, after, "nothing was replaced");
}

#[test]
fn a_taken_name_leads_to_another_one() {
    let mut sim = Simulation::new();
    let deployment = sim.put(web("one", 1, json!({})));
    let name = super::set_name(&deployment).expect("it has one");
    sim.put(json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name, "namespace": "a"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"x": "y"}}, "template": {
            "metadata": {"labels": {"x": "y"}}, "spec": {"containers": [{"name": "c", "image": "other"}]}}},
    }));
    sim.settle("web", |_| true);
    assert_eq!(sim.available(), 1);
    let status = sim.get(Kind::Deployment, "web").status_value().expect("it has one");
    assert_eq!(status["collisionCount"], 1);
}

#[test]
fn a_newer_template_overtakes_a_stuck_one() {
    let mut sim = Simulation::new();
    sim.put(web("one", 4, json!({})));
    sim.settle("web", |_| true);
    sim.put(web("broken", 4, json!({})));
    sim.settle("web", |pod| image(pod) != "broken");
    assert!(sim.available() >= 3, "the old ones serve on");
    sim.put(web("three", 4, json!({})));
    sim.settle("web", |pod| image(pod) != "broken");
    assert!(sim.active().iter().all(|pod| image(pod) == "three"));
}

#[test]
fn pods_that_work_stay_until_new_ones_have_been_up_for_a_moment() {
    let mut sim = Simulation::new();
    sim.put(web("one", 4, json!({})));
    sim.settle("web", |_| true);
    sim.put(web("two", 4, json!({})));
    sim.deployment("web");
    let count = |sim: &Simulation, of: &str| sim.active().iter().filter(|pod| image(pod) == of).count();
    let steady = |sim: &mut Simulation, at: Vec<std::time::Duration>| {
        for set in sim.all(Kind::ReplicaSet) {
            sim.steady.insert(set.uid(), at.clone());
        }
    };
    // All new pods start, and are available for the moment until they crash.
    let soon = sim.now.monotonic + std::time::Duration::from_millis(500);
    steady(&mut sim, vec![soon; 4]);
    sim.settle("web", |_| true);
    assert_eq!(
        (count(&sim, "one"), count(&sim, "two")),
        (3, 2),
        "as many as may be unavailable"
    );
    assert_eq!(
        sim.deployment("web").requeue_after,
        Some(std::time::Duration::from_millis(500))
    );
    sim.now.monotonic = soon;
    sim.settle("web", |_| true);
    assert_eq!((count(&sim, "one"), count(&sim, "two")), (0, 4));
}

#[test]
fn recreate_waits_until_all_old_pods_are_gone() {
    let mut sim = Simulation::new();
    let recreate = json!({"strategy": {"type": "Recreate"}});
    sim.put(web("one", 2, recreate.clone()));
    sim.settle("web", |_| true);
    sim.put(web("two", 2, recreate));
    for _ in 0..3 {
        sim.deployment("web");
        for set in sim.all(Kind::ReplicaSet) {
            sim.replica_set(set.name());
        }
    }
    assert_eq!(sim.active().len(), 0, "the old ones are stopping");
    assert_eq!(sim.all(Kind::ReplicaSet).len(), 1, "no new set before that");
    sim.settle("web", |_| true);
    assert_eq!(sim.available(), 2);
}

#[test]
fn a_pause_stops_the_rollout_but_not_scaling() {
    let mut sim = Simulation::new();
    sim.put(web("one", 2, json!({})));
    sim.settle("web", |_| true);
    sim.put(web("two", 4, json!({"paused": true})));
    sim.settle("web", |_| true);
    assert_eq!(sim.available(), 4);
    assert!(sim.active().iter().all(|pod| image(pod) == "one"));
    let deployment = sim.get(Kind::Deployment, "web");
    assert_eq!(
        pods::condition(&deployment, "Progressing").expect("there")["reason"],
        "DeploymentPaused"
    );
    sim.put(web("two", 4, json!({})));
    sim.settle("web", |_| true);
    assert!(sim.active().iter().all(|pod| image(pod) == "two"));
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_proportional() {
    let mut sim = Simulation::new();
    let strategy = json!({"strategy": {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}});
    sim.put(web("one", 10, strategy.clone()));
    sim.settle("web", |_| true);
    sim.put(web("broken", 10, strategy.clone()));
    sim.settle("web", |pod| image(pod) == "one");
    let count = |sim: &Simulation, name: &str| sim.active().iter().filter(|pod| image(pod) == name).count();
    assert_eq!((count(&sim, "one"), count(&sim, "broken")), (8, 5));
    sim.put(web("broken", 15, strategy));
    sim.settle("web", |pod| image(pod) == "one");
    assert_eq!(
        (count(&sim, "one"), count(&sim, "broken")),
        (11, 7),
        "five more in proportion"
    );
}

#[test]
fn a_rollout_without_progress_exceeds_its_deadline_and_nothing_else_happens() {
    let mut sim = Simulation::new();
    let deadline = json!({"progressDeadlineSeconds": 60});
    sim.put(web("one", 2, deadline.clone()));
    sim.settle("web", |_| true);
    sim.put(web("broken", 2, deadline));
    sim.settle("web", |pod| image(pod) == "one");
    let plan = sim.deployment("web");
    assert!(
        plan.requeue_after.is_some_and(|delay| delay.as_secs() <= 60),
        "{plan:?}"
    );
    sim.now = sim.now.after(std::time::Duration::from_secs(61));
    let pods: Vec<_> = sim.active().iter().map(|pod| pod.uid()).collect();
    sim.settle("web", |pod| image(pod) == "one");
    let deployment = sim.get(Kind::Deployment, "web");
    let progressing = pods::condition(&deployment, "Progressing").expect("it is there");
    assert_eq!(progressing["reason"], "ProgressDeadlineExceeded");
    assert_eq!(progressing["status"], "False");
    assert_eq!(pods, sim.active().iter().map(|pod| pod.uid()).collect::<Vec<_>>());
}

#[test]
fn old_sets_beyond_the_history_limit_go() {
    let mut sim = Simulation::new();
    for number in 0..5 {
        sim.put(web(&format!("i{number}"), 1, json!({"revisionHistoryLimit": 2})));
        sim.settle("web", |_| true);
    }
    let mut images: Vec<String> = sim.all(Kind::ReplicaSet).iter().map(|set| image(set)).collect();
    images.sort();
    assert_eq!(images, ["i2", "i3", "i4"]);
}

#[test]
fn a_pod_counts_as_available_after_its_minimum_time() {
    let mut sim = Simulation::new();
    sim.put(web("one", 1, json!({"minReadySeconds": 10})));
    sim.settle("web", |_| true);
    let available =
        |sim: &Simulation| sim.get(Kind::Deployment, "web").status_value().expect("there")["availableReplicas"].clone();
    assert_eq!(available(&sim), Value::Null);
    sim.now = sim.now.after(std::time::Duration::from_secs(10));
    sim.settle("web", |_| true);
    assert_eq!(available(&sim), 1);
}

#[derive(Clone, Debug)]
enum Act {
    Deployment,
    Sets,
    Ready(usize),
    Reap,
    Template(u8),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => Just(Act::Deployment),
        4 => Just(Act::Sets),
        4 => (0usize..30).prop_map(Act::Ready),
        2 => Just(Act::Reap),
        1 => (0u8..4).prop_map(Act::Template),
    ];
    prop::collection::vec(act, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever the order of looks and however stale the counts: enough pods serve, and not too many
    /// are there.
    #[test]
    fn a_rollout_keeps_its_bounds(
        replicas in 1i32..8,
        surge in 0i32..4,
        unavailable in 0i32..4,
        acts in acts(),
    ) {
        let mut sim = Simulation::new();
        let strategy = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}});
        sim.put(web("i0", replicas, strategy.clone()));
        sim.settle("web", |_| true);
        let spec = sim.get(Kind::Deployment, "web").spec::<DeploymentSpec>().expect("it is valid");
        let (surge, unavailable) = bounds(&spec, replicas);
        for act in acts {
            match act {
                Act::Deployment => drop(sim.deployment("web")),
                Act::Sets => {
                    for set in sim.all(Kind::ReplicaSet) {
                        sim.replica_set(set.name());
                    }
                }
                Act::Ready(at) => {
                    let pods = sim.active();
                    if let Some(pod) = pods.get(at % pods.len().max(1)).filter(|pod| image(pod) != "i3") {
                        sim.set_ready(pod, true);
                    }
                }
                Act::Reap => drop(sim.reap()),
                Act::Template(number) => drop(sim.put(web(&format!("i{number}"), replicas, strategy.clone()))),
            }
            let (most, least) = ((replicas + surge) as usize, (replicas - unavailable) as usize);
            prop_assert!(sim.active().len() <= most, "{} pods of at most {most}", sim.active().len());
            prop_assert!(sim.available() >= least, "{} available of at least {least}", sim.available());
        }
        sim.put(web("last", replicas, strategy));
        sim.settle("web", |pod| image(pod) != "i3");
        prop_assert!(sim.active().iter().all(|pod| image(pod) == "last"));
        prop_assert_eq!(sim.available(), replicas as usize);
        prop_assert!(sim.deployment("web").is_empty());
    }
}
