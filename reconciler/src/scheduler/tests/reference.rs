//! The slow and obvious way: each rule asked of each node for each pod, from the objects as they are.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{PodAffinityTerm, PodSpec, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};
use schemas::selector::Selector;

use super::*;
use crate::scheduler::{
    filter,
    node::{Facts, Used},
    resources::Request,
    score,
};

type Labels = BTreeMap<String, String>;

/// A pod on a node, or one that has room made for it there.
#[derive(Clone)]
pub(super) struct Placed {
    pub(super) object: Arc<Object>,
    pub(super) spec: Arc<PodSpec>,
    pub(super) node: String,
    pub(super) ending: bool,
    pub(super) nominated: bool,
}

/// Everything that is known.
#[derive(Clone, Default)]
pub(super) struct Known {
    pub(super) nodes: Vec<Facts>,
    pub(super) ties: BTreeMap<String, u64>,
    pub(super) pods: Vec<Placed>,
    pub(super) budgets: Vec<Arc<Object>>,
    spaces: BTreeMap<String, Labels>,
}

/// Why a node does not take a pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Against {
    pub(super) reasons: Vec<String>,
    /// It could take the pod if others were gone.
    pub(super) resolvable: bool,
}

fn labels(object: &Object) -> Labels {
    object.meta.labels.as_deref().cloned().unwrap_or_default()
}

pub(super) fn priority(spec: &PodSpec) -> i32 {
    spec.priority.unwrap_or(0)
}

impl Placed {
    pub(super) fn new(object: &Arc<Object>, node: &str, nominated: bool) -> Self {
        Self {
            spec: object.spec().expect("it is readable"),
            node: node.to_owned(),
            ending: object.is_deleting(),
            nominated,
            object: object.clone(),
        }
    }
}

impl Known {
    pub(super) fn of(place: &Place) -> Self {
        let board = &place.cluster().board;
        let mut known = Self::default();
        for object in place.objects.values() {
            match object.kind {
                Kind::Node => {
                    let tie = board.find(object.name()).map_or(0, |at| board.nodes[at as usize].tie);
                    known.ties.insert(object.name().to_owned(), tie);
                    known.nodes.push(Facts::of(object));
                }
                Kind::Namespace => drop(known.spaces.insert(object.name().to_owned(), labels(object))),
                Kind::PodDisruptionBudget => known.budgets.push(object.clone()),
                Kind::Pod if !pods::is_finished(object) => {
                    let nominated = object.status.as_ref().and_then(|it| it.word("nominatedNodeName"));
                    match (object.node.as_deref(), nominated) {
                        (Some(node), _) => known.pods.push(Placed::new(object, node, false)),
                        (None, Some(node)) => known.pods.push(Placed::new(object, node, true)),
                        (None, None) => {}
                    }
                }
                _ => {}
            }
        }
        known
    }

    fn facts(&self, node: &str) -> Option<&Facts> {
        self.nodes.iter().find(|facts| &*facts.name == node)
    }

    /// What is used of a node by those that are there.
    fn used(&self, node: &str) -> Used {
        self.used_by(node, |placed| !placed.nominated)
    }

    fn used_by(&self, node: &str, which: impl Fn(&Placed) -> bool) -> Used {
        let mut used = Used::default();
        for placed in self.pods.iter().filter(|placed| placed.node == node && which(placed)) {
            used.add(&Request::of(&placed.spec));
        }
        used
    }

    fn term_matches(&self, owner: &Object, term: &PodAffinityTerm, other: &Object) -> bool {
        let own = labels(owner);
        let mut selector = term.label_selector.clone();
        let keys = [(&term.match_label_keys, "In"), (&term.mismatch_label_keys, "NotIn")];
        for (keys, operator) in keys {
            narrow(selector.as_mut(), keys.as_deref().unwrap_or_default(), operator, &own);
        }
        let selector = Selector::from_optional(selector.as_ref()).expect("it is valid");
        let namespaces: BTreeSet<&str> = term.namespaces.iter().flatten().map(String::as_str).collect();
        let here = if namespaces.is_empty() && term.namespace_selector.is_none() {
            owner.namespace() == other.namespace()
        } else {
            let selected = term.namespace_selector.as_ref().is_some_and(|selector| {
                let labels = self.spaces.get(other.namespace()).cloned().unwrap_or_default();
                Selector::from_label_selector(selector)
                    .expect("it is valid")
                    .matches(&labels)
            });
            namespaces.contains(other.namespace()) || selected
        };
        here && selector.matches(&labels(other))
    }

