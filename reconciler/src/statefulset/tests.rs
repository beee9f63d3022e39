use std::time::Duration;

use proptest::prelude::*;
use schemas::{Key, Kind, Object, labels};
use serde_json::{Value, json};
use store::Op;

use super::{claims, identity};
use crate::{
    plan::{Plan, Step},
    pods, revision,
    simulation::Simulation,
};

fn db(image: &str, replicas: i32, more: Value) -> Value {
    let mut value = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "a"},
        "spec": {
            "replicas": replicas,
            "serviceName": "peers",
            "selector": {"matchLabels": {"app": "db"}},
            "template": {
                "metadata": {"labels": {"app": "db"}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    });
    for (field, part) in more.as_object().into_iter().flatten() {
        value["spec"][field] = part.clone();
    }
    value
}

fn with_claims(more: Value) -> Value {
    let mut value = json!({"volumeClaimTemplates": [{
        "metadata": {"name": "data", "labels": {"own": "yes"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }]});
    for (field, part) in more.as_object().into_iter().flatten() {
        value[field] = part.clone();
    }
    value
}

fn settle_if(sim: &mut Simulation, works: impl Fn(&Object) -> bool) {
    sim.settle_with(works, |sim| sim.stateful_set("db").is_empty());
}

fn settle(sim: &mut Simulation) {
    settle_if(sim, |_| true);
}

fn image(pod: &Object) -> String {
    pod.body.value()["spec"]["containers"][0]["image"]
        .as_str()
        .unwrap_or("")
        .to_owned()
}

/// Names and images of the pods, by ordinal.
fn row(sim: &Simulation) -> Vec<(i64, String)> {
    let mut row: Vec<_> = sim
        .active()
        .iter()
        .map(|pod| (identity::ordinal("db", pod.name()).expect("it has one"), image(pod)))
        .collect();
    row.sort();
    row
}

fn images(sim: &Simulation) -> Vec<String> {
    row(sim).into_iter().map(|(_, image)| image).collect()
}

fn status(sim: &Simulation) -> Value {
    let set = sim.get(Kind::StatefulSet, "db");
    set.status_value().unwrap_or_default()
}

fn ready(sim: &mut Simulation, name: &str) {
    let pod = sim.get(Kind::Pod, name);
    sim.set_ready(&pod, true);
}

#[test]
fn ordinals_are_read_from_names() {
    for (name, expected) in [
        ("db-0", Some(0)),
        ("db-12", Some(12)),
        ("db-012", None),
        ("db--1", None),
        ("db-", None),
        ("db", None),
        ("db-a", None),
        ("web-0", None),
        ("db-0-0", None),
    ] {
        assert_eq!(identity::ordinal("db", name), expected, "{name}");
    }
    for (claim, set, expected) in [
        ("data-db-0", "db", true),
        ("data-db-x", "db", false),
        ("db-0", "db", false),
        ("-db-0", "db", false),
        ("data-other-db-1", "db", true),
        ("data-other-1", "db", false),
    ] {
        assert_eq!(claims::may_belong(claim, set), expected, "{claim} of {set}");
    }
}

#[test]
fn pods_come_one_after_the_other_with_their_identity() {
    let mut sim = Simulation::new();
    sim.put(db("one", 3, json!({})));
    for next in 0..3 {
        sim.stateful_set("db");
        assert_eq!(row(&sim).len(), next + 1);
        sim.stateful_set("db");
        assert_eq!(row(&sim).len(), next + 1, "the next one waits for this one");
        ready(&mut sim, &format!("db-{next}"));
    }
    settle(&mut sim);
    let revision = &sim.all(Kind::ControllerRevision)[0];
    let pod = sim.get(Kind::Pod, "db-1");
    for (label, value) in [
        (labels::STATEFULSET_POD_NAME, "db-1"),
        (labels::POD_INDEX, "1"),
        (labels::CONTROLLER_REVISION_HASH, revision.name()),
        ("app", "db"),
    ] {
        assert_eq!(pod.label(label), Some(value), "{label}");
    }
    assert!(revision.label(labels::REVISION_HASH).is_some());
    assert_eq!(pod.meta.generate_name, None);
    let spec = pod.body.value().remove("spec").expect("it has one");
    assert_eq!(spec["hostname"], "db-1");
    assert_eq!(spec["subdomain"], "peers");
    let full = status(&sim);
    for (field, value) in [
        ("replicas", json!(3)),
        ("readyReplicas", json!(3)),
        ("availableReplicas", json!(3)),
        ("currentReplicas", json!(3)),
        ("updatedReplicas", json!(3)),
        ("observedGeneration", json!(1)),
        ("currentRevision", json!(revision.name())),
        ("updateRevision", json!(revision.name())),
        ("collisionCount", json!(0)),
    ] {
        assert_eq!(full[field], value, "{field}");
    }
    assert!(sim.stateful_set("db").is_empty());
}

#[test]
fn parallel_pods_come_and_go_at_once() {
    let mut sim = Simulation::new();
    let parallel = json!({"podManagementPolicy": "Parallel"});
    sim.put(db("one", 5, parallel.clone()));
    sim.stateful_set("db");
    assert_eq!(row(&sim).len(), 5);
    settle(&mut sim);
    sim.put(db("one", 1, parallel));
    sim.stateful_set("db");
    assert_eq!(row(&sim), [(0, "one".into())]);
}

#[test]
fn ordinals_may_start_elsewhere() {
    let mut sim = Simulation::new();
    sim.put(db("one", 2, json!({"ordinals": {"start": 3}})));
    settle(&mut sim);
    assert_eq!(row(&sim), [(3, "one".into()), (4, "one".into())]);
    // A partition counts places, not ordinals.
    sim.put(db(
        "two",
        2,
        json!({"ordinals": {"start": 3}, "updateStrategy": {"rollingUpdate": {"partition": 1}}}),
    ));
    settle(&mut sim);
    assert_eq!(row(&sim), [(3, "one".into()), (4, "two".into())]);
    sim.put(db("two", 2, json!({"ordinals": {"start": 4}})));
    settle(&mut sim);
    assert_eq!(row(&sim), [(4, "two".into()), (5, "two".into())]);
}

#[test]
fn pods_go_from_the_highest_ordinal_one_at_a_time() {
    let mut sim = Simulation::new();
    sim.put(db("one", 3, json!({})));
    settle(&mut sim);
    sim.put(db("one", 1, json!({})));
    sim.stateful_set("db");
    assert_eq!(row(&sim).len(), 2);
    assert!(sim.get(Kind::Pod, "db-2").is_deleting());
    sim.stateful_set("db");
    assert_eq!(row(&sim).len(), 2, "the next one waits until it is gone");
    sim.reap();
    sim.stateful_set("db");
    assert!(sim.get(Kind::Pod, "db-1").is_deleting());
    settle(&mut sim);
    assert_eq!(status(&sim)["replicas"], 1);
}

#[test]
fn scaling_in_waits_for_those_that_stay() {
    let mut sim = Simulation::new();
    sim.put(db("one", 3, json!({})));
    settle(&mut sim);
    let first = sim.get(Kind::Pod, "db-0");
    sim.set_ready(&first, false);
    sim.put(db("one", 1, json!({})));
    sim.stateful_set("db");
    assert_eq!(row(&sim).len(), 3);
    ready(&mut sim, "db-0");
    settle(&mut sim);
    assert_eq!(row(&sim).len(), 1);
}

#[test]
fn an_update_goes_from_the_highest_ordinal_down() {
    let mut sim = Simulation::new();
    sim.put(db("one", 3, json!({})));
    settle(&mut sim);
    let old = status(&sim)["currentRevision"].clone();
    sim.put(db("two", 3, json!({})));
    let mut seen = Vec::new();
    for _ in 0..20 {
        sim.stateful_set("db");
        sim.reap();
        sim.stateful_set("db");
        if seen.last() != Some(&images(&sim)) {
            seen.push(images(&sim));
        }
        assert!(sim.available() >= 2, "one at a time");
        for pod in sim.active() {
            sim.set_ready(&pod, true);
        }
        if status(&sim)["updatedReplicas"] == 1 {
            assert_eq!(status(&sim)["currentRevision"], old);
            assert_eq!(status(&sim)["currentReplicas"], 2);
        }
    }
    assert_eq!(
        seen,
        [["one", "one", "two"], ["one", "two", "two"], ["two", "two", "two"]]
    );
    let done = status(&sim);
    assert_ne!(done["currentRevision"], old);
    assert_eq!(done["currentRevision"], done["updateRevision"]);
    assert_eq!(done["currentReplicas"], 3);
    assert!(sim.stateful_set("db").is_empty());
}

#[test]
fn below_the_partition_the_old_template_stays_also_for_pods_made_anew() {
    let mut sim = Simulation::new();
    let partition = |at: i32| json!({"updateStrategy": {"rollingUpdate": {"partition": at}}});
    sim.put(db("one", 4, partition(2)));
    settle(&mut sim);
    sim.put(db("two", 4, partition(2)));
    settle(&mut sim);
    assert_eq!(images(&sim), ["one", "one", "two", "two"]);
    assert_ne!(status(&sim)["currentRevision"], status(&sim)["updateRevision"]);
    for name in ["db-0", "db-3"] {
        sim.objects.remove(&Key::namespaced(Kind::Pod, "a", name));
    }
    settle(&mut sim);
    assert_eq!(images(&sim), ["one", "one", "two", "two"]);
    sim.put(db("two", 4, partition(9)));
    settle(&mut sim);
    assert_eq!(images(&sim), ["one", "one", "two", "two"], "nothing goes back");
    sim.put(db("two", 4, partition(0)));
    settle(&mut sim);
    assert_eq!(images(&sim), ["two", "two", "two", "two"]);
    assert_eq!(status(&sim)["currentRevision"], status(&sim)["updateRevision"]);
}

#[test]
fn with_on_delete_old_pods_stay_until_somebody_deletes_them() {
    let mut sim = Simulation::new();
    let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
    sim.put(db("one", 2, on_delete.clone()));
    settle(&mut sim);
    sim.put(db("two", 2, on_delete));
    settle(&mut sim);
    assert_eq!(images(&sim), ["one", "one"]);
    sim.objects.remove(&Key::namespaced(Kind::Pod, "a", "db-0"));
    settle(&mut sim);
    assert_eq!(images(&sim), ["two", "one"]);
}

#[test]
fn several_pods_may_be_replaced_at_once() {
    let mut sim = Simulation::new();
    let two =
        json!({"podManagementPolicy": "Parallel", "updateStrategy": {"rollingUpdate": {"maxUnavailable": "40%"}}});
    sim.put(db("one", 5, two.clone()));
    settle(&mut sim);
    sim.put(db("two", 5, two));
    sim.stateful_set("db");
    assert_eq!(row(&sim).iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 1, 2]);
    settle(&mut sim);
    assert_eq!(images(&sim), ["two"; 5]);
}

#[test]
fn a_template_that_does_not_work_is_overtaken_by_the_next_one() {
    let mut sim = Simulation::new();
    sim.put(db("one", 3, json!({})));
    settle(&mut sim);
    sim.put(db("broken", 3, json!({})));
    settle_if(&mut sim, |pod| image(pod) != "broken");
    assert_eq!(images(&sim), ["one", "one", "broken"], "the others wait");
    sim.put(db("two", 3, json!({})));
    settle_if(&mut sim, |pod| image(pod) != "broken");
    assert_eq!(images(&sim), ["two", "two", "two"]);
}

#[test]
fn a_pod_is_available_once_it_was_ready_for_long_enough() {
    let mut sim = Simulation::new();
    sim.put(db("one", 2, json!({"minReadySeconds": 10})));
    settle(&mut sim);
    assert_eq!(row(&sim).len(), 1);
    assert_eq!(status(&sim)["readyReplicas"], 1);
    assert_eq!(status(&sim)["availableReplicas"], 0);
    assert_eq!(sim.stateful_set("db").requeue_after, Some(Duration::from_secs(10)));
    sim.now = sim.now.after(Duration::from_secs(10));
    settle(&mut sim);
    assert_eq!(row(&sim).len(), 2);
}

#[test]
fn pods_that_ended_are_made_anew_and_wait_longer_each_time() {
    let mut sim = Simulation::new();
    sim.put(db("one", 1, json!({})));
    settle(&mut sim);
    let mut waits = Vec::new();
    for _ in 0..3 {
        let pod = sim.get(Kind::Pod, "db-0");
        sim.finish(&pod, "Failed");
        let plan = sim.stateful_set("db");
        let wait = plan.requeue_after.unwrap_or_default();
        waits.push(wait.as_secs());
        sim.now = sim.now.after(wait);
        sim.stateful_set("db");
        sim.reap();
        settle(&mut sim);
        assert_ne!(sim.get(Kind::Pod, "db-0").uid(), pod.uid());
    }
    assert_eq!(waits, [0, 1, 2]);
    let pod = sim.get(Kind::Pod, "db-0");
    sim.finish(&pod, "Succeeded");
    settle(&mut sim);
    assert_ne!(sim.get(Kind::Pod, "db-0").uid(), pod.uid());
}

#[test]
fn labels_that_were_taken_off_come_back() {
    let mut sim = Simulation::new();
    sim.put(db("one", 1, json!({})));
    settle(&mut sim);
    let mut pod = Object::clone(&sim.get(Kind::Pod, "db-0"));
    pod.meta
        .labels
        .as_mut()
        .expect("it has some")
        .remove(labels::STATEFULSET_POD_NAME);
    sim.objects.insert(pod.key(), std::sync::Arc::new(pod));
    settle(&mut sim);
    assert_eq!(
        sim.get(Kind::Pod, "db-0").label(labels::STATEFULSET_POD_NAME),
        Some("db-0")
    );
}

#[test]
fn strangers_are_not_adopted_whatever_their_labels() {
    let mut sim = Simulation::new();
    let bare = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a", "labels": {"app": "db"}},
            "spec": {"containers": [{"name": "c", "image": "one"}]},
        })
    };
    sim.put(bare("stranger"));
    sim.put(bare("db-0"));
    sim.put(db("one", 1, json!({})));
    settle(&mut sim);
    assert!(sim.get(Kind::Pod, "stranger").controller().is_none());
    assert!(sim.get(Kind::Pod, "db-0").controller().is_some());
}

