//! Random clusters: the fast way decides as the slow one does.

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    reference::{Known, Placed, priority, sentence},
    *,
};
use crate::plan::Plan;

pub(super) const ZONE: &str = "topology.kubernetes.io/zone";
pub(super) const HOST: &str = "kubernetes.io/hostname";

/// Makes nodes and pods up.
pub(super) struct Dice(StdRng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0.random_range(0..sides)
    }

    pub(super) fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.roll(all.len())]
    }

    pub(super) fn node(&mut self, name: &str) -> Value {
        let zone = self.pick(&["z1", "z2", "z3", ""]);
        let cpu = (self.roll(5) + 1).to_string();
        let mut node = node(name, &cpu, zone);
        node["metadata"]["labels"]["disk"] = self.pick(&["ssd", "hdd"]).into();
        match self.roll(10) {
            0 => node["spec"]["taints"] = json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]),
            1 | 2 => node["spec"]["taints"] = json!([{"key": "k", "value": "v", "effect": "PreferNoSchedule"}]),
            3 => node["spec"]["unschedulable"] = true.into(),
            _ => {}
        }
        if self.roll(4) == 0 {
            node["status"]["allocatable"]["pods"] = (self.roll(3) + 1).to_string().into();
        }
        node
    }

    fn term(&mut self) -> Value {
        let mut term = json!({
            "labelSelector": {"matchLabels": {"app": self.pick(&["x", "y", "z"])}},
            "topologyKey": self.pick(&[ZONE, HOST]),
        });
        match self.roll(8) {
            0 => term["namespaceSelector"] = json!({}),
            1 => term["namespaces"] = json!(["b"]),
            2 => term["matchLabelKeys"] = json!(["rev"]),
            3 => {
                term["labelSelector"] =
                    json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["x"]}]})
            }
            _ => {}
        }
        term
    }

    fn constraint(&mut self) -> Value {
        let mut constraint = json!({
            "labelSelector": {"matchLabels": {"app": self.pick(&["x", "y"])}},
            "topologyKey": self.pick(&[ZONE, HOST]),
            "maxSkew": self.roll(2) + 1,
            "whenUnsatisfiable": self.pick(&["DoNotSchedule", "DoNotSchedule", "ScheduleAnyway"]),
        });
        let hard = constraint["whenUnsatisfiable"] == "DoNotSchedule";
        match self.roll(8) {
            0 if hard => constraint["minDomains"] = (self.roll(4) + 1).into(),
            1 => constraint["nodeAffinityPolicy"] = "Ignore".into(),
            2 => constraint["nodeTaintsPolicy"] = "Honor".into(),
            3 => constraint["matchLabelKeys"] = json!(["rev"]),
            _ => {}
        }
        constraint
    }

    /// A pod; `most` says how many priorities there are.
    pub(super) fn pod(&mut self, name: &str, most: usize) -> Value {
        let labels = json!({"app": self.pick(&["x", "y", "z"]), "rev": self.pick(&["1", "2"])});
        let mut container = json!({"name": "c", "image": "i"});
        if self.roll(4) > 0 {
            container["resources"]["requests"] = json!({"cpu": format!("{}m", 250 * (self.roll(6) + 1))});
        }
        if self.roll(8) == 0 {
            container["ports"] = json!([{"containerPort": 80, "hostPort": 80 + self.roll(2), "protocol": "TCP"}]);
        }
        let mut pod = pod(name, labels, json!({"containers": [container]}));
        pod["metadata"]["namespace"] = self.pick(&["a", "a", "a", "b"]).into();
        let spec = &mut pod["spec"];
        spec["priority"] = self.roll(most).into();
        if self.roll(3) == 0 {
            spec["tolerations"] = json!([{"key": "k", "operator": "Exists"}]);
        }
        if self.roll(6) == 0 {
            spec["nodeSelector"] = json!({"disk": self.pick(&["ssd", "hdd"])});
        }
        if self.roll(6) == 0 {
            spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = json!([
                {"weight": self.roll(50) + 1, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}},
                {"weight": self.roll(50) + 1, "preference": {"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["z1"]}]}},
            ]);
        }
        if self.roll(8) == 0 {
            spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!({
                "nodeSelectorTerms": [{"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["z1", "z2"]}]}]});
        }
        let lists = [("podAffinity", 8), ("podAntiAffinity", 5)];
        for (kind, rare) in lists {
            if self.roll(rare) == 0 {
                let terms: Vec<Value> = (0..=self.roll(2)).map(|_| self.term()).collect();
                pod["spec"]["affinity"][kind]["requiredDuringSchedulingIgnoredDuringExecution"] = terms.into();
            }
            if self.roll(5) == 0 {
                let term = json!([{"weight": self.roll(100) + 1, "podAffinityTerm": self.term()}]);
                pod["spec"]["affinity"][kind]["preferredDuringSchedulingIgnoredDuringExecution"] = term;
            }
        }
        match self.roll(6) {
            0 | 1 => {
                let mut constraints: Vec<Value> = (0..=self.roll(2)).map(|_| self.constraint()).collect();
                let place = |it: &Value| (it["topologyKey"].to_string(), it["whenUnsatisfiable"].to_string());
                constraints.sort_by_key(place);
                constraints.dedup_by_key(|it| place(it));
                pod["spec"]["topologySpreadConstraints"] = constraints.into();
            }
            2 | 3 => {
                pod["metadata"]["ownerReferences"] = json!([{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r",
                    "uid": self.pick(&["r1", "r2"]), "controller": true}]);
            }
            _ => {}
        }
        pod
    }

    pub(super) fn place(&mut self) -> Place {
        let mut place = Place::new();
        for (name, team) in [("a", "red"), ("b", "blue")] {
            place.put(
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": team}}}),
            );
        }
        for at in 0..self.roll(6) + 1 {
            let node = self.node(&format!("n{at}"));
            place.put(node);
        }
        place
    }

    /// Something happens: a pod or node goes, comes or changes.
    pub(super) fn event(&mut self, place: &mut Place, at: usize) {
        let nodes = place.all(Kind::Node);
        let bound: Vec<_> = place
            .all(Kind::Pod)
            .into_iter()
            .filter(|pod| pod.node.is_some())
            .collect();
        match self.roll(8) {
            0..=2 if !bound.is_empty() => {
                let pod = bound[self.roll(bound.len())].clone();
                place.remove(Kind::Pod, pod.name());
            }
            3 if !bound.is_empty() => {
                let pod = bound[self.roll(bound.len())].clone();
                place.edit(Kind::Pod, pod.name(), |pod| {
                    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                    pod["metadata"]["deletionGracePeriodSeconds"] = 30.into();
                });
            }
            4 => {
                let node = self.node(&format!("m{at}"));
                place.put(node);
            }
            5 if nodes.len() > 1 => place.remove(Kind::Node, nodes[self.roll(nodes.len())].name()),
            _ => {
                let name = nodes[self.roll(nodes.len())].name().to_owned();
                let node = self.node(&name);
                place.put(node);
            }
        }
    }
}

/// Takes pods that wait away, so that a batch is what it seems.
pub(super) fn drop_waiting(place: &mut Place) {
    for pod in place.all(Kind::Pod).iter().filter(|pod| pod.node.is_none()) {
        place.remove(Kind::Pod, pod.name());
    }
    place.settle();
}

/// What the slow way makes of a batch without preemption: pod → node.
fn expected(known: &mut Known, batch: &[Arc<Object>]) -> BTreeMap<String, Option<String>> {
    let mut order: Vec<Placed> = batch.iter().map(|pod| Placed::new(pod, "", false)).collect();
    order.sort_by_key(|pod| {
        let created = pod.object.meta.creation_timestamp.as_ref().map(|time| time.0);
        (-i64::from(priority(&pod.spec)), created)
    });
    let mut result = BTreeMap::new();
    for mut pod in order {
        let node = known.choose(&pod).ok();
        result.insert(pod.object.name().to_owned(), node.clone());
        if let Some(node) = node {
            pod.node = node;
            known.pods.push(pod);
        }
    }
    result
}

fn placements(place: &Place, batch: &[Arc<Object>]) -> BTreeMap<String, Option<String>> {
    batch
        .iter()
        .map(|pod| (pod.name().to_owned(), place.node_of(pod.name())))
        .collect()
}

fn batch(dice: &mut Dice, place: &mut Place, round: usize) -> Vec<Arc<Object>> {
    let names: Vec<String> = (0..dice.roll(8) + 1).map(|at| format!("p{round}-{at}")).collect();
    for name in &names {
        let pod = dice.pod(name, 1);
        place.put(pod);
    }
    names.iter().map(|name| place.get(Kind::Pod, name)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Batches on a cluster that changes in between, its classes kept all the while.
    #[test]
    fn batches_are_placed_as_one_by_one_and_node_by_node(seed in any::<u64>()) {
        let mut dice = Dice::new(seed);
        let mut place = dice.place();
        for round in 0..6 {
            let pods = batch(&mut dice, &mut place, round);
            let expected = expected(&mut Known::of(&place), &pods);
            place.run();
            prop_assert_eq!(placements(&place, &pods), expected, "seed {} round {}", seed, round);
            drop_waiting(&mut place);
            for at in 0..dice.roll(4) {
                dice.event(&mut place, round * 10 + at);
                if dice.roll(2) == 0 {
                    place.run();
                }
            }
        }
    }

    /// One pod at a time, for the sentences.
    #[test]
    fn a_pod_that_does_not_fit_says_what_each_node_says(seed in any::<u64>()) {
        let mut dice = Dice::new(seed);
        let mut place = dice.place();
        for round in 0..12 {
            let name = format!("p{round}");
            let pod = dice.pod(&name, 1);
            place.put(pod);
            let known = Known::of(&place);
            let expected = known.choose(&Placed::new(&place.get(Kind::Pod, &name), "", false));
            place.run();
            match expected {
                Ok(node) => prop_assert_eq!(place.node_of(&name), Some(node), "seed {}", seed),
                Err(against) => {
                    let said = place.why(&name);
                    let filters = said.split(" preemption: ").next().unwrap_or_default();
                    prop_assert_eq!(filters, sentence(known.nodes.len(), &against), "seed {}", seed);
                }
            }
            drop_waiting(&mut place);
        }
    }

    /// Whatever happens, no pod waits for long that would fit: each event that helps wakes it.
    #[test]
    fn no_pod_sleeps_through_what_helps_it(seed in any::<u64>()) {
        let mut dice = Dice::new(seed);
        let mut place = dice.place();
        for round in 0..8 {
            batch(&mut dice, &mut place, round);
            place.settle();
            for at in 0..dice.roll(3) + 1 {
                dice.event(&mut place, round * 10 + at);
                place.settle();
            }
            // The longest back-off, and far less than the time after which everything is tried.
            for _ in 0..12 {
                place.wait(11);
                place.settle();
            }
            let known = Known::of(&place);
            for pod in place.all(Kind::Pod).iter().filter(|pod| pod.node.is_none() && !pod.is_deleting()) {
                let node = known.choose(&Placed::new(pod, "", false));
                prop_assert!(node.is_err(), "seed {}: {} fits on {:?}; it says {}", seed, pod.name(), node.ok(), place.why(pod.name()));
            }
        }
    }

    /// The same input gives the same plan, and a copy that is made anew decides as one that was kept.
    #[test]
    fn the_same_input_gives_the_same_plan(seed in any::<u64>()) {
        let run = || {
            let mut dice = Dice::new(seed);
            let mut place = dice.place();
            let mut plans = Vec::new();
            for round in 0..3 {
                batch(&mut dice, &mut place, round);
                plans.push(told(&place.run()));
                dice.event(&mut place, round);
            }
            (plans, place)
        };
        let ((first, mut place), (second, _)) = (run(), run());
        prop_assert_eq!(first, second);
        drop_waiting(&mut place);
        let mut fresh = Place::new();
        fresh.objects = place.objects.clone();
        for object in place.objects.values() {
            fresh.desk.tell(news(object));
        }
        let pods: Vec<Value> = (0..6).map(|at| Dice::new(seed ^ at).pod(&format!("last{at}"), 1)).collect();
        for pod in &pods {
            place.put(pod.clone());
            fresh.put(pod.clone());
        }
        place.run();
        fresh.run();
        for at in 0..6 {
            let name = format!("last{at}");
            prop_assert_eq!(place.node_of(&name), fresh.node_of(&name), "seed {}", seed);
        }
    }
}

fn told(plan: &Plan) -> String {
    format!("{:?} {:?} {:?}", plan.steps, plan.notes, plan.waiting)
}