    fn domain(&self, node: &str, key: &str) -> Option<&String> {
        self.facts(node)?.labels.get(key)
    }

    /// The first rule that is against a node.
    pub(super) fn against(&self, pod: &Placed, facts: &Facts) -> Option<Against> {
        let no = |reason: &str, resolvable: bool| {
            Some(Against {
                reasons: vec![reason.to_owned()],
                resolvable,
            })
        };
        if let Some(refusal) = filter::refuses(facts, &pod.spec) {
            return no(&refusal.to_string(), false);
        }
        let own = priority(&pod.spec);
        let counted = |placed: &Placed| !placed.nominated || priority(&placed.spec) >= own;
        let used = self.used_by(&facts.name, counted);
        let short = filter::shortages(facts, &used, &Request::of(&pod.spec));
        if !short.is_empty() {
            return Some(Against {
                resolvable: !short.iter().any(|it| it.for_good),
                reasons: short.into_iter().map(|it| it.reason).collect(),
            });
        }
        if let Some((reason, resolvable)) = self.against_spread(pod, facts, &counted) {
            return no(reason, resolvable);
        }
        let (near, away) = required_terms(&pod.spec);
        let there = |placed: &&Placed| !placed.nominated;
        let mut satisfied = true;
        for term in &near {
            let Some(domain) = facts.labels.get(&term.topology_key) else {
                return no("node(s) didn't match pod affinity rules", false);
            };
            let drawn = self.pods.iter().filter(there).any(|placed| {
                near.iter()
                    .all(|term| self.term_matches(&pod.object, term, &placed.object))
                    && self.domain(&placed.node, &term.topology_key) == Some(domain)
            });
            satisfied &= drawn;
        }
        if !satisfied {
            let anywhere = self.pods.iter().filter(there).any(|placed| {
                near.iter()
                    .all(|term| self.term_matches(&pod.object, term, &placed.object))
                    && near
                        .iter()
                        .any(|term| self.domain(&placed.node, &term.topology_key).is_some())
            });
            let itself = near
                .iter()
                .all(|term| self.term_matches(&pod.object, term, &pod.object));
            if anywhere || !itself {
                return no("node(s) didn't match pod affinity rules", false);
            }
        }
        let clash = |owner: &Object, term: &PodAffinityTerm, other: &Object, at: &str| {
            let domain = facts.labels.get(&term.topology_key);
            domain.is_some() && self.domain(at, &term.topology_key) == domain && self.term_matches(owner, term, other)
        };
        for placed in self.pods.iter().filter(|placed| counted(placed)) {
            if away
                .iter()
                .any(|term| clash(&pod.object, term, &placed.object, &placed.node))
            {
                return no("node(s) didn't match pod anti-affinity rules", true);
            }
        }
        for placed in self.pods.iter().filter(|placed| counted(placed)) {
            let (_, theirs) = required_terms(&placed.spec);
            if theirs
                .iter()
                .any(|term| clash(&placed.object, term, &pod.object, &placed.node))
            {
                return no("node(s) didn't satisfy existing pods anti-affinity rules", true);
            }
        }
        None
    }

    fn against_spread(
        &self,
        pod: &Placed,
        facts: &Facts,
        counted: &dyn Fn(&Placed) -> bool,
    ) -> Option<(&'static str, bool)> {
        let hard: Vec<_> = constraints(pod, "DoNotSchedule");
        for (constraint, selector) in &hard {
            let key = &constraint.topology_key;
            let Some(domain) = facts.labels.get(key) else {
                return Some((
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                    false,
                ));
            };
            let mut counts: BTreeMap<&String, i64> = BTreeMap::new();
            for other in &self.nodes {
                let has_all = hard.iter().all(|(it, _)| other.labels.contains_key(&it.topology_key));
                if has_all && node_counts(constraint, pod, other) {
                    let count = self.matching(pod, selector, &other.name, counted);
                    *counts.entry(&other.labels[key]).or_insert(0) += count;
                }
            }
            let mut least = counts.values().min().copied();
            if constraint
                .min_domains
                .is_some_and(|min| (counts.len() as i64) < i64::from(min))
            {
                least = Some(0);
            }
            let itself = i64::from(selector.matches(&labels(&pod.object)));
            let here = counts.get(domain).copied().unwrap_or(0);
            if least.is_some_and(|least| here + itself - least > i64::from(constraint.max_skew)) {
                return Some(("node(s) didn't match pod topology spread constraints", true));
            }
        }
        None
    }