#[test]
fn each_pod_has_claims_of_its_own_made_before_it_and_kept() {
    let mut sim = Simulation::new();
    sim.put(db("one", 2, with_claims(json!({}))));
    let plan = sim.stateful_set("db");
    let made: Vec<Kind> = plan
        .steps
        .iter()
        .flat_map(|step| match step {
            Step::Write { writes, .. } => writes.clone(),
            _ => Vec::new(),
        })
        .filter_map(|write| match write.op {
            Op::Create(object) => Some(object.kind),
            _ => None,
        })
        .collect();
    assert_eq!(made, [Kind::ControllerRevision, Kind::PersistentVolumeClaim, Kind::Pod]);
    settle(&mut sim);
    let claim = sim.get(Kind::PersistentVolumeClaim, "data-db-1");
    assert_eq!(claim.label("app"), Some("db"));
    assert_eq!(claim.label("own"), Some("yes"));
    assert_eq!(
        claim.meta.finalizers.as_deref(),
        Some(&vec![labels::PVC_PROTECTION.to_owned()])
    );
    assert!(claim.meta.owner_references.is_none());
    assert_eq!(claim.body.value()["spec"]["volumeMode"], "Filesystem");
    let pod = sim.get(Kind::Pod, "db-1");
    assert_eq!(
        pod.body.value()["spec"]["volumes"],
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-1"}}])
    );
    // Pods and sets come and go; claims stay.
    sim.put(db("one", 0, with_claims(json!({}))));
    settle(&mut sim);
    sim.put(db("one", 2, with_claims(json!({}))));
    settle(&mut sim);
    assert_eq!(sim.get(Kind::PersistentVolumeClaim, "data-db-1").uid(), claim.uid());
}

