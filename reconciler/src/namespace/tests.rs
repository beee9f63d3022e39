use super::*;
use crate::simulation::Simulation;

fn look(sim: &mut Simulation, name: &str) -> Plan {
    let namespace = sim.objects.get(&key(name)).cloned();
    let inside = sim.objects.values().filter(|object| object.namespace() == name);
    let world = World {
        name: name.into(),
        contents: inside.cloned().collect(),
        namespace,
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
        sim.objects[&key(DEFAULT)].status.clone().expect("there")["phase"],
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
        sim.objects[&key("a")].status.clone().expect("there")["phase"],
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