    fn matching(&self, pod: &Placed, selector: &Counting, node: &str, counted: &dyn Fn(&Placed) -> bool) -> i64 {
        let pods = self.pods.iter().filter(|placed| {
            placed.node == node
                && counted(placed)
                && !placed.ending
                && placed.object.namespace() == pod.object.namespace()
                && selector.counts(&placed.object)
        });
        pods.count() as i64
    }

    /// The best node, or against what each is.
    pub(super) fn choose(&self, pod: &Placed) -> Result<String, Vec<Against>> {
        let mut feasible = Vec::new();
        let mut against = Vec::new();
        for facts in &self.nodes {
            match self.against(pod, facts) {
                None => feasible.push(facts),
                Some(it) => against.push(it),
            }
        }
        let scores = self.scores(pod, &feasible);
        let best = feasible.iter().zip(scores).max_by_key(|(facts, score)| {
            let used = self.used(&facts.name);
            (*score, -used.pods, self.ties[&*facts.name])
        });
        best.map(|(facts, _)| facts.name.to_string()).ok_or(against)
    }

    fn scores(&self, pod: &Placed, nodes: &[&Facts]) -> Vec<i64> {
        let taints: Vec<i64> = nodes.iter().map(|it| score::soft_taints(it, &pod.spec)).collect();
        let most_taints = taints.iter().max().copied().unwrap_or(0);
        let liked: Vec<i64> = nodes.iter().map(|it| score::preferred(it, &pod.spec)).collect();
        let most_liked = liked.iter().max().copied().unwrap_or(0);
        let pulls: Vec<i64> = nodes.iter().map(|it| self.pull(pod, it)).collect();
        let (least_pull, most_pull) = (pulls.iter().min().copied(), pulls.iter().max().copied());
        let spreads = self.spreads(pod, nodes);
        let part = |value: i64, most: i64| if most == 0 { 0 } else { 100 * value / most };
        (0..nodes.len())
            .map(|at| {
                let pull = match (least_pull, most_pull) {
                    (Some(least), Some(most)) if most > least => {
                        (100.0 * ((pulls[at] - least) as f64 / (most - least) as f64)) as i64
                    }
                    _ => 0,
                };
                let fill = score::fill(nodes[at], &self.used(&nodes[at].name), &Request::of(&pod.spec));
                3 * (100 - part(taints[at], most_taints))
                    + 2 * part(liked[at], most_liked)
                    + 2 * pull
                    + 2 * spreads[at]
                    + fill
            })
            .collect()
    }

    fn pull(&self, pod: &Placed, facts: &Facts) -> i64 {
        let mut sum = 0;
        for placed in self.pods.iter().filter(|placed| !placed.nominated) {
            let mut add = |owner: &Placed, term: &PodAffinityTerm, other: &Placed, weight: i64| {
                let domain = facts.labels.get(&term.topology_key);
                let same = domain.is_some() && self.domain(&placed.node, &term.topology_key) == domain;
                if same && self.term_matches(&owner.object, term, &other.object) {
                    sum += weight;
                }
            };
            for (term, weight) in preferred_terms(&pod.spec) {
                add(pod, &term, placed, weight);
            }
            for (term, weight) in preferred_terms(&placed.spec) {
                add(placed, &term, pod, weight);
            }
            for term in required_terms(&placed.spec).0 {
                add(placed, &term, pod, 1);
            }
        }
        sum
    }

