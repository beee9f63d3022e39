use serde_json::json;

use super::*;
use crate::simulation::Simulation;

#[test]
fn what_it_is_given_goes_at_once_and_nothing_else() {
    let mut sim = Simulation::new();
    let mut pod = |name: &str, phase: &str| {
        sim.put(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a"},
            "spec": {"containers": [], "nodeName": "gone", "terminationGracePeriodSeconds": 30}, "status": {"phase": phase},
        }))
    };
    let world = World {
        beyond: vec![pod("done", "Succeeded")],
        lost: vec![pod("lost", "Running")],
        next: Some(std::time::Duration::from_secs(1_040)),
    };
    pod("kept", "Running");
    let plan = plan(&world, sim.now);
    assert_eq!(plan.requeue_after, Some(QUARANTINE));
    sim.apply(&plan);
    let left: Vec<_> = sim.objects.keys().map(|key| key.name.to_string()).collect();
    assert_eq!(left, ["kept"]);
}

#[test]
fn a_pod_that_is_to_be_counted_fails_first() {
    let mut sim = Simulation::new();
    let pod = sim.put(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a", "finalizers": ["example.com/count"]},
        "spec": {"containers": [], "nodeName": "gone"}, "status": {"phase": "Running"},
    }));
    let world = |pod: Arc<Object>| World {
        lost: vec![pod],
        ..World::default()
    };
    let first = plan(&world(pod), sim.now);
    assert_eq!(first.requeue_after, Some(std::time::Duration::ZERO));
    sim.apply(&first);
    let failed = sim.get(schemas::Kind::Pod, "p");
    assert!(!failed.is_deleting() && is_finished(&failed) && crate::pods::is_disrupted(&failed));
    sim.apply(&plan(&world(failed), sim.now));
    assert!(sim.get(schemas::Kind::Pod, "p").is_deleting());
}
