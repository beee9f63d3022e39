//! What a pod wants of other pods: near or away from which, and spread over what.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity>
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/>

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{
    api::core::v1::{Affinity, PodAffinityTerm, PodSpec, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};
use rustc_hash::FxHashMap;
use schemas::{
    labels::{self, HOSTNAME, NAMESPACE_NAME, ZONE},
    selector::Selector,
};

/// Labels that tell pods of one template apart. Pods that differ in nothing else are looked at
/// together, as long as no selector names one of these.
pub(super) const OWN_LABELS: [&str; 3] = [
    labels::STATEFULSET_POD_NAME,
    labels::POD_INDEX,
    labels::JOB_COMPLETION_INDEX,
];

/// Each required affinity of a pod that runs draws a new one that it wants near, with this weight.
const DRAWN: i64 = 1;
/// Pods of one controller are spread softly unless they say how: over zones and hosts, with these
/// skews.
const DEFAULTS: [(&str, i64); 2] = [(ZONE, 5), (HOSTNAME, 3)];

/// What other pods see of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) namespace: Arc<str>,
    pub(super) labels: BTreeMap<String, String>,
    /// The uid of the controller whose pods are spread by default.
    pub(super) owner: Option<Arc<str>>,
}

/// The labels of all namespaces.
pub(super) type Spaces = FxHashMap<Arc<str>, BTreeMap<String, String>>;

/// One term of affinity or anti-affinity.
#[derive(Debug)]
pub(super) struct PodTerm {
    pub(super) axis: usize,
    /// What a match adds to a score; below zero for a term that keeps away.
    pub(super) weight: i64,
    selector: Selector,
    spaces: BTreeSet<Arc<str>>,
    space_selector: Option<Selector>,
}

impl PodTerm {
    pub(super) fn matches(&self, peer: &Peer, spaces: &Spaces) -> bool {
        self.selector.matches(&peer.labels) && self.holds_in(&peer.namespace, spaces)
    }

    fn holds_in(&self, namespace: &Arc<str>, spaces: &Spaces) -> bool {
        if self.spaces.contains(namespace) {
            return true;
        }
        let Some(selector) = &self.space_selector else {
            return false;
        };
        match spaces.get(namespace) {
            Some(labels) => selector.matches(labels),
            None => selector.matches(&BTreeMap::from([(NAMESPACE_NAME.to_owned(), namespace.to_string())])),
        }
    }
}

/// Which pods a spread counts.
#[derive(Debug)]
pub(super) enum Counted {
    Selected(Selector),
    /// Those of one controller.
    Owned(Arc<str>),
}

/// One topology spread constraint.
#[derive(Debug)]
pub(super) struct Spread {
    pub(super) axis: usize,
    pub(super) max_skew: i64,
    pub(super) min_domains: Option<i64>,
    pub(super) counted: Counted,
    /// Nodes that the pod's node affinity leaves out do not count.
    pub(super) by_affinity: bool,
    /// Nodes whose taints the pod does not tolerate do not count.
    pub(super) by_taints: bool,
    /// The pod itself is one of those that are counted.
    pub(super) counts_itself: bool,
}

impl Spread {
    /// Whether a pod of the same namespace as `own` is counted.
    pub(super) fn counts(&self, own: &Peer, peer: &Peer) -> bool {
        own.namespace == peer.namespace
            && match &self.counted {
                Counted::Selected(selector) => selector.matches(&peer.labels),
                Counted::Owned(owner) => peer.owner.as_ref() == Some(owner),
            }
    }
}

/// Everything that pods of one template and one set of labels want of others.
#[derive(Debug, Default)]
pub(super) struct Terms {
    pub(super) near: Vec<PodTerm>,
    pub(super) away: Vec<PodTerm>,
    pub(super) preferred: Vec<PodTerm>,
    pub(super) hard: Vec<Spread>,
    pub(super) soft: Vec<Spread>,
    /// Nodes that lack a label of a soft constraint score nothing.
    pub(super) soft_needs_all: bool,
    /// Some selector names a label of [`OWN_LABELS`].
    pub(super) names_own_labels: bool,
}

impl Terms {
    /// `axis` gives the number of a topology label.
    pub(super) fn of(spec: &PodSpec, peer: &Peer, axis: &mut dyn FnMut(&str) -> usize) -> Self {
        let mut terms = Self::default();
        if let Some(affinity) = &spec.affinity {
            terms.read_affinity(affinity, peer, axis);
        }
        let constraints = spec.topology_spread_constraints.as_deref().unwrap_or_default();
        for constraint in constraints {
            let spread = terms.read_spread(constraint, peer, axis);
            if constraint.when_unsatisfiable == "ScheduleAnyway" {
                terms.soft.push(spread);
            } else {
                terms.hard.push(spread);
            }
        }
        terms.soft_needs_all = !constraints.is_empty();
        if let Some(owner) = peer.owner.as_ref().filter(|_| constraints.is_empty()) {
            terms.soft = DEFAULTS
                .iter()
                .map(|(label, max_skew)| Spread {
                    axis: axis(label),
                    max_skew: *max_skew,
                    min_domains: None,
                    counted: Counted::Owned(owner.clone()),
                    by_affinity: true,
                    by_taints: false,
                    counts_itself: true,
                })
                .collect();
        }
        terms
    }