    fn spreads(&self, pod: &Placed, nodes: &[&Facts]) -> Vec<i64> {
        let mut soft = constraints(pod, "ScheduleAnyway");
        let explicit = pod
            .spec
            .topology_spread_constraints
            .as_ref()
            .is_some_and(|all| !all.is_empty());
        if !explicit && let Some(owner) = owner(&pod.object) {
            soft = [("topology.kubernetes.io/zone", 5), ("kubernetes.io/hostname", 3)]
                .map(|(key, max_skew)| {
                    let constraint = TopologySpreadConstraint {
                        topology_key: key.to_owned(),
                        max_skew,
                        ..TopologySpreadConstraint::default()
                    };
                    (constraint, Counting::Owner(owner.clone()))
                })
                .into();
        }
        if soft.is_empty() {
            return vec![0; nodes.len()];
        }
        let scored =
            |facts: &Facts| !explicit || soft.iter().all(|(it, _)| facts.labels.contains_key(&it.topology_key));
        let candidates: Vec<&&Facts> = nodes.iter().filter(|facts| scored(facts)).collect();
        let raw = |facts: &Facts| -> i64 {
            let parts = soft.iter().filter_map(|(constraint, selector)| {
                let key = &constraint.topology_key;
                let domain = facts.labels.get(key)?;
                let domains: BTreeSet<&String> = candidates.iter().filter_map(|it| it.labels.get(key)).collect();
                let count: i64 = self
                    .nodes
                    .iter()
                    .filter(|it| scored(it) && it.labels.get(key) == Some(domain) && node_counts(constraint, pod, it))
                    .map(|it| self.matching(pod, selector, &it.name, &|placed| !placed.nominated))
                    .sum();
                Some(score::spread_part(count, i64::from(constraint.max_skew), domains.len()))
            });
            parts.sum::<f64>().round() as i64
        };
        let raws: Vec<i64> = candidates.iter().map(|facts| raw(facts)).collect();
        let (least, most) = (raws.iter().min().copied(), raws.iter().max().copied());
        nodes
            .iter()
            .map(|facts| match (least, most) {
                (Some(least), Some(most)) if scored(facts) => {
                    if most == 0 {
                        100
                    } else {
                        100 * (most + least - raw(facts)) / most
                    }
                }
                _ => 0,
            })
            .collect()
    }

    /// Who would have to go from a node: victims in order, and how many no budget allows.
    pub(super) fn victims(&self, pod: &Placed, facts: &Facts) -> Option<(Vec<Placed>, usize)> {
        if self.against(pod, facts).is_none_or(|against| !against.resolvable) {
            return None;
        }
        let own = priority(&pod.spec);
        let is_lower =
            |placed: &Placed| placed.node == *facts.name && !placed.nominated && priority(&placed.spec) < own;
        let mut known = self.clone();
        known.pods.retain(|placed| !is_lower(placed));
        if known.pods.len() == self.pods.len() || known.against(pod, facts).is_some() {
            return None;
        }
        let mut staying: Vec<Placed> = self
            .pods
            .iter()
            .filter(|it| is_lower(it) && !it.ending)
            .cloned()
            .collect();
        let started = |placed: &Placed| {
            placed
                .object
                .status
                .as_ref()
                .and_then(|it| it.at("startTime")?.text().map(|text| text.into_owned()))
        };
        let importance = |placed: &Placed| {
            let started = started(placed);
            (
                -i64::from(priority(&placed.spec)),
                started.is_none(),
                started,
                placed.object.name().to_owned(),
            )
        };
        staying.sort_by_key(importance);
        let mut allowed: Vec<i64> = self
            .budgets
            .iter()
            .map(|budget| {
                budget
                    .status
                    .as_ref()
                    .and_then(|it| it.at("disruptionsAllowed")?.int())
                    .unwrap_or(0)
            })
            .collect();
        let mut violating = Vec::new();
        let mut others = Vec::new();
        for placed in staying {
            let mut violated = false;
            for (budget, allowed) in self.budgets.iter().zip(&mut allowed) {
                let selector: LabelSelector =
                    serde_json::from_value(budget.body.value()["spec"]["selector"].clone()).expect("it is valid");
                let selector = Selector::from_label_selector(&selector).expect("it is valid");
                if selector.matches_object(&placed.object) {
                    *allowed -= 1;
                    violated |= *allowed < 0;
                }
            }
            if violated {
                violating.push(placed)
            } else {
                others.push(placed)
            }
        }
        let violating_names: Vec<String> = violating.iter().map(|it| it.object.name().to_owned()).collect();
        let mut victims = Vec::new();
        for placed in violating.into_iter().chain(others) {
            known.pods.push(placed.clone());
            if known.against(pod, facts).is_some() {
                known.pods.pop();
                victims.push(placed);
            }
        }
        let violations = victims
            .iter()
            .filter(|it| violating_names.iter().any(|name| name == it.object.name()))
            .count();
        victims.sort_by_key(importance);
        Some((victims, violations))
    }
}