#[test]
fn a_pod_waits_for_a_claim_that_is_on_its_way_out() {
    let mut sim = Simulation::new();
    sim.put(db("one", 1, with_claims(json!({}))));
    settle(&mut sim);
    let key = Key::namespaced(Kind::PersistentVolumeClaim, "a", "data-db-0");
    let mut claim = Object::clone(&sim.objects[&key]);
    let old = claim.uid();
    claim.meta.deletion_timestamp = claim.meta.creation_timestamp.clone();
    sim.objects.insert(key.clone(), std::sync::Arc::new(claim));
    sim.objects.remove(&Key::namespaced(Kind::Pod, "a", "db-0"));
    let plan = sim.stateful_set("db");
    assert!(row(&sim).is_empty());
    assert_eq!(plan.waiting[0].1.word, "ClaimTerminating");
    sim.objects.remove(&key);
    settle(&mut sim);
    assert_ne!(sim.objects[&key].uid(), old);
    assert_eq!(row(&sim).len(), 1);
}

#[test]
fn the_policy_says_what_claims_go_with() {
    let policy = |deleted: &str, scaled: &str| {
        with_claims(json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}}))
    };
    let owner = |sim: &Simulation, claim: &str| {
        let claim = sim.get(Kind::PersistentVolumeClaim, claim);
        let owners: Vec<String> = claim
            .meta
            .owner_references
            .iter()
            .flatten()
            .map(|it| it.kind.clone())
            .collect();
        owners.join(",")
    };
    for (deleted, scaled, stays, goes) in [
        ("Retain", "Retain", "", ""),
        ("Delete", "Retain", "StatefulSet", "StatefulSet"),
        ("Retain", "Delete", "", "Pod"),
        ("Delete", "Delete", "StatefulSet", "Pod"),
    ] {
        let mut sim = Simulation::new();
        sim.put(db("one", 2, policy(deleted, scaled)));
        settle(&mut sim);
        assert_eq!(owner(&sim, "data-db-1"), stays, "{deleted} {scaled}");
        sim.put(db("one", 1, policy(deleted, scaled)));
        sim.stateful_set("db");
        assert_eq!(owner(&sim, "data-db-0"), stays, "{deleted} {scaled}");
        assert_eq!(owner(&sim, "data-db-1"), goes, "{deleted} {scaled}");
        // It is wanted again before its pod is gone.
        sim.put(db("one", 2, policy(deleted, scaled)));
        sim.stateful_set("db");
        assert_eq!(owner(&sim, "data-db-1"), stays, "{deleted} {scaled}");
        sim.put(db("one", 2, policy("Retain", "Retain")));
        sim.stateful_set("db");
        assert_eq!(owner(&sim, "data-db-0"), "", "{deleted} {scaled}");
    }
}