    /// Whether pods that come later are affected by this one's wishes.
    pub(super) fn concern_others(&self) -> bool {
        !(self.near.is_empty() && self.away.is_empty() && self.preferred.is_empty())
    }

    /// What a pod with these terms adds to the score of one that looks like `peer`, by axis.
    pub(super) fn pull<'a>(&'a self, peer: &'a Peer, spaces: &'a Spaces) -> impl Iterator<Item = (usize, i64)> + 'a {
        let drawn = self.near.iter().map(|term| (term, DRAWN));
        let wished = self.preferred.iter().map(|term| (term, term.weight));
        drawn
            .chain(wished)
            .filter(|(term, _)| term.matches(peer, spaces))
            .map(|(term, weight)| (term.axis, weight))
    }

    fn read_affinity(&mut self, affinity: &Affinity, peer: &Peer, axis: &mut dyn FnMut(&str) -> usize) {
        if let Some(near) = &affinity.pod_affinity {
            let required = near
                .required_during_scheduling_ignored_during_execution
                .iter()
                .flatten();
            self.near = required.map(|term| self.read_term(term, 0, peer, axis)).collect();
            for term in near
                .preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
            {
                let read = self.read_term(&term.pod_affinity_term, i64::from(term.weight), peer, axis);
                self.preferred.push(read);
            }
        }
        if let Some(away) = &affinity.pod_anti_affinity {
            let required = away
                .required_during_scheduling_ignored_during_execution
                .iter()
                .flatten();
            self.away = required.map(|term| self.read_term(term, 0, peer, axis)).collect();
            for term in away
                .preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
            {
                let read = self.read_term(&term.pod_affinity_term, -i64::from(term.weight), peer, axis);
                self.preferred.push(read);
            }
        }
    }

    fn read_term(
        &mut self,
        term: &PodAffinityTerm,
        weight: i64,
        peer: &Peer,
        axis: &mut dyn FnMut(&str) -> usize,
    ) -> PodTerm {
        let mut selector = term.label_selector.clone();
        let keys = [(&term.match_label_keys, "In"), (&term.mismatch_label_keys, "NotIn")];
        for (keys, operator) in keys {
            self.narrow(selector.as_mut(), keys.as_deref(), operator, peer);
        }
        let mut spaces: BTreeSet<Arc<str>> = term.namespaces.iter().flatten().map(|it| it.as_str().into()).collect();
        if spaces.is_empty() && term.namespace_selector.is_none() {
            spaces.insert(peer.namespace.clone());
        }
        let space_selector = term
            .namespace_selector
            .as_ref()
            .map(|selector| self.read(Some(selector)));
        PodTerm {
            axis: axis(&term.topology_key),
            weight,
            selector: self.read(selector.as_ref()),
            spaces,
            space_selector,
        }
    }

    fn read_spread(
        &mut self,
        constraint: &TopologySpreadConstraint,
        peer: &Peer,
        axis: &mut dyn FnMut(&str) -> usize,
    ) -> Spread {
        let mut selector = constraint.label_selector.clone();
        self.narrow(selector.as_mut(), constraint.match_label_keys.as_deref(), "In", peer);
        let selector = self.read(selector.as_ref());
        Spread {
            axis: axis(&constraint.topology_key),
            max_skew: i64::from(constraint.max_skew),
            min_domains: constraint.min_domains.map(i64::from),
            counts_itself: selector.matches(&peer.labels),
            counted: Counted::Selected(selector),
            by_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            by_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    /// Adds what `matchLabelKeys` asks: the pod's own value of each label that it has.
    fn narrow(&mut self, selector: Option<&mut LabelSelector>, keys: Option<&[String]>, operator: &str, peer: &Peer) {
        let keys = keys.unwrap_or_default();
        self.names_own_labels |= keys.iter().any(|key| OWN_LABELS.contains(&key.as_str()));
        let Some(selector) = selector else { return };
        for key in keys {
            if let Some(value) = peer.labels.get(key) {
                selector
                    .match_expressions
                    .get_or_insert_default()
                    .push(LabelSelectorRequirement {
                        key: key.clone(),
                        operator: operator.to_owned(),
                        values: Some(vec![value.clone()]),
                    });
            }
        }
    }

    /// A missing selector matches nothing, and so does one that validation would not have let in.
    fn read(&mut self, selector: Option<&LabelSelector>) -> Selector {
        let selector = Selector::from_optional(selector).unwrap_or_else(|_| Selector::nothing());
        let keys = selector
            .requirements()
            .iter()
            .map(|requirement| requirement.key.as_str());
        self.names_own_labels |= keys.into_iter().any(|key| OWN_LABELS.contains(&key));
        selector
    }
}
