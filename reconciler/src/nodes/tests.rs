use schemas::Key;
use serde_json::{Value, json};
use store::Op;

use super::*;
use crate::{evictions, plan::Step, simulation::Simulation};

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
        let mut life = Self {
            sim: Simulation::new(),
            silence: Vec::new(),
            seen: Seen::default(),
        };
        for (name, silence) in nodes {
            life.add(node(name), *silence);
        }
        life
    }

    fn add(&mut self, node: Value, silence: u64) {
        let name = node["metadata"]["name"].as_str().expect("it has one").to_owned();
        self.sim.put(node);
        let pod = self.sim.put(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a"},
            "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": name},
            "status": {"phase": "Running", "conditions": [{"type": "ContainersReady", "status": "True"}]},
        }));
        self.sim.set_ready(&pod, true);
        self.silence.push((name, silence));
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

    /// How many nodes are given up.
    fn given_up(&self) -> usize {
        let names = self.silence.iter().map(|(name, _)| name);
        names
            .filter(|name| self.has(name, TAINT_UNREACHABLE, "NoExecute"))
            .count()
    }

    fn look(&mut self) -> Plan {
        let seats = self.silence.iter().map(|(name, silence)| Seat {
            node: self.node(name),
            silence: Duration::from_secs(*silence),
        });
        let world = World {
            nodes: seats.collect(),
            seen: self.seen.clone(),
        };
        let plan = plan(&world, self.sim.now);
        self.sim.apply(&plan);
        for (name, _) in &self.silence {
            let found: Vec<String> = taints(&self.node(name))
                .into_iter()
                .filter(|taint| taint.effect == "NoExecute")
                .map(|taint| taint.key)
                .collect();
            let seen = self.seen.entry(name.as_str().into()).or_default();
            seen.retain(|key, _| found.contains(key));
            for key in found {
                seen.entry(key).or_insert(self.sim.now.monotonic);
            }
        }
        plan
    }

    /// Looks at the pods of a node.
    fn look_at(&mut self, name: &str) -> Plan {
        let node = self.node(name);
        let world = evictions::World {
            pods: self.sim.find(schemas::Kind::Pod, name).into_iter().collect(),
            seen: self.seen.get(name).cloned().unwrap_or_default(),
            node,
        };
        let plan = evictions::plan(&world, self.sim.now);
        self.sim.apply(&plan);
        plan
    }

    fn settle(&mut self) {
        let names: Vec<String> = self.silence.iter().map(|(name, _)| name.clone()).collect();
        for _ in 0..20 {
            let mut idle = self.look().is_empty();
            for name in &names {
                idle &= self.look_at(name).is_empty();
            }
            if idle {
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
    assert_eq!(life.given_up(), 1);
    life.pass(9);
    life.settle();
    assert_eq!(life.given_up(), 1);
    life.pass(1);
    life.settle();
    assert_eq!(life.given_up(), 2);
    let mut life = Life::new(&[("a", 60), ("b", 60), ("c", 60), ("d", 0), ("e", 0)]);
    life.settle();
    assert_eq!(life.given_up(), 0);
}

#[test]
fn a_large_zone_that_is_mostly_gone_is_given_up_slowly() {
    let mut life = Life::new(&[]);
    for at in 0..60 {
        life.add(node(&format!("n{at:02}")), if at < 40 { 60 } else { 0 });
    }
    life.settle();
    assert_eq!(life.given_up(), 1);
    life.pass(99);
    life.settle();
    assert_eq!(life.given_up(), 1);
    life.pass(1);
    life.settle();
    assert_eq!(life.given_up(), 2);
}

#[test]
fn each_zone_is_paced_by_itself() {
    let in_zone = |name: &str, zone: &str| {
        let mut node = node(name);
        node["metadata"]["labels"] = json!({labels::ZONE: zone});
        node
    };
    let mut life = Life::new(&[]);
    for (name, zone, silence) in [
        // All of this one is gone while others are well.
        ("a1", "a", 60),
        ("a2", "a", 60),
        // Most of this one is.
        ("b1", "b", 60),
        ("b2", "b", 60),
        ("b3", "b", 60),
        ("b4", "b", 0),
        // One of this one is.
        ("c1", "c", 60),
        ("c2", "c", 0),
        ("c3", "c", 0),
    ] {
        life.add(in_zone(name, zone), silence);
    }
    let gone = |life: &Life| {
        let names = life.silence.iter().map(|(name, _)| name.clone());
        let gone: Vec<String> = names
            .filter(|name| life.has(name, TAINT_UNREACHABLE, "NoExecute"))
            .collect();
        gone.join(" ")
    };
    life.settle();
    assert_eq!(gone(&life), "a1 c1");
    life.pass(10);
    life.settle();
    assert_eq!(gone(&life), "a1 a2 c1");
    life.pass(1_000);
    life.settle();
    assert_eq!(gone(&life), "a1 a2 c1", "a small zone that is mostly gone waits");
}

#[test]
fn when_the_last_node_falls_silent_too_nobody_is_given_up_any_more() {
    let mut life = Life::new(&[("a", 60), ("b", 0)]);
    life.settle();
    assert_eq!(life.given_up(), 1);
    life.silence[1].1 = 60;
    life.settle();
    assert_eq!(life.given_up(), 0, "the fault is ours, and what was begun ends");
    life.pass(1_000);
    life.settle();
    assert!(!life.pod("a").is_deleting());
    life.silence[1].1 = 0;
    life.settle();
    life.pass(299);
    life.settle();
    assert!(!life.pod("a").is_deleting(), "its time begins anew");
    life.pass(1);
    life.settle();
    assert!(life.pod("a").is_deleting());
}

#[test]
fn conditions_keep_new_pods_away() {
    let mut life = Life::new(&[("a", 0)]);
    let pressed = |value: &str| {
        json!([
            {"type": "Ready", "status": "True", "reason": "AgentReady"},
            {"type": "MemoryPressure", "status": value}, {"type": "DiskPressure", "status": value},
            {"type": "PIDPressure", "status": value}, {"type": "NetworkUnavailable", "status": value},
        ])
    };
    for (value, expected) in [("True", 4), ("False", 0), ("Unknown", 0)] {
        let mut node = Object::clone(&life.node("a"));
        node.status = Some(json!({"conditions": pressed(value)}).into());
        life.sim.objects.insert(node.key(), Arc::new(node));
        life.settle();
        let taints = taints(&life.node("a"));
        assert_eq!(taints.len(), expected, "{value}: {taints:?}");
        assert!(taints.iter().all(|taint| taint.effect == "NoSchedule"));
        assert!(!life.pod("a").is_deleting());
    }
}

#[test]
fn a_node_whose_agent_says_that_it_is_not_ready_is_tainted_so() {
    let mut life = Life::new(&[("a", 0), ("b", 0)]);
    let mut node = Object::clone(&life.node("b"));
    node.status = Some(json!({"conditions": [{"type": "Ready", "status": "False"}]}).into());
    life.sim.objects.insert(node.key(), Arc::new(node));
    life.settle();
    assert!(life.has("b", TAINT_NOT_READY, "NoSchedule") && life.has("b", TAINT_NOT_READY, "NoExecute"));
    life.pass(300);
    life.settle();
    assert!(life.pod("b").is_deleting());
    let why = condition(&life.pod("b"), "DisruptionTarget").expect("it says why");
    assert_eq!(why["reason"], "DeletionByTaintManager");
}

#[test]
fn a_taint_by_hand_evicts_what_does_not_tolerate_it_and_stays() {
    let mut life = Life::new(&[("a", 0), ("b", 0)]);
    for (taint, goes) in [
        (json!({"key": "own", "effect": "NoSchedule"}), false),
        (json!({"key": "own", "effect": "NoExecute"}), true),
    ] {
        let mut tainted = life.node("a").to_value();
        tainted["spec"]["taints"] = json!([taint]);
        life.sim.put(tainted);
        life.settle();
        assert_eq!(life.pod("a").is_deleting(), goes);
        assert_eq!(taints(&life.node("a")).len(), 1);
    }
    assert!(!life.pod("b").is_deleting());
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
