use schemas::Key;
use serde_json::{Value, json};
use store::Op;

use super::*;
use crate::{plan::Step, simulation::Simulation};

fn node(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "AgentReady"}]},
    })
}

/// Nodes with their silence in seconds; each with one ready pod.
struct Life {
    sim: Simulation,
    silence: Vec<(String, u64)>,
    seen: Seen,
}

impl Life {
    fn new(nodes: &[(&str, u64)]) -> Self {
        let mut sim = Simulation::new();
        for (name, _) in nodes {
            sim.put(node(name));
            let pod = sim.put(json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a"},
                "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": name},
                "status": {"phase": "Running", "conditions": [{"type": "ContainersReady", "status": "True"}]},
            }));
            sim.set_ready(&pod, true);
        }
        Self {
            sim,
            silence: nodes
                .iter()
                .map(|(name, silence)| ((*name).to_owned(), *silence))
                .collect(),
            seen: Seen::default(),
        }
    }

    fn node(&self, name: &str) -> Arc<Object> {
        self.sim.objects[&Key::cluster(schemas::Kind::Node, name)].clone()
    }

    fn pod(&self, name: &str) -> Arc<Object> {
        self.sim.get(schemas::Kind::Pod, name)
    }

    fn has(&self, name: &str, key: &str, effect: &str) -> bool {
        taints(&self.node(name))
            .iter()
            .any(|taint| taint.key == key && taint.effect == effect)
    }

    fn look(&mut self) -> Plan {
        let seats = self.silence.iter().map(|(name, silence)| Seat {
            node: self.node(name),
            silence: Duration::from_secs(*silence),
            pods: self
                .sim
                .objects
                .get(&Key::namespaced(schemas::Kind::Pod, "a", name))
                .cloned()
                .into_iter()
                .collect(),
        });
        let world = World {
            nodes: seats.collect(),
            seen: self.seen.clone(),
        };
        let plan = plan(&world, self.sim.now);
        self.sim.apply(&plan);
        for (name, _) in &self.silence {
            for taint in taints(&self.node(name))
                .iter()
                .filter(|taint| taint.effect == "NoExecute")
            {
                self.seen
                    .entry((name.as_str().into(), taint.key.clone()))
                    .or_insert(self.sim.now.monotonic);
            }
        }
        plan
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            if self.look().is_empty() {
                return;
            }
        }
        panic!("it does not settle");
    }

    fn pass(&mut self, seconds: u64) {
        self.sim.now = self.sim.now.after(Duration::from_secs(seconds));
    }
}

#[test]
fn a_silent_node_turns_unknown_is_tainted_and_loses_its_pods_after_their_toleration() {
    let mut life = Life::new(&[("a", 0), ("b", 49), ("c", 0)]);
    let plan = life.look();
    assert!(plan.is_empty());
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(1)));
    life.silence[1].1 = 50;
    life.settle();
    assert_eq!(condition(&life.node("b"), "Ready").expect("there")["status"], "Unknown");
    assert!(life.has("b", TAINT_UNREACHABLE, "NoSchedule") && life.has("b", TAINT_UNREACHABLE, "NoExecute"));
    assert_eq!(condition(&life.pod("b"), "Ready").expect("there")["status"], "False");
    assert!(!life.pod("b").is_deleting());
    life.pass(299);
    life.settle();
    assert!(!life.pod("b").is_deleting());
    life.pass(1);
    life.settle();
    assert!(life.pod("b").is_deleting());
    assert!(!life.pod("a").is_deleting() && taints(&life.node("a")).is_empty());
}

#[test]
fn a_node_that_comes_back_is_as_before() {
    let mut life = Life::new(&[("a", 0), ("b", 60)]);
    life.settle();
    life.silence[1].1 = 0;
    life.settle();
    assert_eq!(condition(&life.node("b"), "Ready").expect("there")["status"], "True");
    assert_eq!(condition(&life.pod("b"), "Ready").expect("there")["status"], "True");
    assert!(taints(&life.node("b")).is_empty());
}

#[test]
fn nothing_is_evicted_when_all_nodes_are_silent() {
    let mut life = Life::new(&[("a", 60), ("b", 60)]);
    life.settle();
    life.pass(1_000);
    life.settle();
    for name in ["a", "b"] {
        assert!(!life.has(name, TAINT_UNREACHABLE, "NoExecute"));
        assert!(!life.pod(name).is_deleting());
    }
}

#[test]
fn nodes_are_given_up_one_by_one_and_not_at_all_when_most_are_gone_in_a_small_cluster() {
    let mut life = Life::new(&[("a", 60), ("b", 60), ("c", 0), ("d", 0), ("e", 0)]);
    life.settle();
    let given_up = |life: &Life| {
        ["a", "b", "c", "d"]
            .iter()
            .filter(|name| life.has(name, TAINT_UNREACHABLE, "NoExecute"))
            .count()
    };
    assert_eq!(given_up(&life), 1);
    life.pass(9);
    life.settle();
    assert_eq!(given_up(&life), 1);
    life.pass(1);
    life.settle();
    assert_eq!(given_up(&life), 2);
    let mut life = Life::new(&[("a", 60), ("b", 60), ("c", 60), ("d", 0), ("e", 0)]);
    life.settle();
    assert_eq!(given_up(&life), 0);
}

#[test]
fn a_cordon_becomes_a_taint_and_goes_with_it() {
    let mut life = Life::new(&[("a", 0)]);
    let mut cordoned = node("a");
    cordoned["spec"]["unschedulable"] = true.into();
    let status = life.node("a").status.clone();
    life.sim.put(cordoned);
    assert_eq!(life.node("a").status, status);
    life.settle();
    assert!(life.has("a", TAINT_UNSCHEDULABLE, "NoSchedule"));
    let mut open = life.node("a").to_value();
    open["spec"]["unschedulable"] = false.into();
    life.sim.put(open);
    life.settle();
    assert!(taints(&life.node("a")).is_empty());
}

#[test]
fn a_pressure_becomes_a_taint_and_goes_with_it() {
    for (kind, key) in PRESSURES {
        let mut life = Life::new(&[("a", 0)]);
        for (status, tainted) in [("True", true), ("Unknown", false), ("True", true), ("False", false)] {
            let mut under = life.node("a").to_value();
            under["status"]["conditions"] = json!([
                {"type": "Ready", "status": "True", "reason": "AgentReady"}, {"type": kind, "status": status},
            ]);
            life.sim.put(under);
            life.settle();
            assert_eq!(life.has("a", key, "NoSchedule"), tainted, "{kind} {status}");
            assert_eq!(taints(&life.node("a")).len(), usize::from(tainted));
        }
    }
}

#[test]
fn a_plan_only_touches_nodes_and_their_pods() {
    let mut life = Life::new(&[("a", 0), ("b", 60)]);
    let plan = life.look();
    for step in &plan.steps {
        let Step::Write { writes, .. } = step else {
            panic!("only writes")
        };
        assert!(
            writes
                .iter()
                .all(|write| matches!(&write.op, Op::Status { key, .. } if &*key.name == "b"))
        );
    }
}