#[test]
fn a_set_in_deletion_makes_nothing() {
    let mut sim = Simulation::new();
    sim.put(db("one", 2, with_claims(json!({}))));
    settle(&mut sim);
    let mut set = Object::clone(&sim.get(Kind::StatefulSet, "db"));
    set.meta.deletion_timestamp = set
        .meta
        .creation_timestamp
        .clone()
        .or_else(|| sim.get(Kind::Pod, "db-0").meta.creation_timestamp.clone());
    sim.objects.insert(set.key(), std::sync::Arc::new(set));
    sim.objects.remove(&Key::namespaced(Kind::Pod, "a", "db-0"));
    for _ in 0..3 {
        sim.stateful_set("db");
    }
    assert_eq!(row(&sim).len(), 1);
    assert_eq!(status(&sim)["replicas"], 1);
}

#[test]
fn revisions_move_on_with_a_rollback() {
    let mut sim = Simulation::new();
    for (image, expected) in [
        ("one", vec![1]),
        ("two", vec![1, 2]),
        ("one", vec![2, 3]),
        ("three", vec![3, 4]),
    ] {
        sim.put(db(image, 1, json!({"revisionHistoryLimit": 1})));
        settle(&mut sim);
        let mut numbers: Vec<i64> = sim
            .all(Kind::ControllerRevision)
            .iter()
            .map(|it| revision::number(it))
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, expected, "{image}");
    }
}