/// Which pods a constraint counts.
enum Counting {
    Selected(Selector),
    Owner(String),
}

impl Counting {
    fn counts(&self, pod: &Object) -> bool {
        match self {
            Self::Selected(selector) => selector.matches(&labels(pod)),
            Self::Owner(uid) => owner(pod).as_ref() == Some(uid),
        }
    }

    fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::Selected(selector) => selector.matches(labels),
            Self::Owner(_) => true,
        }
    }
}

fn owner(pod: &Object) -> Option<String> {
    pod.controller().map(|owner| owner.uid.clone())
}

fn narrow(selector: Option<&mut LabelSelector>, keys: &[String], operator: &str, own: &Labels) {
    let Some(selector) = selector else { return };
    for key in keys {
        if let Some(value) = own.get(key) {
            let requirement = LabelSelectorRequirement {
                key: key.clone(),
                operator: operator.to_owned(),
                values: Some(vec![value.clone()]),
            };
            selector.match_expressions.get_or_insert_default().push(requirement);
        }
    }
}

fn constraints(pod: &Placed, when: &str) -> Vec<(TopologySpreadConstraint, Counting)> {
    let all = pod.spec.topology_spread_constraints.iter().flatten();
    let of_kind = all.filter(|constraint| constraint.when_unsatisfiable == when);
    of_kind
        .map(|constraint| {
            let mut selector = constraint.label_selector.clone();
            let keys = constraint.match_label_keys.as_deref().unwrap_or_default();
            narrow(selector.as_mut(), keys, "In", &labels(&pod.object));
            let selector = Selector::from_optional(selector.as_ref()).expect("it is valid");
            (constraint.clone(), Counting::Selected(selector))
        })
        .collect()
}

fn node_counts(constraint: &TopologySpreadConstraint, pod: &Placed, facts: &Facts) -> bool {
    let by_affinity = constraint.node_affinity_policy.as_deref() == Some("Ignore") || filter::selects(facts, &pod.spec);
    let by_taints =
        constraint.node_taints_policy.as_deref() != Some("Honor") || filter::untolerated(facts, &pod.spec).is_none();
    by_affinity && by_taints
}

fn required_terms(spec: &PodSpec) -> (Vec<PodAffinityTerm>, Vec<PodAffinityTerm>) {
    let affinity = spec.affinity.clone().unwrap_or_default();
    let near = affinity.pod_affinity.unwrap_or_default();
    let away = affinity.pod_anti_affinity.unwrap_or_default();
    (
        near.required_during_scheduling_ignored_during_execution
            .unwrap_or_default(),
        away.required_during_scheduling_ignored_during_execution
            .unwrap_or_default(),
    )
}

fn preferred_terms(spec: &PodSpec) -> Vec<(PodAffinityTerm, i64)> {
    let affinity = spec.affinity.clone().unwrap_or_default();
    let near = affinity.pod_affinity.unwrap_or_default();
    let away = affinity.pod_anti_affinity.unwrap_or_default();
    let near = near
        .preferred_during_scheduling_ignored_during_execution
        .unwrap_or_default();
    let away = away
        .preferred_during_scheduling_ignored_during_execution
        .unwrap_or_default();
    let near = near.into_iter().map(|it| (it.pod_affinity_term, i64::from(it.weight)));
    let away = away.into_iter().map(|it| (it.pod_affinity_term, -i64::from(it.weight)));
    near.chain(away).collect()
}

/// The sentence of a pod that no node takes, without what is said of preemption.
pub(super) fn sentence(nodes: usize, against: &[Against]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in against.iter().flat_map(|it| &it.reasons) {
        *counts.entry(reason).or_insert(0) += 1;
    }
    let mut reasons: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    reasons.sort();
    format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
}
