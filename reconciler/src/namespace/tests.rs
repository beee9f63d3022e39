use super::*;
use crate::simulation::Simulation;

fn look(sim: &mut Simulation, name: &str) -> Plan {
    look_by(sim, name, Manifests::Unknown)
}

fn look_by(sim: &mut Simulation, name: &str, manifests: Manifests) -> Plan {
    let namespace = sim.objects.get(&key(name)).cloned();
    let inside = sim.objects.values().filter(|object| object.namespace() == name);
    let world = World {
        name: name.into(),
        manifests,
        contents: inside.cloned().collect(),
        namespace,
        lacks: Lacks::default(),
    };
    let plan = plan(&world, sim.now, &mut sim.ids);
    sim.apply(&plan);
    plan
}

#[test]
fn default_is_made_and_nothing_else_is() {
    let mut sim = Simulation::new();
    look(&mut sim, DEFAULT);
    assert_eq!(
        sim.objects[&key(DEFAULT)].status_value().expect("there")["phase"],
        "Active"
    );
    assert!(look(&mut sim, DEFAULT).is_empty());
    assert!(look(&mut sim, "other").is_empty());
}

#[test]
fn a_deleted_namespace_empties_itself_and_goes_last() {
    let mut sim = Simulation::new();
    sim.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}));
    sim.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "a"}}));
    sim.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "b"}}));
    let pod = sim.put(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"},
        "spec": {"containers": [], "nodeName": "n"}, "status": {"phase": "Running"},
    }));
    assert!(look(&mut sim, "a").is_empty(), "it is not being deleted");
    let space = sim.objects[&key("a")].clone();
    let mut delete = Plan::default();
    delete.writes(
        Class::User,
        "test",
        owners::delete(&space, None, sim.now).into_iter().collect(),
    );
    sim.apply(&delete);
    look(&mut sim, "a");
    assert_eq!(
        sim.objects[&key("a")].status_value().expect("there")["phase"],
        "Terminating"
    );
    look(&mut sim, "a");
    assert!(sim.objects[&pod.key()].is_deleting(), "its node stops it first");
    let waits = look(&mut sim, "a");
    assert!(waits.is_empty() && waits.waiting.len() == 1);
    sim.reap();
    look(&mut sim, "a");
    assert!(!sim.objects.contains_key(&key("a")));
    assert_eq!(sim.objects.len(), 1, "what is in another namespace stays");
}

#[test]
fn an_implicit_namespace_goes_once_it_is_unused_and_empty() {
    let mut sim = Simulation::new();
    let made = implicit("a", sim.now, &mut sim.ids);
    sim.objects.insert(made.key(), Arc::new(made));
    let pod = sim.put(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"}, "spec": {"containers": []},
    }));
    for manifests in [Manifests::Unknown, Manifests::Declare, Manifests::Use] {
        assert!(look_by(&mut sim, "a", manifests).is_empty(), "{manifests:?}");
    }
    let plan = look_by(&mut sim, "a", Manifests::Nothing);
    let (key, reason) = &plan.waiting[0];
    assert!(
        *key == super::key("a") && reason.to_string().contains("Pod a/p"),
        "it says what keeps it: {reason}"
    );
    sim.objects.remove(&pod.key());
    look_by(&mut sim, "a", Manifests::Nothing);
    assert!(sim.objects[&super::key("a")].is_deleting());
    look_by(&mut sim, "a", Manifests::Nothing);
    look_by(&mut sim, "a", Manifests::Nothing);
    assert!(!sim.objects.contains_key(&super::key("a")));
}

#[test]
fn one_that_somebody_made_by_hand_stays() {
    let mut sim = Simulation::new();
    sim.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}));
    assert!(look_by(&mut sim, "a", Manifests::Nothing).is_empty());
}

#[test]
fn a_namespace_without_its_manifest_loses_what_that_declared_and_stays_for_those_that_use_it() {
    let mut sim = Simulation::new();
    let declared = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": {"x": "z"}}});
    let mut fresh = fresh("a", sim.now, &mut sim.ids);
    fresh.version = 1;
    let applied = apply::apply(
        Some(&fresh.to_value()),
        &declared,
        labels::MANAGER,
        Kind::Namespace,
        sim.now.wall,
        true,
    );
    let object = Object::from_value(applied.expect("it applies").object).expect("it is valid");
    assert!(release::is_managed(&object));
    sim.objects.insert(object.key(), Arc::new(object));
    look_by(&mut sim, "a", Manifests::Use);
    let after = sim.objects[&key("a")].clone();
    let found = after.meta.labels.clone().unwrap_or_default();
    assert!(!found.contains_key("x"), "{found:?}");
    assert!(
        found.contains_key(labels::NAMESPACE_NAME),
        "what the server set stays: {found:?}"
    );
    assert!(is_implicit(&after) && !release::is_managed(&after));
    assert!(look_by(&mut sim, "a", Manifests::Use).is_empty());
}

#[test]
fn a_namespace_gets_what_it_lacks_and_one_that_goes_does_not() {
    let mut sim = Simulation::new();
    let namespace = sim.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}));
    let mut world = World {
        name: "a".into(),
        namespace: Some(namespace),
        lacks: Lacks {
            account: true,
            root_ca: Some(("pem".into(), None)),
        },
        ..World::default()
    };
    let furnished = plan(&world, sim.now, &mut sim.ids);
    sim.apply(&furnished);
    assert!(is_companion(&sim.get(Kind::ServiceAccount, "default")));
    let told = sim.get(Kind::ConfigMap, admission::ROOT_CA);
    assert_eq!(told.body.part().value(), json!({"data": {"ca.crt": "pem"}}));
    world.lacks = Lacks {
        account: false,
        root_ca: Some(("new".into(), Some(told))),
    };
    let renewed = plan(&world, sim.now, &mut sim.ids);
    sim.apply(&renewed);
    let told = sim.get(Kind::ConfigMap, admission::ROOT_CA);
    assert_eq!(told.body.part().value(), json!({"data": {"ca.crt": "new"}}));

    let going = implicit("b", sim.now, &mut sim.ids);
    let world = World {
        name: "b".into(),
        namespace: Some(sim.put(going.to_value())),
        manifests: Manifests::Nothing,
        lacks: Lacks {
            account: true,
            root_ca: None,
        },
        ..World::default()
    };
    let plan = plan(&world, sim.now, &mut sim.ids);
    sim.apply(&plan);
    assert!(
        !sim.all(Kind::ServiceAccount)
            .iter()
            .any(|account| account.namespace() == "b")
    );
}