/// Whatever a plan writes belongs to the set; claims are made and never removed by it.
fn only_its_own(plan: &Plan) {
    for step in &plan.steps {
        let Step::Write { writes, .. } = step else {
            panic!("only writes")
        };
        for write in writes {
            match &write.op {
                Op::Create(object) | Op::Replace(object) if object.kind == Kind::PersistentVolumeClaim => {
                    assert!(object.name().starts_with("data-db-") && !object.is_deleting());
                }
                Op::Create(object) | Op::Replace(object) => {
                    assert!(
                        matches!(object.kind, Kind::Pod | Kind::ControllerRevision),
                        "{object:?}"
                    );
                    assert_eq!(
                        super::controller_of(object),
                        Some(Key::namespaced(Kind::StatefulSet, "a", "db"))
                    );
                }
                Op::Status { key, .. } => assert_eq!(key.kind, Kind::StatefulSet),
                Op::Remove { key } => assert!(key.kind != Kind::PersistentVolumeClaim && key.name.starts_with("db-")),
                Op::Bind { .. } | Op::Retire { .. } => panic!("it neither binds nor retires"),
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Look,
    Ready(usize),
    Broken(usize),
    Reap,
    Template(u8),
    Replicas(i32),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => Just(Act::Look),
        5 => (0usize..8).prop_map(Act::Ready),
        1 => (0usize..8).prop_map(Act::Broken),
        3 => Just(Act::Reap),
        1 => (0u8..3).prop_map(Act::Template),
        1 => (0i32..6).prop_map(Act::Replicas),
    ];
    prop::collection::vec(act, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Ordered pods come only when all before them are available, and go only when none after them is
    /// left; whatever happens, the set ends as it shall be and leaves an empty plan.
    #[test]
    fn the_order_is_kept(acts in acts()) {
        let mut sim = Simulation::new();
        let (mut replicas, mut template) = (3, 0);
        sim.put(db("i0", replicas, with_claims(json!({}))));
        for act in acts {
            match act {
                Act::Look => {
                    let before = sim.all(Kind::Pod);
                    let plan = sim.stateful_set("db");
                    only_its_own(&plan);
                    let after = sim.all(Kind::Pod);
                    let fresh: Vec<_> = after.iter().filter(|pod| before.iter().all(|old| old.uid() != pod.uid())).collect();
                    prop_assert!(fresh.len() <= 1);
                    for pod in fresh {
                        let own = identity::ordinal("db", pod.name()).expect("it has one");
                        for lower in 0..own {
                            let lower = sim.get(Kind::Pod, &format!("db-{lower}"));
                            prop_assert!(pods::is_ready(&lower) && !lower.is_deleting(), "{} came early", pod.name());
                        }
                    }
                    let told = |pod: &Object| before.iter().any(|old| old.uid() == pod.uid() && old.is_deleting());
                    let going = after.iter().filter(|pod| pod.is_deleting() && !told(pod)).count();
                    prop_assert!(going <= 1, "{going} are told to go at once");
                }
                Act::Ready(at) => {
                    if let Some(pod) = sim.active().get(at) {
                        sim.set_ready(pod, true);
                    }
                }
                Act::Broken(at) => {
                    if let Some(pod) = sim.active().get(at) {
                        sim.set_ready(pod, false);
                    }
                }
                Act::Reap => drop(sim.reap()),
                Act::Template(to) => template = to,
                Act::Replicas(to) => replicas = to,
            }
            sim.put(db(&format!("i{template}"), replicas, with_claims(json!({}))));
        }
        settle(&mut sim);
        prop_assert_eq!(images(&sim), vec![format!("i{template}"); replicas as usize]);
        prop_assert!(sim.stateful_set("db").is_empty());
    }

    /// A rolling update of parallel pods never takes more away than it may.
    #[test]
    fn an_update_keeps_its_bounds(
        replicas in 1_i32..8,
        most in 1_usize..4,
        partition in 0_usize..4,
        events in prop::collection::vec(0_usize..100, 0..150),
    ) {
        let strategy = json!({
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": most, "partition": partition}},
        });
        let mut sim = Simulation::new();
        sim.put(db("one", replicas, strategy.clone()));
        settle(&mut sim);
        sim.put(db("two", replicas, strategy));
        let least = (replicas as usize).saturating_sub(most);
        for event in events {
            match event % 4 {
                0 | 1 => only_its_own(&sim.stateful_set("db")),
                2 => {
                    let pods = sim.active();
                    if let Some(pod) = pods.get(event % pods.len().max(1)) {
                        sim.set_ready(pod, true);
                    }
                }
                _ => drop(sim.reap()),
            }
            prop_assert!(sim.available() >= least, "{} of {least}", sim.available());
        }
        settle(&mut sim);
        for (at, image) in row(&sim) {
            prop_assert_eq!(image, if at < partition as i64 { "one" } else { "two" });
        }
        prop_assert!(sim.stateful_set("db").is_empty());
    }
}
